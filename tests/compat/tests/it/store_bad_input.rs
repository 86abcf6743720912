//! What is handed to the store and is not what it should be: a clear error each time, and nothing has changed.

use firn_testkit::World;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

/// What is valid in the store.
fn valid(world: &World) -> String {
    world.run("nix", &["path-info", "--all"]).success().stdout_text()
}

fn world() -> World {
    World::new().conf("sandbox = false\nexperimental-features = nix-command\nsubstituters =")
}

fn add(world: &World, name: &str, text: &str) -> String {
    let file = world.write(name, text).display().to_string();
    world.run("nix-store", &["--add", &file]).success().stdout_text().trim_end().to_owned()
}

#[test]
fn names_that_are_no_store_paths() {
    let world = world();
    let path = add(&world, "a", "text");
    let store = world.path("store").display().to_string();
    let long = format!("{store}/00000000000000000000000000000000-{}", "x".repeat(300));
    let before = valid(&world);
    for (name, wanted) in [
        ("foo".to_owned(), "is not in the Nix store"),
        ("/not/a/path".to_owned(), "is not in the Nix store"),
        (store.clone(), "is not in the Nix store"),
        (format!("{store}/short-name"), "'short-name' is too short to be a valid store path"),
        (format!("{store}/00000000000000000000000000000000-"), "name must not be empty"),
        (format!("{store}/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee-name"), "illegal base-32 character 'e'"),
        (format!("{store}/00000000000000000000000000000000-a b"), "illegal character ' '"),
        (long, "is not a valid store path"),
        (format!("{store}/00000000000000000000000000000000-a"), "is not valid"),
    ] {
        for words in
            [&["--query", "--references"][..], &["--query", "--hash"], &["--verify-path"], &["--dump-db"]]
        {
            // All paths are the default of one of them.
            let run = world.run("nix-store", &[words, &[name.as_str()]].concat());
            if run.code() != Some(0) {
                assert_eq!(run.code(), Some(1), "{words:?} {name}");
                assert!(
                    run.stderr_text().contains(wanted) || words == ["--verify-path"],
                    "{words:?} {name}: {run:?}"
                );
                assert!(!run.stderr_text().contains("panicked"), "{run:?}");
            }
        }
        world.run("nix-store", &["--delete", &name]).code();
    }
    assert_eq!(valid(&world), before);
    assert_eq!(fs::read_to_string(path).expect("still there"), "text");
}

#[test]
fn exports_that_are_broken() {
    let world = world();
    let path = add(&world, "a", "the text of a file");
    world.run("/bin/sh", &["-c", &format!("nix-store --export {path} > whole")]).success();
    world.run("nix-store", &["--delete", &path]).success();
    let whole = fs::read(world.work_dir().join("whole")).expect("the export");
    let file = world.work_dir().join("broken");
    let import = |bytes: &[u8]| {
        fs::write(&file, bytes).expect("written");
        world.run("/bin/sh", &["-c", "nix-store --import < broken"])
    };
    let before = valid(&world);
    for length in [0, 7, 8, 50, whole.len() / 2, whole.len() - 9] {
        let run = import(&whole[..length]).fails(1);
        assert!(run.stderr_text().contains("end-of-file"), "{length}: {run:?}");
    }
    let at = |text: &[u8]| whole.windows(text.len()).position(|w| w == text).expect("it is in there");
    for (place, bytes, wanted) in [
        (0, &b"garbage!"[..], "doesn't look like something created by"),
        (8, b"\xff\xff\xff\xff\xff\xff\xff\xff", "error: "),
        (at(b"nix-archive-1"), b"nix-archive-2", "doesn't look like a Nix archive"),
        (at(b"regular"), b"rogular", "bad archive"),
        (at(b"contents"), b"contends", "bad archive"),
        (at(b"NIXE"), b"EXIN", "error: "),
    ] {
        let mut broken = whole.clone();
        broken[place..place + bytes.len()].copy_from_slice(bytes);
        let run = import(&broken).fails(1);
        assert!(run.stderr_text().contains(wanted), "{wanted}: {run:?}");
        assert!(!run.stderr_text().contains("panicked"), "{run:?}");
    }
    assert_eq!(valid(&world), before);
    assert!(!Path::new(&path).exists());
    import(&whole).success();
    assert_eq!(fs::read_to_string(&path).expect("imported"), "the text of a file");
}

#[test]
fn pages_of_the_database() {
    for (page, count) in [(0u64, 1u32), (1, 3)] {
        let world = world();
        let path = add(&world, "a", "text");
        let database = world.path("var/nix/db/db.sqlite");
        let noise: Vec<u8> = (0..4096 * count).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let file = fs::OpenOptions::new().write(true).open(&database).expect("the database");
        file.write_all_at(&noise, page * 4096).expect("written");
        let other = world.write("b", "other").display().to_string();
        for words in
            [&["--query", "--references", path.as_str()][..], &["--verify"], &["--add", &other], &["--gc"]]
        {
            let run = world.run("nix-store", words).fails(1);
            assert!(run.stderr_text().contains("db.sqlite': "), "{words:?}: {run:?}");
            assert!(
                run.stderr_text().contains("`firn store rebuild-db` makes it anew"),
                "{words:?}: {run:?}"
            );
        }
        assert_eq!(fs::read_to_string(&path).expect("nothing was deleted"), "text");
        world.run("firn", &["store", "rebuild-db"]).success();
        world.run("nix-store", &["--verify", "--check-contents"]).success();
        world.run("nix-store", &["--query", "--hash", &path]).success();
    }
}

#[test]
fn links_that_are_not_what_they_say() {
    let world = world().conf("sandbox = false\nsubstituters =\nauto-optimise-store = true");
    let text = world.write("b", "good").display().to_string();
    // The link is named by the hash of the file's archive.
    let hash = world.run("nix-hash", &["--type", "sha256", "--base32", &text]).success().stdout_text();
    let links = world.path("store/.links");
    fs::create_dir_all(&links).expect("the folder");
    let link = links.join(hash.trim_end());
    fs::write(&link, "bad and longer").expect("written");
    fs::set_permissions(&link, fs::Permissions::from_mode(0o444)).expect("read-only");
    let path = world.run("nix-store", &["--add", &text]).success().stdout_text();
    assert_eq!(fs::read_to_string(path.trim_end()).expect("the file"), "good");
    assert_eq!(fs::read_to_string(&link).expect("the link"), "good");
    world.run("nix-store", &["--verify", "--check-contents"]).success();
}
