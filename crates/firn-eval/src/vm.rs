//! The machine: state of one evaluation, and forcing.

mod text;
mod trees;

use crate::builtins;
use crate::compile::Globals;
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::expr::{Expr, Lambda};
use crate::host::{EvalHost, HostError};
use crate::settings::EvalSettings;
use crate::source::Pos;
use crate::value::{
    Attrs, Compared, Env, Native, Owner, Suspended, Thunk, ThunkState, UpdateCache, Value, Waited, waiting,
};
use crate::watch::Watch;
use firn_core::StorePath;
use rustc_hash::FxHashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One call that is being run, for traces and the depth limit.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    pub(crate) lambda: Option<&'static Lambda>,
    pub(crate) pos: Pos,
}

/// An evaluator. Values outlive it.
pub struct Vm {
    pub(crate) host: Arc<dyn EvalHost>,
    pub(crate) settings: Arc<EvalSettings>,
    pub(crate) globals: Arc<Globals>,
    pub(crate) calls: Vec<Call>,
    /// Lowest stack address that evaluation may reach.
    stack_limit: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) regexes: FxHashMap<Vec<u8>, Rc<crate::regex::Regex>>,
    /// Who this is, among the threads that evaluate.
    pub(crate) owner: Owner,
    /// Works ahead of the thread that does what was asked: nothing that it does may show, and it may give up.
    pub(crate) ahead: bool,
    pub(crate) stats: Stats,
    /// Profilers and the debugger, where there are any.
    pub(crate) watch: Option<Box<Watch>>,
    pub(crate) compared: Compared,
    pub(crate) removals: builtins::Removals,
}

/// What a machine for another thread is made of.
pub(crate) struct Seed {
    host: Arc<dyn EvalHost>,
    settings: Arc<EvalSettings>,
    globals: Arc<Globals>,
    shared: Arc<Shared>,
}

/// The thread that does what was asked.
const MAIN: Owner = 1;

/// What all threads of an evaluation remember.
#[derive(Default)]
pub(crate) struct Shared {
    /// Values of imported files by path, before and after `default.nix` and symlinks are resolved.
    imports: Memo<Vec<u8>, Value>,
    pub(crate) derivation_hashes: Memo<StorePath, firn_derivation::DrvHashModulo>,
    pub(crate) copied: Memo<Vec<u8>, StorePath>,
    pub(crate) search_paths: Memo<Vec<u8>, Option<Vec<u8>>>,
    pub(crate) pool: crate::ahead::Pool,
}

/// A map that only grows.
pub(crate) struct Memo<K, V>(parking_lot::Mutex<FxHashMap<K, V>>);

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Memo(parking_lot::Mutex::default())
    }
}

impl<K: std::hash::Hash + Eq, V: Clone> Memo<K, V> {
    pub(crate) fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
        Q: std::hash::Hash + Eq + ?Sized,
    {
        self.0.lock().get(key).cloned()
    }

    /// Remembers a value, unless another thread was faster; gives the one that counts.
    pub(crate) fn insert(&self, key: K, value: V) -> V {
        self.0.lock().entry(key).or_insert(value).clone()
    }

    fn len(&self) -> usize {
        self.0.lock().len()
    }
}

/// Counts for `NIX_SHOW_STATS`.
#[derive(Default, Clone, Copy)]
pub(crate) struct Stats {
    pub(crate) function_calls: u64,
    pub(crate) primop_calls: u64,
    pub(crate) thunks_forced: u64,
    pub(crate) updates: u64,
    pub(crate) derivations: u64,
}

impl Stats {
    pub(crate) fn add(&mut self, other: Stats) {
        self.function_calls += other.function_calls;
        self.primop_calls += other.primop_calls;
        self.thunks_forced += other.thunks_forced;
        self.updates += other.updates;
        self.derivations += other.derivations;
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if !self.ahead {
            self.stop_helpers();
        }
    }
}

