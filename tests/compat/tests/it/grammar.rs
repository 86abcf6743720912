//! A grammar that makes expressions of the language at random, most of which have a value.

/// Types of what is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Int,
    Float,
    Bool,
    Text,
    Ints,
    Texts,
    Set,
    Function,
    Null,
}

use Type::{Bool, Float, Function, Int, Ints, Null, Set, Text, Texts};

const TYPES: &[Type] = &[Int, Float, Bool, Text, Ints, Texts, Set, Function, Null];

/// Texts in which builtins find something to do.
const WORDS: &[&str] = &[
    "",
    "a",
    "b",
    "abc",
    "a.b",
    "foo-1.2.3",
    "1.2",
    "2.0pre1",
    "a/b/c",
    "/x//y/",
    "x y",
    "äö",
    "0",
    "-7",
    "a,b,,c",
    "{}",
    "$",
    "''",
    "\\\\",
    "AbC",
    "aaa",
    "lib.so.6",
    "nix-2.34",
    "true",
    "\\n",
    "\\t",
    "\\\"",
];

/// Patterns for `match` and `split`.
const PATTERNS: &[&str] = &[
    "a",
    "(a)",
    "[a-c]+",
    "(.*)-([0-9.]+)",
    ".*",
    "(a|b)*",
    "[[:alpha:]]+",
    "([^,]*),?",
    "x?",
    "(/)",
    "^a",
    "c$",
    "(a)?b",
    "[0-9]{1,2}",
    "(ab|a)(bc)?",
];

const NAMES: &[&str] = &["a", "b", "c", "x", "y", "foo", "bar-baz", "name", "value", "_1"];

/// The generator. The same seed gives the same expressions.
pub struct Grammar {
    state: u64,
    /// Variables in scope.
    scope: Vec<(String, Type)>,
    count: usize,
    /// Types are not heeded now and then.
    wild: bool,
}

