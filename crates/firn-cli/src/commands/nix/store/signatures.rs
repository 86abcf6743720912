//! `nix store sign` and `nix store verify`.

use crate::args::{self, FlagSink, Values};
use crate::commands::nix::NixCommand;
use crate::commands::nix::store_paths::{Realise, StorePathsArgs};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::stores;
use firn_core::signature::{PublicKey, SecretKey};
use firn_core::units::parse_integer;
use firn_core::{HashAlgo, HashFormat, StorePath, ValidPathInfo};
use firn_nar::HashSink;
use firn_settings::SettingsError;
use firn_store::activity::{Logger, Verbosity};
use firn_store::export::BlockingWriter;
use firn_store::{Store, StoreError, StoreResult};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

/// `nix store sign` as it was written.
#[derive(Default)]
pub struct Sign {
    what: StorePathsArgs,
    key_file: Option<PathBuf>,
}

impl FlagSink for Sign {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "-k" | "--key-file" => {
                let [file] = values.take(flag)?;
                self.key_file = Some(file.into());
            }
            _ => return self.what.flag(flag, values),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.what.positional(arg);
        Ok(())
    }
}

impl NixCommand for Sign {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        let file =
            self.key_file.ok_or_else(|| CliError::usage("required argument '--key-file' is missing"))?;
        let text = std::fs::read_to_string(&file).map_err(CliError::io("reading", &file))?;
        let key = SecretKey::parse(&text)
            .map_err(|error| CliError::failed(format!("secret key file '{}': {error}", file.display())))?;
        let store = context.store()?;
        let mut added = 0;
        for path in self.what.resolve(context, &*store, Realise::Nothing)? {
            let info = info(context, &*store, &path)?;
            let signature = key.sign(info.fingerprint(store.store_dir()).as_bytes());
            if !info.signatures.contains(&signature) {
                context.block_on(store.add_signatures(&path, &[signature].into()))??;
                added += 1;
            }
        }
        context.logger.log(Verbosity::Info, format!("added {added} signatures").as_bytes());
        Ok(0)
    }
}

fn info(context: &Context, store: &dyn Store, path: &StorePath) -> CliResult<Arc<ValidPathInfo>> {
    let invalid = || StoreError::InvalidPath { path: store.store_dir().display(path) };
    Ok(context.block_on(store.query_path_info(path))??.ok_or_else(invalid)?)
}

/// `nix store copy-sigs` as it was written.
#[derive(Default)]
pub struct CopySignatures {
    what: StorePathsArgs,
    substituters: Vec<String>,
}

impl FlagSink for CopySignatures {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "-s" | "--substituter" => {
                let [uri] = values.take(flag)?;
                self.substituters.push(args::text("store", uri)?);
            }
            _ => return self.what.flag(flag, values),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.what.positional(arg);
        Ok(())
    }
}

impl NixCommand for CopySignatures {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        if self.substituters.is_empty() {
            return Err(CliError::usage("you must specify at least one substituter using '-s'"));
        }
        let mut others = Vec::new();
        for uri in &self.substituters {
            others.push(stores::open(uri, context)?.store);
        }
        let store = context.store()?;
        let paths = self.what.resolve(context, &*store, Realise::Nothing)?;
        let all: BTreeSet<StorePath> = paths.iter().cloned().collect();
        let ours = context.block_on(store.query_path_infos(&all))??;
        let mut theirs = Vec::new();
        for other in &others {
            theirs.push(context.block_on(other.query_path_infos(&all))??);
        }
        let mut added = 0;
        for path in &paths {
            let Some(info) = ours.get(path) else {
                return Err(StoreError::InvalidPath { path: store.store_dir().display(path) }.into());
            };
            // Signatures of something else by that name are of no use.
            let same = |other: &&Arc<ValidPathInfo>| {
                other.nar_hash == info.nar_hash
                    && other.nar_size == info.nar_size
                    && other.references == info.references
            };
            let new: BTreeSet<String> = theirs
                .iter()
                .filter_map(|infos| infos.get(path))
                .filter(same)
                .flat_map(|other| other.signatures.difference(&info.signatures).cloned())
                .collect();
            if !new.is_empty() {
                context.block_on(store.add_signatures(path, &new))??;
                added += new.len();
            }
        }
        context.logger.log(Verbosity::Info, format!("imported {added} signatures").as_bytes());
        Ok(0)
    }
}

/// `nix store verify` as it was written.
#[derive(Default)]
pub struct Verify {
    what: StorePathsArgs,
    no_contents: bool,
    no_trust: bool,
    substituters: Vec<String>,
    needed: usize,
}

impl FlagSink for Verify {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--no-contents" => self.no_contents = true,
            "--no-trust" => self.no_trust = true,
            "-s" | "--substituter" => {
                let [uri] = values.take(flag)?;
                self.substituters.push(args::text("store", uri)?);
            }
            "-n" | "--sigs-needed" => {
                let [number] = values.take(flag)?;
                let number = parse_integer(&args::text(flag, number)?).map_err(SettingsError::from)?;
                self.needed = usize::try_from(number).map_err(|_| {
                    CliError::usage(format!("'{flag}' requires a number that is not negative"))
                })?;
            }
            _ => return self.what.flag(flag, values),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.what.positional(arg);
        Ok(())
    }
}

