//! The table of contents of an archive, as binary caches serve it (`.ls` files) and `nix nar ls` shows it.

use crate::error::NarResult;
use crate::reader::{Event, NarReader, Node};
use std::collections::BTreeMap;
use std::io::BufRead;

/// The files of a directory by name.
pub type Entries = BTreeMap<Vec<u8>, Listing>;

/// One file of an archive, without its contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listing {
    Regular {
        executable: bool,
        size: u64,
        /// Where the contents start, in bytes from the start of the archive.
        offset: u64,
    },
    Symlink {
        target: Vec<u8>,
    },
    Directory {
        entries: BTreeMap<Vec<u8>, Listing>,
    },
}

impl Listing {
    /// Reads an archive to its end.
    pub fn read<R: BufRead>(reader: &mut NarReader<R>) -> NarResult<Listing> {
        let mut open: Vec<(Vec<u8>, Entries)> = Vec::new();
        let mut root = Listing::Directory { entries: BTreeMap::new() };
        while let Some(event) = reader.next_event()? {
            let (name, node) = match event {
                Event::Node { name, node: Node::Directory } => {
                    open.push((name.to_vec(), BTreeMap::new()));
                    continue;
                }
                Event::Node { name, node: Node::Regular { executable, size, offset } } => {
                    (name.to_vec(), Listing::Regular { executable, size, offset })
                }
                Event::Node { name, node: Node::Symlink { target } } => {
                    (name.to_vec(), Listing::Symlink { target: target.to_vec() })
                }
                Event::EndDirectory => match open.pop() {
                    Some((name, entries)) => (name, Listing::Directory { entries }),
                    None => continue,
                },
            };
            match open.last_mut() {
                Some((_, entries)) => {
                    entries.insert(name, node);
                }
                None => root = node,
            }
        }
        Ok(root)
    }

    /// The file at a path relative to the root, given by its components.
    pub fn find<'a>(&self, components: impl IntoIterator<Item = &'a [u8]>) -> Option<&Listing> {
        components.into_iter().try_fold(self, |at, name| match at {
            Listing::Directory { entries } => entries.get(name),
            _ => None,
        })
    }
}
