//! Words and strings into memory.

use firn_core::{StoreDir, StorePath};

/// Bytes to be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message(pub Vec<u8>);

impl Message {
    pub fn new() -> Message {
        Message::default()
    }

    pub fn num(&mut self, number: impl Into<u64>) -> &mut Self {
        self.0.extend_from_slice(&number.into().to_le_bytes());
        self
    }

    pub fn i64(&mut self, number: i64) -> &mut Self {
        self.num(number.cast_unsigned())
    }

    pub fn count(&mut self, count: usize) -> &mut Self {
        self.num(count as u64)
    }

    pub fn bytes(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let bytes = bytes.as_ref();
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        self
    }

    pub fn strings<S: AsRef<[u8]>>(
        &mut self,
        strings: impl IntoIterator<Item = S, IntoIter: ExactSizeIterator>,
    ) -> &mut Self {
        let strings = strings.into_iter();
        self.count(strings.len());
        for string in strings {
            self.bytes(string);
        }
        self
    }

    pub fn path(&mut self, dir: &StoreDir, path: &StorePath) -> &mut Self {
        self.bytes(dir.display(path))
    }

    /// A path or an empty string.
    pub fn opt_path(&mut self, dir: &StoreDir, path: Option<&StorePath>) -> &mut Self {
        match path {
            Some(path) => self.path(dir, path),
            None => self.bytes(""),
        }
    }

    pub fn paths<'a>(
        &mut self,
        dir: &StoreDir,
        paths: impl IntoIterator<Item = &'a StorePath, IntoIter: ExactSizeIterator>,
    ) -> &mut Self {
        let paths = paths.into_iter();
        self.count(paths.len());
        for path in paths {
            self.path(dir, path);
        }
        self
    }
}
