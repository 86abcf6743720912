//! `nix-collect-garbage`.

use super::nix_store::{Report, collect, gc_options};
use crate::args::{FlagSink, Values};
use crate::context::{Context, Start};
use crate::error::{CliError, CliResult};
use crate::local_time::seconds_now;
use firn_profile::selection::older_than;
use firn_profile::{Selection, dirs, generations};
use firn_store::GcAction;
use firn_store::activity::Verbosity;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub const HELP: &str = "
Usage: nix-collect-garbage [-d | --delete-older-than DAYS] [--dry-run] [--max-freed BYTES]

Deletes store paths that no root needs.

  -d, --delete-old   first delete all old generations of all profiles
  --delete-older-than Nd
                     first delete generations that were not current any more N days ago
  --dry-run          only say how many would be deleted
  --max-freed BYTES  stop after that much; K, M, G and T are units
";

#[derive(Default)]
struct Line {
    dry_run: bool,
    max_freed: Option<u64>,
    /// Delete generations first: all old ones, or those older than some days (`30d`).
    delete_old: bool,
    older_than: Option<String>,
}

impl FlagSink for Line {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--dry-run" => self.dry_run = true,
            "--max-freed" => {
                let bytes = firn_core::units::parse_integer(&values.next_text(flag)?);
                let bytes =
                    bytes.map_err(|_| CliError::usage(format!("'{flag}' requires an integer argument")))?;
                self.max_freed = Some(u64::try_from(bytes.max(0)).unwrap_or(u64::MAX));
            }
            "-d" | "--delete-old" => self.delete_old = true,
            "--delete-older-than" => {
                self.delete_old = true;
                self.older_than = Some(values.next_text(flag)?).filter(|days| !days.is_empty());
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

pub fn main(start: Start) -> CliResult<u8> {
    let mut line = Line::default();
    let context = start.parse(&mut line, HELP)?;
    if line.max_freed.is_some() && line.dry_run {
        return Err(CliError::usage("options --max-freed and --dry-run cannot be combined"));
    }
    if line.delete_old {
        delete_old_generations(&context, &line)?;
        if !line.dry_run && line.older_than.is_none() {
            crate::memory::forget_all(&context);
        }
    }
    let action = if line.dry_run { GcAction::ReturnDead } else { GcAction::DeleteDead };
    let mut options = gc_options(action);
    options.max_freed = line.max_freed.unwrap_or(u64::MAX);
    collect(&context, &options, Report::Counted)
}

/// Deletes old generations of all profiles in the user's and the system's folders of profiles.
fn delete_old_generations(context: &Context, line: &Line) -> CliResult<()> {
    let settings = &context.settings;
    let selection = match &line.older_than {
        Some(days) => Selection::OlderThan(older_than(days, seconds_now())?),
        None => Selection::Old,
    };
    let mut folders: BTreeSet<PathBuf> =
        [dirs::profiles(settings)?, settings.dirs.state.join("profiles")].into();
    folders.extend(dirs::default_profile(settings)?.parent().map(Path::to_owned));
    let say = |text: &str| context.logger.log(Verbosity::Notice, text.as_bytes());
    for folder in folders {
        for profile in dirs::profiles_below(&folder)? {
            let text = format!("removing old generations of profile {}", profile.display());
            context.logger.log(Verbosity::Info, text.as_bytes());
            generations::delete(&profile, &selection, line.dry_run, &say)?;
        }
    }
    Ok(())
}
