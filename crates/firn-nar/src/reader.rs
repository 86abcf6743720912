//! A pull parser: events out of a buffered byte stream, nothing read beyond the archive's last byte.

use crate::error::{NarError, NarResult};
use crate::{MAGIC, MAX_DEPTH, MAX_NAME, MAX_TARGET, padding};
use std::io::BufRead;

/// Longest keyword plus slack, so that a short piece of garbage can be shown in the error.
const MAX_TAG: usize = 32;

/// What a node of the tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node<'a> {
    /// `size` bytes of contents follow; see [`NarReader::copy_contents`]. `offset` is where they start, in bytes
    /// from the start of the archive.
    Regular {
        executable: bool,
        size: u64,
        offset: u64,
    },
    Symlink {
        target: &'a [u8],
    },
    /// Entries follow until [`Event::EndDirectory`].
    Directory,
}

/// One step through the tree, depth first.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// `name` is empty for the root. Names come in strictly ascending byte order, and are never `.`, `..`, empty
    /// otherwise, or contain `/` or NUL.
    Node {
        name: &'a [u8],
        node: Node<'a>,
    },
    EndDirectory,
}

enum State {
    Start,
    /// This many bytes of the current file's contents, and its padding, are unread.
    Contents {
        size: u64,
        left: u64,
    },
    Directory,
    Done,
}

/// Parses one archive. The reader is left right behind it.
pub struct NarReader<R> {
    input: R,
    state: State,
    /// The last name seen in each open directory.
    names: Vec<Vec<u8>>,
    name: Vec<u8>,
    target: Vec<u8>,
    tag: [u8; MAX_TAG],
    position: u64,
}

impl<R: BufRead> NarReader<R> {
    pub fn new(input: R) -> NarReader<R> {
        NarReader {
            input,
            state: State::Start,
            names: Vec::new(),
            name: Vec::new(),
            target: Vec::new(),
            tag: [0; MAX_TAG],
            position: 0,
        }
    }

