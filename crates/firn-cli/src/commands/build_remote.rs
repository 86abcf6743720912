//! `nix __build-remote`: this program as the build hook of another one.

use crate::args::LogFormat;
use crate::builders::{self, Opener};
use crate::context::{Context, Start};
use crate::error::{CliError, CliResult};
use crate::logger::{self, LoggerOptions};
use crate::stores;
use firn_daemon::open_input;
use firn_remote_build::{Hook, HookRequest, serve_hook};
use firn_store::activity::Verbosity;
use std::os::fd::AsFd;
use std::sync::Arc;

/// The word by which it is called.
pub const WORD: &str = "__build-remote";

/// The descriptor of what builders print.
const BUILDER_OUTPUT: &str = "4";

pub fn main(start: Start) -> CliResult<u8> {
    let [_, level] = start.args.as_slice() else {
        return Err(CliError::usage("called without required arguments"));
    };
    let level = level.to_str().and_then(|text| text.parse().ok()).unwrap_or(Verbosity::Info as u64);
    let verbosity = Verbosity::from_number(level);
    let options =
        LoggerOptions { format: LogFormat::InternalJson, verbosity, print_build_logs: true, json_log: None };
    let logger = logger::make(&options);
    match run(start, &logger) {
        Ok(()) => Ok(0),
        Err(error) => {
            error.report("nix", &*logger);
            Err(CliError::Exit(1))
        }
    }
}

fn run(start: Start, logger: &Arc<dyn firn_store::activity::Logger>) -> CliResult<()> {
    let mut settings = start.settings;
    let failed = CliError::io("duplicating", "standard input");
    let input = std::io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("starting threads: {error}")))?;
    let result = runtime.block_on(async {
        let mut input = open_input(input).map_err(CliError::io("reading", "standard input"))?;
        let wire = |e: firn_wire::WireError| CliError::failed(format!("reading the parent's settings: {e}"));
        for (name, value) in HookRequest::read_settings(&mut input).await.map_err(wire)? {
            // What the parent knows and we do not is no concern of builders.
            if let Err(error) = settings.set(&name, &value) {
                logger.warn(&error.to_string());
            }
        }
        let context = Context::for_connection("nix", settings.clone(), Arc::clone(logger));
        let opened = stores::open(&settings.store, &context)?;
        let refusal = || CliError::failed("a build hook needs a store on this machine");
        let local = opened.local.clone().ok_or_else(refusal)?;
        let machines = builders::machines(&settings)?;
        let log = stores::remote::log_to(BUILDER_OUTPUT).unwrap_or_else(|_| Arc::new(|_: &[u8]| ()));
        let hook = Hook {
            machines,
            store: Arc::clone(&opened.store),
            target: Arc::new(local.clone()),
            opener: Arc::new(Opener::new(&settings)),
            config: builders::dispatch_config(&settings, &opened),
            max_jobs: settings.max_jobs.0,
            log,
            logger: Arc::clone(logger),
        };
        serve_hook(hook, input).await?;
        Ok(())
    });
    runtime.shutdown_background();
    result
}
