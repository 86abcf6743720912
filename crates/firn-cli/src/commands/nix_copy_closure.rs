//! `nix-copy-closure`: closures to and from a machine by ssh.

use super::nix_store::follow_links;
use crate::args::{FlagSink, Values, text};
use crate::context::Start;
use crate::error::{CliError, CliResult};
use crate::stores;
use firn_store::activity::Verbosity;
use firn_store::{ClosureOptions, CopyOptions, compute_fs_closure, copy_paths};
use std::collections::BTreeSet;
use std::ffi::OsString;

/// The command as it was written.
#[derive(Default)]
struct Line {
    from: bool,
    gzip: bool,
    include_outputs: bool,
    dry_run: bool,
    substitute: bool,
    host: Option<String>,
    paths: Vec<OsString>,
    warnings: Vec<String>,
}

impl FlagSink for Line {
    fn flag(&mut self, flag: &str, _: &mut Values) -> CliResult<bool> {
        match flag {
            "--gzip" => self.gzip = true,
            "--bzip2" | "--xz" => {
                self.warnings.push(format!("'{flag}' is not implemented, falling back to gzip"));
                self.gzip = true;
            }
            "--from" => self.from = true,
            "--to" => self.from = false,
            "--include-outputs" => self.include_outputs = true,
            "--show-progress" => {
                self.warnings.push("'--show-progress' is not implemented".into());
            }
            "--dry-run" => self.dry_run = true,
            "--use-substitutes" | "-s" => self.substitute = true,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        match self.host {
            None => self.host = Some(text("host", arg)?),
            Some(_) => self.paths.push(arg),
        }
        Ok(())
    }
}

pub fn main(start: Start) -> CliResult<u8> {
    let mut line = Line::default();
    let context = start.parse(&mut line, HELP)?;
    for warning in &line.warnings {
        context.logger.warn(warning);
    }
    let Some(host) = &line.host else {
        return Err(CliError::usage("no host name specified"));
    };
    let uri = format!("ssh://{host}{}", if line.gzip { "?compress=true" } else { "" });
    let remote = stores::open(&uri, &context)?.store;
    let here = context.store()?;
    let (from, to) = if line.from { (remote, here) } else { (here, remote) };
    let mut roots = BTreeSet::new();
    for path in &line.paths {
        roots.insert(follow_links(from.store_dir(), path)?);
    }
    let options = ClosureOptions { include_outputs: line.include_outputs, ..ClosureOptions::default() };
    let closure = context.block_on(compute_fs_closure(&*from, &roots, options))??;
    if line.dry_run {
        let missing = context.block_on(to.query_valid_paths(&closure))??;
        for path in closure.difference(&missing) {
            let text = format!("would copy '{}' to '{}'", from.store_dir().display(path), to.uri());
            context.logger.log(Verbosity::Info, text.as_bytes());
        }
        return Ok(0);
    }
    let options =
        CopyOptions { check_signatures: false, substitute: line.substitute, ..CopyOptions::default() };
    context.block_on(copy_paths(&*from, &*to, &closure, options, &context.logger))??;
    Ok(0)
}

pub const HELP: &str = "
Usage: nix-copy-closure [--to | --from] [FLAGS...] [USER@]HOST PATHS...

Copies paths with all that they refer to, to a machine by ssh, or from it.

  --to, --from           the direction; to the machine where nothing is said
  --gzip                 compress what is sent
  --include-outputs      with derivations also their outputs
  --use-substitutes, -s  let the machine fetch what it can from its substituters
  --dry-run              only say what would be copied
";
