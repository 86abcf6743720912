//! Outputs that are no files as a store has them: each is refused or made harmless, nothing of it stays, and the next
//! build works.

use firn_testkit::servers::has_program;
use firn_testkit::{World, can_sandbox};
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn both(test: impl Fn(&World)) {
    test(&World::new().conf("sandbox = false"));
    if can_sandbox() {
        test(&World::new().sandboxed());
    }
}

/// What is in the store directory apart from derivations.
fn left(world: &World) -> Vec<String> {
    let names = fs::read_dir(world.path("store")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.ends_with(".drv") && !name.starts_with('.')).collect()
}

#[track_caller]
fn refused(script: &str, why: &str) {
    both(|world| {
        let run = world.try_build(&format!("make \"bad\" ''{script}''"), &[]);
        assert!(run.code() != Some(0) && run.stderr_text().contains(why), "{run:?}");
        assert_eq!(left(world), [""; 0]);
        world.build(r#"make "next" "echo > $out""#);
    });
}

#[test]
fn pipes_sockets_and_devices() {
    refused("mkfifo $out", "unsupported type");
    refused("mkdir $out; mkfifo $out/pipe", "unsupported type");
    if has_program("python3") {
        let bind = "import socket; socket.socket(socket.AF_UNIX).bind(chr(115))";
        refused(&format!("mkdir $out; cd $out; python3 -c \"{bind}\""), "unsupported type");
    }
    // A device cannot be made in the first place; outside of a sandbox root can.
    if can_sandbox() {
        let world = World::new().sandboxed();
        let run = world.try_build(r#"make "disk" "mknod $out b 8 0""#, &[]);
        assert!(run.code() != Some(0), "{run:?}");
        assert_eq!(left(&world), [""; 0]);
    }
}

#[test]
fn set_user_id_files_lose_it() {
    // In the sandbox the call itself is refused.
    let world = World::new().conf("sandbox = false\nfilter-syscalls = false");
    let path = world.build(r#"make "setuid" "mkdir $out; echo > $out/f; chmod 6755 $out/f $out""#);
    for file in [path.clone(), format!("{path}/f")] {
        let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode & 0o7222, 0, "{file}: {mode:o}");
    }
}

#[test]
fn trees_that_anybody_could_write_to() {
    let world = World::new();
    if !world.is_root() || !can_sandbox() {
        return;
    }
    let world = world.sandboxed().with_build_users();
    let run = world.try_build(r#"make "open" "mkdir $out; echo > $out/f; chmod 777 $out""#, &[]);
    assert!(
        run.code() != Some(0) && run.stderr_text().contains("suspicious ownership or permission"),
        "{run:?}"
    );
    // Below the top it is set right.
    let path = world
        .build(r#"make "inner" "mkdir -p $out/d; echo > $out/d/f; chmod 777 $out/d; chmod 666 $out/d/f""#);
    for file in ["", "/d", "/d/f"] {
        let mode = fs::metadata(format!("{path}{file}")).unwrap().permissions().mode();
        assert_eq!(mode & 0o222, 0, "{file}: {mode:o}");
    }
}

#[test]
fn links_in_circles() {
    both(|world| {
        let path = world.build(
            r#"make "circle" "mkdir $out; ln -s b $out/a; ln -s a $out/b; ln -s . $out/self; ln -s $out $out/abs""#,
        );
        let references = world.run("nix-store", &["--query", "--references", &path]).success().stdout_text();
        assert_eq!(references.trim(), path);
        let circle = world.build(r#"make "link" "ln -s $out $out""#);
        assert!(fs::symlink_metadata(circle).unwrap().is_symlink());
    });
}

#[test]
fn something_is_where_the_output_goes() {
    let world = World::new().conf("sandbox = false");
    let path = world.build(r#"make "there" "echo right > $out""#);
    world.run("nix-store", &["--delete", &path]).success();
    fs::create_dir_all(&path).unwrap();
    fs::write(format!("{path}/stale"), "stale").unwrap();
    assert_eq!(world.build_text(r#"make "there" "echo right > $out""#), "right\n");
}

#[test]
fn a_hash_that_is_wrong_is_told_with_the_right_one() {
    both(|world| {
        let run = world.try_build(
            r#"makeWith "fixed" { outputHash = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="; } "printf x > $out""#,
            &[],
        );
        let said = run.stderr_text();
        assert!(said.contains("specified: sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="), "{run:?}");
        let got = said.lines().find(|line| line.contains("got:")).expect("what it is").trim().to_owned();
        let right = got.trim_start_matches("got:").trim().to_owned();
        let next = format!(r#"makeWith "fixed" {{ outputHash = "{right}"; }} "printf x > $out""#);
        assert_eq!(world.build_text(&next), "x");
    });
}
