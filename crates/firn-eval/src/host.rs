//! The evaluator's only door to the world.

use crate::context::ContextElem;
use firn_core::flake_ref::{Attrs as InputAttrs, FlakeRef, Input};
use firn_core::{CaMethod, Hash, HashAlgo, StoreDir, StorePath};
use firn_derivation::Derivation;
use firn_syntax::Ast;
use std::collections::{BTreeMap, BTreeSet};

pub type HostResult<T> = Result<T, HostError>;

/// Why the host could not do something. `message` is the whole text for the user.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct HostError {
    pub message: String,
    /// The exit code that the program should end with (1 unless a build failed).
    pub exit: u8,
    /// The file or directory does not exist.
    pub not_found: bool,
    /// Pure or restricted evaluation forbids it.
    pub restricted: bool,
}

impl HostError {
    pub fn new(message: impl Into<String>) -> HostError {
        HostError { message: message.into(), exit: 1, not_found: false, restricted: false }
    }

    /// Pure or restricted evaluation forbids it.
    pub fn restricted(message: impl Into<String>) -> HostError {
        HostError { restricted: true, ..HostError::new(message) }
    }
}

/// What a directory entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    Regular {
        executable: bool,
    },
    Directory,
    Symlink,
    /// Device, socket or pipe.
    Other,
}

impl FileKind {
    /// As `builtins.readDir` and filters name it.
    pub fn name(self) -> &'static str {
        match self {
            FileKind::Regular { .. } => "regular",
            FileKind::Directory => "directory",
            FileKind::Symlink => "symlink",
            FileKind::Other => "unknown",
        }
    }
}

/// Decides whether a file goes into the store; gets the full path and its kind.
pub type PathFilter<'a> = &'a mut dyn FnMut(&[u8], FileKind) -> Result<bool, crate::EvalError>;

/// What to copy to the store.
pub struct CopySource<'a> {
    pub path: &'a [u8],
    pub name: &'a str,
    pub method: CaMethod,
    pub algo: HashAlgo,
    /// What the copy refers to: nothing, but for copies of store objects.
    pub references: BTreeSet<StorePath>,
    /// Where the hash is known, nothing is copied when the path is valid already, and a difference is an error.
    pub expected: Option<Hash>,
    pub filter: Option<PathFilter<'a>>,
}

/// Files, environment, store. Paths are absolute bytes. Implementations cache what may be cached.
pub trait EvalHost: Send + Sync {
    fn store_dir(&self) -> &StoreDir;

    fn read_file(&self, path: &[u8]) -> HostResult<Vec<u8>>;
    /// The state of a file, if it is a regular one and surely has another state when its contents are others. To be asked
    /// before it is read.
    fn file_stamp(&self, path: &[u8]) -> Option<FileStamp> {
        let _ = path;
        None
    }
    /// Trees of files that were parsed before, where some are kept.
    fn parsed_files(&self) -> Option<&dyn ParsedFiles> {
        None
    }
    /// The contents of what surely is a file and no symlink, without a look at it before. Nothing where that cannot be
    /// said, or the file not be read: then [`EvalHost::file_kind`] and [`EvalHost::read_file`] tell.
    fn read_regular_file(&self, path: &[u8]) -> Option<Vec<u8>> {
        let _ = path;
        None
    }
    /// The kind of a path, symlinks not followed; `None` when there is nothing.
    fn file_kind(&self, path: &[u8]) -> HostResult<Option<FileKind>>;
    /// Entries with their kinds.
    fn read_dir(&self, path: &[u8]) -> HostResult<BTreeMap<Vec<u8>, FileKind>>;
    fn read_link(&self, path: &[u8]) -> HostResult<Vec<u8>>;

    fn env_var(&self, name: &[u8]) -> Option<Vec<u8>>;
    /// Seconds since the epoch.
    fn current_time(&self) -> i64;

