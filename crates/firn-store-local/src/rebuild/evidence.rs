//! What the disk says of each path.

use crate::derivations;
use crate::parallel::in_parallel;
use crate::store::LocalStore;
use firn_core::store_path::References;
use firn_core::{CaMethod, ContentAddress, Hash, HashAlgo, StorePath, ValidPathInfo};
use firn_derivation::{Derivation, DerivationOutput};
use firn_nar::fs::{DumpOptions, dump_path};
use firn_nar::{HashSink, ModuloHasher, RefScanner};
use firn_store::{StoreError, StoreResult};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What was found of one path.
pub(super) struct Looked {
    /// Why it cannot be valid.
    unfit: Option<String>,
    nar_hash: Hash,
    nar_size: u64,
    references: BTreeSet<StorePath>,
    /// The hash of the archive with references to itself left out.
    modulo: Hash,
    /// The hash of the bytes, of a regular file.
    flat: Option<Hash>,
    derivation: Option<Derivation>,
    /// Outputs whose paths a derivation states.
    pub(super) outputs: Option<BTreeMap<String, StorePath>>,
}

/// What that means.
pub(super) enum Evidence {
    Certain(Box<ValidPathInfo>),
    Uncertain(Box<ValidPathInfo>, String),
    Unfit(String),
}

/// Derivations by the outputs that they state, with the content address of fixed ones.
pub(super) type Makers = BTreeMap<StorePath, (StorePath, Option<ContentAddress>)>;

/// Reads everything in the store directory that has the name of a store path.
pub(super) fn look_at_all(store: &LocalStore) -> StoreResult<BTreeMap<StorePath, Looked>> {
    let dir = &store.inner.config.real_store_dir;
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(StoreError::io("reading directory", dir))? {
        let name = entry.map_err(StoreError::io("reading directory", dir))?.file_name();
        let Some(Ok(path)) = name.to_str().map(StorePath::from_base_name) else { continue };
        // What locks and builds leave beside paths.
        if !path.name().ends_with(".lock") && !path.name().ends_with(".chroot") {
            paths.push(path);
        }
    }
    paths.sort();
    store.say(format!("reading {} paths...", paths.len()));
    let by_hash: BTreeMap<&str, &StorePath> = paths.iter().map(|path| (path.hash_part(), path)).collect();
    let mut all = BTreeMap::new();
    in_parallel(
        &paths,
        |path| look_at(store, path, &by_hash),
        |path, looked| {
            let unreadable = |e: StoreError| Looked::unfit(format!("it cannot be read: {e}"));
            all.insert(path.clone(), looked.unwrap_or_else(unreadable));
        },
    );
    Ok(all)
}

fn look_at(
    store: &LocalStore,
    path: &StorePath,
    by_hash: &BTreeMap<&str, &StorePath>,
) -> StoreResult<Looked> {
    let real = store.real(path);
    if let Some(place) = unfinished(&real)? {
        return Ok(Looked::unfit(format!(
            "it was not finished: '{}' has the mode or time of a new file",
            place
        )));
    }
    let failed = |e| StoreError::io("hashing", &real)(e);
    let undo_case_hack = store.inner.config.use_case_hack;
    let sink = Sink {
        hash: HashSink::new(HashAlgo::Sha256),
        modulo: ModuloHasher::new(HashAlgo::Sha256, path.hash_part()).map_err(failed)?,
        scanner: RefScanner::new(by_hash.keys().copied()),
    };
    let sink = dump_path(&real, sink, DumpOptions { undo_case_hack, filter: None })?;
    let (nar_hash, nar_size) = sink.hash.finish();
    let found = sink.scanner.into_found();
    let mut looked = Looked {
        unfit: None,
        nar_hash,
        nar_size,
        references: found
            .iter()
            .filter_map(|part| by_hash.get(part.as_str()))
            .map(|p| (*p).clone())
            .collect(),
        modulo: sink.modulo.finish().map_err(failed)?.0,
        flat: None,
        derivation: None,
        outputs: None,
    };
    if real.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
        let mut file = std::fs::File::open(&real).map_err(StoreError::io("opening", &real))?;
        let mut hash = HashSink::new(HashAlgo::Sha256);
        std::io::copy(&mut file, &mut hash).map_err(StoreError::io("reading", &real))?;
        looked.flat = Some(hash.finish().0);
    }
    if path.is_derivation() {
        match store.parse_derivation_file(path) {
            Ok(derivation) => {
                looked.references = derivation.references();
                looked.outputs = Some(derivations::known_outputs(store.dir(), &derivation)?);
                looked.derivation = Some(derivation);
            }
            Err(e) => looked.unfit = Some(e.to_string()),
        }
    }
    Ok(looked)
}

