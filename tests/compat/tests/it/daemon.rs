//! The reference's programs and ours on both sides of a daemon, `nix-store --serve` and ssh.

use firn_testkit::{Make, World, has_reference, has_sshd};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const EXPRESSION: &str = r#"derivation { name = "x"; system = builtins.currentSystem; builder = "/bin/sh"; src = ./file;
    args = [ "-c" "echo said; echo made > $out; echo $src >> $out" ]; }"#;

/// What users do with a daemon.
#[track_caller]
fn check(client: Make, server: Make) {
    if (client == Make::Reference || server == Make::Reference) && !has_reference() {
        return;
    }
    let world = World::new().conf("sandbox = false");
    let _daemon = world.start_daemon(server, &[]);
    let run =
        |program: &str, args: &[&str]| world.client(client, None, program, args).success().stdout_text();
    let file = world.write("file", "text");
    world.write("x.nix", EXPRESSION);
    let added = run("nix-store", &["--add", file.to_str().unwrap()]);
    let added = added.trim_end();
    assert!(run("nix-store", &["-q", "--hash", added]).starts_with("sha256:"));
    let built = run("nix-build", &["x.nix"]);
    let built = built.trim_end();
    assert_eq!(std::fs::read_to_string(built).unwrap(), format!("made\n{added}\n"));
    assert!(run("nix-store", &["-qR", built]).contains(added));
    assert!(run("nix-store", &["-q", "--referrers", added]).contains(built));
    assert!(run("nix-store", &["--read-log", built]).contains("said"));
    assert!(run("nix-store", &["--gc", "--print-roots"]).contains(built));
    assert_eq!(run("nix-store", &["--gc", "--print-dead"]).lines().filter(|line| *line == built).count(), 0);
    // What fails there fails here, with the same words.
    let bad = r#"derivation { name = "bad"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "exit 3" ]; }"#;
    let said = world.client(client, None, "nix-build", &["--no-out-link", "-E", bad]).fails(1).stderr_text();
    assert!(said.contains("failed with exit code 3"), "{said}");
    // A daemon ends the error with the log, also for clients that showed it.
    let bad = r#"derivation { name = "worse"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo why; exit 3" ]; }"#;
    let said = world.client(client, None, "nix-build", &["--no-out-link", "-E", bad]).fails(1).stderr_text();
    assert!(
        server == Make::Reference || said.contains("Last 1 log lines:") && said.contains("> why"),
        "{said}"
    );
    // What a builder says need not be text.
    let raw = r#"derivation { name = "raw"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "printf 'caf\\351 ok\\n'; exit 3" ]; }"#;
    // Older daemons end errors with something else.
    let quoted: &[u8] = if server == Make::Reference { b"caf\xe9 ok\n" } else { b"> caf\xe9 ok\n" };
    let said = world.client(client, None, "nix-build", &["--no-out-link", "-E", raw]).fails(1);
    assert!(said.stderr().windows(quoted.len()).any(|part| part == quoted), "{said:?}");
    // Archives, both ways.
    let exported = world.client(client, None, "nix-store", &["--export", built, added]).success();
    std::fs::write(world.path("work/archive"), exported.stdout()).unwrap();
    std::fs::remove_file(world.path("work/result")).unwrap();
    run("nix-store", &["--gc"]);
    assert!(!std::path::Path::new(built).exists());
    let mut import = world.client_command(client, None, "nix-store");
    import.arg("--import").stdin(std::fs::File::open(world.path("work/archive")).unwrap());
    assert!(import.output().unwrap().status.success());
    assert!(std::path::Path::new(built).exists());
    assert!(world.client(client, None, "nix-store", &["--verify", "--check-contents"]).code() == Some(0));
}

#[test]
fn our_client_and_our_daemon() {
    check(Make::Firn, Make::Firn);
}

#[test]
fn our_client_and_their_daemon() {
    check(Make::Firn, Make::Reference);
}

