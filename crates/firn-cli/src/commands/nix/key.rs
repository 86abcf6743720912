//! `nix key`.

use super::NixCommand;
use crate::args::{FlagSink, Values, text};
use crate::commands::random_seed;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_core::signature::SecretKey;
use std::io::Read;

/// Longer input is no key.
const MAX_KEY: u64 = 1 << 16;

/// `nix key generate-secret` as it was written.
#[derive(Default)]
pub struct GenerateSecret {
    name: Option<String>,
}

impl FlagSink for GenerateSecret {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        if flag != "--key-name" {
            return Ok(false);
        }
        let [name] = values.take(flag)?;
        self.name = Some(text("key name", name)?);
        Ok(true)
    }
}

impl NixCommand for GenerateSecret {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let name = self.name.ok_or_else(|| CliError::usage("required argument '--key-name' is missing"))?;
        context.print(SecretKey::from_seed(&name, &random_seed()?).render().as_bytes())?;
        Ok(0)
    }
}

/// `nix key convert-secret-to-public`.
#[derive(Default)]
pub struct ConvertSecretToPublic;

impl FlagSink for ConvertSecretToPublic {
    fn flag(&mut self, _: &str, _: &mut Values) -> CliResult<bool> {
        Ok(false)
    }
}

impl NixCommand for ConvertSecretToPublic {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let mut input = String::new();
        let read = std::io::stdin().lock().take(MAX_KEY).read_to_string(&mut input);
        read.map_err(CliError::io("reading", "standard input"))?;
        let key = SecretKey::parse(&input).map_err(|error| CliError::failed(error.to_string()))?;
        context.print(key.public().render().as_bytes())?;
        Ok(0)
    }
}
