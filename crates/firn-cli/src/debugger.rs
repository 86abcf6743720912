//! The debugger's prompt: `--debugger` lets evaluation stop here at errors and breakpoints.

use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::repl::{Done, Failure, HELP, Line, Lines, Machine, Tools, flake_to_load, whole_text};
use firn_eval::{
    Attrs, DebugAction, DebugFrame, DebugShell, DebugStop, EvalResult, Place, Pos, Sym, Value, Vm,
    code_excerpt, render_error,
};
use firn_host::StoreHost;
use firn_store::activity::Verbosity;
use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

const RED: &str = "\x1b[31;1m";
const GREEN: &str = "\x1b[32;1m";
const BLUE: &str = "\x1b[34;1m";
const MAGENTA: &str = "\x1b[35;1m";
const NORMAL: &str = "\x1b[0m";

/// What `:?` prints besides the commands of any prompt.
const DEBUG_HELP: &str = "
        Debug mode commands
  :env             Show env stack
  :bt, :backtrace  Show trace stack
  :st              Show current trace
  :st <idx>        Change to another trace in the stack
  :c, :continue    Go until end of program, exception, or builtins.break
  :s, :step        Go one step
";

/// The prompt, from one stop to the next.
pub struct Prompt {
    /// Opens stores of its own: the one of evaluation is at work.
    context: Context,
    host: Arc<StoreHost>,
    auto_args: Attrs,
    show_trace: bool,
    current_dir: Vec<u8>,
    greeted: bool,
    /// Files that were loaded at the prompt, and the names that the last one had.
    files: Vec<Vec<u8>>,
    flakes: Vec<String>,
    last_loaded: Option<Attrs>,
}

impl Prompt {
    pub fn new(context: &Context, host: Arc<StoreHost>, auto_args: Attrs, current_dir: Vec<u8>) -> Prompt {
        let settings = Arc::unwrap_or_clone(context.settings.shared());
        let show_trace = settings.show_trace;
        let context = Context::for_connection(&context.program, settings, Arc::clone(&context.logger));
        auto_args.value().keep();
        Prompt {
            context,
            host,
            auto_args,
            show_trace,
            current_dir,
            greeted: false,
            files: Vec::new(),
            flakes: Vec::new(),
            last_loaded: None,
        }
    }

    fn error(&self, text: impl AsRef<[u8]>) {
        self.context.logger.log(Verbosity::Error, text.as_ref());
    }

    fn announce(&mut self, vm: &Vm, stop: &DebugStop) {
        if let Some(error) = &stop.error {
            let text = render_error(error, &**vm.host(), self.show_trace);
            match stop.is_breakpoint {
                true => self.error(format!("{GREEN}info:{NORMAL} {}\n", error.message())),
                false => self.error([&text[..], b"\n"].concat()),
            }
        }
        if stop.in_try && stop.error.is_some() {
            self.error(format!(
                "This exception occurred in a 'tryEval' call. Use {GREEN}--ignore-try{NORMAL} to skip these.\n"
            ));
        }
        if !self.greeted {
            self.greeted = true;
            let version = firn_core::REFERENCE_VERSION;
            self.error(format!("Nix {version} debugger\nType :? for help."));
        }
    }
}

impl DebugShell for Prompt {
    fn stop(&mut self, vm: &mut Vm, stop: &DebugStop) -> DebugAction {
        self.announce(vm, stop);
        self.context.logger.pause();
        let machine = Rc::new(Stopped {
            vm: RefCell::new(vm),
            frame: Cell::new(0),
            names: RefCell::default(),
            dir: self.current_dir.clone(),
            host: Arc::clone(&self.host),
        });
        let action = Session { prompt: self, machine: &machine }.run();
        self.context.logger.resume();
        match action {
            Ok(action) => action,
            Err(error) => {
                self.error(format!("{RED}error:{NORMAL} {error}"));
                DebugAction::Quit
            }
        }
    }
}

