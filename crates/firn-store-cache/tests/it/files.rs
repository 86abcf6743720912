//! Caches in directories.

use crate::world::{cache, copy, filled, nar};
use firn_core::signature::SecretKey;
use firn_core::{Hash, HashAlgo};
use firn_store::{LogStore, MemoryStore, Realisation, Store, StoreError};

#[tokio::test(flavor = "multi_thread")]
async fn every_compression_there_and_back() {
    let (store, large, text) = filled().await;
    for method in ["none", "br&compression-level=1", "bzip2", "gzip", "lz4", "lzma", "xz", "zstd"] {
        let dir = tempfile::tempdir().unwrap();
        let uri = format!("file://{}?compression={method}&write-nar-listing=true", dir.path().display());
        copy(&store, &cache(&uri, None), &[&large, &text]).await.unwrap();
        let back = MemoryStore::default();
        // Another handle: nothing is remembered.
        copy(&cache(&uri, None), &back, &[&large, &text]).await.unwrap();
        assert_eq!(nar(&back, &large).await, nar(&store, &large).await, "{method}");
        let info = cache(&uri, None).query_nar_info(&large).await.unwrap().unwrap();
        let file = std::fs::read(dir.path().join(&info.url)).unwrap();
        assert_eq!(info.file_size, Some(file.len() as u64));
        assert_eq!(info.file_hash, Some(Hash::of(HashAlgo::Sha256, &file)));
        let listing = std::fs::read_to_string(dir.path().join(format!("{}.ls", text.hash_part()))).unwrap();
        assert_eq!(listing, r#"{"root":{"narOffset":96,"size":5,"type":"regular"},"version":1}"#);
        let all = cache(&uri, None).query_all_valid_paths().await.unwrap();
        assert_eq!(all, [large.clone(), text.clone()].into());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signs_what_is_uploaded() {
    let (store, large, _) = filled().await;
    let dir = tempfile::tempdir().unwrap();
    let key = SecretKey::from_seed("k", &[7; 32]);
    let file = dir.path().join("key");
    std::fs::write(&file, key.render()).unwrap();
    let uri = format!("file://{}/cache?secret-key={}", dir.path().display(), file.display());
    copy(&store, &cache(&uri, None), &[&large]).await.unwrap();
    let info = cache(&uri, None).query_path_info(&large).await.unwrap().unwrap();
    let fingerprint = info.fingerprint(store.store_dir());
    let signature = info.signatures.first().unwrap();
    assert!(key.public().verifies(fingerprint.as_bytes(), signature));
}

#[tokio::test(flavor = "multi_thread")]
async fn references_come_first() {
    let (store, _, text) = filled().await;
    let dir = tempfile::tempdir().unwrap();
    let uri = format!("file://{}", dir.path().display());
    let error = copy(&store, &cache(&uri, None), &[&text]).await.unwrap_err().to_string();
    assert!(error.contains("because the reference"), "{error}");
    assert!(cache(&uri, None).query_path_info(&text).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_content_is_not_uploaded() {
    let (store, large, _) = filled().await;
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(&format!("file://{}", dir.path().display()), None);
    let mut info = (*store.query_path_info(&large).await.unwrap().unwrap()).clone();
    info.nar_hash = Hash::of(HashAlgo::Sha256, b"other");
    let archive = nar(&store, &large).await;
    let error = cache.add_nar(&info, &mut &archive[..], false, false).await.unwrap_err();
    assert!(matches!(error, StoreError::HashMismatch { .. }), "{error}");
    assert!(cache.query_path_info(&large).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_realisations_and_signatures() {
    let (store, large, _) = filled().await;
    let dir = tempfile::tempdir().unwrap();
    let uri = format!("file://{}", dir.path().display());
    let first = cache(&uri, None);
    copy(&store, &first, &[&large]).await.unwrap();
    let drv = firn_core::StorePath::from_base_name(&format!("{}-x.drv", "a".repeat(32))).unwrap();
    first.add_build_log(&drv, b"log").await.unwrap();
    let realisation = Realisation::new("sha256:00!out".into(), large.clone());
    first.register_realisation(&realisation, true).await.unwrap();
    first.add_signatures(&large, &["k:sig".to_owned()].into()).await.unwrap();
    let second = cache(&uri, None);
    assert_eq!(second.build_log(&drv).await.unwrap().unwrap(), b"log");
    assert_eq!(second.query_realisation("sha256:00!out").await.unwrap(), Some(realisation));
    assert!(second.query_realisation("sha256:11!out").await.unwrap().is_none());
    assert!(second.query_realisation("../../x").await.is_err());
    assert!(second.query_path_info(&large).await.unwrap().unwrap().signatures.contains("k:sig"));
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_looked_into_are_kept() {
    let (store, large, _) = filled().await;
    let dir = tempfile::tempdir().unwrap();
    let (place, kept) = (dir.path().join("cache"), dir.path().join("kept"));
    let uri = format!("file://{}?local-nar-cache={}", place.display(), kept.display());
    copy(&store, &cache(&uri, None), &[&large]).await.unwrap();
    let mut first = Vec::new();
    cache(&uri, None).look_into(&large, &mut first).await.unwrap();
    std::fs::remove_dir_all(place.join("nar")).unwrap();
    let mut second = Vec::new();
    cache(&uri, None).look_into(&large, &mut second).await.unwrap();
    assert_eq!(first, second);
    let gone = cache(&uri, None).nar_from_path(&large, &mut Vec::new()).await.unwrap_err();
    assert!(matches!(gone, StoreError::SubstituteGone(_)), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_store_directories_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("nix-cache-info"), "StoreDir: /other\n").unwrap();
    let error = cache(&format!("file://{}", dir.path().display()), None).connect().await.unwrap_err();
    assert!(
        error.to_string().ends_with("is for Nix stores with prefix '/other', not '/nix/store'"),
        "{error}"
    );
}
