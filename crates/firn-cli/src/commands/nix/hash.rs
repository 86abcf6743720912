//! `nix hash …`.

use super::NixCommand;
use crate::args::{FlagSink, Values, text};
use crate::commands::hashing::{Mode, hash_path, parse_algo, parse_hash};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_core::base::nix32_len;
use firn_core::{HashAlgo, HashFormat};
use std::ffi::OsString;

/// `nix hash path` and `nix hash file`.
pub struct HashPaths {
    mode: Mode,
    /// `path` has newer flags that `file` has not.
    is_path: bool,
    format: HashFormat,
    algo: HashAlgo,
    warnings: Vec<&'static str>,
    paths: Vec<OsString>,
}

impl HashPaths {
    pub fn path() -> Self {
        Self { mode: Mode::Nar, is_path: true, ..Self::file() }
    }

    pub fn file() -> Self {
        Self {
            mode: Mode::Flat,
            is_path: false,
            format: HashFormat::Sri,
            algo: HashAlgo::Sha256,
            warnings: Vec::new(),
            paths: Vec::new(),
        }
    }
}

impl FlagSink for HashPaths {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        let mut value = || -> CliResult<String> {
            let [value] = values.take(flag)?;
            text(flag, value)
        };
        match flag {
            "--sri" => self.format = HashFormat::Sri,
            "--base64" => self.format = HashFormat::Base64,
            "--base32" => self.format = HashFormat::Nix32,
            "--base16" => self.format = HashFormat::Base16,
            "--type" => self.algo = parse_algo(&value()?)?,
            "--algo" if self.is_path => self.algo = parse_algo(&value()?)?,
            "--format" if self.is_path => self.format = parse_format(&value()?, &mut self.warnings)?,
            "--mode" if self.is_path => {
                self.mode = match value()?.as_str() {
                    "flat" => Mode::Flat,
                    "nar" => Mode::Nar,
                    "git" => Mode::Git,
                    other => {
                        return Err(CliError::usage(format!(
                            "unknown file ingestion method '{other}', expect `flat`, `nar`, or `git`"
                        )));
                    }
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.paths.push(arg);
        Ok(())
    }
}

impl NixCommand for HashPaths {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        self.warnings.iter().for_each(|warning| context.logger.warn(warning));
        for path in &self.paths {
            let hash = hash_path(context, path, self.algo, self.mode)?;
            context.print_line(hash.to_base(self.format))?;
        }
        Ok(0)
    }
}

/// `nix hash to-base16` and the like.
pub struct ToBase {
    format: HashFormat,
    algo: Option<HashAlgo>,
    hashes: Vec<OsString>,
}

impl ToBase {
    pub fn new(format: HashFormat) -> Self {
        Self { format, algo: None, hashes: Vec::new() }
    }
}

impl FlagSink for ToBase {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        if flag != "--type" {
            return Ok(false);
        }
        let [value] = values.take(flag)?;
        self.algo = Some(parse_algo(&text(flag, value)?)?);
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.hashes.push(arg);
        Ok(())
    }
}

impl NixCommand for ToBase {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        context.logger.warn(
            "The old format conversion subcommands of `nix hash` were deprecated in favor of `nix hash convert`.",
        );
        for hash in &self.hashes {
            context.print_line(parse_hash(hash, self.algo)?.to_base(self.format))?;
        }
        Ok(0)
    }
}

/// `nix hash convert`.
#[derive(Default)]
pub struct Convert {
    from: Option<HashFormat>,
    to: Option<HashFormat>,
    algo: Option<HashAlgo>,
    warnings: Vec<&'static str>,
    hashes: Vec<OsString>,
}

impl FlagSink for Convert {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        if !matches!(flag, "--from" | "--to" | "--hash-algo") {
            return Ok(false);
        }
        let [value] = values.take(flag)?;
        let value = text(flag, value)?;
        match flag {
            "--from" => self.from = Some(parse_format(&value, &mut self.warnings)?),
            "--to" => self.to = Some(parse_format(&value, &mut self.warnings)?),
            _ => self.algo = Some(parse_algo(&value)?),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.hashes.push(arg);
        Ok(())
    }
}

impl NixCommand for Convert {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        self.warnings.iter().for_each(|warning| context.logger.warn(warning));
        for arg in &self.hashes {
            let hash = parse_hash(arg, self.algo)?;
            let shown = arg.to_string_lossy();
            let found = format_of(&shown, hash.algo());
            if let Some(from) = self.from
                && from != found
            {
                return Err(CliError::failed(format!(
                    "input hash '{shown}' has format '{}', but '--from {}' was specified",
                    format_name(found),
                    format_name(from)
                )));
            }
            context.print_line(hash.to_base(self.to.unwrap_or(HashFormat::Sri)))?;
        }
        Ok(0)
    }
}

/// The format of a text that was parsed as a hash of `algo`.
fn format_of(text: &str, algo: HashAlgo) -> HashFormat {
    let digest = match text.split_once(':') {
        Some((_, digest)) => digest,
        None if text.contains('-') => return HashFormat::Sri,
        None => text,
    };
    match digest.len() {
        n if n == algo.size() * 2 => HashFormat::Base16,
        n if n == nix32_len(algo.size()) => HashFormat::Nix32,
        _ => HashFormat::Base64,
    }
}

fn format_name(format: HashFormat) -> &'static str {
    match format {
        HashFormat::Base16 => "base16",
        HashFormat::Nix32 => "nix32",
        HashFormat::Base64 => "base64",
        HashFormat::Sri => "sri",
    }
}

fn parse_format(name: &str, warnings: &mut Vec<&'static str>) -> CliResult<HashFormat> {
    if name == "base32" {
        warnings.push("\"base32\" is a deprecated alias for hash format \"nix32\".");
    }
    HashFormat::parse_opt(name).ok_or_else(|| {
        CliError::usage(format!(
            "unknown hash format '{name}', expect 'base16', 'base32', 'base64', or 'sri'"
        ))
    })
}
