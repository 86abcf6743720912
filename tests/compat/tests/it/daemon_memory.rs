//! What a connection's process takes of memory does not depend on how large the path is that passes it.

use firn_testkit::{Make, World};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

/// Much more than may stay in memory; a hole in a file, so that it costs nothing here.
const SIZE: u64 = 1 << 30;

/// What a connection may take, in KiB.
const BAR: u64 = 64 << 10;

/// The most that one of the daemon's processes for connections ever took, in KiB.
fn most(daemon: u32) -> u64 {
    let children =
        std::fs::read_to_string(format!("/proc/{daemon}/task/{daemon}/children")).unwrap_or_default();
    let peak = |pid: &str| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    children.split_whitespace().filter_map(peak).max().unwrap_or(0)
}

/// A number, as the protocol writes it.
fn word(number: u64) -> [u8; 8] {
    number.to_le_bytes()
}

/// Asks the daemon for a path's archive, which programs would read off the disk, and gives how long that is, after
/// `look` had its look at the connection.
fn fetch(world: &World, path: &str, look: impl FnOnce()) -> u64 {
    let mut stream = UnixStream::connect(world.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(&[word(0x6e69_7863), word(0x122), word(0), word(0)].concat()).unwrap();
    // The greeting with the program's version, which is a short text.
    stream.read_exact(&mut [0; 16 + 16 + 8]).unwrap();
    let mut request = [word(38), word(path.len() as u64)].concat();
    request.extend_from_slice(path.as_bytes());
    request.resize(request.len().next_multiple_of(8), 0);
    stream.write_all(&request).unwrap();
    let (mut count, mut piece) = (0, vec![0; 1 << 20]);
    while count < SIZE {
        count += stream.read(&mut piece).expect("the archive goes on") as u64;
    }
    look();
    count
}

#[test]
fn a_large_path_there_and_back() {
    let world = World::new();
    let daemon = world.start_daemon(Make::Firn, &[]);
    let source = world.path("work/large");
    std::fs::File::create(&source).unwrap().set_len(SIZE).unwrap();
    let mut command = world.client_command(Make::Firn, None, "nix-store");
    let mut client = command.arg("--add").arg(&source).stdout(Stdio::piped()).spawn().unwrap();
    let mut peak = 0;
    while client.try_wait().unwrap().is_none() {
        peak = peak.max(most(daemon.pid()));
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = client.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!((1 << 10..BAR).contains(&peak), "adding it took {peak} KiB");
    let path = String::from_utf8(output.stdout).unwrap();
    let look = || {
        let peak = most(daemon.pid());
        assert!((1 << 10..BAR).contains(&peak), "sending it took {peak} KiB");
    };
    assert!(fetch(&world, path.trim_end(), look) >= SIZE);
}
