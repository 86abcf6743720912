//! `nix store prefetch-file`.

use crate::args::{self, FlagSink, Values};
use crate::commands::hashing::parse_algo;
use crate::commands::nix::{NixCommand, json_text};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::fetching;
use firn_core::{Hash, HashAlgo};
use firn_fetch::Prefetch;
use firn_store::activity::Verbosity;
use serde_json::json;
use std::ffi::OsString;

/// The command as it was written.
pub struct PrefetchFile {
    url: Option<String>,
    name: Option<String>,
    expected: Option<String>,
    algo: HashAlgo,
    executable: bool,
    unpack: bool,
    json: bool,
    pretty: Option<bool>,
}

impl Default for PrefetchFile {
    fn default() -> Self {
        Self {
            url: None,
            name: None,
            expected: None,
            algo: HashAlgo::Sha256,
            executable: false,
            unpack: false,
            json: false,
            pretty: None,
        }
    }
}

impl FlagSink for PrefetchFile {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--name" => self.name = Some(values.next_text(flag)?),
            "--expected-hash" => self.expected = Some(values.next_text(flag)?),
            "--hash-type" => self.algo = parse_algo(&values.next_text(flag)?)?,
            "--executable" => self.executable = true,
            "--unpack" => self.unpack = true,
            "--json" => self.json = true,
            "--pretty" => self.pretty = Some(true),
            "--no-pretty" => self.pretty = Some(false),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        match self.url {
            None => self.url = Some(args::text("url", arg)?),
            Some(_) => {
                return Err(CliError::usage(format!("unexpected argument '{}'", arg.to_string_lossy())));
            }
        }
        Ok(())
    }
}

impl NixCommand for PrefetchFile {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let url = self.url.ok_or_else(|| CliError::usage("more arguments are required"))?;
        let expected = match &self.expected {
            Some(text) => {
                Some(Hash::parse_any(text, Some(self.algo)).map_err(|e| CliError::failed(e.to_string()))?)
            }
            None => None,
        };
        let wanted = Prefetch {
            url: url.clone(),
            name: self.name,
            algo: self.algo,
            expected,
            unpack: self.unpack,
            executable: self.executable,
        };
        let store = context.store()?;
        let fetcher = fetching::fetcher(context, store.clone())?;
        let got =
            context.block_on(fetcher.prefetch(&wanted))?.map_err(|e| CliError::failed(e.to_string()))?;
        let path = store.store_dir().display(&got.store_path);
        let hash = got.hash.to_sri();
        if self.json {
            let value = json!({ "hash": hash, "storePath": path });
            context.print_line(json_text(&value, self.pretty))?;
        } else {
            let text = format!("Downloaded '{url}' to '{path}' (hash '{hash}').");
            context.logger.log(Verbosity::Notice, text.as_bytes());
        }
        Ok(0)
    }
}
