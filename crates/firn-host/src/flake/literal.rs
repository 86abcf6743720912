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
    let set = &ast.attrsets[set as usize];
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
            let formals = ast.lambdas[index as usize].formals.as_ref();
            let names = formals.map(|formals| {
                formals.formals.iter().map(|formal| formal.name.as_bytes()).collect::<Vec<_>>()
            });
            Literal::Function(names)
        }
        _ => Literal::Thunk,
    }
}
