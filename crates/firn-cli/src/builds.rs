//! The composition root of builds: settings to what the builder and the scheduler take, and Ctrl-C to cancellation.

use crate::builders;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::stores::Opened;
use firn_build::{BuildConfig, LocalExecutor, SandboxMode, SandboxPath};
use firn_core::signature::SecretKey;
use firn_sandbox::users::UidRange;
use firn_scheduler::{
    BuildFailure, BuildObserver, BuildRequest, BuildSuccess, Executor, Place, Scheduler, SchedulerConfig,
    Substituter,
};
use firn_settings::{ExperimentalFeature, Settings};
use firn_store::activity::Logger;
use firn_store::{BuildStatus, BuildStore, BuildTarget, Store};
use firn_store_remote::BuildFromOtherStore;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What builds into an open store, without regard to signals: when the program dies of one, so do its builds.
pub fn scheduler(
    opened: &Opened,
    eval_store: Option<&Arc<dyn Store>>,
    substituter: Option<Arc<dyn Substituter>>,
    settings: &Settings,
    logger: &Arc<dyn Logger>,
) -> CliResult<Scheduler> {
    let mut config = build_config(settings)?;
    if let Some(features) = &opened.system_features {
        config.system_features = features.clone();
    }
    config.build_dir = config.build_dir.or_else(|| opened.build_dir.clone());
    let here: Arc<dyn Executor> = match &opened.local {
        Some(local) => {
            if settings.has_feature(ExperimentalFeature::RecursiveNix) {
                config.nested = Some(Arc::new(crate::nested::Server {
                    opened: opened.clone(),
                    substituter: substituter.clone(),
                    settings: settings.clone(),
                }));
            }
            local.watch_free_space();
            let target: Arc<dyn BuildTarget> = Arc::new(local.clone());
            Arc::new(LocalExecutor::new(target, config.clone(), Arc::clone(logger)))
        }
        None => Arc::new(CannotBuild),
    };
    let executor = builders::with_machines(here, opened, &config, settings, logger)?;
    let store = Arc::clone(&opened.store);
    let mut scheduler = Scheduler::new(store, executor, Arc::clone(logger), scheduler_config(settings)?);
    if let Some(store) = eval_store {
        scheduler = scheduler.with_eval_store(Arc::clone(store));
    }
    if let Some(substituter) = substituter {
        scheduler = scheduler.with_substituter(substituter);
    }
    Ok(scheduler)
}

/// Stands in for a builder in stores that are not on this machine, such as caches: what they have is there, the rest
/// cannot be built.
struct CannotBuild;

#[async_trait::async_trait]
impl Executor for CannotBuild {
    async fn build(
        &self,
        _: BuildRequest,
        _: &Place,
        _: &Arc<dyn BuildObserver>,
        _: &CancellationToken,
    ) -> Result<BuildSuccess, BuildFailure> {
        let message = "Unable to build with a primary store that isn't a local store; either pass a different \
                       '--store' or enable remote builds.\n\nFor more information check 'man nix.conf' and search \
                       for '/machines'.";
        Err(BuildFailure::new(BuildStatus::InputRejected, message))
    }
}

/// What builds into a store that need not be that of the settings; derivations are in that one.
pub fn build_store_of(opened: &Opened, context: &Context) -> CliResult<Arc<dyn BuildStore>> {
    let own = context.opened()?;
    if Arc::ptr_eq(&own.store, &opened.store) {
        return context.build_store();
    }
    let eval_store = context.eval_store()?;
    let substituter = crate::substituters::open(context, opened)?;
    build_store(opened, Some(&eval_store), substituter, context)
}

/// What a store builds by, if it builds by itself.
pub fn own_build(
    opened: &Opened,
    eval_store: Option<&Arc<dyn Store>>,
    logger: &Arc<dyn Logger>,
) -> Option<Arc<dyn BuildStore>> {
    let build = Arc::clone(opened.build.as_ref()?);
    Some(match eval_store {
        None => build,
        Some(from) => {
            let (from, to) = (Arc::clone(from), Arc::clone(&opened.store));
            Arc::new(BuildFromOtherStore { from, to, build, logger: Arc::clone(logger) })
        }
    })
}

/// What builds into an open store; signals end builds in order.
pub fn build_store(
    opened: &Opened,
    eval_store: Option<&Arc<dyn Store>>,
    substituter: Option<Arc<dyn Substituter>>,
    context: &Context,
) -> CliResult<Arc<dyn BuildStore>> {
    if let Some(build) = own_build(opened, eval_store, &context.logger) {
        return Ok(build);
    }
    let scheduler = scheduler(opened, eval_store, substituter, &context.settings, &context.logger)?;
    let scheduler = Arc::new(scheduler);
    let cancel = scheduler.cancellation().clone();
    let still_there = Arc::downgrade(&scheduler);
    // The first signal ends builds in order; programs that run nothing but us die from the second.
    context.runtime()?.spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let mut signals = Vec::new();
        for kind in kinds {
            match signal(kind) {
                Ok(stream) => signals.push(stream),
                Err(_) => return,
            }
        }
        let [interrupt, terminate, hangup] = signals.as_mut_slice() else { return };
        let mut seen = 0;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            if still_there.strong_count() == 0 && STAYS.load(Ordering::Relaxed) {
                return;
            }
            cancel.cancel();
            seen += 1;
            if seen > 1 || still_there.strong_count() == 0 {
                std::process::exit(130);
            }
        }
    });
    Ok(scheduler)
}