/// The evaluator that stands still.
struct Stopped<'a> {
    vm: RefCell<&'a mut Vm>,
    /// The frame that expressions are evaluated in, 0 being the innermost.
    frame: Cell<usize>,
    /// Names that were bound at the prompt. Nothing is collected while there is a debugger.
    names: RefCell<Vec<(Sym, Value)>>,
    /// What paths are relative to.
    dir: Vec<u8>,
    host: Arc<StoreHost>,
}

impl Machine for Stopped<'_> {
    fn with<T>(&self, f: impl FnOnce(&mut Vm) -> T) -> T {
        f(&mut self.vm.borrow_mut())
    }

    fn eval(&self, text: &str) -> EvalResult<Value> {
        let names = self.names.borrow();
        self.with(|vm| {
            let value = vm.debug_eval(self.frame.get(), text.as_bytes(), &self.dir, &names)?;
            vm.force(value)
        })
    }

    fn names(&self) -> Vec<Sym> {
        let scopes = self.with(|vm| vm.debug_scopes(self.frame.get()));
        let inner = scopes
            .into_iter()
            .flat_map(|scope| scope.names.into_iter().chain(scope.with.into_iter().flatten()));
        self.names.borrow().iter().map(|(name, _)| *name).chain(inner).collect()
    }

    fn flush(&self) -> CliResult<()> {
        self.host.flush().map_err(CliError::Store)
    }
}

/// One stop.
struct Session<'a, 'v> {
    prompt: &'a mut Prompt,
    machine: &'a Rc<Stopped<'v>>,
}

/// Lines of an editor on a terminal; elsewhere with a prompt, as scripts know it.
enum Input<'v> {
    Editor(Lines<Rc<Stopped<'v>>>),
    Plain,
}

impl Input<'_> {
    fn next(&mut self, goes_on: bool) -> CliResult<Line> {
        let Self::Plain = self else {
            let Self::Editor(lines) = self else { return Ok(Line::End) };
            return lines.next(goes_on);
        };
        print(if goes_on { "        > " } else { "nix-repl> " });
        let mut line = Vec::new();
        match std::io::stdin().lock().read_until(b'\n', &mut line) {
            Ok(n) if n > 0 => {}
            _ => return Ok(Line::End),
        }
        let line = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
        if !std::io::stdin().is_terminal() {
            print(&format!("{line}\n"));
        }
        Ok(Line::Text(line))
    }
}

fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

