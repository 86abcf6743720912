//! Whether builds work: namespaces, users for builds, cgroups, and a build that is really run.

use super::Report;
use crate::context::Context;
use firn_settings::SandboxMode;
use std::path::Path;
use std::process::Stdio;

pub fn look(context: &Context, report: &mut Report) {
    users(context, report);
    kernel(report);
    folder(context, report);
    trial(context, report);
}

fn users(context: &Context, report: &mut Report) {
    let settings = &context.settings;
    if !rustix::process::geteuid().is_root() || settings.auto_allocate_uids {
        return;
    }
    let group = &settings.build_users_group;
    if group.is_empty() {
        return report.note(
            "builds run as root, since build-users-group is empty",
            "'firn install --multi-user' makes users for builds",
        );
    }
    match nix_group(group) {
        None => report.bad(
            format!("the group '{group}' of build-users-group does not exist"),
            "'firn install --multi-user' makes it, or set auto-allocate-uids",
        ),
        Some(0) => report.bad(format!("the group '{group}' has no members"), "each build needs one"),
        Some(members) if (members as u64) < u64::from(settings.max_jobs.0) => report.note(
            format!("the group '{group}' has {members} members, and max-jobs is {}", settings.max_jobs.0),
            "only so many builds run at once; add users to it",
        ),
        Some(members) => report.good(format!("builds run as the {members} members of '{group}'")),
    }
}

/// How many members a group has; nothing if there is none of that name.
fn nix_group(name: &str) -> Option<usize> {
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    let line = groups.lines().find(|line| line.split(':').next() == Some(name))?;
    Some(line.split(':').nth(3).unwrap_or_default().split(',').filter(|member| !member.is_empty()).count())
}

fn number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn kernel(report: &mut Report) {
    if number("/proc/sys/user/max_user_namespaces") == Some(0) {
        report.bad("user namespaces are turned off", "sysctl -w user.max_user_namespaces=15000");
    }
    if !rustix::process::geteuid().is_root() {
        if number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
            report.bad(
                "users other than root get no user namespaces",
                "sysctl -w kernel.unprivileged_userns_clone=1, or use a daemon",
            );
        }
        if number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
            report.note(
                "AppArmor restricts user namespaces",
                "if the trial below fails: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or a daemon",
            );
        }
    }
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        report.note(
            "cgroups of version 2 are not mounted",
            "only needed for use-cgroups and the feature uid-range",
        );
    }
}

fn folder(context: &Context, report: &mut Report) {
    let default = context.settings.dirs.state.join("builds");
    let folder = context.settings.build_dir.clone().unwrap_or(default);
    let Ok(stat) = rustix::fs::statvfs(&folder) else { return };
    if stat.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC) {
        report.bad(
            format!("programs cannot be run in {}, where builds happen", folder.display()),
            "mount it without noexec, or set build-dir",
        );
    }
}

/// An expression whose build needs nothing: firn does it by itself, in the sandbox.
const TRIAL: &str = r#"derivation { name = "trial"; system = "builtin"; builder = "builtin:buildenv"; derivations = ""; manifest = "/dev/null"; }"#;

/// Builds something small in a store of its own that is thrown away.
fn trial(context: &Context, report: &mut Report) {
    if context.settings.sandbox == SandboxMode::Disabled {
        report.note("the sandbox is turned off: builds see the whole machine", "set 'sandbox = true'");
    }
    let Ok(program) = std::env::current_exe() else { return };
    // Build users need to get there, and nobody else may change what lies on the way.
    let place = match rustix::process::geteuid().is_root() && context.settings.dirs.state.is_dir() {
        true => context.settings.dirs.state.clone(),
        false => std::env::temp_dir(),
    };
    let scratch = match tempfile::Builder::new().prefix("firn-doctor-").tempdir_in(place) {
        Ok(scratch) => scratch,
        Err(error) => return report.bad(format!("no temporary folder can be made: {error}"), "see TMPDIR"),
    };
    let started = std::time::Instant::now();
    #[expect(clippy::disallowed_methods, reason = "what is tried is the program as users call it")]
    let output = std::process::Command::new(program)
        .args([
            "nix-build",
            "--no-out-link",
            "--option",
            "sandbox",
            "true",
            "--option",
            "sandbox-fallback",
            "false",
        ])
        .args(["--option", "substitute", "false", "--option", "builders", ""])
        .args(["--option", "build-users-group", &context.settings.build_users_group])
        .arg("--store")
        .arg(scratch.path())
        .args(["-E", TRIAL])
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => {
            report.good(format!("a trial in the sandbox was built in {} ms", started.elapsed().as_millis()));
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let reason = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
            report.bad(
                format!("a trial in the sandbox failed: {}", reason.trim()),
                "as root builds need mount and user namespaces; 'sandbox = false' builds without a sandbox",
            );
        }
        Err(error) => {
            report.bad(format!("this program cannot be started again: {error}"), "see where it is installed")
        }
    }
    // Folders of a store have no write permission, as they should.
    if let Err(error) = firn_store_local::remove_tree(scratch.path()) {
        report.note(format!("{} could not be removed: {error}", scratch.path().display()), "remove it");
    }
}
