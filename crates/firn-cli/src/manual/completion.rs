//! Completion of the command line of `nix`, as shells ask for it: the variable `NIX_GET_COMPLETIONS` has the index of
//! the word to complete, and the answer is lines: what kind of words they are (`normal`, `filenames` or `attrs`), then
//! a word, a tab and its description each.

use super::flags::{COMMON, Flag};
use super::{Kind, complete_flakes, groups_of, positional_of};
use crate::args::{EvalArgs, LogFormat, LowArgs};
use crate::context::{Context, Start};
use crate::evaluation::Evaluation;
use crate::flakes::Defaults;
use firn_eval::Value;
use firn_store::activity::Verbosity;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Words that may stand in the place of the one that is completed.
pub struct Answer {
    kind: &'static str,
    words: Vec<(String, String)>,
}

impl Answer {
    pub fn new(kind: &'static str, words: impl IntoIterator<Item = String>) -> Self {
        Self { kind, words: words.into_iter().map(|word| (word, String::new())).collect() }
    }

    fn render(mut self) -> String {
        self.words.sort();
        self.words.dedup();
        let mut out = format!("{}\n", self.kind);
        for (word, text) in self.words {
            let _ = writeln!(out, "{word}\t{text}");
        }
        out
    }
}

/// What is known of the line before the word.
#[derive(Default)]
struct Before {
    words: Vec<&'static str>,
    file: Option<OsString>,
    expr: Option<OsString>,
    /// Flakes that the line works on, also behind the word.
    flakes: Vec<OsString>,
}

/// The answer for the word at `index` of `args` (which begin behind the program's name, whose index is 0). `commands`
/// are the words of all commands.
pub fn complete(start: Start, index: usize, commands: &[&'static [&'static str]]) -> String {
    let args = start.args.clone();
    let Some(before) = index.checked_sub(1) else { return "normal\n".to_owned() };
    let word = args.get(before).cloned().unwrap_or_default();
    let mut line = Before { flakes: flakes_of(&args, before, commands), ..Before::default() };
    let mut rest = args.iter().take(before);
    while let Some(arg) = rest.next() {
        let text = arg.to_string_lossy();
        if !text.starts_with('-') {
            if let Some(next) = next_word(commands, &line.words, &text) {
                line.words.push(next);
            }
            continue;
        }
        let Some(flag) = find_flag(&line.words, &text) else { continue };
        let mut values = Vec::new();
        for expected in flag.args {
            match rest.next() {
                Some(value) => values.push(value.clone()),
                None => return argument(Kind::of(expected), &word, start, &line).render(),
            }
        }
        match (flag.names.last().copied(), values.pop()) {
            (Some("--file"), value) => line.file = value,
            (Some("--expr"), value) => line.expr = value,
            _ => {}
        }
    }
    let text = word.to_string_lossy().into_owned();
    if text.starts_with('-') {
        return flags(&line.words, &text).render();
    }
    let is_whole = commands.contains(&&line.words[..]);
    if !is_whole {
        let depth = line.words.len();
        let names = commands
            .iter()
            .filter(|path| path.len() > depth && path[..depth] == line.words[..])
            .map(|path| path[depth])
            .filter(|name| name.starts_with(&text));
        return Answer::new("normal", names.map(str::to_owned)).render();
    }
    argument(positional_of(&line.words), &word, start, &line).render()
}

/// The flakes among the arguments of a whole line: what is no flag, no argument of one, and not the word itself.
fn flakes_of(args: &[OsString], word: usize, commands: &[&'static [&'static str]]) -> Vec<OsString> {
    let (mut words, mut found) = (Vec::new(), Vec::new());
    let mut rest = args.iter().enumerate();
    while let Some((index, arg)) = rest.next() {
        let text = arg.to_string_lossy();
        if !text.starts_with('-') {
            match next_word(commands, &words, &text) {
                Some(next) => words.push(next),
                None if index != word && !words.is_empty() => found.push(arg.clone()),
                None => {}
            }
            continue;
        }
        let Some(flag) = find_flag(&words, &text) else { continue };
        let values: Vec<_> = rest.by_ref().take(flag.args.len()).collect();
        if flag.names == ["--flake"] {
            found.extend(values.first().map(|(_, value)| (*value).clone()));
        }
    }
    let is_update = positional_of(&words) == Kind::Input;
    if is_update {
        // Its arguments are inputs.
        let flag = args.iter().position(|arg| arg == "--flake");
        found = flag.and_then(|at| args.get(at + 1)).cloned().into_iter().collect();
    }
    if found.is_empty() {
        found.push(".".into());
    }
    found
}

fn next_word(
    commands: &[&'static [&'static str]],
    words: &[&'static str],
    text: &str,
) -> Option<&'static str> {
    let depth = words.len();
    let mut found = commands.iter().filter(|path| path.len() > depth && path[..depth] == *words);
    found.find(|path| path[depth] == text).map(|path| path[depth])
}

