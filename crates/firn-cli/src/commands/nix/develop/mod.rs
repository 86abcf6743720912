//! `nix develop` and `nix print-dev-env`: the environment in which a derivation is built, for a shell.

mod bash;
mod build_environment;
mod derivation;

use super::NixCommand;
use crate::args::{FlagSink, Values, text};
use crate::context::Context;
use crate::environment::EnvironmentArgs;
use crate::error::{CliError, CliResult};
use crate::flakes::Defaults;
use crate::installables::{self, InstallableArgs, One};
use crate::memory::{Bash, Known, Memory};
use crate::profile_flag::ProfileFlag;
use build_environment::{BuildEnvironment, replace_all, word};
use firn_core::{DerivedPath, StorePath};
use firn_nar::reader::{Event, NarReader, Node};
use firn_store::StoreError;
use firn_store::activity::Verbosity;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Write;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The builder that writes an environment down.
const DUMP: &str = include_str!("dump.sh");

/// What both commands take.
struct Common {
    what: InstallableArgs,
    profile: ProfileFlag,
    /// Store paths of installables that are to be found somewhere else.
    redirects: Vec<(OsString, PathBuf)>,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            what: InstallableArgs::of(Defaults::DevShells),
            profile: ProfileFlag::default(),
            redirects: Vec::new(),
        }
    }
}

impl Common {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--redirect" => {
                let [installable, folder] = values.take(flag)?;
                self.redirects.push((installable, folder.into()));
            }
            _ => return Ok(self.profile.flag(flag, values)? || self.what.flag(flag, values)?),
        }
        Ok(true)
    }

    /// The environment, which is made unless it was before and nothing has changed.
    fn environment(&mut self, context: &Context, wants_bash: bool) -> CliResult<Ready> {
        let mut one = self.what.open(context, ".")?;
        // The environment is what the builder makes of the derivation.
        let memory = one.memory(context, &self.what, &format!("nix develop with {DUMP}"));
        let known = match &memory {
            Some(memory) => memory.recall(context, &one.evaluation)?,
            None => None,
        };
        let known = match known.filter(|known| !wants_bash || known.bash != Bash::NotAsked) {
            Some(known) => {
                if let (true, Bash::Missing { message, .. }) = (wants_bash, &known.bash) {
                    bash::complain(context, message);
                }
                known
            }
            None => self.make(context, &mut one, memory.as_ref(), wants_bash)?,
        };
        self.profile.update(&*context.store()?, context, std::slice::from_ref(&known.path))?;
        let environment = BuildEnvironment::parse(&read(context, &known.path)?)?;
        Ok(Ready { environment, known, source_folder: one.source_folder(context)? })
    }

    /// Evaluates and builds.
    fn make(
        &self,
        context: &Context,
        one: &mut One,
        memory: Option<&Memory>,
        wants_bash: bool,
    ) -> CliResult<Known> {
        let paths = one.resolve(context, &self.what)?;
        let path = match &paths[..] {
            [DerivedPath::Opaque(path)] if path.name().ends_with("-env") => path.clone(),
            paths => {
                // What made a path is not asked, though it may be known.
                let other = paths.iter().find_map(|path| match path {
                    DerivedPath::Opaque(path) if !path.is_derivation() => Some(path),
                    _ => None,
                });
                if let Some(path) = other {
                    return Err(CliError::failed(format!(
                        "argument '{}' did not evaluate to a derivation",
                        context.store()?.store_dir().display(path)
                    )));
                }
                let drvs: Vec<StorePath> = installables::derivations(context, paths)?.into_iter().collect();
                let [drv] = &drvs[..] else {
                    return Err(CliError::failed(format!(
                        "the installable needs to evaluate to a single derivation, but it evaluated to {} derivations",
                        drvs.len()
                    )));
                };
                derivation::environment(context, drv)?
            }
        };
        let bash = match wants_bash {
            true => bash::find(context, &self.what, one),
            false => Bash::NotAsked,
        };
        let known = Known { path, bash };
        if let (Some(memory), Ok(observations)) = (memory, one.observations()) {
            let mut needs = BTreeSet::from([known.path.clone()]);
            if let Bash::At(bash) = &known.bash {
                needs.insert(bash.clone());
            }
            memory.keep(context, observations, &known, &needs)?;
        }
        Ok(known)
    }

    /// The script that sets the environment; files go to `folder`.
    fn script(&self, context: &Context, environment: &BuildEnvironment, folder: &Path) -> CliResult<String> {
        let current = std::env::current_dir().map_err(CliError::io("finding the current directory", "."))?;
        let script = environment.script();
        let mut rewrites: BTreeMap<String, String> = BTreeMap::new();
        for (name, path) in environment.outputs()? {
            rewrites.insert(path, current.join("outputs").join(name).to_string_lossy().into_owned());
        }
        for (installable, target) in &self.redirects {
            let target = std::path::absolute(target).map_err(CliError::io("resolving", target))?;
            for path in self.what.store_paths_of(context, installable)? {
                let from = context.store()?.store_dir().display(&path);
                if !script.contains(&from) {
                    let shown = installable.to_string_lossy();
                    context
                        .logger
                        .warn(&format!("'{shown}' (path '{from}') is not used by this build environment"));
                    continue;
                }
                let said = format!("redirecting '{from}' to \"{}\"", target.display());
                context.logger.log(Verbosity::Info, said.as_bytes());
                rewrites.insert(from, target.to_string_lossy().into_owned());
            }
        }
        if let Some((json, sh)) = &environment.structured {
            for (variable, name, content) in
                [("NIX_ATTRS_JSON_FILE", ".attrs.json", json), ("NIX_ATTRS_SH_FILE", ".attrs.sh", sh)]
            {
                let file = folder.join(name);
                std::fs::write(&file, content).map_err(CliError::io("writing", &file))?;
                if let Some(from) = environment.text(variable) {
                    rewrites.insert(from.to_owned(), file.to_string_lossy().into_owned());
                }
            }
        }
        Ok(replace_all(&script, &rewrites))
    }
}

