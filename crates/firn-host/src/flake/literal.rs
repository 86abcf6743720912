//! What can be read off a `flake.nix` without evaluating it: literals, sets and lists of them, and functions.

use firn_syntax::ast::{Ast, AttrKind, Node, NodeId, Offset};

/// What an expression is, as far as it is written out.
pub(super) enum Literal<'a> {
    Str(&'a [u8]),
    /// A path as written.
    Path(&'a [u8]),
    Int(i64),
    Float,
    Bool(bool),
    Null,
    Attrs(Vec<Attribute<'a>>),
    List(Vec<Literal<'a>>),
    /// A function, with the names of its formal arguments.
    Function(Option<Vec<&'a [u8]>>),
    /// Something that would have to be evaluated.
    Thunk,
}

pub(super) struct Attribute<'a> {
    pub name: &'a [u8],
    pub at: Offset,
    pub value: Literal<'a>,
}

impl Literal<'_> {
    /// The kind, as messages name it.
    pub fn phrase(&self) -> &'static str {
        match self {
            Literal::Str(_) => "a string",
            Literal::Path(_) => "a path",
            Literal::Int(_) => "an integer",
            Literal::Float => "a float",
            Literal::Bool(_) => "a Boolean",
            Literal::Null => "null",
            Literal::Attrs(_) => "a set",
            Literal::List(_) => "a list",
            Literal::Function(_) => "a function",
            Literal::Thunk => "a thunk",
        }
    }
}

/// How deep sets and lists are looked into.
const MOST_DEEP: usize = 200;

/// The attributes of a set; nothing if some of their names are computed.
pub(super) fn attributes<'a>(ast: &'a Ast, set: u32, depth: usize) -> Option<Vec<Attribute<'a>>> {
    let set = ast.set(set);
    if !set.dynamic.is_empty() {
        return None;
    }
    let own: Vec<&[u8]> = match set.recursive {
        true => set.attrs.iter().map(|attr| attr.name.as_bytes()).collect(),
        false => Vec::new(),
    };
    let read = |attr: &'a firn_syntax::ast::AttrDef| {
        let value = match (attr.kind, ast.node(attr.value)) {
            // In a recursive set the names are its own.
            (AttrKind::Plain, Node::Var(name)) if own.contains(&name.as_bytes()) => Literal::Thunk,
            (AttrKind::InheritedFrom(_), _) => Literal::Thunk,
            _ => literal(ast, attr.value, depth + 1),
        };
        Attribute { name: attr.name.as_bytes(), at: attr.pos, value }
    };
    let mut attributes: Vec<_> = set.attrs.iter().map(read).collect();
    attributes.sort_by_key(|attribute| attribute.name);
    Some(attributes)
}

/// What an expression is without being evaluated.
pub(super) fn literal(ast: &Ast, node: NodeId, depth: usize) -> Literal<'_> {
    if depth > MOST_DEEP {
        return Literal::Thunk;
    }
    match ast.node(node) {
        Node::Int(number) => Literal::Int(number),
        Node::Float(_) => Literal::Float,
        Node::Str(span) => Literal::Str(ast.bytes(span)),
        Node::Path(span) => Literal::Path(ast.bytes(span)),
        Node::Var(name) => match name.as_bytes() {
            b"true" => Literal::Bool(true),
            b"false" => Literal::Bool(false),
            b"null" => Literal::Null,
            _ => Literal::Thunk,
        },
        // A minus before a number is an operation, so that it has to be evaluated.
        Node::Attrs(set) => attributes(ast, set, depth).map_or(Literal::Thunk, Literal::Attrs),
        Node::List(items) => {
            Literal::List(ast.list(items).iter().map(|item| literal(ast, *item, depth + 1)).collect())
        }
        Node::Lambda(index) => {
            let formals = ast.lambda(index).formals;
            let names = formals.map(|formals| {
                formals.formals.iter().map(|formal| formal.name.as_bytes()).collect::<Vec<_>>()
            });
            Literal::Function(names)
        }
        _ => Literal::Thunk,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firn_syntax::{ParseOptions, parse};

    fn show(value: &Literal<'_>) -> String {
        let lossy = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
        match value {
            Literal::Str(text) => format!("{:?}", lossy(text)),
            Literal::Path(text) => lossy(text),
            Literal::Int(number) => number.to_string(),
            Literal::Bool(flag) => flag.to_string(),
            Literal::Attrs(attributes) => {
                let all = attributes.iter().map(|attr| format!("{}={}", lossy(attr.name), show(&attr.value)));
                format!("{{{}}}", all.collect::<Vec<_>>().join(" "))
            }
            Literal::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
            Literal::Function(None) => "function".to_owned(),
            Literal::Function(Some(names)) => {
                format!("function of {}", names.iter().map(|name| lossy(name)).collect::<Vec<_>>().join(" "))
            }
            other => other.phrase().to_owned(),
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let ast = parse(text.as_bytes(), ParseOptions::default()).expect(text);
        assert_eq!(show(&literal(&ast, ast.root, 0)), expected, "{text}");
    }

    #[test]
    fn what_is_written_out() {
        check("{ b = 1; a = \"x\"; c = ./y; }", "{a=\"x\" b=1 c=./y}");
        check(
            "{ inputs.a.url = \"u\"; inputs.b.flake = false; }",
            "{inputs={a={url=\"u\"} b={flake=false}}}",
        );
        check("{ l = [ \"x\" 1 (y) ]; n = null; }", "{l=[\"x\" 1 a thunk] n=null}");
        check(
            "{ f = { self, nixpkgs ? 1, ... }: self; g = x: x; }",
            "{f=function of self nixpkgs g=function}",
        );
        check("{ a = 1.5; b = -1; }", "{a=a float b=a thunk}");
    }

    #[test]
    fn what_would_have_to_be_evaluated() {
        check(
            "{ a = \"${b}\"; c = \"x\" + \"y\"; d = if true then 1 else 2; }",
            "{a=a thunk c=a thunk d=a thunk}",
        );
        check(
            "{ a = let x = 1; in x; b = (x: x) 1; c = builtins.nixVersion; }",
            "{a=a thunk b=a thunk c=a thunk}",
        );
        check("rec { true = false; a = true; }", "{a=a thunk true=false}");
        check("{ inherit (x) a; b = with x; y; c = { } // { }; }", "{a=a thunk b=a thunk c=a thunk}");
        check("{ ${\"a\" + \"b\"} = 1; }", "a thunk");
        check("{ x = { ${\"a\" + \"b\"} = 1; }; }", "{x=a thunk}");
    }

    #[test]
    fn deep() {
        // As deep as the parser goes, it needs the stack that evaluation has.
        firn_eval::with_large_stack(|| {
            let text = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
            let ast = parse(text.as_bytes(), ParseOptions::default()).expect("brackets");
            assert!(show(&literal(&ast, ast.root, 0)).contains("a thunk"));
        });
    }
}
