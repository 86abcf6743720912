//! The search path of `<name>` expressions: `NIX_PATH` and the default.

use crate::dirs::Dirs;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

const URL_SCHEMES: [&[u8]; 7] = [b"http", b"https", b"file", b"channel", b"git", b"s3", b"ssh"];

fn is_url_like(text: &[u8]) -> bool {
    if text.starts_with(b"channel:") || text.starts_with(b"flake:") {
        return true;
    }
    let scheme = text.windows(3).position(|window| window == b"://").map(|at| &text[..at]);
    scheme.is_some_and(|scheme| URL_SCHEMES.contains(&scheme))
}

/// Splits `NIX_PATH` at colons, but not at the one that belongs to a URL (`nixpkgs=https://…:other=/path`).
pub fn parse_nix_path(text: &[u8]) -> Vec<PathBuf> {
    let mut entries = Vec::new();
    let mut start = 0;
    // Where the value after the last `=` of this entry starts.
    let mut value = 0;
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'=' => value = at + 1,
            b':' => {
                if is_url_like(&text[value..]) {
                    at += 1;
                    while at < text.len() && text[at] != b':' {
                        at += 1;
                    }
                }
                entries.push(PathBuf::from(OsStr::from_bytes(&text[start..at])));
                start = at + 1;
                value = start;
            }
            _ => {}
        }
        at += 1;
    }
    if start < text.len() {
        entries.push(PathBuf::from(OsStr::from_bytes(&text[start..])));
    }
    entries
}

/// What is searched after everything that is set: the user's and root's channels, so far as they exist.
pub fn default_nix_path(dirs: &Dirs) -> Vec<PathBuf> {
    let root_channels = dirs.state.join("profiles/per-user/root/channels");
    let mut entries = Vec::new();
    let user_channels = dirs.home.as_ref().map(|home| home.join(".nix-defexpr/channels"));
    if let Some(channels) = user_channels.filter(|channels| channels.exists()) {
        entries.push(channels);
    }
    let nixpkgs = root_channels.join("nixpkgs");
    if nixpkgs.exists() {
        let mut entry = std::ffi::OsString::from("nixpkgs=");
        entry.push(nixpkgs);
        entries.push(entry.into());
    }
    if root_channels.exists() {
        entries.push(root_channels);
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(parse_nix_path(text.as_bytes()), expected.iter().map(PathBuf::from).collect::<Vec<_>>());
    }

    #[test]
    fn splits() {
        check("", &[]);
        check("a:b=/c", &["a", "b=/c"]);
        check("nixpkgs=https://e.org/x.tar.gz:other=/p", &["nixpkgs=https://e.org/x.tar.gz", "other=/p"]);
        check("n=flake:nixpkgs:b", &["n=flake:nixpkgs", "b"]);
        check("channel:nixos:b", &["channel:nixos", "b"]);
    }
}
