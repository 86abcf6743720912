//! Code that is made when it is first run. Package sets are files with thousands of attributes of which most programs
//! look at a few: for the others it is enough that the text is well-formed.
//!
//! Only attributes of large sets are left for later, in files in which every variable means something, or below a `with`,
//! where all do. So nothing can be found wrong while code is made, and the file's errors are those that it had before.

use super::lets::Uses;
use super::scope::{Place, Scope as Names};
use super::{CompileContext, Compiler, Frame, Sources, arena, code_bytes};
use crate::error::EvalResult;
use crate::expr::Expr;
use crate::source::Pos;
use firn_syntax::Sym;
use firn_syntax::ast::{Ast, AttrSet, Node, NodeId};
use std::sync::{Arc, OnceLock};

/// From how many attributes on a set is large. Tests meet more of them.
const LARGE: usize = if cfg!(debug_assertions) { 2 } else { 32 };
/// How many names may be bound around it: each attribute's code takes them up again.
const MAX_NAMES: usize = 64;

/// An expression of which there is no code yet.
pub struct Deferred {
    scope: &'static Scope,
    node: NodeId,
    code: OnceLock<Expr>,
}

/// What surrounds the attributes of a set.
struct Scope {
    ast: Arc<Ast>,
    globals: Arc<super::Globals>,
    base: Pos,
    dir: Box<[u8]>,
    home: Box<[u8]>,
    pure_eval: bool,
    /// The innermost binding of each name.
    bindings: Vec<(Sym, Place)>,
    withs: Vec<(u32, u32, Pos)>,
    sources: Vec<Sources>,
    frames: usize,
}

impl Deferred {
    /// The code, made at the first call.
    #[inline]
    pub(crate) fn code(&'static self) -> EvalResult<&'static Expr> {
        match self.code.get() {
            Some(code) => Ok(code),
            None => self.make(),
        }
    }

    #[cold]
    fn make(&'static self) -> EvalResult<&'static Expr> {
        let scope = self.scope;
        let context = CompileContext {
            globals: &scope.globals,
            base: scope.base,
            dir: &scope.dir,
            home: &scope.home,
            pure_eval: scope.pure_eval,
            watch_calls: false,
            debugger: false,
            scope: &[],
            outer: None,
        };
        let arena = arena(0);
        let before = code_bytes(arena);
        let mut bindings = Names::new();
        for (name, place) in &scope.bindings {
            bindings.bind(*name, *place);
        }
        let mut compiler = Compiler {
            ast: &scope.ast,
            context: &context,
            arena,
            bindings,
            frames: (0..scope.frames).map(|_| Frame { next: 0, size: 0 }).collect(),
            withs: scope.withs.clone(),
            sources: scope.sources.clone(),
            lets: Vec::new(),
            names: None,
            group: 0,
            defers: None,
            closed: false,
        };
        let code = compiler.expr(self.node, false)?;
        crate::value::note_code(code_bytes(arena).saturating_sub(before));
        // Another thread may have made the same at the same time.
        Ok(self.code.get_or_init(|| code))
    }
}

/// What is left for later in a set.
pub(super) struct Later {
    scope: &'static Scope,
}

impl<'a> Compiler<'a> {
    /// What attributes of `set` need to be left for later, if they may be; to be asked when their names are bound.
    pub(super) fn later(&mut self, set: &AttrSet<'_>) -> Option<Later> {
        if set.attrs.len() < LARGE || self.withs.is_empty() && !self.closed {
            return None;
        }
        let ast = Arc::clone(self.defers?);
        let bindings: Vec<_> = self.bindings.names().take(MAX_NAMES + 1).collect();
        if bindings.len() > MAX_NAMES {
            return None;
        }
        // Outlived by nothing, as code is.
        let scope: &'static Scope = Box::leak(Box::new(Scope {
            ast,
            globals: Arc::clone(self.context.globals),
            base: self.context.base,
            dir: self.context.dir.into(),
            home: self.context.home.into(),
            pure_eval: self.context.pure_eval,
            bindings,
            withs: self.withs.clone(),
            sources: self.sources.clone(),
            frames: self.frames.len(),
        }));
        Some(Later { scope })
    }

    /// The value of an attribute. Only what is suspended in any case is left for later.
    pub(super) fn attribute(&mut self, node: NodeId, later: Option<&Later>) -> EvalResult<Expr> {
        match (later, self.ast.node(node)) {
            (Some(later), Node::Call { .. } | Node::Attrs(_)) => {
                // What it refers to is not known yet.
                self.lets.iter().for_each(Uses::note_all);
                Ok(Expr::Deferred(self.alloc(Deferred { scope: later.scope, node, code: OnceLock::new() })))
            }
            _ => self.expr(node, false),
        }
    }
}

/// Whether code of this tree may be left for later: what is watched is marked when it is made, and pure evaluation
/// refuses paths below the home folder.
pub(super) fn may_wait(ast: &Ast, context: &CompileContext<'_>) -> bool {
    !context.watch_calls
        && !context.debugger
        && ast.sets().any(|set| set.attrs.len() >= LARGE)
        && (!context.pure_eval || ast.free_names().is_some())
}

/// Whether all variables of the tree are bound.
pub(super) fn is_closed(ast: &Ast, context: &CompileContext<'_>) -> bool {
    let is_bound = |name: &Sym| context.scope.contains(name) || context.globals.names.contains_key(name);
    context.outer.is_none() && ast.free_names().is_some_and(|names| names.iter().all(is_bound))
}
