//! The store: folders, permissions, space, the database, the daemon.

use super::Report;
use crate::context::Context;
use firn_store::Trust;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Below this, builds and downloads soon fail.
const LITTLE_SPACE: u64 = 2 << 30;

/// A log of changes that nobody has taken into the database.
const LARGE_LOG: u64 = 1 << 30;

pub fn look(context: &Context, report: &mut Report) {
    let store = match context.store() {
        Ok(store) => store,
        Err(error) => {
            return report.bad(format!("the store cannot be opened: {error}"), "see the setting 'store'");
        }
    };
    let uri = store.uri();
    let connected =
        context.block_on(async { tokio::time::timeout(Duration::from_secs(10), store.connect()).await });
    match connected {
        Ok(Ok(Ok(()))) => report.good(format!("the store {uri} answers")),
        Ok(Ok(Err(error))) => {
            report.bad(format!("the store {uri} does not answer: {error}"), advice(context))
        }
        Ok(Err(_)) => {
            report.bad(format!("the store {uri} does not answer within ten seconds"), advice(context))
        }
        Err(error) => report.bad(error.to_string(), "see 'ulimit -a'"),
    }
    let trusted = context.block_on(store.is_trusted());
    if let Ok(Ok(Some(Trust::NotTrusted))) = trusted {
        report.good("you are not trusted there: some settings are ignored, and paths need signatures");
    }
    match context.local_store() {
        Ok(local) => {
            let config = local.config();
            folders(report, &config.real_store_dir, &config.state_dir, &context.settings.build_users_group);
            if rustix::fs::access(&config.state_dir, rustix::fs::Access::WRITE_OK).is_ok() {
                database(report, &local, &config.state_dir);
            }
        }
        Err(_) if store.as_local_fs().is_some() => {
            space(report, Path::new(store.store_dir().as_str()), "the store");
        }
        Err(_) => {}
    }
    socket(context, report);
}

fn advice(context: &Context) -> &'static str {
    match context.local_store() {
        Ok(local) if rustix::fs::access(&local.config().state_dir, rustix::fs::Access::WRITE_OK).is_err() => {
            "the store belongs to another user, and no daemon listens: start one as that user"
        }
        Ok(_) => "see the error; 'firn store rebuild-db' makes a lost database anew",
        Err(_) => "start its daemon: 'systemctl start nix-daemon.socket', or 'nix-daemon' as root",
    }
}

fn folders(report: &mut Report, store: &Path, state: &Path, group: &str) {
    let Ok(data) = store.metadata() else {
        return report.bad(
            format!("there is no {}", store.display()),
            "'firn install' makes it, or 'nix-store --init' for one of your own",
        );
    };
    let mode = data.permissions().mode() & 0o7777;
    if mode & 0o002 != 0 && mode & 0o1000 == 0 {
        report.bad(
            format!("everybody can change {} (mode {mode:o})", store.display()),
            format!("chmod 1775 {}", store.display()),
        );
    } else if rustix::process::geteuid().is_root() && data.uid() != 0 {
        report.note(
            format!("{} belongs to user {}, who can change everything in it", store.display(), data.uid()),
            format!("chown root {} if it is for many users", store.display()),
        );
    } else {
        report.good(format!("{} has mode {mode:o}", store.display()));
    }
    if rustix::process::geteuid().is_root() && !group.is_empty() && mode & 0o020 == 0 {
        report.note(
            format!("members of {group} cannot make outputs in {}", store.display()),
            format!("chgrp {group} {0} && chmod 1737 {0}", store.display()),
        );
    }
    space(report, store, "the store");
    for name in ["gcroots", "profiles", "temproots"] {
        let path = state.join(name);
        if let Ok(data) = path.metadata() {
            let mode = data.permissions().mode() & 0o7777;
            if mode & 0o002 != 0 && mode & 0o1000 == 0 {
                report.bad(
                    format!("everybody can change {} (mode {mode:o})", path.display()),
                    format!("chmod o-w {}", path.display()),
                );
            }
        }
    }
}

fn space(report: &mut Report, path: &Path, what: &str) {
    let Ok(stat) = rustix::fs::statvfs(path) else { return };
    let free = stat.f_bavail * stat.f_frsize;
    let shown = free >> 20;
    if stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) && !path.starts_with("/nix/store") {
        report.note(
            format!("{} is on a file system that cannot be written", path.display()),
            "mount it read-write",
        );
    }
    match free < LITTLE_SPACE {
        true => report.bad(
            format!("{what} has {shown} MiB of space left"),
            "'nix-collect-garbage -d' deletes what nobody needs; the setting 'min-free' does it in time",
        ),
        false => report.good(format!("{what} has {shown} MiB of space left")),
    }
    if stat.f_files > 0 && stat.f_favail * 50 < stat.f_files {
        report.bad(
            format!("{what} can take only {} more files", stat.f_favail),
            "'nix-store --optimise' links equal ones, 'nix-collect-garbage' deletes",
        );
    }
}

fn database(report: &mut Report, store: &firn_store_local::LocalStore, state: &Path) {
    match store.check_database() {
        Ok(health) if health.problems.is_empty() => {
            report.good(format!("the database is whole and knows {} paths", health.paths));
            clock(report, health.newest);
        }
        Ok(health) => report.bad(
            format!("the database is damaged: {}", health.problems.join("; ")),
            "'firn store rebuild-db' makes it anew from what is on the disk",
        ),
        Err(error) => report.bad(
            format!("the database cannot be read: {error}"),
            "'firn store rebuild-db' makes it anew from what is on the disk",
        ),
    }
    let log = state.join("db/db.sqlite-wal");
    if let Ok(data) = log.metadata() {
        if data.len() > LARGE_LOG {
            report.note(
                format!("{} has {} MiB", log.display(), data.len() >> 20),
                "a program keeps the database open for long; it shrinks once that ends",
            );
        }
    }
}

/// Times from the future make caches and `--delete-older-than` go wrong.
fn clock(report: &mut Report, newest: i64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    if newest > now + 300 {
        report.bad(
            format!(
                "a path was registered {} seconds in the future: the clock is wrong, or was",
                newest - now
            ),
            "set the clock, best by a time service",
        );
    }
}

fn socket(context: &Context, report: &mut Report) {
    let path = &context.settings.dirs.daemon_socket;
    match path.symlink_metadata() {
        Ok(data) if !data.file_type().is_socket() && !data.is_symlink() => {
            report.bad(format!("{} is no socket", path.display()), "remove it and start the daemon again");
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => report.good(format!("a daemon listens at {}", path.display())),
            Err(error) => report.bad(
                format!("nobody listens at {}: {error}", path.display()),
                "start the daemon: 'systemctl start nix-daemon.socket', or 'nix-daemon' as root",
            ),
        },
        Err(_) => {}
    }
}
