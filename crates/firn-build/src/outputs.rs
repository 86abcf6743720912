//! From what the builder left to valid paths.
//!
//! All processes of the build are dead when this begins. Each output is canonicalised, scanned for references,
//! rewritten where it was made under another path than its own, moved to its place, checked and, all together,
//! registered.

use crate::checks::Outputs;
use crate::config::BuildConfig;
use crate::environment::Rewrites;
use crate::hooks;
use crate::place::{SandboxRoot, StoreTempDir};
use crate::text::{io_failure, paint, quote};
use crate::trees::{
    HashRewrites, content_hash, copy_rewritten, move_tree, nar_hash, scan_and_hash, with_suffix,
};
use firn_core::store_path::{References, output_path_name};
use firn_core::{CaMethod, ContentAddress, Hash, HashAlgo, HashFormat, StorePath, ValidPathInfo};
use firn_derivation::modulo::{HashModuloError, Mask};
use firn_derivation::{Derivation, DerivationOptions, DerivationOutput};
use firn_sandbox::BuildUser;
use firn_scheduler::BuildFailure;
use firn_store::activity::Logger;
use firn_store::{BuildMode, BuildStatus, BuildTarget, OutputTree, Realisation};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// One output before and during the build.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    /// The final path where it is known beforehand.
    pub path: Option<StorePath>,
    /// Whether `path` was valid before.
    pub valid: bool,
    /// The path that the builder makes it under.
    pub scratch: StorePath,
}

/// The path that stands for an output which cannot be made under its own: nothing else has it, since nothing else is
/// hashed from such a text.
pub(crate) fn scratch_path(
    target: &dyn BuildTarget,
    drv: &StorePath,
    what: &str,
    name: &str,
) -> Result<StorePath, BuildFailure> {
    let kind = format!("rewrite:{drv}:{what}");
    target.store_dir().make_path(&kind, &Hash::dummy(), name).map_err(BuildFailure::other)
}

/// Everything that registering needs to know of the build.
pub(crate) struct Registration<'a> {
    pub target: &'a Arc<dyn BuildTarget>,
    pub config: &'a BuildConfig,
    pub logger: &'a Arc<dyn Logger>,
    pub drv_path: &'a StorePath,
    pub drv: &'a Derivation,
    pub options: &'a DerivationOptions,
    pub mode: BuildMode,
    pub input_paths: &'a BTreeSet<StorePath>,
    pub planned: &'a BTreeMap<String, Planned>,
    /// `None`: the builder wrote to the store itself.
    pub root: Option<&'a SandboxRoot>,
    pub user: Option<&'a BuildUser>,
    pub build_dir: &'a Path,
}

/// An output as the builder left it.
struct Found {
    name: String,
    actual: PathBuf,
    mode: u32,
    is_file: bool,
    references: BTreeSet<StorePath>,
    hash: Hash,
    size: u64,
}

fn rejected(message: String) -> BuildFailure {
    BuildFailure::new(BuildStatus::OutputRejected, message)
}

