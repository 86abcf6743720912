//! What came of comparing sets.
//!
//! Lists of packages are made unique by comparing each with each, and every package asks whether it is built for the
//! machine that builds it, which are large sets. Sets never change: what was once compared without an error is known.

use super::attrs::Attrs;
use super::heap::{self, LAST_EPOCH};
use super::word::Value;

/// Places for derivations, each in one of them.
const DERIVATIONS: usize = 1 << 13;
/// Places for pairs of sets.
const PAIRS: usize = 1 << 8;

/// What an evaluating thread remembers of sets that it has compared.
#[derive(Default)]
pub struct Compared {
    /// By their identity, sets that are derivations, and their output paths.
    derivations: Vec<(u64, Value)>,
    /// By the identities of two sets, how deep the calls were when they were compared, and whether they are equal.
    pairs: Vec<((u64, u64), usize, bool)>,
}

impl Compared {
    /// Whether two derivations are equal, if both were compared before: their output paths are strings then.
    #[inline]
    pub fn derivations(&self, a: Attrs, b: Attrs) -> Option<bool> {
        let (a, b) = (self.out_path(a)?, self.out_path(b)?);
        // The sets refer to the strings, and nothing was given back, as there was no collection since.
        Some(a == b || a.as_str()?.as_bytes() == b.as_str()?.as_bytes())
    }

    #[inline]
    fn out_path(&self, derivation: Attrs) -> Option<Value> {
        let identity = heap::identity(derivation.0);
        let (key, path) = self.derivations.get(place(identity, DERIVATIONS))?;
        (*key == identity).then_some(*path)
    }

    /// `set` is a derivation, and `path` its output path, both of which are evaluated.
    pub fn note_derivation(&mut self, set: Attrs, path: Value) {
        if path.as_str().is_none() || heap::epoch() >= LAST_EPOCH {
            return;
        }
        if self.derivations.is_empty() {
            self.derivations.resize(DERIVATIONS, (0, Value::NULL));
        }
        let identity = heap::identity(set.0);
        self.derivations[place(identity, DERIVATIONS)] = (identity, path);
    }

    /// Whether two sets are equal, if these two were compared before, at `depth` or deeper: higher up it is sure that what
    /// is in them is not too deep to be compared.
    pub fn pair(&self, a: Attrs, b: Attrs, depth: usize) -> Option<bool> {
        let pair = (heap::identity(a.0), heap::identity(b.0));
        let (key, deepest, equal) = self.pairs.get(place_of_pair(pair))?;
        (*key == pair && depth <= *deepest).then_some(*equal)
    }

    pub fn note_pair(&mut self, a: Attrs, b: Attrs, depth: usize, equal: bool) {
        if heap::epoch() >= LAST_EPOCH {
            return;
        }
        if self.pairs.is_empty() {
            self.pairs.resize(PAIRS, ((0, 0), 0, false));
        }
        let pair = (heap::identity(a.0), heap::identity(b.0));
        self.pairs[place_of_pair(pair)] = (pair, depth, equal);
    }
}

/// One of so many places, a power of two.
#[inline]
fn place(identity: u64, places: usize) -> usize {
    // Fibonacci hashing: neighbours in memory are far apart.
    (identity.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - places.ilog2())) as usize
}

fn place_of_pair((a, b): (u64, u64)) -> usize {
    place(a ^ b.rotate_left(1), PAIRS)
}
