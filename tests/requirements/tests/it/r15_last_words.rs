//! R15: when a daemon's process dies, or has no memory, while it is spoken to, the client is told what happened.

use firn_testkit::{Make, World};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

/// The process of the daemon's only connection.
fn worker_of(daemon: u32) -> Option<i32> {
    let children = std::fs::read_to_string(format!("/proc/{daemon}/task/{daemon}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

#[expect(clippy::disallowed_methods, reason = "tests run programs")]
fn kill(pid: i32, signal: &str) {
    std::process::Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
}

#[test]
fn a_killed_process() {
    let world = World::new();
    let daemon = world.start_daemon(Make::Firn, &[]);
    // A path that takes long to send: it comes through a pipe that is not closed.
    let mut command = world.client_command(Make::Firn, None, "nix-build");
    command
        .args(["--no-out-link", "--option", "sandbox", "false", "-E"])
        .arg(r#"derivation { name = "x"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "PATH=/bin:/usr/bin sleep 60" ]; }"#)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let client = command.spawn().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let worker = worker_of(daemon.pid()).expect("a process for the connection");
    kill(worker, "-KILL");
    let output = client.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("process for this connection was killed"), "{said}");
    // Others are served as before.
    world.client(Make::Firn, None, "nix", &["store", "info"]).success();
}

/// A number, as the protocol writes it.
fn word(number: u64) -> [u8; 8] {
    number.to_le_bytes()
}

/// A client that greets by itself, so that it can say what no program would.
fn greet(world: &World) -> UnixStream {
    let mut stream = UnixStream::connect(world.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(&[word(0x6e69_7863), word(0x122)].concat()).unwrap();
    let mut greeting = [0; 16];
    stream.read_exact(&mut greeting).unwrap();
    stream.write_all(&[word(0), word(0)].concat()).unwrap();
    // The program's version, and the last word of the greeting.
    let mut version = [0; 16 + 8];
    stream.read_exact(&mut version).unwrap();
    stream
}

#[test]
fn no_memory() {
    // The processes of connections inherit the limit: some room to start, none for what comes.
    let mut world = World::new();
    let script = "ulimit -v 700000; exec \"$@\"";
    world = world.wrapped(&["sh", "-c", script, "sh"]);
    let _daemon = world.start_daemon(Make::Firn, &[]);
    let mut stream = greet(&world);
    // A text to be added, of 240 MiB in one string, and again: each fits the budget, together they do not fit in
    // memory.
    let len = 240u64 << 20;
    let head = [word(8), word(1), word(u64::from(b'x')), word(len)].concat();
    let mut sent = stream.write_all(&head);
    let piece = vec![b'a'; 1 << 20];
    for _ in 0..240 {
        if sent.is_ok() {
            sent = stream.write_all(&piece);
        }
    }
    // No references.
    if sent.is_ok() {
        let _ = stream.write_all(&word(0));
    }
    let mut answer = Vec::new();
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let _ = stream.read_to_end(&mut answer);
    let said = String::from_utf8_lossy(&answer);
    assert!(said.contains("Nix daemon out of memory"), "{said}");
    // Others are served as before.
    world.client(Make::Firn, None, "nix", &["store", "info"]).success();
}
