# What systems do: modules that declare options and define values, merged by type, priority and condition.
let
  inherit (builtins) attrNames concatLists concatMap elem filter foldl' genList head isAttrs isFunction isInt isList isString length listToAttrs map mapAttrs toString;

  optionType = name: check: merge: { _type = "option-type"; inherit name check merge; nested = { }; };
  values = map (d: d.value);
  one = path: definitions:
    if length definitions == 1 || foldl' (same: d: same && d.value == (head definitions).value) true definitions
    then (head definitions).value
    else throw "several values of ${showPath path}";
  showPath = builtins.concatStringsSep ".";
  types = rec {
    int = optionType "integer" isInt one;
    bool = optionType "boolean" builtins.isBool one;
    str = optionType "string" isString one;
    lines = optionType "lines" isString (path: ds: builtins.concatStringsSep "\n" (values ds));
    listOf = t: optionType "list of ${t.name}" isList (path: ds:
      concatLists (map (d: map (value: t.merge path [ (d // { inherit value; }) ]) d.value) ds));
    attrsOf = t: optionType "set of ${t.name}" isAttrs (path: ds:
      mapAttrs (name: ds: t.merge (path ++ [ name ]) (filtered ds))
        (builtins.zipAttrsWith (name: ds: ds) (map (d: mapAttrs (name: value: d // { inherit value; }) (resolved d.value)) ds)));
    nullOr = t: optionType "null or ${t.name}" (v: v == null || t.check v) (path: ds:
      if builtins.all (d: d.value == null) ds then null else t.merge path (filter (d: d.value != null) ds));
    submodule = module: optionType "submodule" (v: isAttrs v || isFunction v) (path: ds:
      (evaluate path ([ module { _file = "name"; config._name = builtins.elemAt path (length path - 1); options._name = option { type = str; }; } ]
        ++ map (d: { _file = d.file; config = d.value; }) ds)).config);
  };

  option = o: { _type = "option"; } // o;
  when = condition: content: { _type = "if"; inherit condition content; };
  merge = contents: { _type = "merge"; inherit contents; };
  prio = priority: content: { _type = "override"; inherit priority content; };
  force = prio 50;
  standard = prio 1000;

  resolved = v: if v._type or "" == "if" then (if v.condition then resolved v.content else { }) else v;
  spread = d:
    let kind = d.value._type or ""; in
    if kind == "merge" then concatMap (value: spread (d // { inherit value; })) d.value.contents
    else if kind == "if" then (if d.value.condition then spread (d // { value = d.value.content; }) else [ ])
    else [ d ];
  priority = d: if d.value._type or "" == "override" then d.value.priority else 100;
  strip = d: if d.value._type or "" == "override" then d // { value = d.value.content; } else d;
  filtered = ds:
    let all = concatMap spread ds; best = foldl' (least: d: if priority d < least then priority d else least) 9999 all; in
    map strip (filter (d: priority d == best) all);

  call = args: m: if isFunction m then m (builtins.intersectAttrs (builtins.functionArgs m) args // { inherit (args) config options; }) else m;
  collect = args: ms: concatMap (m:
    let module = call args (if builtins.isPath m then import m else m); in
    [ (if module ? config || module ? options then module else { config = module; }) ] ++ collect args (module.imports or [ ])) ms;

  evaluate = path: modules:
    let
      args = { inherit config options types option when merge; number = 7; };
      collected = collect args modules;
      declared = level: ds: builtins.zipAttrsWith (name: found:
        let opts = filter (o: o._type or "" == "option") found; in
        if opts != [ ] then foldl' (a: b: a // b) { } opts else declared (level ++ [ name ]) found) ds;
      options = declared [ ] (map (m: m.options or { }) collected);
      define = level: opts: ds:
        let
          # Conditions of whole sets move inside, without being looked at.
          push = d:
            let kind = d.value._type or ""; in
            if kind == "merge" then concatMap (value: push (d // { inherit value; })) d.value.contents
            else if kind == "if" then map (e: e // { value = mapAttrs (name: when d.value.condition) e.value; }) (push (d // { value = d.value.content; }))
            else [ d ];
          flat = concatMap push ds;
          grouped = builtins.zipAttrsWith (name: found: found) (map (d: mapAttrs (name: value: d // { inherit value; }) d.value) flat);
        in
        mapAttrs (name: o:
          let here = level ++ [ name ]; found = grouped.${name} or [ ]; in
          if o._type or "" == "option" then
            let
              all = filtered (found ++ (if o ? default then [ { file = "default"; value = prio 1500 o.default; } ] else [ ]));
              bad = filter (d: !(o.type.check d.value)) all;
            in
            if all == [ ] then throw "${showPath here} is not defined"
            else if bad != [ ] then throw "${showPath here} is no ${o.type.name}"
            else (o.apply or (v: v)) (o.type.merge here all)
          else define here o found) opts;
      config = define path options (map (m: { file = m._file or "unknown"; value = m.config or { }; }) collected);
    in
    { inherit config options; };

  service = i: { config, types, option, when, merge, number, ... }: {
    _file = "service${toString i}.nix";
    options.services."service${toString i}" = {
      enable = option { type = types.bool; default = false; };
      port = option { type = types.int; default = 1000 + i; };
      settings = option {
        type = types.attrsOf (types.submodule ({ config, ... }: {
          options = {
            value = option { type = types.nullOr types.int; default = null; };
            tags = option { type = types.listOf types.str; default = [ ]; };
            text = option { type = types.str; };
          };
          config.text = standard "${config._name}=${toString config.value}";
        }));
        default = { };
      };
    };
    config = merge [
      (when (i / 3 * 3 == i) { services."service${toString i}" = { enable = true; settings.a = { value = i; tags = [ "x" "y${toString number}" ]; }; }; })
      (when config.services."service${toString i}".enable {
        services."service${toString i}".settings.b = { tags = [ "on" ]; text = "b"; };
        etc."service${toString i}.conf" = { text = "port ${toString config.services."service${toString i}".port}"; mode = force "0600"; };
        activation = "start service${toString i}";
      })
    ];
  };

  base = { types, option, ... }: {
    options = {
      activation = option { type = types.lines; default = ""; };
      etc = option {
        type = types.attrsOf (types.submodule { options = { text = option { type = types.lines; default = ""; }; mode = option { type = types.str; default = "0644"; }; }; });
        default = { };
      };
    };
  };
  result = (evaluate [ ] ([ base ] ++ genList service 500)).config;
in
builtins.hashString "sha256" (builtins.toJSON result)
