//! `nix flake show`.

use super::{BRANCH, FlakeArg, LAST, LINE, NOTHING};
use crate::args::{FlagSink, Values};
use crate::commands::nix::{NixCommand, json_text};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::evaluation::Evaluation;
use crate::flakes::{Cursor, OpenFlake};
use firn_store::activity::{Activity, ActivityType, Verbosity};
use serde_json::{Map, Value, json};
use std::ffi::OsString;
use std::rc::Rc;

const BOLD: &str = "\x1b[1m";
const GREEN: &str = "\x1b[32;1m";
const MAGENTA: &str = "\x1b[35;1m";
const NORMAL: &str = "\x1b[0m";

/// The command as it was written.
#[derive(Default)]
pub struct Show {
    what: FlakeArg,
    json: bool,
    pretty: Option<bool>,
    legacy: bool,
    all_systems: bool,
}

impl FlagSink for Show {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--json" => self.json = true,
            "--pretty" => self.pretty = Some(true),
            "--no-pretty" => self.pretty = Some(false),
            "--legacy" => self.legacy = true,
            "--all-systems" => self.all_systems = true,
            _ => return self.what.flag(flag, values),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.what.positional(arg)
    }
}

impl NixCommand for Show {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        self.what.eval.no_import_from_derivation = true;
        let (mut evaluation, flags) = self.what.start(context, context.settings.read_only_mode)?;
        let reference = self.what.reference(context)?;
        let flake = OpenFlake::open(context, &mut evaluation, &reference, &flags)?;
        let header = format!("{BOLD}{}{NORMAL}", flake.locked.flake.locked.shown());
        let (json, pretty) = (self.json, self.pretty);
        let mut visitor = Visitor { context, evaluation, options: *self };
        let value = visitor.visit(&flake.root(), &header, "")?;
        visitor.evaluation.flush()?;
        if json {
            context.print_line(json_text(&Value::Object(value), pretty))?;
        }
        Ok(0)
    }
}

struct Visitor<'a> {
    context: &'a Context,
    evaluation: Evaluation,
    options: Show,
}

/// Sets that are looked into.
fn is_folder(path: &[&str]) -> bool {
    matches!(
        path,
        [] | ["defaultPackage"
            | "devShell"
            | "formatter"
            | "nixosConfigurations"
            | "nixosModules"
            | "defaultApp"
            | "templates"
            | "overlays"]
            | ["checks" | "packages" | "devShells" | "apps"]
            | ["checks" | "packages" | "devShells" | "apps", _]
    )
}

/// What cannot be evaluated without building.
fn needs_build(error: &CliError) -> bool {
    matches!(error, CliError::Rendered { text, .. }
        if String::from_utf8_lossy(text).contains("'allow-import-from-derivation' is disabled"))
}

fn is_evaluation(error: &CliError) -> bool {
    matches!(error, CliError::Rendered { .. })
}

