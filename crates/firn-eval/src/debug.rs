//! The debugger's side of evaluation: a stack of what is being evaluated, stops at errors and breakpoints, and
//! expressions evaluated in the scope of a frame. What the user sees and types is the business of a [`DebugShell`].

use crate::compile::Outer;
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::expr::Select;
use crate::source::{Origin, Pos};
use crate::value::{Attrs, Env, Value};
use crate::vm::Vm;
use crate::watch::{Watched, WatchedKind};
use firn_syntax::Sym;

/// A name in scope (or the set of a `with`, which has none), and what is around it.
pub struct ScopeName {
    pub name: Option<Sym>,
    /// Frames around the one that the name lives in.
    pub level: u32,
    pub slot: u32,
    /// Names bound by the same function, `let` or set have the same number.
    pub group: u32,
    pub outer: Option<&'static ScopeName>,
}

/// What to do after a stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DebugAction {
    /// Go on until the next error or breakpoint.
    Continue,
    /// Go on until the next frame.
    Step,
    /// End evaluation.
    Quit,
}

/// Why evaluation stopped.
pub struct DebugStop {
    /// What went wrong, or that a breakpoint was reached; nothing for a step.
    pub error: Option<EvalError>,
    pub is_breakpoint: bool,
    /// The error will be caught by `tryEval`.
    pub in_try: bool,
}

/// Talks to the user while evaluation stands still.
pub trait DebugShell {
    fn stop(&mut self, vm: &mut Vm, stop: &DebugStop) -> DebugAction;
}

/// State of the debugger.
pub(crate) struct Debugger {
    /// Away while the user is talked to.
    shell: Option<Box<dyn DebugShell>>,
    frames: Vec<Frame>,
    step: bool,
    try_level: usize,
    /// The error that was shown last: it passes many frames.
    shown: Option<EvalError>,
}

// The environments are those of expressions that are being evaluated, so they are alive without this.
struct Frame {
    text: FrameText,
    pos: Pos,
    env: Env,
    scope: Option<&'static ScopeName>,
    level: u32,
}

enum FrameText {
    Call,
    Let,
    Lambda(Option<Sym>),
    Select(&'static Select),
    File,
    Error(String),
}

/// A frame, made readable.
pub struct DebugFrame {
    pub is_error: bool,
    /// What is done, before and after the name of what it is done to.
    pub text: String,
    pub subject: String,
    pub rest: String,
    pub pos: Pos,
}

/// Names that were bound together.
pub struct DebugScope {
    pub names: Vec<Sym>,
    /// For a `with`: the names of its set, once it is evaluated.
    pub with: Option<Vec<Sym>>,
}

impl Vm {
    /// Stops at errors and breakpoints. Needs [`crate::EvalSettings::debugger`].
    pub fn attach_debugger(&mut self, shell: Box<dyn DebugShell>) {
        // It holds frames where the collector does not look.
        crate::value::set_collector_limits(Some(usize::MAX), None);
        self.watch().debugger =
            Some(Debugger { shell: Some(shell), frames: Vec::new(), step: false, try_level: 0, shown: None });
    }

    fn debugger(&mut self) -> Option<&mut Debugger> {
        self.watch.as_deref_mut()?.debugger.as_mut()
    }

    /// Whether a stop is possible now.
    fn can_stop(&mut self) -> bool {
        let ignore = self.settings.ignore_try;
        self.debugger()
            .is_some_and(|d| d.shell.is_some() && !d.frames.is_empty() && !(ignore && d.try_level > 0))
    }

    /// Pushes the frame of an expression; answers how many there were.
    pub(crate) fn enter_frame(&mut self, watched: &'static Watched, env: Env) -> EvalResult<usize> {
        let Some(debugger) = self.debugger() else { return Ok(0) };
        let depth = debugger.frames.len();
        let text = match watched.kind {
            WatchedKind::Call(_) => FrameText::Call,
            WatchedKind::Select(select) => FrameText::Select(select),
            WatchedKind::Let => FrameText::Let,
            WatchedKind::Lambda(name) => FrameText::Lambda(name),
            WatchedKind::File => FrameText::File,
        };
        let frame = Frame { text, pos: watched.pos, env, scope: watched.scope, level: watched.level };
        debugger.frames.push(frame);
        if debugger.step && self.can_stop() {
            if let Err(error) = self.stop(None, false) {
                self.pop_frames(depth);
                return Err(error);
            }
        }
        Ok(depth)
    }