fn all_flags(words: &[&str]) -> impl Iterator<Item = &'static Flag> {
    groups_of(words).unwrap_or_default().iter().flat_map(|group| group.flags).chain(COMMON.flags)
}

fn find_flag(words: &[&str], name: &str) -> Option<&'static Flag> {
    all_flags(words).find(|flag| flag.names.contains(&name))
}

fn flags(words: &[&str], prefix: &str) -> Answer {
    let mut found = Vec::new();
    for flag in all_flags(words) {
        for name in flag.names.iter().filter(|name| name.starts_with("--") && name.starts_with(prefix)) {
            found.push(((*name).to_owned(), flag.text.to_owned()));
        }
    }
    Answer { kind: "normal", words: found }
}

fn argument(kind: Kind, word: &OsStr, start: Start, line: &Before) -> Answer {
    let text = word.to_string_lossy();
    match kind {
        Kind::Text => Answer::new("normal", []),
        Kind::File => Answer::new("filenames", files(word, false)),
        Kind::Folder => Answer::new("filenames", files(word, true)),
        Kind::Setting => {
            let names = firn_settings::names().filter(|name| name.starts_with(&*text));
            let told = names.map(|name| (name.to_owned(), format!("Set the `{name}` setting")));
            Answer { kind: "normal", words: told.collect() }
        }
        Kind::Installable if line.file.is_some() || line.expr.is_some() => {
            Answer::new("attrs", attributes(&text, start, line))
        }
        Kind::Installable if text.contains('#') => {
            complete_flakes::outputs(&text, start, defaults_of(&line.words))
        }
        Kind::Installable | Kind::Flake => complete_flakes::places(word, start),
        Kind::Input => complete_flakes::inputs(&text, start, &line.flakes),
    }
}

/// What outputs a command looks for.
fn defaults_of(words: &[&str]) -> Defaults {
    match words {
        ["run" | "bundle"] => Defaults::Apps,
        ["develop" | "print-dev-env"] => Defaults::DevShells,
        ["search"] => Defaults::Search,
        _ => Defaults::Packages,
    }
}

/// Files that begin like `word`; `~/` is the user's home.
pub fn files(word: &OsStr, only_folders: bool) -> Vec<String> {
    let bytes = word.as_bytes();
    let slash = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let (folder, name) = bytes.split_at(slash);
    let place = match (folder.strip_prefix(b"~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(OsStr::from_bytes(rest)),
        _ if folder.is_empty() => PathBuf::from("."),
        _ => PathBuf::from(OsStr::from_bytes(folder)),
    };
    let Ok(listing) = std::fs::read_dir(place) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in listing.flatten() {
        let file = entry.file_name().into_vec();
        let hidden = file.starts_with(b".") && !name.starts_with(b".");
        if hidden || !file.starts_with(name) || only_folders && !entry.path().is_dir() {
            continue;
        }
        found.push(String::from_utf8_lossy(&[folder, &file].concat()).into_owned());
    }
    found
}

/// Attribute paths of the expression that begin like `text`. What cannot be evaluated has none.
fn attributes(text: &str, start: Start, line: &Before) -> Vec<String> {
    let (prefix, last) = text.rsplit_once('.').map_or(("", text), |(prefix, last)| (prefix, last));
    let Some(names) = names_at(prefix, start, line) else { return Vec::new() };
    names
        .into_iter()
        .filter(|name| name.starts_with(last))
        .map(|name| if prefix.is_empty() { name } else { format!("{prefix}.{name}") })
        .collect()
}

fn names_at(path: &str, start: Start, line: &Before) -> Option<Vec<String>> {
    let mut low = LowArgs::nix();
    low.offline = true;
    // What is said goes to the standard error, which shells do not show.
    let context =
        Context::resolve(&start.program, &low, start.settings, LogFormat::Raw, Verbosity::Error).ok()?;
    let args = EvalArgs { impure: true, no_import_from_derivation: true, ..EvalArgs::default() };
    let mut evaluation = Evaluation::new(&context, &args, true).ok()?;
    let root: Value = match (&line.file, &line.expr) {
        (Some(file), _) => evaluation.file(Path::new(file)).ok()?,
        (None, Some(expr)) => evaluation.expression(expr.as_bytes()).ok()?,
        (None, None) => return None,
    };
    let auto_args = evaluation.auto_args;
    let value = evaluation.vm.find_along_path(path, auto_args, root).ok()?.0;
    let value = evaluation.vm.auto_call(auto_args, value).ok()?;
    let names = value.as_attrs()?.sorted().map(|(name, _)| name.to_string()).collect();
    Some(names)
}
