//! `github:`, `gitlab:` and `sourcehut:`.

#![expect(clippy::disallowed_methods, reason = "tests run programs")]

use crate::world::{Server, World, input, text};
use firn_core::flake_ref::Attr;
use firn_fetch::FetchOptions;
use std::collections::BTreeMap;
use std::process::Command;

const REV: &str = "0123456789abcdef0123456789abcdef01234567";

/// An archive as forges make them: one folder with all in it.
fn archive(world: &World, content: &str) -> Vec<u8> {
    let folder = world.root.path().join("made/repo-0123456");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("file"), content).expect("a file");
    let made = Command::new("tar")
        .args(["--mtime=@1234567890", "-cz", "repo-0123456"])
        .current_dir(world.root.path().join("made"))
        .output()
        .expect("tar");
    assert!(made.status.success());
    made.stdout
}

fn server(answers: &[(&str, Vec<u8>)]) -> Server {
    let answers: BTreeMap<String, Vec<u8>> =
        answers.iter().map(|(path, body)| ((*path).to_owned(), body.clone())).collect();
    Server::start(answers)
}

fn options(server: &Server, tokens: &[(&str, &str)]) -> FetchOptions {
    FetchOptions {
        forge_base: Some(server.base.clone()),
        access_tokens: tokens.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        ..FetchOptions::default()
    }
}

#[test]
fn github() {
    let world = World::new();
    let commit = format!("{{\"sha\":\"{REV}\",\"commit\":{{\"tree\":{{\"sha\":\"x\"}}}}}}").into_bytes();
    let archive_path = format!("/github.com/o/r/archive/{REV}.tar.gz");
    let server = server(&[
        ("/api.github.com/repos/o/r/commits/HEAD", commit.clone()),
        ("/api.github.com/repos/o/r/commits/feature/x", commit),
        (&archive_path, archive(&world, "hub")),
    ]);
    let fetcher = world.fetcher(options(&server, &[]));
    let tree = world.fetch(&fetcher, &input("github:o/r")).expect("a tree");
    assert_eq!(world.read(&tree, "file"), "hub");
    assert_eq!(text(&tree, "rev"), REV);
    assert!(!tree.attrs.contains_key("ref"));
    assert_eq!(tree.attrs.get("lastModified"), Some(&Attr::Int(1_234_567_890)));
    assert!(text(&tree, "narHash").starts_with("sha256-"));
    assert_eq!(server.asked(), ["/api.github.com/repos/o/r/commits/HEAD", archive_path.as_str()]);
    // The archive of a commit is the same for ever.
    world.fetch(&fetcher, &input("github:o/r/feature/x")).expect("a tree");
    assert_eq!(server.asked(), ["/api.github.com/repos/o/r/commits/feature/x"]);
    // In a copy of the repository it is, too, and with a token: nothing is asked again.
    world.fetch(&fetcher, &input(&format!("github:fork/r/{REV}"))).expect("a tree");
    let with_token = world.fetcher(options(&server, &[("github.com", "secret")]));
    world.fetch(&with_token, &input(&format!("github:o/r/{REV}"))).expect("a tree");
    assert!(server.asked().is_empty());
    let elsewhere = input(&format!("github:o/r/{REV}?host=git.example.org"));
    world.fetch(&fetcher, &elsewhere).expect_err("another server may have something else");
    assert_eq!(server.asked().len(), 1);
    let error = world.fetch(&fetcher, &input("github:o/r/nothing")).expect_err("no such branch").to_string();
    assert!(error.contains("404"), "{error}");
    // With a hash that is not its own.
    let hash = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let locked = input(&format!("github:o/r/{REV}?narHash={hash}"));
    let error = world.fetch(&fetcher, &locked).expect_err("another hash");
    assert_eq!(error.exit_status(), 102, "{error}");
    let error = world.runtime.block_on(fetcher.fetch_locked(&locked)).expect_err("another hash");
    assert_eq!(error.exit_status(), 102, "{error}");
}

#[test]
fn stores_without_files() {
    let mut world = World::new();
    world.store = std::sync::Arc::new(firn_store::MemoryStore::new(world.store.store_dir().clone()));
    let commit = format!("{{\"sha\":\"{REV}\"}}").into_bytes();
    let server = server(&[
        ("/api.github.com/repos/o/r/commits/HEAD", commit),
        (&format!("/github.com/o/r/archive/{REV}.tar.gz"), archive(&world, "hub")),
    ]);
    let fetcher = world.fetcher(options(&server, &[]));
    let tree = world.fetch(&fetcher, &input("github:o/r")).expect("a tree");
    assert_eq!(text(&tree, "rev"), REV);
    assert!(world.runtime.block_on(world.store.is_valid_path(&tree.store_path)).expect("an answer"));
}

