//! `firn install` and `firn uninstall`.

use super::{NixCommand, rows};
use crate::args::{FlagSink, Values};
use crate::commands::HELPS;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::manual;
use firn_install::{Kind, Machine, Options, Plan, Step, Todo};
use firn_settings::ExperimentalFeature;
use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};

/// What both commands take.
#[derive(Default)]
struct Common {
    kind: Option<Kind>,
    root: Option<PathBuf>,
    yes: bool,
    dry_run: bool,
}

impl Common {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            // With the names that Nix's installer gives to them.
            "--multi-user" | "--daemon" => self.kind = Some(Kind::MultiUser),
            "--single-user" | "--no-daemon" => self.kind = Some(Kind::SingleUser),
            "--root" => {
                let [root] = values.take(flag)?;
                self.root = Some(PathBuf::from(root));
            }
            "-y" | "--yes" => self.yes = true,
            "--dry-run" => self.dry_run = true,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Who installs for many, and who for himself, if it was not said.
    fn kind(&self) -> Kind {
        match rustix::process::geteuid().is_root() {
            true => self.kind.unwrap_or(Kind::MultiUser),
            false => self.kind.unwrap_or(Kind::SingleUser),
        }
    }

    fn root(&self) -> CliResult<PathBuf> {
        let Some(root) = &self.root else { return Ok(PathBuf::from("/")) };
        root.canonicalize().map_err(|error| {
            CliError::failed(format!("the root '{}' cannot be used: {error}", root.display()))
        })
    }

    fn home() -> CliResult<PathBuf> {
        match std::env::var_os("HOME") {
            Some(home) if Path::new(&home).is_absolute() => Ok(PathBuf::from(home)),
            _ => Err(CliError::failed("the variable HOME does not name a folder")),
        }
    }

    /// Asks whether to go on.
    fn agreed(&self, context: &Context, question: &str) -> CliResult<bool> {
        if self.yes {
            return Ok(true);
        }
        if !std::io::stdin().is_terminal() {
            return Err(CliError::failed(
                "nobody can be asked here: say '--yes' to go on, or '--dry-run' to see the plan",
            ));
        }
        context.print(format!("{question} [y/N] ").as_bytes())?;
        let mut answer = String::new();
        std::io::stdin()
            .lock()
            .read_line(&mut answer)
            .map_err(|error| CliError::failed(format!("reading the answer: {error}")))?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}

/// `firn install` as it was written.
pub struct Install {
    common: Common,
    prefix: Option<PathBuf>,
    build_users: u32,
    shells: bool,
    systemd: bool,
}

impl Default for Install {
    fn default() -> Self {
        Self { common: Common::default(), prefix: None, build_users: 32, shells: true, systemd: true }
    }
}

impl FlagSink for Install {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--prefix" => {
                let [prefix] = values.take(flag)?;
                self.prefix = Some(PathBuf::from(prefix));
            }
            "--build-users" => {
                let count = values.next_text(flag)?;
                self.build_users = match count.parse() {
                    Ok(count @ 1..=900) => count,
                    _ => {
                        return Err(CliError::usage(format!("'--build-users {count}': 1 to 900 can be had")));
                    }
                };
            }
            "--no-shells" => self.shells = false,
            "--no-systemd" => self.systemd = false,
            _ => return self.common.flag(flag, values),
        }
        Ok(true)
    }
}

/// Pages and completions, which go below `share`.
fn share() -> Vec<(PathBuf, String)> {
    let pages = manual::pages(&rows(), HELPS);
    let mut files: Vec<(PathBuf, String)> =
        pages.into_iter().map(|(name, text)| (Path::new("man/man1").join(name), text)).collect();
    let completions = [
        ("bash", "bash-completion/completions/nix"),
        ("zsh", "zsh/site-functions/_nix"),
        ("fish", "fish/vendor_completions.d/nix.fish"),
    ];
    files.extend(
        completions
            .iter()
            .filter_map(|(shell, path)| Some((PathBuf::from(path), manual::script(shell)?.to_owned()))),
    );
    files
}

