# From a lock file to the flake: a function of the lock file's text, of what is fetched already (by the keys of nodes, with
# the folder of the flake in the tree), and of what fetches an input that is locked.
lockText: fetched: fetchLocked:

let
  lock = builtins.fromJSON lockText;

  # An input names a node, or the way to it from the root.
  keyOf = input: if builtins.isList input then keyAlong lock.root input else input;

  keyAlong =
    key: path:
    if path == [ ] then
      key
    else
      keyAlong (keyOf lock.nodes.${key}.inputs.${builtins.head path}) (builtins.tail path);

  below = root: dir: if dir == "" then root else "${root}/${dir}";

  place =
    key: node:
    let
      locked = node.locked or { };
      # A folder of the flake that has this input.
      isPart = (locked.type or null) == "path" && builtins.substring 0 1 locked.path != "/";
      whole = nodes.${keyAlong lock.root node.parent};
    in
    if fetched ? ${key} then
      rec {
        inherit (fetched.${key}) sourceInfo;
        outPath = below sourceInfo.outPath fetched.${key}.dir;
      }
    else if isPart then
      {
        inherit (whole) sourceInfo;
        outPath = below whole.outPath locked.path;
      }
    else
      rec {
        sourceInfo = fetchLocked (node.info or { } // removeAttrs locked [ "dir" ]);
        outPath = below sourceInfo.outPath (locked.dir or "");
      };

  make =
    key: node:
    let
      here = place key node;
      inherit (here) sourceInfo outPath;
      flake = import (outPath + "/flake.nix");
      inputs = builtins.mapAttrs (_: input: nodes.${keyOf input}.result) (node.inputs or { });
      outputs = flake.outputs (inputs // { self = called; });
      called =
        outputs
        // sourceInfo
        // {
          _type = "flake";
          inherit
            inputs
            outPath
            outputs
            sourceInfo
            ;
        };
    in
    {
      inherit outPath sourceInfo;
      result =
        if node.flake or true then
          assert builtins.isFunction flake.outputs;
          called
        else
          sourceInfo // { inherit outPath sourceInfo; };
    };

  nodes = builtins.mapAttrs make lock.nodes;
in
nodes.${lock.root}.result
