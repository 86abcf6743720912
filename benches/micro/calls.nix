# Calls of a function of two arguments, with arithmetic.
let sum = n: acc: if n == 0 then acc else sum (n - 1) (acc + n); in
builtins.foldl' (a: i: a + sum 50 i) 0 (builtins.genList (i: i) 20000)
