//! What fetches URLs into a store.

use crate::context::Context;
use crate::error::CliResult;
use firn_fetch::{Dirty, Ensure, FetchOptions, Fetcher};
use firn_store::Store;
use std::sync::Arc;

/// A fetcher into `store` with the settings of `context`. Nothing is opened before it is used.
pub fn fetcher(context: &Context, store: Arc<dyn Store>) -> CliResult<Fetcher> {
    let settings = &context.settings;
    let client = context.http_client().clone();
    let dirty = match (settings.allow_dirty, settings.warn_dirty) {
        (false, _) => Dirty::Refuse,
        (true, true) => Dirty::Warn,
        (true, false) => Dirty::Allow,
    };
    let options = FetchOptions {
        cache_dir: settings.dirs.cache_home.clone(),
        ttl: settings.tarball_ttl,
        dirty,
        access_tokens: settings.access_tokens.clone(),
        trust_forges: settings.trust_tarballs_from_git_forges,
        forge_base: None,
        global_registry: settings.flake_registry.clone(),
        user_registry: settings.dirs.config_home.as_ref().map(|dir| dir.join("registry.json")),
        system_registry: Some(settings.dirs.conf.join("registry.json")),
        features: settings.experimental_features.iter().map(|feature| feature.to_string()).collect(),
        ensure: Some(ensure(context)?),
    };
    Ok(Fetcher::with_options(store, client, Arc::clone(&context.logger), options))
}

/// How trees that are known by their hash are substituted.
fn ensure(context: &Context) -> CliResult<Ensure> {
    let make: Arc<firn_host::MakeBuilder> = Arc::new(context.make_builder()?);
    Ok(Arc::new(move |path| {
        let make = Arc::clone(&make);
        Box::pin(async move {
            let Ok(builder) = make() else { return false };
            builder.ensure_path(&path).await.is_ok()
        })
    }))
}