impl Registration<'_> {
    /// Registers everything; returns all outputs by name.
    pub fn run(&self) -> Result<BTreeMap<String, StorePath>, BuildFailure> {
        let mut outputs = BTreeMap::new();
        let mut rewrites = HashRewrites::new();
        for (name, planned) in self.planned {
            if let (Some(path), true) = (&planned.path, self.is_skipped(planned)) {
                outputs.insert(name.clone(), path.clone());
                if *path != planned.scratch {
                    rewrites.insert(planned.scratch.hash_part().to_owned(), path.hash_part().to_owned());
                }
            }
        }
        let found = self.find()?;
        let mut infos = BTreeMap::new();
        for found in self.sort(found)? {
            let name = found.name.clone();
            let info = self.take(found, &mut rewrites)?;
            outputs.insert(name.clone(), info.path.clone());
            infos.insert(name, info);
        }
        let target = &**self.target;
        let checks =
            Outputs { target, drv_path: self.drv_path, drv: self.drv, options: self.options, infos: &infos };
        checks.check()?;
        if self.mode != BuildMode::Check {
            let infos: Vec<ValidPathInfo> = infos.into_values().collect();
            target.register_outputs(&infos).map_err(BuildFailure::other)?;
            self.register_realisations(&outputs)?;
        }
        Ok(outputs)
    }

    /// Notes what the outputs are, before anybody hears that they were built: the hook after the build may ask.
    /// A derivation that was resolved has no inputs left that its hash would need.
    fn register_realisations(&self, outputs: &BTreeMap<String, StorePath>) -> Result<(), BuildFailure> {
        let impure = self.drv.derivation_type().is_ok_and(|kind| kind.is_impure());
        if !self.config.ca_derivations || !self.drv.input_drvs.is_empty() || impure {
            return Ok(());
        }
        let hash = self
            .drv
            .hash_modulo(self.target.store_dir(), Mask::Outputs, |input| {
                let (output, drv) = (String::new(), input.base_name().to_owned());
                Err(HashModuloError::NoOutput { output, drv })
            })
            .map_err(BuildFailure::other)?;
        for (name, path) in outputs {
            let Some(hash) = hash.output(name) else { continue };
            let id = format!("{}!{name}", hash.to_prefixed(HashFormat::Base16));
            let mut realisation = Realisation::new(id, path.clone());
            let fingerprint = realisation.fingerprint();
            for key in &self.config.secret_keys {
                realisation.signatures.insert(key.sign(fingerprint.as_bytes()));
            }
            self.target.register_realisation(&realisation).map_err(BuildFailure::other)?;
        }
        Ok(())
    }

    /// Outputs that were valid before are not touched, unless they are what is looked at.
    fn is_skipped(&self, planned: &Planned) -> bool {
        planned.valid && self.mode == BuildMode::Normal
    }

    /// Where an output is, and how messages call the place.
    fn actual(&self, path: &StorePath) -> (PathBuf, PathBuf) {
        match self.root {
            Some(root) => (root.output(path), root.output_name(path)),
            None => {
                let path = self.target.real_store_dir().join(path.base_name());
                (path.clone(), path)
            }
        }
    }

    /// A message in which outputs are called as elsewhere: they are reached through descriptors.
    fn named(&self, message: &str) -> String {
        let mut message = message.to_owned();
        for planned in self.planned.values() {
            let (actual, shown) = self.actual(&planned.scratch);
            message = message.replace(&*actual.to_string_lossy(), &shown.to_string_lossy());
        }
        message
    }

    /// Looks at all outputs, makes them canonical and scans them.
    fn find(&self) -> Result<Vec<Found>, BuildFailure> {
        let mut candidates = self.input_paths.clone();
        candidates.extend(self.planned.values().map(|p| p.scratch.clone()));
        let mut stats = Vec::new();
        let mut trees = Vec::new();
        for (name, planned) in self.planned {
            if self.is_skipped(planned) {
                continue;
            }
            let (actual, shown) = self.actual(&planned.scratch);
            let meta = match std::fs::symlink_metadata(&actual) {
                Ok(meta) => meta,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    return Err(rejected(format!(
                        "builder for '{}' failed to produce output path for output '{}' at {}",
                        paint(self.target.store_dir().display(self.drv_path)),
                        paint(name),
                        quote(&shown)
                    )));
                }
                Err(e) => return Err(io_failure("getting status of", &shown)(e)),
            };
            let mode = meta.permissions().mode();
            let foreign = self.user.is_some_and(|user| meta.uid() != user.uid);
            if foreign || (!meta.is_symlink() && mode & 0o022 != 0) {
                return Err(rejected(format!(
                    "suspicious ownership or permission on {} for output '{}'; rejecting this build output",
                    quote(&shown),
                    paint(name)
                )));
            }
            let uid_range = self.user.map(|user| user.uid..=user.uid.saturating_add(user.count - 1));
            trees.push(OutputTree { path: actual.clone(), uid_range });
            stats.push((name.clone(), actual, mode, meta.is_file()));
        }
        self.target.canonicalise_outputs(&trees).map_err(|e| rejected(self.named(&e.to_string())))?;
        let mut found = Vec::with_capacity(stats.len());
        for (name, actual, mode, is_file) in stats {
            let (references, hash, size) = scan_and_hash(&actual, &candidates)?;
            let discard = self.options.unsafe_discard_references.get(&name).copied().unwrap_or(false);
            let references = if discard { BTreeSet::new() } else { references };
            found.push(Found { name, actual, mode, is_file, references, hash, size });
        }
        Ok(found)
    }

    /// Orders outputs so that each comes after those it refers to: their final paths are part of its content.
    fn sort(&self, found: Vec<Found>) -> Result<Vec<Found>, BuildFailure> {
        let by_scratch: BTreeMap<&StorePath, &str> =
            self.planned.iter().map(|(name, p)| (&p.scratch, name.as_str())).collect();
        let mut left = found;
        let mut sorted: Vec<Found> = Vec::new();
        while !left.is_empty() {
            let names: BTreeSet<String> = left.iter().map(|f| f.name.clone()).collect();
            let waits_for = |f: &Found| {
                let others = f.references.iter().filter_map(|r| by_scratch.get(r));
                others.copied().find(|other| *other != f.name && names.contains(*other)).map(str::to_owned)
            };
            let (ready, waiting): (Vec<Found>, Vec<Found>) =
                left.into_iter().partition(|f| waits_for(f).is_none());
            if ready.is_empty() {
                let (path, parent) = waiting
                    .first()
                    .map(|f| (waits_for(f).unwrap_or_default(), f.name.clone()))
                    .unwrap_or_default();
                return Err(rejected(format!(
                    "cycle detected in build of '{}' in the references of output '{}' from output '{}'",
                    paint(self.target.store_dir().display(self.drv_path)),
                    paint(path),
                    paint(parent)
                )));
            }
            sorted.extend(ready);
            left = waiting;
        }
        Ok(sorted)
    }

    /// Brings one output to its place.
    fn take(&self, mut found: Found, rewrites: &mut HashRewrites) -> Result<ValidPathInfo, BuildFailure> {
        let name = found.name.clone();
        let Some((planned, output)) = self.planned.get(&name).zip(self.drv.outputs.get(&name)) else {
            return Err(BuildFailure::other(format!("output '{name}' is not one of the derivation's")));
        };
        let scratch = &planned.scratch;
        // Lives until the output has left it.
        let mut copy = None;
        let mut info = match output {
            DerivationOutput::InputAddressed(path) => {
                if path != scratch {
                    rewrites.insert(scratch.hash_part().to_owned(), path.hash_part().to_owned());
                }
                if self.needs_rewrite(&found, rewrites) {
                    self.rewrite(&found.actual, rewrites)?;
                    (found.hash, found.size) = nar_hash(&found.actual)?;
                }
                let mut info = ValidPathInfo::new(path.clone(), found.hash, found.size);
                info.references = final_references(&found.references, rewrites)?;
                info
            }
            DerivationOutput::CaFixed(ContentAddress { method, hash }) => {
                copy = Some(self.copy(&mut found)?);
                self.content_addressed(&mut found, scratch, *method, hash.algo(), rewrites)?
            }
            DerivationOutput::Impure { method, algo } => {
                copy = Some(self.copy(&mut found)?);
                self.content_addressed(&mut found, scratch, *method, *algo, rewrites)?
            }
            DerivationOutput::CaFloating { method, algo } => {
                self.content_addressed(&mut found, scratch, *method, *algo, rewrites)?
            }
            DerivationOutput::Deferred => {
                return Err(BuildFailure::other(format!(
                    "the path of output '{name}' is not known although the derivation was resolved"
                )));
            }
        };
        if info.path != *scratch {
            rewrites.insert(scratch.hash_part().to_owned(), info.path.hash_part().to_owned());
        }
        info.deriver = Some(self.drv_path.clone());
        info.ultimate = true;
        info.registration_time =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        for key in &self.config.secret_keys {
            let fingerprint = info.fingerprint(self.target.store_dir());
            info.signatures.insert(key.sign(fingerprint.as_bytes()));
        }
        self.target.add_temp_roots(std::slice::from_ref(&info.path)).map_err(BuildFailure::other)?;

        let expected = output.path(self.target.store_dir(), &self.drv.name, &name);
        let _lock = match expected {
            // Locked already, with all other paths that were known before.
            Ok(Some(path)) if path == info.path => None,
            _ => Some(self.lock(&info.path)?),
        };
        if self.mode == BuildMode::Check {
            self.compare(&found, &info)?;
        } else {
            self.install(&found, &info)?;
            if info.ca.is_some() {
                // Right away, while its lock is held; also where the derivation wanted another hash, so that
                // correcting the derivation does not mean fetching all again.
                let infos = std::slice::from_ref(&info);
                self.target.register_outputs(infos).map_err(BuildFailure::other)?;
            }
        }
        drop(copy);
        Ok(info)
    }

    /// Waits for the lock of a path that was not known before the build.
    fn lock(&self, path: &StorePath) -> Result<Box<dyn std::any::Any + Send>, BuildFailure> {
        let real = self.target.real_store_dir().join(path.base_name());
        let paths = BTreeSet::from([real]);
        loop {
            if let Some(lock) = self.target.try_lock_outputs(&paths).map_err(BuildFailure::other)? {
                return Ok(lock);
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }

    /// Whether the output holds a hash part that is to be replaced.
    fn needs_rewrite(&self, found: &Found, rewrites: &HashRewrites) -> bool {
        // Discarded references are still in the content.
        let discards = self.options.unsafe_discard_references.get(&found.name) == Some(&true);
        !rewrites.is_empty()
            && (discards || found.references.iter().any(|r| rewrites.contains_key(r.hash_part())))
    }

    /// Replaces hash parts in a tree.
    fn rewrite(&self, actual: &Path, rewrites: &HashRewrites) -> Result<(), BuildFailure> {
        let fresh = with_suffix(actual, ".tmp");
        self.target.remove_tree(&fresh).map_err(BuildFailure::other)?;
        copy_rewritten(actual, &fresh, rewrites)?;
        self.target.remove_tree(actual).map_err(BuildFailure::other)?;
        move_tree(&fresh, actual)?;
        self.canonicalise(actual)
    }

    fn canonicalise(&self, path: &Path) -> Result<(), BuildFailure> {
        let trees = [OutputTree { path: path.to_owned(), uid_range: None }];
        self.target.canonicalise_outputs(&trees).map_err(BuildFailure::other)
    }

    /// Copies an output to where nobody else can reach it: a builder with network access may have handed an open
    /// descriptor of it to somebody outside.
    fn copy(&self, found: &mut Found) -> Result<StoreTempDir, BuildFailure> {
        let dir = StoreTempDir::create(self.target)?;
        let path = dir.path.join("x");
        copy_rewritten(&found.actual, &path, &HashRewrites::new())?;
        self.canonicalise(&path)?;
        found.actual = path;
        Ok(dir)
    }

    /// Computes the path of a content-addressed output, and rewrites what refers to itself.
    fn content_addressed(
        &self,
        found: &mut Found,
        scratch: &StorePath,
        method: CaMethod,
        algo: HashAlgo,
        rewrites: &HashRewrites,
    ) -> Result<ValidPathInfo, BuildFailure> {
        let (_, shown) = self.actual(scratch);
        let flat = matches!(method, CaMethod::Flat | CaMethod::Text);
        if flat && (!found.is_file || found.mode & 0o100 != 0) {
            return Err(rejected(format!(
                "output path {} should be a non-executable regular file since recursive hashing is not enabled \
                 (one of outputHashMode={{flat,text}} is true)",
                quote(&shown)
            )));
        }
        if self.needs_rewrite(found, rewrites) {
            self.rewrite(&found.actual, rewrites)?;
        }
        let hash = content_hash(&found.actual, method, algo, scratch.hash_part())?;
        let mut others = found.references.clone();
        let self_reference = others.remove(scratch);
        let references = References { others: final_references(&others, rewrites)?, self_reference };
        let has_references = self_reference || !references.others.is_empty();
        let may_refer =
            method == CaMethod::Text || (method == CaMethod::NixArchive && algo == HashAlgo::Sha256);
        if has_references && !may_refer {
            return Err(rejected(format!(
                "fixed output derivation '{}' is not allowed to refer to other store paths.\nYou may need to use the \
                 'unsafeDiscardReferences' derivation attribute, see the manual for more details.",
                paint(&self.drv.name)
            )));
        }
        let ca = ContentAddress { method, hash };
        let path = self
            .target
            .store_dir()
            .make_fixed_output_path(&ca, &output_path_name(&self.drv.name, &found.name), &references)
            .map_err(BuildFailure::other)?;
        if self_reference && path != *scratch {
            let own = [(scratch.hash_part().to_owned(), path.hash_part().to_owned())].into();
            self.rewrite(&found.actual, &own)?;
        }
        let (nar_hash, nar_size) = nar_hash(&found.actual)?;
        let mut info = ValidPathInfo::new(path.clone(), nar_hash, nar_size);
        info.references = references.others;
        if self_reference {
            info.references.insert(path);
        }
        info.ca = Some(ca);
        Ok(info)
    }

    /// Moves an output to its final path.
    fn install(&self, found: &Found, info: &ValidPathInfo) -> Result<(), BuildFailure> {
        let dest = self.target.real_store_dir().join(info.path.base_name());
        let valid = self.target.path_info(&info.path).map_err(BuildFailure::other)?.is_some();
        if dest != found.actual {
            match (self.mode, valid) {
                (BuildMode::Repair, _) => {
                    let token = crate::random::token().map_err(BuildFailure::other)?;
                    let old = with_suffix(&dest, &format!(".old-{}-{token}", std::process::id()));
                    if std::fs::symlink_metadata(&dest).is_ok() {
                        move_tree(&dest, &old)?;
                    }
                    if let Err(e) = move_tree(&found.actual, &dest) {
                        let _ = move_tree(&old, &dest);
                        return Err(e);
                    }
                    self.target.remove_tree(&old).map_err(BuildFailure::other)?;
                }
                // The same content came from somewhere else.
                (_, true) => self.target.remove_tree(&found.actual).map_err(BuildFailure::other)?,
                (_, false) => {
                    self.target.remove_tree(&dest).map_err(BuildFailure::other)?;
                    move_tree(&found.actual, &dest)?;
                }
            }
        }
        if !valid {
            self.target.optimise_output(&info.path).map_err(BuildFailure::other)?;
        }
        Ok(())
    }

    /// Compares an output with the valid one.
    fn compare(&self, found: &Found, info: &ValidPathInfo) -> Result<(), BuildFailure> {
        let Some(mut old) = self.target.path_info(&info.path).map_err(BuildFailure::other)? else {
            return Ok(());
        };
        if old.nar_hash == info.nar_hash {
            if !old.ultimate {
                // Seen to be what the derivation gives, so trusted from now on.
                old.ultimate = true;
                self.target.register_outputs(&[old]).map_err(BuildFailure::other)?;
            }
            return Ok(());
        }
        let dest = self.target.real_store_dir().join(info.path.base_name());
        let drv = self.target.store_dir().display(self.drv_path);
        let mut message =
            format!("derivation '{}' may not be deterministic: output {} differs", paint(&drv), quote(&dest));
        if self.config.diff_hook.is_some() || self.config.keep_failed {
            let kept = with_suffix(&dest, ".check");
            self.target.remove_tree(&kept).map_err(BuildFailure::other)?;
            move_tree(&found.actual, &kept)?;
            if let Some(hook) = &self.config.diff_hook {
                hooks::diff(hook, self.user, &**self.logger, [&dest, &kept], &drv, self.build_dir);
            }
            message += &format!(" from {}", quote(&kept));
        }
        Err(BuildFailure::new(BuildStatus::NotDeterministic, message))
    }
}

/// References under their final paths.
fn final_references(
    references: &BTreeSet<StorePath>,
    rewrites: &HashRewrites,
) -> Result<BTreeSet<StorePath>, BuildFailure> {
    references
        .iter()
        .map(|path| match rewrites.get(path.hash_part()) {
            None => Ok(path.clone()),
            Some(hash) => {
                StorePath::from_base_name(&format!("{hash}-{}", path.name())).map_err(BuildFailure::other)
            }
        })
        .collect()
}

/// What is replaced in the builder's arguments and environment: placeholders, and hash parts of outputs that are made
/// elsewhere.
pub(crate) fn input_rewrites(target: &dyn BuildTarget, planned: &BTreeMap<String, Planned>) -> Rewrites {
    let mut rewrites = Rewrites::new();
    for (name, planned) in planned {
        rewrites.insert(
            firn_derivation::output_placeholder(name).into_bytes(),
            target.store_dir().display(&planned.scratch).into_bytes(),
        );
        if let Some(path) = &planned.path
            && *path != planned.scratch
        {
            rewrites.insert(path.hash_part().into(), planned.scratch.hash_part().into());
        }
    }
    rewrites
}
