//! What the settings say of flakes.

use super::config::{ConfigQueue, Trust};
use crate::context::Context;
use firn_flake::LockSettings;
use firn_host::FlakeRules;

fn lock_settings(context: &Context) -> LockSettings {
    let settings = &context.settings;
    LockSettings {
        trust_forges: settings.trust_tarballs_from_git_forges,
        allow_dirty: settings.allow_dirty,
        allow_dirty_locks: settings.allow_dirty_locks,
        warn_dirty: settings.warn_dirty,
        use_registries: settings.use_registries,
        commit_summary: settings.commit_lock_file_summary.clone(),
    }
}

/// The rules for the evaluator's host; settings that flakes have wait in `queue`.
pub fn rules(context: &Context, queue: &ConfigQueue, pure: bool) -> FlakeRules {
    let trust = Trust {
        accept: context.settings.accept_flake_config,
        file: context.settings.dirs.data_home.as_ref().map(|dir| dir.join("trusted-settings.json")),
        logger: context.logger.clone(),
    };
    let queue = queue.clone();
    FlakeRules {
        settings: lock_settings(context),
        pure,
        apply_config: Some(Box::new(move |settings| {
            let allowed = trust.allowed(settings)?;
            if let Ok(mut queue) = queue.lock() {
                queue.extend(allowed);
            }
            Ok(())
        })),
    }
}
