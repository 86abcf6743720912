//! What code keeps only where evaluation is watched: names in scope, and marks around what is watched.

use super::{Compiler, Frame, Outer};
use crate::debug::ScopeName;
use crate::eval::takes_all;
use crate::expr::{BuiltinCall, CallExpr, Expr, PrimOp};
use crate::source::Pos;
use crate::value::Fun;
use crate::watch::{Watched, WatchedKind};
use firn_syntax::Sym;

impl Compiler<'_> {
    pub(super) fn call(&self, call: CallExpr) -> Expr {
        let pos = call.pos;
        let call = self.alloc(call);
        if self.context.watch_calls || self.context.debugger {
            return self.watched(Expr::Call(call), WatchedKind::Call(call), pos);
        }
        match named_builtin(&call.function) {
            Some(primop) if takes_all(primop, call) => {
                Expr::Builtin(self.alloc(BuiltinCall { primop, call }))
            }
            _ => Expr::Call(call),
        }
    }

    pub(super) fn watched(&self, expr: Expr, kind: WatchedKind, pos: Pos) -> Expr {
        Expr::Watched(self.alloc(Watched { expr, kind, pos, scope: self.names, level: self.level() }))
    }

    /// Keeps a name (or a `with`) that has just come into scope.
    pub(super) fn remember(&mut self, name: Option<Sym>, slot: u32) {
        let (level, group, outer) = (self.level(), self.group, self.names);
        self.names = Some(self.alloc(ScopeName { name, level, slot, group, outer }));
    }

    /// The innermost name is out of scope.
    pub(super) fn forget(&mut self) {
        self.names = self.names.and_then(|name| name.outer);
    }

    /// Starts inside of other code.
    pub(super) fn enter_outer(&mut self, outer: Outer) {
        self.frames.extend((0..outer.level).map(|_| Frame { next: 0, size: 0 }));
        let mut chain = Vec::new();
        let mut next = outer.names;
        while let Some(name) = next {
            chain.push(name);
            next = name.outer;
        }
        for name in chain.into_iter().rev() {
            match name.name {
                Some(sym) => self.bindings.bind(sym, (name.level, name.slot)),
                None => self.withs.push((name.level, name.slot, Pos::NONE)),
            }
        }
        self.names = outer.names;
        self.frames.push(Frame { next: 0, size: 0 });
    }
}

/// The builtin that the text names as what is called.
fn named_builtin(function: &Expr) -> Option<&'static PrimOp> {
    let Expr::Const(value) = function else { return None };
    match value.as_fun()? {
        Fun::PrimOp(primop) => Some(primop),
        _ => None,
    }
}
