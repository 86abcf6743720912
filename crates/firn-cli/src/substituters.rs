//! The stores that paths are substituted from.

use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::stores;
use firn_core::signature::PublicKey;
use firn_scheduler::{StoreSubstituter, Substituter, SubstitutionConfig};
use firn_settings::Settings;
use firn_store::{Store, TrustPolicy};
use std::sync::Arc;

/// Whose word the settings say to take.
pub fn trust(settings: &Settings) -> CliResult<TrustPolicy> {
    let mut policy = TrustPolicy { require_signatures: settings.require_sigs, keys: Vec::new() };
    for key in &settings.trusted_public_keys {
        let parsed = PublicKey::parse(key)
            .map_err(|e| CliError::failed(format!("setting 'trusted-public-keys': '{key}': {e}")))?;
        policy.keys.push(parsed);
    }
    Ok(policy)
}

/// The configured substituters, opened. Nothing is reached yet; one whose URI is wrong is told about and left out.
pub fn stores(context: &Context) -> Vec<Arc<dyn Store>> {
    let mut opened = Vec::new();
    let mut done: Vec<&str> = Vec::new();
    for uri in &context.settings.substituters {
        if done.contains(&uri.as_str()) {
            continue;
        }
        done.push(uri);
        match stores::open(uri, context) {
            Ok(store) => opened.push(store.store),
            Err(error) => context.logger.warn(&error.to_string()),
        }
    }
    opened
}

/// What substitutes into `destination`; nothing where there is nothing to substitute from.
pub fn open(context: &Context, destination: &stores::Opened) -> CliResult<Option<Arc<dyn Substituter>>> {
    let settings = &context.settings;
    if !settings.substitute || settings.substituters.is_empty() {
        return Ok(None);
    }
    let config = SubstitutionConfig {
        fallback: settings.fallback,
        jobs: settings.max_substitution_jobs,
        trust: match &destination.local {
            // Its URI may say otherwise than the settings.
            Some(local) => local.trust(),
            None => trust(settings)?,
        },
    };
    let store = Arc::clone(&destination.store);
    let logger = Arc::clone(&context.logger);
    Ok(Some(Arc::new(StoreSubstituter::new(store, stores(context), config, logger))))
}
