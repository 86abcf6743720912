//! From transformed bytes to few small numbers: places in a list that each byte moves to the front of, and lengths of
//! runs of its front.

use super::bits::Bits;

/// Which bytes there are.
pub(super) type Used = [bool; 256];

pub(super) fn used(data: &[u8]) -> Used {
    let mut used = [false; 256];
    for byte in data {
        used[usize::from(*byte)] = true;
    }
    used
}

/// Writes which bytes there are: which of sixteen groups, and which of each of those.
pub(super) fn put_used(used: &Used, bits: &mut Bits) {
    let set = |flags: &mut dyn Iterator<Item = bool>| flags.fold(0, |word, flag| word << 1 | u64::from(flag));
    bits.put(16, set(&mut used.chunks(16).map(|group| group.contains(&true))));
    for group in used.chunks(16).filter(|group| group.contains(&true)) {
        bits.put(16, set(&mut group.iter().copied()));
    }
}

/// The bytes in the order in which they were seen last, the latest in front.
struct Recent {
    /// The first sixteen, from the lowest bits up: most bytes are found among them, without branches.
    first: u128,
    rest: Vec<u8>,
    /// The place that was moved from last, as the bits of the byte there and of those before it.
    last: (u16, u128, u128),
}

impl Recent {
    /// A byte at each place of a word.
    const EACH: u128 = u128::MAX / 255;

    fn new(used: &Used) -> Recent {
        let all: Vec<u8> = (0..=255).filter(|byte| used[usize::from(*byte)]).collect();
        let (first, rest) = all.split_at(all.len().min(16));
        let mut bytes = [first.first().copied().unwrap_or_default(); 16];
        bytes[..first.len()].copy_from_slice(first);
        Recent { first: u128::from_le_bytes(bytes), rest: rest.to_vec(), last: (0, 0xff, 0) }
    }

    fn front(&self) -> u8 {
        self.first as u8
    }

    /// Moves a byte that is not in front there; where it was.
    fn move_up(&mut self, byte: u8) -> u16 {
        let differs = self.first ^ (Self::EACH * u128::from(byte));
        // Where bytes come in turn, it is the same place again, which processors guess before they know the list.
        if differs & self.last.1 != 0 {
            // The lowest bit of this that is set is the highest of the lowest byte that does not differ.
            let equal = differs.wrapping_sub(Self::EACH) & !differs & (Self::EACH << 7);
            if equal == 0 {
                return self.move_up_far(byte);
            }
            let through = equal ^ (equal - 1);
            let before = through >> 8;
            self.last = ((equal.trailing_zeros() / 8) as u16, through & !before, before);
        }
        let (place, at, before) = self.last;
        self.first = (self.first & !(at | before)) | ((self.first & before) << 8) | u128::from(byte);
        place
    }

    #[cold]
    fn move_up_far(&mut self, byte: u8) -> u16 {
        // The bytes in front of it move on by one while it is looked for.
        let mut carried = (self.first >> 120) as u8;
        self.first = self.first << 8 | u128::from(byte);
        let mut place = 16;
        for slot in &mut self.rest {
            std::mem::swap(slot, &mut carried);
            if carried == byte {
                break;
            }
            place += 1;
        }
        place
    }
}

/// Makes symbols of transformed bytes. The last one is the end, which is the largest.
pub(super) fn move_to_front(data: &[u8], used: &Used, symbols: &mut Symbols) {
    let end = used.iter().filter(|used| **used).count() + 1;
    let mut recent = Recent::new(used);
    // Told apart from the list, so that processors need not wait for the list to know where the next run ends.
    let mut front = recent.front();
    symbols.clear(data.len());
    let mut rest = data;
    loop {
        if rest.first() == Some(&front) {
            let run = run_of(front, rest);
            symbols.push_run(run);
            rest = &rest[run..];
        }
        let Some((byte, others)) = rest.split_first() else { break };
        symbols.push(recent.move_up(*byte) + 1);
        (front, rest) = (*byte, others);
    }
    symbols.push(end as u16);
}

