//! The debugger's prompt: `--debugger` lets evaluation stop here at errors and breakpoints.

use firn_eval::{
    DebugAction, DebugFrame, DebugShell, DebugStop, EvalError, Place, PrintOptions, Sym, Value, Vm,
    code_excerpt, print_value, render_error, type_phrase,
};
use firn_store::activity::{Logger, Verbosity};
use std::fmt::Write as _;
use std::io::{BufRead, IsTerminal, Write};
use std::sync::Arc;

const RED: &str = "\x1b[31;1m";
const GREEN: &str = "\x1b[32;1m";
const BLUE: &str = "\x1b[34;1m";
const MAGENTA: &str = "\x1b[35;1m";
const NORMAL: &str = "\x1b[0m";

const HELP: &str = "The following commands are available:

  <expr>                       Evaluate and print expression
  <x> = <expr>                 Bind expression to variable
  :a, :add <expr>              Add attributes from resulting set to scope
  :p, :print <expr>            Evaluate and print expression recursively
                               Strings are printed directly, without escaping.
  :q, :quit                    End evaluation
  :t <expr>                    Describe result of evaluation
  :te, :trace-enable [bool]    Enable, disable or toggle showing traces for
                               errors
  :?, :help                    Brings up this help menu

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
    logger: Arc<dyn Logger>,
    show_trace: bool,
    current_dir: Vec<u8>,
    greeted: bool,
}

impl Prompt {
    pub fn new(logger: Arc<dyn Logger>, show_trace: bool, current_dir: Vec<u8>) -> Prompt {
        Prompt { logger, show_trace, current_dir, greeted: false }
    }

    fn error(&self, text: impl AsRef<[u8]>) {
        self.logger.log(Verbosity::Error, text.as_ref());
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
        self.logger.pause();
        let mut session = Session { prompt: self, frame: 0, names: Vec::new() };
        let action = session.run(vm);
        self.logger.resume();
        action
    }
}

/// What a line led to.
enum Next {
    Again,
    /// The line is the beginning of something longer.
    More,
    Leave(DebugAction),
}

/// One stop.
struct Session<'a> {
    prompt: &'a mut Prompt,
    /// The frame that expressions are evaluated in, 0 being the innermost.
    frame: usize,
    /// Names that were bound at the prompt.
    names: Vec<(Sym, Value)>,
}

fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

