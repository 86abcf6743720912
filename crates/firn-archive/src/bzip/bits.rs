//! Bits, most significant first.

/// Bits that were put one after another.
#[derive(Default)]
pub(super) struct Bits {
    /// Whole words, but for the end after [`Bits::pad`].
    whole: Vec<u8>,
    /// What is no whole word of 32 bits yet, from the top down.
    rest: u64,
    count: u32,
}

impl Bits {
    /// Appends the lowest `count` bits of `value`, of which no others are set; at most 32.
    pub fn put(&mut self, count: u32, value: u32) {
        debug_assert!(count <= 32 && u64::from(value) >> count == 0);
        self.rest |= u64::from(value) << (64 - self.count - count);
        self.count += count;
        if self.count >= 32 {
            self.whole.extend_from_slice(&((self.rest >> 32) as u32).to_be_bytes());
            self.rest <<= 32;
            self.count -= 32;
        }
    }

    /// Appends all bits of another one, which is empty then.
    pub fn append(&mut self, other: &mut Bits) {
        let (words, _) = other.whole.as_chunks();
        for word in words {
            self.put(32, u32::from_be_bytes(*word));
        }
        if other.count > 0 {
            self.put(other.count, (other.rest >> (64 - other.count)) as u32);
        }
        other.whole.clear();
        (other.rest, other.count) = (0, 0);
    }

    /// Fills the last byte with zeros.
    pub fn pad(&mut self) {
        let bytes = self.count.div_ceil(8) as usize;
        self.whole.extend_from_slice(&self.rest.to_be_bytes()[..bytes]);
        (self.rest, self.count) = (0, 0);
    }

    /// All bytes that are whole.
    pub fn whole(&self) -> &[u8] {
        &self.whole
    }

    /// Forgets the bytes that [`Bits::whole`] gave.
    pub fn forget_whole(&mut self) {
        self.whole.clear();
    }
}