#[test]
fn their_client_and_our_daemon() {
    check(Make::Reference, Make::Firn);
}

/// Closures through a real ssh server.
#[track_caller]
fn check_copies(client: Make, server: Make) {
    let there = World::new().conf("sandbox = false\nrequire-sigs = false");
    if !there.is_root() || !has_sshd() {
        return;
    }
    if (client == Make::Reference || server == Make::Reference) && !has_reference() {
        return;
    }
    // One logical store directory, two places.
    let store = there.path("store").display().to_string();
    let here = World::new();
    let own = here.path("own").display().to_string();
    let uri = format!("local?store={store}&real={own}/store&state={own}/state&log={own}/log");
    let here = here.env("NIX_STORE_DIR", &store).env("NIX_REMOTE", &uri).conf("require-sigs = false");
    let sshd = there.start_sshd(server, None);
    let options = World::ssh_options(&there, &sshd);
    let run = |program: &str, args: &[&str]| {
        let mut command = here.command_of(client, program);
        let output = command.args(args).env("NIX_SSHOPTS", &options).output().unwrap();
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    };
    let folder = here.path("work/folder");
    std::fs::create_dir_all(folder.join("sub")).unwrap();
    std::fs::write(folder.join("sub/large"), vec![b'x'; 3 << 20]).unwrap();
    let path = run("nix-store", &["--add", folder.to_str().unwrap()]);
    let name = path.rsplit('/').next().unwrap();
    run("nix-copy-closure", &["--to", "root@127.0.0.1", &path]);
    assert!(there.path("store").join(name).join("sub/large").exists());
    run("nix-store", &["--delete", &path]);
    run("nix-copy-closure", &["--from", "root@127.0.0.1", &path]);
    assert!(here.path("own/store").join(name).exists());
    run("nix-store", &["--delete", &path]);
    run("nix", &["copy", "--no-check-sigs", "--from", "ssh-ng://root@127.0.0.1", &path]);
    assert!(here.path("own/store").join(name).exists());
}

#[test]
fn copies_by_our_client() {
    check_copies(Make::Firn, Make::Firn);
    check_copies(Make::Firn, Make::Reference);
}

#[test]
fn copies_by_their_client() {
    check_copies(Make::Reference, Make::Firn);
}

/// A number, as the protocols write it.
/// A host is the one whose key was told, for all ways through ssh; and a store behind it whose files are here is used as one.
#[test]
fn keys_of_hosts_and_mounted_stores() {
    let world = World::new().conf("sandbox = false\nexperimental-features = nix-command mounted-ssh-store");
    if !world.is_root() || !has_sshd() {
        return;
    }
    let sshd = world.start_sshd(Make::Firn, None);
    let key = |name: &str| firn_core::base::base64_encode(&std::fs::read(world.path(name)).unwrap());
    let store = |scheme: &str, key: &str| {
        format!(
            "{scheme}://root@127.0.0.1:{}?ssh-key={}&base64-ssh-public-host-key={key}",
            sshd.port,
            world.path("ssh/client").display()
        )
    };
    let (right, wrong) = (key("ssh/host.pub"), key("ssh/client.pub"));
    for scheme in ["ssh", "ssh-ng", "mounted-ssh-ng"] {
        let info = |key: &str| world.run("nix", &["store", "info", "--store", &store(scheme, key)]);
        assert_eq!(info(&right).code(), Some(0), "{scheme}: {}", info(&right).stderr_text());
        let said = info(&wrong).fails(1).stderr_text();
        assert!(said.contains("Host key verification failed"), "{scheme}: {said}");
    }
    world.write("x.nix", EXPRESSION);
    world.write("file", "text");
    let mounted = store("mounted-ssh-ng", &right);
    world.run("nix", &["build", "--store", &mounted, "-f", "x.nix", "-o", "link"]).success();
    assert!(std::fs::read_to_string(world.path("work/link")).unwrap().starts_with("made\n"));
    let roots = world.run("nix-store", &["--gc", "--print-roots"]).success().stdout_text();
    assert!(roots.contains(&world.path("work/link").display().to_string()), "{roots}");
}

