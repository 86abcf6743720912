//! `nix config show`.

use super::NixCommand;
use crate::args::{FlagSink, Values};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_settings::{SETTINGS, Setting, Settings};
use serde_json::{Map, Value, json};
use std::ffi::OsString;

/// The command as it was written.
#[derive(Default)]
pub struct Show {
    name: Option<String>,
    json: bool,
    pretty: Option<bool>,
}

impl FlagSink for Show {
    fn flag(&mut self, flag: &str, _: &mut Values) -> CliResult<bool> {
        match flag {
            "--json" => self.json = true,
            "--pretty" => self.pretty = Some(true),
            "--no-pretty" => self.pretty = Some(false),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        let arg = crate::args::text("setting", arg)?;
        match self.name.replace(arg) {
            None => Ok(()),
            Some(_) => Err(CliError::usage(format!(
                "unexpected argument '{}'",
                self.name.as_deref().unwrap_or_default()
            ))),
        }
    }
}

/// Settings of features that are off are not shown.
fn is_shown(setting: &&Setting, settings: &Settings) -> bool {
    setting.feature.is_none_or(|feature| settings.has_feature(feature))
}

impl NixCommand for Show {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let settings = &context.settings;
        if let Some(name) = &self.name {
            if self.json {
                return Err(CliError::usage("'--json' is not supported when specifying a setting name"));
            }
            let setting = SETTINGS
                .iter()
                .filter(|setting| is_shown(setting, settings))
                .find(|setting| setting.name == name)
                .ok_or_else(|| CliError::failed(format!("could not find setting '{name}'")))?;
            context.print_line(setting.render(settings))?;
            return Ok(0);
        }
        if self.json {
            context.print_line(super::json_text(&all_as_json(settings), self.pretty))?;
            return Ok(0);
        }
        let mut out = Vec::new();
        for setting in SETTINGS.iter().filter(|setting| is_shown(setting, settings)) {
            out.extend_from_slice(setting.name.as_bytes());
            out.extend_from_slice(b" = ");
            out.extend_from_slice(&setting.render(settings));
            out.push(b'\n');
        }
        context.print_line(out)?;
        Ok(0)
    }
}

fn all_as_json(settings: &Settings) -> Value {
    let defaults = Settings::defaults(&|_| None);
    let entries = SETTINGS.iter().map(|setting| {
        let entry = json!({
            "aliases": setting.aliases,
            "defaultValue": setting.to_json(&defaults),
            "description": setting.description.trim(),
            "documentDefault": true,
            "experimentalFeature": setting.feature.map(|feature| feature.name()),
            "value": setting.to_json(settings),
        });
        (setting.name.to_owned(), entry)
    });
    Value::Object(entries.collect::<Map<_, _>>())
}
