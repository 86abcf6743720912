//! Caches that fail, stall and lie, alone and beside a good one.

use firn_testkit::World;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a cache does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vice {
    None,
    /// Of each file the first answer is an error, the second breaks off in the middle, and the others are late.
    Moody,
    /// Takes requests and never answers.
    Mute,
    /// Answers a byte at a time.
    Slow,
    /// Knows all paths, and has none of their archives.
    Empty,
    /// Archives have one byte changed.
    Damaged,
    /// Only errors.
    Broken,
}

/// A server of the files below `root`; it ends with the test.
fn serve(root: PathBuf, vice: Vice) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let count = Arc::new(Mutex::new(BTreeMap::new()));
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (root, count) = (root.clone(), Arc::clone(&count));
            std::thread::spawn(move || {
                // Clients that hang up are no concern of the server.
                let _ = talk(&client, &root, vice, &count);
            });
        }
    });
    url
}

fn talk(
    client: &TcpStream,
    root: &std::path::Path,
    vice: Vice,
    count: &Mutex<BTreeMap<String, u32>>,
) -> std::io::Result<()> {
    let mut input = BufReader::new(client);
    let mut out = client;
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut header = String::new();
        while input.read_line(&mut header)? > 2 {
            header.clear();
        }
        let path = line.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
        let is_archive = path.starts_with("nar/");
        let number = {
            let mut counts = count.lock().expect("the counts");
            let number = counts.entry(path.clone()).or_insert(0);
            *number += 1;
            *number
        };
        let mut body = fs::read(root.join(&path)).ok();
        let mut whole = true;
        match vice {
            Vice::Mute => {
                std::thread::sleep(Duration::from_secs(60));
                return Ok(());
            }
            Vice::Broken => return out.write_all(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"),
            Vice::Moody if number == 1 => {
                out.write_all(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")?;
                continue;
            }
            Vice::Moody if number == 2 => whole = false,
            Vice::Moody => std::thread::sleep(Duration::from_millis(100)),
            Vice::Empty if is_archive => body = None,
            Vice::Damaged if is_archive => {
                if let Some(byte) = body.as_mut().and_then(|body| body.get_mut(100)) {
                    *byte ^= 1;
                }
            }
            _ => {}
        }
        let Some(body) = body else {
            out.write_all(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        };
        out.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes())?;
        if vice == Vice::Slow {
            for byte in &body {
                out.write_all(&[*byte])?;
                std::thread::sleep(Duration::from_millis(3));
            }
        }
        if !whole {
            return out.write_all(&body[..body.len() / 2]);
        }
        out.write_all(&body)?;
    }
}

const PATHS: usize = 12;

/// A world with a cache of some paths that its store does not have, and the one that refers to all of them.
fn world() -> (World, PathBuf, String) {
    let world = World::new().conf(
        "sandbox = false\nrequire-sigs = false\nconnect-timeout = 3\nstalled-download-timeout = 2\n\
         download-attempts = 4",
    );
    let expression = format!(
        r#"let d = name: deps: derivation {{ inherit name deps; system = builtins.currentSystem;
             builder = "/bin/sh"; args = [ "-c" "echo $name $deps > $out" ]; }};
             # Half of them refer to each other in a row, so that archives come before what they refer to.
             all = builtins.genList (i: d "p${{toString i}}"
               (if i > 1 && i - i / 2 * 2 == 0 then [ (builtins.elemAt all (i - 2)) ] else [ ])) {PATHS};
           in d "top" all"#
    );
    let top = world.run("nix-build", &["--no-out-link", "-E", &expression]).success().stdout_text();
    let top = top.trim_end().to_owned();
    let cache = world.path("cache");
    // Uncompressed, so that damage is nothing that a decoder finds.
    let to = format!("file://{}?compression=none", cache.display());
    world.run("nix", &["copy", "--to", &to, &top]).success();
    world.run("nix-store", &["--gc"]).success();
    (world, cache, top)
}

/// The closure comes from these caches, in the order of their priorities, in no more than that time.
#[track_caller]
fn check(vices: &[Vice], limit: Duration) {
    let (world, cache, top) = world();
    let urls: Vec<String> = vices
        .iter()
        .enumerate()
        .map(|(place, vice)| format!("{}?priority={}", serve(cache.clone(), *vice), 10 + place))
        .collect();
    let substituters = urls.join(" ");
    let started = Instant::now();
    let args = ["--realise", &top, "--option", "substituters", &substituters, "--max-jobs", "0"];
    let run = world.run("nix-store", &args).success();
    let took = started.elapsed();
    assert!(took < limit, "{took:?}: {}", run.stderr_text());
    let closure = world.run("nix-store", &["--query", "--requisites", &top]).success().stdout_text();
    assert_eq!(closure.lines().count(), PATHS + 1);
    world.run("nix-store", &["--verify", "--check-contents"]).success();
}

#[test]
fn moody() {
    check(&[Vice::Moody], Duration::from_secs(60));
}

#[test]
fn beside_a_good_one() {
    for vice in [Vice::Moody, Vice::Empty, Vice::Damaged, Vice::Broken] {
        check(&[vice, Vice::None], Duration::from_secs(30));
        check(&[Vice::None, vice], Duration::from_secs(10));
    }
}

#[test]
fn slow_ones_beside_a_good_one() {
    for vice in [Vice::Mute, Vice::Slow] {
        check(&[vice, Vice::None], Duration::from_secs(45));
        check(&[Vice::None, vice], Duration::from_secs(20));
    }
}

/// Alone, each ends in an error that names the cache, and nothing is half there.
#[test]
fn alone() {
    let cases = [
        (Vice::Empty, "does not exist in binary cache"),
        (Vice::Damaged, "-p1' fetched from 'http://127.0.0.1"),
        (Vice::Broken, "500"),
        (Vice::Mute, "127.0.0.1"),
    ];
    for (vice, words) in cases {
        let (world, cache, top) = world();
        let url = serve(cache, vice);
        let args = ["--realise", &top, "--option", "substituters", &url, "--max-jobs", "0"];
        let failed = world.run("nix-store", &args);
        assert_ne!(failed.code(), Some(0), "{vice:?}");
        let said = failed.stderr_text();
        assert!(said.contains(words), "{vice:?}: {said}");
        assert!(!std::path::Path::new(&top).exists(), "{vice:?}");
        world.run("nix-store", &["--check-validity", &top]).fails(1);
    }
}
