//! `nix-store --serve`.

use super::{Line, unknown_flag};
use crate::context::Context;
use crate::daemon::StoreHost;
use crate::error::{CliError, CliResult};
use firn_daemon::{Output, Status, open_input, serve_store};
use firn_store::activity::Logger;
use std::os::fd::AsFd;
use std::sync::Arc;

pub fn serve(context: &Context, line: Line) -> CliResult<u8> {
    let mut write_allowed = false;
    for flag in &line.flags {
        match flag.to_str() {
            Some("--write") => write_allowed = true,
            _ => return Err(unknown_flag(flag)),
        }
    }
    line.no_args()?;
    let own = |fd: std::os::fd::BorrowedFd<'_>| {
        fd.try_clone_to_owned().map_err(CliError::io("duplicating", "standard input or output"))
    };
    let input = own(std::io::stdin().as_fd())?;
    let output = own(std::io::stdout().as_fd())?;
    let host = Arc::new(StoreHost::new(context)?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("starting threads: {error}")))?;
    let logger: Arc<dyn Logger> = Arc::clone(&context.logger);
    let settings = (*context.settings).clone();
    let served = runtime.block_on(async {
        let input = open_input(input).map_err(CliError::io("reading", "standard input"))?;
        let output = Arc::new(Output::new(output, Status::default()));
        Ok::<(), CliError>(serve_store(input, output, host, settings, logger, write_allowed).await?)
    });
    runtime.shutdown_background();
    served.map(|()| 0)
}
