//! From trees to code: variables are resolved to frames and slots, constants are folded, and undefined variables
//! are found.
//!
//! `let` and `with` in the body of a function live in the function's own frame: code of a frame runs at most once
//! for each of its activations, so their slots are never bound twice.

mod later;
mod lets;
mod needs;
mod scope;
mod watch;

pub use later::Deferred;

use crate::debug::ScopeName;
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::expr::*;
use crate::shape::Shape;
use crate::source::{self, Origin, Pos};
use crate::value::{Attrs, FixedPositions, FrameSize, PlaceCache, Positions, ScopeCache, Value, ValueVec};
use crate::watch::WatchedKind;
use bumpalo::Bump;
use firn_syntax::ast::{self, Ast, AttrKind, AttrName, BinOp, InterpKind, Node, NodeId};
use firn_syntax::{Sym, sym};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Names that are always in scope.
#[derive(Default, Clone)]
pub(crate) struct Globals {
    pub(crate) names: FxHashMap<Sym, Value>,
    /// The `builtins` set, to fold `builtins.x`.
    pub(crate) builtins: Option<crate::value::Attrs>,
}

/// What paths and names of a text are relative to.
pub(crate) struct CompileContext<'a> {
    pub(crate) globals: &'a Arc<Globals>,
    /// Position of the text's first byte.
    pub(crate) base: Pos,
    /// Directory that relative paths start from.
    pub(crate) dir: &'a [u8],
    pub(crate) home: &'a [u8],
    pub(crate) pure_eval: bool,
    /// Calls are watched, those behind operators too.
    pub(crate) watch_calls: bool,
    /// Names and places are kept for the debugger.
    pub(crate) debugger: bool,
    /// Names in the first slots of the outermost frame (`scopedImport`, the REPL).
    pub(crate) scope: &'a [Sym],
    /// The code that this is inside of.
    pub(crate) outer: Option<Outer>,
}

/// A place in code that runs: the names in scope and the number of frames.
#[derive(Clone, Copy)]
pub(crate) struct Outer {
    pub(crate) names: Option<&'static ScopeName>,
    pub(crate) level: u32,
}

/// Compiles a parsed text.
pub(crate) fn compile(ast: &Arc<Ast>, context: &CompileContext<'_>) -> EvalResult<&'static Code> {
    let defers = later::may_wait(ast, context).then_some(ast);
    let closed = defers.is_some() && later::is_closed(ast, context);
    let arena = arena(if closed { 0 } else { ast.len() * 64 });
    let before = code_bytes(arena);
    let mut compiler = Compiler {
        ast,
        context,
        arena,
        bindings: scope::Scope::new(),
        frames: vec![Frame { next: 0, size: 0 }],
        withs: Vec::new(),
        sources: Vec::new(),
        lets: Vec::new(),
        names: None,
        group: 0,
        defers,
        closed,
    };
    if let Some(outer) = context.outer {
        compiler.enter_outer(outer);
    }
    for (i, name) in context.scope.iter().enumerate() {
        compiler.bind(*name, i as u32);
    }
    compiler.reserve(context.scope.len() as u32);
    let body = compiler.expr(ast.root, true)?;
    let body = match context.base.origin() {
        Some(Origin::Path(_)) if context.debugger => {
            compiler.watched(body, WatchedKind::File, compiler.pos_of(ast.root))
        }
        _ => body,
    };
    let frame_size = compiler.close_frame();
    crate::value::note_code(code_bytes(arena).saturating_sub(before));
    Ok(arena.alloc(Code { body, frame_size }))
}

thread_local! {
    static ARENA: Cell<Option<&'static Bump>> = const { Cell::new(None) };
}

/// Memory for code: one arena for many files, a new one when less than about `needed` bytes are left.
fn arena(needed: usize) -> &'static Bump {
    match ARENA.get() {
        Some(arena) if arena.chunk_capacity() >= needed => arena,
        last => {
            // Small for a single expression, large for package sets.
            let size = if last.is_none() { 64 << 10 } else { 1 << 20 };
            let arena: &'static Bump = Box::leak(Box::new(Bump::with_capacity(size.max(needed))));
            ARENA.set(Some(arena));
            arena
        }
    }
}

