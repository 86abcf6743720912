//! The transform of Burrows and Wheeler: what comes before each rotation of a block, in the order of the rotations.

use libsais::SuffixArrayConstruction;
use std::io;

/// What sorting works with, kept from block to block.
#[derive(Default)]
pub(super) struct Sorter {
    /// The block, from its least rotation on.
    rotated: Vec<u8>,
    suffixes: Vec<i32>,
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
        self.suffixes.resize(block.len(), 0);
        // Suffixes of the least rotation are in the order of the rotations that begin with them: where one suffix ends
        // within another, its rotation goes on with the least there is.
        SuffixArrayConstruction::for_text(&self.rotated)
            .in_borrowed_buffer(&mut self.suffixes)
            .single_threaded()
            .run()
            .map_err(|e| io::Error::other(format!("sorting a block for bzip2: {e:?}")))?;
        let text = self.rotated.as_slice();
        let last = text.last().copied().unwrap_or_default();
        let before =
            |at: &i32| usize::try_from(*at - 1).ok().and_then(|at| text.get(at).copied()).unwrap_or(last);
        self.transformed.clear();
        self.transformed.extend(self.suffixes.iter().map(before));
        let itself = (head.len().min(1) * tail.len()) as i32;
        let origin = self.suffixes.iter().position(|at| *at == itself).unwrap_or_default();
        Ok((&self.transformed, origin as u32))
    }
}

/// Where the lexicographically least rotation begins: two candidates are compared; the one that loses steps over all
/// that was equal, and from there to the next least byte. Linear in the length.
fn least_rotation(text: &[u8]) -> usize {
    let Some(least) = text.iter().min() else { return 0 };
    let next = |from: usize| {
        let rest = text.get(from..)?;
        memchr::memchr(*least, rest).map(|at| from + at)
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
