//! Names and single characters as strings, each made once.

use super::word::Value;
use crate::context::Context;
use firn_syntax::Sym;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Chunk `n` holds `FIRST << n` words, so that a name's place never moves.
const FIRST_BITS: u32 = 12;
const CHUNKS: usize = 20;

/// The words of the strings, by the numbers of the symbols; 0 for those that nobody asked for.
static NAMES: [OnceLock<Box<[AtomicU64]>>; CHUNKS] = [const { OnceLock::new() }; CHUNKS];

/// The strings of one byte.
static CHARACTERS: [AtomicU64; 256] = [const { AtomicU64::new(0) }; 256];

impl Value {
    /// A string of one byte without context, which lives as long as the process. Texts are taken apart into millions
    /// of them.
    pub(super) fn character(byte: u8) -> Value {
        let place = &CHARACTERS[usize::from(byte)];
        match place.load(Ordering::Acquire) {
            0 => {
                let value = Value::str_parts(&[&[byte]], Context::EMPTY).keep();
                // Threads may make it at the same time: all get the same one.
                match place.compare_exchange(0, value.word(), Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => value,
                    // SAFETY: what is stored is a kept value's word.
                    Err(word) => unsafe { Value::from_word(word) },
                }
            }
            // SAFETY: as above.
            word => unsafe { Value::from_word(word) },
        }
    }

    /// The name as a string without context, which lives as long as the process.
    pub fn name(sym: Sym) -> Value {
        let n = u64::from(sym.index()) + (1 << FIRST_BITS);
        let top = n.ilog2();
        let chunk = NAMES[(top - FIRST_BITS) as usize]
            .get_or_init(|| (0..1usize << top).map(|_| AtomicU64::new(0)).collect());
        let place = &chunk[(n - (1 << top)) as usize];
        match place.load(Ordering::Acquire) {
            0 => {
                let value = Value::str(sym.as_bytes()).keep();
                if let Some(name) = value.as_str() {
                    name.sym();
                }
                place.store(value.word(), Ordering::Release);
                value
            }
            // SAFETY: the words were stored above, and what they stand for is kept.
            word => unsafe { Value::from_word(word) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_once() {
        let sym = Sym::new(b"some-name");
        assert_eq!(Value::name(sym), Value::name(sym));
        let name = Value::name(sym).as_str().expect("a string");
        assert_eq!((name.as_bytes(), name.sym()), (&b"some-name"[..], sym));
    }
}
