//! The reference opens a store that firn made, and the other way round.

use crate::support::{World, sample};
use firn_store::TextToAdd;
use firn_store_local::VerifyOptions;
use std::path::PathBuf;
use std::process::Command;

/// The reference's `nix-store`, from FIRN_REFERENCE_BINDIR or the search path.
fn reference() -> Option<PathBuf> {
    let dirs: Vec<PathBuf> = match std::env::var_os("FIRN_REFERENCE_BINDIR") {
        Some(dir) => vec![dir.into()],
        None => std::env::split_paths(&std::env::var_os("PATH")?).collect(),
    };
    let found = dirs.into_iter().map(|dir| dir.join("nix-store")).find(|program| program.is_file());
    if found.is_none() {
        println!("SKIPPED: no reference nix-store on PATH or in FIRN_REFERENCE_BINDIR");
    }
    found
}

#[expect(clippy::disallowed_methods, reason = "the reference is a program")]
/// Runs the reference on the world's store; returns its standard output.
#[track_caller]
fn run(program: &PathBuf, world: &World, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .env("NIX_STORE_DIR", world.root.join("store"))
        .env("NIX_STATE_DIR", world.root.join("var"))
        .env("NIX_LOG_DIR", world.root.join("log"))
        .env("NIX_CONF_DIR", world.root.join("etc"))
        .env("NIX_REMOTE", "")
        .env("HOME", &world.root)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
    assert!(!stderr.contains("error"), "{args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn the_reference_opens_ours() {
    let Some(nix_store) = reference() else { return };
    let world = World::new();
    let source = world.root.join("source");
    sample(&source);
    let a = world.add(&source);
    let texts = [("x", [].into()), ("y", [a.clone()].into())]
        .map(|(name, references)| TextToAdd::new(world.store.dir(), name, name.into(), references).unwrap());
    world.store.add_text_batch(&texts).unwrap();
    let texts = texts.map(|text| text.path);
    let show = |p| world.store.display(p);
    run(&nix_store, &world, &["--verify", "--check-contents"]);
    assert_eq!(run(&nix_store, &world, &["-q", "--references", &show(&texts[1])]), show(&a));
    assert_eq!(run(&nix_store, &world, &["-q", "--referrers", &show(&a)]), show(&texts[1]));
    let info = world.store.path_info(&a).unwrap().unwrap();
    assert_eq!(run(&nix_store, &world, &["-q", "--size", &show(&a)]), info.nar_size.to_string());
    let hash = info.nar_hash.to_prefixed(firn_core::HashFormat::Nix32);
    assert_eq!(run(&nix_store, &world, &["-q", "--hash", &show(&a)]), hash);
    // It adds the same thing as the same path, and ours are roots that its collector respects.
    assert_eq!(run(&nix_store, &world, &["--add", source.to_str().unwrap()]), show(&a));
    run(&nix_store, &world, &["--gc"]);
    assert!(world.store.is_valid(&a).unwrap() && world.store.is_valid(&texts[1]).unwrap());
}

#[test]
fn ours_opens_the_references() {
    let Some(nix_store) = reference() else { return };
    let world = World::new();
    let source = world.root.join("source");
    sample(&source);
    let path = run(&nix_store, &world, &["--add", source.to_str().unwrap()]);
    let path = world.store.dir().parse(&path).unwrap();
    assert!(world.store.is_valid(&path).unwrap());
    assert_eq!(world.add(&source), path);
    assert!(!world.store.verify(&VerifyOptions { check_contents: true, repair: None }).unwrap());
    let b = world.text("b", "b", &[&path]);
    assert_eq!(run(&nix_store, &world, &["-qR", &world.store.display(&b)]).lines().count(), 2);
    run(&nix_store, &world, &["--verify", "--check-contents"]);
}
