//! Trees of files that were parsed before, kept on disk: a tree is found by its text, which then is not parsed, and the key of
//! a text by the state of its file, which then is not read.
//!
//! A folder of the user's holds segments, each written once by one process and never changed. Processes need not know of
//! each other: a segment appears under its name when it is whole, and whoever has one open can read it after it was
//! replaced. Whatever is damaged, foreign or unwritable is as if it were not there. Everything may be deleted at any time.

mod queue;
mod segment;
mod tidy;

use firn_eval::{FileStamp, ParsedFiles, TextKey};
use firn_syntax::{Ast, stored};
use parking_lot::Mutex;
use queue::Queue;
use segment::{Segment, Window};
use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The name of the folder below the user's cache folder.
const FOLDER: &str = "parsed-files";
/// What is read into is kept for the next tree up to this many words.
const MAX_SCRATCH: usize = 1 << 20;

/// The trees of one user.
pub(crate) struct ParsedTrees {
    dir: PathBuf,
    segments: OnceLock<Vec<Segment>>,
    written: Mutex<Written>,
}

/// What this process parsed.
#[derive(Default)]
enum Written {
    #[default]
    Nothing,
    Some(Box<Queue>),
    /// It cannot be written.
    Never,
}

thread_local! {
    static WINDOW: RefCell<Window> = RefCell::default();
}

/// A name that no other segment has, later ones behind earlier ones.
fn new_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    format!("{}-{time:024x}-{process}-{count}", stored::SOURCES)
}

/// Makes the folder where there is none. Others' folders are not used: what they hold would be evaluated. Nor does root
/// make any below those of a user, who could not use it later.
fn prepare(dir: &Path) -> Option<()> {
    if !dir.exists() {
        let above = dir.ancestors().find_map(|above| above.metadata().ok())?;
        if rustix::process::geteuid().is_root() && above.uid() != 0 {
            return None;
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).ok()?;
    }
    is_own(dir).then_some(())
}

fn is_own(dir: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    dir.symlink_metadata().is_ok_and(|data| data.is_dir() && data.uid() == own && data.mode() & 0o022 == 0)
}

impl ParsedTrees {
    /// Those below the user's cache folder. Nothing is opened yet.
    pub(crate) fn new(cache: &Path) -> ParsedTrees {
        ParsedTrees { dir: cache.join(FOLDER), segments: OnceLock::new(), written: Mutex::default() }
    }

    fn segments(&self) -> &[Segment] {
        self.segments.get_or_init(|| match is_own(&self.dir) {
            true => segment::open_all(&self.dir),
            false => Vec::new(),
        })
    }

    /// Adds something to what is written, where that can be done.
    fn write(&self, what: impl FnOnce(&mut Queue) -> io::Result<()>) {
        let mut written = self.written.lock();
        if let Written::Nothing = *written {
            *written = match prepare(&self.dir) {
                Some(()) => Written::Some(Box::new(Queue::new(&self.dir))),
                None => Written::Never,
            };
        }
        if let Written::Some(queue) = &mut *written {
            // A full disk, for example: what was written is of no use to anybody.
            if what(queue).is_err() {
                *written = Written::Never;
            }
        }
    }

    /// Makes what this process parsed known to others.
    pub(crate) fn finish(&self) {
        let mut written = self.written.lock();
        let Written::Some(queue) = std::mem::replace(&mut *written, Written::Never) else { return };
        *written = Written::Nothing;
        if queue.finish(&self.dir.join(new_name())).is_ok() {
            tidy::tidy(&self.dir);
        }
    }
}

impl ParsedFiles for ParsedTrees {
    fn find(&self, key: &TextKey) -> Option<Ast> {
        WINDOW.with_borrow_mut(|window| self.segments().iter().find_map(|segment| segment.tree(key, window)))
    }

    fn keep(&self, key: &TextKey, ast: &Ast) {
        self.write(|queue| queue.add(key, ast));
    }

    fn key_of(&self, stamp: &FileStamp) -> Option<TextKey> {
        self.segments().iter().find_map(|segment| segment.key_of(stamp))
    }

    fn keep_key(&self, stamp: &FileStamp, key: &TextKey) {
        self.write(|queue| {
            queue.add_stamp(stamp, key);
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests;
