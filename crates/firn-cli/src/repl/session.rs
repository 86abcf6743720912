//! What a session knows, and how a line is dealt with.

use super::editor::{Lines, whole_text};
use super::tools::{Machine, Tools};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::evaluation::Evaluation;
use crate::installables::InstallableArgs;
use firn_core::flake_ref::FlakeRef;
use firn_eval::{Attrs, EvalError, EvalResult, Sym, Value, Vm, render_error};
use firn_flake::LockFlags;
use firn_store::activity::Verbosity;
use std::cell::{RefCell, RefMut};
use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Names that were bound at the prompt or loaded.
pub struct Scope {
    /// Each name once.
    names: Vec<(Sym, Value)>,
    /// What paths are relative to.
    dir: Vec<u8>,
}

impl Scope {
    fn eval(&self, vm: &mut Vm, text: &str) -> EvalResult<Value> {
        vm.eval_with_names(text.as_bytes(), &self.dir, &self.names)
    }

    /// Adds the attributes of a set; they hide what had their names before.
    fn add(&mut self, attrs: Attrs) {
        attrs.value().keep();
        let new: HashSet<Sym> = attrs.sorted().map(|(name, _)| name).collect();
        self.names.retain(|(name, _)| !new.contains(name));
        self.names.extend(attrs.sorted());
    }
}

/// An evaluator, and a scope that lines change.
pub struct InScope {
    evaluation: Rc<RefCell<Evaluation>>,
    scope: Rc<RefCell<Scope>>,
}

impl Machine for InScope {
    fn with<T>(&self, f: impl FnOnce(&mut Vm) -> T) -> T {
        f(&mut self.evaluation.borrow_mut().vm)
    }

    fn eval(&self, text: &str) -> EvalResult<Value> {
        let mut evaluation = self.evaluation.borrow_mut();
        let value = self.scope.borrow().eval(&mut evaluation.vm, text)?;
        Ok(evaluation.vm.force(value)?.keep())
    }

    fn names(&self) -> Vec<Sym> {
        self.scope.borrow().names.iter().map(|(name, _)| *name).collect()
    }

    fn flush(&self) -> CliResult<()> {
        self.evaluation.borrow().flush()
    }
}

/// Why a line failed: in the language, or in what a command does.
pub enum Failure {
    Evaluation(EvalError),
    Command(CliError),
}

impl From<EvalError> for Failure {
    fn from(error: EvalError) -> Self {
        Self::Evaluation(error)
    }
}

impl From<CliError> for Failure {
    fn from(error: CliError) -> Self {
        Self::Command(error)
    }
}

impl From<firn_store::StoreError> for Failure {
    fn from(error: firn_store::StoreError) -> Self {
        Self::Command(error.into())
    }
}

pub type Done<T = ()> = Result<T, Failure>;

/// What a line led to.
pub enum Next {
    Again,
    Quit,
}

/// A session at the prompt.
pub struct Repl<'a> {
    pub(super) context: &'a Context,
    what: InstallableArgs,
    installables: Vec<OsString>,
    evaluation: Rc<RefCell<Evaluation>>,
    scope: Rc<RefCell<Scope>>,
    machine: Rc<InScope>,
    files: Vec<OsString>,
    flakes: Vec<String>,
    pub(super) last_loaded: Option<Attrs>,
    pub(super) show_trace: bool,
}

impl<'a> Repl<'a> {
    /// A session in which the attributes of all `installables` are names.
    pub fn new(context: &'a Context, what: InstallableArgs, installables: Vec<OsString>) -> CliResult<Self> {
        let evaluation = Evaluation::new(context, &what.eval, false)?;
        let dir = evaluation.current_dir().to_vec();
        let evaluation = Rc::new(RefCell::new(evaluation));
        let scope = Rc::new(RefCell::new(Scope { names: Vec::new(), dir }));
        let machine = InScope { evaluation: Rc::clone(&evaluation), scope: Rc::clone(&scope) };
        Ok(Self {
            context,
            what,
            installables,
            evaluation,
            scope,
            machine: Rc::new(machine),
            files: Vec::new(),
            flakes: Vec::new(),
            last_loaded: None,
            show_trace: context.settings.show_trace,
        })
    }

