//! The file that the shell reads at its start.

use super::quote;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What goes into the file.
pub struct Rc<'a> {
    /// The folder that goes when the shell ends.
    pub temporary: &'a Path,
    pub pure: bool,
    /// Declarations of structured attributes.
    pub attrs: &'a str,
    /// The shell's program.
    pub shell: &'a Path,
    pub time_zone: Option<&'a OsStr>,
    pub is_root: bool,
    /// What runs instead of a prompt, or before it.
    pub command: &'a [u8],
}

impl Rc<'_> {
    /// The text, in the order that users rely on: `~/.bashrc`, the derivation's `$stdenv/setup`, the path, the
    /// prompt, `shellHook`, the command.
    pub fn text(&self) -> Vec<u8> {
        let temporary = quote(self.temporary.as_os_str().as_bytes());
        let shell = quote(self.shell.as_os_str().as_bytes());
        let folder = quote(self.shell.parent().unwrap_or(Path::new("/")).as_os_str().as_bytes());
        let mut out = Vec::new();
        let mut line = |parts: &[&[u8]]| {
            parts.iter().for_each(|part| out.extend_from_slice(part));
            out.push(b'\n');
        };
        line(&[b"_nix_shell_remove_tmp() { command rm -rf ", &temporary, b"; }"]);
        line(&[b"trap _nix_shell_remove_tmp EXIT"]);
        line(&[b"exitHooks+=(_nix_shell_remove_tmp)"]);
        line(&[b"failureHooks+=(_nix_shell_remove_tmp)"]);
        if !self.pure {
            line(&[b"if [ -n \"$PS1\" ] && [ -e ~/.bashrc ]; then source ~/.bashrc; fi"]);
            line(&[b"p=$PATH"]);
        }
        // The set-up of the derivation starts from nothing, as in a build.
        line(&[b"unset PATH"]);
        line(&[b"dontAddDisableDepTrack=1"]);
        line(&[self.attrs.as_bytes()]);
        line(&[b"if [ -e $stdenv/setup ]; then source $stdenv/setup; fi"]);
        if !self.pure {
            line(&[b"PATH=$PATH:$p"]);
            line(&[b"unset p"]);
        }
        line(&[b"PATH=", &folder, b":\"$PATH\""]);
        line(&[b"SHELL=", &shell]);
        line(&[b"BASH=", &shell]);
        line(&[b"set +e"]);
        let colour: &[u8] = if self.is_root { b"31" } else { b"32" };
        line(&[
            b"if [ -n \"$PS1\" ] && [ -z \"$NIX_SHELL_PRESERVE_PROMPT\" ]; then PS1='\\n\\[\\033[1;",
            colour,
            b"m\\][nix-shell:\\w]\\$\\[\\033[0m\\] '; fi",
        ]);
        line(&[b"if [ \"$(type -t runHook)\" = function ]; then runHook shellHook; fi"]);
        line(&[b"unset NIX_ENFORCE_PURITY"]);
        line(&[b"shopt -u nullglob"]);
        line(&[b"unset TZ"]);
        if let Some(zone) = self.time_zone {
            line(&[b"export TZ=", &quote(zone.as_bytes())]);
        }
        line(&[b"shopt -s execfail"]);
        line(&[self.command]);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order() {
        let rc = |pure| {
            let rc = Rc {
                temporary: Path::new("/tmp/x y"),
                pure,
                attrs: "declare a='1'",
                shell: Path::new("/store/bash/bin/bash"),
                time_zone: Some(OsStr::new("Europe/Berlin")),
                is_root: false,
                command: b"true\nexit",
            };
            String::from_utf8(rc.text()).unwrap()
        };
        let impure = rc(false);
        let places: Vec<Option<usize>> = [
            "rm -rf '/tmp/x y'",
            ".bashrc",
            "unset PATH",
            "declare a='1'",
            "$stdenv/setup",
            "PATH=$PATH:$p",
            "PATH='/store/bash/bin':\"$PATH\"",
            "shellHook",
            "export TZ='Europe/Berlin'",
            "true\nexit",
        ]
        .iter()
        .map(|part| impure.find(part))
        .collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{impure}");
        let pure = rc(true);
        assert!(!pure.contains(".bashrc") && !pure.contains("$p\n"), "{pure}");
    }
}
