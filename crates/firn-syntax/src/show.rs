//! Printing trees as `nix-instantiate --parse` does.

use crate::ast::*;
use crate::symbol::Sym;
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// What the text of paths is relative to.
pub struct ShowContext<'a> {
    /// Makes a path literal absolute.
    pub absolute: &'a dyn Fn(&[u8]) -> Vec<u8>,
    pub home: &'a [u8],
}

/// The tree as text, without a line break at its end.
pub fn show(ast: &Ast, context: &ShowContext<'_>) -> Vec<u8> {
    show_node(ast, ast.root, context)
}

/// One expression of a tree as text.
pub fn show_node(ast: &Ast, node: NodeId, context: &ShowContext<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    Shower { ast, context, out: &mut out }.expr(node);
    out
}

/// An attribute path for messages: paths inside dynamic names are printed as written.
pub(crate) fn attr_path(ast: &Ast, path: &[AttrName]) -> Vec<u8> {
    let mut out = Vec::new();
    let context = ShowContext { absolute: &|p| p.to_vec(), home: b"~" };
    Shower { ast, context: &context, out: &mut out }.path(path);
    out
}

/// Whether a name can stand unquoted before `=`.
pub fn is_identifier(name: &[u8]) -> bool {
    crate::lexer::is_word(name) && !is_keyword(name)
}

fn is_keyword(name: &[u8]) -> bool {
    matches!(name, b"if" | b"then" | b"else" | b"assert" | b"with" | b"let" | b"in" | b"rec" | b"inherit")
}

/// An attribute name, quoted where it has to be.
pub fn write_name(out: &mut Vec<u8>, name: &[u8]) {
    if is_identifier(name) {
        out.extend_from_slice(name);
    } else {
        write_string(out, name);
    }
}

