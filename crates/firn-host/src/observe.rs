//! A host in front of the host that notes everything that evaluation sees of the world, so that its result can be used
//! again for as long as all of that stays the same.

use crate::stamps::{Seen, Stat, kind_name, now, tree};
use firn_core::flake_ref::{Attrs as InputAttrs, FlakeRef, Input};
use firn_core::{Hash, StoreDir, StorePath};
use firn_derivation::Derivation;
use firn_eval::{
    ClosureRequest, ContextElem, CopySource, EvalError, EvalHost, FetchRequest, FileKind, FlakeSources,
    HostResult, ParsedFiles,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// What an evaluation depended on.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Observations {
    seen: Vec<(String, Seen)>,
    /// Seconds since 1970 from which on it does not hold any more: downloads get old.
    expires: Option<i64>,
}

impl Observations {
    /// Whether evaluation would see the same again.
    #[must_use]
    pub fn still_hold(&self, host: &dyn EvalHost) -> bool {
        self.expires.is_none_or(|time| now() < time)
            && self.seen.iter().all(|(name, seen)| seen.still_holds(name, host))
    }
}

#[derive(Default)]
struct Record {
    /// By what it is and its name; the first look counts.
    seen: BTreeMap<(u8, Vec<u8>), Seen>,
    expires: Option<i64>,
    /// Something that cannot be looked at again.
    spoilt: bool,
}

/// An [`EvalHost`] that notes what is seen through it.
pub struct ObservingHost {
    inner: Arc<dyn EvalHost>,
    record: Mutex<Record>,
    /// For how many seconds a download without a hash may be used.
    ttl: u32,
}

impl ObservingHost {
    #[must_use]
    pub fn new(inner: Arc<dyn EvalHost>, ttl: u32) -> Self {
        Self { inner, record: Mutex::default(), ttl }
    }

    /// What was seen so far; nothing if that cannot be looked at again.
    #[must_use]
    pub fn observations(&self) -> Option<Observations> {
        let record = self.record.lock();
        if record.spoilt {
            return None;
        }
        let mut seen = Vec::with_capacity(record.seen.len());
        for ((_, name), what) in &record.seen {
            // Names that are no text are rare enough.
            seen.push((String::from_utf8(name.clone()).ok()?, what.clone()));
        }
        Some(Observations { seen, expires: record.expires })
    }

    /// The result is not to be used again.
    pub fn spoil(&self) {
        self.record.lock().spoilt = true;
    }

    fn note(&self, class: u8, name: &[u8], seen: impl FnOnce() -> Option<Seen>) {
        let key = (class, name.to_vec());
        if self.record.lock().seen.contains_key(&key) {
            return;
        }
        // Not under the lock: a hash of a large file takes a while.
        match seen() {
            Some(seen) => drop(self.record.lock().seen.insert(key, seen)),
            None => self.spoil(),
        }
    }

    fn stat(&self, path: &[u8]) -> Option<Stat> {
        Stat::follow(Path::new(OsStr::from_bytes(&self.inner.real_path(path))))
    }

    /// Spoils the record if something failed, since it may go well another time.
    fn spoilt_by<T, E>(&self, result: Result<T, E>) -> Result<T, E> {
        if result.is_err() {
            self.spoil();
        }
        result
    }
}

impl EvalHost for ObservingHost {
    fn parsed_files(&self) -> Option<&dyn ParsedFiles> {
        self.inner.parsed_files()
    }

    fn store_dir(&self) -> &StoreDir {
        self.inner.store_dir()
    }

    fn read_file(&self, path: &[u8]) -> HostResult<Vec<u8>> {
        // Before it is read: a change meanwhile shows later.
        let stat = self.stat(path);
        let bytes = self.spoilt_by(self.inner.read_file(path))?;
        self.note(0, path, || Some(Seen::file(stat, &bytes)));
        Ok(bytes)
    }

    fn file_kind(&self, path: &[u8]) -> HostResult<Option<FileKind>> {
        let kind = self.spoilt_by(self.inner.file_kind(path))?;
        self.note(1, path, || Some(Seen::Kind(kind_name(kind).to_owned())));
        Ok(kind)
    }

    fn read_dir(&self, path: &[u8]) -> HostResult<BTreeMap<Vec<u8>, FileKind>> {
        let stat = self.stat(path);
        let entries = self.spoilt_by(self.inner.read_dir(path))?;
        self.note(2, path, || Some(Seen::folder(stat, &entries)));
        Ok(entries)
    }

    fn read_link(&self, path: &[u8]) -> HostResult<Vec<u8>> {
        let target = self.spoilt_by(self.inner.read_link(path))?;
        self.note(3, path, || String::from_utf8(target.clone()).ok().map(Seen::Link));
        Ok(target)
    }

    fn env_var(&self, name: &[u8]) -> Option<Vec<u8>> {
        let value = self.inner.env_var(name);
        self.note(4, name, || match &value {
            None => Some(Seen::Variable(None)),
            Some(value) => String::from_utf8(value.clone()).ok().map(|value| Seen::Variable(Some(value))),
        });
        value
    }

