//! Users and groups: reading the machine's tables, and the programs that change them.

use crate::{Error, Result, below};
use std::path::Path;
use std::process::Stdio;

/// One line of `/etc/passwd` or `/etc/group`: the name, the number and the last field.
pub struct Entry {
    pub name: String,
    pub id: u32,
    pub last: String,
}

/// The entries of `/etc/passwd` or `/etc/group`; none where there is no such file.
pub fn table(root: &Path, file: &str) -> Vec<Entry> {
    let text = std::fs::read(below(root, Path::new(file))).unwrap_or_default();
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        Some(Entry {
            name: (*fields.first()?).to_owned(),
            id: fields.get(2)?.parse().ok()?,
            last: (*fields.last()?).to_owned(),
        })
    };
    String::from_utf8_lossy(&text).lines().filter_map(parse).collect()
}

/// The number of a group, or of a user with `/etc/passwd`.
pub fn id_of(root: &Path, file: &str, name: &str) -> Option<u32> {
    table(root, file).into_iter().find(|entry| entry.name == name).map(|entry| entry.id)
}

pub const USERS: &str = "/etc/passwd";
pub const GROUPS: &str = "/etc/group";

/// A first number from which `count + 1` numbers are neither users nor groups, at or after `from`.
pub fn free_range(root: &Path, from: u32, count: u32) -> u32 {
    let taken: Vec<u32> = [USERS, GROUPS].iter().flat_map(|file| table(root, file)).map(|e| e.id).collect();
    let mut start = from;
    while taken.iter().any(|id| (start..=start + count).contains(id)) {
        start += 1000;
    }
    start
}

/// Runs one of the programs that change accounts or services.
pub fn run(program: &str, args: &[String]) -> Result<()> {
    let command = || format!("{program} {}", args.join(" "));
    #[expect(clippy::disallowed_methods, reason = "the machine's own tools know how its accounts are kept")]
    let output = std::process::Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Error::Command { command: command(), reason: error.to_string() })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let reason = if said.is_empty() { output.status.to_string() } else { said };
    Err(Error::Command { command: command(), reason })
}

/// Arguments that make such a program work below another root.
pub fn under(root: &Path) -> Vec<String> {
    match root == Path::new("/") {
        true => Vec::new(),
        false => vec!["--prefix".to_owned(), root.to_string_lossy().into_owned()],
    }
}
