//! `nix store ls` and `nix store cat`.

use crate::args::{self, FlagSink, Values};
use crate::commands::nix::{NixCommand, json_text};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use serde_json::{Map, Value, json};
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// `nix store ls` as it was written.
#[derive(Default)]
pub struct Ls {
    path: Option<String>,
    json: bool,
    recursive: bool,
    long: bool,
    directory: bool,
}

impl FlagSink for Ls {
    fn flag(&mut self, flag: &str, _: &mut Values) -> CliResult<bool> {
        match flag {
            "--json" => self.json = true,
            "--pretty" | "--no-pretty" => {}
            "-R" | "--recursive" => self.recursive = true,
            "-l" | "--long" => self.long = true,
            "-d" | "--directory" => self.directory = true,
            _ => return Ok(false),
        }
        Ok(true)
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

/// Where the file in the store really is. No symlink on the way to it is followed.
fn locate(context: &Context, path: Option<&String>) -> CliResult<PathBuf> {
    let path = path.ok_or_else(|| CliError::usage("more arguments are required"))?;
    let store = context.store()?;
    let (store_path, rest) = store.store_dir().split(path).map_err(firn_store::StoreError::from)?;
    if !context.block_on(store.is_valid_path(&store_path))?? {
        let shown = store.store_dir().display(&store_path);
        return Err(CliError::failed(format!("path '{shown}' is not a valid store path")));
    }
    let local = store.as_local_fs().ok_or_else(|| store.unsupported("reading files"))?;
    let mut real = local.real_path(&store_path);
    let missing = || CliError::failed(format!("path '{path}' does not exist"));
    for component in rest.split('/').filter(|component| !matches!(*component, "" | ".")) {
        if component == ".." || !real.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return Err(missing());
        }
        real.push(component);
    }
    match real.symlink_metadata() {
        Ok(_) => Ok(real),
        Err(_) => Err(missing()),
    }
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
                if !(self.recursive && status.is_dir()) || self.directory {
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
        if !self.long {
            return context.print_line(shown);
        }
        let (kind, size) = if status.is_symlink() {
            ("lrwxrwxrwx", 0)
        } else if status.is_dir() {
            ("dr-xr-xr-x", 0)
        } else if status.permissions().mode() & 0o100 != 0 {
            ("-r-xr-xr-x", status.len())
        } else {
            ("-r--r--r--", status.len())
        };
        let mut line = format!("{kind} {size:>20} ").into_bytes();
        line.extend_from_slice(shown);
        if status.is_symlink() {
            let target = path.read_link().map_err(CliError::io("reading link", path))?;
            line.extend_from_slice(b" -> ");
            line.extend_from_slice(target.as_os_str().as_bytes());
        }
        context.print_line(line)
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
            let value = match self.recursive {
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
        if self.json && self.directory {
            return Err(CliError::usage("'--directory' is useless with '--json'"));
        }
        let path = locate(context, self.path.as_ref())?;
        if self.json {
            context.print_line(json_text(&self.listing(&path, 0)?, Some(false)))?;
            return Ok(0);
        }
        let given = self.path.as_deref().unwrap_or_default().trim_end_matches('/');
        let base = given.rsplit('/').next().unwrap_or_default();
        let shown = if metadata(&path)?.is_dir() { "." } else { base };
        self.show(context, &path, shown.as_bytes(), !self.directory)?;
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
        let path = locate(context, self.path.as_ref())?;
        if !metadata(&path)?.is_file() {
            let given = self.path.as_deref().unwrap_or_default();
            return Err(CliError::failed(format!("path '{given}' is not a regular file")));
        }
        let mut file = std::fs::File::open(&path).map_err(CliError::io("opening", &path))?;
        std::io::copy(&mut file, &mut std::io::stdout().lock()).map_err(CliError::io("copying", &path))?;
        Ok(0)
    }
}
