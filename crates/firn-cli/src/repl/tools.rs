//! What commands at a prompt do with values, whether evaluation stands still (the debugger) or is over.

use super::session::{Done, Failure, shown_name};
use crate::commands::nix::{edit, log};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_core::{DerivedPath, OutputsSpec, StorePath};
use firn_eval::{Attrs, Coerce, EvalResult, Pos, PrintOptions, Sym, Value, Vm, print_value, type_phrase};
use firn_store::BuildMode;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// An evaluator and the names that are in scope at the prompt.
pub trait Machine {
    /// Does something with the evaluator.
    fn with<T>(&self, f: impl FnOnce(&mut Vm) -> T) -> T;
    /// The value of an expression in scope, evaluated, and kept.
    fn eval(&self, text: &str) -> EvalResult<Value>;
    /// The names in scope, but for global ones.
    fn names(&self) -> Vec<Sym>;
    /// Waits until all derivations are in the store.
    fn flush(&self) -> CliResult<()>;
}

/// The commands that need nothing but an expression.
pub struct Tools<'a, M> {
    pub context: &'a Context,
    pub machine: &'a M,
}

impl<M: Machine> Tools<'_, M> {
    /// Does the command, if it is one of these.
    pub fn command(&self, command: &str, arg: &str) -> Option<Done> {
        Some(match command {
            ":t" => self.describe(arg),
            ":p" | ":print" => self.print_whole(arg),
            ":b" => self.build(arg, false),
            ":bl" => self.build(arg, true),
            ":i" => self.with_derivation("nix-env", &["-i".into()], arg),
            ":sh" => self.with_derivation("nix-shell", &[], arg),
            ":u" => self.shell_with(arg),
            ":log" => self.log(arg),
            ":doc" => self.doc(arg),
            _ => return None,
        })
    }

    fn describe(&self, text: &str) -> Done {
        let value = self.machine.eval(text)?;
        self.context.print(format!("{}\n", type_phrase(value)).as_bytes())?;
        Ok(())
    }

    fn print_whole(&self, text: &str) -> Done {
        let value = self.machine.eval(text)?;
        let text = match value.as_str() {
            Some(text) => text.as_bytes().to_vec(),
            None => self.shown(value, usize::MAX)?,
        };
        self.context.print(&[&text[..], b"\n"].concat())?;
        Ok(())
    }

    /// A value as the prompt shows it, down to a depth.
    pub fn shown(&self, value: Value, max_depth: usize) -> Done<Vec<u8>> {
        let options = PrintOptions {
            max_depth,
            indent: 2,
            colour: std::io::stdout().is_terminal(),
            ..PrintOptions::unambiguous(true)
        };
        Ok(self.machine.with(|vm| print_value(vm, value, &options))?)
    }

    /// Shows a value as it is after an expression.
    pub fn show(&self, value: Value) -> Done {
        let text = self.shown(value, 1)?;
        self.context.print(&[&text[..], b"\n"].concat())?;
        Ok(())
    }

    /// Shows all names of a set.
    pub fn show_names(&self, attrs: Option<Attrs>) -> Done {
        let attrs = attrs.ok_or_else(|| CliError::failed("nothing has been loaded yet"))?;
        let names: String = attrs.sorted().map(|(name, _)| format!("{name}\n")).collect();
        Ok(crate::pager::print(self.context, names.as_bytes())?)
    }

    /// Opens an editor where a value was written.
    pub fn edit(&self, text: &str) -> Done {
        let value = self.machine.eval(text)?;
        let (file, line) = self.machine.with(|vm| place(vm, value))?;
        let command = edit::editor_command(&file, line);
        let [program, args @ ..] = &command[..] else { return Ok(()) };
        self.run_command(program, |command| {
            command.args(args);
        })
    }

    fn with_derivation(&self, program: &str, args: &[OsString], text: &str) -> Done {
        let drv = self.derivation(text)?;
        self.run_program(program, &[args, &[self.display(&drv)?]].concat())
    }

    fn log(&self, text: &str) -> Done {
        let drv = self.derivation(text)?;
        let shown = self.display(&drv)?;
        Ok(log::show(self.context, &drv, &shown.to_string_lossy())?)
    }

    fn display(&self, path: &StorePath) -> Done<OsString> {
        Ok(self.context.store()?.store_dir().display(path).into())
    }

    /// The derivation that an expression gives, written to the store.
    fn derivation(&self, text: &str) -> Done<StorePath> {
        let value = self.machine.eval(text)?;
        self.derivation_of(value)
    }

    fn derivation_of(&self, value: Value) -> Done<StorePath> {
        let path = self.machine.with(|vm| {
            let attrs = value.as_attrs();
            let is_derivation = match attrs {
                Some(attrs) => vm.is_derivation(attrs)?,
                None => false,
            };
            let (Some(attrs), true) = (attrs, is_derivation) else {
                let text = "expression does not evaluate to a derivation, so I can't build it";
                return Err(Failure::from(CliError::failed(text)));
            };
            let found = firn_eval::FoundDerivation { attr_path: String::new(), attrs, name: String::new() };
            let path = vm.drv_path_if_any(&found)?;
            path.ok_or_else(|| {
                let text = "expression did not evaluate to a valid derivation (no 'drvPath' attribute)";
                CliError::failed(text).into()
            })
        })?;
        self.machine.flush()?;
        let store = self.context.eval_store()?;
        if !self.context.block_on(store.is_valid_path(&path))?? {
            let shown = store.store_dir().display(&path);
            return Err(
                CliError::failed(format!("expression evaluated to invalid derivation '{shown}'")).into()
            );
        }
        Ok(path)
    }

    fn build(&self, text: &str, with_links: bool) -> Done {
        let drv = self.derivation(text)?;
        let builder = self.context.build_store()?;
        let requests = [DerivedPath::built(drv.clone(), OutputsSpec::All)];
        let results = self.context.block_on(builder.realise(&requests, BuildMode::Normal))??;
        let store = self.context.store()?;
        let mut outputs = results.into_iter().next().map(|result| result.outputs).unwrap_or_default();
        if outputs.is_empty() {
            let known =
                self.context.block_on(self.context.eval_store()?.query_derivation_outputs(&drv))??;
            outputs.extend(known.into_iter().filter_map(|(name, path)| Some((name, path?))));
        }
        let mut out = String::from("\nThis derivation produced the following outputs:\n");
        for (name, path) in &outputs {
            let shown = store.store_dir().display(path);
            match store.as_local_fs().filter(|_| with_links) {
                Some(local) => {
                    let link = format!("repl-result-{name}");
                    let place = std::path::absolute(&link).map_err(CliError::io("resolving", &link))?;
                    local.add_indirect_root(path, &place)?;
                    let _ = writeln!(out, "  ./{link} -> {shown}");
                }
                None => {
                    let _ = writeln!(out, "  {name} -> {shown}");
                }
            }
        }
        self.context.print(out.as_bytes())?;
        Ok(())
    }

    /// A shell in which a package can be used.
    fn shell_with(&self, text: &str) -> Done {
        let package = self.machine.eval(text)?;
        let wrap = self
            .machine
            .eval("drv: (import <nixpkgs> {}).runCommand \"shell\" { buildInputs = [ drv ]; } \"\"")?;
        let value = self.machine.with(|vm| {
            let value = vm.call(wrap, &[package], Pos::NONE)?;
            vm.force(value)
        })?;
        let drv = self.derivation_of(value)?;
        self.run_program("nix-shell", &[self.display(&drv)?])
    }

    /// Runs another program of ours, with the settings of this one.
    fn run_program(&self, name: &str, args: &[OsString]) -> Done {
        let settings = &self.context.settings;
        let mut conf = std::env::var("NIX_CONFIG").unwrap_or_default();
        for setting in settings.overridden() {
            let _ =
                write!(conf, "\n{} = {}", setting.name, String::from_utf8_lossy(&setting.render(settings)));
        }
        self.run_command("/proc/self/exe".as_ref(), |command| {
            command.arg0(name).args(args).env("NIX_CONFIG", conf);
        })
    }

    /// Runs a program on the terminal until it ends; how it ends is its own business.
    fn run_command(&self, program: &OsStr, prepare: impl FnOnce(&mut Command)) -> Done {
        #[expect(clippy::disallowed_methods, reason = "what the user asked for, in the user's environment")]
        let mut command = Command::new(program);
        prepare(&mut command);
        self.context.logger.pause();
        let status = command.status();
        self.context.logger.resume();
        // Ctrl-C was for the other program.
        firn_eval::interrupt(false);
        status.map_err(CliError::io("running", program))?;
        Ok(())
    }

    fn doc(&self, text: &str) -> Done {
        let attribute = self.attribute_doc(text)?;
        let value = self.machine.eval(text)?;
        let doc = self.machine.with(|vm| vm.documentation(value))?;
        let doc = doc.or(attribute).ok_or_else(|| CliError::failed("value does not have documentation"))?;
        self.context.print(format!("{}\n", doc.trim()).as_bytes())?;
        Ok(())
    }

    /// What is written about the attribute that `set.name` selects.
    fn attribute_doc(&self, text: &str) -> Done<Option<String>> {
        let Some((set, name)) = text.rsplit_once('.') else { return Ok(None) };
        let name = name.trim().trim_matches('"');
        if set.is_empty() || name.is_empty() || name.contains(char::is_whitespace) {
            return Ok(None);
        }
        // Where this is no selection after all, the whole is evaluated, with its own error.
        let Ok(value) = self.machine.eval(set) else { return Ok(None) };
        let Some(attrs) = value.as_attrs() else { return Ok(None) };
        let name = Sym::new(name.as_bytes());
        if attrs.find(name).is_none() {
            return Ok(None);
        }
        let pos = attrs.position_of(name);
        let (place, comment) = self.machine.with(|vm| (pos.place(&**vm.host()), vm.doc_comment(pos)));
        let Some(place) = place else { return Ok(None) };
        let comment = comment.filter(|comment| !comment.is_empty());
        let comment = comment.unwrap_or_else(|| "No documentation found.\n\n".to_owned());
        Ok(Some(format!(
            "Attribute `{}`\n\n  … defined at {}\n\n{comment}",
            shown_name(name),
            place.display()
        )))
    }
}

