//! Long texts go through a pager where the standard output is a terminal: `NIX_PAGER` or `PAGER`, or what there is.

use crate::context::Context;
use crate::error::{CliError, CliResult};
use std::io::{ErrorKind, IsTerminal, Write};
use std::process::{Command, Stdio};

/// The pager's command, if one is to be started.
fn command() -> Option<String> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    let named = ["NIX_PAGER", "PAGER"].into_iter().find_map(|name| std::env::var(name).ok());
    match named.as_deref() {
        None => Some("pager 2>/dev/null || less 2>/dev/null || more || cat".to_owned()),
        Some("" | "cat") => None,
        Some(pager) => Some(pager.to_owned()),
    }
}

/// Prints `text`, on a terminal through a pager. One that is left before the end is no error.
pub fn print(context: &Context, text: &[u8]) -> CliResult<()> {
    let Some(pager) = command() else { return context.print(text) };
    context.logger.pause();
    let result = page(&pager, text);
    context.logger.resume();
    result
}

fn page(pager: &str, text: &[u8]) -> CliResult<()> {
    #[expect(clippy::disallowed_methods, reason = "the user's own pager, in the user's environment")]
    let mut command = Command::new("sh");
    command.args(["-c", pager]).stdin(Stdio::piped());
    if std::env::var_os("LESS").is_none() {
        // Quit if it fits on a screen, show colours, do not clear.
        command.env("LESS", "FRSXMK");
    }
    let mut child = command.spawn().map_err(CliError::io("starting pager", pager))?;
    if let Some(mut input) = child.stdin.take() {
        match input.write_all(text) {
            Err(e) if e.kind() != ErrorKind::BrokenPipe => {
                return Err(CliError::io("writing to pager", pager)(e));
            }
            _ => {}
        }
    }
    child.wait().map_err(CliError::io("waiting for pager", pager))?;
    Ok(())
}
