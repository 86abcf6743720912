//! How files of archives and of store objects are listed.

use crate::commands::nix::json_text;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_nar::listing::Listing;
use serde_json::{Map, Value, json};

/// The flags of `ls`.
#[derive(Default)]
pub struct LsFlags {
    pub json: bool,
    pub recursive: bool,
    pub long: bool,
    pub directory: bool,
}

/// What a line shows of a file.
pub enum Shown<'a> {
    Regular { executable: bool, size: u64 },
    Symlink { target: &'a [u8] },
    Directory,
}

impl LsFlags {
    /// Handles `flag` if it is one of these.
    pub fn flag(&mut self, flag: &str) -> bool {
        match flag {
            "--json" => self.json = true,
            "--pretty" | "--no-pretty" => {}
            "-R" | "--recursive" => self.recursive = true,
            "-l" | "--long" => self.long = true,
            "-d" | "--directory" => self.directory = true,
            _ => return false,
        }
        true
    }

    pub fn check(&self) -> CliResult<()> {
        match self.json && self.directory {
            true => Err(CliError::usage("'--directory' is useless with '--json'")),
            false => Ok(()),
        }
    }

    /// One line of the text form.
    pub fn line(&self, file: &Shown<'_>, name: &[u8]) -> Vec<u8> {
        if !self.long {
            return [name, b"\n"].concat();
        }
        let (kind, size) = match file {
            Shown::Symlink { .. } => ("lrwxrwxrwx", 0),
            Shown::Directory => ("dr-xr-xr-x", 0),
            Shown::Regular { executable: true, size } => ("-r-xr-xr-x", *size),
            Shown::Regular { executable: false, size } => ("-r--r--r--", *size),
        };
        let mut line = format!("{kind} {size:>20} ").into_bytes();
        line.extend_from_slice(name);
        if let Shown::Symlink { target } = file {
            line.extend_from_slice(b" -> ");
            line.extend_from_slice(target);
        }
        line.push(b'\n');
        line
    }

    /// Shows the file at `path` in an archive's table of contents.
    pub fn show_listing(&self, context: &Context, root: &Listing, path: &[&[u8]]) -> CliResult<()> {
        let Some(file) = root.find(path.iter().copied()) else {
            let path = String::from_utf8_lossy(&path.join(&b'/')).into_owned();
            return Err(CliError::failed(format!("path '/{path}' does not exist")));
        };
        if self.json {
            return context.print_line(json_text(&self.json_of(file, true), Some(false)));
        }
        let is_directory = matches!(file, Listing::Directory { .. });
        let name: &[u8] = if is_directory { b"." } else { path.last().copied().unwrap_or_default() };
        let mut out = Vec::new();
        // Archives nest 64 deep at most.
        self.lines(file, name, is_directory && !self.directory, &mut out);
        context.print(&out)
    }

    fn lines(&self, file: &Listing, name: &[u8], contents: bool, out: &mut Vec<u8>) {
        if !contents {
            out.extend_from_slice(&self.line(&shown(file), name));
            if !self.recursive {
                return;
            }
        }
        if let Listing::Directory { entries } = file {
            for (entry, file) in entries {
                self.lines(file, &[name, b"/", entry].concat(), false, out);
            }
        }
    }

    fn json_of(&self, file: &Listing, contents: bool) -> Value {
        match file {
            Listing::Symlink { target } => {
                json!({ "target": String::from_utf8_lossy(target), "type": "symlink" })
            }
            Listing::Regular { executable, size, offset } => {
                let mut value = json!({ "narOffset": offset, "size": size, "type": "regular" });
                if *executable {
                    value["executable"] = json!(true);
                }
                value
            }
            Listing::Directory { entries } => {
                let mut all = Map::new();
                for (name, file) in entries.iter().filter(|_| contents) {
                    let value = if self.recursive { self.json_of(file, true) } else { json!({}) };
                    all.insert(String::from_utf8_lossy(name).into_owned(), value);
                }
                json!({ "entries": all, "type": "directory" })
            }
        }
    }
}

fn shown(file: &Listing) -> Shown<'_> {
    match file {
        Listing::Regular { executable, size, .. } => Shown::Regular { executable: *executable, size: *size },
        Listing::Symlink { target } => Shown::Symlink { target },
        Listing::Directory { .. } => Shown::Directory,
    }
}
