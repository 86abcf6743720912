//! Writes archives through one buffer, so that small files cost no write of their own.

use crate::error::{NarError, NarResult};
use crate::reader::is_valid_name;
use crate::{MAGIC, MAX_DEPTH, padding};
use std::io::Write;

/// Size of the buffer in bytes; contents are read straight into it.
const BUFFER: usize = 256 * 1024;
/// More than what follows the contents of a file.
const END: u64 = 256;
/// Its size at first: most archives are of one small file.
const FIRST_BUFFER: usize = 8 * 1024;

/// Builds one archive. The caller gives entries of a directory in ascending byte order.
pub struct NarWriter<W> {
    out: W,
    buffer: Vec<u8>,
    filled: usize,
    /// The last name written in each open directory.
    names: Vec<Vec<u8>>,
    written: u64,
    done: bool,
}

impl<W: Write> NarWriter<W> {
    pub fn new(out: W) -> NarWriter<W> {
        let mut writer = NarWriter {
            out,
            buffer: vec![0; FIRST_BUFFER],
            filled: 0,
            names: Vec::new(),
            written: 0,
            done: false,
        };
        // The buffer is empty and larger than this: it cannot fail.
        let _ = writer.string(MAGIC);
        writer
    }

    /// A whole regular file. `name` is empty for the root.
    pub fn regular(&mut self, name: &[u8], executable: bool, contents: &[u8]) -> NarResult<()> {
        self.regular_header(name, executable, contents.len() as u64)?;
        self.bytes(contents)?;
        self.regular_end(contents.len() as u64)
    }

    /// A regular file of `size` bytes that `read` delivers, like `std::io::Read::read`. Returns how many bytes
    /// `read` failed to deliver; if that is not 0 the archive is broken and must be dropped.
    pub fn regular_from(
        &mut self,
        name: &[u8],
        executable: bool,
        size: u64,
        mut read: impl FnMut(&mut [u8]) -> NarResult<usize>,
    ) -> NarResult<u64> {
        self.regular_header(name, executable, size)?;
        let mut left = size;
        while left > 0 {
            let room = self.buffer.len() - self.filled;
            // A piece of reasonable size each time, unless the file ends before.
            if room == 0 || (room < 16 * 1024 && left > room as u64) {
                self.make_room(left)?;
                continue;
            }
            let want = usize::try_from(left).map_or(room, |left| left.min(room));
            let got = read(&mut self.buffer[self.filled..self.filled + want])?.min(want);
            if got == 0 {
                return Ok(left);
            }
            self.filled += got;
            left -= got as u64;
        }
        self.regular_end(size)?;
        Ok(0)
    }

    pub fn symlink(&mut self, name: &[u8], target: &[u8]) -> NarResult<()> {
        self.begin(name)?;
        self.strings(&[b"(", b"type", b"symlink", b"target", target, b")"])?;
        self.end()
    }

    pub fn start_directory(&mut self, name: &[u8]) -> NarResult<()> {
        self.begin(name)?;
        self.strings(&[b"(", b"type", b"directory"])?;
        self.names.push(Vec::new());
        Ok(())
    }

    pub fn end_directory(&mut self) -> NarResult<()> {
        if self.names.pop().is_none() {
            return Err(NarError::bad("no directory is open"));
        }
        self.string(b")")?;
        self.end()
    }

    /// Writes out what is buffered and gives the sink back.
    pub fn finish(mut self) -> NarResult<W> {
        if !self.done {
            return Err(NarError::bad("the archive is not complete"));
        }
        self.flush_buffer()?;
        self.out.flush().map_err(NarError::Write)?;
        Ok(self.out)
    }

    /// Bytes of the archive so far.
    pub fn position(&self) -> u64 {
        self.written + self.filled as u64
    }

    fn regular_header(&mut self, name: &[u8], executable: bool, size: u64) -> NarResult<()> {
        self.begin(name)?;
        self.strings(&[b"(", b"type", b"regular"])?;
        if executable {
            self.strings(&[b"executable", b""])?;
        }
        self.string(b"contents")?;
        self.bytes(&size.to_le_bytes())
    }

    fn regular_end(&mut self, size: u64) -> NarResult<()> {
        self.bytes(&[0; 8][..padding(size)])?;
        self.string(b")")?;
        self.end()
    }

