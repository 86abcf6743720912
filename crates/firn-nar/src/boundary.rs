//! Where an archive ends, found out piece by piece: for archives in the middle of a stream that must be passed on
//! without being taken apart.

use crate::error::{NarError, NarResult};
use crate::{MAGIC, MAX_DEPTH, padding};

/// Longest word of the format.
const MAX_WORD: usize = 16;

#[derive(Debug, Clone, Copy)]
enum State {
    /// So many bytes of a length are here.
    Length(usize),
    /// A word of so many bytes, padding not counted; so many are here.
    Word {
        len: usize,
        got: usize,
    },
    /// So many bytes of a name, target or contents, padding counted, are still to come.
    Skip(u64),
    Done,
}

/// Follows an archive by its words only: what comes out of it must still be parsed by somebody.
#[derive(Debug)]
pub struct NarBoundary {
    state: State,
    length: [u8; 8],
    word: [u8; MAX_WORD],
    /// Whether the next string is a name, target or contents.
    opaque: bool,
    started: bool,
    depth: usize,
}

impl Default for NarBoundary {
    fn default() -> Self {
        NarBoundary {
            state: State::Length(0),
            length: [0; 8],
            word: [0; MAX_WORD],
            opaque: false,
            started: false,
            depth: 0,
        }
    }
}

impl NarBoundary {
    /// How many of the first bytes of `data` belong to the archive.
    pub fn feed(&mut self, data: &[u8]) -> NarResult<usize> {
        let mut at = 0;
        while at < data.len() {
            match self.state {
                State::Done => break,
                State::Length(got) => {
                    let n = (8 - got).min(data.len() - at);
                    self.length[got..got + n].copy_from_slice(&data[at..at + n]);
                    at += n;
                    self.state = State::Length(got + n);
                    if got + n == 8 {
                        self.start_string(u64::from_le_bytes(self.length))?;
                    }
                }
                State::Word { len, got } => {
                    let all = len + padding(len as u64);
                    let n = (all - got).min(data.len() - at);
                    self.word[got..got + n].copy_from_slice(&data[at..at + n]);
                    at += n;
                    self.state = State::Word { len, got: got + n };
                    if got + n == all {
                        self.state = State::Length(0);
                        self.end_word(len)?;
                    }
                }
                State::Skip(left) => {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(data.len() - at);
                    at += n;
                    self.state = match left - n as u64 {
                        0 => State::Length(0),
                        left => State::Skip(left),
                    };
                }
            }
        }
        Ok(at)
    }

    /// Whether the archive's last byte was seen.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    fn start_string(&mut self, len: u64) -> NarResult<()> {
        let opaque = std::mem::take(&mut self.opaque);
        let total = len.checked_add(padding(len) as u64);
        self.state = match (opaque, total) {
            (_, None) => return Err(NarError::bad("a length is out of range")),
            (true, Some(0)) => State::Length(0),
            (true, Some(total)) => State::Skip(total),
            (false, Some(total)) if total as usize <= MAX_WORD && len > 0 => {
                State::Word { len: len as usize, got: 0 }
            }
            (false, Some(_)) => return Err(NarError::bad("a word of the format was expected")),
        };
        Ok(())
    }

    fn end_word(&mut self, len: usize) -> NarResult<()> {
        let word = &self.word[..len];
        if !self.started {
            self.started = true;
            return match word == MAGIC {
                true => Ok(()),
                false => Err(NarError::bad("the magic number is missing")),
            };
        }
        match word {
            b"(" => {
                self.depth += 1;
                if self.depth > 2 * MAX_DEPTH + 2 {
                    return Err(NarError::bad("directories are nested too deep"));
                }
            }
            b")" => match self.depth {
                0 => return Err(NarError::bad("')' without '('")),
                1 => self.state = State::Done,
                _ => self.depth -= 1,
            },
            b"name" | b"target" | b"contents" | b"executable" => self.opaque = true,
            b"type" | b"regular" | b"symlink" | b"directory" | b"entry" | b"node" => {}
            other => {
                return Err(NarError::bad(format!("'{}' is no word of the format", other.escape_ascii())));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NarWriter;

    fn archive() -> Vec<u8> {
        let mut out = NarWriter::new(Vec::new());
        out.start_directory(b"").unwrap();
        out.regular(b"(", true, b")").unwrap();
        out.start_directory(b"dir").unwrap();
        out.symlink(b"link", b")").unwrap();
        out.regular(b"x", false, b"").unwrap();
        out.end_directory().unwrap();
        out.end_directory().unwrap();
        out.finish().unwrap()
    }

    #[test]
    fn ends_where_the_archive_ends() {
        let mut bytes = archive();
        let len = bytes.len();
        bytes.extend(b"what follows");
        for piece in [1, 3, 7, 64, 4096] {
            let mut boundary = NarBoundary::default();
            let mut at = 0;
            while !boundary.is_done() {
                let end = (at + piece).min(bytes.len());
                at += boundary.feed(&bytes[at..end]).unwrap();
            }
            assert_eq!(at, len);
        }
    }

    #[test]
    fn refuses_what_is_no_archive() {
        let check = |bytes: &[u8]| assert!(NarBoundary::default().feed(bytes).is_err());
        check(&[0xff; 64]);
        check(b"\x0d\0\0\0\0\0\0\0nix-archive-2\0\0\0");
        check(b"\x0d\0\0\0\0\0\0\0nix-archive-1\0\0\0\x01\0\0\0\0\0\0\0)\0\0\0\0\0\0\0");
    }
}
