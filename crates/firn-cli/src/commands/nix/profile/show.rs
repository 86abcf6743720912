//! `nix profile list`.

use super::{WhichWithEval, read};
use crate::args::{FlagSink, Values};
use crate::commands::nix::{NixCommand, json_text};
use crate::context::Context;
use crate::error::CliResult;
use serde_json::Value;
use std::fmt::Write;

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31;1m";
const NORMAL: &str = "\x1b[0m";

/// The command as it was written.
#[derive(Default)]
pub struct List {
    profile: WhichWithEval,
    json: bool,
    pretty: Option<bool>,
}

impl FlagSink for List {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--json" => self.json = true,
            "--pretty" => self.pretty = Some(true),
            "--no-pretty" => self.pretty = Some(false),
            _ => return self.profile.flag(flag, values),
        }
        Ok(true)
    }
}

impl NixCommand for List {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let manifest = read(context, &self.profile.which.path(context)?)?;
        let store = context.store()?;
        let dir = store.store_dir();
        if self.json {
            context.print_line(json_text(&manifest.to_json(dir), self.pretty))?;
            return Ok(0);
        }
        let mut out = String::new();
        for (name, package) in &manifest.0 {
            if !out.is_empty() {
                out.push('\n');
            }
            let inactive = if package.active { String::new() } else { format!(" {RED}(inactive){NORMAL}") };
            let _ = writeln!(out, "Name:               {BOLD}{name}{NORMAL}{inactive}");
            if let Some(source) = &package.source {
                let outputs = match &source.outputs {
                    Value::Array(names) => {
                        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
                        format!("^{}", names.join(","))
                    }
                    _ => String::new(),
                };
                let _ = writeln!(out, "Flake attribute:    {}{outputs}", source.attr_path);
                let _ = writeln!(out, "Original flake URL: {}", source.original_url);
                let _ = writeln!(out, "Locked flake URL:   {}", source.url);
            }
            let paths: Vec<String> = package.store_paths.iter().map(|path| dir.display(path)).collect();
            let _ = writeln!(out, "Store paths:        {}", paths.join(" "));
        }
        context.print(out.as_bytes())?;
        Ok(0)
    }
}
