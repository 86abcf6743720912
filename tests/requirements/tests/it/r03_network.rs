//! R3: fixed-output derivations are sandboxed, and share the host's network; all others have a loopback device.

use firn_testkit::{World, can_sandbox};

#[test]
fn others_have_a_loopback_device_and_generated_files() {
    if !can_sandbox() {
        return;
    }
    let seen = World::new().sandboxed().build_text(
        r#"make "others" ''
          { tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '
            stat -c '%a %n' /etc/hosts /etc/passwd /etc/group
            cat /etc/hosts
            grep -c nixbld /etc/passwd
            grep -c nixbld /etc/group
            for file in resolv.conf services nsswitch.conf; do test ! -e /etc/$file || echo $file; done
          } > seen; mv seen $out
        ''"#,
    );
    assert_eq!(
        seen,
        "lo\n644 /etc/hosts\n644 /etc/passwd\n644 /etc/group\n127.0.0.1 localhost\n::1 localhost\n1\n1\n"
    );
}

#[test]
fn fixed_outputs_share_the_network() {
    if !can_sandbox() {
        return;
    }
    let world = World::new().sandboxed();
    world.write("wanted", "wanted");
    let hash = world.run("nix-hash", &["--type", "sha256", "--flat", "wanted"]).success().stdout_text();
    let built = world.try_build(
        &format!(
            r#"makeWith "fixed" {{ outputHash = "{}"; outputHashAlgo = "sha256"; }} ''
              readlink /proc/self/ns/net /proc/self/ns/pid
              for file in resolv.conf services hosts nsswitch.conf; do test ! -e /etc/$file || echo /etc/$file; done
              printf wanted > $out
            ''"#,
            hash.trim_end()
        ),
        &[],
    );
    let log = built.success().stderr_text();
    let own = |kind: &str| {
        let link = std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("our namespace");
        link.to_string_lossy().into_owned()
    };
    assert!(log.contains(&own("net")), "the network is another:\n{log}");
    assert!(!log.contains(&own("pid")), "not sandboxed:\n{log}");
    for file in ["/etc/resolv.conf", "/etc/services", "/etc/hosts", "/etc/nsswitch.conf"] {
        if file == "/etc/nsswitch.conf" || std::path::Path::new(file).exists() {
            assert!(log.lines().any(|line| line == file), "{file} is missing:\n{log}");
        }
    }
}