/// How often a byte is repeated at the beginning.
fn run_of(byte: u8, data: &[u8]) -> usize {
    let all = u64::from_ne_bytes([byte; 8]);
    let (words, _) = data.as_chunks();
    let mut run = 0;
    for word in words {
        let differs = u64::from_le_bytes(*word) ^ all;
        if differs != 0 {
            return run + (differs.trailing_zeros() / 8) as usize;
        }
        run += 8;
    }
    run + data[run..].iter().take_while(|other| **other == byte).count()
}

/// The symbols of a block.
#[derive(Default)]
pub(super) struct Symbols {
    /// Up to `length`; what follows is overwritten.
    all: Vec<u16>,
    length: usize,
}

impl Symbols {
    /// Room for the end, and for what is written past the length.
    const SLACK: usize = 8;

    /// Forgets all symbols, and makes room for those of so many bytes.
    fn clear(&mut self, bytes: usize) {
        self.all.resize(bytes + Self::SLACK, 0);
        self.length = 0;
    }

    pub fn all(&self) -> &[u16] {
        &self.all[..self.length]
    }

    fn push(&mut self, symbol: u16) {
        self.all[self.length] = symbol;
        self.length += 1;
    }

    /// The length of a run, in digits one and two of base two, lowest first: they are the symbols 0 and 1, and the bits
    /// of what is one more, but for the highest.
    fn push_run(&mut self, length: usize) {
        let mut bits = length + 1;
        let mut digits = bits.ilog2() as usize;
        loop {
            // Four at once, whether there are as many or not.
            let four = [0, 1, 2, 3].map(|at| (bits >> at & 1) as u16);
            self.all[self.length..self.length + 4].copy_from_slice(&four);
            self.length += digits.min(4);
            if digits <= 4 {
                return;
            }
            digits -= 4;
            bits >>= 4;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As the format has it, step by step.
    fn plainly(data: &[u8]) -> Vec<u16> {
        let used = used(data);
        let mut list: Vec<u8> = (0..=255).filter(|byte| used[usize::from(*byte)]).collect();
        let places = data.iter().map(|byte| {
            let place = list.iter().position(|other| other == byte).unwrap();
            list[..=place].rotate_right(1);
            place as u16
        });
        let places: Vec<u16> = places.collect();
        let mut symbols = Vec::new();
        for part in places.chunk_by(|a, b| *a == 0 && *b == 0) {
            let mut run = part.len();
            match part[0] {
                0 => {
                    while run > 0 {
                        symbols.push(if run % 2 == 1 { 0 } else { 1 });
                        run = (run - 1) / 2;
                    }
                }
                place => symbols.push(place + 1),
            }
        }
        symbols.push(list.len() as u16 + 1);
        symbols
    }

    proptest! {
        #[test]
        fn any_bytes(
            data in proptest::collection::vec(proptest::prop_oneof![0..4_u8, 0..20_u8, any::<u8>()], 0..1000),
            times in 1..40_usize,
        ) {
            let data: Vec<u8> = data.chunks(7).flat_map(|part| part.repeat(times)).collect();
            let runs = data.iter().flat_map(|byte| [*byte].repeat(1 + times * usize::from(*byte & 1)));
            let runs = runs.take(20_000).collect();
            for data in [data, runs] {
                let mut symbols = Symbols::default();
                move_to_front(&data, &used(&data), &mut symbols);
                prop_assert_eq!(symbols.all(), plainly(&data));
            }
        }
    }

    #[track_caller]
    fn check(data: &str, expected: &[u16]) {
        let mut symbols = Symbols::default();
        move_to_front(data.as_bytes(), &used(data.as_bytes()), &mut symbols);
        assert_eq!(symbols.all(), expected);
    }

    #[test]
    fn symbols() {
        check("aaaa", &[1, 0, 2]);
        check("ba", &[2, 2, 3]);
        check("abc", &[0, 2, 3, 4]);
        check("nnbaaa", &[3, 0, 3, 3, 1, 4]);
    }
}
