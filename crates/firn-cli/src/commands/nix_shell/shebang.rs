//! Scripts that name nix-shell as their interpreter: options stand in `#! nix-shell …` lines after the first.

use crate::error::{CliError, CliResult};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A script that nix-shell was started for.
#[derive(Debug, PartialEq, Eq)]
pub struct Script {
    pub path: PathBuf,
    /// The script's own arguments.
    pub args: Vec<OsString>,
}

/// Whether the first argument is a script. If so, the script and the options that its lines give.
pub fn read(args: &[OsString]) -> CliResult<Option<(Script, Vec<OsString>)>> {
    let Some((path, rest)) = args.split_first() else { return Ok(None) };
    let Ok(text) = std::fs::read(path) else { return Ok(None) };
    let mut lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    if !lines.next().is_some_and(|line| line.starts_with(b"#!")) {
        return Ok(None);
    }
    let mut options = Vec::new();
    for line in lines {
        if let Some(words) = option_line(line) {
            options.extend(shell_words(words, path)?.into_iter().map(OsString::from_vec));
        }
    }
    Ok(Some((Script { path: path.into(), args: rest.to_vec() }, options)))
}

/// What stands behind `#! nix-shell `.
fn option_line(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(b"#!")?.trim_ascii_start().strip_prefix(b"nix-shell")?;
    rest.first().is_some_and(u8::is_ascii_whitespace).then(|| rest.trim_ascii())
}

/// Splits words as the shell would, without expanding anything.
fn shell_words(text: &[u8], path: impl AsRef<Path>) -> CliResult<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match (byte, quote) {
            (b'\'' | b'"', None) => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (_, Some(open)) if byte == open => quote = None,
            (b'\\', None | Some(b'"')) => word.get_or_insert_default().extend(bytes.next()),
            (_, None) if byte.is_ascii_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(byte),
        }
    }
    if quote.is_some() {
        let path = path.as_ref().display();
        return Err(CliError::failed(format!("unterminated quote in shebang line of '{path}'")));
    }
    words.extend(word);
    Ok(words)
}

/// The command that runs `script` with `interpreter`.
pub fn command(script: &Script, interpreter: &str) -> Vec<u8> {
    let mut command = b"exec ".to_vec();
    // Perl looks at the script's first line too, and starts what it names unless it runs under another name.
    if interpreter.contains("perl") {
        command.extend_from_slice(b"-a PERL ");
    }
    command.extend_from_slice(interpreter.as_bytes());
    // So does Ruby, but not in files that are loaded.
    if interpreter.contains("ruby") {
        command.extend_from_slice(b" -e 'load(ARGV.shift)' --");
    }
    for word in std::iter::once(script.path.clone().into_os_string()).chain(script.args.iter().cloned()) {
        command.push(b' ');
        command.extend(super::quote(&word.into_vec()));
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Option<&[&str]>) {
        let words = option_line(line.as_bytes()).map(|words| shell_words(words, "script").unwrap());
        let words = words
            .map(|words| words.into_iter().map(|word| String::from_utf8(word).unwrap()).collect::<Vec<_>>());
        assert_eq!(words, expected.map(|words| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()));
    }

    #[test]
    fn lines() {
        check("#! nix-shell -i bash -p foo", Some(&["-i", "bash", "-p", "foo"]));
        check("#!nix-shell  --arg x '{ a = \"b\"; }' ", Some(&["--arg", "x", "{ a = \"b\"; }"]));
        check(r#"#! nix-shell "a \" b" c\ d '\' """#, Some(&["a \" b", "c d", "\\", ""]));
        check("#! nix-shellfish", None);
        check("# nix-shell x", None);
        check("#! nix-shell", None);
        assert!(shell_words(b"'x", "script").unwrap_err().to_string().contains("unterminated quote"));
    }

    #[test]
    fn commands() {
        let script = Script { path: "/a b".into(), args: vec!["c'd".into()] };
        assert_eq!(command(&script, "bash"), b"exec bash '/a b' 'c'\\''d'");
        assert_eq!(command(&script, "perl -w"), b"exec -a PERL perl -w '/a b' 'c'\\''d'");
        assert_eq!(command(&script, "ruby"), b"exec ruby -e 'load(ARGV.shift)' -- '/a b' 'c'\\''d'");
    }
}
