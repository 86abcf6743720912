//! Finding which of a set of hash parts occur in a byte stream.

use firn_core::base::is_nix32_char;
use rustc_hash::FxHashSet;
use std::collections::BTreeSet;
use std::io::Write;

const LEN: usize = firn_core::store_path::HASH_PART_LEN;

const IS_NIX32: [bool; 256] = {
    let mut table = [false; 256];
    let chars = firn_core::base::NIX32_CHARS;
    let mut i = 0;
    while i < chars.len() {
        table[chars[i] as usize] = true;
        i += 1;
    }
    table
};

/// Looks for hash parts of store paths (32 characters of Nix's base 32), also across the borders of pieces.
pub struct RefScanner {
    wanted: FxHashSet<[u8; LEN]>,
    found: BTreeSet<String>,
    /// The last `LEN - 1` bytes seen, or fewer.
    tail: Vec<u8>,
}

impl RefScanner {
    /// Texts that are not 32 base-32 characters cannot occur and are left out.
    pub fn new<'a>(hash_parts: impl IntoIterator<Item = &'a str>) -> RefScanner {
        let wanted = hash_parts
            .into_iter()
            .filter(|part| part.bytes().all(is_nix32_char))
            .filter_map(|part| part.as_bytes().try_into().ok())
            .collect();
        RefScanner { wanted, found: BTreeSet::new(), tail: Vec::with_capacity(2 * LEN) }
    }

    /// The next piece of the stream.
    pub fn update(&mut self, data: &[u8]) {
        if !self.tail.is_empty() {
            // A hash part across the border lies within the tail and the first LEN - 1 bytes of this piece.
            let mut border = std::mem::take(&mut self.tail);
            let kept = border.len();
            border.extend_from_slice(&data[..data.len().min(LEN - 1)]);
            self.search(&border);
            border.truncate(kept);
            self.tail = border;
        }
        self.search(data);
        if data.len() >= LEN - 1 {
            self.tail.clear();
            self.tail.extend_from_slice(&data[data.len() - (LEN - 1)..]);
        } else {
            self.tail.extend_from_slice(data);
            let excess = self.tail.len().saturating_sub(LEN - 1);
            self.tail.drain(..excess);
        }
    }

    /// Those found so far.
    pub fn found(&self) -> &BTreeSet<String> {
        &self.found
    }

    pub fn into_found(self) -> BTreeSet<String> {
        self.found
    }

    /// Looks at the last byte of each window first and jumps behind the last byte that cannot be part of a hash,
    /// so that binary data costs about one look per 32 bytes.
    fn search(&mut self, s: &[u8]) {
        let mut i = 0;
        // Bytes below this index, from `i` on, are known to be base-32 characters.
        let mut known = 0;
        while i + LEN <= s.len() {
            let low = known.max(i);
            match s[low..i + LEN].iter().rposition(|b| !IS_NIX32[*b as usize]) {
                Some(bad) => {
                    i = low + bad + 1;
                    known = i;
                }
                None => {
                    known = i + LEN;
                    if let Ok(window) = <&[u8; LEN]>::try_from(&s[i..i + LEN])
                        && self.wanted.remove(window)
                    {
                        self.found.insert(String::from_utf8_lossy(window).into_owned());
                    }
                    i += 1;
                }
            }
        }
    }
}

impl Write for RefScanner {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.update(buf);
        Ok(buf.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab";
    const B: &str = "0123456789abcdfghijklmnpqrsvwxyz";

    #[track_caller]
    fn check(input: &[u8], expected: &[&str]) {
        for chunk in [1, 2, 7, 31, 32, 33, 64, 1000] {
            let mut scanner = RefScanner::new([A, B]);
            input.chunks(chunk).for_each(|c| scanner.update(c));
            let found: Vec<&str> = scanner.found().iter().map(String::as_str).collect();
            assert_eq!(found, expected, "in pieces of {chunk}");
        }
    }

    #[test]
    fn finds() {
        check(b"", &[]);
        check(A.as_bytes(), &[A]);
        check(format!("aaaa{A}{B}").as_bytes(), &[B, A]);
        check(format!("/nix/store/{B}-x and {}", &A[1..]).as_bytes(), &[B]);
        check(format!("{}e{}", &A[..16], &A[16..]).as_bytes(), &[]);
        check(format!("\0\0{A}\0{B}\0").as_bytes(), &[B, A]);
    }

    proptest::proptest! {
        #[test]
        fn equals_naive(text in "[0-9a-e]{0,200}", at in 0usize..200, cut in 1usize..50) {
            let at = at.min(text.len());
            let text = format!("{}{A}{}", &text[..at], &text[at..]);
            let mut scanner = RefScanner::new([A, B]);
            text.as_bytes().chunks(cut).for_each(|c| scanner.update(c));
            proptest::prop_assert!(scanner.found().contains(A));
        }
    }
}
