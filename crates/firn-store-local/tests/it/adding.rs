use crate::support::{World, sample, source_of};
use firn_core::{CaMethod, Hash, HashAlgo, StorePath, ValidPathInfo};
use firn_nar::fs::{DumpOptions, dump_path};
use firn_store::{AddSource, Store, StoreError, TextToAdd};
use firn_store_local::{Ingestion, VerifyOptions};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;

#[test]
fn adds_a_tree_with_canonical_metadata() {
    let world = World::new();
    let source = world.root.join("in");
    sample(&source);
    let path = world.add(&source);
    assert_eq!(world.add(&source), path);
    let real = world.store.real(&path);
    let meta = |p: &str| std::fs::symlink_metadata(real.join(p)).unwrap();
    assert_eq!((meta("").mode() & 0o7777, meta("").mtime()), (0o555, 1));
    assert_eq!((meta("a.txt").mode() & 0o7777, meta("a.txt").mtime()), (0o444, 1));
    assert_eq!(meta("sub/run").mode() & 0o7777, 0o555);
    assert_eq!(meta("sub/link").mtime(), 1);
    let nar = dump_path(&source, Vec::new(), DumpOptions::default()).unwrap();
    let info = world.store.path_info(&path).unwrap().unwrap();
    assert_eq!((info.nar_hash, info.nar_size), (Hash::of(HashAlgo::Sha256, &nar), nar.len() as u64));
    let leftovers: Vec<_> = std::fs::read_dir(world.store.config().real_store_dir.clone())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .filter(|name| *name != ".links" && *name != *path.base_name())
        .collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
    let all = VerifyOptions { check_contents: true, repair: None };
    assert!(!world.store.verify(&all).unwrap());
}

/// The same path, whichever way the content goes in, and however much of it fits in memory.
#[test]
fn every_way_in_gives_the_same_path() {
    let small = World::new();
    let source = small.root.join("in");
    sample(&source);
    std::fs::write(source.join("big"), vec![b'x'; 300_000]).unwrap();
    let nar = dump_path(&source, Vec::new(), DumpOptions::default()).unwrap();
    let expected = small.add(&source);
    for buffer in [0, 1000, 1 << 20] {
        let by_path = World::with(|c| c.nar_buffer_size = buffer);
        let path = by_path.store.add_path(&source, source_of("source"), None).unwrap().path;
        assert_eq!(path.name(), expected.name());
        let by_archive = World::with(|c| c.nar_buffer_size = buffer);
        by_archive.store.add_archive(&nar[..], source_of("source")).unwrap();
        for world in [by_path, by_archive] {
            let info = world.store.path_info(&world.store.all_valid_paths().unwrap().pop_first().unwrap());
            assert_eq!(info.unwrap().unwrap().nar_hash, Hash::of(HashAlgo::Sha256, &nar));
            assert!(!world.store.verify(&VerifyOptions { check_contents: true, repair: None }).unwrap());
        }
    }
}

#[test]
fn flat_and_other_hashes() {
    let world = World::new();
    let file = world.root.join("file");
    std::fs::write(&file, "hello").unwrap();
    let none = BTreeSet::new();
    for method in [CaMethod::Flat, CaMethod::NixArchive] {
        for algo in [HashAlgo::Md5, HashAlgo::Sha1, HashAlgo::Sha256, HashAlgo::Sha512] {
            let how = Ingestion { name: "file", method, algo, references: &none, repair: false };
            let by_path = world.store.add_path(&file, how, None).unwrap();
            assert_eq!(world.store.add_bytes(b"hello", how).unwrap(), by_path);
            assert_eq!(world.store.path_of_source(&file, how, None).unwrap().0, by_path.path);
        }
    }
    let how = Ingestion { method: CaMethod::Flat, ..source_of("x") };
    let error = world.store.add_path(&world.root, how, None).unwrap_err().to_string();
    assert!(error.ends_with("is not a regular file"), "{error}");
}

#[test]
fn batches_texts() {
    let world = World::new();
    let mut references = BTreeSet::new();
    let text = |n: usize, references: &BTreeSet<StorePath>| {
        let (name, contents) = (format!("t{n}"), format!("text {n}").into_bytes());
        TextToAdd::new(world.store.dir(), &name, contents, references.clone()).unwrap()
    };
    let mut paths = Vec::new();
    for n in 0..3 {
        // One by one, each referring to those before.
        let text = text(n, &references);
        world.store.add_text_batch(std::slice::from_ref(&text)).unwrap();
        references.insert(text.path.clone());
        paths.push(text.path);
    }
    let texts: Vec<_> = (0..450).map(|n| text(n, &references)).collect();
    for _ in 0..2 {
        world.store.add_text_batch(&texts).unwrap();
        assert!(texts.iter().all(|text| world.store.is_valid(&text.path).unwrap()));
    }
    assert_eq!(world.store.referrers(&paths[2]).unwrap().len(), 450);
    assert!(!world.store.verify(&VerifyOptions { check_contents: true, repair: None }).unwrap());
}

