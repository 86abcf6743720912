//! Bits, most significant first.

/// Bytes that room is made for at once.
const ROOM: usize = 4096;

/// Bits that were put one after another.
#[derive(Default)]
pub(super) struct Bits {
    /// Whole bytes up to `length`; what follows is overwritten.
    bytes: Vec<u8>,
    length: usize,
    /// What is no whole byte yet, from the top down: less than eight bits.
    rest: u64,
    count: u32,
}

impl Bits {
    /// Appends the lowest `count` bits of `value`, of which no others are set; at most 56.
    pub fn put(&mut self, count: u32, value: u64) {
        debug_assert!(count <= 56 && value >> count == 0);
        if self.bytes.len() < self.length + 8 {
            self.bytes.resize(self.length + ROOM, 0);
        }
        // Whole words are written whatever is in them, so that nothing depends on how many bytes are full.
        self.count += count;
        self.rest |= value << 1 << (63 - self.count);
        self.bytes[self.length..self.length + 8].copy_from_slice(&self.rest.to_be_bytes());
        self.length += (self.count / 8) as usize;
        self.rest <<= self.count & !7;
        self.count &= 7;
    }

    /// Appends all bits of another one, which is empty then.
    pub fn append(&mut self, other: &mut Bits) {
        let (words, rest) = other.bytes[..other.length].as_chunks();
        for word in words {
            self.put(32, u32::from_be_bytes(*word).into());
        }
        for byte in rest {
            self.put(8, (*byte).into());
        }
        if other.count > 0 {
            self.put(other.count, other.rest >> (64 - other.count));
        }
        (other.length, other.rest, other.count) = (0, 0, 0);
    }

    /// Fills the last byte with zeros.
    pub fn pad(&mut self) {
        if self.count > 0 {
            self.put(8 - self.count, 0);
        }
    }

    /// All bytes that are whole.
    pub fn whole(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Forgets the bytes that [`Bits::whole`] gave.
    pub fn forget_whole(&mut self) {
        self.length = 0;
    }
}
