//! The programs under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const NAMES: [&str; 14] = [
    "firn",
    "nix",
    "nix-build",
    "nix-channel",
    "nix-collect-garbage",
    "nix-copy-closure",
    "nix-daemon",
    "nix-env",
    "nix-hash",
    "nix-instantiate",
    "nix-nswrapper",
    "nix-prefetch-url",
    "nix-shell",
    "nix-store",
];

/// The `firn` program: what `FIRN_BIN` names, or one that is built now.
#[expect(clippy::disallowed_methods, reason = "tests run programs")]
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("FIRN_BIN") {
        return path.into();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--package", "firn-cli", "--bin", "firn"])
        .current_dir(root)
        .status()
        .expect("cargo runs");
    assert!(status.success(), "building firn failed");
    let test = std::env::current_exe().expect("this test's own path");
    let profile = test.ancestors().find(|dir| dir.join("deps").is_dir()).expect("the folder of the profile");
    profile.join("firn")
}

/// A folder with links of all names to the program under test.
pub fn program_dir() -> &'static Path {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let binary = binary();
        for name in NAMES {
            std::os::unix::fs::symlink(&binary, dir.path().join(name)).expect("a link");
        }
        dir
    })
    .path()
}
