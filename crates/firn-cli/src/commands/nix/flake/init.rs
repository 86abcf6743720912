//! `nix flake init` and `nix flake new`: a flake from a template.

use crate::args::{EvalArgs, FlagSink, Values};
use crate::commands::nix::NixCommand;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::evaluation::Evaluation;
use crate::flakes::{self, Defaults, FlakeInstallable, OpenFlake};
use firn_eval::{FileKind, Pos};
use firn_flake::LockFlags;
use firn_store::activity::Verbosity;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Both commands as they were written.
pub struct Init {
    eval: EvalArgs,
    template: OsString,
    /// The folder that is made; `None` for the current one.
    dest: Option<OsString>,
    takes_dest: bool,
}

impl Default for Init {
    fn default() -> Self {
        Self { eval: EvalArgs::default(), template: "templates".into(), dest: None, takes_dest: false }
    }
}

impl Init {
    /// `nix flake new`.
    pub fn elsewhere() -> Self {
        Self { takes_dest: true, ..Self::default() }
    }
}

impl FlagSink for Init {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "-t" | "--template" => {
                let [template] = values.take(flag)?;
                self.template = template;
                Ok(true)
            }
            _ => self.eval.flag_or_repair(flag, values),
        }
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        if !self.takes_dest || self.dest.is_some() {
            return Err(CliError::usage(format!("unexpected argument '{}'", arg.to_string_lossy())));
        }
        self.dest = Some(arg);
        Ok(())
    }
}

/// What became of the files.
struct Copies<'a> {
    context: &'a Context,
    evaluation: &'a Evaluation,
    made: Vec<PathBuf>,
    conflicts: usize,
}

impl NixCommand for Init {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        flakes::require(context)?;
        let dest = match (&self.dest, self.takes_dest) {
            (Some(dest), _) => std::path::absolute(dest).map_err(CliError::io("resolving", dest))?,
            (None, false) => flakes::current_dir()?,
            (None, true) => return Err(CliError::usage("more arguments are required")),
        };
        let mut evaluation = Evaluation::new(context, &self.eval, context.settings.read_only_mode)?;
        let base = flakes::current_dir()?;
        let template = FlakeInstallable::parse(context, &self.template, &base, Defaults::Templates)?;
        let flags = LockFlags { write: false, apply_config: true, ..LockFlags::default() };
        let flake = OpenFlake::open(context, &mut evaluation, &template.reference, &flags)?;
        let cursor = template.cursor(context, &mut evaluation, &flake)?;
        let path = cursor.need(&mut evaluation, "path")?.force(&mut evaluation)?;
        let path = evaluation.run(|vm| vm.path_of(path, Pos::NONE, ""))?;
        let mut copies = Copies { context, evaluation: &evaluation, made: Vec::new(), conflicts: 0 };
        copies.folder(&path, &dest)?;
        let Copies { made, conflicts, .. } = copies;
        if !made.is_empty() && dest.join(".git").symlink_metadata().is_ok() {
            firn_fetch::add_to_git(&dest, &made).map_err(crate::commands::nix::registry::failed)?;
        }
        if let Some(welcome) = cursor.attr(&mut evaluation, "welcomeText")? {
            let text = welcome.string(&mut evaluation)?;
            context.logger.log(Verbosity::Notice, b"\n");
            context.logger.log(Verbosity::Notice, text.trim_end().as_bytes());
        }
        match conflicts {
            0 => Ok(0),
            count => Err(CliError::failed(format!("encountered {count} conflicts - see above"))),
        }
    }
}

impl Copies<'_> {
    fn notice(&self, text: &str) {
        self.context.logger.log(Verbosity::Notice, text.as_bytes());
    }

    fn folder(&mut self, from: &[u8], to: &Path) -> CliResult<()> {
        let failed = |error: firn_eval::HostError| CliError::failed(error.message);
        std::fs::create_dir_all(to).map_err(CliError::io("creating directory", to))?;
        let host = self.evaluation.host();
        for (name, kind) in host.read_dir(from).map_err(failed)? {
            let from = [from, b"/", &name].concat();
            let to = to.join(OsStr::from_bytes(&name));
            match kind {
                FileKind::Directory => {
                    self.folder(&from, &to)?;
                    continue;
                }
                FileKind::Regular { .. } => {
                    let contents = host.read_file(&from).map_err(failed)?;
                    if to.symlink_metadata().is_ok() {
                        let same = std::fs::read(&to).is_ok_and(|there| there == contents);
                        self.exists(&from, &to, same);
                        continue;
                    }
                    std::fs::write(&to, contents).map_err(CliError::io("writing", &to))?;
                }
                FileKind::Symlink => {
                    let target = host.read_link(&from).map_err(failed)?;
                    let target = OsStr::from_bytes(&target);
                    if to.symlink_metadata().is_ok() {
                        let same = std::fs::read_link(&to).is_ok_and(|there| there == target);
                        self.exists(&from, &to, same);
                        continue;
                    }
                    std::os::unix::fs::symlink(target, &to).map_err(CliError::io("creating symlink", &to))?;
                }
                FileKind::Other => {
                    return Err(CliError::failed(format!(
                        "path '{}' needs to be a symlink, file, or directory but instead is something else",
                        String::from_utf8_lossy(&from)
                    )));
                }
            }
            self.notice(&format!("wrote: \"{}\"", to.display()));
            self.made.push(to);
        }
        Ok(())
    }

    /// Says that a file is there already, with what it should have or with something else.
    fn exists(&mut self, from: &[u8], to: &Path, same: bool) {
        let from = String::from_utf8_lossy(from);
        if same {
            self.notice(&format!("skipping identical file: {from}"));
            return;
        }
        self.conflicts += 1;
        let text = format!(
            "refusing to overwrite existing file \"{}\"\n please merge it manually with '{from}'",
            to.display()
        );
        self.context.logger.log(Verbosity::Error, text.as_bytes());
    }
}