impl Session<'_> {
    fn run(&mut self, vm: &mut Vm) -> DebugAction {
        let mut input = String::new();
        loop {
            print(if input.is_empty() { "nix-repl> " } else { "        > " });
            let mut line = Vec::new();
            match std::io::stdin().lock().read_until(b'\n', &mut line) {
                Ok(n) if n > 0 => {}
                _ => {
                    print("\n");
                    return DebugAction::Quit;
                }
            }
            let line = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
            if !std::io::stdin().is_terminal() {
                print(&format!("{line}\n"));
            }
            input.push_str(&line);
            match self.line(vm, input.trim()) {
                Next::Leave(action) => return action,
                Next::More => input.push('\n'),
                Next::Again => {
                    input.clear();
                    print("\n");
                }
            }
        }
    }

    fn line(&mut self, vm: &mut Vm, line: &str) -> Next {
        let (command, arg) = match line.starts_with(':') {
            true => line.split_once(char::is_whitespace).unwrap_or((line, "")),
            false => ("", line),
        };
        let arg = arg.trim();
        match command {
            "" if arg.is_empty() => return Next::Again,
            "" => return self.expression(vm, arg),
            ":?" | ":help" => print(HELP),
            ":bt" | ":backtrace" => {
                for index in 0..vm.debug_frames() {
                    self.show_frame(vm, index);
                }
            }
            ":env" => print(&scopes(vm, self.frame)),
            ":st" => {
                if let Ok(index) = arg.parse() {
                    self.frame = index;
                }
                if self.frame < vm.debug_frames() {
                    self.show_frame(vm, self.frame);
                    print("\n");
                    print(&scopes(vm, self.frame));
                }
            }
            ":s" | ":step" => return Next::Leave(DebugAction::Step),
            ":c" | ":continue" => return Next::Leave(DebugAction::Continue),
            ":q" | ":quit" => return Next::Leave(DebugAction::Quit),
            ":te" | ":trace-enable" => self.trace_enable(arg),
            ":a" | ":add" => {
                return self.with_value(vm, arg, |session, vm, value| {
                    let value = vm.force(value)?;
                    let Some(attrs) = value.as_attrs() else {
                        let kind = type_phrase(value);
                        let message = format!("expected a set but found {kind}");
                        return Err(EvalError::new(firn_eval::ErrorKind::Type, message));
                    };
                    let before = session.names.len();
                    session.names.extend(attrs.sorted());
                    print(&format!("Added {} variables.\n", session.names.len() - before));
                    Ok(())
                });
            }
            ":t" => {
                return self.with_value(vm, arg, |_, vm, value| {
                    print(&format!("{}\n", type_phrase(vm.force(value)?)));
                    Ok(())
                });
            }
            ":p" | ":print" => {
                return self.with_value(vm, arg, |_, vm, value| {
                    let value = vm.force(value)?;
                    let text = match value.as_str() {
                        Some(text) => text.as_bytes().to_vec(),
                        None => print_value(vm, value, &PrintOptions::unambiguous(true))?,
                    };
                    print(&format!("{}\n", String::from_utf8_lossy(&text)));
                    Ok(())
                });
            }
            other => self.prompt.error(format!("{RED}error:{NORMAL} unknown command '{other}'")),
        }
        Next::Again
    }

    fn trace_enable(&mut self, arg: &str) {
        let on = match arg {
            "true" => true,
            "false" => false,
            "" => !self.prompt.show_trace,
            _ => {
                let text = format!("{RED}error:{NORMAL} unexpected argument '{arg}' to :trace-enable");
                return self.prompt.error(text);
            }
        };
        self.prompt.show_trace = on;
        print(if on { "showing error traces\n" } else { "not showing error traces\n" });
    }

    fn eval(&self, vm: &mut Vm, text: &str) -> Result<Value, EvalError> {
        vm.debug_eval(self.frame, text.as_bytes(), &self.prompt.current_dir, &self.names)
    }

    /// Evaluates `text` and does something with the value.
    fn with_value(
        &mut self,
        vm: &mut Vm,
        text: &str,
        f: impl FnOnce(&mut Self, &mut Vm, Value) -> Result<(), EvalError>,
    ) -> Next {
        match self.eval(vm, text).and_then(|value| f(self, vm, value)) {
            Ok(()) => Next::Again,
            Err(error) if is_incomplete(&error) => Next::More,
            Err(error) => {
                self.prompt.error(render_error(&error, &**vm.host(), self.prompt.show_trace));
                Next::Again
            }
        }
    }

    /// An expression, or names to bind.
    fn expression(&mut self, vm: &mut Vm, text: &str) -> Next {
        for end in ["", ";"] {
            // The comment sign may be part of the line.
            let Ok(set) = self.eval(vm, &format!("{{ {text}{end}\n}}")) else { continue };
            if let Some(attrs) = set.as_attrs() {
                self.names.extend(attrs.sorted());
                return Next::Again;
            }
        }
        self.with_value(vm, text, |_, vm, value| {
            let options = PrintOptions { max_depth: 1, ..PrintOptions::unambiguous(true) };
            let text = print_value(vm, value, &options)?;
            print(&format!("{}\n", String::from_utf8_lossy(&text)));
            Ok(())
        })
    }

    fn show_frame(&self, vm: &mut Vm, index: usize) {
        let Some(frame) = vm.debug_frame(index) else { return };
        let place = frame.pos.place(&**vm.host());
        let mut text = format!("\n{BLUE}{index}{NORMAL}: {}", described(&frame));
        if let Some(place) = place {
            let _ = write!(text, "{}", shown_place(vm, &frame, &place));
        }
        print(&text);
    }
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

/// Whether an expression only lacks its end.
fn is_incomplete(error: &EvalError) -> bool {
    error.kind() == firn_eval::ErrorKind::Syntax && error.message().contains("unexpected end of file")
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
