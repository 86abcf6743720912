//! Where the project's files are.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

pub type Result<T> = std::result::Result<T, String>;

/// The folder of the workspace.
pub fn root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).map(Path::to_path_buf).ok_or_else(|| "the workspace is nowhere".to_owned())
}

#[expect(clippy::disallowed_methods, reason = "a development tool that asks git and cargo")]
fn output(program: &str, args: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new(program)
        .args(args)
        .current_dir(root()?)
        .output()
        .map_err(|error| format!("running {program}: {error}"))?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// What `cargo metadata` says of the workspace's own crates.
pub fn metadata() -> Result<Value> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let json = output(&cargo, &["metadata", "--no-deps", "--format-version", "1"])?;
    serde_json::from_slice(&json).map_err(|error| format!("cargo metadata: {error}"))
}

/// All files that are in version control or could be added, relative to the root.
pub fn files() -> Result<Vec<PathBuf>> {
    let list = output("git", &["ls-files", "--cached", "--others", "--exclude-standard", "-z"])?;
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut files: Vec<PathBuf> =
        names.map(|name| PathBuf::from(String::from_utf8_lossy(name).into_owned())).collect();
    files.sort();
    files.dedup();
    files.retain(|file| root().is_ok_and(|root| root.join(file).is_file()));
    Ok(files)
}
