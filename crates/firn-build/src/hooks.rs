//! Programs that settings name and builds run: before, after, and on outputs that differ.

use crate::config::BuildConfig;
use crate::text::{os, paint, quote};
use firn_sandbox::BuildUser;
use firn_scheduler::BuildFailure;
use firn_store::activity::{Activity, ActivityType, Logger, ResultType, Verbosity};
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Runs the pre-build hook, which may add sandbox paths (target, source).
pub(crate) fn pre_build(
    config: &BuildConfig,
    drv: &str,
    root: Option<&Path>,
) -> Result<Vec<(PathBuf, PathBuf)>, BuildFailure> {
    let mut paths = Vec::new();
    if config.pre_build_hook.is_empty() {
        return Ok(paths);
    }
    let hook = &config.pre_build_hook;
    #[expect(clippy::disallowed_methods, reason = "hooks run outside of builds, with the user's environment")]
    let output = Command::new(hook)
        .arg(drv)
        .args(root)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| {
            BuildFailure::other(format!("executing pre-build hook '{}': {}", paint(hook), os(&e)))
        })?;
    if !output.status.success() {
        return Err(BuildFailure::other(format!(
            "pre-build hook '{}' failed with {}",
            paint(hook),
            output.status
        )));
    }
    let mut in_paths = false;
    for line in output.stdout.split(|b| *b == b'\n') {
        let path = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
        match (in_paths, line) {
            (false, b"extra-sandbox-paths" | b"extra-chroot-dirs") => in_paths = true,
            (false, b"") => {}
            (false, other) => {
                let command = String::from_utf8_lossy(other);
                return Err(BuildFailure::other(format!(
                    "unknown pre-build hook command '{}'",
                    paint(command)
                )));
            }
            (true, b"") => in_paths = false,
            (true, line) => match line.iter().position(|b| *b == b'=') {
                Some(at) => paths.push((path(&line[..at]), path(&line[at + 1..]))),
                None => paths.push((path(line), path(line))),
            },
        }
    }
    Ok(paths)
}

/// Runs the post-build hook; its output is shown as it comes.
pub fn post_build(
    config: &BuildConfig,
    logger: &Arc<dyn Logger>,
    drv: &str,
    outputs: &[String],
) -> Result<(), BuildFailure> {
    if config.post_build_hook.is_empty() {
        return Ok(());
    }
    let hook = &config.post_build_hook;
    let text = format!("running post-build-hook '{hook}'");
    let activity =
        Activity::start(logger, Verbosity::Talkative, ActivityType::PostBuildHook, &text, &[drv.into()], 0);
    let fail = |e: std::io::Error| {
        BuildFailure::other(format!("executing post-build hook '{}': {}", paint(hook), os(&e)))
    };
    let (reader, writer) = std::io::pipe().map_err(fail)?;
    #[expect(clippy::disallowed_methods, reason = "hooks run outside of builds, with the user's environment")]
    let mut command = Command::new(hook);
    command
        .env("DRV_PATH", drv)
        .env("OUT_PATHS", outputs.join(" "))
        .env("NIX_CONFIG", &config.settings_text)
        .stdin(Stdio::null())
        .stdout(writer.try_clone().map_err(fail)?)
        .stderr(writer);
    let mut child = command.spawn().map_err(fail)?;
    // Its own copies of the pipe would keep it open.
    drop(command);
    for line in BufReader::new(reader).split(b'\n') {
        activity.result(ResultType::PostBuildLogLine, &[line.map_err(fail)?.as_slice().into()]);
    }
    let status = child.wait().map_err(fail)?;
    if status.success() {
        return Ok(());
    }
    Err(BuildFailure::other(format!("program {} failed with {}", quote(Path::new(hook)), exit_text(status))))
}

fn exit_text(status: std::process::ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit code {code}"),
        None => status.to_string(),
    }
}

/// Runs the diff hook on two outputs that should be equal, as the build's user. What goes wrong is only told.
pub(crate) fn diff(
    hook: &Path,
    user: Option<&BuildUser>,
    logger: &dyn Logger,
    paths: [&Path; 2],
    drv: &str,
    build_dir: &Path,
) {
    #[expect(clippy::disallowed_methods, reason = "hooks run outside of builds, with the user's environment")]
    let mut command = Command::new(hook);
    command.args(paths).arg(drv).arg(build_dir).current_dir("/").stdin(Stdio::null());
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    match command.stderr(Stdio::inherit()).output() {
        Ok(output) if output.status.success() => {
            let text = output.stdout.trim_ascii_end();
            if !text.is_empty() {
                logger.log(Verbosity::Error, text);
            }
        }
        Ok(output) => logger.error(&format!(
            "diff hook execution failed: diff-hook program {} failed with {}",
            quote(hook),
            exit_text(output.status)
        )),
        Err(e) => logger.error(&format!("diff hook execution failed: {}: {}", quote(hook), os(&e))),
    }
}