    /// Reads and does lines until there are no more.
    pub fn run(&mut self) -> CliResult<()> {
        let version = firn_core::REFERENCE_VERSION;
        self.notice(&format!("Nix {version}\nType :? for help."));
        if let Err(failure) = self.load_all() {
            return Err(self.command_error(failure));
        }
        crate::builds::stay_after_signals();
        interrupt_on_signals(self.context)?;
        let history = self.context.settings.dirs.data_home.as_ref().map(|dir| dir.join("repl-history"));
        let mut lines = Lines::new(Rc::clone(&self.machine), history)?;
        loop {
            let next = |more: bool| {
                // Not after the line was read: Ctrl-C may have come since.
                firn_eval::interrupt(false);
                self.context.logger.pause();
                let line = lines.next(more);
                self.context.logger.resume();
                line
            };
            let Some(text) = whole_text(next, |text| self.goes_on(text))? else {
                self.print("\n")?;
                return Ok(());
            };
            match self.line(&text) {
                Ok(Next::Quit) => return Ok(()),
                Ok(Next::Again) => {}
                Err(failure) => self.report(failure),
            }
            self.print("\n")?;
        }
    }

    fn goes_on(&self, text: &str) -> bool {
        let expression = match text.strip_prefix(':') {
            Some(command) => command.split_once(char::is_whitespace).map_or("", |(_, arg)| arg.trim()),
            None => text,
        };
        // Arguments that are no expressions.
        let takes_text = [":l", ":load", ":lf", ":load-flake", ":te", ":trace-enable"];
        let is_text = takes_text.iter().any(|name| text.split_whitespace().next() == Some(name));
        !expression.is_empty() && !is_text && self.evaluation.borrow().vm.is_incomplete(expression.as_bytes())
    }

    fn line(&mut self, text: &str) -> Done<Next> {
        if text.is_empty() {
            return Ok(Next::Again);
        }
        if text.starts_with(':') {
            let (command, arg) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
            return self.command(command, arg.trim());
        }
        let is_bindings = self.evaluation.borrow().vm.is_bindings(text.as_bytes());
        if is_bindings {
            let attrs = {
                let scope = self.scope.borrow();
                self.vm().vm.eval_bindings(text.as_bytes(), &scope.dir, &scope.names)?
            };
            self.scope.borrow_mut().add(attrs);
            return Ok(Next::Again);
        }
        let value = self.eval(text)?;
        self.tools().show(value)?;
        Ok(Next::Again)
    }

    // ---- for commands ------------------------------------------------------------------------------------

