//! A host in memory: files are given, nothing is written.

use firn_core::flake_ref::{Attrs as InputAttrs, FlakeRef, Input};
use firn_core::store_path::References;
use firn_core::{CaMethod, ContentAddress, Hash, HashAlgo, StoreDir, StorePath};
use firn_derivation::Derivation;
use firn_eval::{
    ContextElem, CopySource, EvalError, EvalHost, EvalResult, EvalSettings, FetchRequest, FileKind,
    HostError, HostResult, Origin, PrintOptions, Vm, print_value,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

#[derive(Default)]
pub struct MemoryHost {
    dir: StoreDir,
    pub files: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What was traced and warned.
    pub said: Mutex<Vec<String>>,
}

fn missing(path: &[u8]) -> HostError {
    HostError::new(format!("path '{}' does not exist", String::from_utf8_lossy(path)))
}

impl EvalHost for MemoryHost {
    fn store_dir(&self) -> &StoreDir {
        &self.dir
    }
    fn read_file(&self, path: &[u8]) -> HostResult<Vec<u8>> {
        self.files.get(path).cloned().ok_or_else(|| missing(path))
    }
    fn file_kind(&self, path: &[u8]) -> HostResult<Option<FileKind>> {
        Ok(self.files.contains_key(path).then_some(FileKind::Regular { executable: false }))
    }
    fn read_dir(&self, path: &[u8]) -> HostResult<BTreeMap<Vec<u8>, FileKind>> {
        Err(missing(path))
    }
    fn read_link(&self, path: &[u8]) -> HostResult<Vec<u8>> {
        Err(missing(path))
    }
    fn env_var(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
    fn current_time(&self) -> i64 {
        0
    }
    fn copy_to_store(&self, source: CopySource<'_>) -> Result<StorePath, EvalError> {
        let text = self.files.get(source.path).cloned().unwrap_or_default();
        let ca = ContentAddress { method: CaMethod::Flat, hash: Hash::of(source.algo, &text) };
        Ok(self.dir.make_fixed_output_path(&ca, source.name, &References::default()).expect("a valid name"))
    }
    fn add_text(
        &self,
        name: &str,
        contents: &[u8],
        references: &BTreeSet<StorePath>,
    ) -> HostResult<StorePath> {
        let hash = Hash::of(HashAlgo::Sha256, contents);
        self.dir.make_text_path(name, &hash, references).map_err(|e| HostError::new(e.to_string()))
    }
    fn write_derivation(&self, _: &StorePath, _: Vec<u8>, _: Hash, _: BTreeSet<StorePath>) -> HostResult<()> {
        Ok(())
    }
    fn read_derivation(&self, path: &StorePath) -> HostResult<Derivation> {
        Err(missing(path.base_name().as_bytes()))
    }
    fn closure(&self, path: &StorePath) -> HostResult<BTreeSet<StorePath>> {
        Ok([path.clone()].into())
    }
    fn references(&self, _: &StorePath) -> HostResult<BTreeSet<StorePath>> {
        Ok(BTreeSet::new())
    }
    fn ensure_path(&self, _: &StorePath) -> HostResult<()> {
        Ok(())
    }
    fn is_valid(&self, _: &StorePath) -> HostResult<bool> {
        Ok(false)
    }
    fn realise(&self, _: &[ContextElem]) -> HostResult<Vec<(String, String)>> {
        Err(HostError::new("nothing can be built here"))
    }
    fn fetch_tree(&self, _: &Input) -> HostResult<(StorePath, InputAttrs)> {
        Err(HostError::new("nothing can be fetched here"))
    }

    fn look_up_input(&self, _: &Input) -> HostResult<Input> {
        Err(HostError::new("there are no registries here"))
    }

    fn fetch_locked(&self, _: &Input) -> HostResult<(StorePath, InputAttrs)> {
        Err(HostError::new("nothing can be fetched here"))
    }

    fn lock_flake(&self, reference: &FlakeRef, _: bool) -> Result<firn_eval::FlakeSources, EvalError> {
        Err(EvalError::new(firn_eval::ErrorKind::Eval, format!("no flake '{}' here", reference.shown())))
    }

    fn fetch_closure(&self, request: &firn_eval::ClosureRequest) -> HostResult<StorePath> {
        Err(HostError::new(format!("cannot fetch from '{}'", request.from_store)))
    }

    fn fetch(&self, request: &FetchRequest) -> HostResult<StorePath> {
        Err(HostError::new(format!("cannot fetch {}", request.url)))
    }
    fn warn(&self, message: &str) {
        self.said.lock().expect("no panic while locked").push(format!("warning: {message}"));
    }
    fn trace(&self, message: &str) {
        self.said.lock().expect("no panic while locked").push(format!("trace: {message}"));
    }
}

/// Evaluates strictly and prints; an error's message comes after `error: `.
pub fn evaluate(host: Arc<MemoryHost>, text: &str) -> String {
    firn_eval::with_large_stack(|| {
        let mut vm = Vm::new(host, EvalSettings { read_only: true, ..EvalSettings::default() });
        let result: EvalResult<Vec<u8>> =
            vm.eval_text(text.as_bytes(), Origin::String, b"/").and_then(|value| {
                vm.force_deep(value)?;
                print_value(&mut vm, value, &PrintOptions::ambiguous())
            });
        match result {
            Ok(shown) => String::from_utf8_lossy(&shown).into_owned(),
            Err(error) => format!("error: {}", error.message()),
        }
    })
}
