//! What watches evaluation: profilers, counts of calls, the debugger. All of it costs something only where it is
//! on: then the compiler puts [`Watched`] around what is of interest.

use crate::debug::{Debugger, ScopeName};
use crate::error::EvalResult;
use crate::expr::{CallExpr, Expr, Lambda, Select};
use crate::source::Pos;
use crate::value::{Env, Fun, Value, ValueVec};
use crate::vm::Vm;
use firn_syntax::{Sym, sym};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// An expression with what is needed to watch it.
pub struct Watched {
    pub expr: Expr,
    pub kind: WatchedKind,
    pub pos: Pos,
    /// The names in scope, innermost first; only for the debugger.
    pub scope: Option<&'static ScopeName>,
    /// How many frames there are around the expression's own.
    pub level: u32,
}

/// Why an expression is watched.
#[derive(Clone, Copy)]
pub enum WatchedKind {
    Call(&'static CallExpr),
    Select(&'static Select),
    /// The body of a `let`.
    Let,
    /// The body of a function of that name.
    Lambda(Option<Sym>),
    /// All of a file.
    File,
}

/// What is called, as far as watchers want to know it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Callee {
    Lambda {
        /// Where the function is defined.
        pos: Pos,
        name: Option<Sym>,
    },
    Builtin(&'static str),
    /// A set with `__functor`, and where that is defined.
    Functor(Pos),
    /// `derivationStrict` for a derivation of that name.
    Derivation(Vec<u8>),
    /// The function of a functor, or no function at all: the call will fail.
    Other,
}

/// Is told of every call.
pub trait CallWatcher {
    /// Whether [`Callee::Derivation`] is wanted; the name is evaluated for it.
    fn wants_derivations(&self) -> bool;
    fn enter(&mut self, callee: &Callee, pos: Pos);
    fn leave(&mut self, pos: Pos);
}

/// Everything that watches one evaluation.
#[derive(Default)]
pub(crate) struct Watch {
    watchers: Vec<Box<dyn CallWatcher>>,
    counts: Option<Counts>,
    pub(crate) debugger: Option<Debugger>,
}

#[derive(Default)]
struct Counts {
    builtins: BTreeMap<&'static str, u64>,
    functions: FxHashMap<(Pos, Option<Sym>), u64>,
}

/// How often what was called, for `NIX_COUNT_CALLS`.
#[derive(Default)]
pub struct CallCounts {
    pub builtins: Vec<(&'static str, u64)>,
    /// Functions by place and name.
    pub functions: Vec<(Pos, Option<Sym>, u64)>,
}

impl Vm {
    pub(crate) fn watch(&mut self) -> &mut Watch {
        self.watch.get_or_insert_default()
    }

    /// Tells `watcher` of every call. Needs [`crate::EvalSettings::watch_calls`].
    pub fn watch_calls(&mut self, watcher: Box<dyn CallWatcher>) {
        self.watch().watchers.push(watcher);
    }

    /// Counts calls from now on. Needs [`crate::EvalSettings::watch_calls`].
    pub fn count_calls(&mut self) {
        self.watch().counts = Some(Counts::default());
    }

    pub fn call_counts(&self) -> Option<CallCounts> {
        let counts = self.watch.as_ref()?.counts.as_ref()?;
        let mut functions: Vec<_> = counts.functions.iter().map(|((p, n), count)| (*p, *n, *count)).collect();
        functions.sort();
        Some(CallCounts { builtins: counts.builtins.iter().map(|(n, c)| (*n, *c)).collect(), functions })
    }

    /// Evaluates an expression that is watched.
    #[cold]
    #[inline(never)]
    pub(crate) fn eval_watched(&mut self, watched: &'static Watched, env: Env) -> EvalResult<Value> {
        let selected = match watched.kind {
            // What is selected from is no part of the selection.
            WatchedKind::Select(select) => Some((select, self.eval(&select.base, env)?)),
            _ => None,
        };
        // Whoever watches may look at the variables later.
        env.capture();
        let depth = self.enter_frame(watched, env)?;
        let result = match (watched.kind, selected) {
            (_, Some((select, base))) => match self.select_in(base, select, env) {
                Ok(Some(value)) => Ok(value),
                Ok(None) => match &select.default {
                    Some(default) => self.eval(default, env),
                    None => Err(crate::EvalError::new(crate::ErrorKind::Eval, "attribute missing")),
                },
                Err(error) => Err(error),
            },
            (WatchedKind::Call(call), _) => self.eval(&call.function, env).and_then(|function| {
                let args: ValueVec = call.args.iter().map(|arg| self.delay(arg, env)).collect();
                self.call(function, args.as_slice(), call.pos)
            }),
            _ => self.eval(&watched.expr, env),
        };
        self.leave_frame(depth, result)
    }

    /// Calls a forced function and tells those who watch.
    #[cold]
    #[inline(never)]
    pub(crate) fn call_watched(&mut self, function: Value, args: &[Value], pos: Pos) -> EvalResult<Value> {
        let wants = |w: &Watch| w.watchers.iter().any(|w| w.wants_derivations());
        let derivations = self.watch.as_deref().is_some_and(wants);
        let callee = self.callee(function, args, derivations);
        self.call_as(&callee, function, args, pos)
    }

    /// [`Vm::call_watched`] where it is known how watchers see the call.
    pub(crate) fn call_as(
        &mut self,
        callee: &Callee,
        function: Value,
        args: &[Value],
        pos: Pos,
    ) -> EvalResult<Value> {
        for watcher in &mut self.watch().watchers {
            watcher.enter(callee, pos);
        }
        let result = match self.watch().counts {
            Some(_) => self.call_counted(function, args, pos),
            None => self.call_forced(function, args, pos),
        };
        for watcher in &mut self.watch().watchers {
            watcher.leave(pos);
        }
        result
    }

    /// Counts also the functions that functions return.
    fn call_counted(&mut self, mut function: Value, args: &[Value], pos: Pos) -> EvalResult<Value> {
        let mut args = args;
        while let (Some(Fun::Closure(closure)), [first, rest @ ..]) = (function.as_fun(), args) {
            self.count_function(closure.lambda);
            function = self.call_forced(function, &[*first], pos)?;
            args = rest;
        }
        match function.as_fun() {
            Some(Fun::PrimOp(op)) if args.len() >= op.arity => self.count_builtin(op.name),
            Some(Fun::Partial(partial)) if args.len() >= partial.primop.arity - partial.args.len() => {
                self.count_builtin(partial.primop.name);
            }
            _ => {}
        }
        if args.is_empty() { Ok(function) } else { self.call_forced(function, args, pos) }
    }

    fn count_function(&mut self, lambda: &Lambda) {
        if let Some(counts) = &mut self.watch().counts {
            *counts.functions.entry((lambda.pos, lambda.name)).or_default() += 1;
        }
    }

    fn count_builtin(&mut self, name: &'static str) {
        if let Some(counts) = &mut self.watch().counts {
            *counts.builtins.entry(name).or_default() += 1;
        }
    }

    fn callee(&mut self, function: Value, args: &[Value], derivations: bool) -> Callee {
        match function.as_fun() {
            Some(Fun::Closure(closure)) => {
                Callee::Lambda { pos: closure.lambda.pos, name: closure.lambda.name }
            }
            Some(Fun::PrimOp(op)) => match (op.name, args) {
                ("derivationStrict", [attrs, ..]) if derivations => {
                    self.derivation_name(*attrs).map_or(Callee::Builtin(op.name), Callee::Derivation)
                }
                _ => Callee::Builtin(op.name),
            },
            Some(Fun::Partial(partial)) => Callee::Builtin(partial.primop.name),
            None => match function.as_attrs() {
                Some(attrs) => match attrs.shape().find(sym!("__functor")) {
                    Some(place) => Callee::Functor(attrs.position(place)),
                    None => Callee::Other,
                },
                None => Callee::Other,
            },
        }
    }

    /// The name of a derivation, if it can be had; what is wrong with it evaluation itself will find.
    fn derivation_name(&mut self, attrs: Value) -> Option<Vec<u8>> {
        let attrs = self.force(attrs).ok()?.as_attrs()?;
        let name = self.force(attrs.find(sym!("name"))?).ok()?.as_str()?;
        (!name.has_context()).then(|| name.as_bytes().to_vec())
    }
}
