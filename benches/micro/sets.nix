# Small sets made, updated and looked into.
let
  make = i: { a = i; b = i + 1; inner = { c = i; d = "x"; }; };
  use = i: let s = make i // { b = 5; e = 7; }; in s.a + s.b + s.e + s.inner.c;
in builtins.foldl' (a: i: a + use i) 0 (builtins.genList (i: i) 500000)