    /// Pops frames; before that an error that was not shown yet is.
    pub(crate) fn leave_frame(&mut self, depth: usize, result: EvalResult<Value>) -> EvalResult<Value> {
        if self.debugger().is_none() {
            return result;
        }
        let result = match result {
            Err(error) if self.is_news(&error) => Err(self.stop_at(error)),
            other => other,
        };
        self.pop_frames(depth);
        result
    }

    fn pop_frames(&mut self, depth: usize) {
        if let Some(debugger) = self.debugger() {
            debugger.frames.truncate(depth);
        }
    }

    fn is_news(&mut self, error: &EvalError) -> bool {
        !matches!(error.kind(), ErrorKind::Host { .. } | ErrorKind::Syntax | ErrorKind::Quit)
            && self.can_stop()
            && self.debugger().is_some_and(|d| d.shown.as_ref().is_none_or(|shown| !shown.is_same(error)))
    }

    fn stop_at(&mut self, error: EvalError) -> EvalError {
        let bare = error.without_trace();
        match self.stop(Some(bare), false) {
            Ok(()) => {
                if let Some(debugger) = self.debugger() {
                    debugger.shown = Some(error.clone());
                }
                error
            }
            // The user has seen enough: nothing catches it any more.
            Err(_) => {
                let error = error.as_fatal();
                if let Some(debugger) = self.debugger() {
                    debugger.shown = Some(error.clone());
                }
                error
            }
        }
    }

    /// Stops if a debugger is there. With an error to show, ending is that error.
    fn stop(&mut self, error: Option<EvalError>, is_breakpoint: bool) -> EvalResult<()> {
        let Some(debugger) = self.debugger() else { return Ok(()) };
        let Some(mut shell) = debugger.shell.take() else { return Ok(()) };
        let depth = debugger.frames.len();
        let in_try = debugger.try_level > 0 && !is_breakpoint;
        debugger.step = false;
        if let (Some(error), Some(last)) = (&error, debugger.frames.last()) {
            if !last.pos.is_none() {
                let pos = if error.pos().is_none() { last.pos } else { error.pos() };
                let text = FrameText::Error(error.message().into_owned());
                let frame = Frame { text, pos, env: last.env, scope: last.scope, level: last.level };
                debugger.frames.push(frame);
            }
        }
        let stop = DebugStop { error, is_breakpoint, in_try };
        let action = shell.stop(self, &stop);
        if let Some(debugger) = self.debugger() {
            debugger.frames.truncate(depth);
            debugger.shell = Some(shell);
            debugger.step = action == DebugAction::Step;
        }
        match (action, stop.error) {
            (DebugAction::Quit, Some(error)) => Err(error.as_fatal()),
            (DebugAction::Quit, None) => Err(EvalError::new(ErrorKind::Quit, "evaluation was ended")),
            _ => Ok(()),
        }
    }

    /// `builtins.break`.
    pub(crate) fn breakpoint(&mut self) -> EvalResult<()> {
        if !self.can_stop() {
            return Ok(());
        }
        let error = EvalError::new(ErrorKind::Eval, "breakpoint reached");
        let result = self.stop(Some(error), true);
        if let (Err(error), Some(debugger)) = (&result, self.debugger()) {
            debugger.shown = Some(error.clone());
        }
        result
    }

    /// A stop that is no error: after a trace or a warning.
    pub(crate) fn pause(&mut self) -> EvalResult<()> {
        if self.can_stop() { self.stop(None, false) } else { Ok(()) }
    }

    /// Runs what `tryEval` guards.
    pub(crate) fn guarded<T>(&mut self, f: impl FnOnce(&mut Vm) -> T) -> T {
        if let Some(debugger) = self.debugger() {
            debugger.try_level += 1;
        }
        let result = f(self);
        if let Some(debugger) = self.debugger() {
            debugger.try_level -= 1;
        }
        result
    }

