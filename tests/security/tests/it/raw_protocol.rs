//! What clients that nobody trusts must not do, said on the wire itself: no client of ours stands in the way.

use firn_testkit::{Make, World};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The version that these requests are written for: 1.37.
const VERSION: u64 = 0x125;

fn num(number: u64) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

fn text(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    let mut bytes = num(text.len() as u64);
    bytes.extend(text);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

fn list(items: &[&str]) -> Vec<u8> {
    [num(items.len() as u64), items.iter().flat_map(text).collect()].concat()
}

/// Bytes in one frame.
fn framed(bytes: &[u8]) -> Vec<u8> {
    [num(bytes.len() as u64), bytes.to_vec(), num(0)].concat()
}

/// The answer to one request, on a connection of its own.
fn say(world: &World, request: &[Vec<u8>]) -> String {
    let mut stream = UnixStream::connect(world.socket()).expect("the daemon listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    let mut bytes = [num(0x6e69_7863), num(VERSION), num(0), num(0)].concat();
    // No features are asked for; then what the test says.
    request.iter().for_each(|part| bytes.extend(part));
    let _ = stream.write_all(&bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[track_caller]
fn refused(world: &World, request: &[Vec<u8>], why: &str) {
    let answer = say(world, request);
    assert!(answer.contains(why), "{answer}");
}

/// All that the database says.
fn facts(world: &World) -> String {
    world.run("nix-store", &["--dump-db"]).success().stdout_text()
}

struct Store {
    world: World,
    /// A valid path that a root keeps, with the content `good`, its hash and its archive.
    path: String,
    hash: String,
    nar: Vec<u8>,
}

impl Store {
    fn new() -> Store {
        let world = World::new().conf(
            "sandbox = false\nexperimental-features = nix-command ca-derivations daemon-trust-override",
        );
        let path = world.build(r#"make "kept" "echo good > $out""#);
        world.run("nix-store", &["--realise", &path, "--add-root", "root"]).success();
        let said = world.run("nix-store", &["--query", "--hash", &path]).success().stdout_text();
        let hash = said.trim_end().trim_start_matches("sha256:").to_owned();
        let hash = world.run("nix", &["hash", "convert", "--hash-algo", "sha256", "--to", "base16", &hash]);
        let hash = hash.success().stdout_text().trim_end().to_owned();
        let nar = world.run("nix-store", &["--dump", &path]).success().stdout().to_vec();
        Store { world, path, hash, nar }
    }

    /// Facts that a client states of a path, who says that it was built here.
    fn info(&self, path: &str, nar: &[u8], hash: &str, ca: &str) -> Vec<u8> {
        let numbers = [num(0), num(nar.len() as u64), num(1)].concat();
        [text(path), text(""), text(hash), list(&[]), numbers, list(&[]), text(ca)].concat()
    }
}

#[test]
fn what_is_not_signed_is_not_added() {
    let store = Store::new();
    let world = &store.world;
    let _daemon = world.start_daemon(Make::Firn, &["--force-untrusted"]);
    let before = facts(world);
    let new = format!("{}/{}-new", world.path("store").display(), "a".repeat(32));
    let unsigned = "lacks a signature by a trusted key";
    let wrong_ca = format!("fixed:r:sha256:{}", "0".repeat(52));
    let flags: [(u64, u64); 4] = [(0, 0), (0, 1), (1, 0), (1, 1)];
    for (repair, unchecked) in flags {
        for (path, ca) in [(&new, ""), (&new, &*wrong_ca)] {
            let info = store.info(path, &store.nar, &store.hash, ca);
            let one = [num(39), info.clone(), num(repair), num(unchecked), framed(&store.nar)];
            refused(world, &one, unsigned);
            let many = framed(&[num(1), info, store.nar.clone()].concat());
            refused(world, &[num(44), num(repair), num(unchecked), many], unsigned);
        }
        // Other content for a path that is valid: it is passed over, or refused.
        let evil = String::from_utf8_lossy(&store.nar).replace("good", "evil").into_bytes();
        let info = store.info(&store.path, &evil, &store.hash, "");
        say(world, &[num(39), info.clone(), num(repair), num(unchecked), framed(&evil)]);
        let many = framed(&[num(1), info, evil.clone()].concat());
        say(world, &[num(44), num(repair), num(unchecked), many]);
        assert_eq!(fs::read_to_string(&store.path).expect("the file"), "good\n");
    }
    // A content address that is right for the path, and content that is not.
    world.write("mine", "mine\n");
    let mine = world.run("nix-store", &["--add", "mine"]).success().stdout_text().trim_end().to_owned();
    let info = world.run("nix-store", &["--dump-db"]).success().stdout_text();
    assert!(info.contains(&mine));
    let json =
        world.run("nix", &["path-info", "--json", "--json-format", "1", &mine]).success().stdout_text();
    let ca = json.split("\"ca\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an address");
    let ca = ca.to_owned();
    world.run("nix-store", &["--delete", &mine]).success();
    for op in [39, 44] {
        let info = store.info(&mine, &store.nar, &store.hash, &ca);
        let body = match op {
            39 => [info, num(0), num(1), framed(&store.nar)].concat(),
            _ => [num(0), num(1), framed(&[num(1), info, store.nar.clone()].concat())].concat(),
        };
        refused(world, &[num(op), body], "hash mismatch importing path");
    }
    assert_eq!(facts(world), before);
    let output = store.path.rsplit('/').next().expect("a name");
    let realisation = format!(
        r#"{{"id":"sha256:{}!out","outPath":"{output}","signatures":[],"dependentRealisations":{{}}}}"#,
        "1".repeat(64)
    );
    refused(world, &[num(42), text(&realisation)], "Error");
    assert!(!std::path::Path::new(&new).exists());
    world.run("nix-store", &["--verify", "--check-contents"]).success();
}

#[test]
fn what_concerns_others_is_refused() {
    let store = Store::new();
    let (world, path) = (&store.world, store.path.as_str());
    let drv = world.run("nix-store", &["--query", "--deriver", path]).success().stdout_text();
    let drv = drv.trim_end().to_owned();
    let _daemon = world.start_daemon(Make::Firn, &["--force-untrusted"]);
    let before = facts(world);
    let repairing = "repairing is not allowed because you are not in 'trusted-users'";
    let output = format!("{drv}!out");
    for op in [9, 46] {
        refused(world, &[num(op), list(&[&output]), num(1)], repairing);
    }
    // A derivation that says what its output's path is.
    let marker = world.path("work/built");
    let script = format!("echo > {0}; echo > $out", marker.display());
    let stated = format!("{}/{}-x", world.path("store").display(), "b".repeat(32));
    let basic = |method: &str, hash: &str, out: &str| {
        let output = [num(1), text("out"), text(out), text(method), text(hash)].concat();
        let builder = [list(&[]), text("x86_64-linux"), text("/bin/sh"), list(&["-c", &script])].concat();
        [output, builder, num(1), text("out"), text(out)].concat()
    };
    refused(
        world,
        &[num(36), text(&drv), basic("", "", &stated), num(0)],
        "you are not privileged to build input-addressed derivations",
    );
    refused(world, &[num(36), text(&drv), basic("r:sha256", "", ""), num(1)], repairing);
    assert!(!marker.exists(), "something was built");
    // Garbage: what a root keeps stays, whatever is asked.
    let collect = |action: u64, ignore: u64| {
        let paths = list(&[path]);
        [num(20), num(action), paths, num(ignore), num(u64::MAX), num(0), num(0), num(0)]
    };
    refused(world, &collect(3, 1), "you are not allowed to ignore liveness");
    refused(world, &collect(2, 1), "you are not allowed to ignore liveness");
    refused(world, &collect(3, 0), "still alive");
    refused(world, &[num(35), num(1), num(1)], "you are not privileged to repair paths");
    let log = framed(b"a log that nobody wrote");
    let base = drv.rsplit('/').next().expect("a name");
    refused(world, &[num(45), text(base), log], "you are not privileged to add logs");
    let link = world.path("work/permanent");
    let request = [num(47), text(path), text(link.to_str().expect("text"))];
    refused(world, &request, "you are not privileged to create perm roots");
    assert!(!link.exists());
    refused(world, &[num(12), text("relative/link")], "not an absolute path");
    // Which programs use what is nobody's business.
    let open = fs::File::open(path).expect("the file");
    let roots = say(world, &[num(14)]);
    assert!(roots.contains("{censored}") && !roots.contains("/proc/"), "{roots}");
    drop(open);
    // Files outside the store, and names that lead out of it.
    refused(world, &[num(38), text("/etc/passwd")], "is not in the Nix store");
    let outside = format!("{}/../home", world.path("store").display());
    refused(world, &[num(38), text(&outside)], "Error");
    for name in ["../x", ".", "a/b", ""] {
        let method = "fixed:r:sha256";
        let request = [num(7), text(name), text(method), list(&[]), num(0), framed(&store.nar)];
        refused(world, &request, "name");
    }
    // Settings of the machine's owner.
    let hook = format!("/bin/sh -c 'touch {}'", marker.display());
    let options =
        [vec![num(19)], (0..12).map(|place| num(if place == 3 { 3 } else { 0 })).collect(), vec![num(1)]]
            .concat();
    let settings = [text("post-build-hook"), text(&hook)];
    refused(
        world,
        &[options.concat(), settings.concat()],
        "ignoring the client-specified setting 'post-build-hook'",
    );
    assert_eq!(facts(world), before);
    assert_eq!(fs::read_to_string(path).expect("the file"), "good\n");
    world.run("nix-store", &["--verify", "--check-contents"]).success();
}
