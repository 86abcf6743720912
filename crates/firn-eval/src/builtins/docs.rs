//! What the builtins are for: names, arguments and a text each, for `:doc` and the like.

/// Documentation of one builtin.
#[derive(Debug, Clone, Copy)]
pub struct BuiltinDoc {
    pub name: &'static str,
    /// Names of the arguments; empty for constants.
    pub args: &'static [&'static str],
    /// Markdown.
    pub text: &'static str,
}

macro_rules! docs {
    ($($name:literal [$($arg:literal)*] $text:literal)*) => {
        /// All builtins, by name.
        pub const BUILTINS: &[BuiltinDoc] =
            &[$(BuiltinDoc { name: $name, args: &[$($arg),*], text: $text }),*];
    };
}

/// The documentation of a builtin, with or without the underscores of its global name.
pub fn find(name: &str) -> Option<&'static BuiltinDoc> {
    BUILTINS.iter().find(|doc| doc.name == name.trim_start_matches("__"))
}

docs! {
    "abort" ["s"] "Ends evaluation with the message *s*. `tryEval` does not catch it."
    "add" ["e1" "e2"] "The sum of two numbers; the same as `e1 + e2`."
    "addDrvOutputDependencies" ["s"] "The string *s*, which must refer to just one derivation as a file, referring to its outputs too."
    "addErrorContext" ["context" "value"] "*value*; if evaluating it fails, the trace of the error gets the line *context*."
    "all" ["pred" "list"] "Whether *pred* is true of every element of *list*."
    "any" ["pred" "list"] "Whether *pred* is true of at least one element of *list*."
    "appendContext" ["string" "context"] "*string* with more context, in the form that `getContext` gives."
    "attrNames" ["set"] "The names of the attributes of *set*, sorted."
    "attrValues" ["set"] "The values of the attributes of *set*, in the order of their names."
    "baseNameOf" ["x"] "What stands behind the last slash of a path or string."
    "bitAnd" ["e1" "e2"] "The bits that are set in both integers."
    "bitOr" ["e1" "e2"] "The bits that are set in at least one of two integers."
    "bitXor" ["e1" "e2"] "The bits that are set in just one of two integers."
    "break" ["v"] "*v*; with `--debugger`, evaluation stops here first."
    "builtins" [] "The set of all builtins. Expressions look into it to see whether a builtin is there: `builtins ? name`."
    "catAttrs" ["attr" "list"] "The values of the attribute *attr* of those sets in *list* that have it."
    "ceil" ["number"] "The least integer that is not below *number*."
    "compareVersions" ["s1" "s2"] "`-1`, `0` or `1` if the version *s1* is older than, as old as or newer than *s2*."
    "concatLists" ["lists"] "All elements of all lists in a list of lists, as one list."
    "concatMap" ["f" "list"] "The lists that *f* gives for the elements of *list*, joined."
    "concatStringsSep" ["separator" "list"] "The strings of *list* with *separator* between them."
    "convertHash" ["args"] "A hash in another notation. *args* has `hash`, `toHashFormat` (`base16`, `nix32`, `base64` or `sri`) and, unless the hash says it, `hashAlgo`."
    "currentSystem" [] "The system that derivations are evaluated for, such as `x86_64-linux`. Not in pure evaluation."
    "currentTime" [] "Seconds since 1970 when evaluation first asked for it. Not in pure evaluation."
    "deepSeq" ["e1" "e2"] "*e2*, after everything in *e1* was evaluated."
    "derivation" ["attrs"] "A derivation: a set with all of *attrs*, `outPath`, `drvPath` and one attribute for each output. Needs `name`, `system` and `builder`."
    "derivationStrict" ["attrs"] "The paths of the derivation that *attrs* describe and of its outputs. `derivation` is made of it."
    "dirOf" ["s"] "What stands before the last slash of a path or string."
    "div" ["e1" "e2"] "The quotient of two numbers; the same as `e1 / e2`."
    "elem" ["x" "xs"] "Whether *xs* has an element that is equal to *x*."
    "elemAt" ["xs" "n"] "The element at index *n* of *xs*, counted from 0."
    "false" [] "What is not true."
    "fetchClosure" ["args"] "A store path with all it refers to, fetched from the binary cache `fromStore`. *args* has `fromPath`, and `toPath` or `inputAddressed`."
    "fetchGit" ["args"] "The files of a Git repository as a path in the store. *args* is a URL, or a set with `url` and perhaps `rev`, `ref`, `submodules`, `shallow`, `allRefs`, `lfs`."
    "fetchMercurial" ["args"] "The files of a Mercurial repository as a path in the store. *args* is a URL, or a set with `url` and perhaps `rev`."
    "fetchTarball" ["args"] "An archive, downloaded and unpacked to the store. *args* is a URL, or a set with `url` and perhaps `sha256` and `name`."
    "fetchTree" ["input"] "A tree of files from the place that *input* (a flake reference, as a set or URL) names, with what is known of it."
    "fetchurl" ["arg"] "A file, downloaded to the store. *arg* is a URL, or a set with `url` and perhaps `sha256` and `name`."
    "filter" ["f" "list"] "Those elements of *list* of which *f* is true."
    "filterSource" ["e1" "e2"] "The path *e2*, copied to the store with those files of which the function *e1* (of a path and its type) is true. `path` does the same and more."
    "findFile" ["search-path" "lookup-path"] "The first path that *lookup-path* leads to in *search-path*, a list of sets with `prefix` and `path`. `<x>` is `findFile nixPath \"x\"`."
    "flakeRefToString" ["attrs"] "A flake reference that is given as a set, as a URL."
    "floor" ["number"] "The greatest integer that is not above *number*."
    "foldl'" ["op" "nul" "list"] "`op (… (op (op nul x0) x1) …) xn`. Results on the way are evaluated."
    "fromJSON" ["e"] "The value that the JSON text *e* stands for."
    "fromTOML" ["e"] "The value that the TOML text *e* stands for."
    "functionArgs" ["f"] "A set with the names of the arguments that *f* takes apart; true for those with a default."
    "genList" ["generator" "length"] "A list of *length* elements: what *generator* gives for 0, 1 and so on."
    "genericClosure" ["attrset"] "All sets that are reached from `startSet` by `operator`, which gives a list of further sets. Sets with an equal `key` are the same."
    "getAttr" ["s" "set"] "The attribute of *set* that is called *s*."
    "getContext" ["s"] "What *s* refers to in the store: a set with a set for each path."
    "getEnv" ["s"] "The environment variable *s*; empty if there is none, and in pure evaluation."
    "getFlake" ["args"] "The outputs of the flake that the reference *args* names, with its inputs and source."
    "groupBy" ["f" "list"] "A set with the lists of those elements of *list* for which *f* gives the attribute's name."
    "hasAttr" ["s" "set"] "Whether *set* has an attribute that is called *s*."
    "hasContext" ["s"] "Whether *s* refers to anything in the store."
    "hashFile" ["type" "p"] "The hash of the bytes of the file *p*, in base 16. *type* is `md5`, `sha1`, `sha256`, `sha512` or `blake3`."
    "hashString" ["type" "s"] "The hash of the string *s*, in base 16. *type* is `md5`, `sha1`, `sha256`, `sha512` or `blake3`."
    "head" ["list"] "The first element of *list*."
    "import" ["path"] "The value of the expression in the file *path*, or in its `default.nix` if it is a directory."
    "intersectAttrs" ["e1" "e2"] "Those attributes of *e2* whose names are in *e1* too."
    "isAttrs" ["e"] "Whether *e* is a set."
    "isBool" ["e"] "Whether *e* is true or false."
    "isFloat" ["e"] "Whether *e* is a floating-point number."
    "isFunction" ["e"] "Whether *e* is a function."
    "isInt" ["e"] "Whether *e* is an integer."
    "isList" ["e"] "Whether *e* is a list."
    "isNull" ["e"] "Whether *e* is `null`. `e == null` says the same."
    "isPath" ["e"] "Whether *e* is a path."
    "isString" ["e"] "Whether *e* is a string."
    "langVersion" [] "The version of the language, an integer."
    "length" ["e"] "The number of elements of the list *e*."
    "lessThan" ["e1" "e2"] "Whether *e1* is less than *e2*; the same as `e1 < e2`."
    "listToAttrs" ["e"] "A set made of a list of sets with `name` and `value`. Of several with one name the first counts."
    "map" ["f" "list"] "What *f* gives for each element of *list*."
    "mapAttrs" ["f" "attrset"] "The set with the same names whose values are what *f* gives for each name and value."
    "match" ["regex" "str"] "If the POSIX extended regular expression *regex* matches all of *str*, the list of what its groups matched; otherwise `null`."
    "mul" ["e1" "e2"] "The product of two numbers; the same as `e1 * e2`."
    "nixPath" [] "The search path of `<…>`, a list of sets with `prefix` and `path`."
    "nixVersion" [] "The version of Nix that this evaluator equals."
    "null" [] "The value that stands for nothing."
    "outputOf" ["derivation-reference" "output-name"] "The path of an output of a derivation that is itself the output of another, as a placeholder until it is built."
    "parseDrvName" ["s"] "The `name` and the `version` in a name with a version, which begins behind the first dash that no letter follows."
    "parseFlakeRef" ["flake-ref"] "A flake reference that is given as a URL, as a set."
    "partition" ["pred" "list"] "A set with the elements of which *pred* is true, as `right`, and all others, as `wrong`."
    "path" ["args"] "A path, copied to the store. *args* has `path` and perhaps `name`, `filter`, `recursive` and `sha256`."
    "pathExists" ["path"] "Whether there is anything at *path*."
    "placeholder" ["output"] "A string that stands for the path of the derivation's own *output*, until it is built."
    "readDir" ["path"] "The names in a directory, with their types: `regular`, `directory`, `symlink` or `unknown`."
    "readFile" ["path"] "The content of the file *path*."
    "readFileType" ["p"] "The type of what is at *p*: `regular`, `directory`, `symlink` or `unknown`."
    "removeAttrs" ["set" "list"] "*set* without the attributes whose names are in *list*."
    "replaceStrings" ["from" "to" "s"] "*s*, in which each string of the list *from* is replaced by the string at the same index in *to*."
    "scopedImport" ["scope" "path"] "As `import`, with the attributes of *scope* as global names."
    "seq" ["e1" "e2"] "*e2*, after *e1* was evaluated, but not what is in it."
    "sort" ["comparator" "list"] "*list*, sorted so that `comparator x y` is true where *x* comes before *y*. Equal elements keep their order."
    "split" ["regex" "str"] "*str* cut at every match of the POSIX extended regular expression *regex*: a list of strings, with lists of what the groups matched between them."
    "splitVersion" ["s"] "The parts of a version, as `compareVersions` looks at them."
    "storeDir" [] "The store directory, usually `/nix/store`."
    "storePath" ["path"] "A path that is in the store already, as a string that refers to it. Not in pure evaluation."
    "stringLength" ["e"] "The number of bytes of the string *e*."
    "sub" ["e1" "e2"] "The difference of two numbers; the same as `e1 - e2`."
    "substring" ["start" "len" "s"] "The *len* bytes of *s* from byte *start* on, or as many as there are. With a negative *len*, all that follow."
    "tail" ["list"] "*list* without its first element."
    "throw" ["s"] "Ends evaluation with the message *s*. `tryEval` catches it."
    "toFile" ["name" "s"] "The path of a file in the store that is called *name* and holds *s*, which must not refer to outputs of derivations."
    "toJSON" ["e"] "*e* as JSON text. Sets with `outPath` become that, paths are copied to the store."
    "toPath" ["s"] "The string *s* as an absolute path, which stays a string. `/. + s` gives a path."
    "toString" ["e"] "*e* as a string: also numbers, `true` (`1`), `false` and `null` (empty), lists, and sets with `outPath` or `__toString`. Paths are not copied."
    "toXML" ["e"] "*e* as XML text."
    "trace" ["e1" "e2"] "*e2*, after *e1* was printed to the standard error."
    "traceVerbose" ["e1" "e2"] "As `trace`, but only with the setting `trace-verbose`."
    "true" [] "What is not false."
    "tryEval" ["e"] "A set with `success` and `value`: whether *e* was evaluated, not deeply, without `throw` or a failed `assert`, and its value, or false."
    "typeOf" ["e"] "The type of *e*: `int`, `bool`, `string`, `path`, `null`, `set`, `list`, `lambda` or `float`."
    "unsafeDiscardOutputDependency" ["s"] "The string *s*, referring to derivations as files only and no longer to their outputs."
    "unsafeDiscardStringContext" ["s"] "The string *s*, no longer referring to anything in the store."
    "unsafeGetAttrPos" ["s" "set"] "Where the attribute *s* of *set* was written: a set with `file`, `line` and `column`, or `null`."
    "warn" ["e1" "e2"] "*e2*, after the warning *e1* was printed. With the setting `abort-on-warn` evaluation ends instead."
    "zipAttrsWith" ["f" "list"] "One set of several: for each name what *f* gives for it and the list of its values."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_builtin_has_one() {
        let missing: Vec<String> = crate::builtins::names()
            .into_iter()
            .map(|name| name.trim_start_matches("__").to_owned())
            .filter(|name| find(name).is_none())
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(BUILTINS.is_sorted_by_key(|doc| doc.name.replace('\'', "")));
    }
}
