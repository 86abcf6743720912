//! `nix search`: packages whose attribute path, name or description match regular expressions.

use super::NixCommand;
use crate::args::{FlagSink, Values, text};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::evaluation::Evaluation;
use crate::flakes::Defaults;
use crate::installables::InstallableArgs;
use firn_eval::{Ahead, Attrs, EvalError, EvalResult, Pos, Value, split_package_name};
use firn_eval::{regex::Regex, sym};
use serde_json::{Map, json};
use std::ffi::OsString;

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
        let patterns = compile(&self.patterns)?;
        let exclude = compile(&self.exclude)?;
        self.what.eval.no_import_from_derivation = true;
        let (mut evaluation, roots) = self.what.values(context, true)?;
        let mut search = Walk { patterns, exclude, found: Vec::new() };
        for (path, value) in roots {
            search.visit(&mut evaluation, value, &path, true)?;
        }
        if self.json {
            let mut all = Map::new();
            for package in &search.found {
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
        if search.found.is_empty() {
            return Err(CliError::failed("no results for the given search term(s)!"));
        }
        let shown: Vec<String> =
            search.found.iter().map(|package| package.render(&search.patterns)).collect();
        context.print(shown.join("\n").as_bytes())?;
        Ok(0)
    }
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

    /// All patterns match something, and nothing that is excluded does.
    fn is_wanted(&self, patterns: &[Regex], exclude: &[Regex]) -> CliResult<bool> {
        let any = |regex: &Regex| -> CliResult<bool> {
            for text in self.texts() {
                if !matches(regex, text)?.is_empty() {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        for regex in exclude {
            if any(regex)? {
                return Ok(false);
            }
        }
        for regex in patterns {
            if !any(regex)? {
                return Ok(false);
            }
        }
        Ok(true)
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

struct Walk {
    patterns: Vec<Regex>,
    exclude: Vec<Regex>,
    found: Vec<Package>,
}

/// Why the walk cannot go on.
enum Stop {
    Evaluation(EvalError),
    Command(CliError),
}

impl From<EvalError> for Stop {
    fn from(error: EvalError) -> Self {
        Self::Evaluation(error)
    }
}

impl From<CliError> for Stop {
    fn from(error: CliError) -> Self {
        Self::Command(error)
    }
}

impl Walk {
    /// Looks at a value: a package, or at the top and where packages are a set of packages.
    fn visit(
        &mut self,
        evaluation: &mut Evaluation,
        value: Value,
        path: &[String],
        is_first: bool,
    ) -> CliResult<()> {
        let top = path.first().map(String::as_str);
        match self.try_visit(evaluation, value, path, is_first) {
            Ok(()) => Ok(()),
            Err(Stop::Command(error)) => Err(error),
            // Packages that say that they cannot be evaluated are none.
            Err(Stop::Evaluation(error))
                if !is_first && (error.is_catchable() || top == Some("legacyPackages")) =>
            {
                Ok(())
            }
            Err(Stop::Evaluation(error)) => Err(evaluation.fail(error)),
        }
    }

    fn try_visit(
        &mut self,
        evaluation: &mut Evaluation,
        value: Value,
        path: &[String],
        is_first: bool,
    ) -> Result<(), Stop> {
        let mut value = evaluation.vm.force(value)?;
        if is_first {
            let args = evaluation.auto_args;
            value = evaluation.vm.auto_call(args, value)?;
        }
        let Some(attrs) = value.as_attrs() else { return Ok(()) };
        if evaluation.vm.is_derivation(attrs)? {
            let package = package(evaluation, attrs, path)?;
            if package.is_wanted(&self.patterns, &self.exclude)? {
                self.found.push(package);
            }
            return Ok(());
        }
        let top = path.first().map(String::as_str);
        let mut recurse = is_first || path.len() <= 2 && matches!(top, Some("packages" | "legacyPackages"));
        let wish = attrs.find(sym!("recurseForDerivations"));
        if let (false, Some("legacyPackages"), Some(wish)) = (recurse, top, wish) {
            let what = "while evaluating the attribute 'recurseForDerivations'";
            recurse = evaluation.vm.force_bool(wish, Pos::NONE, what)?;
        }
        if recurse {
            attrs.value().keep();
            evaluation.vm.attributes_ahead(attrs, Ahead::Describe);
            for (name, value) in attrs.sorted() {
                let mut inner = path.to_vec();
                inner.push(name.to_string());
                self.visit(evaluation, value, &inner, false)?;
            }
        }
        Ok(())
    }
}

fn package(evaluation: &mut Evaluation, attrs: Attrs, path: &[String]) -> EvalResult<Package> {
    let vm = &mut evaluation.vm;
    let mut name = Vec::new();
    if let Some(value) = attrs.find(sym!("name")) {
        name = vm
            .string_no_context(value, Pos::NONE, "while evaluating the name of a package")?
            .as_bytes()
            .to_vec();
    }
    let mut description = String::new();
    if let Some(meta) = attrs.find(sym!("meta")) {
        let meta = vm.force(meta)?;
        if let Some(text) = meta.as_attrs().and_then(|meta| meta.find(sym!("description"))) {
            let text =
                vm.string_no_context(text, Pos::NONE, "while evaluating the description of a package")?;
            description = String::from_utf8_lossy(text.as_bytes()).replace('\n', " ");
        }
    }
    let (name, version) = split_package_name(&name);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let shown: Vec<String> = path
        .iter()
        .map(|step| if step.contains('.') { format!("\"{step}\"") } else { step.clone() })
        .collect();
    Ok(Package { attr_path: shown.join("."), name: text(name), version: text(version), description })
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
