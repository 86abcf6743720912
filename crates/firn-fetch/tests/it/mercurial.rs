//! Inputs of type `hg`.

#![expect(clippy::disallowed_methods, reason = "tests run programs")]

use crate::world::{World, input, text};
use firn_core::flake_ref::Attr;
use firn_fetch::{Dirty, FetchOptions};
use std::path::Path;
use std::process::Command;

fn hg(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new("hg");
    command.env("HGPLAIN", "").args(["--config", "ui.username=t"]).args(args).current_dir(dir);
    let output = command.output().expect("hg");
    assert!(output.status.success(), "hg {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn commits_and_working_trees() {
    if Command::new("hg").arg("--version").output().is_err() {
        panic!("this test needs the program 'hg' (Debian's package mercurial)");
    }
    let world = World::new();
    let repo = world.root.path().join("repo");
    std::fs::create_dir(&repo).expect("a folder");
    hg(&repo, &["init"]);
    std::fs::write(repo.join("file"), "one").expect("a file");
    hg(&repo, &["add", "file"]);
    hg(&repo, &["commit", "-m", "one"]);
    let first = hg(&repo, &["log", "-r", "tip", "--template", "{node}"]);
    std::fs::write(repo.join("file"), "two").expect("a file");
    hg(&repo, &["commit", "-m", "two"]);
    let url = format!("hg+file://{}", repo.display());
    let options = || FetchOptions { ttl: 0, ..FetchOptions::default() };
    let fetcher = world.fetcher(options());
    let tree = world.fetch(&fetcher, &input(&url)).expect("a tree");
    assert_eq!(world.read(&tree, "file"), "two");
    assert_eq!((text(&tree, "ref"), tree.attrs.get("revCount")), ("default".to_owned(), Some(&Attr::Int(1))));
    let old = world.fetch(&fetcher, &input(&format!("{url}?rev={first}"))).expect("a tree");
    assert_eq!((world.read(&old, "file"), text(&old, "rev")), ("one".to_owned(), first));
    let again = world.fetch(&fetcher, &input(&url)).expect("a tree");
    assert_eq!(again.store_path, tree.store_path);
    // What was changed, but not what Mercurial does not know.
    std::fs::write(repo.join("file"), "three").expect("a file");
    std::fs::write(repo.join("other"), "x").expect("a file");
    let dirty = world.fetch(&fetcher, &input(&url)).expect("a tree");
    assert_eq!(world.read(&dirty, "file"), "three");
    assert!(!dirty.attrs.contains_key("rev"));
    let strict = world.fetcher(FetchOptions { dirty: Dirty::Refuse, ..options() });
    let error = world.fetch(&strict, &input(&url)).expect_err("unclean").to_string();
    assert!(error.contains("is unclean"), "{error}");
    let error = world.fetch(&fetcher, &input("hg+file:///nowhere/at/all")).expect_err("nothing").to_string();
    assert!(error.contains("'hg clone"), "{error}");
}
