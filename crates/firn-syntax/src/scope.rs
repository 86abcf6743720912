//! Which variables of a tree are not bound in it, found out without making code of it.

use crate::ast::*;
use crate::sym;
use crate::symbol::Sym;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;

/// The variables that neither the tree binds nor a `with` gives, sorted. Nothing where there are paths below the home
/// folder, which is not always known.
pub(crate) fn free_names(ast: &Ast) -> Option<Box<[Sym]>> {
    let mut scopes = Scopes { ast, free: BTreeSet::new(), bound: FxHashMap::default(), withs: 0 };
    scopes.expr(ast.root).then(|| scopes.free.into_iter().collect())
}

/// What is found on the way through a tree. Answers are whether there is no path below the home folder.
struct Scopes<'a> {
    ast: &'a Ast,
    free: BTreeSet<Sym>,
    /// How often each name is bound around the place looked at.
    bound: FxHashMap<Sym, u32>,
    withs: u32,
}

impl Scopes<'_> {
    fn variable(&mut self, name: Sym) -> bool {
        if self.withs == 0 && self.bound.get(&name).is_none_or(|count| *count == 0) {
            self.free.insert(name);
        }
        true
    }

    fn bind(&mut self, names: impl Iterator<Item = Sym>) {
        for name in names {
            *self.bound.entry(name).or_default() += 1;
        }
    }

    fn unbind(&mut self, names: impl Iterator<Item = Sym>) {
        for name in names {
            if let Some(count) = self.bound.get_mut(&name) {
                *count -= 1;
            }
        }
    }

    fn all(&mut self, nodes: &[NodeId]) -> bool {
        nodes.iter().all(|node| self.expr(*node))
    }

    fn path(&mut self, path: Span) -> bool {
        self.ast.names(path).iter().all(|step| match step {
            AttrName::Static(_) => true,
            AttrName::Dynamic(node) => self.expr(*node),
        })
    }

    fn expr(&mut self, id: NodeId) -> bool {
        let ast = self.ast;
        match ast.node(id) {
            Node::Int(_)
            | Node::Float(_)
            | Node::Str(_)
            | Node::Path(_)
            | Node::CurPos
            | Node::InheritFrom(_) => true,
            Node::HomePath(_) => false,
            Node::SearchPath(_) => self.variable(sym!("__findFile")) && self.variable(sym!("__nixPath")),
            Node::Var(name) => self.variable(name),
            Node::Interp { parts: nodes, .. } | Node::List(nodes) => self.all(ast.list(nodes)),
            Node::Attrs(set) | Node::LegacyLet(set) => {
                let set = ast.set(set);
                self.set(set, set.recursive, None)
            }
            Node::Let { bindings, body } => self.set(ast.set(bindings), true, Some(body)),
            Node::With { scope, body } => {
                if !self.expr(scope) {
                    return false;
                }
                self.withs += 1;
                let closed = self.expr(body);
                self.withs -= 1;
                closed
            }
            Node::If { cond, then, otherwise } => self.expr(cond) && self.expr(then) && self.expr(otherwise),
            Node::Assert { cond, body } => self.expr(cond) && self.expr(body),
            Node::Lambda(index) => self.lambda(ast.lambda(index)),
            Node::Call { function, args } => self.expr(function) && self.all(ast.list(args)),
            Node::Select { base, path, default } => {
                self.expr(base) && self.path(path) && default.is_none_or(|default| self.expr(default))
            }
            Node::HasAttr { base, path } => self.expr(base) && self.path(path),
            Node::Binary { left, right, .. } => self.expr(left) && self.expr(right),
            Node::Not(inner) | Node::Negate(inner) => self.expr(inner),
        }
    }

    /// A set or the bindings of a `let` with its body: `inherit x` means the variable outside.
    fn set(&mut self, set: AttrSet<'_>, recursive: bool, body: Option<NodeId>) -> bool {
        let is_outer = |attr: &&AttrDef| attr.kind == AttrKind::Inherited;
        if !set.attrs.iter().filter(is_outer).all(|attr| self.expr(attr.value)) {
            return false;
        }
        let names = || set.attrs.iter().filter(|_| recursive).map(|attr| attr.name);
        self.bind(names());
        let closed = set.attrs.iter().filter(|attr| !is_outer(attr)).all(|attr| self.expr(attr.value))
            && self.all(set.inherit_from)
            && set.dynamic.iter().all(|attr| self.expr(attr.name) && self.expr(attr.value))
            && body.is_none_or(|body| self.expr(body));
        self.unbind(names());
        closed
    }

    fn lambda(&mut self, lambda: Lambda<'_>) -> bool {
        let formals = lambda.formals.as_ref().map_or(&[][..], |formals| formals.formals);
        let names = || formals.iter().map(|formal| formal.name).chain(lambda.arg);
        self.bind(names());
        let closed = formals.iter().filter_map(|formal| formal.default).all(|default| self.expr(default))
            && self.expr(lambda.body);
        self.unbind(names());
        closed
    }
}

#[cfg(test)]
mod tests {
    use crate::parser::{ParseOptions, parse};

    #[track_caller]
    fn check(text: &str, expected: bool) {
        let ast = parse(text.as_bytes(), ParseOptions::default()).expect("parses");
        let closed =
            ast.free_names().is_some_and(|names| names.iter().all(|name| name.as_bytes() == b"global"));
        assert_eq!(closed, expected, "{text}");
    }

    #[test]
    fn closed() {
        for text in [
            "1 + global",
            "x: x",
            "{ a, b ? a, ... } @ c: [ a b c ]",
            "let a = b; b = 1; inherit (a) c; in c",
            "rec { a = b; b = a; }.a",
            "with global; anything.${below} or default",
            "rec { a = 1; \"${a}x\" = \"${a}\"; inherit (a) b; }",
            "let { body = a; a = ./x/${body}; }",
            "x: let inherit x; in !x -> -x",
        ] {
            check(text, true);
        }
    }

    #[test]
    fn free() {
        let ast = parse(b"a: [ a b (with c; d) <e> (let b = 1; in b) b ]", ParseOptions::default())
            .expect("parses");
        let mut names: Vec<_> =
            ast.free_names().expect("known").iter().map(|name| name.to_string()).collect();
        names.sort();
        assert_eq!(names, ["__findFile", "__nixPath", "b", "c"]);
        let home = parse(b"[ ~/x ]", ParseOptions::default()).expect("parses");
        assert_eq!(home.free_names(), None);
    }

    #[test]
    fn open() {
        for text in [
            "x",
            "(x: x) x",
            "{ a, b ? c }: a",
            "let inherit a; in 1",
            "let a = 1; in b",
            "{ a = 1; b = a; }",
            "rec { inherit a; }",
            "[ (with global; x) x ]",
            "with x; 1",
            "<nixpkgs>",
            "~/x",
            "global.${x}",
            "global ? ${x}",
            "\"${x}\"",
            "if global then x else 1",
            "global or y x",
            "{ ${x} = 1; }",
        ] {
            check(text, false);
        }
    }
}