/// What checks of paths share.
struct Check {
    store: Arc<dyn Store>,
    others: Vec<Arc<dyn Store>>,
    keys: Vec<PublicKey>,
    contents: bool,
    trust: bool,
    needed: usize,
    logger: Arc<dyn Logger>,
}

/// Bits of the exit status.
const CORRUPT: u8 = 1;
const UNTRUSTED: u8 = 2;
const FAILED: u8 = 4;

impl NixCommand for Verify {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        let store = context.store()?;
        let paths = self.what.resolve(context, &*store, Realise::Nothing)?;
        let others =
            self.substituters.iter().map(|uri| stores::open(uri, context).map(|opened| opened.store));
        let check = Arc::new(Check {
            store,
            others: others.collect::<CliResult<_>>()?,
            keys: default_public_keys(context)?,
            contents: !self.no_contents,
            trust: !self.no_trust,
            needed: self.needed,
            logger: Arc::clone(&context.logger),
        });
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        context.block_on(async move {
            let mut running = tokio::task::JoinSet::new();
            let mut status = 0;
            for path in paths {
                if running.len() >= workers
                    && let Some(done) = running.join_next().await
                {
                    status |= done.unwrap_or(FAILED);
                }
                let check = Arc::clone(&check);
                running.spawn(async move { check.path(&path).await });
            }
            while let Some(done) = running.join_next().await {
                status |= done.unwrap_or(FAILED);
            }
            Ok(status)
        })?
    }
}

impl Check {
    async fn path(&self, path: &StorePath) -> u8 {
        self.try_path(path).await.unwrap_or_else(|error| {
            self.logger.log(Verbosity::Error, format!("error: {error}").as_bytes());
            FAILED
        })
    }

    async fn try_path(&self, path: &StorePath) -> StoreResult<u8> {
        let shown = self.store.store_dir().display(path);
        let info = self.store.query_path_info(path).await?;
        let info = info.ok_or_else(|| StoreError::InvalidPath { path: shown.clone() })?;
        self.logger.log(Verbosity::Info, format!("checking '{shown}'...").as_bytes());
        let mut status = 0;
        if self.contents {
            let mut sink = BlockingWriter(HashSink::new(HashAlgo::Sha256));
            self.store.nar_from_path(path, &mut sink).await?;
            let (hash, _) = sink.0.finish();
            if hash != info.nar_hash {
                status |= CORRUPT;
                let message = format!(
                    "path '{shown}' was modified! expected hash '{}', got '{}'",
                    info.nar_hash.to_prefixed(HashFormat::Nix32),
                    hash.to_prefixed(HashFormat::Nix32)
                );
                self.logger.log(Verbosity::Error, message.as_bytes());
            }
        }
        if self.trust && !(info.ultimate && self.needed == 0) && !self.is_signed(&info).await? {
            status |= UNTRUSTED;
            self.logger.log(Verbosity::Error, format!("path '{shown}' is untrusted").as_bytes());
        }
        Ok(status)
    }

    /// Whether enough keys vouch for the path, here or in other stores.
    async fn is_signed(&self, info: &ValidPathInfo) -> StoreResult<bool> {
        let dir = self.store.store_dir();
        if info.is_content_addressed(dir) {
            return Ok(true);
        }
        let fingerprint = info.fingerprint(dir);
        let mut seen = BTreeSet::new();
        let mut count = |signatures: &BTreeSet<String>| {
            let fresh = signatures.iter().filter(|signature| seen.insert((*signature).clone()));
            fresh.filter(|s| self.keys.iter().any(|key| key.verifies(fingerprint.as_bytes(), s))).count()
        };
        let needed = self.needed.max(1);
        let mut valid = count(&info.signatures);
        for other in &self.others {
            if valid >= needed {
                break;
            }
            match other.query_path_info(&info.path).await {
                Ok(Some(there)) if there.is_content_addressed(dir) => return Ok(true),
                Ok(Some(there)) => valid += count(&there.signatures),
                Ok(None) => {}
                Err(error) => self.logger.log(Verbosity::Error, format!("error: {error}").as_bytes()),
            }
        }
        Ok(valid >= needed)
    }
}

/// The keys of `trusted-public-keys`, and the public halves of our own keys.
pub fn default_public_keys(context: &Context) -> CliResult<Vec<PublicKey>> {
    let settings = &context.settings;
    let mut keys = Vec::new();
    for key in &settings.trusted_public_keys {
        let parsed = PublicKey::parse(key);
        keys.push(
            parsed.map_err(|error| {
                CliError::failed(format!("setting 'trusted-public-keys': '{key}': {error}"))
            })?,
        );
    }
    for file in &settings.secret_key_files {
        // Often only the daemon may read them.
        let Ok(text) = std::fs::read_to_string(file) else { continue };
        let key = SecretKey::parse(&text);
        keys.push(key.map_err(|e| CliError::failed(format!("secret key file '{file}': {e}")))?.public());
    }
    Ok(keys)
}