/// An environment that was made.
struct Ready {
    environment: BuildEnvironment,
    known: Known,
    /// Where the user's files of its flake are.
    source_folder: Option<PathBuf>,
}

/// The bytes of a store path that is a file; none if it is something else.
fn read(context: &Context, path: &StorePath) -> CliResult<Vec<u8>> {
    let store = context.eval_store()?;
    let mut nar = Vec::new();
    context.block_on(store.nar_from_path(path, &mut nar))??;
    let mut reader = NarReader::new(&nar[..]);
    let is_file = matches!(
        reader.next_event().map_err(StoreError::from)?,
        Some(Event::Node { node: Node::Regular { .. }, .. })
    );
    let mut bytes = Vec::new();
    if is_file {
        let copied = reader.copy_contents(|part| {
            bytes.extend_from_slice(part);
            Ok(())
        });
        copied.map_err(StoreError::from)?;
    }
    Ok(bytes)
}

fn temporary_folder() -> CliResult<PathBuf> {
    let folder =
        tempfile::Builder::new().prefix("nix-develop-").permissions(Permissions::from_mode(0o700)).tempdir();
    Ok(folder.map_err(CliError::io("creating a folder in", std::env::temp_dir()))?.keep())
}

/// `nix develop` as it was written.
#[derive(Default)]
pub struct Develop {
    common: Common,
    environment: EnvironmentArgs,
    command: Vec<OsString>,
    phase: Option<String>,
}

impl FlagSink for Develop {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "-c" | "--command" => {
                self.command = values.all();
                if self.command.is_empty() {
                    return Err(CliError::usage("--command requires at least one argument"));
                }
            }
            "--phase" => {
                let [phase] = values.take(flag)?;
                self.phase = Some(text("phase", phase)?);
            }
            "--unpack" | "--configure" | "--build" | "--check" | "--install" => {
                self.phase = Some(flag[2..].to_owned());
            }
            "--installcheck" => self.phase = Some("installCheck".to_owned()),
            _ => return Ok(self.environment.flag(flag, values)? || self.common.flag(flag, values)?),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.common.what.positional(arg);
        Ok(())
    }

    fn shadows(&self, flag: &str) -> bool {
        EnvironmentArgs::shadows(flag)
    }
}

