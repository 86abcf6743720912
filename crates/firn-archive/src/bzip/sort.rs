//! The transform of Burrows and Wheeler: what comes before each rotation of a block, in the order of the rotations.

use libsais::bwt::{AuxIndicesSamplingRate, BwtConstruction};
use std::io;

/// Of so many places in a row, sorting tells the rank of one.
const SAMPLING: usize = 8;

/// What sorting works with, kept from block to block.
#[derive(Default)]
pub(super) struct Sorter {
    /// The block, from its least rotation on.
    rotated: Vec<u8>,
    scratch: Vec<i32>,
    ranks: Vec<i32>,
    transformed: Vec<u8>,
}

impl Sorter {
    /// The transformed block, and which of the sorted rotations is the block itself. Blocks are not empty.
    pub fn transform(&mut self, block: &[u8]) -> io::Result<(&[u8], u32)> {
        let start = least_rotation(block);
        let (head, tail) = block.split_at(start);
        self.rotated.clear();
        self.rotated.extend_from_slice(tail);
        self.rotated.extend_from_slice(head);
        let length = block.len();
        self.scratch.resize(length, 0);
        self.transformed.resize(length, 0);
        self.ranks.resize((length - 1) / SAMPLING + 1, 0);
        // Suffixes of the least rotation are in the order of the rotations that begin with them: where one suffix ends
        // within another, its rotation goes on with the least there is. What comes before the whole text is its last
        // byte, as before all that equal it: that it is put first makes no difference.
        BwtConstruction::for_text(&self.rotated)
            .in_borrowed_buffer(&mut self.transformed)
            .with_borrowed_temporary_array_buffer(&mut self.scratch)
            .single_threaded()
            .with_aux_indices_in_buffer(AuxIndicesSamplingRate::new(SAMPLING as i32), &mut self.ranks)
            .run()
            .map_err(|e| io::Error::other(format!("sorting a block for bzip2: {e:?}")))?;
        // The block begins where its head does; the next place whose rank is known may be the beginning of the text.
        let itself = if head.is_empty() { 0 } else { tail.len() };
        let sample = itself.next_multiple_of(SAMPLING);
        let (rank, steps) = match self.ranks.get(sample / SAMPLING) {
            Some(rank) => (*rank, sample - itself),
            None => (self.ranks.first().copied().unwrap_or(1), length - itself),
        };
        let origin = (0..steps).fold(rank as usize - 1, |rank, _| rank_before(&self.transformed, rank));
        Ok((&self.transformed, origin as u32))
    }
}

/// The rank of the rotation that begins one byte earlier than that of a given rank: those with the same first byte are
/// in the order of what follows it.
fn rank_before(transformed: &[u8], rank: usize) -> usize {
    let byte = transformed[rank];
    // Counted in bytes, of which processors take many at once.
    let count = |part: &[u8]| part.iter().fold(0_u8, |count, other| count + u8::from(*other < byte));
    let less: usize = transformed.chunks(255).map(|part| usize::from(count(part))).sum();
    less + memchr::memchr_iter(byte, &transformed[..rank]).count()
}

/// Where the lexicographically least rotation begins: two candidates are compared; the one that loses steps over all
/// that was equal, and from there to the next least byte. Linear in the length.
fn least_rotation(text: &[u8]) -> usize {
    // Of bytes themselves: of references, they are compared one by one.
    let least = text.iter().copied().fold(u8::MAX, u8::min);
    let next = |from: usize| {
        let rest = text.get(from..)?;
        memchr::memchr(least, rest).map(|at| from + at)
    };
    let Some(mut first) = next(0) else { return 0 };
    let mut second = first + 1;
    while let Some(other) = next(second) {
        second = other;
        let equal = common(text, first, second);
        if equal >= text.len() {
            break;
        }
        let at = |from: usize| text[(from + equal) % text.len()];
        if at(first) > at(second) {
            // All candidates up to the end of what was equal lose to those that begin as far into the second.
            let loser = first + equal + 1;
            first = second;
            second = loser.max(first + 1);
        } else {
            second += equal + 1;
        }
    }
    first
}

/// How many bytes two rotations have in common at their beginnings; the length of the text where they are equal.
fn common(text: &[u8], first: usize, second: usize) -> usize {
    let length = text.len();
    let mut done = 0;
    while done < length {
        let (a, b) = (&text[(first + done) % length..], &text[(second + done) % length..]);
        let pieces = a.chunks_exact(16).zip(b.chunks_exact(16)).take_while(|(x, y)| x == y).count() * 16;
        let (a, b) = (&a[pieces..], &b[pieces..]);
        let singles = a.iter().zip(b).take_while(|(x, y)| x == y).count();
        done += pieces + singles;
        if singles < a.len().min(b.len()) {
            return done.min(length);
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rotation(text: &[u8], start: usize) -> Vec<u8> {
        [&text[start..], &text[..start]].concat()
    }

    #[track_caller]
    fn check(text: &[u8]) {
        let mut rotations: Vec<Vec<u8>> = (0..text.len()).map(|at| rotation(text, at)).collect();
        rotations.sort();
        assert_eq!(rotation(text, least_rotation(text)), rotations[0]);
        let mut sorter = Sorter::default();
        let (transformed, origin) = sorter.transform(text).unwrap();
        let expected: Vec<u8> = rotations.iter().map(|r| *r.last().unwrap()).collect();
        assert_eq!(transformed, expected);
        assert_eq!(rotations[origin as usize], text);
    }

    #[test]
    fn texts() {
        for text in
            ["a", "ab", "ba", "aaa", "banana", "abab", "baba", "aabaab", "bbabbabb", "abcabcab", "zaazaaza"]
        {
            check(text.as_bytes());
        }
        check(&b"one line\n".repeat(20));
        check(&[b"one line\n".repeat(9), b"x".to_vec()].concat());
    }

    proptest! {
        #[test]
        fn any_text(text in proptest::collection::vec(0..3_u8, 1..60), times in 1..4_usize) {
            check(&text.repeat(times));
        }
    }
}
