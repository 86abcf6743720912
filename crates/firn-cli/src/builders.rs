//! The composition root of builds on other machines.

use crate::builds;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::stores::{self, Opened};
use firn_build::{BuildConfig, run_post_build_hook};
use firn_core::StorePath;
use firn_remote_build::{
    Dispatch, DispatchConfig, HookExecutor, HookState, LineSink, Machine, MachineOpener, OpenMachine,
    RemoteExecutor, parse_machines,
};
use firn_scheduler::{BuildFailure, Executor};
use firn_settings::{ExperimentalFeature, SETTINGS, Settings};
use firn_store::activity::Logger;
use firn_store::{BuildTarget, StoreError, StoreResult};
use std::sync::Arc;
use std::time::Duration;

/// Opens the stores of machines.
pub struct Opener {
    settings: Settings,
}

impl Opener {
    pub fn new(settings: &Settings) -> Opener {
        let mut settings = settings.clone();
        // A machine that is a store here builds by itself, one build for each slot.
        settings.builders = String::new();
        settings.max_jobs.0 = 1;
        Opener { settings }
    }
}

impl MachineOpener for Opener {
    fn open(&self, machine: &Machine, logger: &Arc<dyn Logger>, log: LineSink) -> StoreResult<OpenMachine> {
        let mut context = Context::for_connection("nix", self.settings.clone(), Arc::clone(logger));
        context.remote_log = Some(log);
        let open = || -> CliResult<OpenMachine> {
            let opened = stores::open(&machine.store_uri(), &context)?;
            let build = match builds::own_build(&opened, None, logger) {
                Some(build) => build,
                None => {
                    let substituter = crate::substituters::open(&context, &opened)?;
                    Arc::new(builds::scheduler(&opened, None, substituter, &self.settings, logger)?)
                }
            };
            Ok(OpenMachine { store: opened.store, build })
        };
        open().map_err(|error| match error {
            CliError::Store(error) => error,
            other => StoreError::Other(other.to_string()),
        })
    }
}

/// Settings of the dispatcher.
pub fn dispatch_config(settings: &Settings, opened: &Opened) -> DispatchConfig {
    let local = opened.local.as_ref().map(|local| BuildTarget::state_dir(local).to_owned());
    DispatchConfig {
        state_dir: local.unwrap_or_else(|| settings.dirs.state.clone()),
        system: settings.system.clone(),
        extra_platforms: settings.extra_platforms.iter().cloned().collect(),
        system_features: opened.system_features.as_ref().unwrap_or(&settings.system_features).clone(),
        ca_derivations: settings.has_feature(ExperimentalFeature::CaDerivations),
        builders_use_substitutes: settings.builders_use_substitutes,
        keep_failed: settings.keep_failed,
        log_lines: usize::try_from(settings.log_lines).unwrap_or(usize::MAX),
        max_build_log_size: settings.max_build_log_size,
        keep_build_log: settings.keep_build_log,
    }
}

/// Machines of the setting `builders`.
pub fn machines(settings: &Settings) -> CliResult<Vec<Machine>> {
    parse_machines(&settings.builders, &settings.system).map_err(|e| CliError::failed(e.to_string()))
}

/// Whether the hook is the one that comes with the program, so that nothing needs to be executed.
fn is_own_hook(hook: &[String]) -> bool {
    matches!(hook, [program, word] if program.rsplit('/').next() == Some("nix") && word == "__build-remote")
}

/// Puts other machines in front of what builds here, if there are any.
pub fn with_machines(
    inner: Arc<dyn Executor>,
    opened: &Opened,
    config: &BuildConfig,
    settings: &Settings,
    logger: &Arc<dyn Logger>,
) -> CliResult<Arc<dyn Executor>> {
    let hook = &settings.build_hook;
    if hook.is_empty() {
        return Ok(inner);
    }
    let target = opened.local.clone().map(|local| Arc::new(local) as Arc<dyn BuildTarget>);
    if !is_own_hook(hook) {
        // Hooks of others put outputs into a store on this machine themselves.
        let Some(target) = target else { return Ok(inner) };
        return Ok(Arc::new(HookExecutor {
            inner,
            target,
            logger: Arc::clone(logger),
            hook: hook.clone(),
            settings: SETTINGS.iter().map(|s| (s.name.to_owned(), s.render(settings))).collect(),
            poll: Duration::from_secs(settings.build_poll_interval.into()),
            log_lines: usize::try_from(settings.log_lines).unwrap_or(usize::MAX),
            keep_build_log: settings.keep_build_log,
            state: HookState::default(),
        }));
    }
    let machines = machines(settings)?;
    if machines.is_empty() {
        return Ok(inner);
    }
    let (after_config, after_logger) = (config.clone(), Arc::clone(logger));
    let dir = opened.store.store_dir().clone();
    let after = move |drv: &StorePath, outputs: &[StorePath]| -> Result<(), BuildFailure> {
        let outputs: Vec<String> = outputs.iter().map(|path| dir.display(path)).collect();
        run_post_build_hook(&after_config, &after_logger, &dir.display(drv), &outputs)
    };
    let dispatch = Dispatch {
        store: Arc::clone(&opened.store),
        target,
        opener: Arc::new(Opener::new(settings)),
        machines,
        config: dispatch_config(settings, opened),
        logger: Arc::clone(logger),
        after: Some(Arc::new(after)),
    };
    Ok(Arc::new(RemoteExecutor::new(inner, dispatch)))
}