/// Counts and sizes of an evaluation.
#[derive(Debug, Clone, Copy)]
pub struct Statistics {
    pub function_calls: u64,
    pub builtin_calls: u64,
    pub thunks_forced: u64,
    /// Uses of `//`.
    pub updates: u64,
    pub symbols: u64,
    pub symbol_bytes: u64,
    pub shapes: u64,
    pub shape_keys: u64,
    pub update_plans: u64,
    pub update_plan_bytes: u64,
    /// String contexts, and what they hold together.
    pub contexts: u64,
    pub context_elements: u64,
    pub code_bytes: u64,
    /// Taken from the system for values.
    pub heap_bytes: u64,
    pub collections: u64,
    /// Imported paths.
    pub files: u64,
}

/// Stack of evaluation threads. Committed only as it is used.
const STACK_SIZE: usize = 1 << 30;
/// What is left to the functions below the check.
const STACK_RESERVE: usize = 1 << 20;

const LEAST_STACK_SIZE: usize = 8 << 20;

/// Stack of threads that work ahead. They may give up.
const AHEAD_STACK_SIZE: usize = 256 << 20;

/// The usual size, or an eighth of what the process may have, where that is less: memory is for values as well.
fn stack_size(usual: usize) -> usize {
    let Some(limit) = crate::value::memory_limit() else { return usual };
    // In pages.
    usual.min((limit / 8) & !0xffff).max(LEAST_STACK_SIZE)
}

/// Whether evaluation is to end as soon as it can.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Ends all evaluation of this process with an error at the next call of a function, until it is allowed again. Values
/// that were being evaluated can be evaluated again later.
pub fn interrupt(on: bool) {
    INTERRUPTED.store(on, Ordering::Relaxed);
}

/// Starts an evaluating thread that works ahead.
pub(crate) fn spawn_with_stack<T: Send + 'static>(
    f: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<T>> {
    let size = stack_size(AHEAD_STACK_SIZE);
    std::thread::Builder::new().name("eval-ahead".into()).stack_size(size).spawn(move || {
        STACK_BOTTOM.set(stack_address().saturating_sub(size - STACK_RESERVE));
        let _guard = NobodyWaits;
        crate::value::evaluating_thread(f)
    })
}

/// Ends the process when the thread panics: the others would wait for ever for what it had begun.
struct NobodyWaits;

impl Drop for NobodyWaits {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// Runs `f` on a thread whose stack is large enough for deep recursion.
pub fn with_large_stack<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let mut size = stack_size(STACK_SIZE);
        let mut f = Some(f);
        loop {
            // Where address space is limited, a smaller stack still works, only less deep.
            let slot = std::sync::Mutex::new(f.take());
            let slot = Arc::new(slot);
            let inner = slot.clone();
            let spawned = std::thread::Builder::new().name("eval".into()).stack_size(size).spawn_scoped(
                scope,
                move || {
                    STACK_BOTTOM.set(stack_address().saturating_sub(size - STACK_RESERVE));
                    let f = inner.lock().ok().and_then(|mut f| f.take());
                    f.map(|f| crate::value::evaluating_thread(f))
                },
            );
            match spawned {
                Ok(handle) => match handle.join() {
                    Ok(Some(value)) => return value,
                    Ok(None) => unreachable!("the function is there until it is taken"),
                    Err(panic) => std::panic::resume_unwind(panic),
                },
                Err(error) if size > LEAST_STACK_SIZE => {
                    let _ = error;
                    size /= 2;
                    f = slot.lock().ok().and_then(|mut f| f.take());
                }
                Err(error) => panic!("cannot start the evaluation thread: {error}"),
            }
        }
    })
}