    /// Bytes of the archive consumed so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    pub fn into_inner(self) -> R {
        self.input
    }

    /// The next event; `None` when the archive is complete. Contents that were not copied are skipped.
    pub fn next_event(&mut self) -> NarResult<Option<Event<'_>>> {
        if let State::Contents { .. } = self.state {
            self.copy_contents(|_| Ok(()))?;
        }
        match self.state {
            State::Start => {
                self.magic()?;
                self.name.clear();
                self.node().map(Some)
            }
            State::Directory => match self.tag()? {
                b")" => {
                    self.names.pop();
                    self.end_node()?;
                    Ok(Some(Event::EndDirectory))
                }
                b"entry" => {
                    self.expect(b"(")?;
                    self.expect(b"name")?;
                    self.entry_name()?;
                    self.expect(b"node")?;
                    self.node().map(Some)
                }
                other => Err(unexpected("'entry' or ')'", other)),
            },
            State::Done => Ok(None),
            State::Contents { .. } => Err(NarError::bad("contents of a file were left unread")),
        }
    }

    /// Hands the contents of the file just announced to `sink`, in pieces as large as the buffer has them.
    pub fn copy_contents(&mut self, mut sink: impl FnMut(&[u8]) -> NarResult<()>) -> NarResult<()> {
        let State::Contents { size, mut left } = self.state else { return Ok(()) };
        while left > 0 {
            let chunk = self.input.fill_buf().map_err(NarError::read)?;
            if chunk.is_empty() {
                return Err(NarError::UnexpectedEof);
            }
            let n = usize::try_from(left).map_or(chunk.len(), |left| left.min(chunk.len()));
            sink(&chunk[..n])?;
            self.input.consume(n);
            self.position += n as u64;
            left -= n as u64;
            // Kept up to date so that an error of the sink does not lose the place.
            self.state = State::Contents { size, left };
        }
        self.padding(size)?;
        self.expect(b")")?;
        self.end_node()
    }

    /// Parses to the end, for the sake of checking or of moving the reader on.
    pub fn skip_to_end(&mut self) -> NarResult<()> {
        while self.next_event()?.is_some() {}
        Ok(())
    }

    fn magic(&mut self) -> NarResult<()> {
        let foreign = || NarError::bad("input doesn't look like a Nix archive");
        if self.word()? != MAGIC.len() as u64 {
            return Err(foreign());
        }
        let mut magic = [0; 16];
        self.read_exact(&mut magic)?;
        if &magic[..MAGIC.len()] != MAGIC || magic[MAGIC.len()..] != [0; 3] {
            return Err(foreign());
        }
        Ok(())
    }

    /// After `name` is set: the node up to where its contents or entries start.
    fn node(&mut self) -> NarResult<Event<'_>> {
        if self.names.len() >= MAX_DEPTH {
            return Err(NarError::bad(format!("NAR directory nesting exceeds maximum depth of {MAX_DEPTH}")));
        }
        self.expect(b"(")?;
        self.expect(b"type")?;
        match self.tag()? {
            b"regular" => {
                let executable = match self.tag()? {
                    b"executable" => true,
                    b"contents" => false,
                    other => {
                        let tag = String::from_utf8_lossy(other).escape_debug().to_string();
                        return Err(NarError::bad(format!("expected tag 'contents', got '{tag}'")));
                    }
                };
                if executable {
                    if self.word()? != 0 {
                        return Err(NarError::bad("executable marker has non-empty value"));
                    }
                    self.expect(b"contents")?;
                }
                let size = self.word()?;
                // The end must be countable; nothing is allocated from it.
                if self.position.checked_add(size).and_then(|end| end.checked_add(64)).is_none() {
                    return Err(NarError::bad(format!("file size {size} is too large")));
                }
                self.state = State::Contents { size, left: size };
                let offset = self.position;
                Ok(Event::Node { name: &self.name, node: Node::Regular { executable, size, offset } })
            }
            b"directory" => {
                self.names.push(Vec::new());
                self.state = State::Directory;
                Ok(Event::Node { name: &self.name, node: Node::Directory })
            }
            b"symlink" => {
                self.expect(b"target")?;
                let mut target = std::mem::take(&mut self.target);
                self.string(MAX_TARGET, &mut target)?;
                self.target = target;
                if self.target.is_empty() || self.target.contains(&0) {
                    return Err(NarError::bad("NAR contains invalid symlink target"));
                }
                self.expect(b")")?;
                self.end_node()?;
                Ok(Event::Node { name: &self.name, node: Node::Symlink { target: &self.target } })
            }
            other => Err(NarError::bad(format!("unknown file type '{}'", String::from_utf8_lossy(other)))),
        }
    }

    /// After a node's `)`: the `)` of the entry that holds it, if one does.
    fn end_node(&mut self) -> NarResult<()> {
        if self.names.is_empty() {
            self.state = State::Done;
            return Ok(());
        }
        self.state = State::Directory;
        self.expect(b")")
    }

    fn entry_name(&mut self) -> NarResult<()> {
        let mut name = std::mem::take(&mut self.name);
        self.string(MAX_NAME, &mut name)?;
        self.name = name;
        if !is_valid_name(&self.name) {
            let shown = String::from_utf8_lossy(&self.name);
            return Err(NarError::bad(format!("NAR contains invalid file name '{}'", shown.escape_debug())));
        }
        if let Some(previous) = self.names.last_mut() {
            if self.name <= *previous {
                return Err(NarError::bad(format!(
                    "NAR directory is not sorted: '{}' comes after '{}'",
                    String::from_utf8_lossy(&self.name),
                    String::from_utf8_lossy(previous)
                )));
            }
            previous.clone_from(&self.name);
        }
        Ok(())
    }

    fn expect(&mut self, expected: &[u8]) -> NarResult<()> {
        let tag = self.tag()?;
        if tag == expected {
            return Ok(());
        }
        Err(unexpected(&format!("'{}'", String::from_utf8_lossy(expected)), tag))
    }

    /// Reads a keyword into the tag buffer, the rest of which is zero.
    fn tag(&mut self) -> NarResult<&[u8]> {
        let len = self.word()?;
        let len = match usize::try_from(len) {
            Ok(len) if len <= MAX_TAG => len,
            _ => return Err(NarError::bad("string is too long")),
        };
        let padded = len.next_multiple_of(8);
        self.tag = [0; MAX_TAG];
        let mut tag = self.tag;
        self.read_exact(&mut tag[..padded])?;
        if tag[len..].iter().any(|b| *b != 0) {
            return Err(NarError::bad("non-zero padding"));
        }
        self.tag = tag;
        Ok(&self.tag[..len])
    }

    fn string(&mut self, max: usize, out: &mut Vec<u8>) -> NarResult<()> {
        let len = self.word()?;
        let len = match usize::try_from(len) {
            Ok(len) if len <= max => len,
            _ => return Err(NarError::bad("string is too long")),
        };
        out.clear();
        out.resize(len, 0);
        self.read_exact(out)?;
        self.padding(len as u64)
    }

    fn padding(&mut self, len: u64) -> NarResult<()> {
        let mut pad = [0; 8];
        let n = padding(len);
        self.read_exact(&mut pad[..n])?;
        if pad != [0; 8] {
            return Err(NarError::bad("non-zero padding"));
        }
        Ok(())
    }

    fn word(&mut self) -> NarResult<u64> {
        let mut word = [0; 8];
        self.read_exact(&mut word)?;
        Ok(u64::from_le_bytes(word))
    }

    fn read_exact(&mut self, out: &mut [u8]) -> NarResult<()> {
        self.input.read_exact(out).map_err(NarError::read)?;
        self.position += out.len() as u64;
        Ok(())
    }
}

/// Whether a directory entry may have this name.
pub fn is_valid_name(name: &[u8]) -> bool {
    !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/') && !name.contains(&0)
}

