//! What every store that keeps anything must do: the same questions and answers for all of them.
//!
//! Called from a test of the store's crate, or of the program that serves it, with an empty store that takes additions
//! and trusts its caller. It panics where an answer differs.

use firn_core::{CaMethod, Hash, HashAlgo, StorePath, ValidPathInfo};
use firn_store::{
    AddSource, ClosureOptions, NarsInMemory, Store, StoreError, TextToAdd, compute_fs_closure,
    topo_sort_paths,
};
use std::collections::BTreeSet;

/// What a store may lack.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lacks {
    /// It does not know who refers to whom (binary caches).
    pub referrers: bool,
    /// It adds only objects whose path the caller computed.
    pub adding_by_content: bool,
    /// It cannot list what it has (`ssh://`, caches behind http).
    pub listing: bool,
    /// It takes no signatures later on (`ssh://`).
    pub signatures: bool,
    /// It finds no path by its hash part (`ssh://`).
    pub hash_parts: bool,
    /// It does not say why it refuses something (`ssh://`: the other side's standard error does).
    pub reasons: bool,
}

/// Runs all checks.
pub async fn check_store(store: &dyn Store, lacks: Lacks) {
    unknown_paths(store).await;
    archives(store, lacks).await;
    refusals(store, lacks).await;
    if !lacks.adding_by_content {
        contents(store, lacks).await;
        texts(store, lacks).await;
    }
}

fn nar_of(bytes: &[u8]) -> Vec<u8> {
    let mut writer = firn_nar::NarWriter::new(Vec::new());
    writer.regular(b"", false, bytes).expect("an archive");
    writer.finish().expect("an archive")
}

fn path(letter: char, name: &str) -> StorePath {
    StorePath::from_base_name(&format!("{}-{name}", letter.to_string().repeat(32))).expect("a path")
}

async fn unknown_paths(store: &dyn Store) {
    let nobody = path('z', "nobody");
    assert!(store.query_path_info(&nobody).await.expect("an answer").is_none());
    assert!(!store.is_valid_path(&nobody).await.expect("an answer"));
    let some = [nobody.clone()].into();
    assert!(store.query_valid_paths(&some).await.expect("an answer").is_empty());
    assert!(store.query_path_infos(&some).await.expect("an answer").is_empty());
    let error = store.nar_from_path(&nobody, &mut Vec::new()).await.expect_err("there is no such path");
    let text = error.to_string();
    assert!(text.contains(&store.store_dir().display(&nobody)), "the error names the path: {text}");
}

/// Objects with the facts that they come with.
async fn archives(store: &dyn Store, lacks: Lacks) {
    let nar = nar_of(b"with facts");
    let (input, user) = (path('a', "input"), path('b', "user"));
    for (path, references) in [(&input, BTreeSet::new()), (&user, [input.clone(), user.clone()].into())] {
        let mut info = ValidPathInfo::new(path.clone(), Hash::of(HashAlgo::Sha256, &nar), nar.len() as u64);
        info.references = references;
        info.deriver =
            Some(firn_core::StorePath::from_base_name(&format!("{}-x.drv", "c".repeat(32))).expect("a path"));
        store.add_nar(&info, &mut &nar[..], false, false).await.expect("it is added");
        // Again, which changes nothing.
        store.add_nar(&info, &mut &nar[..], false, false).await.expect("it is there");
        let known = store.query_path_info(path).await.expect("an answer").expect("it is valid");
        assert_eq!(
            (&known.nar_hash, known.nar_size, &known.references, &known.deriver),
            (&info.nar_hash, info.nar_size, &info.references, &info.deriver)
        );
        let mut read = Vec::new();
        store.nar_from_path(path, &mut read).await.expect("its archive");
        assert_eq!(read, nar);
    }
    let both: BTreeSet<StorePath> = [input.clone(), user.clone()].into();
    let start = [user.clone()].into();
    let closure = compute_fs_closure(store, &start, ClosureOptions::default()).await.expect("a closure");
    assert_eq!(closure, both);
    assert_eq!(topo_sort_paths(store, &both).await.expect("an order"), [user.clone(), input.clone()]);
    if lacks.signatures {
        return;
    }
    store.add_signatures(&input, &["key:c2ln".to_owned()].into()).await.expect("a signature is added");
    let known = store.query_path_info(&input).await.expect("an answer").expect("it is valid");
    assert!(known.signatures.contains("key:c2ln"));
}

/// Many small objects at once, each referring to the one before.
async fn many(store: &dyn Store) {
    let mut nars = Vec::new();
    let mut before: Option<StorePath> = None;
    for i in 0..300 {
        let nar = nar_of(format!("number {i}").as_bytes());
        let path = StorePath::from_base_name(&format!("{i:0>32}-many")).expect("a path");
        let mut info = ValidPathInfo::new(path.clone(), Hash::of(HashAlgo::Sha256, &nar), nar.len() as u64);
        info.references.extend(before.replace(path));
        nars.push((info, nar));
    }
    let infos: Vec<ValidPathInfo> = nars.iter().map(|(info, _)| info.clone()).collect();
    let paths: BTreeSet<StorePath> = infos.iter().map(|info| info.path.clone()).collect();
    let mut wrong = nars.clone();
    let last = wrong.len() - 1;
    wrong[last].1 = nar_of(b"another");
    store.add_nars(&mut NarsInMemory::new(wrong), false, false).await.expect_err("the last one is wrong");
    assert!(!store.is_valid_path(&infos[last].path).await.expect("an answer"));
    store.add_nars(&mut NarsInMemory::new(nars), false, false).await.expect("they are added");
    assert_eq!(store.query_valid_paths(&paths).await.expect("an answer"), paths);
    let known = store.query_path_infos(&paths).await.expect("an answer");
    assert!(infos.iter().all(|info| known[&info.path].references == info.references));
}

