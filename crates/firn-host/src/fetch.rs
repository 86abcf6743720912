//! `builtins.fetchurl`, `fetchTarball` and `fetchClosure`.

use crate::{StoreHost, host_error};
use firn_core::flake_ref::{Attrs, FlakeRef, Input, ParseContext};
use firn_core::store_path::References;
use firn_core::{CaMethod, ContentAddress, HashAlgo, StorePath};
use firn_eval::{ClosureRequest, FetchRequest, HostError, HostResult};
use firn_fetch::FetchError;
use firn_store::activity::Verbosity;
use firn_store::copy::{CopyOptions, copy_paths};
use firn_store::readdress::make_content_addressed;
use firn_store::{ClosureOptions, Store, StoreKind, StoreUri, compute_fs_closure};

pub(crate) fn fetch_error(error: FetchError) -> HostError {
    HostError { exit: error.exit_status(), ..HostError::new(error.to_string()) }
}

impl StoreHost {
    pub(crate) fn debug(&self, text: String) {
        self.parts.logger.log(Verbosity::Debug, text.as_bytes());
    }

    /// Downloads, unless what is expected is there or can be substituted.
    pub(crate) fn fetch_url(&self, request: &FetchRequest) -> HostResult<StorePath> {
        let FetchRequest { url, name, unpack, expected } = request;
        if let (Some(reference), true) = (url.strip_prefix("flake:"), unpack) {
            return self.fetch_reference(reference);
        }
        let store = &self.parts.store;
        let method = if *unpack { CaMethod::NixArchive } else { CaMethod::Flat };
        if let Some(hash) = expected.filter(|hash| hash.algo() == HashAlgo::Sha256) {
            let ca = ContentAddress { method, hash };
            let path = store
                .store_dir()
                .make_fixed_output_path(&ca, name, &References::default())
                .map_err(|e| HostError::new(e.to_string()))?;
            if self.block_on(store.is_valid_path(&path))?.map_err(host_error)? {
                self.block_on(store.add_temp_root(&path))?.map_err(host_error)?;
                return Ok(path);
            }
            match firn_eval::EvalHost::ensure_path(self, &path) {
                Ok(()) => return Ok(path),
                Err(error) => self.debug(format!(
                    "substitution of '{}' failed, will try to download: {error}",
                    store.store_dir().display(&path)
                )),
            }
        }
        let fetcher = &self.parts.fetcher;
        let path = match unpack {
            true => {
                let tarball = self.block_on(fetcher.download_tarball(url, name, &[]))?;
                tarball.map_err(fetch_error)?.store_path
            }
            false => {
                let file = self.block_on(fetcher.download_file(url, name, &[]))?;
                file.map_err(fetch_error)?.store_path
            }
        };
        if let Some(expected) = expected {
            let info = self.block_on(store.query_path_info(&path))?.map_err(host_error)?;
            let info = info.ok_or_else(|| self.invalid(&path))?;
            let got = match (unpack, info.ca) {
                (false, Some(ca)) if ca.method == CaMethod::Flat => ca.hash,
                _ => info.nar_hash,
            };
            if got != *expected {
                let (url, hashes) = (url.clone(), Box::new([*expected, got]));
                return Err(fetch_error(FetchError::HashMismatch { url, hashes }));
            }
        }
        self.files.forget();
        Ok(path)
    }

    /// The tree that a flake reference names (`flake:nixpkgs`).
    fn fetch_reference(&self, text: &str) -> HostResult<StorePath> {
        let fetcher = &self.parts.fetcher;
        let features = &fetcher.options().features;
        let has_feature = |name: &str| features.contains(name);
        let mut context = ParseContext { has_feature: &has_feature, warnings: Vec::new() };
        let reference = FlakeRef::parse(text.as_bytes(), &mut context);
        for warning in &context.warnings {
            firn_eval::EvalHost::warn(self, warning);
        }
        let reference = reference.map_err(|error| HostError::new(error.message))?;
        if !has_feature("flakes") {
            return Err(HostError::new(
                "experimental Nix feature 'flakes' is disabled; add '--extra-experimental-features flakes' to enable it",
            ));
        }
        let (input, _) = self.block_on(fetcher.look_up(&reference.input, false))?.map_err(fetch_error)?;
        let tree = self.block_on(fetcher.fetch_once(&input))?.map_err(fetch_error)?;
        self.files.forget();
        Ok(tree.store_path)
    }

    /// Fetches an input; what is known of it then.
    pub(crate) fn fetch_input(&self, input: &Input) -> HostResult<(StorePath, Attrs)> {
        let tree = self.block_on(self.parts.fetcher.fetch_tree(input))?.map_err(fetch_error)?;
        self.files.forget();
        Ok((tree.store_path, tree.attrs))
    }