impl Visitor<'_> {
    fn line(&self, text: &str) -> CliResult<()> {
        match self.options.json {
            true => Ok(()),
            false => self.context.print_line(text),
        }
    }

    /// Says that something was left out, and why.
    fn omitted(&self, cursor: &Cursor, header: &str, why: &str) -> CliResult<()> {
        if self.options.json {
            self.context.logger.warn(&format!("{} omitted{why}", cursor.path()));
            return Ok(());
        }
        // What to do about it is not part of the warning.
        let (coloured, rest) = match why.starts_with(" (") {
            true => ("omitted", why),
            false => ("", ""),
        };
        match coloured.is_empty() {
            false => self.line(&format!("{header} {MAGENTA}{coloured}{NORMAL}{rest}")),
            true => self.line(&format!("{header} {MAGENTA}omitted{why}{NORMAL}")),
        }
    }

    /// Whether there is anything to show in a set: frameworks leave empty ones everywhere.
    fn has_content(&mut self, cursor: &Rc<Cursor>, name: &str) -> CliResult<bool> {
        let child = cursor.need(&mut self.evaluation, name)?;
        let steps = child.steps();
        let path: Vec<&str> = steps.iter().map(String::as_str).collect();
        let is_set = matches!(
            path[..],
            ["apps" | "checks" | "devShells" | "legacyPackages" | "packages"]
                | ["apps" | "checks" | "devShells" | "legacyPackages" | "packages", _]
                | ["formatter" | "nixosConfigurations" | "nixosModules" | "overlays"]
        );
        if !is_set {
            return Ok(true);
        }
        let names = match child.names(&mut self.evaluation) {
            Ok(names) => names,
            Err(error) if is_evaluation(&error) => return Ok(true),
            Err(error) => return Err(error),
        };
        for name in names {
            match self.has_content(&child, &name) {
                Ok(false) => {}
                Ok(true) => return Ok(true),
                Err(error) if is_evaluation(&error) => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    fn recurse(&mut self, cursor: &Rc<Cursor>, header: &str, prefix: &str) -> CliResult<Map<String, Value>> {
        self.line(header)?;
        let mut names = Vec::new();
        for name in cursor.names(&mut self.evaluation)? {
            if self.has_content(cursor, &name)? {
                names.push(name);
            }
        }
        let mut out = Map::new();
        for (index, name) in names.iter().enumerate() {
            let (arm, gap) = if index + 1 == names.len() { (LAST, NOTHING) } else { (BRANCH, LINE) };
            let child = cursor.need(&mut self.evaluation, name)?;
            let header = format!("{GREEN}{prefix}{arm}{NORMAL}{BOLD}{name}{NORMAL}");
            let value = self.visit(&child, &header, &format!("{prefix}{gap}"))?;
            out.insert(name.clone(), Value::Object(value));
        }
        Ok(out)
    }

    fn visit(&mut self, cursor: &Rc<Cursor>, header: &str, prefix: &str) -> CliResult<Map<String, Value>> {
        let (kind, text) = (ActivityType::Unknown, format!("evaluating '{}'", cursor.path()));
        let logger = self.context.logger.clone();
        let _activity = Activity::start(&logger, Verbosity::Info, kind, &text, &[], 0);
        let is_legacy = cursor.steps().first().is_some_and(|step| step == "legacyPackages");
        match self.show(cursor, header, prefix) {
            // Package sets have attributes that cannot be evaluated.
            Err(error) if is_legacy && is_evaluation(&error) => Ok(Map::new()),
            result => result,
        }
    }

    fn show(&mut self, cursor: &Rc<Cursor>, header: &str, prefix: &str) -> CliResult<Map<String, Value>> {
        let steps = cursor.steps();
        let path: Vec<&str> = steps.iter().map(String::as_str).collect();
        if is_folder(&path) {
            return self.recurse(cursor, header, prefix);
        }
        let own = self.context.settings.system.clone();
        let is_foreign = |system: &str| !self.options.all_systems && system != own;
        match path[..] {
            ["defaultPackage" | "devShell" | "formatter", system]
            | ["checks" | "packages" | "devShells", system, _] => {
                if is_foreign(system) {
                    self.omitted(cursor, header, " (use '--all-systems' to show)")?;
                    return Ok(Map::new());
                }
                let shown = self.derivation(cursor, header);
                self.unless_built(cursor, header, shown, |this| {
                    this.context.logger.warn(&format!("{} is not a derivation", cursor.path_of("name")));
                    Ok(Map::new())
                })
            }
            ["hydraJobs", ..] => {
                let shown = self.derivation(cursor, header);
                self.unless_built(cursor, header, shown, |this| this.recurse(cursor, header, prefix))
            }
            ["legacyPackages"] => self.recurse(cursor, header, prefix),
            ["legacyPackages", ..] if !self.options.legacy => {
                self.omitted(cursor, header, " (use '--legacy' to show)")?;
                Ok(Map::new())
            }
            ["legacyPackages", system, ..] if is_foreign(system) => {
                self.omitted(cursor, header, " (use '--all-systems' to show)")?;
                Ok(Map::new())
            }
            ["legacyPackages", ..] => {
                let shown = self.derivation(cursor, header);
                let is_top = path.len() <= 2;
                self.unless_built(cursor, header, shown, |this| match is_top {
                    true => this.recurse(cursor, header, prefix),
                    false => Ok(Map::new()),
                })
            }
            ["defaultApp", _] | ["apps", _, _] => self.app(cursor, header),
            ["defaultTemplate"] | ["templates", _] => {
                let description = cursor.need(&mut self.evaluation, "description")?;
                let description = description.string(&mut self.evaluation)?;
                self.line(&format!("{header}: template: {BOLD}{description}{NORMAL}"))?;
                Ok(object(json!({ "type": "template", "description": description })))
            }
            _ => {
                let (kind, text) = match path[..] {
                    ["overlay"] | ["overlays", _] => ("nixpkgs-overlay", "Nixpkgs overlay"),
                    ["nixosConfigurations", _] => ("nixos-configuration", "NixOS configuration"),
                    ["nixosModule"] | ["nixosModules", _] => ("nixos-module", "NixOS module"),
                    _ => ("unknown", "unknown"),
                };
                self.line(&format!("{header}: {MAGENTA}{text}{NORMAL}"))?;
                Ok(object(json!({ "type": kind })))
            }
        }
    }

    /// What was shown of a derivation; `otherwise` where it is none, and a note where it cannot be told without building.
    fn unless_built(
        &mut self,
        cursor: &Rc<Cursor>,
        header: &str,
        shown: CliResult<Option<Map<String, Value>>>,
        otherwise: impl FnOnce(&mut Self) -> CliResult<Map<String, Value>>,
    ) -> CliResult<Map<String, Value>> {
        let result = match shown {
            Ok(Some(value)) => Ok(value),
            Ok(None) => otherwise(self),
            Err(error) => Err(error),
        };
        match result {
            Err(error) if needs_build(&error) => {
                self.omitted(cursor, header, " due to use of import from derivation")?;
                Ok(Map::new())
            }
            result => result,
        }
    }

    fn description(&mut self, cursor: &Rc<Cursor>) -> CliResult<Option<String>> {
        let Some(meta) = cursor.attr(&mut self.evaluation, "meta")? else { return Ok(None) };
        match meta.attr(&mut self.evaluation, "description")? {
            Some(description) => Ok(Some(description.string(&mut self.evaluation)?)),
            None => Ok(None),
        }
    }

    /// A derivation; nothing if it is none.
    fn derivation(&mut self, cursor: &Rc<Cursor>, header: &str) -> CliResult<Option<Map<String, Value>>> {
        if !cursor.is_derivation(&mut self.evaluation)? {
            return Ok(None);
        }
        let name = cursor.need(&mut self.evaluation, "name")?.string(&mut self.evaluation)?;
        if self.options.json {
            let description = self.description(cursor)?.unwrap_or_default();
            return Ok(Some(object(
                json!({ "type": "derivation", "name": name, "description": description }),
            )));
        }
        let steps = cursor.steps();
        let path: Vec<&str> = steps.iter().map(String::as_str).collect();
        let kind = match path[..] {
            ["devShell", _] | ["devShells", _, ..] => "development environment",
            ["checks", _, _] | ["hydraJobs", ..] => "derivation",
            _ => "package",
        };
        self.line(&format!("{header}: {kind} '{name}'"))?;
        Ok(Some(Map::new()))
    }

    fn app(&mut self, cursor: &Rc<Cursor>, header: &str) -> CliResult<Map<String, Value>> {
        let kind = cursor.attr(&mut self.evaluation, "type")?;
        let description = self.description(cursor)?;
        let is_app = match kind {
            Some(kind) => kind.string(&mut self.evaluation)? == "app",
            None => false,
        };
        if !is_app {
            return self.evaluation.run(|_| {
                Err(firn_eval::EvalError::new(firn_eval::ErrorKind::Eval, "not an app definition"))
            });
        }
        let shown = description.as_deref().unwrap_or("no description");
        self.line(&format!("{header}: app: {BOLD}{shown}{NORMAL}"))?;
        let mut out = object(json!({ "type": "app" }));
        out.extend(description.map(|description| ("description".to_owned(), json!(description))));
        Ok(out)
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
