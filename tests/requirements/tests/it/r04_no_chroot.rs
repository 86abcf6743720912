//! R4: `__noChroot` is an error with `sandbox = true`, and does what it says with `relaxed`.

use firn_testkit::{World, can_sandbox};

const NO_CHROOT: &str = r#"makeWith "loose" { __noChroot = true; } "readlink /proc/self/ns/mnt > $out""#;

#[test]
fn refused() {
    if !can_sandbox() {
        return;
    }
    let failed = World::new().sandboxed().try_build(NO_CHROOT, &[]).fails(1).stderr_text();
    let wanted = "-loose.drv' has '__noChroot' set, but that's not allowed when 'sandbox' is 'true'";
    assert!(failed.contains(wanted), "{failed}");
}

#[test]
fn relaxed() {
    if !can_sandbox() {
        return;
    }
    let world = World::new().sandboxed().conf("sandbox = relaxed");
    let own = std::fs::read_link("/proc/self/ns/mnt").expect("our namespace");
    assert_eq!(world.build_text(NO_CHROOT).trim_end(), own.to_string_lossy());
    let others = world.build_text(r#"make "others" "readlink /proc/self/ns/mnt > $out""#);
    assert_ne!(others.trim_end(), own.to_string_lossy());
    world.write("wanted", &format!("{}\n", own.display()));
    let hash = world.run("nix-hash", &["--type", "sha256", "--flat", "wanted"]).success().stdout_text();
    // The hash is right only if the builder sees our mounts.
    world.build(&format!(
        r#"makeWith "fixed" {{ outputHash = "{}"; outputHashAlgo = "sha256"; }} "readlink /proc/self/ns/mnt > $out""#,
        hash.trim_end()
    ));
}
