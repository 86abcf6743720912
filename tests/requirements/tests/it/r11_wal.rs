//! R11: a collection never rewrites the database as a whole, and the write-ahead log stays bounded while others have
//! the database open.

use firn_testkit::World;
use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};

const PATHS: u32 = 50_000;
/// What the log may hold in the meantime: as much as one checkpoint does.
const WHILE_READING: u64 = 200 << 20;
/// And when all is done.
const AFTERWARDS: u64 = 1 << 20;

/// Thousands of paths, made known by `--load-db`.
fn fill(world: &World) {
    let store = world.path("store");
    world.run("nix-store", &["--init"]).success();
    let mut facts = String::new();
    for number in 0..PATHS {
        let path = store.join(format!("{number:0>32}-p"));
        fs::write(&path, "x").expect("a path");
        let zeros = "0".repeat(64);
        let _ = write!(facts, "{}\n{zeros}\n112\n\n", path.display());
        match number {
            0 => facts.push_str("0\n"),
            _ => {
                let _ = writeln!(facts, "1\n{}/{:0>32}-p", store.display(), number - 1);
            }
        }
    }
    let file = world.path("facts");
    fs::write(&file, facts).expect("the facts");
    let input = fs::File::open(file).expect("the facts");
    let status = world.command("nix-store").arg("--load-db").stdin(input).status().expect("the program runs");
    assert!(status.success());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "tests run programs")]
fn the_log_is_bounded_beside_a_reader() {
    let world = World::new();
    fill(&world);
    let db = world.path("var/nix/db/db.sqlite");
    let log = world.path("var/nix/db/db.sqlite-wal");
    // Somebody who reads, in a transaction that stays open all the time.
    let Ok(mut reader) =
        Command::new("sqlite3").arg(&db).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
    else {
        eprintln!("NOT TESTED: sqlite3 is not on this machine");
        return;
    };
    let mut input = reader.stdin.take().expect("its input");
    std::io::Write::write_all(&mut input, b"begin; select count(*) from ValidPaths;\n").expect("it listens");
    let mut line = [0; 6];
    std::io::Read::read_exact(&mut reader.stdout.take().expect("its output"), &mut line).expect("it answers");
    assert_eq!(&line, b"50000\n");

    let before = fs::metadata(&db).expect("the database");
    let said = world.run("nix-store", &["--gc"]).success().stdout_text();
    assert!(said.starts_with("50000 store paths deleted"), "{said}");
    let size = fs::metadata(&log).map_or(0, |meta| meta.len());
    assert!(size < WHILE_READING, "the log has {size} bytes");
    drop(input);
    reader.wait().expect("the reader ends");

    world.run("nix-store", &["--gc"]).success();
    let size = fs::metadata(&log).map_or(0, |meta| meta.len());
    assert!(size < AFTERWARDS, "the log has {size} bytes");
    // A VACUUM would have given the free pages back.
    let after = fs::metadata(&db).expect("the database");
    assert!(after.len() >= before.len(), "the database was rewritten");
}