fn word(number: u64) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

/// A client that greets as it should, then says `bytes`, and reads until the daemon is done with it.
#[track_caller]
fn lie(world: &World, bytes: &[u8], expected: &str) {
    let mut stream = UnixStream::connect(world.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let greeting = [word(0x6e69_7863), word(0x122), word(0), word(0)].concat();
    stream.write_all(&greeting).unwrap();
    // Some lies end the connection before all of them is said.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains(expected), "{text}");
}

#[test]
fn clients_that_lie_get_an_error_and_cost_nothing() {
    let world = World::new();
    let daemon = world.start_daemon(Make::Firn, &[]);
    let text = |text: &str| {
        let mut bytes = word(text.len() as u64);
        bytes.extend(text.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    };
    let path = format!("{}/{}-x", world.path("store").display(), "a".repeat(32));
    // Operations that there are not.
    lie(&world, &word(4711), "invalid operation 4711");
    // Lengths and counts that no memory has.
    lie(&world, &[word(1), word(u64::MAX)].concat(), "string is too long");
    lie(&world, &[word(31), word(1 << 60)].concat(), "too large");
    lie(&world, &[word(31), word(1 << 21), word(0)].concat(), "not in the Nix store");
    // Text that is no path, padding that is not zero.
    lie(&world, &[word(1), text("/etc/passwd")].concat(), "is not in the Nix store");
    let mut padded = [word(1), text("/x")].concat();
    *padded.last_mut().unwrap() = 1;
    lie(&world, &padded, "non-zero padding");
    // An archive that is none, and one that never ends.
    let nar = |frames: &[u8]| {
        let hash = "0".repeat(64);
        [
            word(39),
            text(&path),
            text(""),
            text(&hash),
            word(0),
            word(0),
            word(100),
            word(0),
            word(0),
            text(""),
            word(0),
            word(1),
            frames.to_vec(),
        ]
        .concat()
    };
    lie(&world, &nar(&[word(8), word(0xffff_ffff), word(0)].concat()), "archive");
    lie(&world, &nar(&word(1 << 40)), "");
    // A request that ends in the middle is no reason to say anything.
    lie(&world, &word(1), "");
    // Somebody who speaks something else.
    let mut stream = UnixStream::connect(world.socket()).unwrap();
    let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
    let mut answer = Vec::new();
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let _ = stream.read_to_end(&mut answer);
    // All the while others are served, and nothing is left behind.
    world.client(Make::Firn, None, "nix", &["store", "info"]).success();
    assert!(!std::path::Path::new(&path).exists());
    assert!(!daemon.log_text().contains("panicked"), "{}", daemon.log_text());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "tests run programs")]
fn a_socket_that_systemd_made() {
    if !std::path::Path::new("/usr/bin/systemd-socket-activate").exists() {
        println!("SKIPPED: systemd-socket-activate is not installed");
        return;
    }
    let world = World::new();
    let socket = world.path("activated");
    let daemon = world.command("nix-daemon");
    let mut activate = std::process::Command::new("/usr/bin/systemd-socket-activate");
    activate.arg("-l").arg(&socket);
    for (name, value) in daemon.get_envs() {
        if let Some(value) = value {
            activate.arg("-E").arg(format!("{}={}", name.to_string_lossy(), value.to_string_lossy()));
        }
    }
    let mut server = activate.arg(daemon.get_program()).stderr(std::process::Stdio::null()).spawn().unwrap();
    for _ in 0..100 {
        if socket.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut client = world.client_command(Make::Firn, None, "nix");
    client.args(["store", "info", "--store", &format!("unix://{}", socket.display())]);
    let output = client.output().unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn two_hundred_clients_at_once() {
    let world = World::new();
    let _daemon = world.start_daemon(Make::Firn, &[]);
    let clients: Vec<_> = (0..200)
        .map(|_| {
            let mut command = world.client_command(Make::Firn, None, "nix");
            command.args(["store", "info"]).stdout(std::process::Stdio::null());
            command.spawn().unwrap()
        })
        .collect();
    for mut client in clients {
        assert!(client.wait().unwrap().success());
    }
}

/// A client has several connections to the daemon; what this says of settings is shown for one of them.
#[test]
fn ignored_settings_are_warned_of_once() {
    let world = World::new().conf("sandbox = false\nexperimental-features = daemon-trust-override");
    let _daemon = world.start_daemon(Make::Firn, &["--force-untrusted"]);
    world.write("file", "text");
    world.write("x.nix", EXPRESSION);
    let args = ["--no-out-link", "--option", "build-users-group", "nobody", "x.nix"];
    let said = world.client(Make::Firn, None, "nix-build", &args).success().stderr_text();
    assert_eq!(
        said.matches("ignoring the client-specified setting 'build-users-group'").count(),
        1,
        "{said}"
    );
}

/// What is evaluated there is built there, on the connections that evaluation made.
#[test]
fn evaluating_and_building_through_the_serve_protocol() {
    let world = World::new().conf("sandbox = false");
    world.write("file", "text");
    world.write("x.nix", EXPRESSION);
    for scheme in ["ssh", "ssh-ng"] {
        let uri = format!("{scheme}://localhost?remote-store=local");
        let built =
            world.run("nix-build", &["--no-out-link", "--store", &uri, "x.nix"]).success().stdout_text();
        assert!(std::path::Path::new(built.trim_end()).exists(), "{scheme}: {built}");
        world.run("nix-store", &["--delete", built.trim_end()]).success();
        let args = ["build", "--no-link", "--print-out-paths", "--store", &uri, "--file", "x.nix"];
        assert_eq!(world.run("nix", &args).success().stdout_text(), built);
        world.run("nix-store", &["--delete", built.trim_end()]).success();
        let said = world.run("nix", &["store", "info", "--store", &uri]).success().stderr_text();
        assert!(said.contains(&format!("Store URL: {uri}\n")), "{said}");
    }
    // What something else says there is told.
    let uri = "ssh://localhost?remote-program=/bin/echo";
    let said = world.run("nix", &["store", "info", "--store", uri]).fails(1).stderr_text();
    assert!(said.contains("protocol mismatch from 'localhost', got '--serve --write'"), "{said}");
}

/// On standard input and output the exit code says whether there was a client.
#[test]
fn end_of_input_before_and_after_the_greeting() {
    let world = World::new();
    let run = |bytes: &[u8]| {
        let mut command = world.command("nix-daemon");
        command.arg("--stdio").stdin(std::process::Stdio::piped());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), bytes).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let early = (Some(1), "error: unexpected end-of-file\n".to_owned());
    let greeting = [&b"cxin\0\0\0\0\x23\x01\0\0\0\0\0\0"[..], &[0; 16]].concat();
    assert_eq!(run(b""), early);
    assert_eq!(run(&greeting[..8]), early);
    assert_eq!(run(&greeting), (Some(0), String::new()));
    let (code, text) = run(b"no-client");
    assert!(code == Some(1) && text.contains("error: protocol mismatch"), "{text}");
}

/// A flat file is a file: what a symlink leads to is not what was named.
#[test]
fn symlinks_are_no_flat_files() {
    let world = World::new();
    world.write("file", "text");
    std::os::unix::fs::symlink("file", world.work_dir().join("link")).unwrap();
    let _daemon = world.start_daemon(Make::Firn, &[]);
    let add = |name: &str| world.client(Make::Firn, None, "nix-store", &["--add-fixed", "sha256", name]);
    add("file").success();
    for name in ["link", "."] {
        let said = add(name).fails(1).stderr_text();
        assert!(said.contains("is not a regular file"), "{said}");
    }
}
