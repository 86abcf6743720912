# What package sets do: a fixed point with overlays, arguments by name, overriding, and derivations that refer to others.
let
  inherit (builtins)
    attrNames concatStringsSep elemAt filter foldl' functionArgs genList head intersectAttrs isAttrs isFunction isList length listToAttrs
    mapAttrs match replaceStrings stringLength substring tail;

  fix = f: let self = f self; in self;
  extends = overlay: f: final: let prev = f final; in prev // overlay final prev;
  compose = foldl' (f: overlay: extends overlay f);
  optional = condition: x: if condition then [ x ] else [ ];
  optionalString = condition: text: if condition then text else "";
  unique = foldl' (seen: x: if builtins.elem x seen then seen else seen ++ [ x ]) [ ];

  overridable = f: args:
    let result = f args; in
    if isAttrs result then
      result // {
        override = new: overridable f (args // (if isFunction new then new args else new));
        overrideAttrs = change: overridable (args: (f args).overrideAttrs change) args;
      }
    else result;
  callWith = set: f: args:
    let
      formals = functionArgs f;
      found = intersectAttrs formals set // args;
      missing = filter (name: !formals.${name} && !(found ? ${name})) (attrNames formals);
    in
    if missing == [ ] then overridable f found else throw "missing: ${concatStringsSep ", " missing}";

  platform = { system = "x86_64-linux"; isLinux = true; parsed = { cpu.bits = 64; kernel.name = "linux"; }; };

  makeDerivation = { stdenv, attrs }:
    let
      name = attrs.name or "${attrs.pname}-${attrs.version}";
      inputs = unique ((attrs.buildInputs or [ ]) ++ optional (stdenv.cc != null) stdenv.cc);
      propagated = builtins.concatMap (input: input.propagated or [ ]) inputs;
      checked = (attrs.doCheck or false) && platform.isLinux;
      env = removeAttrs attrs [ "meta" "passthru" "pname" "version" ] // {
        inherit name;
        inherit (platform) system;
        builder = "/bin/sh";
        args = [ "-e" ./packages.nix ];
        buildInputs = inputs ++ propagated;
        configureFlags = map (flag: "--${flag}") (attrs.flags or [ ]);
        phases = concatStringsSep " " ([ "unpack" "build" ] ++ optional checked "check" ++ [ "install" ]);
        patches = optionalString (attrs ? patches) (toString (map baseNameOf attrs.patches));
        __ignoreNulls = true;
        hook = if attrs ? hook then replaceStrings [ "@out@" "@name@" ] [ (placeholder "out") name ] attrs.hook else null;
      };
    in
    derivation env // {
      meta = { available = platform.isLinux; position = "${name}:1"; } // attrs.meta or { };
      propagated = attrs.propagatedInputs or [ ];
      overrideAttrs = change: makeDerivation { inherit stdenv; attrs = attrs // change attrs; };
    } // attrs.passthru or { };

  makeStdenv = cc: let stdenv = { inherit cc platform; mkDerivation = attrs: makeDerivation { inherit stdenv attrs; }; }; in stdenv;

  number = i: "package${toString i}";
  package = i: { stdenv, lib, packages, extra ? false, ... }:
    stdenv.mkDerivation ({
      pname = number i;
      version = "1.${toString (i - i / 7 * 7)}";
      flags = optional extra "extra" ++ lib.optionals (i > 10) [ "many" "prefix=${placeholder "out"}" ];
      buildInputs = map (n: packages.${number n}) (filter (n: n >= 0 && n < i) [ (i / 2) (i / 3) (i - 5) ]);
      hook = ''
        mkdir -p @out@/share/@name@
        ${optionalString (i > 100) "echo ${lib.upper (number i)}"}
      '';
      meta = { description = "Package number ${toString i}"; license = lib.licenses.free; };
    } // (if i > 0 && i / 10 * 10 == i then { doCheck = true; propagatedInputs = [ packages.${number (i / 10)} ]; } else { }));

  lib = {
    optionals = condition: list: if condition then list else [ ];
    upper = replaceStrings [ "p" "a" "c" "k" "g" "e" ] [ "P" "A" "C" "K" "G" "E" ];
    licenses = mapAttrs (short: full: { inherit short full; }) { free = "Free"; other = "Other"; };
  };

  base = count: final: {
    inherit lib;
    packages = final;
    stdenv = makeStdenv (makeDerivation { stdenv = makeStdenv null; attrs = { name = "cc"; }; });
    callPackage = callWith final;
  } // listToAttrs (genList (i: { name = number i; value = final.callPackage (package i) { }; }) count);

  overlays = genList (n: final: prev: {
    ${number (n * 13 + 1)} = prev.${number (n * 13 + 1)}.override { extra = true; };
    ${number (n * 11 + 2)} = prev.${number (n * 11 + 2)}.overrideAttrs (old: { flags = old.flags ++ [ "overlay${toString n}" ]; });
  }) 20;

  set = fix (compose (base 1500) overlays);
  names = filter (name: match "package[0-9]+" name != null) (attrNames set);
  versions = map (name: builtins.parseDrvName set.${name}.name) names;
in
builtins.hashString "sha256" (concatStringsSep "\n" (map (name: set.${name}.drvPath) names ++ map (v: v.version) versions))
