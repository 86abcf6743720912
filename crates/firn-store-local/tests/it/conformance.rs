//! The stores of this machine give the answers that every store must give.

use crate::support::World;
use firn_store::{MemoryStore, Store as _};
use firn_store_local::{LocalStore, LocalStoreConfig, LowerConfig, OverlayConfig};
use firn_testkit::conformance::{Lacks, check_store};
use std::sync::Arc;

fn run(store: &dyn firn_store::Store) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(check_store(store, Lacks::default()));
}

#[test]
fn local() {
    run(&World::new().store);
}

#[test]
fn local_with_small_buffers() {
    // Whatever does not fit in memory goes another way.
    run(&World::with(|config| config.nar_buffer_size = 16).store);
}

#[test]
fn chroot() {
    let world = World::with(|config| {
        let root = config.state_dir.parent().unwrap().to_owned();
        config.store_dir = firn_core::StoreDir::new("/some/where/store");
        config.real_store_dir = root.join("real");
    });
    run(&world.store);
}

#[test]
fn memory() {
    run(&MemoryStore::default());
}

/// An overlay whose layers are plain folders: who mounts them is none of its business when it does not look.
fn overlay(lower: impl FnOnce(&LocalStoreConfig) -> LowerConfig) -> World {
    World::with(|config| {
        let root = config.state_dir.parent().unwrap().to_owned();
        config.store_dir = firn_core::StoreDir::new("/some/where/store");
        config.real_store_dir = root.join("merged");
        config.overlay = Some(OverlayConfig {
            lower: lower(config),
            upper_layer: root.join("merged"),
            check_mount: false,
            remount_hook: None,
        });
    })
}

#[test]
fn overlay_on_a_local_store() {
    let world = overlay(|config| {
        let root = config.state_dir.parent().unwrap();
        let mut lower =
            LocalStoreConfig::new(config.store_dir.clone(), root.join("lower-var"), root.join("lower-log"));
        lower.real_store_dir = root.join("lower");
        LowerConfig::Local(Box::new(lower))
    });
    run(&world.store);
}

#[test]
fn overlay_on_another_store() {
    let lower = Arc::new(MemoryStore::new(firn_core::StoreDir::new("/some/where/store")));
    let below = Arc::clone(&lower);
    let world = overlay(|config| LowerConfig::Other {
        store: below,
        real_store_dir: config.state_dir.parent().unwrap().join("lower"),
    });
    run(&world.store);

    // What only the lower store has is valid, with all that it refers to; whoever asks, and from where.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (leaf, user) = runtime.block_on(async {
        let leaf = lower.add_text("leaf", b"leaf", &Default::default(), false).await.unwrap();
        let user = lower.add_text("user", b"user", &[leaf.clone()].into(), false).await.unwrap();
        assert!(world.store.is_valid_path(&user).await.unwrap());
        let referrers = world.store.query_referrers(&leaf).await.unwrap();
        assert_eq!(referrers, [user.clone()].into());
        (leaf, user)
    });
    assert_eq!(
        world.store.all_valid_paths().unwrap().iter().filter(|p| **p == leaf || **p == user).count(),
        2
    );
    assert_eq!(world.store.path_from_hash_part(user.hash_part()).unwrap(), Some(user.clone()));
    assert_eq!(world.store.path_info(&user).unwrap().unwrap().references, [leaf].into());
}

/// A store that may not be written answers, and says why it takes nothing.
#[test]
fn read_only() {
    let mut world = World::new();
    let known = world.text("x", "content", &[]);
    // The log of what was written is not read from a database that does not change.
    world.store = world.reopen();
    let mut config = world.store.config().clone();
    config.read_only = true;
    let store = LocalStore::new(config, Arc::new(firn_store::activity::SilentLogger));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        assert!(store.is_valid_path(&known).await.unwrap());
        let mut nar = Vec::new();
        store.nar_from_path(&known, &mut nar).await.unwrap();
        assert!(nar.windows(7).any(|bytes| bytes == b"content"));
        assert_eq!(store.add_text("x", b"content", &Default::default(), false).await.unwrap(), known);
        let refused = store.add_text("y", b"other", &Default::default(), false).await.unwrap_err();
        assert!(refused.to_string().contains("readonly"), "{refused}");
    });
}

/// Collectors that ask a daemon what is in use keep what it says, and delete nothing if its answer is not whole.
#[test]
fn roots_daemon() {
    let world = World::with(|config| config.use_roots_daemon = true);
    let (used, unused) = (world.text("used", "1", &[]), world.text("unused", "2", &[]));
    let store = world.reopen();
    let socket = store.config().roots_socket();
    let error = store.roots(true).unwrap_err().to_string();
    assert!(error.contains("asking the roots daemon at"), "{error}");
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let answers = [format!("{}\0", store.display(&used)), store.display(&unused)];
    let daemon = std::thread::spawn(move || {
        for answer in answers {
            use std::io::Write;
            listener.accept().unwrap().0.write_all(answer.as_bytes()).unwrap();
        }
    });
    let roots = store.roots(true).unwrap();
    assert!(roots[&used].contains("{censored}"));
    let error = store.roots(true).unwrap_err().to_string();
    assert!(error.contains("asking the roots daemon at"), "{error}");
    daemon.join().unwrap();
}
