//! Archive to disk.

mod crew;
mod place;

use crate::error::{NarError, NarResult};
use crate::{CASE_HACK_SUFFIX, Event, NarReader, Node};
use crew::{Crew, Gatherer, SMALL};
use memchr::memmem;
use place::{Dir, File, Place};
use std::collections::BTreeMap;
use std::io::BufRead;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// Which metadata restored files get.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Canonical {
    /// What the process's umask and clock give.
    #[default]
    No,
    /// Modes 0444 and 0555, modification time one second after the epoch: what store objects have. Saves a second
    /// walk over the tree.
    Yes,
}

/// How to restore.
#[derive(Debug, Clone, Copy, Default)]
pub struct RestoreOptions {
    /// Give names that collide when case is folded a suffix (setting `use-case-hack`).
    pub case_hack: bool,
    pub canonical: Canonical,
    /// Reserve the space of each file before writing it (setting `preallocate-contents`).
    pub preallocate: bool,
    /// Make every file and directory durable before returning. The directory that holds `dest` is the caller's.
    pub sync: bool,
}

/// Creates `dest` and what is below it from an archive. `dest` must not exist. After an error what was made so far
/// is left for the caller to remove.
pub fn restore<R: BufRead>(reader: &mut NarReader<R>, dest: &Path, options: RestoreOptions) -> NarResult<()> {
    let crew = Crew::new(options);
    let read = std::thread::scope(|scope| {
        let mut gatherer = Gatherer::new(&crew, scope);
        Restore { options, root: dest, stack: Vec::new(), crew: &crew, name: Vec::new() }
            .events(reader, &mut gatherer)?;
        gatherer.finish()
    });
    crew::outcome(&crew, read)
}

/// Creates the regular, non-executable file `dest` with what `input` holds, under the same options.
pub fn restore_flat(mut input: impl BufRead, dest: &Path, options: RestoreOptions) -> NarResult<()> {
    let place = Place { dir: None, name: dest.as_os_str().as_bytes() };
    let mut file = File::create(place, false, 0, options, &Default::default())?;
    loop {
        let chunk = input.fill_buf().map_err(NarError::read)?;
        if chunk.is_empty() {
            return file.finish();
        }
        file.write(chunk)?;
        let n = chunk.len();
        input.consume(n);
    }
}

struct Restore<'a> {
    options: RestoreOptions,
    root: &'a Path,
    stack: Vec<Frame>,
    crew: &'a Crew,
    /// The current name on disk.
    name: Vec<u8>,
}

struct Frame {
    dir: Arc<Dir>,
    /// Lower-case names with how often they collided, and the first name that carries the suffix; only with the
    /// case hack.
    folded: BTreeMap<Vec<u8>, (u32, Vec<u8>)>,
    suffixed: Option<Vec<u8>>,
}

impl Restore<'_> {
    fn events<R: BufRead>(
        &mut self,
        reader: &mut NarReader<R>,
        gatherer: &mut Gatherer<'_, '_>,
    ) -> NarResult<()> {
        while let Some(event) = reader.next_event()? {
            let (name, node) = match event {
                Event::EndDirectory => {
                    self.end_directory()?;
                    continue;
                }
                Event::Node { name, node } => (name, node),
            };
            self.enter(name)?;
            match node {
                Node::Directory => {
                    if place::too_many_open() {
                        gatherer.catch_up()?;
                    }
                    let dir = Dir::make(self.place())?;
                    self.stack.push(Frame { dir, folded: BTreeMap::new(), suffixed: None });
                }
                Node::Symlink { target } => place::symlink(self.place(), target, self.options)?,
                Node::Regular { executable, size, .. } => {
                    if size <= SMALL
                        && let Some(frame) = self.stack.last()
                    {
                        gatherer.file(&frame.dir, &self.name, executable);
                        reader.copy_contents(|piece| {
                            gatherer.contents(piece);
                            Ok(())
                        })?;
                        gatherer.end()?;
                        continue;
                    }
                    let mut file =
                        File::create(self.place(), executable, size, self.options, &self.crew.modes)?;
                    reader.copy_contents(|piece| file.write(piece))?;
                    file.finish()?;
                }
            }
        }
        Ok(())
    }

    /// Where the current node is made.
    fn place(&self) -> Place<'_> {
        match self.stack.last() {
            Some(frame) => Place { dir: Some(&frame.dir), name: &self.name },
            None => Place { dir: None, name: self.root.as_os_str().as_bytes() },
        }
    }

    fn enter(&mut self, name: &[u8]) -> NarResult<()> {
        let case_hack = self.options.case_hack;
        let Some(frame) = self.stack.last_mut() else { return Ok(()) };
        self.name.clear();
        match case_hack {
            true => self.name = frame.hacked_name(name)?,
            false => self.name.extend_from_slice(name),
        }
        Ok(())
    }

    fn end_directory(&mut self) -> NarResult<()> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        if let Some(name) = frame.suffixed {
            return Err(NarError::bad(format!(
                "NAR contains file name '{}', which already carries the case hack's suffix, in '{}'; it would not \
                 be the same when dumped again",
                String::from_utf8_lossy(&name),
                frame.dir.path().display()
            )));
        }
        Dir::release(frame.dir, self.options)
    }
}

impl Frame {
    /// The name on disk. Case is folded for ASCII letters, as the reference does.
    fn hacked_name(&mut self, name: &[u8]) -> NarResult<Vec<u8>> {
        if memmem::find(name, CASE_HACK_SUFFIX).is_some() {
            self.suffixed.get_or_insert_with(|| name.to_vec());
        }
        let Some((count, _)) = self.folded.get_mut(&name.to_ascii_lowercase()) else {
            self.folded.insert(name.to_ascii_lowercase(), (0, name.to_vec()));
            return Ok(name.to_vec());
        };
        *count += 1;
        let mut hacked = name.to_vec();
        hacked.extend_from_slice(CASE_HACK_SUFFIX);
        hacked.extend_from_slice(count.to_string().as_bytes());
        if let Some((_, other)) = self.folded.get(&hacked.to_ascii_lowercase()) {
            return Err(NarError::bad(format!(
                "NAR contains file name '{}' that collides with case-hacked file name '{}'",
                String::from_utf8_lossy(name),
                String::from_utf8_lossy(other)
            )));
        }
        Ok(hacked)
    }
}
