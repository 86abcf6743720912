//! The stores of this machine give the answers that every store must give.

use crate::support::World;
use firn_store::MemoryStore;
use firn_testkit::conformance::{Lacks, check_store};

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