thread_local! {
    static STACK_BOTTOM: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

#[inline(always)]
fn stack_address() -> usize {
    let marker = std::mem::MaybeUninit::<u8>::uninit();
    &raw const marker as usize
}

impl Vm {
    pub fn new(host: Arc<dyn EvalHost>, settings: EvalSettings) -> Vm {
        let mut stack_limit = STACK_BOTTOM.get();
        if stack_limit == 0 {
            // Not a thread of `with_large_stack`: assume the usual stack of 2 MiB, most of it free.
            stack_limit = stack_address().saturating_sub(1 << 20);
        }
        let mut vm = Vm {
            host,
            settings: Arc::new(settings),
            globals: Arc::default(),
            calls: Vec::with_capacity(256),
            stack_limit,
            shared: Arc::default(),
            regexes: FxHashMap::default(),
            owner: MAIN,
            ahead: false,
            stats: Stats::default(),
            watch: None,
            compared: Compared::default(),
            removals: builtins::Removals::default(),
        };
        builtins::install(&mut vm);
        vm
    }

    /// A machine for another thread of the same evaluation, which works ahead.
    pub(crate) fn ahead(seed: &Seed, owner: Owner) -> Vm {
        Vm {
            host: seed.host.clone(),
            settings: seed.settings.clone(),
            globals: seed.globals.clone(),
            calls: Vec::with_capacity(256),
            stack_limit: STACK_BOTTOM.get(),
            shared: seed.shared.clone(),
            regexes: FxHashMap::default(),
            owner,
            ahead: true,
            stats: Stats::default(),
            watch: None,
            compared: Compared::default(),
            removals: builtins::Removals::default(),
        }
    }

    pub(crate) fn seed(&self) -> Seed {
        Seed {
            host: self.host.clone(),
            settings: self.settings.clone(),
            globals: self.globals.clone(),
            shared: self.shared.clone(),
        }
    }

    /// Counts depth from `depth` on, as if so many calls were running.
    pub(crate) fn enter_at_depth(&mut self, depth: usize) {
        self.calls.clear();
        self.calls.resize(depth, Call { lambda: None, pos: Pos::NONE });
    }

    /// For what shows or acts outside of the evaluation: an error for a thread that works ahead.
    #[inline]
    pub(crate) fn in_turn(&self) -> EvalResult<()> {
        if self.ahead { Err(self.not_in_turn()) } else { Ok(()) }
    }

    #[cold]
    pub(crate) fn not_in_turn(&self) -> EvalError {
        EvalError::new(ErrorKind::InTurn, "to be done in its turn")
    }

    pub fn host(&self) -> &Arc<dyn EvalHost> {
        &self.host
    }

    pub fn settings(&self) -> &EvalSettings {
        &self.settings
    }

    /// Counts and sizes of this evaluation, for `NIX_SHOW_STATS`.
    pub fn statistics(&self) -> Statistics {
        let (shapes, shape_keys) = crate::shape::totals();
        let usage = crate::value::usage();
        let (update_plans, update_plan_bytes) = crate::shape::plan_totals();
        let (contexts, context_elements) = crate::context::totals();
        Statistics {
            function_calls: self.stats.function_calls,
            builtin_calls: self.stats.primop_calls,
            thunks_forced: self.stats.thunks_forced,
            updates: self.stats.updates,
            symbols: firn_syntax::symbol::count() as u64,
            symbol_bytes: firn_syntax::symbol::all().map(|name| name.len() as u64).sum(),
            shapes,
            shape_keys,
            update_plans,
            update_plan_bytes,
            contexts,
            context_elements,
            code_bytes: crate::value::code_bytes() as u64,
            heap_bytes: usage.bytes,
            collections: u64::from(usage.collections),
            files: self.shared.imports.len() as u64,
        }
    }

    // ---- forcing --------------------------------------------------------------------------------------

    /// The value that a word stands for, computed if need be. Never a thunk.
    #[inline]
    pub fn force(&mut self, value: Value) -> EvalResult<Value> {
        self.force_at(value, Pos::NONE)
    }

    /// As [`Vm::force`]; `pos` is where an infinite recursion is reported.
    #[inline]
    pub(crate) fn force_at(&mut self, value: Value, pos: Pos) -> EvalResult<Value> {
        match value.as_thunk() {
            None => Ok(value),
            Some(thunk) => match thunk.result() {
                Some(value) => Ok(value),
                None => self.force_thunk(thunk, pos),
            },
        }
    }

    #[inline(never)]
    fn force_thunk(&mut self, thunk: Thunk, pos: Pos) -> EvalResult<Value> {
        self.check_stack(pos)?;
        let Some((expr, env)) = thunk.claim_code(self.owner) else { return self.force_otherwise(thunk, pos) };
        if self.ahead && self.shared.pool.is_stopping() {
            thunk.restore(Suspended::Code(expr, env));
            return Err(self.not_in_turn());
        }
        self.stats.thunks_forced += 1;
        match self.eval(expr, env) {
            Ok(value) => {
                thunk.finish(value);
                Ok(value)
            }
            Err(error) => self.force_failed(thunk, Suspended::Code(expr, env), error),
        }
    }

    /// [`Vm::force_thunk`] for what is no suspended code.
    #[inline(never)]
    fn force_otherwise(&mut self, thunk: Thunk, pos: Pos) -> EvalResult<Value> {
        let Some(work) = thunk.claim(self.owner) else { return self.force_claimed(thunk, pos) };
        if self.ahead && self.shared.pool.is_stopping() {
            thunk.restore(work);
            return Err(self.not_in_turn());
        }
        self.stats.thunks_forced += 1;
        let result = match work {
            Suspended::Code(expr, env) => self.eval(expr, env),
            Suspended::Apply(function, argument) => self.run_application(function, argument, pos),
            Suspended::Native(what, payload) => self.run_native(what, payload.as_slice(), pos),
        };
        match result {
            Ok(value) => {
                thunk.finish(value);
                if let Suspended::Native(_, payload) = work {
                    payload.release();
                }
                Ok(value)
            }
            Err(error) => self.force_failed(thunk, work, error),
        }
    }

    #[cold]
    #[inline(never)]
    fn force_failed(&mut self, thunk: Thunk, work: Suspended, error: EvalError) -> EvalResult<Value> {
        if error.kind() == ErrorKind::Interrupted {
            // It says nothing of the value.
            thunk.restore(work);
        } else if self.ahead {
            // What an error says depends on the way to it: it is found again on the way that was asked for.
            thunk.restore(work);
        } else {
            thunk.fail(error.clone());
        }
        Err(error)
    }

    /// A thunk that is or was computed by somebody: its result, when there is one.
    #[inline(never)]
    fn force_claimed(&mut self, thunk: Thunk, pos: Pos) -> EvalResult<Value> {
        match thunk.state() {
            ThunkState::Done(value) => Ok(value),
            ThunkState::Failed(error) => Err(error.again()),
            ThunkState::Suspended => self.force_thunk(thunk, pos),
            ThunkState::Claimed(owner) if owner == self.owner => {
                Err(EvalError::at(ErrorKind::InfiniteRecursion, pos, "infinite recursion encountered"))
            }
            ThunkState::Claimed(_) => match waiting::wait(thunk, self.owner, self.ahead) {
                Waited::Changed => self.force_at(thunk.value(), pos),
                Waited::GaveUp => Err(self.not_in_turn()),
            },
        }
    }

    #[inline(never)]
    fn run_application(&mut self, function: Value, argument: Value, pos: Pos) -> EvalResult<Value> {
        self.call(function, &[argument], pos)
    }

    #[inline(never)]
    fn run_native(&mut self, what: Native, payload: &[Value], pos: Pos) -> EvalResult<Value> {
        match (what, payload) {
            (Native::Apply, [function, args @ ..]) => self.call(*function, args, pos),
            (Native::Select, [set, name]) => {
                let set = self.force(*set)?;
                let found = match (set.as_attrs(), name.as_str()) {
                    (Some(attrs), Some(name)) => attrs.find(name.sym()),
                    _ => None,
                };
                match found {
                    Some(value) => self.force(value),
                    None => Err(EvalError::new(ErrorKind::MissingAttribute, "attribute missing")),
                }
            }
            (Native::PosLine | Native::PosColumn, [number]) => {
                let pos = Pos::from_number(number.as_int().unwrap_or(0) as u32);
                let place = pos.place(&*self.host);
                let (line, column) = place.map_or((0, 0), |p| (p.line, p.column));
                Ok(Value::int(i64::from(if what == Native::PosLine { line } else { column })))
            }
            _ => Err(EvalError::new(ErrorKind::Eval, "malformed lazy value")),
        }
    }

    #[inline]
    pub(crate) fn check_stack(&self, pos: Pos) -> EvalResult<()> {
        if stack_address() < self.stack_limit || INTERRUPTED.load(Ordering::Relaxed) {
            return Err(self.must_stop(pos));
        }
        Ok(())
    }

    #[cold]
    fn must_stop(&self, pos: Pos) -> EvalError {
        match INTERRUPTED.load(Ordering::Relaxed) {
            true => EvalError::new(ErrorKind::Interrupted, "interrupted by the user"),
            false => self.stack_overflow(pos),
        }
    }

    /// Fails where a call would be one too many.
    #[inline(always)]
    pub(crate) fn check_depth(&self, pos: Pos) -> EvalResult<()> {
        if self.calls.len() > self.settings.max_call_depth {
            return Err(self.stack_overflow(pos));
        }
        Ok(())
    }

    /// Counts a level of recursion that is no call of the language's (comparing, printing) against the depth
    /// limit. Undone by [`Vm::ascend`]; an error needs no undoing, because the call around it cuts the count back.
    #[inline]
    pub(crate) fn descend(&mut self, pos: Pos) -> EvalResult<()> {
        self.check_depth(pos)?;
        self.check_stack(pos)?;
        self.calls.push(Call { lambda: None, pos });
        Ok(())
    }

    #[inline]
    pub(crate) fn ascend(&mut self) {
        self.calls.pop();
    }

    /// Runs `f` one level deeper.
    #[inline]
    pub(crate) fn nested<T>(&mut self, pos: Pos, f: impl FnOnce(&mut Vm) -> EvalResult<T>) -> EvalResult<T> {
        let base = self.calls.len();
        self.descend(pos)?;
        let result = f(self);
        self.calls.truncate(base);
        result
    }

    #[cold]
    pub(crate) fn stack_overflow(&self, pos: Pos) -> EvalError {
        EvalError::at(ErrorKind::StackOverflow, pos, "stack overflow; max-call-depth exceeded")
    }

    /// A thunk for an expression, or its value where that costs nothing.
    #[inline]
    pub(crate) fn delay(&mut self, expr: &'static Expr, env: Env) -> Value {
        match *expr {
            Expr::Const(value) => value,
            Expr::Local { slot, .. } => {
                let value = env.get(slot);
                if value.is_unset() { Thunk::new(expr, env).value() } else { value }
            }
            Expr::Outer { depth, slot, .. } => {
                let value = env.up(depth).get(slot);
                if value.is_unset() { Thunk::new(expr, env).value() } else { value }
            }
            Expr::Lambda(lambda) => Value::closure(lambda, env),
            _ => Thunk::new(expr, env).value(),
        }
    }

    /// [`Vm::delay`] for the argument of a call, where it does not show whether it is evaluated.
    #[inline]
    pub(crate) fn delay_argument(&mut self, expr: &'static Expr, env: Env) -> Value {
        let known = match *expr {
            Expr::Select(select) | Expr::SelectOr(select) => select.known(env),
            Expr::Binary(op, operands) => operands.known(op, env),
            Expr::Concat(concat) => concat.known(env),
            _ => return self.delay(expr, env),
        };
        known.unwrap_or_else(|| Thunk::new(expr, env).value())
    }

    /// As [`Vm::delay`], for elements of sets and lists: printing tells functions there that were not looked at.
    #[inline]
    pub(crate) fn delay_element(&mut self, expr: &'static Expr, env: Env) -> Value {
        match *expr {
            Expr::Lambda(_) => Thunk::new(expr, env).value(),
            _ => self.delay(expr, env),
        }
    }

    // ---- sets -----------------------------------------------------------------------------------------

    /// `a // b`.
    pub(crate) fn update(&mut self, a: Attrs, b: Attrs) -> Attrs {
        self.update_at(a, b, &UpdateCache::none())
    }

    /// `a // b` where `cache` remembers the last time.
    #[inline]
    pub(crate) fn update_at(&mut self, a: Attrs, b: Attrs, cache: &UpdateCache) -> Attrs {
        self.stats.updates += 1;
        Attrs::update(a, b, cache)
    }
}

/// A host failure as an evaluation error.
#[cold]
pub(crate) fn host_error(error: HostError) -> EvalError {
    if error.restricted {
        return EvalError::new(ErrorKind::Restricted, error.message);
    }
    EvalError::new(ErrorKind::Host { exit: error.exit }, error.message)
}
