//! `debuginfo/<build id>`: which archive, and which file in it, has the debug information of a program.

use firn_nar::listing::{Entries, Listing};

fn hex(text: &[u8], length: usize) -> bool {
    text.len() == length && text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn directory<'a>(listing: &'a Listing, path: &str) -> Option<&'a Entries> {
    match listing.find(path.split('/').map(str::as_bytes))? {
        Listing::Directory { entries } => Some(entries),
        _ => None,
    }
}

/// Build ids and the members of the archive that they are in.
pub(crate) fn members(listing: &Listing) -> Vec<(String, String)> {
    const DIR: &str = "lib/debug/.build-id";
    let mut found = Vec::new();
    for (first, entry) in directory(listing, DIR).into_iter().flatten() {
        let Listing::Directory { entries } = entry else { continue };
        if !hex(first, 2) {
            continue;
        }
        for (second, entry) in entries {
            let Some(rest) = second.strip_suffix(b".debug") else { continue };
            if !hex(rest, 38) || !matches!(entry, Listing::Regular { .. }) {
                continue;
            }
            let (first, second) = (String::from_utf8_lossy(first), String::from_utf8_lossy(second));
            found.push((format!("{first}{second}"), format!("{DIR}/{first}/{second}")));
        }
    }
    found
}
