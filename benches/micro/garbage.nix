# Much is made and nothing kept.
builtins.foldl' (a: i: a + builtins.length (builtins.genList (x: { inherit x i; }) 1000)) 0 (builtins.genList (i: i) 3000)
