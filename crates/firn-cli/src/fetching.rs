//! What fetches URLs into a store.

use crate::context::Context;
use firn_fetch::{Dirty, Fetcher};
use firn_store::Store;
use std::sync::Arc;

/// A fetcher into `store` with the settings of `context`. Nothing is opened before it is used.
pub fn fetcher(context: &Context, store: Arc<dyn Store>) -> Fetcher {
    let settings = &context.settings;
    let client = context.http_client().clone();
    let cache = settings.dirs.cache_home.clone();
    let dirty = match (settings.allow_dirty, settings.warn_dirty) {
        (false, _) => Dirty::Refuse,
        (true, true) => Dirty::Warn,
        (true, false) => Dirty::Allow,
    };
    Fetcher::new(store, client, Arc::clone(&context.logger), cache, settings.tarball_ttl, dirty)
}
