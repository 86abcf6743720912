//! The commands, all of which begin with a colon.

use super::help::HELP;
use super::session::{Done, Next, Repl, shown_name};
use crate::commands::nix::{edit, log};
use crate::error::CliError;
use firn_core::{DerivedPath, OutputsSpec, StorePath};
use firn_eval::{Attrs, Coerce, Pos, Sym, Value, type_phrase};
use firn_store::BuildMode;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

impl Repl<'_> {
    pub(super) fn command(&mut self, command: &str, arg: &str) -> Done<Next> {
        match command {
            ":?" | ":help" => self.print(HELP)?,
            ":q" | ":quit" => return Ok(Next::Quit),
            ":a" | ":add" => {
                let value = self.eval(arg)?;
                self.add_attributes(value)?;
            }
            ":l" | ":load" => {
                self.read_again()?;
                self.load_file(Path::new(arg))?;
            }
            ":lf" | ":load-flake" => {
                self.read_again()?;
                self.load_flake(arg)?;
            }
            ":ll" | ":last-loaded" => self.last_loaded()?,
            ":r" | ":reload" => self.reload()?,
            ":e" | ":edit" => self.edit(arg)?,
            ":t" => {
                let value = self.eval(arg)?;
                self.print(&format!("{}\n", type_phrase(value)))?;
            }
            ":p" | ":print" => {
                let value = self.eval(arg)?;
                let text = match value.as_str() {
                    Some(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
                    None => self.show(value, usize::MAX)?,
                };
                self.print(&format!("{text}\n"))?;
            }
            ":b" => self.build(arg, false)?,
            ":bl" => self.build(arg, true)?,
            ":i" => {
                let drv = self.derivation(arg)?;
                self.run_program("nix-env", &["-i".into(), self.display(&drv)?])?;
            }
            ":sh" => {
                let drv = self.derivation(arg)?;
                self.run_program("nix-shell", &[self.display(&drv)?])?;
            }
            ":u" => self.shell_with(arg)?,
            ":log" => {
                let drv = self.derivation(arg)?;
                let shown = self.display(&drv)?;
                log::show(self.context, &drv, &shown.to_string_lossy())?;
            }
            ":doc" => self.doc(arg)?,
            ":te" | ":trace-enable" => self.trace_enable(command, arg)?,
            _ => return Err(CliError::failed(format!("unknown command '{command}'")).into()),
        }
        Ok(Next::Again)
    }

    fn trace_enable(&mut self, command: &str, arg: &str) -> Done {
        self.show_trace = match arg {
            "true" => true,
            "false" => false,
            "" => !self.show_trace,
            _ => return Err(CliError::failed(format!("unexpected argument '{arg}' to {command}")).into()),
        };
        self.print(if self.show_trace { "showing error traces\n" } else { "not showing error traces\n" })?;
        Ok(())
    }

    fn last_loaded(&self) -> Done {
        let attrs = self.last_loaded.ok_or_else(|| CliError::failed("nothing has been loaded yet"))?;
        let names: String = attrs.sorted().map(|(name, _)| format!("{name}\n")).collect();
        Ok(crate::pager::print(self.context, names.as_bytes())?)
    }

    fn display(&self, path: &StorePath) -> Done<OsString> {
        Ok(self.context.store()?.store_dir().display(path).into())
    }

    /// The derivation that an expression gives, written to the store.
    fn derivation(&self, text: &str) -> Done<StorePath> {
        let value = self.eval(text)?;
        self.derivation_of(value)
    }

    fn derivation_of(&self, value: Value) -> Done<StorePath> {
        let mut evaluation = self.vm();
        let attrs = value.as_attrs();
        let is_derivation = match attrs {
            Some(attrs) => evaluation.vm.is_derivation(attrs)?,
            None => false,
        };
        let (Some(attrs), true) = (attrs, is_derivation) else {
            let text = "expression does not evaluate to a derivation, so I can't build it";
            return Err(CliError::failed(text).into());
        };
        let found = firn_eval::FoundDerivation { attr_path: String::new(), attrs, name: String::new() };
        let path = evaluation.vm.drv_path_if_any(&found)?.ok_or_else(|| {
            CliError::failed("expression did not evaluate to a valid derivation (no 'drvPath' attribute)")
        })?;
        evaluation.flush()?;
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
        self.print(&out)?;
        Ok(())
    }

    /// A shell in which a package can be used.
    fn shell_with(&self, text: &str) -> Done {
        let package = self.eval(text)?;
        let wrap =
            self.eval("drv: (import <nixpkgs> {}).runCommand \"shell\" { buildInputs = [ drv ]; } \"\"")?;
        let value = {
            let mut evaluation = self.vm();
            let value = evaluation.vm.call(wrap, &[package], Pos::NONE)?;
            evaluation.vm.force(value)?.keep()
        };
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

    fn edit(&mut self, text: &str) -> Done {
        let value = self.eval(text)?;
        let (file, line) = self.place(value)?;
        let command = edit::editor_command(&file, line);
        if let [program, args @ ..] = &command[..] {
            self.run_command(program, |command| {
                command.args(args);
            })?;
        }
        self.reload()
    }

    /// Where a value can be edited: the file that it names, or where it was written.
    fn place(&self, value: Value) -> Done<(OsString, u32)> {
        let mut evaluation = self.vm();
        let vm = &mut evaluation.vm;
        let file = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
        if matches!(value.kind(), firn_eval::Kind::Str(_) | firn_eval::Kind::Path(_)) {
            let what = "while evaluating the filename to edit";
            let (path, _) = vm.coerce(value, Coerce::PLAIN, Pos::NONE, what)?;
            return Ok((file(&path), 0));
        }
        if let Some(closure) = value.as_closure() {
            let place = closure.next().1.place(&**vm.host());
            return match place {
                Some(place) => match place.origin {
                    firn_eval::Origin::Path(path) => Ok((file(&path), place.line)),
                    _ => Err(CliError::failed(format!("'{}' cannot be shown in an editor", place.display()))
                        .into()),
                },
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

    fn doc(&self, text: &str) -> Done {
        let attribute = self.attribute_doc(text)?;
        let value = self.eval(text)?;
        let doc = self.vm().vm.documentation(value)?;
        let doc = doc.or(attribute).ok_or_else(|| CliError::failed("value does not have documentation"))?;
        self.print(&format!("{}\n", doc.trim()))?;
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
        let Ok(value) = self.eval(set) else { return Ok(None) };
        let Some(attrs) = value.as_attrs() else { return Ok(None) };
        let name = Sym::new(name.as_bytes());
        if attrs.find(name).is_none() {
            return Ok(None);
        }
        let evaluation = self.vm();
        let pos = attrs.position_of(name);
        let Some(place) = pos.place(&**evaluation.vm.host()) else { return Ok(None) };
        let comment = evaluation.vm.doc_comment(pos).filter(|comment| !comment.is_empty());
        let comment = comment.unwrap_or_else(|| "No documentation found.\n\n".to_owned());
        Ok(Some(format!(
            "Attribute `{}`\n\n  … defined at {}\n\n{comment}",
            shown_name(name),
            place.display()
        )))
    }
}