    fn current_time(&self) -> i64 {
        self.spoil();
        self.inner.current_time()
    }

    fn copy_to_store(&self, source: CopySource<'_>) -> Result<StorePath, EvalError> {
        let path = source.path;
        let real = self.inner.real_path(path);
        self.note(5, path, || tree(Path::new(OsStr::from_bytes(&real))).map(Seen::Tree));
        self.inner.copy_to_store(source)
    }

    fn add_text(
        &self,
        name: &str,
        contents: &[u8],
        references: &BTreeSet<StorePath>,
    ) -> HostResult<StorePath> {
        self.inner.add_text(name, contents, references)
    }

    fn write_derivation(
        &self,
        path: &StorePath,
        aterm: Vec<u8>,
        aterm_hash: Hash,
        references: BTreeSet<StorePath>,
    ) -> HostResult<()> {
        self.inner.write_derivation(path, aterm, aterm_hash, references)
    }

    // What is known of a valid path never changes.
    fn read_derivation(&self, path: &StorePath) -> HostResult<Derivation> {
        self.spoilt_by(self.inner.read_derivation(path))
    }

    fn closure(&self, path: &StorePath) -> HostResult<BTreeSet<StorePath>> {
        self.spoilt_by(self.inner.closure(path))
    }

    fn references(&self, path: &StorePath) -> HostResult<BTreeSet<StorePath>> {
        self.is_valid(path)?;
        self.spoilt_by(self.inner.references(path))
    }

    fn ensure_path(&self, path: &StorePath) -> HostResult<()> {
        self.spoilt_by(self.inner.ensure_path(path))
    }

    fn is_valid(&self, path: &StorePath) -> HostResult<bool> {
        let valid = self.spoilt_by(self.inner.is_valid(path))?;
        self.note(6, self.store_dir().display(path).as_bytes(), || Some(Seen::Valid(valid)));
        Ok(valid)
    }

    fn realise(&self, context: &[ContextElem]) -> HostResult<Vec<(String, String)>> {
        self.spoilt_by(self.inner.realise(context))
    }

    fn fetch(&self, request: &FetchRequest) -> HostResult<StorePath> {
        let path = self.spoilt_by(self.inner.fetch(request))?;
        if request.expected.is_none() {
            let end = now().saturating_add(i64::from(self.ttl));
            let mut record = self.record.lock();
            record.expires = Some(record.expires.map_or(end, |known| known.min(end)));
        }
        Ok(path)
    }

    fn fetch_tree(&self, input: &Input) -> HostResult<(StorePath, InputAttrs)> {
        // A working tree may change at any time, and what is not locked at another place.
        self.spoil();
        self.inner.fetch_tree(input)
    }

    fn look_up_input(&self, input: &Input) -> HostResult<Input> {
        // Registries change.
        self.spoil();
        self.inner.look_up_input(input)
    }

    fn fetch_locked(&self, input: &Input) -> HostResult<(StorePath, InputAttrs)> {
        self.spoilt_by(self.inner.fetch_locked(input))
    }

    fn lock_flake(&self, reference: &FlakeRef, pure: bool) -> Result<FlakeSources, EvalError> {
        self.spoil();
        self.inner.lock_flake(reference, pure)
    }

    fn allow_path(&self, path: &StorePath) {
        self.inner.allow_path(path);
    }

    fn fetch_closure(&self, request: &ClosureRequest) -> HostResult<StorePath> {
        self.spoilt_by(self.inner.fetch_closure(request))
    }

    fn check_access(&self, path: &[u8]) -> HostResult<()> {
        self.spoilt_by(self.inner.check_access(path))
    }

    fn shown_path(&self, path: &[u8]) -> Option<Vec<u8>> {
        self.inner.shown_path(path)
    }

    fn check_uri(&self, uri: &str) -> HostResult<()> {
        self.spoilt_by(self.inner.check_uri(uri))
    }

    // What was said has to be said the next time too.
    fn warn(&self, message: &str) {
        self.spoil();
        self.inner.warn(message);
    }

    fn warn_from_expression(&self, message: &[u8]) {
        self.spoil();
        self.inner.warn_from_expression(message);
    }

    fn tells_of_files(&self) -> bool {
        self.inner.tells_of_files()
    }

    fn evaluating_file(&self, path: &[u8]) {
        self.inner.evaluating_file(path);
    }

    fn copied_path(&self, path: &[u8], copy: &StorePath) {
        self.inner.copied_path(path, copy);
    }

    fn instantiated(&self, path: &StorePath) {
        self.inner.instantiated(path);
    }

    fn trace(&self, message: &str) {
        self.spoil();
        self.inner.trace(message);
    }

    fn real_path(&self, path: &[u8]) -> Vec<u8> {
        self.inner.real_path(path)
    }
}
