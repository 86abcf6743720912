# Joining, replacing and splitting.
let text = builtins.concatStringsSep "," (builtins.genList (i: "item-${toString i}") 200000); in
builtins.stringLength (builtins.replaceStrings [ "item" ] [ "thing" ] text)
+ builtins.length (builtins.split "," text)
