//! The syntax of `nix.conf`: `name = words…`, `#` comments, `include FILE`, `!include FILE`.

use crate::error::SettingsError;
use crate::value::words;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How deep `include` may nest: far beyond any use, and it ends a file that includes itself.
const MAX_INCLUDE_DEPTH: usize = 32;

/// One setting that a file gives a value; the value's words are joined with single blanks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfLine {
    pub name: String,
    pub value: Vec<u8>,
}

/// Parses `text`, which comes from `file` (relative includes start in its folder), appending to `lines` what it
/// and the files it includes say. `read` answers `Ok(None)` for a file that does not exist; a file that exists
/// and cannot be read counts as empty, as in the reference.
pub fn parse_conf(
    text: &[u8],
    file: &Path,
    read: &dyn Fn(&Path) -> io::Result<Option<Vec<u8>>>,
    lines: &mut Vec<ConfLine>,
) -> Result<(), SettingsError> {
    parse_at(text, file, read, lines, 0)
}

fn parse_at(
    text: &[u8],
    file: &Path,
    read: &dyn Fn(&Path) -> io::Result<Option<Vec<u8>>>,
    lines: &mut Vec<ConfLine>,
    depth: usize,
) -> Result<(), SettingsError> {
    let from = || file.to_string_lossy().into_owned();
    for line in text.split(|&b| b == b'\n') {
        let line = line.split(|&b| b == b'#').next().unwrap_or_default();
        let mut rest = words(line);
        let Some(first) = rest.next() else { continue };
        let syntax =
            || SettingsError::Syntax { line: String::from_utf8_lossy(line).into_owned(), file: from() };
        let second = rest.next().ok_or_else(syntax)?;
        if first == b"include" || first == b"!include" {
            if rest.next().is_some() {
                return Err(syntax());
            }
            let target: PathBuf = file.parent().unwrap_or(Path::new("/")).join(OsStr::from_bytes(second));
            match read(&target) {
                Ok(Some(_)) if depth == MAX_INCLUDE_DEPTH => {
                    let limit = MAX_INCLUDE_DEPTH;
                    return Err(SettingsError::IncludeDepth { path: target, from: from(), limit });
                }
                Ok(Some(included)) => parse_at(&included, &target, read, lines, depth + 1)?,
                Ok(None) if first == b"include" => {
                    return Err(SettingsError::IncludeNotFound { path: target, from: from() });
                }
                Ok(None) | Err(_) => {}
            }
            continue;
        }
        if second != b"=" {
            return Err(syntax());
        }
        let name = std::str::from_utf8(first).map_err(|_| syntax())?.to_owned();
        lines.push(ConfLine { name, value: rest.collect::<Vec<_>>().join(&b' ') });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
        Ok(match path.to_str() {
            Some("/etc/nix/extra.conf") => Some(b"cores = 7\n".to_vec()),
            Some("/etc/nix/self.conf") => Some(b"include self.conf\n".to_vec()),
            _ => None,
        })
    }

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        let mut lines = Vec::new();
        parse_conf(text.as_bytes(), Path::new("/etc/nix/nix.conf"), &read, &mut lines).expect("parses");
        let found: Vec<_> = lines
            .iter()
            .map(|line| (line.name.as_str(), std::str::from_utf8(&line.value).unwrap_or("?")))
            .collect();
        assert_eq!(found, expected);
    }

    #[track_caller]
    fn check_error(text: &str, message: &str) {
        let error = parse_conf(text.as_bytes(), Path::new("/etc/nix/nix.conf"), &read, &mut Vec::new());
        assert_eq!(error.expect_err("an error").to_string(), message);
    }

    #[test]
    fn lines() {
        check("a = b  c\t d # e\n\n  # x\nf =\n", &[("a", "b c d"), ("f", "")]);
        check("a = 1\ninclude extra.conf\n!include nope\na = 2", &[("a", "1"), ("cores", "7"), ("a", "2")]);
    }

    #[test]
    fn errors() {
        check_error("sandbox xx", "syntax error in configuration line 'sandbox xx' in \"/etc/nix/nix.conf\"");
        check_error("x", "syntax error in configuration line 'x' in \"/etc/nix/nix.conf\"");
        check_error("include nope", "file \"/etc/nix/nope\" included from \"/etc/nix/nix.conf\" not found");
        check_error(
            "include self.conf",
            "file \"/etc/nix/self.conf\" included from \"/etc/nix/self.conf\": includes are nested more than 32 deep",
        );
    }
}
