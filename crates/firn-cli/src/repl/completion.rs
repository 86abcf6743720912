//! Completing what is typed: commands, names in scope, attributes and files.

use super::tools::Machine;
use std::path::Path;
use std::rc::Rc;

/// Knows how a line may go on.
pub trait Completer {
    /// Where the last word of `line` starts, and what may stand there.
    fn complete(&self, line: &str) -> (usize, Vec<String>);
    /// Whether an expression lacks its end.
    fn is_incomplete(&self, text: &str) -> bool;
}

/// All commands, by their short and long names.
const COMMANDS: [&str; 32] = [
    ":?",
    ":a",
    ":add",
    ":b",
    ":backtrace",
    ":bl",
    ":bt",
    ":c",
    ":continue",
    ":doc",
    ":e",
    ":edit",
    ":env",
    ":help",
    ":i",
    ":l",
    ":last-loaded",
    ":lf",
    ":ll",
    ":load",
    ":load-flake",
    ":log",
    ":p",
    ":print",
    ":quit",
    ":reload",
    ":sh",
    ":st",
    ":step",
    ":t",
    ":trace-enable",
    ":u",
];

impl<M: Machine> Completer for Rc<M> {
    fn complete(&self, line: &str) -> (usize, Vec<String>) {
        let start = line.rfind(|c: char| " \n\r\t(){}[]".contains(c)).map_or(0, |at| at + 1);
        let word = &line[start..];
        if line.starts_with(':') && start == 0 {
            let found = COMMANDS.iter().filter(|name| name.starts_with(word));
            return (0, found.map(|name| (*name).to_owned()).collect());
        }
        let words = if word.contains('/') {
            files(word)
        } else {
            match word.rsplit_once('.') {
                Some((expression, name)) => attributes(&**self, expression, name),
                None => names(&**self, word),
            }
        };
        (start, words)
    }

    fn is_incomplete(&self, text: &str) -> bool {
        let text = match text.trim_start().strip_prefix(':') {
            Some(command) => command.split_once(char::is_whitespace).map_or("", |(_, arg)| arg),
            None => text,
        };
        !text.trim().is_empty() && self.with(|vm| vm.is_incomplete(text.as_bytes()))
    }
}

fn names(machine: &impl Machine, word: &str) -> Vec<String> {
    let mut names: Vec<String> = machine.names().iter().map(|name| name.to_string()).collect();
    names.extend(machine.with(|vm| vm.debug_globals()).iter().map(|name| name.to_string()));
    names.retain(|name| name.starts_with(word));
    names.sort();
    names.dedup();
    names
}

/// Attributes of the set that `expression` stands for; evaluating it may take a moment, and must not fail.
fn attributes(machine: &impl Machine, expression: &str, word: &str) -> Vec<String> {
    let Ok(value) = machine.eval(expression) else { return Vec::new() };
    let Some(attrs) = value.as_attrs() else { return Vec::new() };
    let names = attrs.sorted().map(|(name, _)| name.to_string());
    names.filter(|name| name.starts_with(word)).map(|name| format!("{expression}.{name}")).collect()
}

/// Files and folders that begin like `word`.
fn files(word: &str) -> Vec<String> {
    let Some((folder, name)) = word.rsplit_once('/') else { return Vec::new() };
    let Ok(listing) = std::fs::read_dir(if folder.is_empty() { Path::new("/") } else { Path::new(folder) })
    else {
        return Vec::new();
    };
    let mut found: Vec<String> = listing
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|entry| !entry.starts_with('.') && entry.starts_with(name))
        .map(|entry| format!("{folder}/{entry}"))
        .collect();
    found.sort();
    found
}
