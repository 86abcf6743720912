//! `nix search`: packages whose attribute path, name or description match regular expressions.

mod cached;
mod walk;

use super::NixCommand;
use crate::args::{FlagSink, Values, text};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::flakes::Defaults;
use crate::installables::InstallableArgs;
use firn_eval::regex::Regex;
use firn_store::activity::{Activity, ActivityType, Verbosity};
use serde_json::{Map, json};
use std::ffi::OsString;
use walk::Walk;

const GREEN: &str = "\x1b[32;1m";
const BOLD: &str = "\x1b[0;1m";
const NORMAL: &str = "\x1b[0m";

/// The command as it was written.
pub struct Search {
    what: InstallableArgs,
    has_installable: bool,
    patterns: Vec<String>,
    exclude: Vec<String>,
    json: bool,
    pretty: Option<bool>,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            what: InstallableArgs::of(Defaults::Search),
            has_installable: false,
            patterns: Vec::new(),
            exclude: Vec::new(),
            json: false,
            pretty: None,
        }
    }
}

impl FlagSink for Search {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "-e" | "--exclude" => {
                let [pattern] = values.take(flag)?;
                self.exclude.push(text(flag, pattern)?);
            }
            "--json" => self.json = true,
            "--pretty" => self.pretty = Some(true),
            "--no-pretty" => self.pretty = Some(false),
            _ => return self.what.flag(flag, values),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        match std::mem::replace(&mut self.has_installable, true) {
            false => self.what.positional(arg),
            true => self.patterns.push(text("regular expression", arg)?),
        }
        Ok(())
    }
}

impl NixCommand for Search {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        if self.patterns.is_empty() {
            return Err(CliError::usage(
                "Must provide at least one regex! To match all packages, use 'nix search <installable> ^'.",
            ));
        }
        let terms = Terms { patterns: compile(&self.patterns)?, exclude: compile(&self.exclude)? };
        self.what.eval.no_import_from_derivation = true;
        let found = self.find(context, &terms)?;
        if self.json {
            let mut all = Map::new();
            for package in &found {
                let value = json!({
                    "pname": package.name,
                    "version": package.version,
                    "description": package.description,
                });
                all.insert(package.attr_path.clone(), value);
            }
            context.print_line(super::json_text(&all.into(), self.pretty))?;
            return Ok(0);
        }
        if found.is_empty() {
            return Err(CliError::failed("no results for the given search term(s)!"));
        }
        let shown: Vec<String> = found.iter().map(|package| package.render(&terms.patterns)).collect();
        context.print(shown.join("\n").as_bytes())?;
        Ok(0)
    }
}

impl Search {
    /// All packages that are wanted, in the order of their attribute paths.
    fn find(&mut self, context: &Context, terms: &Terms) -> CliResult<Vec<Package>> {
        let mut walk = Walk { context, terms, found: Vec::new() };
        if self.what.has_expression() {
            let path = self.what.attribute_path()?;
            let (mut evaluation, value) = self.what.value(context, true)?;
            walk.visit(&mut evaluation, value.keep(), &path, true)?;
            return Ok(walk.found);
        }
        let (mut evaluation, cursors) = self.what.cursors(context, true)?;
        for cursor in cursors {
            if cursor.is_cached() {
                cached::visit(context, terms, &mut walk.found, &mut evaluation, &cursor, true)?;
            } else {
                let value = cursor.force(&mut evaluation)?;
                walk.visit(&mut evaluation, value, &cursor.steps(), true)?;
            }
        }
        Ok(walk.found)
    }
}

/// Tells where the search is.
fn looking_at(context: &Context, path: &[String]) -> Activity {
    let text = format!("evaluating '{}'", path.join("."));
    Activity::start(&context.logger, Verbosity::Info, ActivityType::Unknown, &text, &[], 0)
}

/// POSIX extended expressions that do not regard case: they look at texts in lower case.
fn compile(patterns: &[String]) -> CliResult<Vec<Regex>> {
    let one = |pattern: &String| {
        let lower =
            pattern.to_ascii_lowercase().replace("[:upper:]", "[:alpha:]").replace("[:lower:]", "[:alpha:]");
        Regex::new(lower.as_bytes())
            .map_err(|e| CliError::failed(format!("invalid regular expression '{pattern}': {e}")))
    };
    patterns.iter().map(one).collect()
}

/// Where `regex` matches `text`; matches of nothing count as well.
fn matches(regex: &Regex, text: &str) -> CliResult<Vec<(usize, usize)>> {
    let lower = text.to_ascii_lowercase();
    let mut found = Vec::new();
    for captures in regex.find_iter(lower.as_bytes()) {
        let captures = captures.map_err(|e| CliError::failed(format!("regular expression: {e}")))?;
        found.extend(captures.first().copied().flatten());
    }
    Ok(found)
}

/// What is looked for.
struct Terms {
    patterns: Vec<Regex>,
    exclude: Vec<Regex>,
}

impl Terms {
    /// All patterns match something, and nothing that is excluded does.
    fn want(&self, package: &Package) -> CliResult<bool> {
        let any = |regex: &Regex| -> CliResult<bool> {
            for text in package.texts() {
                if !matches(regex, text)?.is_empty() {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        for regex in &self.exclude {
            if any(regex)? {
                return Ok(false);
            }
        }
        for regex in &self.patterns {
            if !any(regex)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

struct Package {
    attr_path: String,
    name: String,
    version: String,
    description: String,
}

impl Package {
    fn texts(&self) -> [&str; 3] {
        [&self.attr_path, &self.name, &self.description]
    }

    fn render(&self, patterns: &[Regex]) -> String {
        let path = highlight(&self.attr_path, patterns, BOLD);
        let version = if self.version.is_empty() { String::new() } else { format!(" ({})", self.version) };
        let mut out = format!("* {BOLD}{path}{NORMAL}{version}\n");
        if !self.description.is_empty() {
            out += &format!("  {}\n", highlight(&self.description, patterns, NORMAL));
        }
        out
    }
}

/// Matches in green, those that touch as one; `after` is what follows each.
fn highlight(text: &str, patterns: &[Regex], after: &str) -> String {
    let mut all: Vec<(usize, usize)> =
        patterns.iter().flat_map(|regex| matches(regex, text).unwrap_or_default()).collect();
    all.sort_unstable();
    let mut joined: Vec<(usize, usize)> = Vec::new();
    for (start, end) in all {
        match joined.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => joined.push((start, end)),
        }
    }
    let mut out = String::new();
    let mut at = 0;
    for (start, end) in joined {
        // The language's expressions match bytes, so a match may end inside a letter.
        let (Some(before), Some(found)) = (text.get(at..start), text.get(start..end)) else { continue };
        out += &format!("{before}{GREEN}{found}{after}");
        at = end;
    }
    out + text.get(at..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn highlighting() {
        let check = |text: &str, patterns: &[&str], expected: &str| {
            let patterns = compile(&patterns.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>()).unwrap();
            let found = highlight(text, &patterns, "|").replace(GREEN, "^");
            assert_eq!(found, expected);
        };
        check("foo", &["oo", "foo", "oo"], "^foo|");
        check("broken bar", &["broken b", "en bar"], "^broken bar|");
        check("Hello", &["L", "o$"], "He^llo|");
        check("hello", &["x"], "hello");
        check("äb", &["b"], "ä^b|");
    }
}
