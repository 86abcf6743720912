/*
The wrapper that makes `derivation` of `derivationStrict`: a set for each output, lazily.

Traces of errors show places and lines of this text, and scripts compare traces; so what a trace can show stands
where it stands in the reference, and bears the reference's names. This is why these comments are as long as they are.

A derivation is a set: the arguments as they were given, one attribute for each output, `all` of these as a list, and
the arguments once more as `drvAttrs`. Each output is such a set again, with `outPath` of that output.

Nothing is instantiated until `outPath` or `drvPath` of one of them is asked for: `strict` is evaluated once for all.


















*/
drvAttrs@{
  outputs ? [ "out" ],
  ...
}:

let

  strict = derivationStrict drvAttrs;

  commonAttrs =
    drvAttrs
    // builtins.listToAttrs outputsList
    // {
      inherit drvAttrs;
      all = map (output: output.value) outputsList;
    };

  outputToAttrListElement = outputName: {
    name = outputName;
    value = commonAttrs // {
      outPath = builtins.getAttr outputName strict;
      drvPath = strict.drvPath;
      type = "derivation";
      inherit outputName;
    };
  };

  outputsList = map outputToAttrListElement outputs;

in
(builtins.head outputsList).value