/// What is to be done, with what is alike on one line.
fn table(plan: &Plan) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut links = 0;
    let mut users = Vec::new();
    let mut pages = 0;
    for (step, todo) in &plan.steps {
        if *todo == Todo::Nothing {
            continue;
        }
        let word = match todo {
            Todo::Replace => "replace, keeping the old",
            Todo::Update => "update",
            _ => "make",
        };
        match step {
            Step::Link { target, .. } if target == Path::new("firn") && *todo == Todo::Make => links += 1,
            Step::User { name, .. } => users.push(name.as_str()),
            Step::File { path, .. }
                if path.starts_with(plan.prefix.join("share")) && *todo != Todo::Replace =>
            {
                pages += 1
            }
            // Those on the way to a file go without saying.
            Step::Folder { path, .. } if !path.starts_with("/nix") => {}
            Step::Service { .. } => lines.push(format!("  {}", step.describe())),
            _ => lines.push(format!("  {word}: {}", step.describe())),
        }
    }
    if links > 0 {
        lines.push(format!("  make: {links} links to it in {}", plan.prefix.join("bin").display()));
    }
    if pages > 0 {
        lines.push(format!(
            "  make: {pages} manual pages and completions below {}",
            plan.prefix.join("share").display()
        ));
    }
    match users[..] {
        [] => {}
        [one] => lines.push(format!("  make: user {one}, for builds")),
        [first, .., last] => {
            lines.push(format!("  make: {} users for builds, {first} to {last}", users.len()))
        }
    }
    for note in &plan.notes {
        lines.push(format!("  note: {note}"));
    }
    lines.join("\n")
}

impl NixCommand for Install {
    fn feature(&self) -> Option<ExperimentalFeature> {
        None
    }

    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let program = std::env::current_exe()
            .and_then(|program| program.canonicalize())
            .map_err(|error| CliError::failed(format!("finding this program: {error}")))?;
        let machine = Machine::look(&self.common.root()?, &Common::home()?);
        let options = Options {
            kind: self.common.kind(),
            prefix: self.prefix.clone(),
            program,
            names: ["nix", "nix-nswrapper"]
                .into_iter()
                .chain(HELPS.iter().map(|(name, _)| *name))
                .map(str::to_owned)
                .collect(),
            build_users: self.build_users,
            shells: self.shells,
            systemd: self.systemd,
            share: share(),
        };
        let plan = Plan::make(&options, &machine).map_err(|error| CliError::failed(error.to_string()))?;
        let what = match plan.kind {
            Kind::MultiUser => "for all users of this machine",
            Kind::SingleUser => "for this user",
        };
        if plan.is_done() {
            context.print_line(format!("firn is installed {what}; there is nothing to do."))?;
            return Ok(0);
        }
        context.print_line(format!("firn is going to be installed {what}:\n{}", table(&plan)))?;
        if self.common.dry_run {
            return Ok(0);
        }
        if !self.common.agreed(context, "Go on?")? {
            return Err(CliError::failed("nothing was done"));
        }
        let prefix = plan.prefix.clone();
        plan.apply(&mut |_, _| {}).map_err(|error| {
            CliError::failed(format!(
                "{error}\nWhat was done so far is on record: 'firn install' goes on, 'firn uninstall' undoes it."
            ))
        })?;
        let bin = prefix.join("bin");
        context.print_line(format!(
            "Done. Start a new shell, then try:\n  {}/firn doctor\n  nix-build --version",
            bin.display()
        ))?;
        Ok(0)
    }
}

/// `firn uninstall` as it was written.
#[derive(Default)]
pub struct Uninstall(Common);

impl FlagSink for Uninstall {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        self.0.flag(flag, values)
    }
}

impl NixCommand for Uninstall {
    fn feature(&self) -> Option<ExperimentalFeature> {
        None
    }

    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let root = self.0.root()?;
        let journal = firn_install::journal_path(self.0.kind(), &Common::home()?);
        let mut lines = Vec::new();
        firn_install::uninstall(&root, &journal, true, &mut |line| lines.push(format!("  {line}")))
            .map_err(|error| CliError::failed(error.to_string()))?;
        context.print_line(format!(
            "firn is going to be removed; the store, profiles and settings of others stay:\n{}",
            lines.join("\n")
        ))?;
        if self.0.dry_run {
            return Ok(0);
        }
        if !self.0.agreed(context, "Go on?")? {
            return Err(CliError::failed("nothing was done"));
        }
        let mut left = Vec::new();
        firn_install::uninstall(&root, &journal, false, &mut |line| {
            if line.starts_with("left: ") {
                left.push(line.to_owned());
            }
        })
        .map_err(|error| {
            CliError::failed(format!("{error}\n'firn uninstall' goes on once that is mended."))
        })?;
        for line in left {
            context.print_line(line)?;
        }
        context.print_line("Done.")?;
        Ok(0)
    }
}
