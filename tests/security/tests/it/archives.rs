//! What is unpacked stays where it is unpacked, and costs no more than it says.

use crate::tool;
use firn_testkit::World;
use firn_testkit::servers::has_program;
use std::fs;

/// A string as archives have it: length, bytes, padding.
fn text(bytes: &[u8]) -> Vec<u8> {
    let mut out = (bytes.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(8), 0);
    out
}

fn words(words: &[&str]) -> Vec<u8> {
    words.iter().flat_map(|word| text(word.as_bytes())).collect()
}

/// An archive of a directory with one file in it.
fn archive_with(name: &str) -> Vec<u8> {
    words(&[
        "nix-archive-1",
        "(",
        "type",
        "directory",
        "entry",
        "(",
        "name",
        name,
        "node",
        "(",
        "type",
        "regular",
        "contents",
        "evil",
        ")",
        ")",
        ")",
    ])
}

#[track_caller]
fn refused(nar: &[u8], why: &str) {
    let world = World::new();
    fs::write(world.path("work/evil.nar"), nar).unwrap();
    fs::create_dir(world.path("work/in")).unwrap();
    let mut command = world.command("nix-store");
    command.args(["--restore", "in/there"]).stdin(fs::File::open(world.path("work/evil.nar")).unwrap());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains(why), "{said}");
    let left: Vec<_> = fs::read_dir(world.path("work")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "evil.nar" || name == "in"), "{left:?}");
    let outside: Vec<_> =
        fs::read_dir(world.path("work/in")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(outside.iter().all(|name| name == "there"), "{outside:?}");
}

#[test]
fn names_in_archives_that_lead_out() {
    for name in ["..", ".", "", "../evil", "/evil", "a/../../evil"] {
        refused(&archive_with(name), "name");
    }
}

#[test]
fn archives_without_an_end() {
    // A file that says to have more bytes than can be counted.
    let mut nar = words(&["nix-archive-1", "(", "type", "regular", "contents"]);
    nar.extend_from_slice(&u64::MAX.to_le_bytes());
    refused(&nar, "error");
    // Directories in directories.
    let mut nar = words(&["nix-archive-1"]);
    for _ in 0..200_000 {
        nar.extend(words(&["(", "type", "directory", "entry", "(", "name", "d", "node"]));
    }
    refused(&nar, "error");
}

#[test]
fn names_in_tar_files_that_lead_out() {
    if !has_program("python3") {
        return;
    }
    let world = World::new().conf("sandbox = false");
    world.write(
        "make.py",
        r#"
import io, tarfile
t = tarfile.open("evil.tar", "w")
def add(name, kind=tarfile.REGTYPE, link=""):
    i = tarfile.TarInfo(name); i.type = kind; i.linkname = link
    data = b"evil" if kind == tarfile.REGTYPE else b""
    i.size = len(data); t.addfile(i, io.BytesIO(data))
add("top/fine")
add("top/way", tarfile.SYMTYPE, "../../..")
add("top/way/out-by-link")
add("../out-by-name")
add("/tmp/firn-test-out-by-root")
t.close()
"#,
    );
    let mut python = tool(&world, "python3");
    assert!(python.arg("make.py").status().unwrap().success());
    let url = format!("file://{}", world.path("work/evil.tar").display());
    let expression = format!("builtins.fetchTarball \"{url}\"");
    let run = world.run("nix-instantiate", &["--eval", "-E", &expression]);
    assert!(run.code() != Some(0), "{run:?}");
    assert!(!std::path::Path::new("/tmp/firn-test-out-by-root").exists());
    for folder in ["", "work", "store", "home"] {
        let Ok(entries) = fs::read_dir(world.path(folder)) else { continue };
        for entry in entries {
            let name = entry.unwrap().file_name().to_string_lossy().into_owned();
            assert!(!name.contains("out-by"), "{folder}/{name}");
        }
    }
}

#[test]
fn a_small_download_that_is_large_inside() {
    if !has_program("python3") {
        return;
    }
    let world = World::new().conf("sandbox = false\nrequire-sigs = false\nsubstituters =");
    world.write("f", "content");
    let path = world.run("nix-store", &["--add", "f"]).success().stdout_text().trim().to_owned();
    let cache = format!("file://{}", world.path("cache").display());
    let copy = ["--extra-experimental-features", "nix-command", "copy", "--to", &cache, &path];
    world.run("nix", &copy).success();
    // The same names, with 512 MiB of zeroes behind them.
    world.write(
        "bomb.py",
        r#"
import glob, lzma, os
[nar] = glob.glob("../cache/nar/*.xz")
c = lzma.LZMACompressor()
with open(nar, "wb") as f:
    f.write(c.compress(b"\x0d\0\0\0\0\0\0\0nix-archive-1\0\0\0\x01\0\0\0\0\0\0\0(\0\0\0\0\0\0\0"
      b"\x04\0\0\0\0\0\0\0type\0\0\0\0\x07\0\0\0\0\0\0\0regular\0\x08\0\0\0\0\0\0\0contents"))
    f.write(c.compress((512 << 20).to_bytes(8, "little")))
    for _ in range(512): f.write(c.compress(bytes(1 << 20)))
    f.write(c.flush())
[info] = glob.glob("../cache/*.narinfo")
lines = [l for l in open(info) if not l.startswith("FileHash") and not l.startswith("FileSize")]
open(info, "w").writelines(lines)
"#,
    );
    assert!(tool(&world, "python3").arg("bomb.py").status().unwrap().success());
    world.run("nix-store", &["--delete", &path]).success();
    let args = ["--option", "substituters", &cache, "--realise", &path];
    let run = world.run("nix-store", &args);
    assert!(run.code() != Some(0), "{run:?}");
    let left: u64 = fs::read_dir(world.path("store"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().metadata().ok())
        .map(|meta| meta.len())
        .sum();
    assert!(left < 1 << 20, "{left} bytes are left");
}