impl Grammar {
    pub fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, scope: Vec::new(), count: 0, wild: false }
    }

    /// xorshift: good enough to choose, and the same everywhere.
    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn chance(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    /// A whole expression.
    pub fn expression(&mut self) -> String {
        self.scope.clear();
        self.wild = self.chance(40);
        let kind = self.one_of(TYPES);
        let depth = 2 + self.below(4);
        self.make(kind, depth)
    }

    fn any(&mut self, depth: usize) -> String {
        let kind = self.one_of(&[Int, Float, Bool, Text, Ints, Texts, Set, Null]);
        self.make(kind, depth)
    }

    fn variable(&mut self, kind: Type) -> Option<String> {
        let fitting: Vec<usize> =
            (0..self.scope.len()).filter(|&index| self.scope[index].1 == kind).collect();
        if fitting.is_empty() {
            return None;
        }
        let index = self.one_of(&fitting);
        Some(self.scope[index].0.clone())
    }

    fn fresh(&mut self) -> String {
        self.count += 1;
        format!("v{}", self.count % 7)
    }

    fn with<T>(&mut self, name: &str, kind: Type, run: impl FnOnce(&mut Self) -> T) -> T {
        let outside = self.scope.clone();
        // What it hides is not of its type any more.
        self.scope.retain(|(known, _)| known != name);
        self.scope.push((name.to_owned(), kind));
        let result = run(self);
        self.scope = outside;
        result
    }

    fn make(&mut self, kind: Type, depth: usize) -> String {
        // Now and then something of another type, to see what that does.
        let kind = if self.wild && self.chance(10) { self.one_of(TYPES) } else { kind };
        if depth == 0 || self.chance(8) {
            return match self.chance(2) {
                true => self.variable(kind).unwrap_or_else(|| self.simple(kind)),
                false => self.simple(kind),
            };
        }
        let depth = depth - 1;
        if self.chance(4) {
            return self.general(kind, depth);
        }
        match kind {
            Int => self.int(depth),
            Float => self.float(depth),
            Bool => self.bool(depth),
            Text => self.text(depth),
            Ints => self.ints(depth),
            Texts => self.texts(depth),
            Set => self.set(depth),
            Function => self.function(depth),
            Null => "null".to_owned(),
        }
    }

    fn simple(&mut self, kind: Type) -> String {
        match kind {
            Int => {
                let number = self.one_of(&[0, 1, 2, 3, 7, 10, 255, 1000, 65_536, 9_007_199_254_740_993_u64]);
                if self.chance(5) { format!("(-{number})") } else { number.to_string() }
            }
            Float => self
                .one_of(&["0.5", "1.0", "3.14", "1.0e3", "2.5e-3", "100.25", "(-0.75)", "1.0e17"])
                .to_owned(),
            Bool => self.one_of(&["true", "false"]).to_owned(),
            Text => format!("\"{}\"", self.one_of(WORDS).replace("${", "\\${")),
            Ints => self.one_of(&["[ ]", "[ 1 2 3 ]", "[ 3 1 2 1 ]", "[ 0 ]"]).to_owned(),
            Texts => self.one_of(&["[ ]", "[ \"a\" \"b\" ]", "[ \"x\" \"a\" \"x\" ]", "[ \"\" ]"]).to_owned(),
            Set => self
                .one_of(&["{ }", "{ a = 1; }", "{ a = 1; b = \"x\"; }", "{ x.y = 2; foo = [ 1 ]; }"])
                .to_owned(),
            Function => self.one_of(&["(x: x)", "(x: x + x)", "({ a ? 1, ... }: a)", "(x: y: x)"]).to_owned(),
            Null => "null".to_owned(),
        }
    }

    /// What there is for all types.
    fn general(&mut self, kind: Type, depth: usize) -> String {
        match self.below(11) {
            0 => {
                let condition = self.make(Bool, depth);
                let (yes, no) = (self.make(kind, depth), self.make(kind, depth));
                format!("(if {condition} then {yes} else {no})")
            }
            1 => {
                let name = self.fresh();
                let bound = self.one_of(&[Int, Text, Ints, Set, Bool, Texts]);
                let value = self.make(bound, depth);
                let body = self.with(&name, bound, |g| g.make(kind, depth));
                format!("(let {name} = {value}; in {body})")
            }
            2 => {
                let name = self.fresh();
                let bound = self.one_of(&[Int, Text, Ints, Set, Bool, Texts]);
                let value = self.make(bound, depth);
                let body = self.with(&name, bound, |g| g.make(kind, depth));
                format!("(({name}: {body}) ({value}))")
            }
            3 => {
                let name = self.fresh();
                let body = self.with(&name, Int, |g| g.make(kind, depth));
                let (value, default) = (self.make(Int, depth), self.make(Int, depth));
                match self.chance(2) {
                    true => {
                        format!("(({{ {name} ? {default}, ... }}: {body}) {{ {name} = {value}; z = 1; }})")
                    }
                    false => format!("(({{ {name} ? {default} }}@all: {body}) {{ }})"),
                }
            }
            4 => {
                let name = self.fresh();
                let value = self.make(Int, depth);
                let hidden = self.scope.iter().any(|(known, _)| *known == name);
                // What is in scope already wins over `with`.
                let body = match hidden {
                    true => self.make(kind, depth),
                    false => self.with(&name, Int, |g| g.make(kind, depth)),
                };
                format!("(with {{ {name} = {value}; }}; {body})")
            }
            5 => {
                let condition = self.make(Bool, depth);
                let body = self.make(kind, depth);
                format!("(assert {condition} || true; {body})")
            }
            6 => {
                let name = self.one_of(NAMES);
                let (value, rest) = (self.make(kind, depth), self.make(Set, depth));
                format!("({rest} // {{ {name} = {value}; }}).{name}")
            }
            7 => {
                let name = self.one_of(NAMES);
                let (set, value) = (self.make(Set, depth), self.make(kind, depth));
                format!("(({set}).none-{name} or ({value}))")
            }
            8 => {
                let (first, second) = (self.any(depth), self.make(kind, depth));
                let how = self.one_of(&["seq", "deepSeq"]);
                format!("(builtins.{how} ({first}) ({second}))")
            }
            9 => {
                let value = self.make(kind, depth);
                format!("(let r = builtins.tryEval ({value}); in if r.success then r.value else {value})")
            }
            _ => {
                let value = self.make(kind, depth);
                format!("(builtins.head [ ({value}) ])")
            }
        }
    }

    fn int(&mut self, depth: usize) -> String {
        match self.below(15) {
            0..=3 => {
                let (a, b) = (self.make(Int, depth), self.make(Int, depth));
                let op = self.one_of(&["+", "-", "*"]);
                // What overflows is an error in one and not in another version: halved before.
                format!("(({a}) / 65536 {op} ({b}) / 65536)")
            }
            4 => {
                let (a, b) = (self.make(Int, depth), self.make(Int, depth));
                format!("(({a}) / (let d = {b}; in if d == 0 then 1 else d))")
            }
            5 => format!("(builtins.length {})", self.make(Ints, depth)),
            6 => format!("(builtins.stringLength {})", self.make(Text, depth)),
            7 => {
                let list = self.make(Ints, depth);
                let (a, b) = ("acc".to_owned(), "el".to_owned());
                let body = self.with(&a, Int, |g| g.with(&b, Int, |g| g.make(Int, depth.min(1))));
                format!("(builtins.foldl' (acc: el: {body}) 0 {list})")
            }
            8 => {
                let how = self.one_of(&["bitAnd", "bitOr", "bitXor"]);
                let (a, b) = (self.make(Int, depth), self.make(Int, depth));
                format!("(builtins.{how} ({a}) ({b}))")
            }
            9 => {
                let how = self.one_of(&["floor", "ceil"]);
                format!(
                    "(let f = {}; in if f < 1.0e15 && f > -1.0e15 then builtins.{how} f else 0)",
                    self.make(Float, depth)
                )
            }
            10 => {
                let (a, b) = (self.make(Text, depth), self.make(Text, depth));
                format!("(builtins.compareVersions {a} {b})")
            }
            11 => {
                let list = self.make(Ints, depth);
                format!(
                    "(let l = {list}; in if l == [ ] then 0 else builtins.elemAt l (builtins.length l - 1))"
                )
            }
            12 => format!("(builtins.length (builtins.attrNames {}))", self.make(Set, depth)),
            13 => format!("(- ({} / 2))", self.make(Int, depth)),
            _ => format!("(builtins.fromJSON (builtins.toJSON ({})))", self.make(Int, depth)),
        }
    }

    fn float(&mut self, depth: usize) -> String {
        let (a, b) = (self.make(Float, depth), self.make(Float, depth));
        match self.below(5) {
            0..=2 => {
                let op = self.one_of(&["+", "-", "*"]);
                format!("(({a}) {op} ({b}))")
            }
            3 => format!("(({a}) / (if ({b}) == 0.0 then 1.0 else ({b})))"),
            _ => format!("(({a}) + {})", self.make(Int, depth)),
        }
    }

    fn bool(&mut self, depth: usize) -> String {
        match self.below(12) {
            0 => format!("(! {})", self.make(Bool, depth)),
            1 => {
                let (a, b) = (self.make(Bool, depth), self.make(Bool, depth));
                let op = self.one_of(&["&&", "||", "->", "==", "!="]);
                format!("(({a}) {op} ({b}))")
            }
            2..=3 => {
                let kind = self.one_of(&[Int, Float, Text]);
                let (a, b) = (self.make(kind, depth), self.make(kind, depth));
                let op = self.one_of(&["<", "<=", ">", ">=", "==", "!="]);
                format!("(({a}) {op} ({b}))")
            }
            4 => {
                let (a, b) = (self.any(depth), self.any(depth));
                format!("(({a}) == ({b}))")
            }
            5 => {
                let name = self.one_of(NAMES);
                format!("({} ? {name})", self.make(Set, depth))
            }
            6 => {
                let how = self.one_of(&[
                    "isInt",
                    "isList",
                    "isString",
                    "isAttrs",
                    "isFunction",
                    "isNull",
                    "isFloat",
                    "isBool",
                    "isPath",
                ]);
                format!("(builtins.{how} ({}))", self.any(depth))
            }
            7 => {
                let (value, list) = (self.make(Int, depth), self.make(Ints, depth));
                format!("(builtins.elem ({value}) {list})")
            }
            8 => {
                let how = self.one_of(&["any", "all"]);
                let body = self.with("e", Int, |g| g.make(Bool, depth.min(1)));
                format!("(builtins.{how} (e: {body}) {})", self.make(Ints, depth))
            }
            9 => {
                let (pattern, text) = (self.one_of(PATTERNS), self.make(Text, depth));
                format!("(builtins.match \"{pattern}\" {text} != null)")
            }
            10 => {
                let (a, b) = (self.make(Ints, depth), self.make(Ints, depth));
                format!("({a} < {b})")
            }
            _ => format!("((builtins.tryEval (throw \"x\")).success || {})", self.make(Bool, depth)),
        }
    }

    fn text(&mut self, depth: usize) -> String {
        match self.below(20) {
            0..=1 => format!("({} + {})", self.make(Text, depth), self.make(Text, depth)),
            2..=3 => {
                let (a, b) = (self.make(Text, depth), self.make(Text, depth));
                format!("\"x${{{a}}}-${{{b}}}\"")
            }
            4 => {
                let kind = self.one_of(&[Int, Bool, Text, Ints, Texts, Null, Float]);
                format!("(toString ({}))", self.make(kind, depth))
            }
            5 => {
                let (start, length, text) = (self.below(4), self.below(5), self.make(Text, depth));
                format!("(builtins.substring {start} {length} {text})")
            }
            6 => {
                let (from, to) = (self.make(Text, 0), self.make(Text, 0));
                format!(
                    "(builtins.replaceStrings [ {from} \"b\" ] [ {to} \"-\" ] {})",
                    self.make(Text, depth)
                )
            }
            7 => format!("(builtins.concatStringsSep {} {})", self.make(Text, 0), self.make(Texts, depth)),
            8 => format!("(builtins.toJSON ({}))", self.any(depth)),
            9 => {
                let algo = self.one_of(&["md5", "sha1", "sha256", "sha512"]);
                format!("(builtins.hashString \"{algo}\" {})", self.make(Text, depth))
            }
            10 => format!("(builtins.typeOf ({}))", self.any(depth)),
            11 => format!("(baseNameOf {})", self.make(Text, depth)),
            12 => format!("(dirOf {})", self.make(Text, depth)),
            13 => {
                let part = self.one_of(&["name", "version"]);
                format!("(builtins.parseDrvName {}).{part}", self.make(Text, depth))
            }
            14 => {
                let (a, b) = (self.make(Text, depth), self.make(Int, depth));
                format!("''\n    line ${{{a}}}\n      deeper ${{toString ({b})}}\n  ''")
            }
            15 => {
                let list = self.make(Texts, depth);
                format!("(let l = {list}; in if l == [ ] then \"none\" else builtins.head l)")
            }
            16 => format!("(builtins.unsafeDiscardStringContext {})", self.make(Text, depth)),
            17 => format!("(builtins.toXML ({}))", self.any(depth)),
            18 => {
                let name = self.one_of(NAMES);
                format!("(toString (({}).{name} or \"\"))", "{ a = 1; b = \"x\"; }")
            }
            _ => format!(
                "(builtins.concatStringsSep \".\" (builtins.splitVersion {}))",
                self.make(Text, depth)
            ),
        }
    }

    fn ints(&mut self, depth: usize) -> String {
        match self.below(12) {
            0..=2 => {
                let count = self.below(4);
                let items: Vec<String> = (0..count).map(|_| format!("({})", self.make(Int, depth))).collect();
                format!("[ {} ]", items.join(" "))
            }
            3 => format!("({} ++ {})", self.make(Ints, depth), self.make(Ints, depth)),
            4 => {
                let body = self.with("e", Int, |g| g.make(Int, depth.min(2)));
                format!("(map (e: {body}) {})", self.make(Ints, depth))
            }
            5 => {
                let body = self.with("e", Int, |g| g.make(Bool, depth.min(2)));
                format!("(builtins.filter (e: {body}) {})", self.make(Ints, depth))
            }
            6 => format!(
                "(builtins.sort (a: b: {}) {})",
                self.one_of(&["a < b", "b < a", "a / 2 < b / 2"]),
                self.make(Ints, depth)
            ),
            7 => {
                let body = self.with("i", Int, |g| g.make(Int, depth.min(2)));
                format!("(builtins.genList (i: {body}) {})", self.below(6))
            }
            8 => format!("(let l = {}; in if l == [ ] then l else builtins.tail l)", self.make(Ints, depth)),
            9 => {
                let body = self.with("e", Int, |g| g.make(Ints, depth.min(1)));
                format!("(builtins.concatMap (e: {body}) {})", self.make(Ints, depth))
            }
            10 => {
                let side = self.one_of(&["right", "wrong"]);
                let body = self.with("e", Int, |g| g.make(Bool, depth.min(1)));
                format!("(builtins.partition (e: {body}) {}).{side}", self.make(Ints, depth))
            }
            _ => format!("(builtins.catAttrs \"a\" [ {{ a = {}; }} {{ b = 2; }} ])", self.make(Int, depth)),
        }
    }

    fn texts(&mut self, depth: usize) -> String {
        match self.below(9) {
            0..=1 => format!("[ ({}) ({}) ]", self.make(Text, depth), self.make(Text, depth)),
            2 => format!("(builtins.attrNames {})", self.make(Set, depth)),
            3 => {
                let (pattern, text) = (self.one_of(PATTERNS), self.make(Text, depth));
                format!("(builtins.filter builtins.isString (builtins.split \"{pattern}\" {text}))")
            }
            4 => {
                let (pattern, text) = (self.one_of(PATTERNS), self.make(Text, depth));
                format!(
                    "(let m = builtins.match \"{pattern}\" {text}; in if m == null then [ ] else map (x: \"${{toString x}}\") m)"
                )
            }
            5 => format!("(builtins.splitVersion {})", self.make(Text, depth)),
            6 => format!("(map (x: \"<${{toString x}}>\") {})", self.make(Ints, depth)),
            7 => format!("(builtins.sort builtins.lessThan {})", self.make(Texts, depth)),
            _ => format!("({} ++ {})", self.make(Texts, depth), self.make(Texts, depth)),
        }
    }

    fn set(&mut self, depth: usize) -> String {
        match self.below(16) {
            0..=2 => {
                let names = [self.one_of(NAMES), self.one_of(NAMES)];
                let mut text = format!("{{ {} = {};", names[0], self.any(depth));
                if names[0] != names[1] {
                    text += &format!(" {} = {};", names[1], self.any(depth));
                }
                text + " }"
            }
            3 => format!("({} // {})", self.make(Set, depth), self.make(Set, depth)),
            4 => {
                let value = self.make(Int, depth);
                let other = self.with("p", Int, |g| g.make(Int, depth));
                format!("rec {{ p = {value}; q = {other}; }}")
            }
            5 => {
                let body = self.with("n", Text, |g| g.any(depth.min(2)));
                format!("(builtins.mapAttrs (n: v: {body}) {})", self.make(Set, depth))
            }
            6 => format!(
                "(removeAttrs {} [ \"{}\" \"{}\" ])",
                self.make(Set, depth),
                self.one_of(NAMES),
                self.one_of(NAMES)
            ),
            7 => format!("(builtins.intersectAttrs {} {})", self.make(Set, depth), self.make(Set, depth)),
            8 => {
                let names = self.make(Texts, depth);
                format!(
                    "(builtins.listToAttrs (map (name: {{ inherit name; value = name + \"!\"; }}) {names}))"
                )
            }
            9 => {
                let by = self.with("e", Int, |g| g.make(Bool, depth.min(1)));
                format!("(builtins.groupBy (e: if {by} then \"yes\" else \"no\") {})", self.make(Ints, depth))
            }
            10 => {
                let name = self.one_of(NAMES);
                format!("{{ \"${{{}}}\" = 1; {name}-x.deep = {}; }}", self.make(Text, depth), self.any(depth))
            }
            11 => format!("(builtins.functionArgs {})", "({ a, b ? 2, ... }: a)"),
            12 => format!(
                "(builtins.zipAttrsWith (n: vs: builtins.length vs) [ {} {} ])",
                self.make(Set, depth),
                self.make(Set, depth)
            ),
            13 => format!("(builtins.fromJSON (builtins.toJSON {}))", self.make(Set, depth)),
            14 => format!("(builtins.parseDrvName {})", self.make(Text, depth)),
            _ => format!("{{ inherit ({}) ; own = {}; }}", self.make(Set, depth), self.make(Ints, depth)),
        }
    }

    fn function(&mut self, depth: usize) -> String {
        match self.below(4) {
            0 => {
                let body = self.with("arg", Int, |g| g.make(Int, depth));
                format!("(arg: {body})")
            }
            1 => {
                let body = self.with("arg", Int, |g| g.make(Text, depth));
                format!("({{ arg ? 1, b, ... }}@args: {body})")
            }
            2 => "builtins.add".to_owned(),
            _ => format!("(builtins.sub ({}))", self.make(Int, depth)),
        }
    }
}
