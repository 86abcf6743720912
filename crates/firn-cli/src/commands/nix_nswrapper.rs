//! `nix-nswrapper FIRST-UID NUM-UIDS COMMAND [ARGS…]`: runs a daemon as root of a user namespace of its own.

use crate::context::Start;
use crate::error::{CliError, CliResult};
use firn_sandbox::Lent;

pub fn main(start: Start) -> CliResult<u8> {
    let called = std::env::args_os().next().unwrap_or_default();
    let [first, count, program, args @ ..] = start.args.as_slice() else {
        let usage = format!("Usage: {} first_uid num_uids command [args...]", called.display());
        return Err(CliError::usage(usage));
    };
    let number = |text: &std::ffi::OsString| {
        let number = text.to_str().and_then(|text| text.parse().ok());
        number.ok_or_else(|| CliError::usage("Not a valid integer"))
    };
    let lent = Lent::new(number(first)?, number(count)?).map_err(CliError::usage)?;
    match lent.exec(program.clone(), args) {
        Ok(never) => match never {},
        Err(error) => Err(CliError::failed(error)),
    }
}
