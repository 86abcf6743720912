//! Becoming another program.

use crate::context::Context;
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

/// A program in one of the folders of this process's PATH.
pub fn find(name: &Path) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| {
        rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file()
    })
}
