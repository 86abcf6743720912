//! Becoming another program.

use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_sandbox::StoreView;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Replaces this process by `program` with just these variables; comes back only with an error. A name without a
/// slash is looked up in this process's PATH.
pub fn exec(
    context: &Context,
    program: &Path,
    name: &OsStr,
    args: &[OsString],
    env: &BTreeMap<OsString, OsString>,
) -> std::io::Error {
    context.logger.pause();
    let program = match program.components().count() {
        1 => find(program).unwrap_or_else(|| program.to_owned()),
        _ => program.to_owned(),
    };
    #[expect(clippy::disallowed_methods, reason = "this process becomes what the user asked for")]
    let mut command = Command::new(program);
    command.arg0(name).args(args).env_clear().envs(env);
    command.exec()
}

/// As [`exec`], with the store at its logical place also where it really lies elsewhere.
pub fn exec_in_store(
    context: &Context,
    program: &Path,
    name: &OsStr,
    args: &[OsString],
    env: &BTreeMap<OsString, OsString>,
    system: Option<&str>,
) -> CliResult<u8> {
    let store = context.store()?;
    let local = store.as_local_fs().ok_or_else(|| {
        CliError::failed(format!(
            "store '{}' is not a local store so it does not support command execution",
            store.uri()
        ))
    })?;
    let logical = Path::new(store.store_dir().as_str());
    let real = local.real_store_dir();
    let own_system = &context.settings.system;
    let system = system.filter(|system| system != own_system).unwrap_or_default();
    let error = if logical == real && system.is_empty() {
        exec(context, program, name, args, env)
    } else {
        let view = StoreView { logical, real, system, program, name, args };
        exec(context, Path::new("/proc/self/exe"), OsStr::new("nix"), &view.arguments(), env)
    };
    Err(CliError::io("unable to execute", program)(error))
}

/// Runs another program of ours with the settings of this one.
pub fn own_program(context: &Context, name: &str, args: &[&OsStr]) -> CliResult<()> {
    #[expect(clippy::disallowed_methods, reason = "this program under another of its names")]
    let mut command = Command::new("/proc/self/exe");
    let mut conf = std::env::var("NIX_CONFIG").unwrap_or_default();
    for setting in context.settings.overridden() {
        let value = setting.render(&context.settings);
        conf += &format!("\n{} = {}", setting.name, String::from_utf8_lossy(&value));
    }
    let status = command.arg0(name).args(args).env("NIX_CONFIG", conf).status();
    let status = status.map_err(CliError::io("running", name))?;
    match status.code() {
        Some(0) => Ok(()),
        code => Err(CliError::Failed {
            message: format!("program '{name}' failed"),
            status: code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
        }),
    }
}

/// A program in one of the folders of this process's PATH.
pub fn find(name: &Path) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file())
}
