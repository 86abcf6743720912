//! Evaluation errors: a message, a place, and the trace of what was being evaluated.

use crate::source::Pos;
use firn_syntax::Sym;
use parking_lot::Mutex;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

pub type EvalResult<T> = Result<T, EvalError>;

/// What kind of failure it is; decides whether `tryEval` catches it and how the program exits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorKind {
    /// `throw`.
    Throw,
    /// `assert`.
    Assertion,
    /// `abort`.
    Abort,
    Type,
    UndefinedVariable,
    MissingAttribute,
    MissingArgument,
    InfiniteRecursion,
    StackOverflow,
    Syntax,
    /// What the reference counts as wrong usage; the program points at its help.
    Usage,
    /// Forbidden by restricted or pure evaluation.
    Restricted,
    /// A thread that works ahead leaves this to be done in its turn. Never shown.
    InTurn,
    /// Anything else that evaluation itself finds.
    Eval,
    /// The user ended evaluation, and nothing went wrong.
    Quit,
    /// [`crate::interrupt`] was called.
    Interrupted,
    /// The host failed: files, store, builds, network. `exit` is the program's exit code.
    Host {
        exit: u8,
    },
}

/// One step of a trace.
#[derive(Clone, Debug)]
pub struct Trace {
    pub pos: Pos,
    pub what: TraceKind,
}

/// What a step says. Formatted only when shown.
#[derive(Clone, Debug)]
pub enum TraceKind {
    Static(&'static str),
    Text(Arc<str>),
    /// Given with `addErrorContext`: shown however short the trace is.
    Context(Arc<[u8]>),
    /// While evaluating the attribute.
    Attribute(Sym),
    /// While calling a builtin.
    Builtin(&'static str),
    /// While calling a lambda of that name.
    Lambda(Option<Sym>),
    CallSite,
}

impl fmt::Display for TraceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TraceKind::Static(text) => f.write_str(text),
            TraceKind::Text(text) => f.write_str(text),
            TraceKind::Context(text) => f.write_str(&String::from_utf8_lossy(text)),
            TraceKind::Attribute(name) => write!(f, "while evaluating the attribute '{}'", name.shown()),
            TraceKind::Builtin(name) => write!(f, "while calling the '{name}' builtin"),
            TraceKind::Lambda(Some(name)) => write!(f, "while calling '{name}'"),
            TraceKind::Lambda(None) => f.write_str("while calling anonymous lambda"),
            TraceKind::CallSite => f.write_str("from call site"),
        }
    }
}

#[derive(Debug)]
struct Node {
    trace: Trace,
    inner: Option<Arc<Node>>,
}

#[derive(Debug)]
struct Core {
    kind: ErrorKind,
    message: Vec<u8>,
    pos: Pos,
    suggestions: Vec<String>,
}

/// An error. Clones are one error: a failed thunk keeps one, and as in the reference what is added to the trace
/// while the error passes on belongs to what the thunk keeps. [`EvalError::again`] starts anew.
#[derive(Clone, Debug)]
pub struct EvalError(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    core: Arc<Core>,
    trace: Mutex<Option<Arc<Node>>>,
}

impl EvalError {
    #[cold]
    pub fn new(kind: ErrorKind, message: impl Into<Vec<u8>>) -> EvalError {
        EvalError::at(kind, Pos::NONE, message)
    }

    #[cold]
    pub fn at(kind: ErrorKind, pos: Pos, message: impl Into<Vec<u8>>) -> EvalError {
        let core = Arc::new(Core { kind, message: message.into(), pos, suggestions: Vec::new() });
        EvalError(Arc::new(Inner { core, trace: Mutex::new(None) }))
    }

    /// Adds names that may have been meant, best first.
    pub fn with_suggestions(self, suggestions: Vec<String>) -> EvalError {
        let core = &self.0.core;
        let core = Core { kind: core.kind, message: core.message.clone(), pos: core.pos, suggestions };
        let trace = Mutex::new(self.0.trace.lock().clone());
        EvalError(Arc::new(Inner { core: Arc::new(core), trace }))
    }

