//! What a hostile builder tries.

use crate::world::{World, check};
use firn_sandbox::ExitStatus;
use std::path::Path;

/// Whether a program that a test scripts with is installed.
fn has(program: &str) -> bool {
    let found = Path::new(program).exists();
    if !found {
        println!("SKIPPED: no {program}");
    }
    found
}

#[test]
fn no_setuid_files() {
    check(
        "echo > f; chmod u+s f 2>/dev/null || echo refused; chmod g+s f 2>/dev/null || echo refused; chmod 1755 f && echo ok",
        "refused\nrefused\nok\n",
    );
}

#[test]
fn no_setuid_files_by_open_and_mknod() {
    if !has("/usr/bin/perl") {
        return;
    }
    check(
        "perl -e 'use Fcntl; sysopen(F, \"f\", O_CREAT|O_WRONLY, 06755) or print \"open refused\\n\"; \
         my $g = \"g\"; syscall(133, $g, 0106755, 0) == 0 or print \"mknod refused\\n\"'",
        "open refused\nmknod refused\n",
    );
}

#[test]
fn no_extended_attributes() {
    if !has("/usr/bin/python3") {
        return;
    }
    check(
        "python3 -c 'import os
open(\"f\", \"w\")
try: os.setxattr(\"f\", \"user.a\", b\"x\"); print(\"set\")
except OSError as e: print(os.strerror(e.errno))'",
        "Operation not supported\n",
    );
}

#[test]
fn chroot_out_of_a_nested_namespace_finds_the_sandbox() {
    if !has("/usr/bin/unshare") || !has("/usr/bin/perl") {
        return;
    }
    let secret = tempfile::tempdir().unwrap();
    std::fs::write(secret.path().join("secret"), "s").unwrap();
    // With all capabilities in a nested user namespace: chroot away, then climb.
    let script = format!(
        "mkdir jail; unshare -r perl -e 'chroot(\"jail\"); chdir(\"..\") for 1..50; chroot(\".\"); \
         print -e \"{}/secret\" ? \"out\\n\" : \"in\\n\"; print -e \"/build/jail\" ? \"sandbox\\n\" : \"elsewhere\\n\"'",
        secret.path().display()
    );
    let Some(outcome) = World::sandboxed(&script).run() else { return };
    if outcome.log.contains("unshare failed") {
        return println!("SKIPPED: no nested user namespaces: {}", outcome.log);
    }
    assert_eq!((outcome.log.as_str(), outcome.status), ("in\nsandbox\n", ExitStatus::Code(0)));
}

#[test]
fn the_old_root_is_not_mounted() {
    // Every mount lies where it was asked for.
    check(
        "cut -d' ' -f5 /proc/self/mountinfo | grep -v -x -E '/|/(bin|build|lib|lib64|usr|proc)|/dev/.*' || echo none",
        "none\n",
    );
}

#[test]
fn only_loopback() {
    check("ls /sys 2>/dev/null; tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '", "lo\n");
}

#[test]
fn processes_of_the_host_are_not_seen() {
    check("set -- /proc/[0-9]*; echo $#", "1\n");
}

#[test]
fn ptrace_and_signals_do_not_reach_out() {
    check("kill -9 2 2>/dev/null; kill -9 -1 2>/dev/null; echo still here", "still here\n");
}

#[test]
fn devices_cannot_be_made() {
    check("mknod /build/disk b 8 0 2>/dev/null || echo refused", "refused\n");
}

#[test]
fn no_privileges_to_gain() {
    check(
        "grep -E '^(NoNewPrivs|Seccomp|CapEff):' /proc/self/status | tr -d '\\t'",
        "CapEff:0000000000000000\nNoNewPrivs:1\nSeccomp:2\n",
    );
}