#[tokio::test]
async fn imports_and_refuses() {
    let world = World::new();
    let a = world.text("a", "hello", &[]);
    let mut nar = Vec::new();
    world.store.nar_from_path(&a, &mut nar).await.unwrap();
    let info = world.store.path_info(&a).unwrap().unwrap();
    let other = World::with(|c| c.store_dir = world.store.dir().clone());
    let import = async |info: &ValidPathInfo, nar: &[u8]| {
        other.store.add_nar(info, &mut &nar[..], false, true).await.map_err(|e| e.to_string())
    };
    let mut unsigned = info.clone();
    unsigned.ca = None;
    assert!(import(&unsigned, &nar).await.unwrap_err().contains("lacks a signature by a trusted key"));
    let mut corrupt = nar.clone();
    corrupt[100] ^= 1;
    assert!(import(&info, &corrupt).await.unwrap_err().contains("hash mismatch importing path"));
    assert!(import(&info, &nar[..nar.len() - 8]).await.unwrap_err().contains("end-of-file"));
    assert!(!other.store.real(&a).exists());
    import(&info, &nar).await.unwrap();
    import(&info, &nar).await.unwrap();
    assert!(other.store.is_valid(&a).unwrap());

    let mut dangling = info.clone();
    dangling.path = firn_core::StorePath::from_base_name(&format!("{}-b", "b".repeat(32))).unwrap();
    dangling.ca = None;
    dangling.references = [dangling.path.clone(), world.text("c", "c", &[])].into();
    let error = other.store.add_nar(&dangling, &mut &nar[..], false, false).await.unwrap_err();
    assert!(matches!(error, StoreError::InvalidPath { .. }), "{error}");
    assert!(!other.store.is_valid(&dangling.path).unwrap());
}

#[tokio::test]
async fn adds_through_the_trait() {
    let world = World::new();
    let source = world.root.join("in");
    sample(&source);
    let nar = dump_path(&source, Vec::new(), DumpOptions::default()).unwrap();
    let none = BTreeSet::new();
    let expected = world.add(&source);
    for source in [AddSource::Path(&source), AddSource::Nar(&mut &nar[..])] {
        let info = world
            .store
            .add_to_store("source", source, CaMethod::NixArchive, HashAlgo::Sha256, &none, true)
            .await
            .unwrap();
        assert_eq!(info.path, expected);
    }
}

#[test]
fn refuses_cycles() {
    let world = World::new();
    let (a, b) = (world.text("a", "a", &[]), world.text("b", "b", &[]));
    let mut infos: Vec<ValidPathInfo> =
        [&a, &b].iter().map(|p| world.store.path_info(p).unwrap().unwrap()).collect();
    for (i, other) in [(0, &b), (1, &a)] {
        infos[i].ca = None;
        infos[i].references = [other.clone()].into();
    }
    let error = world.store.register_valid_paths(&infos).unwrap_err().to_string();
    assert!(error.starts_with("cycle detected in the references of"), "{error}");
    assert!(world.store.referrers(&a).unwrap().is_empty());
}

#[test]
fn logs_round_trip() {
    for compress in [true, false] {
        let world = World::with(|c| c.compress_build_log = compress);
        let drv = firn_core::StorePath::from_base_name(&format!("{}-x.drv", "a".repeat(32))).unwrap();
        assert_eq!(world.store.read_build_log(&drv).unwrap(), None);
        world.store.write_build_log(&drv, b"line\n").unwrap();
        assert_eq!(world.store.read_build_log(&drv).unwrap().unwrap(), b"line\n");
    }
}

#[test]
fn canonicalises_and_refuses_foreign_owners() {
    use firn_store_local::{CanonicaliseOptions, canonicalise_metadata};
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let tree = world.root.join("tree");
    sample(&tree);
    std::fs::set_permissions(tree.join("a.txt"), PermissionsExt::from_mode(0o4666)).unwrap();
    let uid = rustix::process::geteuid().as_raw();
    let attribute =
        rustix::fs::setxattr(tree.join("sub/run"), "user.firn", b"x", rustix::fs::XattrFlags::empty());
    let mut seen = Default::default();
    let options = CanonicaliseOptions { uid_range: Some(uid..=uid), ignored_acls: None };
    canonicalise_metadata(&tree, &options, &mut seen).unwrap();
    let meta = |p: &str| std::fs::symlink_metadata(tree.join(p)).unwrap();
    assert_eq!((meta("a.txt").mode() & 0o7777, meta("a.txt").mtime()), (0o444, 1));
    assert_eq!((meta("sub").mode() & 0o7777, meta("sub/run").mode() & 0o7777), (0o555, 0o555));
    assert_eq!((meta("sub/link").mtime(), meta("").mtime()), (1, 1));
    if attribute.is_ok() {
        let mut buffer = [0; 100];
        assert_eq!(rustix::fs::listxattr(tree.join("sub/run"), &mut buffer[..]), Ok(0));
    }
    let other = CanonicaliseOptions { uid_range: Some(uid + 1..=uid + 1), ignored_acls: None };
    let error = canonicalise_metadata(&tree, &other, &mut Default::default()).unwrap_err().to_string();
    assert!(error.starts_with("invalid ownership on file"), "{error}");
}
