//! `nix edit`: the expression of a package in the user's editor.

use super::NixCommand;
use crate::args::{FlagSink, Values};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::installables::InstallableArgs;
use firn_eval::{Attrs, Coerce, Pos};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The command as it was written.
#[derive(Default)]
pub struct Edit {
    what: InstallableArgs,
}

impl FlagSink for Edit {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        self.what.flag(flag, values)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.what.positional(arg);
        Ok(())
    }
}

impl NixCommand for Edit {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        let (mut evaluation, value) = self.what.value(context, true)?;
        let what = "while evaluating the 'meta.position' attribute of a derivation";
        let position = evaluation.vm.find_along_path("meta.position", Attrs::empty(), value);
        let Ok((position, _)) = position else {
            let shown = self.what.shown_first(context, ".")?;
            // The quote stays open in the reference's message.
            return Err(CliError::failed(format!("cannot find position information for '{shown}")));
        };
        let (text, _) = evaluation.run(|vm| vm.coerce(position, Coerce::PLAIN, Pos::NONE, what))?;
        let (file, line) = split_position(&text).ok_or_else(|| {
            let shown = String::from_utf8_lossy(&text);
            CliError::failed(format!("cannot parse 'meta.position' attribute '{shown}'"))
        })?;
        let command = editor_command(OsStr::from_bytes(file), line);
        drop(evaluation);
        let [program, args @ ..] = &command[..] else { return Ok(0) };
        let env = std::env::vars_os().collect();
        let error = crate::exec::exec(context, Path::new(program), program, args, &env);
        Err(CliError::io("running the editor", program)(error))
    }
}

/// `/file.nix:12` in its parts.
pub fn split_position(text: &[u8]) -> Option<(&[u8], u32)> {
    let colon = text.iter().rposition(|byte| *byte == b':')?;
    let line = std::str::from_utf8(&text[colon + 1..]).ok()?.parse().ok()?;
    Some((&text[..colon], line))
}

/// The words that open `file` at `line` in `EDITOR`, as far as it is known how to tell it the line.
pub fn editor_command(file: &OsStr, line: u32) -> Vec<OsString> {
    let editor = std::env::var_os("EDITOR").unwrap_or_else(|| "cat".into());
    let mut words: Vec<OsString> = editor
        .as_bytes()
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
        .map(|word| OsStr::from_bytes(word).to_owned())
        .collect();
    let name = editor.to_string_lossy();
    if line > 0 && ["emacs", "nano", "vim", "kak"].iter().any(|known| name.contains(known)) {
        words.push(format!("+{line}").into());
    }
    words.push(file.to_owned());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions() {
        assert_eq!(split_position(b"/a:b.nix:12"), Some((&b"/a:b.nix"[..], 12)));
        assert_eq!(split_position(b"/a.nix"), None);
        assert_eq!(split_position(b"/a.nix:x"), None);
    }
}
