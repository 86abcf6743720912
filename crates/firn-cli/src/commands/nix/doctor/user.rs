//! Programs in `PATH`, the user's files, and settings that are worth a question.

use super::Report;
use crate::context::Context;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub fn look(context: &Context, report: &mut Report) {
    programs(report);
    home(context, report);
    search_path(report);
    settings(context, report);
}

fn programs(report: &mut Report) {
    let folders: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    let found: Vec<PathBuf> =
        folders.iter().map(|folder| folder.join("nix-store")).filter(|p| p.exists()).collect();
    let Some(first) = found.first() else {
        return report.note(
            "there is no nix-store in PATH",
            "scripts look for it: 'firn install' makes links, or call 'firn nix-store'",
        );
    };
    let own = std::env::current_exe().and_then(|exe| exe.canonicalize()).ok();
    let real: BTreeSet<PathBuf> = found.iter().filter_map(|path| path.canonicalize().ok()).collect();
    match (first.canonicalize().ok() == own, real.len()) {
        (true, 1) => report.good(format!("{} is this program", first.display())),
        (true, _) => {
            report.good(format!("{} is this program; others come after it in PATH", first.display()))
        }
        (false, _) => report.note(
            format!("{} is another program than this one", first.display()),
            "put the folder of firn's links first in PATH if commands shall be firn's",
        ),
    }
}

fn home(context: &Context, report: &mut Report) {
    let Some(home) = &context.settings.dirs.home else {
        return report.bad("no home folder is known", "set HOME");
    };
    match home.metadata() {
        Err(error) => {
            return report.bad(
                format!("the home folder {} cannot be used: {error}", home.display()),
                "set HOME to yours",
            );
        }
        Ok(data) if data.uid() != rustix::process::geteuid().as_raw() => report.note(
            format!("HOME is {}, which belongs to another user", home.display()),
            "'sudo -H' sets it to that of who you are; otherwise files of one user end up with the other",
        ),
        Ok(_) => {}
    }
    let link = home.join(".nix-profile");
    match (link.symlink_metadata().is_ok(), link.exists()) {
        (true, false) => report.bad(
            format!("{} leads nowhere", link.display()),
            "'nix-env --rollback', or 'nix-env --switch-profile' to another one",
        ),
        (true, true) => report.good(format!("{} is there", link.display())),
        (false, _) => {}
    }
    for (name, folder) in
        [("cache", &context.settings.dirs.cache_home), ("state", &context.settings.dirs.state_home)]
    {
        let Some(folder) = folder else { continue };
        // What is made at first use needs a parent that can be written.
        let existing = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        if rustix::fs::access(existing, rustix::fs::Access::WRITE_OK).is_err() {
            report.note(
                format!("the {name} folder {} cannot be written", folder.display()),
                format!("make it yours: what belongs into the {name} is lost otherwise"),
            );
        }
    }
}

fn search_path(report: &mut Report) {
    let Some(path) = std::env::var_os("NIX_PATH") else { return };
    for entry in path.to_string_lossy().split(':').filter(|entry| !entry.is_empty()) {
        let target = entry.split_once('=').map_or(entry, |(_, target)| target);
        // Downloads and flakes are split at their colon too; only plain paths are looked at.
        if target.starts_with('/') && !target.starts_with("//") && !Path::new(target).exists() {
            report.note(
                format!("NIX_PATH names '{target}', which does not exist"),
                "'nix-channel --update' makes those of channels; take out what is not needed",
            );
        }
    }
}

fn settings(context: &Context, report: &mut Report) {
    let settings = &context.settings;
    let conf = settings.dirs.conf_file();
    match conf.metadata() {
        Ok(_) => report.good(format!("settings are read from {}", conf.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            report.good(format!("there is no {}; all settings have their defaults", conf.display()));
        }
        Err(error) => {
            report.bad(format!("{} cannot be read: {error}", conf.display()), "mend its permissions")
        }
    }
    if !settings.require_sigs {
        report.note(
            "require-sigs is off: anybody who can answer for a cache can put programs here",
            "turn it on",
        );
    }
    if settings.trusted_users.iter().any(|user| user == "*") {
        report
            .note("trusted-users names everybody, so that every user can become root", "name those who may");
    }
}
