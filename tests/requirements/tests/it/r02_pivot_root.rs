//! R2: pivot_root. The old root is gone, so chroot(2) leads nowhere, also with all capabilities.

use firn_testkit::{World, can_sandbox};

#[test]
fn chroot_with_all_capabilities_does_not_lead_out() {
    if !can_sandbox() {
        return;
    }
    let world = World::new().sandboxed();
    let secret = world.write("secret", "secret");
    let script = format!(
        r#"make "escape" ''
          mkdir jail
          unshare --map-root-user perl -e '
            chroot("jail") or die "no chroot: $!";
            chdir("..") for 1..50;
            chroot(".") or die "no second chroot: $!";
            print -e "{}" ? "outside" : -e "/build/jail" ? "inside" : "nowhere"' > found 2> why || cat why >> found
          mv found $out
        ''"#,
        secret.display()
    );
    let found = world.build_text(&script);
    if found.contains("unshare failed") {
        return println!("SKIPPED: no nested user namespaces: {found}");
    }
    assert_eq!(found, "inside");
}

#[test]
fn the_old_root_is_unmounted() {
    if !can_sandbox() {
        return;
    }
    let world = World::new().sandboxed();
    let mounts = world.build_text(r#"make "mounts" "cut -d' ' -f5 /proc/self/mountinfo > $out""#);
    let allowed = ["/", "/build", "/proc", "/bin", "/lib", "/lib64", "/usr", "/etc/alternatives"];
    for mount in mounts.lines() {
        let known = allowed.contains(&mount)
            || mount.starts_with("/dev/")
            || mount == "/dev"
            || mount.starts_with(&*world.path("store").to_string_lossy());
        assert!(known, "{mount} is mounted:\n{mounts}");
    }
}

#[test]
fn nested_namespaces_work() {
    if !can_sandbox() {
        return;
    }
    let world = World::new().sandboxed();
    let found = world.build_text(
        r#"make "nested" ''
          unshare --map-root-user --mount --uts sh -c 'hostname nested && hostname' > found 2>&1 || true
          mv found $out
        ''"#,
    );
    if found.contains("unshare failed") {
        return println!("SKIPPED: no nested user namespaces: {found}");
    }
    assert_eq!(found, "nested\n");
}
