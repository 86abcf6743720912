//! `nix store ls` and `nix store cat`.

use crate::args::{self, FlagSink, Values};
use crate::commands::nix::archives::{Archive, read_archive};
use crate::commands::nix::listing::{LsFlags, Shown};
use crate::commands::nix::nar::{components, copy_file};
use crate::commands::nix::{NixCommand, json_text};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_core::StorePath;
use firn_nar::listing::Listing;
use firn_store::Store;
use serde_json::{Map, Value, json};
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `nix store ls` as it was written.
#[derive(Default)]
pub struct Ls {
    path: Option<String>,
    flags: LsFlags,
}

impl FlagSink for Ls {
    fn flag(&mut self, flag: &str, _: &mut Values) -> CliResult<bool> {
        Ok(self.flags.flag(flag))
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        one_path(&mut self.path, arg)
    }
}

fn one_path(path: &mut Option<String>, arg: OsString) -> CliResult<()> {
    let arg = args::text("path", arg)?;
    match path {
        None => *path = Some(arg),
        Some(_) => return Err(CliError::usage(format!("unexpected argument '{arg}'"))),
    }
    Ok(())
}

/// A file in a store object.
struct Located {
    store: Arc<dyn Store>,
    object: StorePath,
    /// Below the object.
    names: Vec<Vec<u8>>,
    /// Where it is on this machine, if it is there.
    real: Option<PathBuf>,
}

/// Finds the file. No symlink on the way to it is followed.
fn locate(context: &Context, path: Option<&String>) -> CliResult<Located> {
    let path = path.ok_or_else(|| CliError::usage("more arguments are required"))?;
    let store = context.store()?;
    let (object, rest) = store.store_dir().split(path).map_err(firn_store::StoreError::from)?;
    if !context.block_on(store.is_valid_path(&object))?? {
        let shown = store.store_dir().display(&object);
        return Err(CliError::failed(format!("path '{shown}' is not a valid store path")));
    }
    let names: Vec<Vec<u8>> = components(rest.as_bytes()).into_iter().map(<[u8]>::to_vec).collect();
    let mut real = store.as_local_fs().map(|local| local.real_path(&object));
    if let Some(real) = &mut real {
        let missing = || CliError::failed(format!("path '{path}' does not exist"));
        for name in &names {
            if !real.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
                return Err(missing());
            }
            real.push(OsStr::from_bytes(name));
        }
        if real.symlink_metadata().is_err() {
            return Err(missing());
        }
    }
    Ok(Located { store, object, names, real })
}

fn metadata(path: &Path) -> CliResult<Metadata> {
    path.symlink_metadata().map_err(CliError::io("getting status of", path))
}

fn names(path: &Path) -> CliResult<Vec<OsString>> {
    let failed = |error| CliError::io("reading directory", path)(error);
    let mut names = Vec::new();
    for entry in path.read_dir().map_err(failed)? {
        names.push(entry.map_err(CliError::io("reading directory", path))?.file_name());
    }
    names.sort();
    Ok(names)
}

impl Ls {
    fn show(&self, context: &Context, path: &Path, shown: &[u8], contents: bool) -> CliResult<()> {
        let status = metadata(path)?;
        // Directories below wait here, so that depth costs no stack.
        let mut waiting = vec![(path.to_path_buf(), shown.to_vec(), contents && status.is_dir())];
        while let Some((path, shown, list)) = waiting.pop() {
            let status = metadata(&path)?;
            if !list {
                self.line(context, &path, &status, &shown)?;
                if !(self.flags.recursive && status.is_dir()) || self.flags.directory {
                    continue;
                }
            }
            for name in names(&path)?.iter().rev() {
                let shown = [&shown, b"/".as_slice(), name.as_bytes()].concat();
                waiting.push((path.join(name), shown, false));
            }
        }
        Ok(())
    }