fn unexpected(expected: &str, got: &[u8]) -> NarError {
    NarError::bad(format!("expected tag {expected}, got '{}'", String::from_utf8_lossy(got).escape_debug()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NarWriter;

    fn bytes_of(strings: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for s in strings {
            out.extend((s.len() as u64).to_le_bytes());
            out.extend(*s);
            out.resize(out.len().next_multiple_of(8), 0);
        }
        out
    }

    #[track_caller]
    fn check(strings: &[&[u8]], expected: &str) {
        check_bytes(&bytes_of(strings), expected);
    }

    #[track_caller]
    fn check_bytes(bytes: &[u8], expected: &str) {
        let got = NarReader::new(bytes).skip_to_end().expect_err("must be refused").to_string();
        assert!(got.contains(expected), "got: {got}");
    }

    #[test]
    fn refuses_what_breaks_the_format() {
        check(&[b"nix-archive-2", b"("], "doesn't look like a Nix archive");
        check(&[b"nix-archive-1", b"[", b""], "expected tag '(', got '['");
        check(&[b"nix-archive-1", b"(", b"type", b"fifo"], "unknown file type 'fifo'");
        check(&[b"nix-archive-1", b"(", b"type", b"regular", b"content", b""], "got 'content'");
        check(&[b"nix-archive-1", b"(", b"type", b"regular", b"executable", b"x"], "non-empty value");
        // Found by broken input: more behind the keyword than there should be.
        let long = b"contents\0\0\0\0\0\0\0\0contents";
        check(&[b"nix-archive-1", b"(", b"type", b"regular", long, b"c", b")"], "expected tag 'contents'");
        check(&[b"nix-archive-1", b"(", b"type", b"symlink", b"target", b""], "invalid symlink target");
        check(&[b"nix-archive-1", b"(", b"type", b"symlink", b"target", &[b'x'; 4096]], "too long");
        check(&[b"nix-archive-1", b"(", b"type", b"directory", &[b'x'; 33]], "string is too long");
        check(&[b"nix-archive-1", b"(", b"type", b"regular", b"contents", b"x"], "unexpected end-of-file");
    }

    #[test]
    fn refuses_bad_names() {
        let dir: &[&[u8]] = &[b"nix-archive-1", b"(", b"type", b"directory"];
        for name in [&b".."[..], b".", b"", b"a/b", b"a\0b"] {
            check(&[dir, &[b"entry", b"(", b"name", name]].concat(), "invalid file name");
        }
        let entry: &[&[u8]] =
            &[b"entry", b"(", b"name", b"b", b"node", b"(", b"type", b"directory", b")", b")"];
        check(&[dir, entry, entry].concat(), "NAR directory is not sorted");
        check(&[dir, entry, &[b"entry", b"(", b"name", b"a"]].concat(), "NAR directory is not sorted");
    }

    #[test]
    fn refuses_padding_and_depth_and_sizes() {
        let mut bytes = bytes_of(&[b"nix-archive-1", b"(", b"type", b"regular", b"contents", b"x", b")"]);
        let at = bytes.len() - 16 - 1;
        bytes[at] = 1;
        check_bytes(&bytes, "non-zero padding");

        let mut deep = bytes_of(&[b"nix-archive-1"]);
        for _ in 0..MAX_DEPTH + 1 {
            deep.extend(bytes_of(&[b"(", b"type", b"directory", b"entry", b"(", b"name", b"d", b"node"]));
        }
        check_bytes(&deep, "maximum depth of 64");

        let mut huge = bytes_of(&[b"nix-archive-1", b"(", b"type", b"regular", b"contents"]);
        huge.extend(u64::MAX.to_le_bytes());
        check_bytes(&huge, "too large");
    }

    #[test]
    fn leaves_what_follows() {
        let mut out = Vec::new();
        let mut writer = NarWriter::new(&mut out);
        writer.regular(b"", true, b"abc").unwrap();
        writer.finish().unwrap();
        out.extend(b"rest");
        let mut reader = NarReader::new(&out[..]);
        let Some(Event::Node { node: Node::Regular { executable: true, size: 3, offset }, .. }) =
            reader.next_event().unwrap()
        else {
            panic!("a regular file")
        };
        assert_eq!(&out[offset as usize..][..3], b"abc");
        assert!(reader.next_event().unwrap().is_none());
        assert_eq!(reader.position(), crate::file_archive_len(3, true));
        assert_eq!(reader.into_inner(), b"rest");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), cut in 0usize..200) {
            let mut input = bytes_of(&[b"nix-archive-1", b"(", b"type", b"directory", b"entry", b"(", b"name", b"a",
                b"node", b"(", b"type", b"regular", b"executable", b"", b"contents", b"hello", b")", b")", b")"]);
            input.truncate(cut * 2);
            input.extend(&bytes);
            let _ = NarReader::new(&input[..]).skip_to_end();
            let _ = NarReader::new(&bytes[..]).skip_to_end();
        }
    }
}