/// Bytes in use of an arena.
fn code_bytes(arena: &Bump) -> usize {
    arena.allocated_bytes() - arena.chunk_capacity()
}

struct Frame {
    /// First slot not in use.
    next: u32,
    /// Slots that were ever in use.
    size: u32,
}

/// Where the attributes of a set or a `let` come from that are inherited from sets.
#[derive(Clone)]
struct Sources {
    /// Where the first source is; the others follow.
    frame: u32,
    first: u32,
    /// Those that are variables, which are asked themselves.
    variables: SmallVec<[Option<NodeId>; 4]>,
}

struct Compiler<'a> {
    ast: &'a Ast,
    context: &'a CompileContext<'a>,
    arena: &'static Bump,
    bindings: scope::Scope,
    frames: Vec<Frame>,
    /// (frame, slot) of the `with` sets in scope, outermost first, and where each is written.
    withs: Vec<(u32, u32, Pos)>,
    /// For each set being compiled, its `inherit (e)` sources.
    sources: Vec<Sources>,
    /// The `let`s whose values are being compiled, outermost first.
    lets: Vec<lets::Uses>,
    /// Names in scope, for the debugger.
    names: Option<&'static ScopeName>,
    group: u32,
    /// The tree, where code may be left for later.
    defers: Option<&'a Arc<Ast>>,
    /// With that, everywhere: all its variables are bound.
    closed: bool,
}

