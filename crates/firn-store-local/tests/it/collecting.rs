use crate::support::World;
use firn_core::StorePath;
use firn_store::{GcAction, GcOptions, GcResults};

fn collect(world: &World, action: GcAction, paths: &[&StorePath]) -> Result<GcResults, String> {
    let options = GcOptions {
        action,
        ignore_liveness: false,
        paths_to_delete: paths.iter().map(|p| (*p).clone()).collect(),
        max_freed: u64::MAX,
    };
    let mut results = GcResults::default();
    // A fresh handle, but the temporary roots of this process count all the same.
    world.store.collect(&options, &mut results).map(|()| results).map_err(|e| e.to_string())
}

/// Stands for a process that has ended: its temporary roots are gone.
fn forget_temp_roots(world: &mut World) {
    let fresh = world.reopen();
    world.store = fresh;
}

#[test]
fn collects_what_no_root_reaches() {
    let mut world = World::new();
    let a = world.text("a", "a", &[]);
    let b = world.text("b", "b", &[&a]);
    let c = world.text("c", "c", &[]);
    let d = world.text("d", "d", &[&c]);
    let by_name = world.text("by-name", "n", &[]);
    let kept = collect(&world, GcAction::ReturnDead, &[]).unwrap();
    assert!(kept.paths.is_empty(), "temporary roots");
    forget_temp_roots(&mut world);
    world.store.add_permanent_root(&b, &world.root.join("result")).unwrap();
    forget_temp_roots(&mut world);
    std::fs::write(world.root.join("var/gcroots").join(by_name.base_name()), "").unwrap();
    std::fs::write(world.root.join("store/garbage"), "x").unwrap();
    let roots = world.store.roots(false).unwrap();
    let link = world.root.join("result").to_str().unwrap().to_owned();
    assert!(roots[&b].contains(&link), "{roots:?}");
    assert!(roots.contains_key(&by_name));

    let live = collect(&world, GcAction::ReturnLive, &[]).unwrap().paths;
    let expected = [&a, &b, &by_name].map(|p| world.store.display(p)).into();
    assert_eq!(live, expected);
    let error = collect(&world, GcAction::DeleteSpecific, &[&a]).unwrap_err();
    assert!(error.starts_with("Cannot delete path"), "{error}");
    let dead = collect(&world, GcAction::DeleteDead, &[]).unwrap();
    assert_eq!(dead.paths.len(), 3);
    assert!(dead.bytes_freed > 0);
    assert!(!world.store.is_valid(&d).unwrap() && !world.store.real(&c).exists());
    assert!(world.store.is_valid(&a).unwrap() && world.store.real(&by_name).exists());
    assert!(!world.root.join("store/garbage").exists());
    std::fs::remove_file(world.root.join("result")).unwrap();
    assert_eq!(collect(&world, GcAction::DeleteDead, &[]).unwrap().paths.len(), 2);
    assert_eq!(std::fs::read_dir(world.root.join("var/gcroots/auto")).unwrap().count(), 0);
}

#[test]
fn optimises_and_removes_unused_links() {
    let mut world = World::new();
    let (a, b) = (world.text("a", "same", &[]), world.text("b", "same", &[]));
    let stats = world.store.optimise().unwrap();
    assert_eq!((stats.files_linked, stats.bytes_freed), (1, 4));
    use std::os::unix::fs::MetadataExt;
    let inode = |p: &StorePath| std::fs::metadata(world.store.real(p)).unwrap().ino();
    assert_eq!(inode(&a), inode(&b));
    assert_eq!(world.store.optimise().unwrap().files_linked, 0);
    forget_temp_roots(&mut world);
    collect(&world, GcAction::DeleteDead, &[]).unwrap();
    assert_eq!(std::fs::read_dir(world.root.join("store/.links")).unwrap().count(), 0);
}

#[test]
fn collects_by_itself_when_space_runs_out() {
    let mut world = World::with(|config| {
        // More than any disk has.
        config.min_free = u64::MAX / 4;
        config.max_free = u64::MAX / 2;
    });
    let a = world.text("a", "a", &[]);
    forget_temp_roots(&mut world);
    let b = world.text("b", "b", &[]);
    assert!(!world.store.is_valid(&a).unwrap() && world.store.is_valid(&b).unwrap());
}

#[test]
fn many_roots_that_are_files() {
    let world = World::new();
    let path = world.text("a", "a", &[]);
    let dir = world.root.join("var/gcroots/per-user/x/hydra-roots");
    std::fs::create_dir_all(&dir).unwrap();
    for n in 0..5_000u32 {
        let name = format!("{n:0>32}-x");
        std::fs::write(dir.join(name), "").unwrap();
    }
    std::fs::write(dir.join(path.base_name()), "").unwrap();
    let start = std::time::Instant::now();
    assert!(world.store.roots(true).unwrap().contains_key(&path));
    println!("5,000 root files and the running programs took {:?}", start.elapsed());
}
