//! Completing what is typed: commands, names in scope, attributes and files.

use super::session::Scope;
use firn_eval::Vm;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

/// Knows how a line may go on.
pub trait Completer {
    /// Where the last word of `line` starts, and what may stand there.
    fn complete(&self, line: &str) -> (usize, Vec<String>);
    /// Whether an expression lacks its end.
    fn is_incomplete(&self, text: &str) -> bool;
}

/// Completion in a scope that others change.
pub struct InScope {
    pub vm: Rc<RefCell<crate::evaluation::Evaluation>>,
    pub scope: Rc<RefCell<Scope>>,
}

/// All commands, by their short and long names.
const COMMANDS: [&str; 25] = [
    ":?",
    ":a",
    ":add",
    ":b",
    ":bl",
    ":doc",
    ":e",
    ":edit",
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
    ":t",
    ":trace-enable",
    ":u",
];

impl Completer for InScope {
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
                Some((expression, name)) => self.attributes(expression, name),
                None => self.names(word),
            }
        };
        (start, words)
    }

    fn is_incomplete(&self, text: &str) -> bool {
        let text = match text.trim_start().strip_prefix(':') {
            Some(command) => command.split_once(char::is_whitespace).map_or("", |(_, arg)| arg),
            None => text,
        };
        if text.trim().is_empty() {
            return false;
        }
        let (Ok(mut evaluation), Ok(scope)) = (self.vm.try_borrow_mut(), self.scope.try_borrow()) else {
            return false;
        };
        scope.is_incomplete(&mut evaluation.vm, text)
    }
}

impl InScope {
    fn names(&self, word: &str) -> Vec<String> {
        let (Ok(evaluation), Ok(scope)) = (self.vm.try_borrow(), self.scope.try_borrow()) else {
            return Vec::new();
        };
        let mut names: Vec<String> =
            scope.names().chain(evaluation.vm.debug_globals()).map(|name| name.to_string()).collect();
        names.retain(|name| name.starts_with(word));
        names.sort();
        names.dedup();
        names
    }

    /// Attributes of the set that `expression` stands for; evaluating it may take a moment, and must not fail.
    fn attributes(&self, expression: &str, word: &str) -> Vec<String> {
        let (Ok(mut evaluation), Ok(scope)) = (self.vm.try_borrow_mut(), self.scope.try_borrow()) else {
            return Vec::new();
        };
        let vm: &mut Vm = &mut evaluation.vm;
        let Ok(value) = scope.eval(vm, expression).and_then(|value| vm.force(value)) else {
            return Vec::new();
        };
        let Some(attrs) = value.as_attrs() else { return Vec::new() };
        let names = attrs.sorted().map(|(name, _)| name.to_string());
        names.filter(|name| name.starts_with(word)).map(|name| format!("{expression}.{name}")).collect()
    }
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
