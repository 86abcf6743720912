//! R14: builds on other machines, through a real ssh server, with either make's programs at either end.

use firn_testkit::servers::{Served, has_program};
use firn_testkit::{Make, World, has_reference, has_sshd};

/// Two worlds with the same store directory: here, and a machine that builds.
struct Farm {
    here: World,
    there: World,
}

impl Farm {
    /// Nothing if these tests cannot have one.
    fn new() -> Option<Farm> {
        let there = World::new().conf("sandbox = false\nsystem-features = far");
        if !there.is_root() || !has_sshd() {
            return None;
        }
        let store = there.path("store").display().to_string();
        // The same logical store directory, other files.
        let here = World::new().conf("sandbox = false\nmax-jobs = 0");
        let own = here.path("own").display().to_string();
        let uri = format!("local?store={store}&real={own}/store&state={own}/state&log={own}/log");
        let here = here.env("NIX_STORE_DIR", &store).conf(&format!("store = {uri}"));
        Some(Farm { here, there })
    }

    fn build(&self, make: Make, uri: &str, options: &str, name: &str) -> (bool, String, String) {
        self.build_with(make, uri, options, name, &[])
    }

    fn build_with(
        &self,
        make: Make,
        uri: &str,
        options: &str,
        name: &str,
        more: &[&str],
    ) -> (bool, String, String) {
        let expression = format!(
            r#"let d = n: deps: derivation {{ name = n; system = builtins.currentSystem; builder = "/bin/sh";
                inherit deps; requiredSystemFeatures = [ "far" ];
                args = [ "-c" "echo hi-${{n}}; echo $deps > $out" ]; }};
            in d "{name}-top" [ (d "{name}-a" [ ./file ]) (d "{name}-b" [ ]) ]"#
        );
        self.here.write("file", name);
        self.here.write("x.nix", &expression);
        let mut command = self.here.command_of(make, "nix-build");
        let output = command
            .args(["--no-out-link", "--builders", &format!("{uri} - - 4 1 far"), "x.nix"])
            .args(more)
            .env("NIX_SSHOPTS", options)
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).trim_end().to_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    #[track_caller]
    fn check(&self, here: Make, there: Make, scheme: &str, forced: Option<&str>, name: &str) {
        if there == Make::Reference {
            // Two of its programs that make the same store at the same time get in each other's way.
            self.there.command_of(there, "nix-store").arg("--init").output().expect("it runs");
        }
        let sshd = self.there.start_sshd(there, forced);
        let options = World::ssh_options(&self.there, &sshd);
        let (good, path, said) = self.build(here, &format!("{scheme}://root@127.0.0.1"), &options, name);
        assert!(good, "{said}\n{}", sshd.log_text());
        assert!(path.ends_with(&format!("{name}-top")), "{path}");
        // The output is here, and was made there.
        assert!(said.contains(&format!("hi-{name}-top")), "{said}");
        let real = self.here.path("own/store").join(path.rsplit('/').next().unwrap());
        assert!(real.exists(), "{}", real.display());
        assert!(std::path::Path::new(&path).exists(), "{path}");
        // Its log is here too.
        let log = self.here.run("nix-store", &["--read-log", &path]).success().stdout_text();
        assert!(log.contains(&format!("hi-{name}-top")), "{log}");
    }
}

const SERVE: &str = "nix-store --serve --write";

#[test]
fn by_ssh() {
    let Some(farm) = Farm::new() else { return };
    farm.check(Make::Firn, Make::Firn, "ssh", None, "plain");
    farm.check(Make::Firn, Make::Firn, "ssh", Some(SERVE), "forced");
    farm.check(Make::Firn, Make::Firn, "ssh-ng", None, "worker");
}

#[test]
fn with_the_reference_at_one_end() {
    let Some(farm) = Farm::new() else { return };
    if !has_reference() {
        return;
    }
    farm.check(Make::Firn, Make::Reference, "ssh", Some(SERVE), "ours-theirs");
    farm.check(Make::Firn, Make::Reference, "ssh-ng", None, "ours-theirs-ng");
}

#[test]
fn what_a_machine_says_that_does_not_serve_is_told() {
    let Some(farm) = Farm::new() else { return };
    let sshd = farm.there.start_sshd(Make::Firn, Some("echo no room on this machine >&2; exit 1"));
    let options = World::ssh_options(&farm.there, &sshd);
    for scheme in ["ssh", "ssh-ng"] {
        let (good, _, said) = farm.build(Make::Firn, &format!("{scheme}://root@127.0.0.1"), &options, scheme);
        assert!(!good, "{said}");
        let told = said.lines().find(|line| line.starts_with("error: cannot build on")).unwrap_or_default();
        assert!(told.ends_with(": no room on this machine"), "{said}");
    }
}

