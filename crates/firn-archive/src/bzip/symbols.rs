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
    let set = |flags: &mut dyn Iterator<Item = bool>| flags.fold(0, |word, flag| word << 1 | u32::from(flag));
    bits.put(16, set(&mut used.chunks(16).map(|group| group.contains(&true))));
    for group in used.chunks(16).filter(|group| group.contains(&true)) {
        bits.put(16, set(&mut group.iter().copied()));
    }
}

/// Makes symbols of transformed bytes; how often each is used. The last one is the end.
pub(super) fn move_to_front(data: &[u8], used: &Used, symbols: &mut Vec<u16>) -> Vec<u32> {
    let mut list: Vec<u8> = (0..=255).filter(|byte| used[usize::from(*byte)]).collect();
    let end = list.len() + 1;
    symbols.clear();
    let mut run = 0;
    for byte in data {
        if list.first() == Some(byte) {
            run += 1;
            continue;
        }
        push_run(std::mem::take(&mut run), symbols);
        // The bytes in front of it move on by one while it is looked for.
        let mut place = 0;
        let mut carried = *byte;
        for slot in &mut list {
            std::mem::swap(slot, &mut carried);
            if carried == *byte {
                break;
            }
            place += 1;
        }
        symbols.push(place + 1);
    }
    push_run(run, symbols);
    symbols.push(end as u16);
    let mut frequencies = vec![0; end + 1];
    for symbol in symbols.iter() {
        frequencies[usize::from(*symbol)] += 1;
    }
    frequencies
}

/// The length of a run, in digits one and two of base two, lowest first: they are the symbols 0 and 1.
fn push_run(mut length: u32, symbols: &mut Vec<u16>) {
    while length > 0 {
        length -= 1;
        symbols.push((length & 1) as u16);
        length >>= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(data: &str, expected: &[u16]) {
        let mut symbols = Vec::new();
        let frequencies = move_to_front(data.as_bytes(), &used(data.as_bytes()), &mut symbols);
        assert_eq!(symbols, expected);
        assert_eq!(frequencies.iter().sum::<u32>() as usize, symbols.len());
    }

    #[test]
    fn symbols() {
        check("aaaa", &[1, 0, 2]);
        check("ba", &[2, 2, 3]);
        check("abc", &[0, 2, 3, 4]);
        check("nnbaaa", &[3, 0, 3, 3, 1, 4]);
    }
}
