//! `nix nar …`: archives in files.

use super::NixCommand;
use crate::args::{FlagSink, Values};
use crate::commands::nix::listing::LsFlags;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_nar::fs::{DumpOptions, dump_path};
use firn_nar::listing::Listing;
use firn_nar::{Event, NarReader, Node};
use firn_store::StoreError;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufReader, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A file with an archive, and a path in it.
#[derive(Default)]
struct Place {
    nar: Option<PathBuf>,
    path: Option<OsString>,
}

impl Place {
    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        match self {
            Place { nar: None, .. } => self.nar = Some(arg.into()),
            Place { path: None, .. } => self.path = Some(arg),
            _ => return Err(CliError::usage(format!("unexpected argument '{}'", arg.to_string_lossy()))),
        }
        Ok(())
    }

    fn open(&self) -> CliResult<(NarReader<BufReader<File>>, Vec<&[u8]>)> {
        let (Some(nar), Some(path)) = (&self.nar, &self.path) else {
            return Err(CliError::usage("more arguments are required"));
        };
        let file = File::open(nar).map_err(CliError::io("opening NAR file", nar))?;
        let reader = NarReader::new(BufReader::with_capacity(256 * 1024, file));
        Ok((reader, components(path.as_bytes())))
    }

    fn path(&self) -> std::borrow::Cow<'_, str> {
        self.path.as_deref().unwrap_or_default().to_string_lossy()
    }
}

/// The names on the way to a file; `..` leads up by text and never out.
pub fn components(path: &[u8]) -> Vec<&[u8]> {
    let mut names = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    names
}

/// `nix nar ls` as it was written.
#[derive(Default)]
pub struct Ls {
    place: Place,
    flags: LsFlags,
}

impl FlagSink for Ls {
    fn flag(&mut self, flag: &str, _: &mut Values) -> CliResult<bool> {
        Ok(self.flags.flag(flag))
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.place.positional(arg)
    }
}

impl NixCommand for Ls {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        self.flags.check()?;
        let (mut reader, path) = self.place.open()?;
        let listing = Listing::read(&mut reader).map_err(StoreError::from)?;
        self.flags.show_listing(context, &listing, &path)?;
        Ok(0)
    }
}

/// `nix nar cat` as it was written.
#[derive(Default)]
pub struct Cat {
    place: Place,
}

impl FlagSink for Cat {
    fn flag(&mut self, _: &str, _: &mut Values) -> CliResult<bool> {
        Ok(false)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.place.positional(arg)
    }
}

impl NixCommand for Cat {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let (mut reader, path) = self.place.open()?;
        context.logger.pause();
        let found = copy_file(&mut reader, &path, &mut std::io::stdout().lock());
        context.logger.resume();
        match found? {
            true => Ok(0),
            false => {
                Err(CliError::failed(format!("NAR does not contain regular file '{}'", self.place.path())))
            }
        }
    }
}

/// Copies one file of an archive; all of the archive is read, so that a broken one is not taken for a good one.
pub fn copy_file<R: std::io::BufRead>(
    reader: &mut NarReader<R>,
    wanted: &[&[u8]],
    out: &mut impl Write,
) -> CliResult<bool> {
    let mut found = false;
    let mut here: Vec<Vec<u8>> = Vec::new();
    // The root has no name.
    let mut at_root = true;
    let failed = |error| CliError::Store(StoreError::from(error));
    while let Some(event) = reader.next_event().map_err(failed)? {
        let Event::Node { name, node } = event else {
            here.pop();
            continue;
        };
        let is_root = std::mem::take(&mut at_root);
        match node {
            Node::Directory if is_root => {}
            Node::Directory => here.push(name.to_vec()),
            Node::Symlink { .. } => {}
            Node::Regular { .. } => {
                let mut parts: Vec<&[u8]> = here.iter().map(Vec::as_slice).collect();
                if !is_root {
                    parts.push(name);
                }
                if parts == wanted {
                    found = true;
                    let copied =
                        reader.copy_contents(|chunk| out.write_all(chunk).map_err(firn_nar::NarError::Write));
                    copied.map_err(failed)?;
                }
            }
        }
    }
    out.flush().map_err(CliError::io("writing", "standard output"))?;
    Ok(found)
}

/// `nix nar pack` and its older name.
pub struct Pack {
    path: Option<PathBuf>,
    old_name: bool,
}

impl Pack {
    pub fn new(old_name: bool) -> Self {
        Self { path: None, old_name }
    }
}

impl FlagSink for Pack {
    fn flag(&mut self, _: &str, _: &mut Values) -> CliResult<bool> {
        Ok(false)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        if self.path.is_some() {
            return Err(CliError::usage(format!("unexpected argument '{}'", arg.to_string_lossy())));
        }
        self.path = Some(arg.into());
        Ok(())
    }
}

impl NixCommand for Pack {
    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        if self.old_name {
            context.logger.warn("'nix nar dump-path' is a deprecated alias for 'nix nar pack'");
        }
        let path = self.path.ok_or_else(|| CliError::usage("more arguments are required"))?;
        if std::io::stdout().is_terminal() {
            return Err(CliError::usage("refusing to write NAR to a terminal"));
        }
        let options = DumpOptions { undo_case_hack: context.settings.use_case_hack, filter: None };
        let out = crate::commands::nix_store::raw_stdout()?;
        dump_path(Path::new(&path), out, options).map_err(StoreError::from)?;
        Ok(0)
    }
}
