//! `nix-collect-garbage`.

use super::nix_store::{Report, collect, gc_options};
use crate::args::{FlagSink, Values};
use crate::context::Start;
use crate::error::{CliError, CliResult};
use firn_store::GcAction;

const HELP: &str = "
Usage: nix-collect-garbage [--dry-run] [--max-freed BYTES]

Deletes store paths that no root needs.

  --dry-run          only say how many would be deleted
  --max-freed BYTES  stop after that much; K, M, G and T are units
";

#[derive(Default)]
struct Line {
    dry_run: bool,
    max_freed: Option<u64>,
}

impl FlagSink for Line {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--dry-run" => self.dry_run = true,
            "--max-freed" => {
                let bytes = firn_settings::parse_integer(&values.next_text(flag)?);
                let bytes =
                    bytes.map_err(|_| CliError::usage(format!("'{flag}' requires an integer argument")))?;
                self.max_freed = Some(u64::try_from(bytes.max(0)).unwrap_or(u64::MAX));
            }
            "-d" | "--delete-old" | "--delete-older-than" => {
                return Err(CliError::failed(format!(
                    "flag '{flag}' is not supported yet by this version of firn: profiles are missing; \
                     see COMPATIBILITY.md"
                )));
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
    let action = if line.dry_run { GcAction::ReturnDead } else { GcAction::DeleteDead };
    let mut options = gc_options(action);
    options.max_freed = line.max_freed.unwrap_or(u64::MAX);
    collect(&context, &options, Report::Counted)
}