impl<'v> Session<'_, 'v> {
    fn run(&mut self) -> CliResult<DebugAction> {
        let history =
            self.prompt.context.settings.dirs.data_home.as_ref().map(|dir| dir.join("repl-history"));
        let mut lines = match std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
            true => Input::Editor(Lines::new(Rc::clone(self.machine), history)?),
            false => Input::Plain,
        };
        loop {
            let next = |more: bool| {
                // Ctrl-C ended what the last line asked for, and nothing else.
                firn_eval::interrupt(false);
                lines.next(more)
            };
            let Some(text) = whole_text(next, |text| self.goes_on(text))? else {
                print("\n");
                return Ok(DebugAction::Quit);
            };
            match self.line(&text) {
                Ok(Some(action)) => return Ok(action),
                Ok(None) => {}
                Err(Failure::Command(error)) => {
                    error.report(&self.prompt.context.program, &*self.prompt.context.logger)
                }
                Err(Failure::Evaluation(error)) => {
                    let show_trace = self.prompt.show_trace;
                    let text = self.machine.with(|vm| render_error(&error, &**vm.host(), show_trace));
                    self.prompt.error(text);
                }
            }
            print("\n");
        }
    }

    /// Whether the line is the beginning of something longer.
    fn goes_on(&self, text: &str) -> bool {
        let (command, expression) = split_command(text);
        let takes_text = [":l", ":load", ":lf", ":load-flake", ":te", ":trace-enable", ":st"];
        !expression.is_empty()
            && !takes_text.contains(&command)
            && self.machine.with(|vm| vm.is_incomplete(expression.as_bytes()))
    }

    /// Does a line; answers with what is to be done when the prompt is left.
    fn line(&mut self, text: &str) -> Done<Option<DebugAction>> {
        let (command, arg) = split_command(text);
        match command {
            "" => self.expression(arg)?,
            ":?" | ":help" => print(&format!("{HELP}{DEBUG_HELP}")),
            ":bt" | ":backtrace" => self.machine.with(|vm| {
                for index in 0..vm.debug_frames() {
                    show_frame(vm, index);
                }
            }),
            ":env" => print(&self.machine.with(|vm| scopes(vm, self.machine.frame.get()))),
            ":st" => self.choose_frame(arg),
            ":s" | ":step" => return Ok(Some(DebugAction::Step)),
            ":c" | ":continue" => return Ok(Some(DebugAction::Continue)),
            ":q" | ":quit" => return Ok(Some(DebugAction::Quit)),
            ":te" | ":trace-enable" => self.trace_enable(arg)?,
            ":a" | ":add" => {
                let value = self.machine.eval(arg)?;
                self.add(value)?;
            }
            ":l" | ":load" => {
                let path = [&self.prompt.current_dir[..], b"/", arg.as_bytes()].concat();
                let path = if arg.starts_with('/') { arg.as_bytes().to_vec() } else { path };
                self.prompt.files.retain(|known| *known != path);
                self.prompt.files.push(path.clone());
                self.load(&path)?;
            }
            ":lf" | ":load-flake" => self.load_flake(arg)?,
            ":ll" | ":last-loaded" => self.tools().show_names(self.prompt.last_loaded)?,
            ":r" | ":reload" => self.reload()?,
            ":e" | ":edit" => {
                self.tools().edit(arg)?;
                self.reload()?;
            }
            _ => match self.tools().command(command, arg) {
                Some(done) => done?,
                None => return Err(CliError::failed(format!("unknown command '{command}'")).into()),
            },
        }
        Ok(None)
    }

    fn tools(&self) -> Tools<'_, Stopped<'v>> {
        Tools { context: &self.prompt.context, machine: self.machine }
    }

    fn choose_frame(&self, arg: &str) {
        if let Ok(index) = arg.parse() {
            self.machine.frame.set(index);
        }
        let frame = self.machine.frame.get();
        self.machine.with(|vm| {
            if frame < vm.debug_frames() {
                show_frame(vm, frame);
                print("\n");
                print(&scopes(vm, frame));
            }
        });
    }

    fn trace_enable(&mut self, arg: &str) -> Done {
        let on = match arg {
            "true" => true,
            "false" => false,
            "" => !self.prompt.show_trace,
            _ => return Err(CliError::failed(format!("unexpected argument '{arg}' to :trace-enable")).into()),
        };
        self.prompt.show_trace = on;
        print(if on { "showing error traces\n" } else { "not showing error traces\n" });
        Ok(())
    }

    /// Makes the attributes of a value names.
    fn add(&mut self, value: Value) -> Done {
        let what = "while evaluating an attribute set to be merged in the global scope";
        let attrs = self.machine.with(|vm| vm.force_attrs(value, Pos::NONE, what))?;
        self.machine.names.borrow_mut().extend(attrs.sorted());
        self.prompt.last_loaded = Some(attrs);
        print(&format!("Added {} variables.\n", attrs.len()));
        Ok(())
    }

    fn load(&mut self, path: &[u8]) -> Done {
        let args = self.prompt.auto_args;
        let value = self.machine.with(|vm| {
            let value = vm.eval_main_file(&firn_eval::canonical_path(path))?;
            vm.auto_call(args, value)
        })?;
        self.add(value)
    }

    /// Loads a flake and makes its attributes names.
    fn load_flake(&mut self, reference: &str) -> Done {
        let pure = self.machine.with(|vm| vm.settings().pure_eval);
        let flake = flake_to_load(&self.prompt.context, reference, pure)?;
        let url = flake.to_url().map_err(|error| CliError::failed(error.message))?;
        self.prompt.flakes.retain(|known| known != reference);
        self.prompt.flakes.push(reference.to_owned());
        let get = self.machine.eval("__getFlake")?;
        let value = self.machine.with(|vm| vm.call(get, &[Value::str(url.as_bytes())], Pos::NONE))?;
        self.add(value)
    }

    /// Loads all files and flakes again that were loaded.
    fn reload(&mut self) -> Done {
        for path in self.prompt.files.clone() {
            let shown = Path::new(std::ffi::OsStr::from_bytes(&path)).display().to_string();
            print(&format!("Loading \"{shown}\"...\n"));
            self.load(&path)?;
        }
        for reference in self.prompt.flakes.clone() {
            print(&format!("Loading flake '{reference}'...\n"));
            self.load_flake(&reference)?;
        }
        Ok(())
    }

    /// An expression, or names to bind.
    fn expression(&mut self, text: &str) -> Done {
        if text.is_empty() {
            return Ok(());
        }
        if self.machine.with(|vm| vm.is_bindings(text.as_bytes())) {
            let set = self.machine.eval(&format!("{{ {text}\n}}"));
            let set = set.or_else(|_| self.machine.eval(&format!("{{ {text};\n}}")))?;
            if let Some(attrs) = set.as_attrs() {
                self.machine.names.borrow_mut().extend(attrs.sorted());
            }
            return Ok(());
        }
        let value = self.machine.eval(text)?;
        self.tools().show(value)
    }
}

