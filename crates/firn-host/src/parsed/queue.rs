//! Trees on their way to a segment: put into words where they were parsed, and written by a thread of their own once there
//! are many. Few are written at the end.

use super::segment::Writer;
use firn_eval::{FileStamp, TextKey};
use firn_syntax::{Ast, stored};
use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// How many words are handed over at once.
const MANY: usize = 1 << 18;
/// How often that many may wait to be written.
const WAITING: usize = 2;

#[derive(Default)]
struct Batch {
    words: Vec<u32>,
    trees: Vec<(TextKey, Range<usize>)>,
    stamps: Vec<(FileStamp, TextKey)>,
}

impl Batch {
    fn write(&self, writer: &mut Writer) -> io::Result<()> {
        for (key, place) in &self.trees {
            writer.add(key, &self.words[place.clone()])?;
        }
        self.stamps.iter().for_each(|(stamp, key)| writer.add_stamp(stamp, key));
        Ok(())
    }
}

/// What this process parsed and others may want to know.
pub(super) struct Queue {
    dir: PathBuf,
    known: HashSet<TextKey>,
    batch: Batch,
    thread: Option<(SyncSender<Batch>, JoinHandle<io::Result<Writer>>)>,
}

impl Queue {
    pub(super) fn new(dir: &Path) -> Queue {
        Queue { dir: dir.to_owned(), known: HashSet::new(), batch: Batch::default(), thread: None }
    }

    /// Adds a tree, unless it is there or too large.
    pub(super) fn add(&mut self, key: &TextKey, ast: &Ast) -> io::Result<()> {
        if !self.known.insert(*key) {
            return Ok(());
        }
        let start = self.batch.words.len();
        match stored::write(ast, &mut self.batch.words) {
            Some(()) => self.batch.trees.push((*key, start..self.batch.words.len())),
            None => self.batch.words.truncate(start),
        }
        if self.batch.words.len() >= MANY { self.hand_over() } else { Ok(()) }
    }

    /// Adds a file's state.
    pub(super) fn add_stamp(&mut self, stamp: &FileStamp, key: &TextKey) {
        self.batch.stamps.push((*stamp, *key));
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let thread = match &mut self.thread {
            Some(thread) => thread,
            none => {
                let (sender, receiver) = sync_channel(WAITING);
                let dir = self.dir.clone();
                let work = move || write_all(&dir, &receiver);
                none.insert((sender, std::thread::Builder::new().name("parsed-files".into()).spawn(work)?))
            }
        };
        thread.0.send(std::mem::take(&mut self.batch)).map_err(|_| io::Error::other("the writer has ended"))
    }

    /// Makes a segment of what was added, under a name.
    pub(super) fn finish(mut self, name: &Path) -> io::Result<()> {
        let mut writer = match self.thread.take() {
            Some((sender, thread)) => {
                drop(sender);
                thread.join().map_err(|_| io::Error::other("the writer has failed"))??
            }
            None => Writer::new(&self.dir)?,
        };
        self.batch.write(&mut writer)?;
        writer.finish(name)
    }
}

fn write_all(dir: &Path, batches: &Receiver<Batch>) -> io::Result<Writer> {
    let mut writer = Writer::new(dir)?;
    for batch in batches {
        batch.write(&mut writer)?;
    }
    Ok(writer)
}

impl Drop for Queue {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.thread.take() {
            drop(sender);
            // What it began is removed with its writer.
            drop(thread.join());
        }
    }
}