/// What must not come in.
async fn refusals(store: &dyn Store, lacks: Lacks) {
    let nar = nar_of(b"refused");
    let good = Hash::of(HashAlgo::Sha256, &nar);
    let size = nar.len() as u64;
    let refused = path('d', "refused");
    let mut other_hash = ValidPathInfo::new(refused.clone(), Hash::of(HashAlgo::Sha256, b"other"), size);
    let error = store.add_nar(&other_hash, &mut &nar[..], false, false).await.expect_err("a wrong hash");
    assert!(lacks.reasons || error.to_string().contains("hash mismatch"), "{error}");
    let mut short = ValidPathInfo::new(refused.clone(), good, size - 8);
    let error = store.add_nar(&short, &mut &nar[..], false, false).await.expect_err("longer than announced");
    let text = error.to_string();
    assert!(lacks.reasons || (text.contains("mismatch") && text.contains(refused.name())), "{error}");
    short.nar_size = size + 8;
    store.add_nar(&short, &mut &nar[..], false, false).await.expect_err("shorter than announced");
    other_hash.nar_hash = good;
    other_hash.references = [path('y', "missing")].into();
    store.add_nar(&other_hash, &mut &nar[..], false, false).await.expect_err("a reference that is not valid");
    other_hash.references.clear();
    store.add_nar(&other_hash, &mut &nar[..40], false, false).await.expect_err("an archive that is cut off");
    let mut noise = nar.clone();
    noise[9] ^= 1;
    other_hash.nar_hash = Hash::of(HashAlgo::Sha256, &noise);
    store.add_nar(&other_hash, &mut &noise[..], false, false).await.expect_err("no archive");
    assert!(!store.is_valid_path(&refused).await.expect("an answer"), "nothing of it is kept");
}

/// Objects whose path follows from what they hold.
async fn contents(store: &dyn Store, lacks: Lacks) {
    let none = BTreeSet::new();
    let (flat, algo) = (CaMethod::Flat, HashAlgo::Sha256);
    let added = store.add_to_store("flat", AddSource::Bytes(b"hello"), flat, algo, &none, false).await;
    let added = added.expect("it is added");
    assert!(added.is_content_addressed(store.store_dir()));
    let nar = nar_of(b"hello");
    let method = CaMethod::NixArchive;
    let by_nar = store.add_to_store("nar", AddSource::Nar(&mut &nar[..]), method, algo, &none, false).await;
    let by_nar = by_nar.expect("it is added");
    assert!(by_nar.is_content_addressed(store.store_dir()));
    assert_eq!((by_nar.nar_hash, by_nar.nar_size), (Hash::of(algo, &nar), nar.len() as u64));
    let known = store.query_path_info(&by_nar.path).await.expect("an answer").expect("it is valid");
    assert_eq!((known.ca, &known.path), (by_nar.ca, &by_nar.path));
    let bad_name = store.add_to_store("a b", AddSource::Bytes(b""), flat, algo, &none, false).await;
    assert!(matches!(bad_name, Err(StoreError::Name(_) | StoreError::Other(_))), "{bad_name:?}");
    if !lacks.hash_parts {
        let found = store.query_path_from_hash_part(by_nar.path.hash_part()).await.expect("an answer");
        assert_eq!(found, Some(by_nar.path));
    }
}

async fn texts(store: &dyn Store, lacks: Lacks) {
    let none = BTreeSet::new();
    let a = store.add_text("a", b"first", &none, false).await.expect("it is added");
    let text = store.store_dir().display(&a);
    let b = TextToAdd::new(store.store_dir(), "b", text.into_bytes(), [a.clone()].into());
    let b = b.expect("it is a name");
    store.add_texts(std::slice::from_ref(&b)).await.expect("it is added");
    let b = store.add_text("b", &b.contents, &b.references, false).await.expect("it is there");
    if !lacks.listing {
        let all = store.query_all_valid_paths().await.expect("an answer");
        assert!(all.is_superset(&[a.clone(), b.clone()].into()));
    }
    many(store).await;
    if !lacks.referrers {
        assert_eq!(store.query_referrers(&a).await.expect("an answer"), [b.clone()].into());
    }
    let drv = b"Derive([(\"out\",\"\",\"\",\"\")],[],[],\"x\",\"/b\",[],[(\"out\",\"\")])";
    let derivation = store.add_text("x.drv", drv, &none, false).await;
    // Whether a store looks into derivations when they are added is its own business; reading one must not lie.
    if let Ok(derivation) = derivation {
        let read = store.read_derivation(&derivation).await.expect("it is read");
        assert_eq!((read.name.as_str(), read.builder.as_slice()), ("x", &b"/b"[..]));
    }
    let error = store.read_derivation(&a).await.expect_err("it is no derivation");
    assert!(error.to_string().contains("is not a derivation"), "{error}");
}