#[test]
fn machines_fetch_inputs_themselves() {
    let Some(mut farm) = Farm::new() else { return };
    if !has_program("nginx") {
        return;
    }
    let cache = farm.here.path("cache");
    let server = Served::nginx(&farm.here.path("tmp"), &cache, "");
    let log = farm.here.path("tmp/nginx/access");
    farm.there = farm.there.conf(&format!("substituters = {}\nrequire-sigs = false", server.url()));
    let sshd = farm.there.start_sshd(Make::Firn, None);
    let options = World::ssh_options(&farm.there, &sshd);
    for (scheme, setting) in [("ssh", "true"), ("ssh-ng", "true"), ("ssh", "false"), ("ssh-ng", "false")] {
        let name = format!("{scheme}-{setting}");
        // What the build needs is in the cache, by the name that the build gives it.
        let input = farm.here.write("file", &name);
        let added = farm.here.run("nix-store", &["--add", &input.display().to_string()]);
        let added = added.success().stdout_text().trim_end().to_owned();
        let to = format!("file://{}", cache.display());
        farm.here.run("nix", &["copy", "--no-check-sigs", "--to", &to, &added]).success();
        std::fs::write(&log, "").expect("the log is emptied");
        let more = ["--option", "builders-use-substitutes", setting];
        let (good, _, said) =
            farm.build_with(Make::Firn, &format!("{scheme}://root@127.0.0.1"), &options, &name, &more);
        assert!(good, "{name}: {said}");
        let asked = std::fs::read_to_string(&log).expect("the server's log");
        assert_eq!(asked.contains("GET /nar/"), setting == "true", "{name}: {asked}\n{said}");
    }
}

#[test]
fn a_machine_that_cannot_be_reached_is_left_aside() {
    let Some(farm) = Farm::new() else { return };
    let sshd = farm.there.start_sshd(Make::Firn, None);
    let options = World::ssh_options(&farm.there, &sshd);
    // The first one has more speed, and nobody listens there.
    let uri = "ssh://root@127.0.0.2 - - 4 10 far; ssh-ng://root@127.0.0.1";
    let (good, _, said) = farm.build(Make::Firn, uri, &options, "aside");
    assert!(good, "{said}");
    assert!(said.contains("cannot build on 'ssh://root@127.0.0.2'"), "{said}");
    // Once, not for each build.
    assert_eq!(said.matches("cannot build on").count(), 1, "{said}");
}

#[test]
fn a_machine_that_refuses_is_asked_once() {
    let Some(mut farm) = Farm::new() else { return };
    // The daemon there does not trust who serves us.
    farm.there = farm.there.conf("experimental-features = daemon-trust-override");
    let _daemon = farm.there.start_daemon(Make::Firn, &["--force-untrusted"]);
    let sshd = farm.there.start_sshd(Make::Firn, Some("NIX_REMOTE=daemon nix-store --serve --write"));
    let options = World::ssh_options(&farm.there, &sshd);
    let (good, _, said) =
        farm.build_with(Make::Firn, "ssh://root@127.0.0.1", &options, "untrusted", &["--keep-going"]);
    assert!(!good);
    for name in ["a", "b"] {
        let text = format!(
            "-untrusted-{name}.drv' on 'ssh://root@127.0.0.1' failed: you are not privileged to build input-addressed"
        );
        assert_eq!(said.matches(&text).count(), 1, "{said}");
    }
    // It does not let us in.
    std::fs::write(farm.there.path("ssh/authorized_keys"), "").unwrap();
    let started = std::time::Instant::now();
    let (good, _, said) = farm.build(Make::Firn, "ssh-ng://root@127.0.0.1", &options, "shut");
    assert!(!good);
    assert!(said.contains("Permission denied"), "{said}");
    assert!(said.contains("local builds are disabled (max-jobs = 0)"), "{said}");
    assert!(started.elapsed().as_secs() < 5, "it was waited for");
}

/// A build hook is a program that the one that builds asks for machines: theirs under us, and ours under them.
#[test]
fn hooks_of_either_make_under_the_other() {
    let Some(farm) = Farm::new() else { return };
    if !has_reference() {
        return;
    }
    let sshd = farm.there.start_sshd(Make::Firn, None);
    let options = World::ssh_options(&farm.there, &sshd);
    let theirs = farm.here.path("tmp/build-remote");
    std::os::unix::fs::symlink("/usr/bin/nix", &theirs).unwrap();
    let ours = farm.here.path("tmp/our-hook");
    let script =
        format!("#!/bin/sh\nexec {}/nix __build-remote \"$@\"\n", firn_testkit::program_dir().display());
    std::fs::write(&ours, script).unwrap();
    std::fs::set_permissions(&ours, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for (make, hook, name) in [(Make::Firn, theirs, "their-hook"), (Make::Reference, ours, "our-hook")] {
        for scheme in ["ssh", "ssh-ng"] {
            let (uri, name) = (format!("{scheme}://root@127.0.0.1"), format!("{name}-{scheme}"));
            let more = ["--option", "build-hook", hook.to_str().unwrap()];
            let (good, path, said) = farm.build_with(make, &uri, &options, &name, &more);
            assert!(good, "{said}\n{}", sshd.log_text());
            assert!(said.contains(&format!("hi-{name}-top")), "{said}");
            let real = farm.here.path("own/store").join(path.rsplit('/').next().unwrap());
            assert!(real.exists() && std::path::Path::new(&path).exists(), "{path}");
        }
    }
}