    /// The error as it is now, when a failed thunk is asked again: steps that are added to it from now on do not
    /// change the one that the thunk keeps.
    #[cold]
    pub(crate) fn again(&self) -> EvalError {
        let trace = Mutex::new(self.0.trace.lock().clone());
        EvalError(Arc::new(Inner { core: self.0.core.clone(), trace }))
    }

    /// Adds an outer step to the trace.
    #[cold]
    pub fn trace(self, pos: Pos, what: TraceKind) -> EvalError {
        let mut trace = self.0.trace.lock();
        let inner = trace.take();
        *trace = Some(Arc::new(Node { trace: Trace { pos, what }, inner }));
        drop(trace);
        self
    }

    #[cold]
    pub fn context(self, pos: Pos, what: &'static str) -> EvalError {
        if what.is_empty() { self } else { self.trace(pos, TraceKind::Static(what)) }
    }

    /// The error without the steps that led to it.
    pub(crate) fn without_trace(&self) -> EvalError {
        EvalError(Arc::new(Inner { core: self.0.core.clone(), trace: Mutex::new(None) }))
    }

    /// Whether both are one failure, with whatever traces.
    pub(crate) fn is_same(&self, other: &EvalError) -> bool {
        Arc::ptr_eq(&self.0.core, &other.0.core)
    }

    /// The same failure, which `tryEval` does not catch.
    pub(crate) fn as_fatal(&self) -> EvalError {
        let core = &self.0.core;
        let kind = if self.is_catchable() { ErrorKind::Eval } else { core.kind };
        let (message, suggestions) = (core.message.clone(), core.suggestions.clone());
        let core = Arc::new(Core { kind, message, pos: core.pos, suggestions });
        let trace = Mutex::new(self.0.trace.lock().clone());
        EvalError(Arc::new(Inner { core, trace }))
    }

    pub fn kind(&self) -> ErrorKind {
        self.0.core.kind
    }

    pub fn message(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0.core.message)
    }

    /// The message as it is: strings of the language are bytes.
    pub fn message_bytes(&self) -> &[u8] {
        &self.0.core.message
    }

    pub fn pos(&self) -> Pos {
        self.0.core.pos
    }

    pub fn suggestions(&self) -> &[String] {
        &self.0.core.suggestions
    }

    /// The steps, outermost first.
    pub fn traces(&self) -> Vec<Trace> {
        let mut out = Vec::new();
        let outermost = self.0.trace.lock().clone();
        let mut node = outermost.as_deref();
        while let Some(n) = node {
            out.push(n.trace.clone());
            node = n.inner.as_deref();
        }
        out
    }

    /// Whether `builtins.tryEval` turns it into `{ success = false; }`.
    pub fn is_catchable(&self) -> bool {
        matches!(self.kind(), ErrorKind::Throw | ErrorKind::Assertion)
    }
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())
    }
}

impl std::error::Error for EvalError {}

impl Drop for Node {
    // A trace can be as long as the recursion was deep: it is taken apart in a loop.
    fn drop(&mut self) {
        let mut next = self.inner.take();
        while let Some(node) = next {
            match Arc::try_unwrap(node) {
                Ok(mut node) => next = node.inner.take(),
                Err(_) => break,
            }
        }
    }
}

/// `Result` helpers to add trace steps.
pub trait ResultExt<T> {
    fn context(self, pos: Pos, what: &'static str) -> EvalResult<T>;
    fn traced(self, pos: Pos, what: impl FnOnce() -> TraceKind) -> EvalResult<T>;
}

impl<T> ResultExt<T> for EvalResult<T> {
    #[inline]
    fn context(self, pos: Pos, what: &'static str) -> EvalResult<T> {
        self.map_err(|e| e.context(pos, what))
    }
    #[inline]
    fn traced(self, pos: Pos, what: impl FnOnce() -> TraceKind) -> EvalResult<T> {
        self.map_err(|e| e.trace(pos, what()))
    }
}
