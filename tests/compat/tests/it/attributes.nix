# Derivations with every attribute of the manual's pages "Derivations" and "Advanced Attributes", good and bad, in both forms.
# What Nix 2.34.8 makes of each is in attributes.txt.
let
  system = builtins.currentSystem;
  with' = more: script: derivation ({
    name = "x"; inherit system; builder = "/bin/sh"; args = [ "-ec" script ];
    PATH = "/usr/bin:/bin";
  } // more);
  # Prints what the builder sees, of some variables.
  env = more: names: with' more "for n in ${toString names}; do eval \"[ -n \\\"\\\${$n+x}\\\" ] && echo \\\"$n=[\\\$$n]\\\" || echo $n unset\"; done > $out";
  structured = more: script: derivation ({
    name = "x"; inherit system; builder = "/bin/sh"; __structuredAttrs = true; args = [ "-ec" (". $NIX_ATTRS_SH_FILE; export PATH=/usr/bin:/bin; out=\${outputs[out]}; " + script) ];
  } // more // { builder = "/bin/bash"; });
  dep = derivation { name = "dep"; inherit system; builder = "/bin/sh"; args = [ "-c" "echo dep > $out" ]; };
  dep2 = derivation { name = "dep2"; inherit system; builder = "/bin/sh"; args = [ "-c" "echo ${dep} > $out" ]; };
  two = derivation { name = "two"; inherit system; builder = "/bin/sh"; outputs = [ "out" "dev" ]; args = [ "-c" "echo o > $out; echo d > $dev" ]; };
in {
  # environment
  env-values = env { s = "a b"; i = 3; n = -1; f = 1.5; t = true; fa = false; nu = null; l = [ 1 "x" true [ 2 3 ] ]; p = ./small.txt; d = dep; } [ "s" "i" "n" "f" "t" "fa" "nu" "l" "p" "d" ];
  env-standard = env {} [ "HOME" "NIX_STORE" "NIX_BUILD_CORES" "NIX_LOG_FD" "TERM" "name" "system" "builder" "outputs" "USER" "SHELL" "PWDX" "LANG" "TZ" "IFD" ];
  env-tmp = with' {} ''for n in TMP TEMP TMPDIR TEMPDIR NIX_BUILD_TOP PWD; do eval v=\$$n; [ "$v" = "$PWD" ] && echo $n ok || echo $n differs; done > $out'';
  env-drvout = with' { outputs = [ "a" "b" ]; } "echo $a > $a; echo $b > $b; echo $outputs >> $a";
  env-umask = with' {} "umask > $out; id -u >/dev/null; ulimit -c >> $out";
  env-list-all = with' { zzz = "1"; } "env | sed 's/=.*//' | sort > $out";
  env-list-fixed = with' { outputHash = "1"; } "true";
  drv-name-bad = with' { name = "a b"; } "true";
  drv-name-dot = with' { name = ".x"; } "echo > $out";
  drv-outputs-empty = with' { outputs = []; } "true";
  drv-outputs-dup = with' { outputs = [ "a" "a" ]; } "true";
  drv-outputs-drv = with' { outputs = [ "drv" ]; } "true";
  drv-no-system = derivation { name = "x"; builder = "/bin/sh"; };
  drv-no-builder = derivation { name = "x"; inherit system; };
  drv-other-system = derivation { name = "x"; system = "riscv64-linux"; builder = "/bin/sh"; };
  drv-args-int = derivation { name = "x"; inherit system; builder = "/bin/sh"; args = [ "-c" "echo $0 $1 > $out" 1 2.5 ]; };
  ignore-nulls = env { __ignoreNulls = true; a = null; b = 1; } [ "a" "b" "__ignoreNulls" ];
  # exportReferencesGraph
  graph = with' { exportReferencesGraph = [ "g" dep2 ]; } "cat g > $out";
  graph-two = with' { exportReferencesGraph = [ "g" dep2 "h" two.dev ]; } "cat g h > $out";
  graph-odd = with' { exportReferencesGraph = [ "g" ]; } "true";
  graph-name = with' { exportReferencesGraph = [ "a/b" dep ]; } "true";
  graph-notpath = with' { exportReferencesGraph = [ "a" "/etc" ]; } "true";
  graph-notinput = with' { exportReferencesGraph = [ "a" (builtins.unsafeDiscardStringContext dep.outPath) ]; } "cat a > $out";
  graph-structured = structured { exportReferencesGraph = { g = [ dep2 ]; h = dep; }; } "cat .attrs.json > $out";
  graph-structured-bad = structured { exportReferencesGraph = { g = 1; }; } "true";
  graph-structured-list = structured { exportReferencesGraph = [ "g" dep ]; } "ls > $out";
  # passAsFile
  file = with' { passAsFile = [ "big" ]; big = "content"; } "[ -z \"$big\" ]; cat $bigPath > $out";
  file-string = with' { passAsFile = "big other"; big = "b"; other = "o"; } "cat $bigPath $otherPath > $out";
  file-out = with' { passAsFile = [ "nothere" ]; } "echo \${nothere-unset} > $out";
  file-structured = structured { passAsFile = [ "big" ]; big = "content"; } "ls > $out";
  # structured attributes
  st-json = structured { a = [ 1 2.5 null true { x = "y"; } ]; b = { c = dep; }; p = ./small.txt; "odd name" = 1; } "cat .attrs.json > $out";
  st-sh = structured { a = [ 1 "two words" ]; b = { c = "x'y"; d = 1; }; e = true; f = false; g = null; n = -4; fl = 1.5; "1bad" = 1; nested = { q = { r = 1; }; }; } "cat .attrs.sh > $out";
  st-env = structured { } "env | sed 's/=.*//' | sort > $out";
  st-outputs = derivation { name = "x"; inherit system; builder = "/bin/bash"; __structuredAttrs = true; outputs = [ "out" "dev" ]; args = [ "-c" ". $NIX_ATTRS_SH_FILE; for o in \${!outputs[@]}; do echo $o > \${outputs[$o]}; done" ]; };
  st-notbool = derivation { name = "x"; inherit system; builder = "/bin/sh"; __structuredAttrs = "yes"; args = [ "-c" "echo $__structuredAttrs > $out" ]; };
  st-false = env { __structuredAttrs = false; } [ "__structuredAttrs" ];
  st-warn = structured { allowedReferences = []; } "echo ${dep} > $out";
  st-warn2 = structured { maxSize = 1; disallowedRequisites = [ dep ]; } "echo ${dep} > $out";
  # checks
  ar-empty = with' { allowedReferences = []; } "echo ${dep} > $out";
  ar-ok = with' { allowedReferences = [ dep ]; } "echo ${dep} > $out";
  ar-self = with' { allowedReferences = []; } "echo $out > $out";
  ar-self-ok = with' { allowedReferences = [ "out" ]; } "echo $out > $out";
  ar-badname = with' { allowedReferences = [ "nope" ]; } "echo > $out";
  ar-string = with' { allowedReferences = "out"; } "echo $out > $out";
  aq-chain = with' { allowedRequisites = [ dep2 ]; } "echo ${dep2} > $out";
  aq-ok = with' { allowedRequisites = [ dep dep2 ]; } "echo ${dep2} > $out";
  dr = with' { disallowedReferences = [ dep ]; } "echo ${dep} > $out";
  dr-indirect = with' { disallowedReferences = [ dep ]; } "echo ${dep2} > $out";
  dq = with' { disallowedRequisites = [ dep ]; } "echo ${dep2} > $out";
  dq-out = with' { outputs = [ "out" "dev" ]; disallowedReferences = [ "dev" ]; } "echo $dev > $out; echo > $dev";
  oc-max = structured { outputChecks.out.maxSize = 10; } "echo 12345678901234 > $out";
  oc-max-ok = structured { outputChecks.out.maxSize = 1000; } "echo > $out";
  oc-closure = structured { outputChecks.out.maxClosureSize = 200; } "echo ${dep2} > $out";
  oc-max-negative = structured { outputChecks.out.maxSize = -1; } "echo > $out";
  oc-ar = structured { outputChecks.out.allowedReferences = [ ]; } "echo ${dep} > $out";
  oc-dq = structured { outputChecks.out.disallowedRequisites = [ dep ]; } "echo ${dep2} > $out";
  oc-self = structured { outputChecks.out = { allowedReferences = [ ]; ignoreSelfRefs = true; }; } "echo $out > $out";
  oc-self-no = structured { outputChecks.out = { allowedReferences = [ ]; }; } "echo $out > $out";
  oc-other = structured { outputChecks.dev.maxSize = 1; } "echo > $out";
  oc-env = with' { outputChecks = "x"; } "echo > $out";
  oc-badtype = structured { outputChecks.out.allowedReferences = "x"; } "echo > $out";
  oc-unknown = structured { outputChecks.out.maxBananas = 1; } "echo > $out";
  oc-notset = structured { outputChecks = 1; } "echo > $out";
  # unsafeDiscardReferences
  ud = structured { unsafeDiscardReferences.out = true; } "echo ${dep} > $out";
  ud-false = structured { unsafeDiscardReferences.out = false; } "echo ${dep} > $out";
  ud-bad = structured { unsafeDiscardReferences.out = 1; } "echo ${dep} > $out";
  ud-env = with' { unsafeDiscardReferences = "out"; } "echo ${dep} > $out";
  # scheduling
  pl = with' { preferLocalBuild = true; } "echo $preferLocalBuild > $out";
  as = with' { allowSubstitutes = false; } "echo \"[$allowSubstitutes]\" > $out";
  as-string = with' { allowSubstitutes = "no"; } "echo \"[$allowSubstitutes]\" > $out";
  rf = with' { requiredSystemFeatures = [ "nonesuch" ]; } "echo > $out";
  rf-string = with' { requiredSystemFeatures = "nonesuch other"; } "echo > $out";
  rf-ok = with' { requiredSystemFeatures = [ "benchmark" ]; } "echo > $out";
  rf-structured = structured { requiredSystemFeatures = [ "nonesuch" ]; } "echo > $out";
  rf-structured-bad = structured { requiredSystemFeatures = "nonesuch"; } "echo > $out";
  rf-ca = with' { requiredSystemFeatures = [ "ca-derivations" ]; } "echo > $out";
  # impureEnvVars
  ie-ignored = with' { impureEnvVars = [ "FOO" ]; } "echo \"[$FOO]\" > $out";
  ie-fixed = with' { impureEnvVars = [ "FOO" "BAR" ]; outputHashMode = "flat"; outputHashAlgo = "sha256"; outputHash = builtins.hashString "sha256" "[foo][unset]\n"; } "echo \"[$FOO][\${BAR-unset}]\" > $out";
  ie-structured = structured { impureEnvVars = [ "FOO" ]; outputHashMode = "flat"; outputHashAlgo = "sha256"; outputHash = builtins.hashString "sha256" "[foo]\n"; } "echo \"[$FOO]\" > $out";
  # types
  fo-flat = with' { outputHashAlgo = "sha256"; outputHash = builtins.hashString "sha256" "x\n"; } "echo x > $out";
  fo-wrong = with' { outputHashAlgo = "sha256"; outputHash = builtins.hashString "sha256" "y\n"; } "echo x > $out";
  fo-wrong-sri = with' { outputHash = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="; } "echo x > $out";
  fo-empty = with' { outputHash = ""; outputHashAlgo = "sha256"; } "echo x > $out";
  fo-noalgo = with' { outputHash = builtins.hashString "sha256" "x\n"; } "echo x > $out";
  fo-algo-null = with' { outputHashAlgo = null; outputHash = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="; } "echo x > $out";
  fo-algo-mismatch = with' { outputHashAlgo = "sha1"; outputHash = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="; } "echo x > $out";
  fo-mode-bad = with' { outputHashAlgo = "sha256"; outputHashMode = "banana"; outputHash = builtins.hashString "sha256" "x\n"; } "echo x > $out";
  fo-mode-text = with' { outputHashAlgo = "sha256"; outputHashMode = "text"; outputHash = builtins.hashString "sha256" "x\n"; } "echo x > $out";
  fo-mode-git = with' { outputHashAlgo = "sha1"; outputHashMode = "git"; outputHash = builtins.hashString "sha1" "x\n"; } "echo x > $out";
  fo-mode-nar = with' { outputHashAlgo = "sha256"; outputHashMode = "nar"; outputHash = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="; } "mkdir $out; echo x > $out/a";
  fo-algo-bad = with' { outputHashAlgo = "banana"; outputHash = "00"; } "echo x > $out";
  fo-dir-flat = with' { outputHashAlgo = "sha256"; outputHash = builtins.hashString "sha256" "x\n"; } "mkdir $out";
  fo-exec-flat = with' { outputHashAlgo = "sha256"; outputHash = builtins.hashString "sha256" "x\n"; } "echo x > $out; chmod +x $out";
  fo-outputs = with' { outputs = [ "out" "b" ]; outputHashAlgo = "sha256"; outputHash = builtins.hashString "sha256" "x\n"; } "echo x > $out";
  fo-output-name = with' { outputs = [ "b" ]; outputHashAlgo = "sha256"; outputHash = builtins.hashString "sha256" "x\n"; } "echo x > $b";
  fo-sha512 = with' { outputHashAlgo = "sha512"; outputHash = builtins.hashString "sha512" "x\n"; } "echo x > $out";
  fo-md5 = with' { outputHashAlgo = "md5"; outputHash = builtins.hashString "md5" "x\n"; } "echo x > $out";
  fo-name = with' { outputHashAlgo = "sha256"; outputHash = builtins.hashString "sha256" "x\n"; name = "other"; } "echo x > $out";
  ca = with' { __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256"; } "echo x > $out";
  ca-self = with' { __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256"; } "echo $out > $out";
  ca-defaults = with' { __contentAddressed = true; } "echo x > $out";
  ca-flat = with' { __contentAddressed = true; outputHashMode = "flat"; outputHashAlgo = "sha256"; } "echo x > $out";
  ca-text = with' { __contentAddressed = true; outputHashMode = "text"; outputHashAlgo = "sha256"; } "echo x > $out";
  ca-false = with' { __contentAddressed = false; } "echo x > $out";
  impure-ca = with' { __impure = true; __contentAddressed = true; } "echo x > $out";
  ca-dep = with' { } "cat ${with' { name = "cadep"; __contentAddressed = true; } "echo dep > $out"} > $out";
  # others
  nochroot = with' { __noChroot = true; } "echo > $out";
  hostdeps = with' { __impureHostDeps = [ "/nonesuch" ]; } "echo > $out";
  profile = with' { __sandboxProfile = "(allow x)"; } "echo > $out";
  darwin = with' { __darwinAllowLocalNetworking = true; } "echo > $out";
  uid-range = with' { requiredSystemFeatures = [ "uid-range" ]; } "echo > $out";
  failing = with' { } "echo some output; echo more >&2; exit 7";
  no-output = with' { } "true";
  no-output-two = with' { outputs = [ "out" "dev" ]; } "echo > $out";
  signal = with' { } "kill -9 $$";
  builder-missing = derivation { name = "x"; inherit system; builder = "/nonesuch/bin"; };
  builder-builtin = derivation { name = "x"; inherit system; builder = "builtin:nonesuch"; };
  builder-dir = derivation { name = "x"; inherit system; builder = "/etc"; };
  world-writable = with' { } "mkdir $out; echo > $out/a; chmod 777 $out/a $out; ls -ld $out >/dev/null";
  meta = env { meta.x = 1; } [ "meta" ];
}