/// Where a value can be edited: the file that it names, or where it was written.
fn place(vm: &mut Vm, value: Value) -> Done<(OsString, u32)> {
    let file = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    if matches!(value.kind(), firn_eval::Kind::Str(_) | firn_eval::Kind::Path(_)) {
        let what = "while evaluating the filename to edit";
        let (path, _) = vm.coerce(value, Coerce::PLAIN, Pos::NONE, what)?;
        return match path.strip_prefix(b"//builtin/") {
            Some(name) => Err(no_file(&format!("<nix/{}>", String::from_utf8_lossy(name)))),
            None => Ok((file(&path), 0)),
        };
    }
    if let Some(closure) = value.as_closure() {
        return match closure.next().1.place(&**vm.host()) {
            Some(place) => {
                match place.origin {
                    firn_eval::Origin::Path(path) => Ok((file(&path), place.line)),
                    firn_eval::Origin::Internal(name) => Err(no_file(name)),
                    _ => Err(CliError::failed(format!("'{}' cannot be shown in an editor", place.display()))
                        .into()),
                }
            }
            None => Err(CliError::failed("the function cannot be shown in an editor").into()),
        };
    }
    let (position, _) = vm
        .find_along_path("meta.position", Attrs::empty(), value)
        .map_err(|_| CliError::failed("package has no source location information"))?;
    let what = "while evaluating the 'meta.position' attribute of a derivation";
    let (text, _) = vm.coerce(position, Coerce::PLAIN, Pos::NONE, what)?;
    let (path, line) = edit::split_position(&text).ok_or_else(|| {
        let shown = String::from_utf8_lossy(&text);
        CliError::failed(format!("cannot parse 'meta.position' attribute '{shown}'"))
    })?;
    Ok((file(path), line))
}

fn no_file(name: &str) -> Failure {
    CliError::failed(format!("cannot open '{name}' in an editor because it has no physical path")).into()
}