/// A file that has no canonical metadata, if there is one.
fn unfinished(real: &Path) -> StoreResult<Option<String>> {
    let mut todo = vec![real.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = path.symlink_metadata().map_err(StoreError::io("getting status of", &path))?;
        let mode = meta.mode() & 0o7777;
        let fine = meta.is_symlink() || (mode == 0o555 || (mode == 0o444 && meta.is_file()));
        if !fine || meta.mtime() != 1 {
            return Ok(Some(path.display().to_string()));
        }
        if meta.is_dir() {
            for entry in std::fs::read_dir(&path).map_err(StoreError::io("reading directory", &path))? {
                todo.push(entry.map_err(StoreError::io("reading directory", &path))?.path());
            }
        }
    }
    Ok(None)
}

/// Which derivations state which outputs.
pub(super) fn makers(looked: &BTreeMap<StorePath, Looked>) -> Makers {
    let mut makers = Makers::new();
    for (drv, looked) in looked {
        let Some(derivation) = &looked.derivation else { continue };
        for (name, path) in looked.outputs.iter().flatten() {
            let fixed = match derivation.outputs.get(name) {
                Some(DerivationOutput::CaFixed(ca)) => Some(*ca),
                _ => None,
            };
            makers.insert(path.clone(), (drv.clone(), fixed));
        }
    }
    makers
}

impl Looked {
    fn unfit(reason: String) -> Looked {
        Looked {
            unfit: Some(reason),
            nar_hash: Hash::dummy(),
            nar_size: 0,
            references: BTreeSet::new(),
            modulo: Hash::dummy(),
            flat: None,
            derivation: None,
            outputs: None,
        }
    }

    pub(super) fn judge(
        &self,
        store: &LocalStore,
        path: &StorePath,
        known: Option<&ValidPathInfo>,
        makers: &Makers,
    ) -> Evidence {
        if let Some(reason) = &self.unfit {
            return Evidence::Unfit(reason.clone());
        }
        let mut info = ValidPathInfo::new(path.clone(), self.nar_hash, self.nar_size);
        info.references = self.references.clone();
        let maker = makers.get(path);
        info.deriver = maker.map(|(drv, _)| drv.clone());
        if let Some(known) = known {
            if known.nar_hash != self.nar_hash {
                return Evidence::Unfit("it is not what the old database says".into());
            }
            let mut info = info;
            info.deriver = known.deriver.clone().or(info.deriver);
            info.registration_time = known.registration_time;
            info.ultimate = known.ultimate;
            info.signatures = known.signatures.clone();
            info.ca = known.ca;
            return Evidence::Certain(Box::new(info));
        }
        for ca in self.addresses(maker.and_then(|(_, fixed)| *fixed)) {
            info.ca = Some(ca);
            if info.is_content_addressed(store.dir()) || self.is_fixed(store, path, &ca) {
                return Evidence::Certain(Box::new(info));
            }
        }
        info.ca = None;
        if path.is_derivation() {
            return Evidence::Unfit("it is a derivation with another content than its name says".into());
        }
        let reason = match maker {
            Some((drv, _)) => {
                format!("it is an output of '{}', which only building again could prove", store.display(drv))
            }
            None => "nothing says where it comes from".to_owned(),
        };
        Evidence::Uncertain(Box::new(info), reason)
    }

    /// Content addresses that the path may have.
    fn addresses(&self, fixed: Option<ContentAddress>) -> Vec<ContentAddress> {
        let mut all = vec![ContentAddress { method: CaMethod::NixArchive, hash: self.modulo }];
        if let Some(flat) = self.flat {
            all.push(ContentAddress { method: CaMethod::Text, hash: flat });
            all.push(ContentAddress { method: CaMethod::Flat, hash: flat });
        }
        // One that a derivation states counts only if the contents are those; SHA-256 is what can be compared here.
        all.extend(fixed.filter(|ca| match ca.method {
            CaMethod::NixArchive => ca.hash == self.nar_hash,
            _ => Some(ca.hash) == self.flat,
        }));
        all
    }

    /// Whether the path is that of a fixed output without references.
    fn is_fixed(&self, store: &LocalStore, path: &StorePath, ca: &ContentAddress) -> bool {
        let none = References::default();
        ca.method != CaMethod::Text
            && self.references.is_empty()
            && store.dir().make_fixed_output_path(ca, path.name(), &none).is_ok_and(|made| made == *path)
    }
}

/// Everything that is to be known of an archive, at one reading.
struct Sink {
    hash: HashSink,
    modulo: ModuloHasher,
    scanner: RefScanner,
}

impl Write for Sink {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.hash.update(data);
        self.modulo.write_all(data)?;
        self.scanner.update(data);
        Ok(data.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
