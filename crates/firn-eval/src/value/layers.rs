//! Layers: `a // b` of a small set on a large one, without copying the large one.
//!
//! A set that is folded together from many small ones (the options of a module system, a package set and its overlays)
//! would otherwise be copied at each step, and each step would leave a shape and a plan of its own. The layers are flat
//! sets, each one at least twice as large as the next one (the lowest at least as large), so there are few of them. Whoever wants more than to look a name
//! up, or looks many names up, gets the flat set, which is then kept.

use super::attrs::{Attrs, HEAD};
use super::heap::{self, Class};
use super::positions::UpdateCache;
use super::word::Value;
use firn_syntax::Sym;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// In the first word of a set: it is layers. The other bits are the address of the flat set, when there is one already.
/// The second word is how many layers there are and, in its upper half, how often something was looked up in them. Then
/// they follow, the lowest first.
pub(super) const LAYERED: u64 = 1;

/// Smaller sets are copied.
pub(super) const LEAST: usize = 32;
/// What is laid on a set has at most one attribute for so many of it.
const SHARE: usize = 8;
/// From this many attributes on copying is dear, and what is laid on a set may be half as large: package sets on another.
const LARGE: usize = 512;
/// More layers than sets that fit into memory can have.
const MOST: usize = 40;

impl Attrs {
    /// `self // top` in layers, where that is worth while. Both must have attributes.
    #[inline]
    pub fn with_layer(self, top: Attrs) -> Option<Attrs> {
        if !self.is_layered() && self.len() < LEAST {
            return None;
        }
        self.lay(top)
    }

    #[inline(never)]
    fn lay(self, top: Attrs) -> Option<Attrs> {
        let mut layers = [self; MOST];
        let mut count = 1;
        if self.is_layered() {
            match self.known_flat() {
                Some(flat) => layers[0] = flat,
                None => {
                    count = 0;
                    for (place, layer) in layers.iter_mut().zip(self.layers()) {
                        *place = layer;
                        count += 1;
                    }
                }
            }
        }
        let lowest = layers[0].len();
        let share = if lowest >= LARGE { 2 } else { SHARE };
        if top.len() > lowest / share {
            return None;
        }
        let mut top = top.flat();
        while count > 1 && (layers[count - 1].len() <= 2 * top.len() || count == MOST) {
            top = merge(layers[count - 1], top);
            count -= 1;
        }
        if top.len() > lowest / (share / 2).max(1) {
            return Some(merge(layers[0], top));
        }
        layers[count] = top;
        Some(Attrs::layered(&layers[..=count]))
    }

    fn layered(layers: &[Attrs]) -> Attrs {
        let object = heap::alloc(Class::Traced, HEAD + layers.len());
        // SAFETY: as many fresh words.
        unsafe {
            object.write(LAYERED);
            object.add(1).write(layers.len() as u64);
            for (i, layer) in layers.iter().enumerate() {
                object.add(HEAD + i).write(layer.0.as_ptr() as u64);
            }
        }
        Attrs(object)
    }

    #[inline]
    pub(super) fn is_layered(self) -> bool {
        self.head().load(Ordering::Acquire) & LAYERED != 0
    }

    /// The flat set that the layers were merged into.
    #[inline]
    fn known_flat(self) -> Option<Attrs> {
        NonNull::new((self.head().load(Ordering::Acquire) & !LAYERED) as *mut u64).map(Attrs)
    }

    /// The layers, lowest first.
    fn layers(self) -> impl DoubleEndedIterator<Item = Attrs> {
        debug_assert!(self.is_layered());
        let count = self.lookups().load(Ordering::Relaxed) as u32 as usize;
        // SAFETY: the second word says how many sets' addresses follow; they are never changed.
        (0..count)
            .filter_map(move |i| unsafe { NonNull::new(self.0.add(HEAD + i).read() as *mut u64).map(Attrs) })
    }

    /// The word that counts.
    fn lookups(self) -> &'static AtomicU64 {
        // SAFETY: sets have two words at least, and live for ever.
        unsafe { AtomicU64::from_ptr(self.0.as_ptr().add(1)) }
    }

    /// The flat set of one that may be layered.
    #[inline]
    pub(super) fn flat(self) -> Attrs {
        if self.is_layered() { self.flatten() } else { self }
    }

    #[inline(never)]
    pub(super) fn flatten(self) -> Attrs {
        if let Some(flat) = self.known_flat() {
            return flat;
        }
        let mut layers = self.layers().rev();
        // The smaller ones first. There are two layers at least.
        let top = layers.next().unwrap_or(self);
        let flat = layers.fold(top, |top, layer| merge(layer, top));
        self.head().store(flat.0.as_ptr() as u64 | LAYERED, Ordering::Release);
        flat
    }

    /// Whether there are no attributes.
    pub fn is_empty(self) -> bool {
        !self.is_layered() && self.len() == 0
    }

    /// How many attributes the lowest layer has: as many as there are, when there is only one.
    pub fn least_len(self) -> usize {
        if self.is_layered() { self.layers().next().map_or(0, Attrs::len) } else { self.len() }
    }

    /// The flat set that the attribute is in, and its place there.
    pub fn locate(self, name: Sym) -> Option<(Attrs, usize)> {
        let place = |flat: Attrs| flat.shape().find(name).map(|place| (flat, place));
        if !self.is_layered() {
            return place(self);
        }
        match self.look_through() {
            Some(flat) => place(flat),
            None => self.layers().rev().find_map(place),
        }
    }

    /// What the layers have of that name; or the flat set, when they have been looked through often enough.
    #[inline(never)]
    pub(super) fn find_in_layers(self, name: Sym) -> Result<Option<Value>, Attrs> {
        match self.look_through() {
            Some(flat) => Err(flat),
            None => Ok(self.layers().rev().find_map(|layer| layer.find(name))),
        }
    }

    /// Counts a look-up. Gives the flat set, when there is one or when there have been enough of them.
    #[inline]
    fn look_through(self) -> Option<Attrs> {
        let flat = self.known_flat();
        if flat.is_some() {
            return flat;
        }
        // Not counted exactly where several threads look: nothing hangs on it.
        let word = self.lookups().load(Ordering::Relaxed);
        self.lookups().store(word.wrapping_add(1 << 32), Ordering::Relaxed);
        let lowest = self.layers().next()?;
        (word >> 32 > lowest.len() as u64).then(|| self.flatten())
    }
}

fn merge(below: Attrs, above: Attrs) -> Attrs {
    Attrs::update_flat(below, above, &UpdateCache::none())
}