    pub(super) fn vm(&self) -> RefMut<'_, Evaluation> {
        self.evaluation.borrow_mut()
    }

    /// The value of an expression, evaluated.
    pub(super) fn eval(&self, text: &str) -> Done<Value> {
        Ok(self.machine.eval(text)?)
    }

    pub(super) fn tools(&self) -> Tools<'_, InScope> {
        Tools { context: self.context, machine: &self.machine }
    }

    pub(super) fn print(&self, text: &str) -> CliResult<()> {
        self.context.print(text.as_bytes())
    }

    pub(super) fn notice(&self, text: &str) {
        self.context.logger.log(Verbosity::Notice, text.as_bytes());
    }

    /// Makes the attributes of a value names, and says which.
    pub(super) fn add_attributes(&mut self, value: Value) -> Done {
        let attrs = {
            let mut evaluation = self.vm();
            let what = "while evaluating an attribute set to be merged in the global scope";
            evaluation.vm.force_attrs(value, firn_eval::Pos::NONE, what)?
        };
        self.scope.borrow_mut().add(attrs);
        self.last_loaded = Some(attrs);
        self.notice(&format!("Added {} variables.", attrs.len()));
        let most = 20;
        let names: Vec<String> = attrs.sorted().take(most).map(|(name, _)| shown_name(name)).collect();
        self.notice(&names.join(", "));
        if attrs.len() > most {
            self.notice(&format!("... and {} more; view with :ll", attrs.len() - most));
        }
        Ok(())
    }

    /// Loads a file and makes its attributes names.
    pub(super) fn load_file(&mut self, file: &Path) -> Done {
        self.files.retain(|known| known != file.as_os_str());
        self.files.push(file.as_os_str().to_owned());
        let value = {
            let mut evaluation = self.vm();
            let value = evaluation.file(file)?;
            let args = evaluation.auto_args;
            evaluation.vm.auto_call(args, value)?.keep()
        };
        self.add_attributes(value)
    }

    /// Loads a flake and makes its attributes names.
    pub(super) fn load_flake(&mut self, reference: &str) -> Done {
        let pure = self.vm().vm.settings().pure_eval;
        let parsed = flake_to_load(self.context, reference, pure)?;
        self.flakes.retain(|known| known != reference);
        self.flakes.push(reference.to_owned());
        let value = {
            let mut evaluation = self.vm();
            let flags = LockFlags {
                update: false,
                use_registries: Some(!pure),
                allow_unlocked: !pure,
                ..LockFlags::default()
            };
            let locked = evaluation.lock(self.context, &parsed, &flags)?;
            evaluation.call_flake(&locked)?.keep()
        };
        self.add_attributes(value)
    }

    /// Forgets what was read of files, so that they are read again.
    pub(super) fn read_again(&mut self) -> CliResult<()> {
        // Trees of flakes are as they were fetched, else.
        self.context.fetcher()?.forget();
        let new = Evaluation::new(self.context, &self.what.eval, false)?;
        *self.evaluation.borrow_mut() = new;
        Ok(())
    }

    /// Loads everything again that was loaded; all else is forgotten.
    pub(super) fn reload(&mut self) -> Done {
        self.read_again()?;
        self.scope.borrow_mut().names.clear();
        self.load_all()
    }

    fn load_all(&mut self) -> Done {
        for file in std::mem::take(&mut self.files) {
            self.notice(&format!("Loading \"{}\"...", PathBuf::from(&file).display()));
            self.load_file(Path::new(&file))?;
        }
        for reference in std::mem::take(&mut self.flakes) {
            self.notice(&format!("Loading flake '{reference}'..."));
            self.load_flake(&reference)?;
        }
        for name in self.installables.clone() {
            let value = {
                let mut evaluation = self.vm();
                let value = match self.what.has_expression() {
                    true => self.what.value_in(&mut evaluation, &name)?,
                    false => self.what.flake_value_in(self.context, &mut evaluation, &name)?,
                };
                let args = evaluation.auto_args;
                evaluation.vm.auto_call(args, value)?.keep()
            };
            let shown = self.what.shown(self.context, &name)?;
            self.notice(&format!("Loading installable '{shown}'..."));
            self.add_attributes(value)?;
        }
        Ok(())
    }

    fn report(&self, failure: Failure) {
        match failure {
            Failure::Command(error) => error.report(&self.context.program, &*self.context.logger),
            Failure::Evaluation(error) => {
                let text = render_error(&error, &**self.vm().vm.host(), self.show_trace);
                self.context.logger.log(Verbosity::Error, &text);
            }
        }
    }

    fn command_error(&self, failure: Failure) -> CliError {
        match failure {
            Failure::Command(error) => error,
            Failure::Evaluation(error) => self.vm().fail(error),
        }
    }
}

/// A name as it is written where names stand.
pub fn shown_name(name: Sym) -> String {
    let mut out = Vec::new();
    firn_eval::write_name(&mut out, name.as_bytes());
    String::from_utf8_lossy(&out).into_owned()
}

/// Lets Ctrl-C end evaluation, and nothing more. One listener for good, and from now on: none is lost.
fn interrupt_on_signals(context: &Context) -> CliResult<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = context.runtime()?;
    let _in_runtime = runtime.enter();
    let mut interrupts = signal(SignalKind::interrupt())
        .map_err(|error| CliError::failed(format!("listening to signals: {error}")))?;
    runtime.spawn(async move {
        while interrupts.recv().await.is_some() {
            firn_eval::interrupt(true);
        }
    });
    Ok(())
}

/// What `:load-flake` is about.
pub(crate) fn flake_to_load(context: &Context, reference: &str, pure: bool) -> CliResult<FlakeRef> {
    if reference.is_empty() {
        return Err(CliError::failed(
            "cannot use ':load-flake' without a path specified. (Use '.' for the current working directory.)",
        ));
    }
    let parsed = crate::flakes::parse(context, reference.as_bytes(), true)?;
    if pure && !parsed.input.is_locked(context.settings.trust_tarballs_from_git_forges) {
        return Err(CliError::failed(format!(
            "cannot use ':load-flake' on locked flake reference '{reference}' (use --impure to override)"
        )));
    }
    Ok(parsed)
}
