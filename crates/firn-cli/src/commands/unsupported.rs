//! Programs that firn is going to have and has not yet: they say so.

use crate::args::{FlagSink, Values};
use crate::context::Start;
use crate::error::{CliError, CliResult};
use std::ffi::OsString;

struct Anything;

impl FlagSink for Anything {
    fn flag(&mut self, _: &str, _: &mut Values) -> CliResult<bool> {
        Ok(true)
    }
    fn positional(&mut self, _: OsString) -> CliResult<()> {
        Ok(())
    }
}

pub fn main(start: Start) -> CliResult<u8> {
    let name = start.program.clone();
    start.parse(
        &mut Anything,
        &format!("{name} is not there yet in this version of firn; see COMPATIBILITY.md.\n"),
    )?;
    Err(CliError::failed(format!(
        "'{name}' is not supported yet by this version of firn; see COMPATIBILITY.md"
    )))
}
