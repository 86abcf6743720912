//! `.ls` files: what is in an archive, as JSON.

use firn_nar::listing::Listing;
use serde_json::{Map, Value, json};

/// The whole file.
pub fn to_file(listing: &Listing) -> String {
    let mut out = json!({ "root": to_json(listing), "version": 1 });
    out.sort_all_objects();
    out.to_string()
}

/// One file of the archive. Archives nest 64 deep at most, so this may recurse.
pub fn to_json(listing: &Listing) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match listing {
        Listing::Regular { executable, size, offset } => {
            let mut value = json!({ "narOffset": offset, "size": size, "type": "regular" });
            if *executable {
                value["executable"] = json!(true);
            }
            value
        }
        Listing::Symlink { target } => json!({ "target": text(target), "type": "symlink" }),
        Listing::Directory { entries } => {
            let entries: Map<String, Value> =
                entries.iter().map(|(name, entry)| (text(name), to_json(entry))).collect();
            json!({ "entries": entries, "type": "directory" })
        }
    }
}
