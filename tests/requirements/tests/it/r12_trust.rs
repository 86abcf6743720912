//! R12: who may use the daemon, and what those may do that it does not trust. Real users, by the kernel's word.

use firn_testkit::{Make, World};

const ANNA: u32 = 54_501;
const BERT: u32 = 54_502;

/// A world with a daemon of root's; nothing if these tests cannot have one.
fn world(conf: &str) -> Option<World> {
    let world = World::new();
    if !world.is_root() {
        return None;
    }
    let world = world.multi_user().conf("sandbox = false").conf(conf);
    Some(world.with_group("firn-test-wheel", 54_500, &[("firn-anna", ANNA)]))
}

#[test]
fn everybody_may_build_and_only_some_are_trusted() {
    let Some(world) = world("trusted-users = root @firn-test-wheel") else { return };
    let _daemon = world.start_daemon(Make::Firn, &[]);
    let trusted =
        |uid| world.client(Make::Firn, uid, "nix", &["store", "info", "--json"]).success().stdout_text();
    assert!(trusted(None).contains("\"trusted\":true"));
    assert!(trusted(Some(ANNA)).contains("\"trusted\":true"));
    assert!(trusted(Some(BERT)).contains("\"trusted\":false"));

    let expression = r#"derivation { name = "x"; system = builtins.currentSystem; builder = "/bin/sh";
        args = [ "-c" "echo made > $out" ]; }"#;
    let built =
        world.client(Make::Firn, Some(BERT), "nix-build", &["--no-out-link", "-E", expression]).success();
    assert_eq!(std::fs::read_to_string(built.stdout_text().trim_end()).unwrap(), "made\n");
}

#[test]
fn untrusted_users_cannot_change_what_concerns_others() {
    let Some(world) = world("substituters = http://127.0.0.1:1\nfallback = true") else { return };
    let daemon = world.start_daemon(Make::Firn, &[]);
    let file = world.write("file", "text");
    let added = world.client(Make::Firn, None, "nix-store", &["--add", file.to_str().unwrap()]).success();
    let path = added.stdout_text().trim_end().to_owned();

    // A setting of the machine's owner.
    let mark = world.path("mark");
    let hook = format!("/bin/sh -c 'touch {}'", mark.display());
    let expression = r#"derivation { name = "y"; system = builtins.currentSystem; builder = "/bin/sh";
        args = [ "-c" "echo > $out" ]; }"#;
    let args = ["--no-out-link", "--option", "post-build-hook", &hook, "-E", expression];
    let said = world.client(Make::Firn, Some(BERT), "nix-build", &args).success().stderr_text();
    assert!(said.contains("ignoring the client-specified setting 'post-build-hook'"), "{said}");
    assert!(!mark.exists());

    // Somebody else's binary cache.
    let args = ["-q", "--references", &path, "--option", "substituters", "http://evil.example"];
    let said = world.client(Make::Firn, Some(BERT), "nix-store", &args).success().stderr_text();
    assert!(said.contains("ignoring untrusted substituter 'http://evil.example'"), "{said}");

    // Content that nobody vouches for: an output that was built somewhere.
    let expression = expression.replace("\"y\"", "\"z\"");
    let built = world.run("nix-build", &["--no-out-link", "-E", &expression]).success().stdout_text();
    let output = built.trim_end().to_owned();
    let archive = world.path("work/archive");
    let exported = world.run("nix-store", &["--export", &output]).success();
    std::fs::write(&archive, exported.stdout()).unwrap();
    // Two paths, so that they come in one request.
    let other =
        world.run("nix-build", &["--no-out-link", "-E", &expression.replace("\"z\"", "\"w\"")]).success();
    let other = other.stdout_text().trim_end().to_owned();
    let cache = format!("file://{}", world.path("cache").display());
    world.run("nix", &["copy", "--to", &cache, &output, &other]).success();
    let chroot = world.path("home/chroot").display().to_string();
    world
        .run("nix", &["copy", "--no-check-sigs", "--from", &cache, "--to", &chroot, &output, &other])
        .success();
    world.run("nix-store", &["--delete", &output, &other]).success();
    for from in [&cache, &chroot] {
        let copy = |uid| {
            let args = ["copy", "--no-check-sigs", "--from", from, "--to", "daemon", &output, &other];
            let run = world.client(Make::Firn, uid, "nix", &args);
            (run.code() == Some(0), run.stderr_text())
        };
        if from != &chroot {
            let (good, said) = copy(Some(BERT));
            assert!(!good && said.contains("lacks a signature by a trusted key"), "{said}");
        }
        assert!(copy(None).0);
        world.run("nix-store", &["--delete", &output, &other]).success();
    }
    let import = |uid| {
        let mut command = world.client_command(Make::Firn, uid, "nix-store");
        let output = command.arg("--import").stdin(std::fs::File::open(&archive).unwrap()).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (good, said) = import(Some(BERT));
    assert!(!good && said.contains("lacks a signature by a trusted key"), "{said}");
    assert!(import(None).0);

    // Repairing, logs, liveness.
    let args = ["--repair-path", &path];
    let said = world.client(Make::Firn, Some(BERT), "nix-store", &args).fails(1).stderr_text();
    assert!(said.contains("repair"), "{said}");
    let args = ["--verify", "--repair"];
    let said = world.client(Make::Firn, Some(BERT), "nix-store", &args).fails(1).stderr_text();
    assert!(said.contains("you are not privileged to repair paths"), "{said}");
    let args = ["--delete", "--ignore-liveness", &path];
    let said = world.client(Make::Firn, Some(BERT), "nix-store", &args).fails(1).stderr_text();
    assert!(said.contains("you are not allowed to ignore liveness"), "{said}");
    assert!(daemon.log_text().contains("accepted connection"));
}

#[test]
fn who_may_not_connect_is_told_so() {
    let Some(world) = world("allowed-users = @firn-test-wheel") else { return };
    let _daemon = world.start_daemon(Make::Firn, &[]);
    world.client(Make::Firn, Some(ANNA), "nix", &["store", "info"]).success();
    let said = world.client(Make::Firn, Some(BERT), "nix", &["store", "info"]).fails(1).stderr_text();
    assert!(said.contains(&format!("user '{BERT}' is not allowed to connect to the Nix daemon")), "{said}");
}