impl Compiler<'_> {
    fn pos(&self, offset: u32) -> Pos {
        source::at(self.context.base, offset)
    }

    fn pos_of(&self, node: NodeId) -> Pos {
        self.pos(self.ast.pos(node))
    }

    /// The place that messages about an operand name: literals and some operators have none in the reference.
    fn place(&self, node: NodeId) -> Pos {
        match self.ast.node(node) {
            Node::Int(_)
            | Node::Float(_)
            | Node::Str(_)
            | Node::Path(_)
            | Node::HomePath(_)
            | Node::Let { .. }
            | Node::LegacyLet(_)
            | Node::Binary { op: BinOp::Eq | BinOp::Neq, .. } => Pos::NONE,
            Node::List(items) => self.ast.list(items).first().map_or(Pos::NONE, |n| self.place(*n)),
            Node::HasAttr { base, .. } => self.place(base),
            Node::Not(inner) => self.place(inner),
            _ => self.pos_of(node),
        }
    }

    fn alloc<T>(&self, value: T) -> &'static T {
        self.arena.alloc(value)
    }

    fn slice<T>(&self, values: Vec<T>) -> &'static [T] {
        self.arena.alloc_slice_fill_iter(values)
    }

    // ---- scopes ---------------------------------------------------------------------------------------

    fn level(&self) -> u32 {
        self.frames.len() as u32 - 1
    }

    /// Takes `count` slots of the current frame.
    fn reserve(&mut self, count: u32) -> u32 {
        let Some(frame) = self.frames.last_mut() else { return 0 };
        let first = frame.next;
        frame.next += count;
        frame.size = frame.size.max(frame.next);
        first
    }

    fn bind(&mut self, name: Sym, slot: u32) {
        let level = self.level();
        self.bindings.bind(name, (level, slot));
        if self.context.debugger {
            self.remember(Some(name), slot);
        }
    }

    fn unbind(&mut self, name: Sym) {
        self.bindings.unbind(name);
        self.forget();
    }

    fn open_frame(&mut self) {
        self.frames.push(Frame { next: 0, size: 0 });
    }

    fn close_frame(&mut self) -> u32 {
        self.frames.pop().map_or(0, |f| f.size)
    }

    fn slot_expr(&self, (frame, slot): (u32, u32), pos: Pos) -> Expr {
        self.lets.iter().for_each(|uses| uses.note(frame, slot));
        match self.level() - frame {
            0 => Expr::Local { slot, pos },
            depth => Expr::Outer { depth, slot, pos },
        }
    }

    fn variable(&self, name: Sym, pos: Pos) -> EvalResult<Expr> {
        if let Some(place) = self.bindings.get(name) {
            return Ok(self.slot_expr(place, pos));
        }
        if let Some(value) = self.context.globals.names.get(&name) {
            return Ok(Expr::Const(*value));
        }
        if self.withs.is_empty() {
            return Err(EvalError::at(
                ErrorKind::UndefinedVariable,
                pos,
                format!("undefined variable '{}'", name.shown()),
            ));
        }
        let level = self.level();
        let scopes = self.withs.iter().rev();
        let scopes = scopes
            .map(|(frame, slot, pos)| WithScope {
                depth: level - frame,
                slot: *slot,
                pos: *pos,
                cache: PlaceCache::new(),
            })
            .collect();
        let (scopes, found) = (self.slice(scopes), ScopeCache::new());
        let innermost = match scopes {
            [first, _, ..] => Some(first.depth),
            _ => None,
        };
        Ok(Expr::WithVar(self.alloc(WithVar { found, innermost, name, pos, scopes })))
    }

    /// Whether a name means the global of that name here.
    fn is_global(&self, name: Sym) -> bool {
        self.bindings.get(name).is_none()
    }

    // ---- expressions ----------------------------------------------------------------------------------

    /// `tail`: the expression is run directly when its frame is, so that it may take slots of the frame.
    fn expr(&mut self, id: NodeId, tail: bool) -> EvalResult<Expr> {
        let ast = self.ast;
        let pos = self.pos_of(id);
        Ok(match ast.node(id) {
            Node::Int(n) => Expr::Const(Value::int(n).keep()),
            Node::Float(f) => Expr::Const(Value::float(f).keep()),
            Node::Str(text) => Expr::Const(Value::str(ast.bytes(text)).keep()),
            Node::Path(text) => Expr::Const(Value::path(&self.absolute(ast.bytes(text))).keep()),
            Node::HomePath(text) => {
                let text = ast.bytes(text);
                if self.context.pure_eval {
                    return Err(EvalError::new(
                        ErrorKind::Eval,
                        format!(
                            "the path '{}' can not be resolved in pure mode",
                            String::from_utf8_lossy(text)
                        ),
                    ));
                }
                let path = [self.context.home, &text[1..]].concat();
                Expr::Const(Value::path(&keep_slash(&path, crate::coerce::canonical(&path))).keep())
            }
            Node::SearchPath(text) => {
                let function = self.variable(sym!("__findFile"), pos)?;
                let path = self.variable(sym!("__nixPath"), pos)?;
                let name = Expr::Const(Value::str(ast.bytes(text)).keep());
                let args = self.slice(vec![path, name]);
                self.call(CallExpr { function, args, pos })
            }
            Node::Var(name) => self.variable(name, pos)?,
            Node::CurPos => Expr::CurPos(pos),
            Node::Interp { kind, parts } => {
                let places = ast.list_positions(parts);
                let parts = ast
                    .list(parts)
                    .iter()
                    .zip(places)
                    .map(|(p, at)| Ok((self.expr(*p, false)?, self.pos(*at))))
                    .collect::<EvalResult<Vec<_>>>()?;
                let kind = match kind {
                    InterpKind::String => ConcatKind::String,
                    InterpKind::Path => ConcatKind::Path,
                };
                Expr::Concat(self.alloc(ConcatExpr { kind, parts: self.slice(parts), pos }))
            }
            Node::List(items) => {
                let items = self.exprs(ast.list(items))?;
                match constants(items) {
                    _ if items.is_empty() => Expr::Const(Value::EMPTY_LIST),
                    Some(values) => Expr::Shared(values.to_list().keep()),
                    None => Expr::List(items),
                }
            }
            Node::Attrs(set) => self.set(ast.set(set), pos)?,
            Node::LegacyLet(set) => {
                let base = self.set(ast.set(set), pos)?;
                let path = self.slice(vec![Step::Static { name: sym!("body"), cache: PlaceCache::new() }]);
                Expr::Select(self.alloc(Select::new(base, path, None, Pos::NONE)))
            }
            Node::Let { bindings, body } => self.let_in(ast.set(bindings), body, tail)?,
            Node::With { scope, body } => {
                let scope = self.expr(scope, false)?;
                if !tail {
                    self.open_frame();
                }
                let slot = self.reserve(1);
                self.withs.push((self.level(), slot, pos));
                if self.context.debugger {
                    self.group += 1;
                    self.remember(None, slot);
                }
                let body = self.expr(body, true);
                self.forget();
                self.withs.pop();
                let frame = (!tail).then(|| self.close_frame());
                Expr::With(self.alloc(WithExpr { frame, slot, scope, body: body?, pos }))
            }
            Node::If { cond, then, otherwise } => {
                let cond = self.expr(cond, false)?;
                let start = self.frames.last().map_or(0, |f| f.next);
                let then = self.expr(then, tail)?;
                // Only one branch runs, so both may use the same slots.
                if let (true, Some(frame)) = (tail, self.frames.last_mut()) {
                    frame.next = start;
                }
                let otherwise = self.expr(otherwise, tail)?;
                Expr::If(self.alloc(IfExpr { cond, then, otherwise, pos }))
            }
            Node::Assert { cond, body } => {
                let cond = self.expr(cond, false)?;
                let body = self.expr(body, tail)?;
                Expr::Assert(self.alloc(AssertExpr { cond, body, pos }))
            }
            Node::Lambda(index) => self.lambda(index, pos)?,
            Node::Call { function, args } => {
                let function = match self.builtin_of(function) {
                    Some(builtin) => Expr::Const(builtin),
                    None => self.expr(function, false)?,
                };
                let args = self.exprs(ast.list(args))?;
                self.call(CallExpr { function, args, pos })
            }
            Node::Select { base, path, default } => self.select(base, path, default, pos)?,
            Node::HasAttr { base, path } => {
                let pos = self.place(base);
                let base = self.expr(base, false)?;
                let path = self.path(ast.names(path))?;
                Expr::HasAttr(self.alloc(HasAttr::new(base, path, pos)))
            }
            Node::Not(inner) => {
                let at = self.place(inner);
                let inner = self.expr(inner, false)?;
                Expr::Not(self.alloc((inner, at)))
            }
            Node::Negate(inner) => {
                let right = self.expr(inner, false)?;
                let zero = Expr::Const(Value::int(0).keep());
                self.arithmetic(Op::Sub, "__sub", zero, right, pos)?
            }
            Node::Binary { op, left, right } => self.binary(id, op, left, right)?,
            Node::InheritFrom(n) => {
                let Some(sources) = self.sources.last() else {
                    return Err(EvalError::at(ErrorKind::Eval, pos, "inherit source outside of a set"));
                };
                match sources.variables.get(n as usize).copied().flatten() {
                    Some(variable) => self.expr(variable, false)?,
                    None => self.slot_expr((sources.frame, sources.first + n), pos),
                }
            }
        })
    }

    fn exprs(&mut self, nodes: &[NodeId]) -> EvalResult<&'static [Expr]> {
        let list = nodes.iter().map(|n| self.expr(*n, false)).collect::<EvalResult<Vec<_>>>()?;
        Ok(self.slice(list))
    }

    fn absolute(&self, literal: &[u8]) -> Vec<u8> {
        let dir = if literal.first() == Some(&b'/') { b"/" } else { self.context.dir };
        keep_slash(literal, crate::coerce::canonical_below(dir, literal))
    }

    fn path(&mut self, names: &[AttrName]) -> EvalResult<&'static [Step]> {
        let steps = names
            .iter()
            .map(|name| {
                Ok(match name {
                    AttrName::Static(name) => Step::Static { name: *name, cache: PlaceCache::new() },
                    AttrName::Dynamic(node) => Step::Dynamic((self.expr(*node, false)?, self.place(*node))),
                })
            })
            .collect::<EvalResult<Vec<_>>>()?;
        Ok(self.slice(steps))
    }

    /// `builtins.x`, where a function is called: it is known now, unless somebody rebinds `builtins`. Anywhere else it
    /// is suspended like other selections, which shows: functions are compared by where they stand.
    fn builtin_of(&self, function: NodeId) -> Option<Value> {
        let Node::Select { base, path, default: None } = self.ast.node(function) else { return None };
        let Node::Var(base) = self.ast.node(base) else { return None };
        let [AttrName::Static(name)] = self.ast.names(path) else { return None };
        if base.as_bytes() != b"builtins" || !self.is_global(base) {
            return None;
        }
        self.context.globals.builtins?.find(*name).filter(|value| !value.is_thunk())
    }

    fn select(
        &mut self,
        base: NodeId,
        path: ast::Span,
        default: Option<NodeId>,
        pos: Pos,
    ) -> EvalResult<Expr> {
        let names = self.ast.names(path);
        let base = self.expr(base, false)?;
        let path = self.path(names)?;
        let default = default.map(|d| self.expr(d, false)).transpose()?;
        let select = self.alloc(Select::new(base, path, default, pos));
        let expr = if default.is_some() { Expr::SelectOr(select) } else { Expr::Select(select) };
        Ok(match self.context.debugger {
            true => self.watched(expr, WatchedKind::Select(select), pos),
            false => expr,
        })
    }

    fn binary(&mut self, id: NodeId, op: BinOp, left: NodeId, right: NodeId) -> EvalResult<Expr> {
        let mut pos = self.pos_of(id);
        if op == BinOp::Add {
            let (from, to) = self.ast.operands_of(id);
            let parts =
                vec![(self.expr(left, false)?, self.pos(from)), (self.expr(right, false)?, self.pos(to))];
            let parts = self.slice(parts);
            return Ok(Expr::Concat(self.alloc(ConcatExpr { kind: ConcatKind::Add, parts, pos })));
        }
        let places = match op {
            BinOp::Update => (self.place(left), self.place(right)),
            _ => (Pos::NONE, Pos::NONE),
        };
        // As in the reference, a test of equality has no place.
        if matches!(op, BinOp::Eq | BinOp::Neq) {
            pos = Pos::NONE;
        }
        let (left, right) = (self.expr(left, false)?, self.expr(right, false)?);
        let plain = match op {
            BinOp::Eq => Op::Eq,
            BinOp::Neq => Op::Neq,
            BinOp::And => Op::And,
            BinOp::Or => Op::Or,
            BinOp::Impl => Op::Impl,
            BinOp::Update => Op::Update,
            BinOp::Concat => Op::ListConcat,
            BinOp::Sub => return self.arithmetic(Op::Sub, "__sub", left, right, pos),
            BinOp::Mul => return self.arithmetic(Op::Mul, "__mul", left, right, pos),
            BinOp::Div => return self.arithmetic(Op::Div, "__div", left, right, pos),
            BinOp::Less => return self.arithmetic(Op::Less, "__lessThan", left, right, pos),
            BinOp::Greater => return self.arithmetic(Op::Greater, "__lessThan", left, right, pos),
            BinOp::LessEq => return self.arithmetic(Op::LessEq, "__lessThan", left, right, pos),
            BinOp::GreaterEq => return self.arithmetic(Op::GreaterEq, "__lessThan", left, right, pos),
            BinOp::Add => Op::Eq,
        };
        Ok(Expr::Binary(plain, self.alloc(BinaryExpr::new(left, right, pos, places))))
    }

    /// Operators that the language defines as calls: native unless the function's name is rebound.
    fn arithmetic(
        &mut self,
        op: Op,
        function: &'static str,
        left: Expr,
        right: Expr,
        pos: Pos,
    ) -> EvalResult<Expr> {
        let name = Sym::from_static(function);
        if self.is_global(name) && !self.context.watch_calls {
            let operands = BinaryExpr::new(left, right, pos, (Pos::NONE, Pos::NONE));
            return Ok(Expr::Binary(op, self.alloc(operands)));
        }
        let function = self.variable(name, pos)?;
        let args = match op {
            Op::Greater | Op::LessEq => vec![right, left],
            _ => vec![left, right],
        };
        let call = self.call(CallExpr { function, args: self.slice(args), pos });
        Ok(match op {
            Op::LessEq | Op::GreaterEq => Expr::Not(self.alloc((call, pos))),
            _ => call,
        })
    }

    fn lambda(&mut self, index: u32, mut pos: Pos) -> EvalResult<Expr> {
        let ast = self.ast;
        let mut lambda = ast.lambda(index);
        self.open_frame();
        self.group += 1;
        let mut bound = Vec::new();
        let mut formals = None;
        // A function that only makes a function is one of more arguments.
        let mut params = Vec::new();
        let merge = !self.context.watch_calls && !self.context.debugger;
        while let (true, None, Some(arg), Node::Lambda(inner)) =
            (merge, &lambda.formals, lambda.arg, ast.node(lambda.body))
        {
            let slot = self.reserve(1);
            self.bind(arg, slot);
            bound.push(arg);
            params.push(Param { name: lambda.name, pos, arg });
            pos = self.pos_of(lambda.body);
            lambda = ast.lambda(inner);
        }
        let first = params.len() as u32;
        if let Some(args) = &lambda.formals {
            for formal in args.formals {
                let slot = self.reserve(1);
                self.bind(formal.name, slot);
                bound.push(formal.name);
            }
        }
        let mut at = None;
        if let Some(arg) = lambda.arg {
            let slot = self.reserve(1);
            self.bind(arg, slot);
            bound.push(arg);
            at = Some((slot, arg));
        }
        let result = (|| {
            if let Some(args) = &lambda.formals {
                let compiled = args
                    .formals
                    .iter()
                    .map(|f| {
                        Ok(FormalArg {
                            name: f.name,
                            pos: self.pos(f.pos),
                            default: f.default.map(|d| self.expr(d, false)).transpose()?,
                        })
                    })
                    .collect::<EvalResult<Vec<_>>>()?;
                formals = Some(self.alloc(FormalArgs {
                    first,
                    formals: self.slice(compiled),
                    ellipsis: args.ellipsis,
                    at,
                    cache: AtomicU64::new(0),
                }));
            }
            let body = self.expr(lambda.body, true)?;
            Ok(match self.context.debugger {
                true => self.watched(body, WatchedKind::Lambda(lambda.name), pos),
                false => body,
            })
        })();
        for name in bound {
            self.unbind(name);
        }
        let frame_size = self.close_frame();
        let body = result?;
        let arg = if lambda.formals.is_none() { lambda.arg } else { None };
        let needs = if formals.is_none() { needs::first_argument(&body, params.len() + 1) } else { NO_SLOT };
        let params = self.slice(params);
        Ok(Expr::Lambda(self.alloc(Lambda {
            args: params.len() as u32 + 1,
            frame: FrameSize::new(frame_size),
            needs,
            pos,
            body,
            formals,
            name: lambda.name,
            arg,
            params,
        })))
    }

    // ---- bindings -------------------------------------------------------------------------------------

    fn outside_from(&mut self, node: NodeId) -> EvalResult<Expr> {
        let own = self.sources.pop();
        let expr = self.expr(node, false);
        self.sources.extend(own);
        expr
    }

    /// The sources that are variables: what is inherited from these is selected from the variable itself.
    fn variables(&self, sources: &[NodeId]) -> SmallVec<[Option<NodeId>; 4]> {
        let is_variable = |node: &NodeId| matches!(self.ast.node(*node), Node::Var(_));
        sources.iter().map(|node| Some(*node).filter(is_variable)).collect()
    }

    /// Expressions of the attributes that inherit from the scope around, resolved in that scope.
    fn inherited(&mut self, set: ast::AttrSet<'_>) -> EvalResult<Vec<Option<Expr>>> {
        set.attrs
            .iter()
            .map(|attr| match attr.kind {
                AttrKind::Inherited => self.expr(attr.value, false).map(Some),
                _ => Ok(None),
            })
            .collect()
    }

    fn set(&mut self, set: ast::AttrSet<'_>, pos: Pos) -> EvalResult<Expr> {
        let mut sorted: SmallVec<[&ast::AttrDef; 16]> = set.attrs.iter().collect();
        sorted.sort_unstable_by_key(|a| a.name);
        let syms: SmallVec<[Sym; 16]> = sorted.iter().map(|a| a.name).collect();
        let shape = Shape::intern(&syms);
        let attrs = self.arena.alloc_slice_fill_iter(sorted.iter().map(|a| self.pos(a.pos)));
        let positions = Positions::fixed(self.alloc(FixedPositions { attrs, set: pos }));
        let variables = self.variables(set.inherit_from);
        let has_frame = set.recursive || variables.iter().any(Option::is_none);
        let mut first = 0;
        if has_frame {
            self.open_frame();
            if set.recursive {
                first = self.reserve(sorted.len() as u32) + sorted.len() as u32;
            }
            self.reserve(set.inherit_from.len() as u32);
        }
        self.sources.push(Sources { frame: self.level(), first, variables });
        let result = self.set_parts(set, &sorted, has_frame);
        self.sources.pop();
        let frame = has_frame.then(|| self.close_frame());
        let (values, from, dynamic) = result?;
        let overrides = if set.recursive {
            syms.iter().position(|s| s.as_bytes() == b"__overrides").map(|i| i as u32)
        } else {
            None
        };
        if !has_frame && dynamic.is_empty() {
            if let Some(values) = constants(&values) {
                let attrs = Attrs::unfilled(shape, positions);
                for (i, value) in values.as_slice().iter().enumerate() {
                    attrs.set(i, *value);
                }
                return Ok(Expr::Shared(attrs.value().keep()));
            }
        }
        Ok(Expr::Set(self.alloc(SetExpr {
            plain: !has_frame && !set.recursive && dynamic.is_empty(),
            shape,
            positions,
            values: self.slice(values),
            frame,
            recursive: set.recursive,
            from: self.slice(from),
            dynamic: self.slice(dynamic),
            overrides,
            pos,
        })))
    }

    fn set_parts(
        &mut self,
        set: ast::AttrSet<'_>,
        sorted: &[&ast::AttrDef],
        has_frame: bool,
    ) -> EvalResult<(Vec<Expr>, Vec<Expr>, Vec<DynamicAttr>)> {
        let mut inherited: SmallVec<[Option<Expr>; 8]> = SmallVec::with_capacity(sorted.len());
        for attr in sorted {
            inherited.push(match attr.kind {
                AttrKind::Inherited => Some(self.expr(attr.value, false)?),
                _ => None,
            });
        }
        if set.recursive {
            self.group += 1;
            for (i, attr) in sorted.iter().enumerate() {
                self.bind(attr.name, i as u32);
            }
        }
        let later = self.later(&set);
        let result = (|| {
            // The sources first: what they do not know is told before all else.
            let from = set.inherit_from.iter().map(|node| self.outside_from(*node));
            let mut from = from.collect::<EvalResult<Vec<_>>>()?;
            if !has_frame {
                from.clear();
            }
            let mut values = Vec::with_capacity(sorted.len());
            for (attr, outer) in sorted.iter().zip(inherited) {
                values.push(match outer {
                    Some(expr) => expr,
                    None => self.attribute(attr.value, later.as_ref())?,
                });
            }
            let mut dynamic = Vec::with_capacity(set.dynamic.len());
            for attr in set.dynamic {
                dynamic.push(DynamicAttr {
                    name: self.expr(attr.name, false)?,
                    value: self.expr(attr.value, false)?,
                    pos: self.pos(attr.pos),
                });
            }
            Ok((values, from, dynamic))
        })();
        if set.recursive {
            for attr in sorted {
                self.unbind(attr.name);
            }
        }
        result
    }
}

/// The values of constants, if all are some. Sets and functions that come with the language are none: two lists of
/// functions are told apart by where the functions stand.
fn constants(exprs: &[Expr]) -> Option<ValueVec> {
    exprs
        .iter()
        .map(|expr| match expr {
            Expr::Const(value) if !value.is_thunk() && !value.is_fun() && value.as_attrs().is_none() => {
                Some(*value)
            }
            _ => None,
        })
        .collect()
}

/// A path literal that ends in a slash keeps it: `./a/${b}` starts with one.
fn keep_slash(literal: &[u8], mut path: Vec<u8>) -> Vec<u8> {
    if literal.len() > 1 && literal.ends_with(b"/") && !path.ends_with(b"/") {
        path.push(b'/');
    }
    path
}
