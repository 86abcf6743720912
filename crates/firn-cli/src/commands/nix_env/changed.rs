//! With `--verbose`: what a new generation of the profile changed, as a table.

use super::{Line, source};
use crate::commands::nix::changes_table;
use crate::context::Context;
use crate::error::CliResult;
use firn_core::StorePath;
use firn_store::activity::Verbosity;
use std::path::{Path, PathBuf};

/// The profile before an operation.
pub struct Before {
    /// Nothing if nobody wants to know.
    profile: Option<PathBuf>,
    was: Option<StorePath>,
}

/// What a profile is at the moment.
fn current(context: &Context, profile: &Path) -> CliResult<Option<StorePath>> {
    let store = context.store()?;
    let Ok(target) = profile.canonicalize() else { return Ok(None) };
    Ok(store.store_dir().parse(&target.to_string_lossy()).ok())
}

impl Before {
    pub fn look(context: &Context, line: &Line) -> CliResult<Self> {
        if context.verbosity < Verbosity::Talkative || line.dry_run {
            return Ok(Self { profile: None, was: None });
        }
        let profile = source::profile(context, line)?;
        let was = current(context, &profile)?;
        Ok(Self { profile: Some(profile), was })
    }

    /// Says what is different now. A generation that is gone meanwhile is nothing to fail for.
    pub fn tell(self, context: &Context) -> CliResult<()> {
        let Some(profile) = self.profile else { return Ok(()) };
        let now = current(context, &profile)?;
        if let (Some(was), Some(now)) = (self.was, now) {
            if was != now {
                if let Ok(table) = changes_table(context, &was, &now) {
                    for line in table {
                        context.logger.log(Verbosity::Notice, line.as_bytes());
                    }
                }
            }
        }
        Ok(())
    }
}
