//! `nix upgrade-nix`: the newest release in place of the one in a profile.

use super::NixCommand;
use crate::args::{EvalArgs, FlagSink, Values, text};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::evaluation::Evaluation;
use firn_core::StorePath;
use firn_eval::{Attrs, Pos};
use firn_http::Request;
use firn_settings::{ExperimentalFeature, Settings};
use firn_store::activity::{Activity, ActivityType, Verbosity};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Largest file that says what the newest release is: a path for each kind of machine.
const LARGEST_LIST: usize = 16 << 20;

/// The command as it was written.
#[derive(Default)]
pub struct UpgradeNix {
    profile: Option<PathBuf>,
    url: Option<String>,
    dry_run: bool,
}

impl FlagSink for UpgradeNix {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "-p" | "--profile" => {
                let [path] = values.take(flag)?;
                self.profile = Some(path.into());
            }
            "--nix-store-paths-url" => {
                let [url] = values.take(flag)?;
                self.url = Some(text("URL", url)?);
            }
            "--dry-run" => self.dry_run = true,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl NixCommand for UpgradeNix {
    fn feature(&self) -> Option<ExperimentalFeature> {
        None
    }

    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let say = |text: String| context.logger.log(Verbosity::Info, text.as_bytes());
        let profile = match &self.profile {
            Some(profile) => profile.clone(),
            None => profile_of_nix(context)?,
        };
        say(format!("upgrading Nix in profile {profile:?}"));
        let usual = &context.settings.upgrade_nix_store_path_url;
        if self.url.is_none()
            && *usual == Settings::defaults(&|_| None).upgrade_nix_store_path_url
            && has_firn(&profile)
        {
            return Err(CliError::failed(format!(
                "profile {profile:?} has firn, and the releases that '{usual}' names are Nix; say with \
                 '--nix-store-paths-url' where those are that it shall have"
            )));
        }
        let url = self.url.as_deref().unwrap_or(usual);
        let path = newest(context, url)?;
        let (_, version) = firn_eval::split_package_name(path.name().as_bytes());
        let version = String::from_utf8_lossy(version).into_owned();
        if self.dry_run {
            context.logger.warn(&format!("would upgrade to version {version}"));
            return Ok(0);
        }
        let shown = context.store()?.store_dir().display(&path);
        {
            let _activity = doing(context, &format!("downloading '{shown}'..."));
            context.block_on(context.build_store()?.ensure_path(&path))??;
        }
        {
            let _activity = doing(context, &format!("verifying that '{shown}' works..."));
            check_that_it_runs(Path::new(&shown))?;
        }
        {
            let _activity = doing(context, &format!("installing '{shown}' into profile {profile:?}..."));
            install(context, &profile, &shown)?;
        }
        say(format!("\x1b[32;1mupgrade to version {version} done\x1b[0m"));
        Ok(0)
    }
}

fn doing(context: &Context, text: &str) -> Activity {
    Activity::start(&context.logger, Verbosity::Info, ActivityType::Unknown, text, &[], 0)
}

/// The profile that the `nix-env` of `PATH` is in.
fn profile_of_nix(context: &Context) -> CliResult<PathBuf> {
    let say = |text: String| context.logger.log(Verbosity::Info, text.as_bytes());
    let found = crate::exec::find(Path::new("nix-env"))
        .ok_or_else(|| CliError::failed("couldn't figure out how Nix is installed, so I can't upgrade it"))?;
    let bin = found.parent().unwrap_or(&found).to_owned();
    say(format!("found Nix in {bin:?}"));
    if bin.starts_with("/run/current-system") {
        return Err(CliError::failed("Nix on NixOS must be upgraded via 'nixos-rebuild'"));
    }
    let profile = bin.parent().unwrap_or(&bin).to_owned();
    // Home directories have links to what lies with the other profiles.
    let of_profiles = |path: &Path| path.components().any(|part| part.as_os_str() == "profiles");
    let mut resolved = profile.clone();
    while !of_profiles(&resolved) {
        let Ok(target) = std::fs::read_link(&resolved) else { break };
        resolved = resolved.parent().unwrap_or(Path::new("/")).join(target);
    }
    say(format!("found profile {resolved:?}"));
    if profile.join("manifest.json").exists() {
        return Err(CliError::failed(format!(
            "directory {profile:?} is managed by 'nix profile' and currently cannot be upgraded by 'nix upgrade-nix'"
        )));
    }
    if !profile.join("manifest.nix").exists() {
        return Err(CliError::failed(format!(
            "directory {profile:?} does not appear to be part of a Nix profile"
        )));
    }
    let store = context.store()?;
    let environment = crate::commands::nix_store::follow_links(store.store_dir(), profile.as_os_str())?;
    if !context.block_on(store.is_valid_path(&environment))?? {
        return Err(CliError::failed(format!("directory {profile:?} is not in the Nix store")));
    }
    // A link to a profile is none, and stays one.
    Ok(if of_profiles(&resolved) { resolved } else { profile })
}

/// Whether a profile's `nix-env` is this program under another name.
fn has_firn(profile: &Path) -> bool {
    let program = std::fs::canonicalize(profile.join("bin/nix-env"));
    program.is_ok_and(|path| path.file_name() == Some(OsStr::new("firn")))
}

/// What a file says of this kind of machine: a set of store paths.
fn newest(context: &Context, url: &str) -> CliResult<StorePath> {
    let _activity = doing(context, "querying latest Nix version");
    let list = context.block_on(context.http_client().fetch(Request::get(url), LARGEST_LIST))?;
    let (_, list) = list.map_err(|error| CliError::failed(error.to_string()))?;
    let mut evaluation = Evaluation::new(context, &EvalArgs::default(), true)?;
    let all = evaluation.expression(&list)?;
    let system = &context.settings.system;
    let path = evaluation.run(|vm| {
        let (value, _) = vm.find_along_path(system, Attrs::empty(), all)?;
        vm.string_no_context(value, Pos::NONE, "while evaluating the path of the latest Nix version")
    })?;
    let dir = context.store()?.store_dir().clone();
    dir.parse(&String::from_utf8_lossy(path.as_bytes())).map_err(|error| CliError::failed(error.to_string()))
}

/// What does not run here is not installed.
fn check_that_it_runs(path: &Path) -> CliResult<()> {
    let program = path.join("bin/nix-env");
    #[expect(clippy::disallowed_methods, reason = "the program that is to be installed")]
    let output =
        Command::new(&program).arg("--version").stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(CliError::io("executing", &program))?;
    let name = program.display();
    match output.status.code() {
        Some(0) if String::from_utf8_lossy(&output.stdout).contains("Nix") => Ok(()),
        Some(0) => Err(CliError::failed(format!("could not verify that '{name}' works"))),
        Some(code) => Err(CliError::failed(format!("program '{name}' failed with exit code {code}"))),
        None => Err(CliError::failed(format!("program '{name}' failed: {}", output.status))),
    }
}

/// `nix-env` knows profiles of its kind.
fn install(context: &Context, profile: &Path, path: &str) -> CliResult<()> {
    let args =
        [OsStr::new("--profile"), profile.as_os_str(), "-i".as_ref(), path.as_ref(), "--no-sandbox".as_ref()];
    crate::exec::own_program(context, "nix-env", &args).map_err(|error| match error {
        CliError::Failed { message, status } => {
            CliError::failed(format!("{message} with exit code {status}"))
        }
        error => error,
    })
}
