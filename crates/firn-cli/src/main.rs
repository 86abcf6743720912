//! The program `firn`, which is also `nix`, `nix-build`, `nix-store` and all the others: the name it is called
//! by decides. This crate holds the command line and the composition root; logic that another crate could own
//! does not belong here.
//!
//! Nothing is opened before a command asks for it: `nix-instantiate --eval -E 1` touches no store, starts no
//! thread and no runtime.

mod args;
mod builders;
mod builds;
mod commands;
mod context;
mod daemon;
mod debugger;
mod environment;
mod error;
mod evaluation;
mod exec;
mod fetching;
mod flakes;
mod fold;
mod http;
mod installables;
mod local_time;
mod logger;
mod manual;
mod memory;
mod mentions;
mod nested;
mod pager;
mod profile_flag;
mod renewable;
mod repl;
mod shebang;
mod statistics;
mod stores;
mod substituters;
mod version;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Evaluation that needs more memory than there can be ends like one with any other error, and so does one whose cache of
/// parsed files is taken away while it runs.
fn report_what_ends_evaluation() {
    let otherwise = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if let Some(lack) = info.payload().downcast_ref::<firn_eval::OutOfMemory>() {
            let bytes = lack.bytes;
            // Language servers that limit memory look for the first line.
            let _ = writeln!(
                std::io::stderr(),
                "error: out of memory\n       there is no room for {bytes} more bytes of values"
            );
            firn_sandbox::leave(1);
        }
        if info.payload().is::<firn_eval::LostTree>() {
            let _ = writeln!(
                std::io::stderr(),
                "error: a file of the cache of parsed files was cut short while it was in use; try again"
            );
            firn_sandbox::leave(1);
        }
        otherwise(info);
    }));
}

fn main() -> ExitCode {
    // Builds start by executing this program again; that must come before anything makes a thread.
    firn_sandbox::run_init_if_requested(&firn_build::builtins::run);
    firn_sandbox::run_in_store_if_requested();
    firn_sandbox::write_id_maps_if_requested();
    report_what_ends_evaluation();
    let args: Vec<OsString> = std::env::args_os().collect();
    let status = commands::dispatch(args);
    // Builds that count what they do write that when a process ends in the usual way (dist/build).
    if std::env::var_os("LLVM_PROFILE_FILE").is_none() && std::io::stdout().flush().is_ok() {
        firn_sandbox::leave(status);
    }
    ExitCode::from(status)
}
