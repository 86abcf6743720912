//! A machine with Nix is taken over and given back: all of it for real, on a copy of this machine that is thrown away.

use firn_testkit::{has_reference, program_dir};
use std::process::{Command, Stdio};

/// Makes the copy below the folder `$1`, and runs `$3` there with firn from `$2`.
const COPY: &str = r#"
set -e
mount -t tmpfs none "$1"
mkdir "$1/up" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/up,workdir=$1/work" "$1/root"
for folder in proc dev sys; do mount --rbind "/$folder" "$1/root/$folder"; done
mount -t tmpfs none "$1/root/tmp"
cp "$2" "$1/root/tmp/firn"
echo "copied"
exec chroot "$1/root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root sh -c "$3" sh /tmp/firn
"#;

#[test]
fn a_machine_with_nix_is_taken_over_and_given_back() {
    if !has_reference() || !rustix::process::geteuid().is_root() {
        println!("SKIPPED: taking over a machine needs root and nix-bin");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    #[expect(clippy::disallowed_methods, reason = "tests run programs")]
    let output = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", COPY, "sh"])
        .arg(scratch.path())
        .arg(program_dir().join("nix").canonicalize().unwrap())
        .arg(include_str!("takeover.sh"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !out.starts_with("copied") {
        println!("SKIPPED: no copy of this machine can be made: {err}");
        return;
    }
    assert!(out.trim_end().ends_with("all is well"), "{out}\n{err}");
}
