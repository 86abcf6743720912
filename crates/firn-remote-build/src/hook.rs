//! Our side of the build hook's protocol: another program's daemon asks, this process takes one build to a machine.
//!
//! Source: the reference's `nix __build-remote`. Settings and requests come on standard input; replies go to standard
//! error as lines that start with `# `; what a builder prints goes to descriptor 4.

use crate::dispatch::{DispatchConfig, LineSink, MachineOpener, build_request};
use crate::machines::Machine;
use crate::pick::{Demand, Pick, current_load, pick};
use crate::transfer::{Upload, Uploads, fetch_outputs};
use firn_core::{StoreDir, StorePath};
use firn_scheduler::BuildRequest;
use firn_store::activity::{Activity, ActivityType, Logger, Verbosity};
use firn_store::{BuildMode, BuildTarget, Store, StoreError, StoreResult};
use firn_wire::{WireError, WireReader};
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;
use tokio::io::AsyncRead;

/// A build that the hook is asked to take.
#[derive(Debug, Clone)]
pub struct HookRequest {
    /// Whether it would be built here now.
    pub am_willing: bool,
    pub demand: Demand,
    pub drv: StorePath,
}

impl HookRequest {
    /// The parent's settings, which come first.
    pub async fn read_settings<R: AsyncRead + Unpin>(
        input: &mut WireReader<R>,
    ) -> Result<Vec<(String, Vec<u8>)>, WireError> {
        let mut settings = Vec::new();
        while input.bool().await? {
            let name = input.text("a setting's name").await?;
            settings.push((name, input.bytes().await?));
        }
        Ok(settings)
    }

    /// The next request; `None` when there are no more.
    pub async fn read<R: AsyncRead + Unpin>(
        input: &mut WireReader<R>,
        dir: &StoreDir,
    ) -> Result<Option<HookRequest>, WireError> {
        match input.bytes().await {
            Ok(word) if word == b"try" => {}
            Ok(_) | Err(WireError::Eof) => return Ok(None),
            Err(error) => return Err(error),
        }
        let am_willing = input.bool().await?;
        let system = input.text("a system").await?;
        let drv = dir.parse(&input.text("a store path").await?)?;
        let features = input.texts("a feature").await?;
        Ok(Some(HookRequest { am_willing, demand: Demand { system, features }, drv }))
    }
}

/// Says something to the parent.
fn reply(text: &str) {
    let mut out = std::io::stderr().lock();
    // A parent that is gone needs no reply.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// What the hook works with.
pub struct Hook {
    pub machines: Vec<Machine>,
    pub store: Arc<dyn Store>,
    /// The same store, as what outputs are put into.
    pub target: Arc<dyn BuildTarget>,
    pub opener: Arc<dyn MachineOpener>,
    pub config: DispatchConfig,
    /// Builds at once that this machine allows.
    pub max_jobs: u32,
    /// Where what builders print goes.
    pub log: LineSink,
    pub logger: Arc<dyn Logger>,
}

/// Takes requests until one is accepted, and carries that out.
pub async fn serve_hook<R: AsyncRead + Unpin>(hook: Hook, mut input: WireReader<R>) -> StoreResult<()> {
    let Hook { machines, store, target, opener, config, max_jobs, log, logger } = hook;
    let wire = |e: WireError| StoreError::Other(format!("reading from the parent: {e}"));
    if machines.is_empty() {
        reply("# decline-permanently\n");
        return Ok(());
    }
    let dir = store.store_dir().clone();
    let folder = current_load(&config.state_dir);
    let mut enabled = vec![true; machines.len()];
    let slots = firn_scheduler::Slots::new(max_jobs);
    loop {
        input.start_message(1 << 28);
        let Some(request) = HookRequest::read(&mut input, &dir).await.map_err(wire)? else { return Ok(()) };
        let drv = Arc::new(store.read_derivation(&request.drv).await?);
        let could_here = config.could_build(&request.demand, &drv, &slots);
        let (slot, remote) = loop {
            match pick(&folder, &machines, &|index| enabled[index], &request.demand)? {
                Pick::Busy if !(request.am_willing && could_here) => {
                    reply("# postpone\n");
                    break (None, None);
                }
                Pick::Busy | Pick::Unsuitable => {
                    reply("# decline\n");
                    break (None, None);
                }
                Pick::Slot(slot) => {
                    let machine = &machines[slot.machine];
                    let opened = match opener.open(machine, &logger, Arc::clone(&log)) {
                        Ok(opened) => opened.store.connect().await.map(|()| opened),
                        Err(error) => Err(error),
                    };
                    match opened {
                        Ok(opened) => break (Some(slot), Some(opened)),
                        Err(error) => {
                            logger.error(&format!("cannot build on '{}': {error}", machine.uri));
                            enabled[slot.machine] = false;
                        }
                    }
                }
            }
        };
        let (Some(slot), Some(remote)) = (slot, remote) else { continue };
        let uri = &machines[slot.machine].uri;
        reply(&format!("# accept\n{uri}\n"));
        let inputs: BTreeSet<String> = input.texts("a store path").await.map_err(wire)?;
        let inputs = inputs.iter().map(|path| dir.parse(path)).collect::<Result<BTreeSet<_>, _>>()?;
        let _wanted: BTreeSet<String> = input.texts("an output's name").await.map_err(wire)?;
        let substitute = config.builders_use_substitutes;
        let upload = Upload {
            from: &*store,
            to: &*remote.store,
            uri,
            folder: &folder,
            paths: &inputs,
            substitute,
            logger: &logger,
        };
        Uploads::default().send(upload).await?;
        let build = BuildRequest { drv_path: request.drv, drv, input_paths: inputs, mode: BuildMode::Normal };
        let shown = dir.display(&build.drv_path);
        let result = {
            let text = format!("building '{shown}' on '{uri}'");
            let _activity = Activity::start(&logger, Verbosity::Debug, ActivityType::Unknown, &text, &[], 0);
            build_request(&store, &remote, &build, substitute, &logger).await?
        };
        if !result.status.is_success() {
            if config.keep_failed {
                logger.warn(
                    "The failed build directory was kept on the remote builder due to `--keep-failed`.",
                );
            }
            return Err(StoreError::Other(format!("build of '{shown}' on '{uri}' failed: {}", result.error)));
        }
        let mut outputs = BTreeSet::new();
        for (name, path) in build.drv.output_paths(&dir)? {
            outputs.extend(path.or_else(|| result.outputs.get(&name).cloned()));
        }
        // The parent holds the outputs' locks.
        fetch_outputs(&remote.store, &target, &outputs, uri, &logger).await?;
        return Ok(());
    }
}
