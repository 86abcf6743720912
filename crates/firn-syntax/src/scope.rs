//! Whether all variables of a tree are bound, found out without making code of it.

use crate::ast::*;
use crate::sym;
use crate::symbol::Sym;
use rustc_hash::FxHashMap;

/// Whether surely every variable of the tree is bound in it, given by a `with`, or a global. Says no as well where a
/// literal needs a closer look; which variable it is, and what else may be wrong, is for the compiler to tell.
pub fn is_closed(ast: &Ast, is_global: &dyn Fn(Sym) -> bool) -> bool {
    Scopes { ast, is_global, bound: FxHashMap::default(), withs: 0 }.expr(ast.root)
}

struct Scopes<'a> {
    ast: &'a Ast,
    is_global: &'a dyn Fn(Sym) -> bool,
    /// How often each name is bound around the place looked at.
    bound: FxHashMap<Sym, u32>,
    withs: u32,
}

impl Scopes<'_> {
    fn variable(&self, name: Sym) -> bool {
        self.withs > 0 || self.bound.get(&name).is_some_and(|count| *count > 0) || (self.is_global)(name)
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
            // Pure evaluation knows no home.
            Node::HomePath(_) => false,
            Node::SearchPath(_) => self.variable(sym!("__findFile")) && self.variable(sym!("__nixPath")),
            Node::Var(name) => self.variable(name),
            Node::Interp { parts: nodes, .. } | Node::List(nodes) => self.all(ast.list(nodes)),
            Node::Attrs(set) | Node::LegacyLet(set) => {
                let set = &ast.attrsets[set as usize];
                self.set(set, set.recursive, None)
            }
            Node::Let { bindings, body } => self.set(&ast.attrsets[bindings as usize], true, Some(body)),
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
            Node::Lambda(index) => self.lambda(&ast.lambdas[index as usize]),
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
    fn set(&mut self, set: &AttrSet, recursive: bool, body: Option<NodeId>) -> bool {
        let is_outer = |attr: &&AttrDef| attr.kind == AttrKind::Inherited;
        if !set.attrs.iter().filter(is_outer).all(|attr| self.expr(attr.value)) {
            return false;
        }
        let names = || set.attrs.iter().filter(|_| recursive).map(|attr| attr.name);
        self.bind(names());
        let closed = set.attrs.iter().filter(|attr| !is_outer(attr)).all(|attr| self.expr(attr.value))
            && self.all(&set.inherit_from)
            && set.dynamic.iter().all(|attr| self.expr(attr.name) && self.expr(attr.value))
            && body.is_none_or(|body| self.expr(body));
        self.unbind(names());
        closed
    }

    fn lambda(&mut self, lambda: &Lambda) -> bool {
        let formals = lambda.formals.as_ref().map_or(&[][..], |formals| &formals.formals);
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
    use super::*;
    use crate::parser::{ParseOptions, parse};

    #[track_caller]
    fn check(text: &str, expected: bool) {
        let ast = parse(text.as_bytes(), ParseOptions::default()).expect("parses");
        assert_eq!(is_closed(&ast, &|name| name.as_bytes() == b"global"), expected, "{text}");
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
