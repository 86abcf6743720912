let
  f = x: x.missing;
in
{
  missing = f { b = 1; };
  near = { foo = 1; }.fo;
  thrown = throw "hello\nworld";
  aborted = abort "stop";
  types = 1 + "a";
  asserted = assert 1 == 2; 3;
  context = builtins.addErrorContext "while doing things" (throw "inner");
  endless = let x = x; in x;
  warned = builtins.warn "careful" 1;
  traced = builtins.trace "tracing" 2;
  syntax = import ./broken.nix;
  files = import ./one.nix + import ./one.nix + import ./dir + builtins.scopedImport { x = 1; } ./x.nix + import ./link.nix
    + builtins.length [ (import ./never.nix) ];
  inner = import ./throws.nix;
  derived = (derivation { name = "x"; system = throw "nowhere"; builder = "/bin/sh"; }).drvPath;
  mapped = (builtins.mapAttrs (name: value: throw name) { a = 1; }).a;
}
