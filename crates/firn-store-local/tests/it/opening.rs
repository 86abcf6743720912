use crate::support::World;
use std::os::unix::fs::PermissionsExt;

#[test]
fn refuses_a_newer_schema() {
    let world = World::new();
    world.store.init().unwrap();
    let schema = world.root.join("var/db/schema");
    assert_eq!(std::fs::read_to_string(&schema).unwrap(), "10");
    std::fs::write(&schema, "11").unwrap();
    let error = world.reopen().init().unwrap_err().to_string();
    assert_eq!(error, "current Nix store schema is version 11, but I only support 10");
    std::fs::write(&schema, "x").unwrap();
    let error = world.reopen().init().unwrap_err().to_string();
    assert!(error.ends_with("schema' is corrupt"), "{error}");
}

#[test]
fn makes_the_layout() {
    let world = World::new();
    world.store.init().unwrap();
    for dir in ["store/.links", "var/db", "var/temproots", "var/gcroots/per-user", "var/profiles/per-user"] {
        assert!(world.root.join(dir).is_dir(), "{dir}");
    }
    let mode = |p: &str| std::fs::metadata(world.root.join(p)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("var/profiles/per-user"), 0o755);
    assert_eq!(std::fs::metadata(world.root.join("var/db/reserved")).unwrap().len(), 8 << 20);
}

#[test]
fn a_query_makes_nothing_new() {
    let world = World::new();
    let path = world.text("a", "a", &[]);
    let store = world.reopen();
    std::fs::remove_dir(world.root.join("var/gcroots/per-user")).unwrap();
    assert!(store.is_valid(&path).unwrap());
    assert!(!world.root.join("var/gcroots/per-user").exists());
}

#[test]
fn a_symlinked_store_is_refused() {
    let world = World::new();
    std::fs::create_dir(world.root.join("real")).unwrap();
    std::os::unix::fs::symlink("real", world.root.join("store")).unwrap();
    let error = world.store.init().unwrap_err().to_string();
    assert!(error.contains("is a symlink; this is not allowed"), "{error}");
}

#[test]
fn read_only_reads() {
    let world = World::new();
    let path = world.text("a", "a", &[]);
    drop(world.store.collect(
        &firn_store::GcOptions {
            action: firn_store::GcAction::DeleteSpecific,
            ignore_liveness: false,
            paths_to_delete: Default::default(),
            max_freed: u64::MAX,
        },
        &mut Default::default(),
    ));
    let mut config = world.store.config().clone();
    config.read_only = true;
    let store =
        firn_store_local::LocalStore::new(config, std::sync::Arc::new(firn_store::activity::SilentLogger));
    assert!(store.is_valid(&path).unwrap());
    let how = crate::support::source_of("b");
    let error = store.add_bytes(b"b", how).unwrap_err().to_string();
    assert!(error.contains("is opened read-only"), "{error}");
}

#[test]
fn a_lost_database_is_rebuilt() {
    let mut world = World::new();
    let source = world.root.join("source");
    crate::support::sample(&source);
    let added = world.add(&source);
    let text = world.text("text", "hello", &[]);
    let user = world.text("user", &format!("see {}", world.store.display(&text)), &[&text]);
    let torn = world.text("torn", "this was cut", &[]);
    let all = world.store.all_valid_paths().unwrap();
    let infos = world.store.path_infos(&all).unwrap();
    let real = world.store.real(&torn);
    // Nobody has it open.
    world.store = world.reopen();
    std::fs::remove_file(&real).unwrap();
    std::fs::write(&real, "this").unwrap();
    for keep_rows in [true, false] {
        let db = world.root.join("var/db/db.sqlite");
        match keep_rows {
            // Rows that are still there are believed.
            true => {}
            false => std::fs::write(&db, "this is no database").unwrap(),
        }
        let fresh = world.reopen();
        let report = fresh.rebuild_database().unwrap();
        assert_eq!(report.left_out.keys().collect::<Vec<_>>(), [&torn], "{report:?}");
        assert_eq!(report.certain, [added.clone(), text.clone(), user.clone()].into(), "{report:?}");
        assert!(report.uncertain.is_empty() && report.old_database.is_some());
        for path in [&added, &text, &user] {
            let mut info = fresh.path_info(path).unwrap().unwrap();
            info.registration_time = infos[path].registration_time;
            assert_eq!(info, *infos[path], "with rows: {keep_rows}");
        }
    }
}
