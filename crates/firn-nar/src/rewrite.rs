//! Replacing hash parts in a byte stream, and hashing a stream modulo its references to itself.

use firn_core::{Hash, HashAlgo, Hasher};
use memchr::memmem::Finder;
use std::io::{self, Write};

/// Replaces texts by others of the same length in what is written to it.
///
/// Matches do not overlap and the first in the stream wins. [`Rewriter::finish`] must be called for the last bytes.
pub struct Rewriter<W> {
    out: W,
    rules: Vec<(Finder<'static>, Vec<u8>)>,
    longest: usize,
    /// Bytes that could still be the start of a match.
    held: Vec<u8>,
    position: u64,
    matches: Vec<u64>,
}

impl<W: Write> Rewriter<W> {
    /// Rules whose two sides differ in length, or are empty, would move other bytes: they are refused.
    pub fn new<'a>(rules: impl IntoIterator<Item = (&'a [u8], &'a [u8])>, out: W) -> io::Result<Rewriter<W>> {
        let mut longest = 0;
        let mut kept = Vec::new();
        for (from, to) in rules {
            if from.len() != to.len() || from.is_empty() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "a rewrite must keep the length"));
            }
            longest = longest.max(from.len());
            if from != to {
                kept.push((Finder::new(from).into_owned(), to.to_vec()));
            }
        }
        Ok(Rewriter { out, rules: kept, longest, held: Vec::new(), position: 0, matches: Vec::new() })
    }

    /// What was written so far goes here.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    /// Writes what is held back and returns the sink, the positions of all matches and the number of bytes.
    pub fn finish(mut self) -> io::Result<(W, Vec<u64>, u64)> {
        let held = std::mem::take(&mut self.held);
        let (rewritten, _) = self.rewrite(held);
        self.out.write_all(&rewritten)?;
        Ok((self.out, self.matches, self.position + rewritten.len() as u64))
    }

    /// Applies the rules; returns the data and the end of the last match.
    fn rewrite(&mut self, mut data: Vec<u8>) -> (Vec<u8>, usize) {
        let mut found: Vec<(usize, usize)> = Vec::new();
        for (index, (finder, _)) in self.rules.iter().enumerate() {
            found.extend(finder.find_iter(&data).map(|at| (at, index)));
        }
        found.sort_unstable();
        let mut free = 0;
        for (at, index) in found {
            let to = &self.rules[index].1;
            if at >= free {
                data[at..at + to.len()].copy_from_slice(to);
                free = at + to.len();
                self.matches.push(self.position + at as u64);
            }
        }
        (data, free)
    }
}

impl<W: Write> Write for Rewriter<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut data = std::mem::take(&mut self.held);
        data.extend_from_slice(buf);
        let (mut data, free) = self.rewrite(data);
        // What is rewritten already must not be looked at again; the rest may be the start of a match.
        let cut = free.max(data.len().saturating_sub(self.longest.saturating_sub(1)));
        self.held = data.split_off(cut);
        self.position += data.len() as u64;
        self.out.write_all(&data)?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The hash of a stream in which every occurrence of `modulus` counts as zero bytes.
pub struct ModuloHasher {
    rewriter: Rewriter<Hasher>,
}

impl ModuloHasher {
    /// `modulus` is usually the hash part of the object's own path; without one this is the plain hash.
    pub fn new(algo: HashAlgo, modulus: &str) -> io::Result<ModuloHasher> {
        let zeros = vec![0; modulus.len()];
        let rule = (!modulus.is_empty()).then_some((modulus.as_bytes(), &zeros[..]));
        Ok(ModuloHasher { rewriter: Rewriter::new(rule, Hasher::new(algo))? })
    }

    /// The hash and the number of bytes. The positions of the matches take no part: older versions of the
    /// reference hashed them too, the version that firn equals does not.
    pub fn finish(self) -> io::Result<(Hash, u64)> {
        let (hasher, _matches, length) = self.rewriter.finish()?;
        Ok((hasher.finish(), length))
    }
}

impl Write for ModuloHasher {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.rewriter.write(buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(input: &str, rules: &[(&str, &str)], expected: &str, positions: &[u64]) {
        for chunk in [1, 2, 3, 5, 1000] {
            let rules = rules.iter().map(|(a, b)| (a.as_bytes(), b.as_bytes()));
            let mut rewriter = Rewriter::new(rules, Vec::new()).unwrap();
            input.as_bytes().chunks(chunk).for_each(|c| rewriter.write_all(c).unwrap());
            let (out, matches, length) = rewriter.finish().unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected, "in pieces of {chunk}");
            assert_eq!((matches, length), (positions.to_vec(), input.len() as u64));
        }
    }

    #[test]
    fn rewrites() {
        check("", &[("a", "b")], "", &[]);
        check("xaax", &[], "xaax", &[]);
        check(
            "foobar barfoo foo",
            &[("foo", "FOO"), ("bar", "BAR")],
            "FOOBAR BARFOO FOO",
            &[0, 3, 7, 10, 14],
        );
        check("abba", &[("ab", "ba"), ("ba", "ab")], "baab", &[0, 2]);
        check("fofoo", &[("foo", "123")], "fo123", &[2]);
    }

    #[test]
    fn lengths_must_agree() {
        assert!(Rewriter::new([(&b"ab"[..], &b"a"[..])], Vec::new()).is_err());
    }
}