    /// Fetches an input of a lock file.
    pub(crate) fn fetch_locked_input(&self, input: &Input) -> HostResult<(StorePath, Attrs)> {
        let tree = self.block_on(self.parts.fetcher.fetch_locked(input))?.map_err(fetch_error)?;
        self.files.forget();
        Ok((tree.store_path, tree.attrs))
    }

    /// Copies the closure of a path, rewritten or as it is.
    pub(crate) fn closure_from_cache(&self, request: &ClosureRequest) -> HostResult<StorePath> {
        let cache = self.open_cache(&request.from_store)?;
        let store = &*self.parts.store;
        let shown = |path: &StorePath| store.store_dir().display(path);
        let path = match &request.to_path {
            Some(to) => self.rewritten(&*cache, &request.from_path, to.as_ref())?,
            None => {
                self.copied(&*cache, &request.from_path)?;
                request.from_path.clone()
            }
        };
        let info = self.block_on(store.query_path_info(&path))?.map_err(host_error)?;
        let info = info.ok_or_else(|| self.invalid(&path))?;
        let content_addressed = info.is_content_addressed(store.store_dir());
        let text = match (request.to_path.is_some(), request.input_addressed, content_addressed) {
            (true, _, false) => format!(
                "The 'toPath' value '{}' is input-addressed, so it can't possibly be the result of rewriting to a \
                 content-addressed path.\n\nSet 'toPath' to an empty string to make Nix report the correct \
                 content-addressed path.",
                shown(&path)
            ),
            (false, false, false) => format!(
                "The 'fromPath' value '{}' is input-addressed, but 'inputAddressed' is set to 'false' (default).\n\n\
                 If you do intend to fetch an input-addressed store path, add\n\n    inputAddressed = true;\n\n\
                 to the 'fetchClosure' arguments.\n\nNote that to ensure authenticity input-addressed store paths, \
                 users must configure a trusted binary cache public key on their systems. This is not needed for \
                 content-addressed paths.",
                shown(&path)
            ),
            (false, true, true) => format!(
                "The store object referred to by 'fromPath' at '{}' is not input-addressed, but 'inputAddressed' is \
                 set to 'true'.\n\nRemove the 'inputAddressed' attribute (it defaults to 'false') to expect \
                 'fromPath' to be content-addressed",
                shown(&path)
            ),
            _ => {
                self.files.forget();
                return Ok(path);
            }
        };
        Err(HostError::new(text))
    }

    fn open_cache(&self, uri: &str) -> HostResult<std::sync::Arc<dyn Store>> {
        let parsed = StoreUri::parse(uri, "/").map_err(host_error)?;
        let in_test = std::env::var_os("_NIX_IN_TEST").is_some();
        let StoreKind::Specified { scheme, authority } = &parsed.kind else {
            return Err(HostError::new("'fetchClosure' only supports http:// and https:// stores"));
        };
        if !(matches!(scheme.as_str(), "http" | "https") || in_test && scheme == "file") {
            return Err(HostError::new("'fetchClosure' only supports http:// and https:// stores"));
        }
        if !parsed.params.is_empty() {
            let text = format!("'fetchClosure' does not support URL query parameters (in '{uri}')");
            return Err(HostError::new(text));
        }
        (self.parts.open_cache)(scheme, authority).map_err(HostError::new)
    }

    fn copied(&self, cache: &dyn Store, path: &StorePath) -> HostResult<()> {
        let store = &*self.parts.store;
        let copy = async {
            if store.is_valid_path(path).await? {
                return Ok(());
            }
            let closure =
                compute_fs_closure(cache, &[path.clone()].into(), ClosureOptions::default()).await?;
            copy_paths(cache, store, &closure, CopyOptions::CHECKED, &self.parts.logger).await.map(drop)
        };
        self.block_on(copy)?.map_err(host_error)
    }

    fn rewritten(
        &self,
        cache: &dyn Store,
        from: &StorePath,
        to: Option<&StorePath>,
    ) -> HostResult<StorePath> {
        let store = &*self.parts.store;
        if let Some(to) = to
            && self.block_on(store.is_valid_path(to))?.map_err(host_error)?
        {
            return Ok(to.clone());
        }
        let wanted = [from.clone()].into();
        let renamed = self.block_on(make_content_addressed(cache, store, &wanted, |_, _| ()))?;
        let renamed = renamed.map_err(host_error)?;
        let got = renamed.get(from).unwrap_or(from);
        let shown = |path: &StorePath| store.store_dir().display(path);
        match to {
            Some(to) if to == got => Ok(to.clone()),
            Some(to) => Err(HostError::new(format!(
                "rewriting '{}' to content-addressed form yielded '{}', while '{}' was expected",
                shown(from),
                shown(got),
                shown(to)
            ))),
            None => Err(HostError::new(format!(
                "rewriting '{}' to content-addressed form yielded '{}'\n\
                 Use this value for the 'toPath' attribute passed to 'fetchClosure'",
                shown(from),
                shown(got)
            ))),
        }
    }
}