/// A command and what follows it; no command for an expression.
fn split_command(text: &str) -> (&str, &str) {
    let (command, arg) = match text.starts_with(':') {
        true => text.split_once(char::is_whitespace).unwrap_or((text, "")),
        false => ("", text),
    };
    (command, arg.trim())
}

fn show_frame(vm: &mut Vm, index: usize) {
    let Some(frame) = vm.debug_frame(index) else { return };
    let place = frame.pos.place(&**vm.host());
    let mut text = format!("\n{BLUE}{index}{NORMAL}: {}", described(&frame));
    if let Some(place) = place {
        let _ = write!(text, "{}", shown_place(vm, &frame, &place));
    }
    print(&text);
}

fn described(frame: &DebugFrame) -> String {
    let error = if frame.is_error { format!("{RED}error: {NORMAL}") } else { String::new() };
    let subject = match frame.subject.as_str() {
        "" => String::new(),
        subject => format!("{MAGENTA}{subject}{NORMAL}"),
    };
    format!("{error}{}{subject}{}\n", frame.text, frame.rest)
}

fn shown_place(vm: &Vm, frame: &DebugFrame, place: &Place) -> String {
    match code_excerpt(frame.pos, &**vm.host(), place) {
        Some(lines) => format!("{}\n{}\n", place.display(), String::from_utf8_lossy(&lines)),
        None => place.display(),
    }
}

/// The names in scope of a frame, level by level.
fn scopes(vm: &mut Vm, frame: usize) -> String {
    let names = |names: &[Sym]| -> String { names.iter().map(|name| format!("{name} ")).collect() };
    let mut out = String::new();
    let scopes = vm.debug_scopes(frame);
    let last = scopes.len();
    for (level, scope) in scopes.into_iter().enumerate() {
        let _ = write!(out, "Env level {level}\nstatic: {MAGENTA}{}{NORMAL}\n", names(&scope.names));
        if let Some(with) = scope.with {
            let _ = writeln!(out, "with: {MAGENTA}{}{NORMAL}", names(&with));
        }
        out.push('\n');
    }
    let _ = write!(out, "Env level {last}\n{MAGENTA}{}{NORMAL}\n\n", names(&vm.debug_globals()));
    out
}
