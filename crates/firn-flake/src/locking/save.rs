//! Writing a lock file that has changed, or saying why not.

use super::{LockFlags, LockSettings, LockedFlake, fetch_flake, join, text};
use crate::InputPath;
use crate::host::{Failure, FlakeHost, Registries};
use crate::lock_file::LockFile;
use firn_core::flake_ref::{Attr, FlakeRef};

/// Text without the sequences that colour it.
fn without_colours(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\x1b') {
        out.push_str(&rest[..at]);
        rest = rest[at..].find('m').map_or("", |end| &rest[at + end + 1..]);
    }
    out + rest
}

fn fail<E: Failure>(message: String) -> Result<(), E> {
    Err(E::new(message, 1))
}

pub(super) fn save<H: FlakeHost>(
    host: &H,
    settings: &LockSettings,
    reference: &FlakeRef,
    flags: &LockFlags,
    old: &LockFile,
    locked: &mut LockedFlake,
    registries: Registries,
) -> Result<(), H::Error> {
    let diff = old.diff(&locked.lock);
    let (shown, changes) = (reference.shown(), diff.trim_end());
    if !flags.write {
        host.warn(&format!("not writing modified lock file of flake '{shown}':\n{changes}"));
        locked.flake.force_dirty = true;
        return Ok(());
    }
    let source = host.source_path(&reference.input)?;
    if source.is_none() && flags.output_file.is_none() {
        return fail(format!(
            "cannot write modified lock file of flake '{shown}' (use '--no-write-lock-file' to ignore)"
        ));
    }
    if let Some(unlocked) = locked.lock.unlocked(settings.trust_forges, settings.allow_dirty_locks) {
        let unlocked = unlocked.shown();
        if flags.fail_on_unlocked {
            return fail(format!(
                "Not writing lock file of flake '{shown}' because it has an unlocked input ('{unlocked}'). \
                 Use '--allow-dirty-locks' to allow this anyway."
            ));
        }
        if settings.warn_dirty {
            host.warn(&format!(
                "not writing lock file of flake '{shown}' because it has an unlocked input ('{unlocked}')"
            ));
        }
        return Ok(());
    }
    if !flags.update {
        return fail(format!(
            "flake '{shown}' requires lock file changes but they're not allowed due to '--no-update-lock-file'"
        ));
    }
    let contents = locked.lock.to_text() + "\n";
    match (&flags.output_file, source) {
        (Some(path), _) => {
            if flags.commit {
                return fail("'--commit-lock-file' and '--output-lock-file' are incompatible".to_owned());
            }
            host.write_own_file(path, contents.as_bytes())?;
        }
        (None, None) => {}
        (None, Some(source)) => {
            let path = match reference.subdir.is_empty() {
                true => b"flake.lock".to_vec(),
                false => join(&reference.subdir, b"flake.lock"),
            };
            let relative = text(&path);
            let file = source.join(&relative);
            let (place, exists) = (file.display(), file.exists());
            host.warn(&match (exists, changes.is_empty()) {
                (true, true) => format!("updating lock file \"{place}\""),
                (true, false) => format!("updating lock file \"{place}\":\n{changes}"),
                (false, _) => format!("creating lock file \"{place}\": \n{changes}"),
            });
            let message = flags.commit.then(|| {
                let summary = match settings.commit_summary.is_empty() {
                    true => format!("{relative}: {}", if exists { "Update" } else { "Add" }),
                    false => settings.commit_summary.clone(),
                };
                format!("{summary}\n\nFlake lock file updates:\n\n{}", without_colours(&diff))
            });
            host.put_file(&reference.input, &path, contents.as_bytes(), message.as_deref())?;
        }
    }
    // The flake has changed by that.
    let before = locked.flake.locked.input.attrs.get("rev").cloned();
    locked.flake = fetch_flake(host, reference, registries, &InputPath::default(), false)?;
    locked.dirs.insert(LockFile::ROOT, locked.flake.dir.clone());
    if let Some(Attr::Str(rev)) = locked.flake.locked.input.attrs.get("rev")
        && flags.commit
        && before != Some(Attr::Str(rev.clone()))
    {
        host.warn(&format!("committed new revision '{}'", text(rev)));
    }
    Ok(())
}