    /// Copies to the store (or only computes the path, when the store is not to be written).
    fn copy_to_store(&self, source: CopySource<'_>) -> Result<StorePath, crate::EvalError>;
    /// Adds text (`builtins.toFile`).
    fn add_text(
        &self,
        name: &str,
        contents: &[u8],
        references: &BTreeSet<StorePath>,
    ) -> HostResult<StorePath>;
    /// Writes a derivation whose path and text, and the SHA-256 of that, are computed already.
    fn write_derivation(
        &self,
        path: &StorePath,
        aterm: Vec<u8>,
        aterm_hash: Hash,
        references: BTreeSet<StorePath>,
    ) -> HostResult<()>;
    /// A derivation that the evaluator did not make itself.
    fn read_derivation(&self, path: &StorePath) -> HostResult<Derivation>;
    /// The path, what it refers to, what that refers to, and so on.
    fn closure(&self, path: &StorePath) -> HostResult<BTreeSet<StorePath>>;
    /// What a valid path refers to; nothing for one that is not valid.
    fn references(&self, path: &StorePath) -> HostResult<BTreeSet<StorePath>>;
    /// Makes a path valid (by substitution) or fails.
    fn ensure_path(&self, path: &StorePath) -> HostResult<()>;
    /// Whether the path is valid now.
    fn is_valid(&self, path: &StorePath) -> HostResult<bool>;

    /// Builds what a string needs before its file can be read (import from derivation). Returns the real paths of
    /// outputs whose placeholders have to be replaced: placeholder text to path text.
    fn realise(&self, context: &[ContextElem]) -> HostResult<Vec<(String, String)>>;

    /// Fetches for `fetchurl`, `fetchTarball` and the like; returns a store path.
    fn fetch(&self, request: &FetchRequest) -> HostResult<StorePath>;

    /// Fetches an input for `fetchTree` and `fetchGit`; the path, and the input's attributes with what is known now.
    fn fetch_tree(&self, input: &Input) -> HostResult<(StorePath, InputAttrs)>;

    /// What an indirect input is called elsewhere, by the registries that evaluation may use.
    fn look_up_input(&self, input: &Input) -> HostResult<Input>;

    /// Fetches an input of a lock file: what it says of itself holds.
    fn fetch_locked(&self, input: &Input) -> HostResult<(StorePath, InputAttrs)>;

    /// Fetches a flake and locks its inputs (`builtins.getFlake`). Nothing is written. With `pure`, neither registries nor
    /// inputs that are not locked already may be used.
    fn lock_flake(&self, reference: &FlakeRef, pure: bool) -> Result<FlakeSources, crate::EvalError>;

    /// Fetches the closure of a path from a binary cache (`builtins.fetchClosure`).
    fn fetch_closure(&self, request: &ClosureRequest) -> HostResult<StorePath>;

    /// A path that came from elsewhere may be read, also where little may.
    fn allow_path(&self, path: &StorePath) {
        let _ = path;
    }

    /// Why a path that seemed not to be there may not be looked at, if that is so. Reads answer so themselves;
    /// [`EvalHost::file_kind`] only sees nothing.
    fn check_access(&self, path: &[u8]) -> HostResult<()> {
        let _ = path;
        Ok(())
    }
    /// Whether something may be fetched from there.
    fn check_uri(&self, uri: &str) -> HostResult<()> {
        let _ = uri;
        Ok(())
    }

    /// How a file is called in messages, if not by its path: in the store it is a copy of something that the user knows.
    fn shown_path(&self, path: &[u8]) -> Option<Vec<u8>> {
        let _ = path;
        None
    }

    /// Prints a warning.
    fn warn(&self, message: &str);
    /// Prints what `builtins.warn` was given.
    fn warn_from_expression(&self, message: &[u8]) {
        self.warn(&format!("evaluation warning: {}", String::from_utf8_lossy(message)));
    }
    /// Whether [`EvalHost::evaluating_file`] is to be called: files are then evaluated in the language's order only.
    fn tells_of_files(&self) -> bool {
        false
    }
    /// A file is about to be parsed and evaluated.
    fn evaluating_file(&self, path: &[u8]) {
        let _ = path;
    }
    /// A path of the language was copied to the store because a string is made of it. Scripts watch what they are told
    /// of here.
    fn copied_path(&self, path: &[u8], copy: &StorePath) {
        let _ = (path, copy);
    }
    /// A derivation was made.
    fn instantiated(&self, path: &StorePath) {
        let _ = path;
    }
    /// Prints the text of `builtins.trace`.
    fn trace(&self, message: &str);

    /// Where files of that (logical) path really are: differs for paths in a store that lives elsewhere.
    fn real_path(&self, path: &[u8]) -> Vec<u8> {
        path.to_vec()
    }
}

/// What a tree was made of: a hash of the text and of what else decides how it is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TextKey(pub [u8; 20]);

/// A file in one state: a hash of its path, of where it is, and of when it was changed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileStamp {
    pub hash: [u8; 20],
    /// Bytes.
    pub size: u64,
}

/// A memory for trees of files.
pub trait ParsedFiles: Send + Sync {
    /// The tree that was kept under that key.
    fn find(&self, key: &TextKey) -> Option<Ast>;
    /// Keeps a tree. Nobody is told when that cannot be done.
    fn keep(&self, key: &TextKey, ast: &Ast);
    /// The key of the text that a file has in a state.
    fn key_of(&self, stamp: &FileStamp) -> Option<TextKey>;
    /// Keeps the key of the text that a file has in a state.
    fn keep_key(&self, stamp: &FileStamp, key: &TextKey);
}

/// A download.
#[derive(Debug, Clone)]
pub struct FetchRequest {
    pub url: String,
    pub name: String,
    pub unpack: bool,
    pub expected: Option<Hash>,
}

/// A closure to be fetched.
#[derive(Debug, Clone)]
pub struct ClosureRequest {
    /// The URI of a binary cache.
    pub from_store: String,
    pub from_path: StorePath,
    /// What the path is rewritten to; the inner `None` asks what that would be.
    pub to_path: Option<Option<StorePath>>,
    pub input_addressed: bool,
}

/// A flake whose inputs are locked, and the trees that were fetched for that.
#[derive(Debug, Clone, Default)]
pub struct FlakeSources {
    /// The text of the lock file.
    pub lock: String,
    pub nodes: Vec<FlakeNode>,
    /// The key of the node that is the flake itself.
    pub root: String,
}

impl FlakeSources {
    pub(crate) fn root(&self) -> Option<&FlakeNode> {
        self.nodes.iter().find(|node| node.key == self.root)
    }
}

/// A tree for a node of a lock file.
#[derive(Debug, Clone)]
pub struct FlakeNode {
    /// The node's key in the lock file.
    pub key: String,
    pub path: StorePath,
    /// What is known of the tree.
    pub attrs: InputAttrs,
    /// The folder of the flake in the tree.
    pub dir: Vec<u8>,
    /// It is not what its commit says.
    pub dirty: bool,
}
