//! One file per program or command, and the choice between them.

mod build_remote;
mod hashing;
pub mod nix;
mod nix_build;
mod nix_channel;
mod nix_collect_garbage;
mod nix_copy_closure;
mod nix_daemon;
mod nix_env;
mod nix_hash;
mod nix_instantiate;
mod nix_nswrapper;
mod nix_prefetch_url;
mod nix_shell;
pub mod nix_store;

use crate::args::LogFormat;
use crate::context::Start;
use crate::error::{CliError, CliResult};
use crate::logger::{self, LoggerOptions};
use firn_store::activity::{Logger, Verbosity};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// A program: what it is called and what runs. It answers with the exit code.
struct Program {
    name: &'static str,
    run: fn(Start) -> CliResult<u8>,
}

/// All names that firn answers to.
const PROGRAMS: &[Program] = &[
    Program { name: "nix", run: nix::main },
    Program { name: "firn", run: nix::main },
    Program { name: "nix-build", run: nix_build::main },
    Program { name: "nix-channel", run: nix_channel::main },
    Program { name: "nix-collect-garbage", run: nix_collect_garbage::main },
    Program { name: "nix-copy-closure", run: nix_copy_closure::main },
    Program { name: "nix-daemon", run: nix_daemon::main },
    Program { name: "nix-env", run: nix_env::main },
    Program { name: "nix-hash", run: nix_hash::main },
    Program { name: "nix-instantiate", run: nix_instantiate::main },
    Program { name: "nix-nswrapper", run: nix_nswrapper::main },
    Program { name: "nix-prefetch-url", run: nix_prefetch_url::main },
    Program { name: "nix-shell", run: nix_shell::main },
    Program { name: "nix-store", run: nix_store::main },
    Program { name: nix_daemon::WORKER, run: nix_daemon::worker },
];

/// The older programs with the text of their help.
pub const HELPS: &[(&str, &str)] = &[
    ("nix-build", nix_build::HELP),
    ("nix-channel", nix_channel::HELP),
    ("nix-collect-garbage", nix_collect_garbage::HELP),
    ("nix-copy-closure", nix_copy_closure::HELP),
    ("nix-daemon", nix_daemon::HELP),
    ("nix-env", nix_env::HELP),
    ("nix-hash", nix_hash::HELP),
    ("nix-instantiate", nix_instantiate::HELP),
    ("nix-prefetch-url", nix_prefetch_url::HELP),
    ("nix-shell", nix_shell::HELP),
    ("nix-store", nix_store::HELP),
];

/// Runs what `args` (with the program's name first) ask for and gives the exit code.
pub fn dispatch(args: Vec<OsString>) -> u8 {
    let mut args = args.into_iter();
    let called = args.next().unwrap_or_else(|| "firn".into());
    let base = Path::new(&called).file_name().unwrap_or(&called).as_bytes();
    let name = base.split(|&byte| byte == b'.').next().unwrap_or(base);
    let mut args: Vec<OsString> = args.collect();
    let by_name = |name: &[u8]| PROGRAMS.iter().find(|program| program.name.as_bytes() == name);
    let mut program = by_name(name).unwrap_or(&PROGRAMS[1]);
    // Messages name the program as it was called.
    let mut shown = called.to_string_lossy().into_owned();
    // `firn nix-store …` is the same as `nix-store …`, for use without links.
    if program.name == "firn" {
        if let Some(named) = args.first().and_then(|arg| by_name(arg.as_bytes())) {
            program = named;
            shown = named.name.to_owned();
            args.remove(0);
        }
    }
    let chosen = Arc::default();
    match run(program, args, &chosen) {
        Ok(status) => status,
        Err(error) => {
            let plain = LoggerOptions {
                format: LogFormat::RawWithLogs,
                verbosity: Verbosity::Info,
                print_build_logs: true,
                json_log: None,
            };
            error.report(&shown, &**chosen.get_or_init(|| logger::make(&plain)));
            error.status()
        }
    }
}

fn run(program: &Program, args: Vec<OsString>, logger: &Arc<OnceLock<Arc<dyn Logger>>>) -> CliResult<u8> {
    let settings = firn_settings::load(&|name| std::env::var_os(name)).map_err(CliError::Settings)?;
    let start = Start { program: program.name.to_owned(), args, settings, logger: logger.clone() };
    match program.name {
        // Programs that evaluate recurse as deep as expressions do.
        "nix" | "firn" | "nix-build" | "nix-env" | "nix-instantiate" | "nix-prefetch-url" | "nix-shell" => {
            firn_eval::with_large_stack(|| (program.run)(start))
        }
        _ => (program.run)(start),
    }
}

/// 32 bytes that nobody can guess.
fn random_seed() -> CliResult<[u8; 32]> {
    let mut seed = [0; 32];
    let mut filled = 0;
    while filled < seed.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(&mut seed[filled..], flags)
            .map_err(|e| CliError::failed(format!("getting random numbers: {}", std::io::Error::from(e))))?;
    }
    Ok(seed)
}