/// A string literal with the escapes of the language.
pub fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let mut rest = text;
    while let Some(plain) = rest.iter().position(|c| matches!(c, b'"' | b'\\' | b'\n' | b'\r' | b'\t' | b'$'))
    {
        out.extend_from_slice(&rest[..plain]);
        match rest[plain] {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'$' if rest.get(plain + 1) != Some(&b'{') => out.push(b'$'),
            c => out.extend_from_slice(&[b'\\', c]),
        }
        rest = &rest[plain + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// A float with six significant digits, as C++ streams print it.
pub fn write_float(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(format_g6(value).as_bytes());
}

/// `%g`.
pub fn format_g6(value: f64) -> String {
    if value.is_nan() {
        return if value.is_sign_negative() { "-nan".into() } else { "nan".into() };
    }
    if value.is_infinite() {
        return if value < 0.0 { "-inf".into() } else { "inf".into() };
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0".into() } else { "0".into() };
    }
    let text = format!("{value:.5e}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        let digits = (5 - exponent).max(0) as usize;
        trim_zeros(&format!("{value:.digits$}")).to_owned()
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", trim_zeros(mantissa), exponent.abs())
    }
}

fn trim_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

struct Shower<'a> {
    ast: &'a Ast,
    context: &'a ShowContext<'a>,
    out: &'a mut Vec<u8>,
}

impl Shower<'_> {
    fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn name(&mut self, name: Sym) {
        write_name(self.out, name.as_bytes());
    }

    fn path(&mut self, path: &[AttrName]) {
        for (i, step) in path.iter().enumerate() {
            if i > 0 {
                self.put(".");
            }
            match step {
                AttrName::Static(name) => self.name(*name),
                AttrName::Dynamic(node) => {
                    self.put("\"${");
                    self.expr(*node);
                    self.put("}\"");
                }
            }
        }
    }

    fn call(&mut self, function: &str, args: &[NodeId]) {
        self.put("(");
        self.put(function);
        for arg in args {
            self.put(" ");
            self.expr(*arg);
        }
        self.put(")");
    }

    fn infix(&mut self, left: NodeId, op: &str, right: NodeId) {
        self.put("(");
        self.expr(left);
        self.put(op);
        self.expr(right);
        self.put(")");
    }

    fn expr(&mut self, id: NodeId) {
        let ast = self.ast;
        match ast.node(id) {
            Node::Int(n) => self.put(&n.to_string()),
            Node::Float(f) => write_float(self.out, f),
            Node::Str(text) => write_string(self.out, ast.bytes(text)),
            Node::Path(text) => {
                let path = (self.context.absolute)(ast.bytes(text));
                self.out.extend_from_slice(&path);
            }
            Node::HomePath(text) => {
                self.out.extend_from_slice(self.context.home);
                self.out.extend_from_slice(&ast.bytes(text)[1..]);
            }
            Node::SearchPath(text) => {
                self.put("(__findFile __nixPath ");
                write_string(self.out, ast.bytes(text));
                self.put(")");
            }
            Node::Var(name) => self.name(name),
            Node::CurPos => self.put("__curPos"),
            Node::Interp { parts, .. } => {
                self.put("(");
                for (i, part) in ast.list(parts).iter().enumerate() {
                    if i > 0 {
                        self.put(" + ");
                    }
                    self.expr(*part);
                }
                self.put(")");
            }
            Node::List(items) => {
                self.put("[ ");
                for item in ast.list(items) {
                    self.put("(");
                    self.expr(*item);
                    self.put(") ");
                }
                self.put("]");
            }
            Node::Attrs(set) => self.set(set),
            Node::LegacyLet(set) => {
                self.put("(");
                self.set(set);
                self.put(").body");
            }
            Node::Let { bindings, body } => {
                self.put("(let ");
                self.bindings(ast.set(bindings));
                self.put("in ");
                self.expr(body);
                self.put(")");
            }
            Node::With { scope, body } => {
                self.put("(with ");
                self.expr(scope);
                self.put("; ");
                self.expr(body);
                self.put(")");
            }
            Node::If { cond, then, otherwise } => {
                self.put("(if ");
                self.expr(cond);
                self.put(" then ");
                self.expr(then);
                self.put(" else ");
                self.expr(otherwise);
                self.put(")");
            }
            Node::Assert { cond, body } => {
                self.put("assert ");
                self.expr(cond);
                self.put("; ");
                self.expr(body);
            }
            Node::Lambda(index) => self.lambda(ast.lambda(index)),
            Node::Call { function, args } => {
                let from = self.out.len();
                self.expr(function);
                // Searches and arithmetic are calls too, which take further arguments.
                let is_call = matches!(
                    ast.node(function),
                    Node::SearchPath(_)
                        | Node::Negate(_)
                        | Node::Binary {
                            op: BinOp::Sub | BinOp::Mul | BinOp::Div | BinOp::Less | BinOp::Greater,
                            ..
                        }
                );
                match is_call {
                    true => self.out.truncate(self.out.len() - 1),
                    false => self.out.insert(from, b'('),
                }
                for arg in ast.list(args) {
                    self.put(" ");
                    self.expr(*arg);
                }
                self.put(")");
            }
            Node::Select { base, path, default } => {
                self.put("(");
                self.expr(base);
                self.put(").");
                self.path(ast.names(path));
                if let Some(default) = default {
                    self.put(" or (");
                    self.expr(default);
                    self.put(")");
                }
            }
            Node::HasAttr { base, path } => {
                self.put("((");
                self.expr(base);
                self.put(") ? ");
                self.path(ast.names(path));
                self.put(")");
            }
            Node::Not(inner) => {
                self.put("(! ");
                self.expr(inner);
                self.put(")");
            }
            Node::Negate(inner) => {
                self.put("(__sub 0 ");
                self.expr(inner);
                self.put(")");
            }
            Node::InheritFrom(_) => {}
            Node::Binary { op, left, right } => match op {
                BinOp::Eq => self.infix(left, " == ", right),
                BinOp::Neq => self.infix(left, " != ", right),
                BinOp::And => self.infix(left, " && ", right),
                BinOp::Or => self.infix(left, " || ", right),
                BinOp::Impl => self.infix(left, " -> ", right),
                BinOp::Update => self.infix(left, " // ", right),
                BinOp::Concat => self.infix(left, " ++ ", right),
                BinOp::Add => self.infix(left, " + ", right),
                BinOp::Sub => self.call("__sub", &[left, right]),
                BinOp::Mul => self.call("__mul", &[left, right]),
                BinOp::Div => self.call("__div", &[left, right]),
                BinOp::Less => self.call("__lessThan", &[left, right]),
                BinOp::Greater => self.call("__lessThan", &[right, left]),
                BinOp::LessEq => {
                    self.put("(! ");
                    self.call("__lessThan", &[right, left]);
                    self.put(")");
                }
                BinOp::GreaterEq => {
                    self.put("(! ");
                    self.call("__lessThan", &[left, right]);
                    self.put(")");
                }
            },
        }
    }

    fn set(&mut self, index: u32) {
        let set = self.ast.set(index);
        self.put(if set.recursive { "rec { " } else { "{ " });
        self.bindings(set);
        self.put("}");
    }

    fn bindings(&mut self, set: AttrSet<'_>) {
        let mut named: SmallVec<[(&[u8], &AttrDef); 16]> =
            set.attrs.iter().map(|attr| (attr.name.as_bytes(), attr)).collect();
        named.sort_by_key(|(name, _)| *name);
        let sorted = || named.iter().map(|(_, attr)| *attr);
        let inherited: SmallVec<[Sym; 8]> =
            sorted().filter(|attr| attr.kind == AttrKind::Inherited).map(|attr| attr.name).collect();
        if !inherited.is_empty() {
            self.put("inherit");
            for name in inherited {
                self.put(" ");
                self.name(name);
            }
            self.put("; ");
        }
        let mut from: BTreeMap<u32, Vec<Sym>> = BTreeMap::new();
        for attr in sorted() {
            if let AttrKind::InheritedFrom(n) = attr.kind {
                from.entry(n).or_default().push(attr.name);
            }
        }
        for (n, names) in from {
            self.put("inherit (");
            self.expr(set.inherit_from[n as usize]);
            self.put(")");
            for name in names {
                self.put(" ");
                self.name(name);
            }
            self.put("; ");
        }
        for attr in sorted().filter(|attr| attr.kind == AttrKind::Plain) {
            self.name(attr.name);
            self.put(" = ");
            self.expr(attr.value);
            self.put("; ");
        }
        for attr in set.dynamic {
            self.put("\"${");
            self.expr(attr.name);
            self.put("}\" = ");
            self.expr(attr.value);
            self.put("; ");
        }
    }

    fn lambda(&mut self, lambda: Lambda<'_>) {
        self.put("(");
        if let Some(formals) = &lambda.formals {
            self.put("{ ");
            let mut sorted: SmallVec<[(&[u8], &Formal); 16]> =
                formals.formals.iter().map(|formal| (formal.name.as_bytes(), formal)).collect();
            sorted.sort_by_key(|(name, _)| *name);
            let mut first = true;
            for (_, formal) in sorted {
                if !std::mem::take(&mut first) {
                    self.put(", ");
                }
                self.name(formal.name);
                if let Some(default) = formal.default {
                    self.put(" ? ");
                    self.expr(default);
                }
            }
            if formals.ellipsis {
                self.put(if first { "..." } else { ", ..." });
            }
            self.put(" }");
            if lambda.arg.is_some() {
                self.put(" @ ");
            }
        }
        if let Some(arg) = lambda.arg {
            self.name(arg);
        }
        self.put(": ");
        self.expr(lambda.body);
        self.put(")");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parser::{ParseOptions, parse};

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let ast = parse(text.as_bytes(), ParseOptions { pipe_operators: true, ..Default::default() })
            .map_err(|e| e[0].message.clone());
        let context = ShowContext { absolute: &|p| [b"/base/", p].concat(), home: b"/home" };
        let shown = ast.map(|ast| String::from_utf8_lossy(&show(&ast, &context)).into_owned());
        assert_eq!(shown.unwrap_or_else(|e| format!("error: {e}")), expected);
    }

    #[test]
    fn operators() {
        check("1 + 2 * 3 - 4", "(__sub (1 + (__mul 2 3)) 4)");
        check("!a == b", "((! a) == b)");
        check("! a + b", "(! (a + b))");
        check("-a ? b", "(((__sub 0 a)) ? b)");
        check("a -> b -> c", "(a -> (b -> c))");
        check("a // b // c ++ d ++ e", "(a // (b // (c ++ (d ++ e))))");
        check("a <= b && c >= d", "((! (__lessThan b a)) && (! (__lessThan c d)))");
        check("a == b == c", "error: syntax error, unexpected '=='");
        check("a |> f |> g 1", "(g 1 (f a))");
        check("f <| g <| x", "(f (g x))");
    }

    #[test]
    fn tokens() {
        check("a/b", "/base/a/b");
        check("a.b", "(a).b");
        check("[ 1.5 .5 1. 00 a:b x-y z' ]", "[ (1.5) (0.5) (1) (0) (\"a:b\") (x-y) (z') ]");
        check("x: y", "(x: y)");
        check("<a/b>", "(__findFile __nixPath \"a/b\")");
        check("a /b", "(a /base//b)");
        check("~/x", "/home/x");
        check("./a//b", "error: syntax error, unexpected end of path, expecting '${'");
        check("./a/", "error: path has a trailing slash");
        check("f or g", "(f or g)");
        check("./a/${b}c/d", "(/base/./a/ + b + \"c/d\")");
        check("/* x */ 1 # y", "1");
        check("a.b or c", "(a).b or (c)");
        check("1 <2", "(__lessThan 1 2)");
    }

    #[test]
    fn strings() {
        check(r#""a\n$${b}${c}$""#, r#"("a\n$\${b}" + c + "$")"#);
        check("''\n  a\n    b\n  ''", r#""a\n  b\n""#);
        check("''\n  a ${b}\n   c''", r#"("a " + b + "\n c")"#);
        check(r#"''${"b"}''"#, r#""b""#);
        check(r#""${"b"}""#, r#"("b")"#);
        check("''a''$b'''c''\\n''", r#"("a" + "$" + "b" + "''" + "c" + "\n")"#);
        check("\"a\r\nb\"", r#""a\nb""#);
        check("\"abc", "error: syntax error, unexpected end of file, expecting '\"'");
    }

    #[test]
    fn sets() {
        check("{ a.b = 1; a.c = 2; }", "{ a = { b = 1; c = 2; }; }");
        check("{ a = { x = 1; }; a.y = 2; }", "{ a = { x = 1; y = 2; }; }");
        check("{ a = 1; a = 2; }", "error: attribute 'a' already defined at {}");
        check("{ a.b = 1; a = 2; }", "error: attribute 'a' already defined at {}");
        check(
            "{ inherit a; inherit (b) c d; \"${e}\" = 1; }",
            "{ inherit a; inherit (b) c d; \"${(e)}\" = 1; }",
        );
        check("{ x, y ? 1, ... } @ z: x", "({ x, y ? 1, ... } @ z: x)");
        check("{ x, x }: x", "error: duplicate formal function argument 'x'");
        check("let a = 1; in a", "(let a = 1; in a)");
        check("let { body = 1; }", "(rec { body = 1; }).body");
        check("{ }", "{ }");
        check("{ }: 1", "({  }: 1)");
        check("{ ${\"a\"} = 1; }", "{ a = 1; }");
    }

    #[test]
    fn floats() {
        for (value, text) in [
            (1.0, "1"),
            (0.1, "0.1"),
            (1e10, "1e+10"),
            (1234567.0, "1.23457e+06"),
            (1e-5, "1e-05"),
            (123456.0, "123456"),
        ] {
            assert_eq!(format_g6(value), text);
        }
    }
}