#[test]
fn tokens_and_hosts() {
    let world = World::new();
    let commit = format!("{{\"sha\":\"{REV}\"}}").into_bytes();
    let body = archive(&world, "x");
    let own = format!("/api.github.com/repos/o/r/tarball/{REV}");
    let other = format!("/git.example.org/api/v3/repos/o/r/tarball/{REV}");
    let server = server(&[
        (&own, body.clone()),
        ("/git.example.org/api/v3/repos/o/r/commits/HEAD", commit),
        (&other, body),
    ]);
    let tokens = [("github.com", "wide"), ("github.com/o", "narrow")];
    let fetcher = world.fetcher(options(&server, &tokens));
    world.fetch(&fetcher, &input(&format!("github:o/r/{REV}"))).expect("a tree");
    assert_eq!(server.asked(), [format!("{own} [authorization: token narrow]")]);
    world.fetch(&fetcher, &input("github:o/r?host=git.example.org")).expect("a tree");
    assert_eq!(server.asked(), ["/git.example.org/api/v3/repos/o/r/commits/HEAD", other.as_str()]);
}

#[test]
fn gitlab() {
    let world = World::new();
    let commits = "/gitlab.com/api/v4/projects/o%2Fr/repository/commits?ref_name=main";
    let archive_path = format!("/gitlab.com/api/v4/projects/o%2Fr/repository/archive.tar.gz?sha={REV}");
    let server = server(&[
        (commits, format!("[{{\"id\":\"{REV}\"}}]").into_bytes()),
        ("/gitlab.com/api/v4/projects/o%2Fr/repository/commits?ref_name=empty", b"[]".to_vec()),
        (&archive_path, archive(&world, "lab")),
    ]);
    let fetcher = world.fetcher(options(&server, &[("gitlab.com", "PAT:secret")]));
    let tree = world.fetch(&fetcher, &input("gitlab:o/r/main")).expect("a tree");
    assert_eq!((world.read(&tree, "file"), text(&tree, "rev")), ("lab".to_owned(), REV.to_owned()));
    let asked = server.asked();
    assert_eq!(asked[0], format!("{commits} [private-token: secret]"));
    let error = world.fetch(&fetcher, &input("gitlab:o/r/empty")).expect_err("no commit").to_string();
    assert!(error.contains("No commits returned by GitLab API"), "{error}");
}

#[test]
fn sourcehut() {
    let world = World::new();
    let archive_path = format!("/git.sr.ht/~o/r/archive/{REV}.tar.gz");
    let server = server(&[
        ("/git.sr.ht/~o/r/HEAD", b"ref: refs/heads/trunk\n".to_vec()),
        ("/git.sr.ht/~o/r/info/refs", format!("{REV}\trefs/heads/trunk\n{REV}\trefs/tags/v1\n").into_bytes()),
        (&archive_path, archive(&world, "hut")),
    ]);
    let fetcher = world.fetcher(options(&server, &[]));
    let tree = world.fetch(&fetcher, &input("sourcehut:~o/r")).expect("a tree");
    assert_eq!((world.read(&tree, "file"), text(&tree, "rev")), ("hut".to_owned(), REV.to_owned()));
    world.fetch(&fetcher, &input("sourcehut:~o/r/v1")).expect("a tree");
    let error = world.fetch(&fetcher, &input("sourcehut:~o/r/v2")).expect_err("no tag").to_string();
    assert!(error.contains("couldn't find ref 'v2'"), "{error}");
}

#[test]
fn answers_that_are_none() {
    let world = World::new();
    let server = server(&[
        ("/api.github.com/repos/o/r/commits/HEAD", b"{\"sha\":\"../../x\"}".to_vec()),
        ("/api.github.com/repos/o/s/commits/HEAD", b"<html>".to_vec()),
        (&format!("/github.com/o/t/archive/{REV}.tar.gz"), b"no archive".to_vec()),
    ]);
    let fetcher = world.fetcher(options(&server, &[]));
    let check = |reference: &str, expected: &str| {
        let error = world.fetch(&fetcher, &input(reference)).expect_err(reference).to_string();
        assert!(error.contains(expected), "{reference}: {error}");
    };
    check("github:o/r", "which is no commit");
    check("github:o/s", "GitHub's answer");
    check(&format!("github:o/t/{REV}"), "unpacking");
}