/// Whether this program goes on after signals that are not for a build.
static STAYS: AtomicBool = AtomicBool::new(false);

/// Lets signals that come after builds be: the program has its own use for them.
pub fn stay_after_signals() {
    STAYS.store(true, Ordering::Relaxed);
}

fn scheduler_config(s: &Settings) -> CliResult<SchedulerConfig> {
    Ok(SchedulerConfig {
        keep_going: s.keep_going,
        max_jobs: s.max_jobs.0,
        fallback: s.fallback,
        substitute: s.substitute,
        always_allow_substitutes: s.always_allow_substitutes,
        ca_derivations: s.has_feature(ExperimentalFeature::CaDerivations),
        impure_derivations: s.has_feature(ExperimentalFeature::ImpureDerivations),
        dynamic_derivations: s.has_feature(ExperimentalFeature::DynamicDerivations),
        secret_keys: secret_keys(s)?,
    })
}

/// The keys of `secret-key-files`.
fn secret_keys(s: &Settings) -> CliResult<Vec<Arc<SecretKey>>> {
    let mut secret_keys = Vec::new();
    for file in &s.secret_key_files {
        let text = std::fs::read_to_string(file).map_err(CliError::io("reading secret key file", file))?;
        let key = SecretKey::parse(text.trim())
            .map_err(|e| CliError::failed(format!("secret key file '{file}': {e}")))?;
        secret_keys.push(Arc::new(key));
    }
    Ok(secret_keys)
}

fn build_config(s: &Settings) -> CliResult<BuildConfig> {
    let seconds = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0).map(Duration::from_secs);
    let settings_text = s
        .overridden()
        .map(|setting| format!("{} = {}\n", setting.name, String::from_utf8_lossy(&setting.render(s))))
        .collect();
    Ok(BuildConfig {
        sandbox: match s.sandbox {
            firn_settings::SandboxMode::Enabled => SandboxMode::Enabled,
            firn_settings::SandboxMode::Relaxed => SandboxMode::Relaxed,
            firn_settings::SandboxMode::Disabled => SandboxMode::Disabled,
        },
        sandbox_fallback: s.sandbox_fallback,
        sandbox_paths: s
            .sandbox_paths
            .iter()
            .map(|(target, from)| SandboxPath {
                target: target.clone(),
                source: from.source.clone(),
                optional: from.optional,
            })
            .collect(),
        sandbox_build_dir: s.sandbox_build_dir.clone(),
        sandbox_dev_shm_size: s.sandbox_dev_shm_size.clone(),
        build_users_group: s.build_users_group.clone(),
        uid_range: s.auto_allocate_uids.then_some(UidRange { start: s.start_id, count: s.id_count }),
        build_dir: s.build_dir.clone(),
        cores: s.cores,
        timeout: seconds(s.timeout),
        max_silent_time: seconds(s.max_silent_time),
        max_build_log_size: s.max_build_log_size,
        log_lines: usize::try_from(s.log_lines).unwrap_or(usize::MAX),
        keep_failed: s.keep_failed,
        keep_build_log: s.keep_build_log,
        filter_syscalls: s.filter_syscalls,
        allow_new_privileges: s.allow_new_privileges,
        require_drop_supplementary_groups: s.require_drop_supplementary_groups,
        impersonate_linux_26: s.impersonate_linux_26,
        allowed_impure_host_deps: s.allowed_impure_host_deps.clone(),
        impure_env: s.impure_env.clone(),
        system: s.system.clone(),
        extra_platforms: s.extra_platforms.clone(),
        system_features: s.system_features.clone(),
        pre_build_hook: s.pre_build_hook.clone(),
        post_build_hook: s.post_build_hook.clone(),
        diff_hook: s.diff_hook.clone().filter(|_| s.run_diff_hook),
        settings_text,
        secret_keys: secret_keys(s)?,
        ssl_cert_file: s.ssl_cert_file.clone(),
        netrc_file: Some(s.netrc_file.clone()).filter(|path| path != Path::new("")),
        hashed_mirrors: s.hashed_mirrors.clone(),
        downloads: firn_build::builtins::Downloads {
            attempts: s.download_attempts,
            connect_timeout: Some(s.connect_timeout.into()).filter(|n| *n > 0),
            stalled_timeout: Some(s.stalled_download_timeout.into()).filter(|n| *n > 0),
            http2: s.http2,
            speed_limit: Some(u64::from(s.download_speed) * 1024).filter(|n| *n > 0),
            user_agent_suffix: s.user_agent_suffix.clone(),
        },
        nix_command: s.has_feature(ExperimentalFeature::NixCommand),
        ca_derivations: s.has_feature(ExperimentalFeature::CaDerivations),
        external_builders: s
            .external_builders
            .iter()
            .map(|builder| firn_build::ExternalBuilder {
                systems: builder.systems.clone(),
                program: builder.program.clone(),
                args: builder.args.clone(),
            })
            .collect(),
        use_cgroups: s.use_cgroups,
        nested: None,
    })
}