    // ---- for the shell ----------------------------------------------------------------------------------

    /// How many frames there are. Frame 0 is the innermost.
    pub fn debug_frames(&mut self) -> usize {
        self.debugger().map_or(0, |d| d.frames.len())
    }

    fn frame(&mut self, index: usize) -> Option<&Frame> {
        let frames = &self.debugger()?.frames;
        frames.len().checked_sub(index + 1).map(|n| &frames[n])
    }

    /// One frame.
    pub fn debug_frame(&mut self, index: usize) -> Option<DebugFrame> {
        let frame = self.frame(index)?;
        let (pos, env) = (frame.pos, frame.env);
        let is_error = matches!(frame.text, FrameText::Error(_));
        let (text, subject, rest) = match &frame.text {
            FrameText::Call => ("while calling a function".to_owned(), String::new(), ""),
            FrameText::Let => ("while evaluating a '".into(), "let".into(), "' expression"),
            FrameText::Lambda(Some(name)) => ("while calling ".into(), format!("'{name}'"), ""),
            FrameText::Lambda(None) => ("while calling ".into(), "anonymous lambda".into(), ""),
            FrameText::Error(message) => (message.clone(), String::new(), ""),
            FrameText::File => {
                let path = match pos.origin() {
                    Some(Origin::Path(path)) => String::from_utf8_lossy(&path).into_owned(),
                    _ => String::new(),
                };
                ("while evaluating the file '".into(), path, "':")
            }
            FrameText::Select(select) => {
                let select = *select;
                let path = self.select_text(select, env);
                ("while evaluating the attribute '".into(), path, "'")
            }
        };
        Some(DebugFrame { is_error, text, subject, rest: rest.to_owned(), pos })
    }

    /// The names in scope of a frame, innermost first, without the global ones.
    pub fn debug_scopes(&mut self, index: usize) -> Vec<DebugScope> {
        let Some(frame) = self.frame(index) else { return Vec::new() };
        let (env, level) = (frame.env, frame.level);
        let mut next = frame.scope;
        let mut scopes: Vec<DebugScope> = Vec::new();
        let mut group = None;
        while let Some(name) = next {
            if group != Some(name.group) {
                group = Some(name.group);
                scopes.push(DebugScope { names: Vec::new(), with: None });
            }
            let Some(scope) = scopes.last_mut() else { break };
            match name.name {
                Some(name) => scope.names.push(name),
                None => scope.with = with_names(env.up(level - name.level).get(name.slot)),
            }
            next = name.outer;
        }
        for scope in &mut scopes {
            scope.names.sort();
        }
        scopes
    }

    /// The names that are always in scope, but for those with underscores in front.
    pub fn debug_globals(&self) -> Vec<Sym> {
        let mut names: Vec<Sym> =
            self.globals.names.keys().filter(|n| !n.as_bytes().starts_with(b"__")).copied().collect();
        names.sort();
        names
    }

    /// The value of an expression in the scope of a frame, and of `more` names before that.
    pub fn debug_eval(
        &mut self,
        index: usize,
        text: &[u8],
        dir: &[u8],
        more: &[(Sym, Value)],
    ) -> EvalResult<Value> {
        let (env, outer) = match self.frame(index) {
            Some(frame) => (Some(frame.env), Some(Outer { names: frame.scope, level: frame.level })),
            None => (None, None),
        };
        let names: Vec<Sym> = more.iter().map(|(name, _)| *name).collect();
        let code = self.compile_inside(text, Origin::String, dir, &names, outer)?;
        let env = Env::new(env, code.frame_size as usize);
        for (i, (_, value)) in more.iter().enumerate() {
            env.set(i as u32, *value);
        }
        self.eval(&code.body, env)
    }
}

fn with_names(scope: Value) -> Option<Vec<Sym>> {
    let attrs: Attrs = match scope.as_thunk() {
        Some(thunk) => thunk.result()?.as_attrs()?,
        None => scope.as_attrs()?,
    };
    Some(attrs.shape().syms().to_vec())
}