    fn line(&self, context: &Context, path: &Path, status: &Metadata, shown: &[u8]) -> CliResult<()> {
        let target;
        let file = if status.is_symlink() {
            target = path.read_link().map_err(CliError::io("reading link", path))?;
            Shown::Symlink { target: target.as_os_str().as_bytes() }
        } else if status.is_dir() {
            Shown::Directory
        } else {
            let executable = status.permissions().mode() & 0o100 != 0;
            Shown::Regular { executable, size: status.len() }
        };
        context.print(&self.flags.line(&file, shown))
    }

    fn listing(&self, path: &Path, depth: usize) -> CliResult<Value> {
        let status = metadata(path)?;
        if status.is_symlink() {
            let target = path.read_link().map_err(CliError::io("reading link", path))?;
            return Ok(json!({ "target": target.to_string_lossy(), "type": "symlink" }));
        }
        if !status.is_dir() {
            let mut value = json!({ "size": status.len(), "type": "regular" });
            if status.permissions().mode() & 0o100 != 0 {
                value["executable"] = json!(true);
            }
            return Ok(value);
        }
        // Paths in a file system are at most 4096 bytes long, so this is far beyond any depth.
        if depth > 2048 {
            return Err(CliError::failed(format!("directories below '{}' nest too deeply", path.display())));
        }
        let mut entries = Map::new();
        for name in names(path)? {
            let value = match self.flags.recursive {
                true => self.listing(&path.join(&name), depth + 1)?,
                false => json!({}),
            };
            entries.insert(name.to_string_lossy().into_owned(), value);
        }
        Ok(json!({ "entries": entries, "type": "directory" }))
    }
}

impl NixCommand for Ls {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        self.flags.check()?;
        let found = locate(context, self.path.as_ref())?;
        let Some(path) = &found.real else {
            let names: Vec<&[u8]> = found.names.iter().map(Vec::as_slice).collect();
            let listing = read_archive(context, &*found.store, &found.object, Listing::read)?;
            self.flags.show_listing(context, &listing, &names)?;
            return Ok(0);
        };
        if self.flags.json {
            context.print_line(json_text(&self.listing(path, 0)?, Some(false)))?;
            return Ok(0);
        }
        let given = self.path.as_deref().unwrap_or_default().trim_end_matches('/');
        let base = given.rsplit('/').next().unwrap_or_default();
        let shown = if metadata(path)?.is_dir() { "." } else { base };
        self.show(context, path, shown.as_bytes(), !self.flags.directory)?;
        Ok(0)
    }
}

/// `nix store cat` as it was written.
#[derive(Default)]
pub struct Cat {
    path: Option<String>,
}

impl FlagSink for Cat {
    fn flag(&mut self, _: &str, _: &mut Values) -> CliResult<bool> {
        Ok(false)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        one_path(&mut self.path, arg)
    }
}

impl NixCommand for Cat {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let found = locate(context, self.path.as_ref())?;
        let given = self.path.as_deref().unwrap_or_default();
        let not_regular = || CliError::failed(format!("path '{given}' is not a regular file"));
        let Some(path) = &found.real else {
            let names: Vec<&[u8]> = found.names.iter().map(Vec::as_slice).collect();
            let listing = read_archive(context, &*found.store, &found.object, Listing::read)?;
            let file = listing.find(names.iter().copied());
            let file = file.ok_or_else(|| CliError::failed(format!("path '{given}' does not exist")))?;
            if !matches!(file, Listing::Regular { .. }) {
                return Err(not_regular());
            }
            let copy = |archive: &mut Archive| Ok(copy_file(archive, &names, &mut std::io::stdout()));
            read_archive(context, &*found.store, &found.object, copy)??;
            return Ok(0);
        };
        if !metadata(path)?.is_file() {
            return Err(not_regular());
        }
        let mut file = std::fs::File::open(path).map_err(CliError::io("opening", path))?;
        std::io::copy(&mut file, &mut std::io::stdout().lock()).map_err(CliError::io("copying", path))?;
        Ok(0)
    }
}
