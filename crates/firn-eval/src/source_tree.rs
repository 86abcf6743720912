//! Expressions of a folder as one set, as `~/.nix-defexpr` is read.

use crate::attrs::AttrsBuilder;
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::host::FileKind;
use crate::source::Origin;
use crate::value::{Thunk, Value};
use crate::vm::{Vm, host_error};
use firn_syntax::{Sym, sym};
use std::collections::BTreeSet;

/// How many expressions a folder may hold.
const MAX_EXPRESSIONS: usize = 1024;
/// How deep folders may lie in each other: symlinks can make circles.
const MAX_DEPTH: usize = 64;

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn child(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if dir.ends_with(b"/") { b"" } else { b"/" };
    [dir, slash, name].concat()
}

impl Vm {
    /// The value of a file or of a folder with a `default.nix`; for any other folder a set of all expressions
    /// in it and below, by file name without `.nix`, each imported on demand.
    pub fn eval_source_tree(&mut self, path: &[u8]) -> EvalResult<Value> {
        let (resolved, kind) = self.follow_symlinks(path)?;
        if kind.is_none() {
            return Err(self.no_such_file(&resolved));
        }
        if self.is_expression(&resolved, kind)? {
            return self.eval_file(path);
        }
        if kind != Some(FileKind::Directory) {
            let message = format!("path '{}' is not a directory or a Nix expression", shown(path));
            return Err(EvalError::new(ErrorKind::Eval, message));
        }
        let mut all = AttrsBuilder::new();
        all.push(sym!("_combineChannels"), Value::list(&[]));
        let import = self.eval_text(b"import", Origin::Internal("«nix-internal»"), b"/")?;
        let mut gather = Gather { vm: self, import, seen: BTreeSet::new(), all: &mut all };
        gather.folder(&resolved, 0)?;
        Ok(all.finish())
    }

    fn is_expression(&mut self, path: &[u8], kind: Option<FileKind>) -> EvalResult<bool> {
        match kind {
            Some(FileKind::Regular { .. }) => Ok(true),
            Some(FileKind::Directory) => Ok(self.follow_symlinks(&child(path, b"default.nix"))?.1.is_some()),
            _ => Ok(false),
        }
    }
}

struct Gather<'a> {
    vm: &'a mut Vm,
    import: Value,
    seen: BTreeSet<Vec<u8>>,
    all: &'a mut AttrsBuilder,
}

impl Gather<'_> {
    fn folder(&mut self, dir: &[u8], depth: usize) -> EvalResult<()> {
        if depth > MAX_DEPTH {
            let message = format!("folders of expressions are too deep at '{}'", shown(dir));
            return Err(EvalError::new(ErrorKind::Eval, message));
        }
        for name in self.vm.host.read_dir(dir).map_err(host_error)?.into_keys() {
            // The list of what a profile holds: channels are profiles.
            if name == b"manifest.nix" {
                continue;
            }
            let path = self.vm.resolve_symlinks(&child(dir, &name))?;
            // Symlinks that lead nowhere are passed over.
            let Ok(Some(kind)) = self.vm.host.file_kind(&path) else { continue };
            let expression = self.vm.is_expression(&path, Some(kind))?;
            if expression && (kind == FileKind::Directory || path.ends_with(b".nix")) {
                self.expression(dir, &name, &path)?;
            } else if kind == FileKind::Directory {
                self.folder(&path, depth + 1)?;
            }
        }
        Ok(())
    }

    fn expression(&mut self, dir: &[u8], name: &[u8], path: &[u8]) -> EvalResult<()> {
        let attr = name.strip_suffix(b".nix").unwrap_or(name);
        if !self.seen.insert(attr.to_vec()) {
            let channels = |path: &[u8]| shown(path).contains("channels");
            let hint = match channels(path) && channels(dir) {
                true => format!(
                    "\nsuggestion: remove '{}' from either the root channels or the user channels",
                    shown(attr)
                ),
                false => String::new(),
            };
            let message =
                format!("name collision in input Nix expressions, skipping '{}'{hint}", shown(path));
            self.vm.host.warn(&message);
            return Ok(());
        }
        if self.seen.len() == MAX_EXPRESSIONS {
            let message = format!("too many Nix expressions in directory '{}'", shown(dir));
            return Err(EvalError::new(ErrorKind::Eval, message));
        }
        self.all.push(Sym::new(attr), Thunk::apply(self.import, Value::path(path)).value());
        Ok(())
    }
}