impl NixCommand for Develop {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        if self.phase.is_some() && !self.command.is_empty() {
            return Err(CliError::usage("you cannot use both '--command' and '--phase'"));
        }
        let mut env = self.environment.variables()?;
        let Ready { environment, known, source_folder } = self.common.environment(context, true)?;
        let folder = temporary_folder()?;
        let set_up = self.common.script(context, &environment, &folder)?;
        let shell = bash::program(context, &known.bash)?;
        let interactive = self.phase.is_none() && self.command.is_empty();
        let script = self.rc(context, &set_up, (&folder, environment.structured.is_some()), &shell);
        let (shell, _) = shell;
        let file = folder.join("rc");
        std::fs::write(&file, script).map_err(CliError::io("writing", &file))?;
        // Keeps the collector away while the shell runs.
        env.insert("NIX_GCROOT".into(), context.store()?.store_dir().display(&known.path).into());
        env.insert("SHELL".into(), shell.clone().into());
        let mut args: Vec<OsString> = Vec::new();
        if interactive {
            args.push("--rcfile".into());
        }
        args.push(file.into());
        if let (Some(_), Some(folder)) = (&self.phase, source_folder) {
            // Phases expect to be beside the sources.
            std::env::set_current_dir(&folder).map_err(CliError::io("changing directory to", &folder))?;
        }
        let system = environment.text("system").map(str::to_owned);
        crate::exec::exec_in_store(context, &shell, "bash".as_ref(), &args, &env, system.as_deref())
    }
}

impl Develop {
    /// The file that the shell reads: the set-up, and then what is to be done.
    fn rc(
        &self,
        context: &Context,
        set_up: &str,
        (folder, keep_folder): (&Path, bool),
        (shell, is_for_prompt): &(PathBuf, bool),
    ) -> String {
        let settings = &context.settings;
        let mut out = String::new();
        let interactive = self.phase.is_none() && self.command.is_empty();
        if interactive {
            out += "[ -n \"$PS1\" ] && [ -e ~/.bashrc ] && source ~/.bashrc;\nshopt -u expand_aliases\n";
        }
        out += set_up;
        if interactive {
            out += "\nshopt -s expand_aliases\n";
            for (assignment, value) in
                [("PS1=", &settings.bash_prompt), ("PS1+=", &settings.bash_prompt_suffix)]
            {
                if !value.is_empty() {
                    let _ = writeln!(out, "[ -n \"$PS1\" ] && {assignment}{};", word(value));
                }
            }
            if !settings.bash_prompt_prefix.is_empty() {
                let _ =
                    writeln!(out, "[ -n \"$PS1\" ] && PS1={}\"$PS1\";", word(&settings.bash_prompt_prefix));
            }
        }
        // Commands and phases get the variables of the build, as they are in Nix.
        if interactive {
            let _ = writeln!(out, "SHELL={}", word(&shell.to_string_lossy()));
        }
        if let (true, true, Some(folder)) = (interactive, *is_for_prompt, shell.parent()) {
            let _ = writeln!(out, "PATH={}${{PATH:+:$PATH}}", word(&folder.to_string_lossy()));
        }
        if context.verbosity >= Verbosity::Debug {
            out += "set -x\n";
        }
        // Files of structured attributes stay as long as somebody may want to read them.
        let file = if keep_folder { folder.join("rc") } else { folder.to_owned() };
        let _ = writeln!(out, "command rm -rf {}", word(&file.to_string_lossy()));
        if let Some(phase) = &self.phase {
            // The build phase looks for this, which an earlier phase would have set.
            let _ = writeln!(out, "foundMakefile=1\nrunHook {phase}Phase");
        } else if !self.command.is_empty() {
            let words: Vec<String> = self.command.iter().map(|arg| word(&arg.to_string_lossy())).collect();
            let _ = writeln!(out, "exec {}", words.join(" "));
        }
        out
    }
}

/// `nix print-dev-env` as it was written.
#[derive(Default)]
pub struct PrintDevEnv {
    common: Common,
    json: bool,
    pretty: Option<bool>,
}

impl FlagSink for PrintDevEnv {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--json" => self.json = true,
            "--pretty" => self.pretty = Some(true),
            "--no-pretty" => self.pretty = Some(false),
            _ => return self.common.flag(flag, values),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.common.what.positional(arg);
        Ok(())
    }
}

impl NixCommand for PrintDevEnv {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        let Ready { environment, .. } = self.common.environment(context, false)?;
        if self.json {
            context.print_line(super::json_text(&environment.to_json(), self.pretty))?;
            return Ok(0);
        }
        let folder = match &environment.structured {
            Some(_) => temporary_folder()?,
            None => PathBuf::new(),
        };
        context.print_line(self.common.script(context, &environment, &folder)?)?;
        Ok(0)
    }
}
