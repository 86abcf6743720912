//! R7: builds start through a process of one thread, so that many of them from a daemon with busy threads never hang.

use firn_testkit::{Make, World};
use std::time::{Duration, Instant};

#[test]
fn hundreds_of_builds_at_once() {
    let world = World::new().conf("sandbox = false");
    let _daemon = world.start_daemon(Make::Firn, &[]);
    let expression = |name: &str| {
        format!(
            r#"builtins.genList (n: derivation {{ name = "{name}-${{toString n}}"; system = builtins.currentSystem;
            builder = "/bin/sh"; args = [ "-c" "echo ${{toString n}} > $out" ]; }}) 100"#
        )
    };
    let started = Instant::now();
    // Three connections, each with its own threads; each builds many at a time while another one writes files.
    let builds: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|name| {
            let mut command = world.client_command(Make::Firn, None, "nix-build");
            command.args(["--no-out-link", "-j", "16", "-E", &expression(name)]);
            // What it says tells why it failed, if it does.
            command.stdout(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut build in builds {
        loop {
            match build.try_wait().unwrap() {
                Some(status) => break assert!(status.success()),
                None if started.elapsed() > Duration::from_secs(240) => {
                    build.kill().unwrap();
                    panic!("the builds hang");
                }
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}
