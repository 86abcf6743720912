//! `nix store info`, `optimise` and `repair`.

use crate::args::{FlagSink, Values};
use crate::commands::nix::store_paths::{Realise, StorePathsArgs};
use crate::commands::nix::{NixCommand, json_text};
use crate::commands::nix_store::{optimise_store, repair_one};
use crate::context::Context;
use crate::error::CliResult;
use firn_store::Trust;
use firn_store::activity::Verbosity;
use serde_json::json;
use std::ffi::OsString;

/// `nix store info` as it was written.
#[derive(Default)]
pub struct Info {
    json: bool,
    pretty: Option<bool>,
}

impl FlagSink for Info {
    fn flag(&mut self, flag: &str, _: &mut Values) -> CliResult<bool> {
        match flag {
            "--json" => self.json = true,
            "--pretty" => self.pretty = Some(true),
            "--no-pretty" => self.pretty = Some(false),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl NixCommand for Info {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let say = |text: String| context.logger.log(Verbosity::Notice, text.as_bytes());
        let store = context.store()?;
        if !self.json {
            say(format!("Store URL: {}", store.uri()));
        }
        let mut value = json!({ "url": store.uri() });
        let outcome = context.block_on(async {
            store.connect().await?;
            let version = store.version().await?;
            Ok::<_, firn_store::StoreError>((version, store.is_trusted().await?))
        })?;
        if let Ok((version, trust)) = &outcome {
            if let Some(version) = version {
                value["version"] = json!(version);
                if !self.json {
                    say(format!("Version: {version}"));
                }
            }
            if let Some(trust) = trust {
                let trusted = *trust == Trust::Trusted;
                value["trusted"] = json!(trusted);
                if !self.json {
                    say(format!("Trusted: {}", u8::from(trusted)));
                }
            }
        }
        // What is known of a store that cannot be reached is printed too.
        if self.json {
            context.print_line(json_text(&value, self.pretty))?;
        }
        outcome?;
        Ok(0)
    }
}

/// `nix store optimise`.
#[derive(Default)]
pub struct Optimise;

impl FlagSink for Optimise {
    fn flag(&mut self, _: &str, _: &mut Values) -> CliResult<bool> {
        Ok(false)
    }
}

impl NixCommand for Optimise {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        optimise_store(context)
    }
}

/// `nix store repair` as it was written.
#[derive(Default)]
pub struct Repair {
    what: StorePathsArgs,
}

impl FlagSink for Repair {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        self.what.flag(flag, values)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.what.positional(arg);
        Ok(())
    }
}

impl NixCommand for Repair {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        let store = context.store()?;
        for path in self.what.resolve(context, &*store, Realise::Nothing)? {
            repair_one(context, &path)?;
        }
        Ok(0)
    }
}
