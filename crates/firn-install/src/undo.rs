//! Giving the machine back as it was.

use crate::accounts;
use crate::files;
use crate::journal::{Entry, Journal};
use crate::step::{Step, change_text, start_service};
use crate::{Error, Result, at, below};
use std::path::Path;

/// Undoes what the record at `journal` says, last steps first, and tells `told` of each: what is removed or given back,
/// and what is left and why. With `pretend` nothing is done.
///
/// # Errors
/// No record, or the first step that cannot be undone; the record stays then, and uninstalling again goes on.
pub fn uninstall(root: &Path, journal: &Path, pretend: bool, told: &mut dyn FnMut(&str)) -> Result<()> {
    let mut record =
        Journal::load(root, journal)?.ok_or_else(|| Error::NotInstalled { path: below(root, journal) })?;
    let entries = std::mem::take(&mut record.entries);
    if pretend {
        return entries.iter().rev().try_for_each(|entry| undo(root, entry, true, told));
    }
    // Daemons that are not ours are started anew once their units are as before.
    let is_late = |entry: &Entry| matches!(entry.step, Step::Service { start: false, .. });
    let (late, mut entries): (Vec<_>, Vec<_>) = entries.into_iter().partition(is_late);
    let has_units =
        !late.is_empty() || entries.iter().any(|entry| matches!(entry.step, Step::Service { .. }));
    record.entries.clone_from(&late);
    while let Some(entry) = entries.last() {
        undo(root, entry, false, told)?;
        entries.pop();
        // These can be tried again, so that not each has to be written down.
        let again =
            matches!(entries.last(), Some(Entry { step: Step::Folder { .. } | Step::Link { .. }, .. }));
        if !again {
            record.entries.truncate(late.len());
            record.entries.extend_from_slice(&entries);
            record.save(root, journal)?;
        }
    }
    if has_units {
        accounts::run("systemctl", &["daemon-reload".to_owned()])?;
    }
    for entry in &late {
        undo(root, entry, false, told)?;
    }
    let real = below(root, journal);
    std::fs::remove_file(&real).map_err(at("removing", &real))?;
    // The folders of the record, if nothing else is there.
    for folder in real.ancestors().skip(1).take(3) {
        if std::fs::remove_dir(folder).is_err() {
            break;
        }
    }
    Ok(())
}

fn undo(root: &Path, entry: &Entry, pretend: bool, told: &mut dyn FnMut(&str)) -> Result<()> {
    let real = entry.step.path().map(|path| below(root, path)).unwrap_or_default();
    let there = real.symlink_metadata().is_ok();
    let left = |why: &str| format!("left: {} ({why})", entry.step.describe());
    let changed = match &entry.step {
        Step::Link { target, .. } => there && std::fs::read_link(&real).ok().as_ref() != Some(target),
        Step::File { text, .. } => {
            there && entry.done && std::fs::read(&real).ok().as_deref() != Some(text.as_bytes())
        }
        _ => false,
    };
    if changed && entry.backup.is_none() {
        told(&left("changed since"));
        return Ok(());
    }
    match &entry.step {
        Step::Folder { .. } => {
            let empty = std::fs::read_dir(&real).is_ok_and(|mut entries| entries.next().is_none());
            match (there, empty || pretend) {
                (false, _) => {}
                (true, false) => told(&left("not empty")),
                (true, true) => {
                    told(&format!("remove, if empty: {}", entry.step.describe()));
                    if !pretend {
                        std::fs::remove_dir(&real).map_err(at("removing", &real))?;
                    }
                }
            }
        }
        Step::Program { .. } | Step::Link { .. } | Step::File { .. } => {
            match &entry.backup {
                Some(backup) => told(&format!("give back: {}", real_name(&entry.step, backup))),
                None if there => told(&format!("remove: {}", entry.step.describe())),
                None => {}
            }
            if pretend {
                return Ok(());
            }
            match entry.backup.as_ref().map(|backup| below(root, backup)) {
                // Not there: interrupted before it was moved away, or given back already.
                Some(backup) if backup.symlink_metadata().is_ok() => {
                    std::fs::rename(&backup, &real).map_err(at("giving back", &real))?;
                }
                Some(_) => {}
                None if there => std::fs::remove_file(&real).map_err(at("removing", &real))?,
                None => {}
            }
        }
        Step::Block { text, .. } => {
            let all = std::fs::read_to_string(&real).unwrap_or_default();
            if !files::has_block(&all, text) {
                return Ok(());
            }
            told(&format!("remove: {}", entry.step.describe()));
            if pretend {
                return Ok(());
            }
            let rest = files::without_block(&all);
            match rest.is_empty() && !entry.existed {
                true => std::fs::remove_file(&real).map_err(at("removing", &real))?,
                false => change_text(&real, &|all| files::without_block(all))?,
            }
        }
        Step::User { name, .. } => remove_account(root, "userdel", accounts::USERS, name, pretend, told)?,
        Step::Group { name, .. } => remove_account(root, "groupdel", accounts::GROUPS, name, pretend, told)?,
        Step::Service { unit, start } => {
            match start {
                true => told(&format!("systemd: stop {unit}")),
                false => told(&format!("systemd: start {unit} anew if it runs")),
            }
            if pretend {
                return Ok(());
            }
            match start {
                true => accounts::run("systemctl", &["stop", unit, "nix-daemon.service"].map(str::to_owned))?,
                false => start_service(unit, false)?,
            }
        }
    }
    Ok(())
}

fn real_name(step: &Step, backup: &Path) -> String {
    let path = step.path().unwrap_or(Path::new(""));
    format!("{} (kept as {})", path.display(), backup.display())
}

fn remove_account(
    root: &Path,
    program: &str,
    table: &str,
    name: &str,
    pretend: bool,
    told: &mut dyn FnMut(&str),
) -> Result<()> {
    if accounts::id_of(root, table, name).is_none() {
        return Ok(());
    }
    told(&format!("remove: {} {name}", if table == accounts::USERS { "user" } else { "group" }));
    if pretend {
        return Ok(());
    }
    let mut args = accounts::under(root);
    args.push(name.to_owned());
    accounts::run(program, &args)
}
