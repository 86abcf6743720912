//! What the environment of a `nix-shell` depends on and needs, for the memory of environments.

use super::{Flags, Shell};
use crate::context::Context;
use crate::error::CliResult;
use crate::evaluation::Evaluation;
use crate::memory::{Bash, Key, Known, Memory};
use firn_core::{DerivedPath, SingleDerivedPath, StorePath};
use std::collections::BTreeSet;

/// Where the environment for this command line is kept; nothing if it cannot be used again.
pub fn memory(context: &Context, flags: &Flags, evaluation: &Evaluation) -> Option<Memory> {
    if flags.from_stdin || flags.dry_run {
        return None;
    }
    let mut key = Key::new(context, "nix-shell", &flags.eval_args, evaluation.current_dir())?;
    let script = flags.script.as_ref().map(|script| script.path.clone());
    key.part(format!("{script:?} {:?} {:?}", flags.args, flags.attrs));
    key.part(format!("{} {}", flags.packages, flags.from_args));
    let exclude: Vec<_> = flags.exclude.iter().map(|regex| format!("{regex:?}")).collect();
    key.part(exclude.join(" "));
    // Without it bash is evaluated too.
    key.part(format!("{}", std::env::var_os("NIX_BUILD_SHELL").is_some()));
    Some(key.memory())
}

/// Keeps an environment, with `requests` being what was built for it.
pub fn keep(
    memory: &Memory,
    context: &Context,
    evaluation: &Evaluation,
    drv: &StorePath,
    shell: &Shell,
    requests: &[DerivedPath],
) -> CliResult<()> {
    let Some(observations) = evaluation.observations() else { return Ok(()) };
    let bash = match shell {
        Shell::Built(bash) => Bash::At(bash.clone()),
        Shell::Named(_) if std::env::var_os("NIX_BUILD_SHELL").is_some() => Bash::NotAsked,
        // Why there is none has to be said the next time too.
        Shell::Named(_) => return Ok(()),
    };
    let store = context.eval_store()?;
    let mut needs: BTreeSet<StorePath> = [drv.clone()].into();
    if let Bash::At(bash) = &bash {
        needs.insert(bash.clone());
    }
    for request in requests {
        match request {
            DerivedPath::Opaque(path) => drop(needs.insert(path.clone())),
            DerivedPath::Built { drv, outputs } => {
                let SingleDerivedPath::Opaque(drv) = &**drv else { return Ok(()) };
                needs.insert(drv.clone());
                for (name, path) in context.block_on(store.query_derivation_outputs(drv))?? {
                    if outputs.contains(&name) {
                        let Some(path) = path else { return Ok(()) };
                        needs.insert(path);
                    }
                }
            }
        }
    }
    memory.keep(context, Some(observations), &Known { path: drv.clone(), bash }, &needs)
}
