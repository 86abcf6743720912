//! What a locked flake is, in one hash: the name of its evaluations in the cache.

use crate::LockedFlake;
use firn_core::flake_ref::{Attr, Input, Scheme};
use firn_core::{Hash, HashAlgo};

fn text(input: &Input, name: &str) -> Option<String> {
    match input.attrs.get(name) {
        Some(Attr::Str(text)) => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    }
}

/// What the contents of an input are, if that is known.
fn contents(input: &Input) -> Option<String> {
    let flag = |name: &str| matches!(input.attrs.get(name), Some(Attr::Bool(true)));
    let by_hash = || Some(format!("path:{}", text(input, "narHash")?));
    match input.scheme? {
        Scheme::Git => match text(input, "rev") {
            Some(rev) => {
                let mut out = rev;
                for (name, short) in [("submodules", ";s"), ("exportIgnore", ";e"), ("lfs", ";l")] {
                    if flag(name) {
                        out.push_str(short);
                    }
                }
                Some(out)
            }
            // A working tree with changes.
            None => by_hash(),
        },
        Scheme::Mercurial | Scheme::GitHub | Scheme::GitLab | Scheme::SourceHut => {
            text(input, "rev").or_else(by_hash)
        }
        Scheme::File | Scheme::Tarball => text(input, "narHash"),
        Scheme::Path => by_hash(),
        Scheme::Indirect => None,
    }
}

/// The fingerprint of a flake; nothing where evaluating it again may give something else.
pub fn fingerprint(flake: &LockedFlake, trust_forges: bool, allow_dirty_locks: bool) -> Option<Hash> {
    if flake.lock.unlocked(trust_forges, allow_dirty_locks).is_some() {
        return None;
    }
    let locked = &flake.flake.locked;
    let mut all = contents(&locked.input)?;
    all.push_str(&format!(";{};{}", String::from_utf8_lossy(&locked.subdir), flake.lock.to_text()));
    for name in ["revCount", "lastModified"] {
        if let Some(number) = locked.input.number(name) {
            all.push_str(&format!(";{name}={number}"));
        }
    }
    Some(Hash::of(HashAlgo::Sha256, all.as_bytes()))
}
