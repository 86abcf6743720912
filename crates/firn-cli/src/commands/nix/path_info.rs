//! `nix path-info`.

use super::NixCommand;
use super::store_paths::{Realise, StorePathsArgs};
use crate::args::{FlagSink, Values};
use crate::commands::nix_store::render_size;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_core::{NarInfo, StorePath, ValidPathInfo};
use firn_store::{ClosureOptions, Store, compute_fs_closure};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::ffi::OsString;

/// The command as it was written.
#[derive(Default)]
pub struct PathInfo {
    what: StorePathsArgs,
    size: bool,
    closure_size: bool,
    human_readable: bool,
    signatures: bool,
    json: bool,
    pretty: Option<bool>,
    /// 1 or 2.
    format: Option<u8>,
}

impl FlagSink for PathInfo {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "-s" | "--size" => self.size = true,
            "-S" | "--closure-size" => self.closure_size = true,
            "-h" | "--human-readable" => self.human_readable = true,
            "--sigs" => self.signatures = true,
            "--json" => self.json = true,
            "--pretty" => self.pretty = Some(true),
            "--no-pretty" => self.pretty = Some(false),
            "--json-format" => {
                let [format] = values.take(flag)?;
                self.format = match format.to_str() {
                    Some("1") => Some(1),
                    Some("2") => Some(2),
                    _ => {
                        let shown = format.to_string_lossy().into_owned();
                        return Err(CliError::failed(format!(
                            "unsupported path info JSON format version {shown}; supported versions are 1 and 2"
                        )));
                    }
                };
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

impl PathInfo {
    fn as_json(&self, context: &Context, store: &dyn Store, paths: &[StorePath]) -> CliResult<Value> {
        let format = match self.format {
            Some(format) => format,
            None => {
                context.logger.warn(
                    "'--json' without '--json-format' is deprecated; please specify '--json-format 1' or \
                     '--json-format 2'. This will become an error in a future release.",
                );
                1
            }
        };
        context.prefetch(store, paths)?;
        let dir = store.store_dir();
        let mut all = Map::new();
        for path in paths {
            let key = if format == 1 { dir.display(path) } else { path.base_name().to_owned() };
            let value = match context.block_on(store.query_path_info(path))?? {
                None => Value::Null,
                Some(info) => {
                    let mut value = info_json(store, &info, format);
                    if let Some(nar) = context.block_on(store.query_nar_info(path))?? {
                        add_file(&mut value, &nar);
                    }
                    if self.closure_size {
                        value["closureSize"] = json!(closure_size(context, store, path)?);
                    }
                    value
                }
            };
            all.insert(key, value);
        }
        Ok(match format {
            1 => Value::Object(all),
            _ => json!({ "version": format, "storeDir": dir.as_str(), "info": all }),
        })
    }

    fn line(
        &self,
        context: &Context,
        store: &dyn Store,
        path: &StorePath,
        width: usize,
    ) -> CliResult<String> {
        let shown = store.store_dir().display(path);
        let info = context.block_on(store.query_path_info(path))??;
        let info = info.ok_or_else(|| CliError::failed(format!("path '{shown}' is not valid")))?;
        let mut line = shown;
        if self.size || self.closure_size || self.signatures {
            line = format!("{line:width$}");
        }
        let mut push_size = |size: u64| {
            line.push_str(&match self.human_readable {
                true => format!("\t{:>10}", render_size(size)),
                false => format!("\t{size:>11}"),
            });
        };
        if self.size {
            push_size(info.nar_size);
        }
        if self.closure_size {
            push_size(closure_size(context, store, path)?);
        }
        if self.signatures {
            let mut words = Vec::new();
            if info.ultimate {
                words.push("ultimate".to_owned());
            }
            words.extend(info.ca.as_ref().map(|ca| format!("ca:{ca}")));
            words.extend(info.signatures.iter().cloned());
            line.push('\t');
            line.push_str(&words.join(" "));
        }
        Ok(line)
    }
}

impl NixCommand for PathInfo {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        let store = context.store()?;
        let paths = self.what.resolve(context, &*store, Realise::Nothing)?;
        if self.json {
            let value = self.as_json(context, &*store, &paths)?;
            context.print_line(super::json_text(&value, self.pretty))?;
            return Ok(0);
        }
        let width = paths.iter().map(|path| store.store_dir().display(path).len()).max().unwrap_or(0);
        let mut lines = String::new();
        for path in &paths {
            lines += &self.line(context, &*store, path, width)?;
            lines.push('\n');
            if lines.len() > 1 << 16 {
                context.print(std::mem::take(&mut lines).as_bytes())?;
            }
        }
        context.print(lines.as_bytes())?;
        Ok(0)
    }
}

fn closure(
    context: &Context,
    store: &dyn Store,
    roots: BTreeSet<StorePath>,
) -> CliResult<BTreeSet<StorePath>> {
    Ok(context.block_on(compute_fs_closure(store, &roots, ClosureOptions::default()))??)
}

fn closure_size(context: &Context, store: &dyn Store, path: &StorePath) -> CliResult<u64> {
    let mut total = 0;
    for path in closure(context, store, [path.clone()].into())? {
        let info = context.block_on(store.query_path_info(&path))??;
        total += info.map_or(0, |info| info.nar_size);
    }
    Ok(total)
}

/// What a binary cache says of the file that holds the archive.
fn add_file(value: &mut Value, nar: &NarInfo) {
    value["url"] = json!(nar.url);
    value["compression"] = json!(nar.compression);
    if let Some(hash) = &nar.file_hash {
        value["downloadHash"] = json!(hash.to_sri());
    }
    if let Some(size) = nar.file_size {
        value["downloadSize"] = json!(size);
    }
}

/// Version 1 has full paths and texts, version 2 base names and objects.
fn info_json(store: &dyn Store, info: &ValidPathInfo, format: u8) -> Value {
    let dir = store.store_dir();
    let name = |path: &StorePath| if format == 1 { dir.display(path) } else { path.base_name().to_owned() };
    let ca = match &info.ca {
        None => Value::Null,
        Some(ca) if format == 1 => json!(ca.to_string()),
        Some(ca) => json!({ "method": ca.method.name(), "hash": ca.hash.to_sri() }),
    };
    json!({
        "ca": ca,
        "deriver": info.deriver.as_ref().map(name),
        "narHash": info.nar_hash.to_sri(),
        "narSize": info.nar_size,
        "references": info.references.iter().map(name).collect::<Vec<_>>(),
        "registrationTime": Some(info.registration_time).filter(|time| *time != 0),
        "signatures": info.signatures,
        "storeDir": dir.as_str(),
        "ultimate": info.ultimate,
        "version": format,
    })
}
