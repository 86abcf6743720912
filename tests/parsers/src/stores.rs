//! What stores read: derivations, `.narinfo` files, exported paths.

use firn_core::StoreDir;
use firn_core::narinfo::NarInfo;
use firn_derivation::Derivation;
use firn_store::export::{BlockingWriter, export_paths, import_paths};
use firn_store::validity::{HashLines, read_validity};
use firn_store::{MemoryStore, Store as _};
use std::cell::LazyCell;

pub fn aterm(input: &[u8]) -> bool {
    let dir = StoreDir::default();
    let Ok(derivation) = Derivation::parse_aterm("x", input, &dir) else { return false };
    let _ = derivation.store_path(&dir);
    let _ = derivation.to_json().map(|json| Derivation::from_json(&json));
    // The platform and names of outputs are written as they are, as Nix does: with quotes in them the derivation cannot
    // be read again.
    let plain = |text: &[u8]| !text.iter().any(|b| b"\"\\".contains(b));
    let names = format!("{:?}{:?}", derivation.outputs, derivation.input_drvs);
    if plain(&derivation.platform) && !names.contains('\\') {
        let again = Derivation::parse_aterm("x", &derivation.to_aterm(&dir), &dir);
        assert_eq!(again.as_ref(), Ok(&derivation));
    }
    true
}

pub fn narinfo(input: &[u8]) -> bool {
    let dir = StoreDir::default();
    let mut lines = input;
    while let Ok(Some(_)) = read_validity(&dir, &mut lines, HashLines::Given) {}
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let Ok(info) = NarInfo::parse(&dir, text, "a test") else { return false };
    // What is rendered is read, and is the same when it is rendered again.
    let rendered = info.render(&dir);
    let again = NarInfo::parse(&dir, &rendered, "a test").expect("what was rendered is read");
    assert_eq!(again.render(&dir), rendered);
    true
}

thread_local! {
    static RUNTIME: LazyCell<tokio::runtime::Runtime> =
        LazyCell::new(|| tokio::runtime::Builder::new_current_thread().build().unwrap());
}

pub fn export(input: &[u8]) -> bool {
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let store = MemoryStore::default();
            let mut rest = input;
            let Ok(paths) = import_paths(&store, &mut rest, false).await else { return false };
            // What was imported can be exported, and imported again.
            let mut stream = Vec::new();
            let all = paths.iter().cloned().collect();
            // This store takes paths that refer to what comes later, so they may refer to each other.
            if let Err(error) = export_paths(&store, &all, &mut BlockingWriter(&mut stream)).await {
                assert!(error.to_string().starts_with("cycle detected in the references"), "{error}");
                return false;
            }
            let other = MemoryStore::default();
            let again = import_paths(&other, &mut &stream[..], false).await.unwrap();
            assert_eq!(again.into_iter().collect::<std::collections::BTreeSet<_>>(), all);
            for path in &all {
                assert!(other.is_valid_path(path).await.unwrap());
            }
            true
        })
    })
}