    fn begin(&mut self, name: &[u8]) -> NarResult<()> {
        if self.names.len() >= MAX_DEPTH {
            return Err(NarError::bad(format!("NAR directory nesting exceeds maximum depth of {MAX_DEPTH}")));
        }
        let Some(previous) = self.names.last_mut() else {
            return match self.done {
                false => Ok(()),
                true => Err(NarError::bad("an archive holds one root only")),
            };
        };
        if !is_valid_name(name) {
            let shown = String::from_utf8_lossy(name);
            return Err(NarError::bad(format!("NAR contains invalid file name '{}'", shown.escape_debug())));
        }
        if name <= &previous[..] {
            return Err(NarError::bad("NAR directory is not sorted"));
        }
        previous.clear();
        previous.extend_from_slice(name);
        self.strings(&[b"entry", b"(", b"name", name, b"node"])
    }

    fn end(&mut self) -> NarResult<()> {
        if self.names.is_empty() {
            self.done = true;
            return Ok(());
        }
        self.string(b")")
    }

    fn strings(&mut self, strings: &[&[u8]]) -> NarResult<()> {
        strings.iter().try_for_each(|s| self.string(s))
    }

    fn string(&mut self, s: &[u8]) -> NarResult<()> {
        self.bytes(&(s.len() as u64).to_le_bytes())?;
        self.bytes(s)?;
        self.bytes(&[0; 8][..padding(s.len() as u64)])
    }

    fn bytes(&mut self, bytes: &[u8]) -> NarResult<()> {
        while bytes.len() > self.buffer.len() - self.filled {
            if self.filled > 0 || self.buffer.len() < BUFFER {
                self.make_room(bytes.len() as u64)?;
            } else {
                self.written += bytes.len() as u64;
                return self.out.write_all(bytes).map_err(NarError::Write);
            }
        }
        self.buffer[self.filled..self.filled + bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
        Ok(())
    }

    /// Makes the buffer larger, as far as that many more bytes need it, or empties it.
    fn make_room(&mut self, more: u64) -> NarResult<()> {
        if self.buffer.len() < BUFFER {
            let wanted = more.saturating_add(self.filled as u64 + END).min(BUFFER as u64) as usize;
            self.buffer.resize(wanted.next_power_of_two().max(2 * self.buffer.len()), 0);
            return Ok(());
        }
        self.flush_buffer()
    }

    fn flush_buffer(&mut self) -> NarResult<()> {
        let filled = std::mem::take(&mut self.filled);
        self.written += filled as u64;
        self.out.write_all(&self.buffer[..filled]).map_err(NarError::Write)
    }
}

/// Hashes what an archive of one regular file of `size` bytes has before the contents. With
/// [`hash_regular_end`] this saves those who hash many small files the buffer of a writer.
pub fn hash_regular_start(hasher: &mut firn_core::Hasher, executable: bool, size: u64) {
    let mut head = Vec::with_capacity(160);
    let before: &[&[u8]] = &[MAGIC, b"(", b"type", b"regular"];
    let marker: &[&[u8]] = if executable { &[b"executable", b""] } else { &[] };
    for text in before.iter().chain(marker).chain(&[&b"contents"[..]]) {
        push_string(&mut head, text);
    }
    head.extend_from_slice(&size.to_le_bytes());
    hasher.update(&head);
}

/// Hashes what follows the contents.
pub fn hash_regular_end(hasher: &mut firn_core::Hasher, size: u64) {
    let mut tail = vec![0; padding(size)];
    push_string(&mut tail, b")");
    hasher.update(&tail);
}

fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text);
    out.resize(out.len() + padding(text.len() as u64), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use firn_core::{Hash, HashAlgo, Hasher};

    #[test]
    fn hashes_files_as_it_writes_them() {
        for (contents, executable) in
            [(&b""[..], false), (b"x", true), (b"12345678", false), (&[7; 100], true)]
        {
            let mut writer = NarWriter::new(Vec::new());
            writer.regular(b"", executable, contents).unwrap();
            let nar = writer.finish().unwrap();
            let mut hasher = Hasher::new(HashAlgo::Sha256);
            hash_regular_start(&mut hasher, executable, contents.len() as u64);
            hasher.update(contents);
            hash_regular_end(&mut hasher, contents.len() as u64);
            assert_eq!(hasher.finish(), Hash::of(HashAlgo::Sha256, &nar));
        }
    }
}
