//! Huffman codes: a few tables of them, of which each fifty symbols use the one that suits them.

use super::bits::Bits;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// How many symbols choose a table together.
const GROUP: usize = 50;
/// The longest code; decoders take up to 20. Two of them are put at once.
const LONGEST: u8 = 16;
/// The most tables.
const TABLES: usize = 6;
/// So many groups are enough to fit tables to, before that is done with all of them; more gains less than a hundredth.
const SAMPLE: usize = 1000;

/// The lengths of all codes of a table.
type Lengths = Vec<u8>;

/// Writes tables, which groups use which, and the symbols themselves.
pub(super) fn put_symbols(symbols: &[u16], frequencies: &[u32], bits: &mut Bits) {
    let (tables, chosen) = fit(symbols, frequencies);
    bits.put(3, tables.len() as u32);
    bits.put(15, chosen.len() as u32);
    let mut order: Vec<u8> = (0..tables.len() as u8).collect();
    for table in &chosen {
        let place = order.iter().position(|other| other == table).unwrap_or_default();
        bits.put(place as u32 + 1, (1 << (place + 1)) - 2);
        order[..=place].rotate_right(1);
    }
    for lengths in &tables {
        put_lengths(lengths, bits);
    }
    let codes: Vec<Vec<(u32, u32)>> = tables.iter().map(|lengths| codes(lengths)).collect();
    for (group, table) in symbols.chunks(GROUP).zip(&chosen) {
        let codes = &codes[usize::from(*table)];
        let (pairs, last) = group.as_chunks();
        for [first, second] in pairs {
            let ((a, length), (b, more)) = (codes[usize::from(*first)], codes[usize::from(*second)]);
            bits.put(length + more, a << more | b);
        }
        for symbol in last {
            let (code, length) = codes[usize::from(*symbol)];
            bits.put(length, code);
        }
    }
}

/// Each length as the difference from the one before.
fn put_lengths(lengths: &[u8], bits: &mut Bits) {
    let mut current = lengths.first().copied().unwrap_or_default();
    bits.put(5, current.into());
    for length in lengths {
        while current < *length {
            bits.put(2, 0b10);
            current += 1;
        }
        while current > *length {
            bits.put(2, 0b11);
            current -= 1;
        }
        bits.put(1, 0);
    }
}

/// Tables for the symbols, and which of them each group uses.
fn fit(symbols: &[u16], frequencies: &[u32]) -> (Vec<Lengths>, Vec<u8>) {
    let count = match symbols.len() {
        0..200 => 2,
        200..600 => 3,
        600..1200 => 4,
        1200..2400 => 5,
        _ => TABLES,
    };
    let mut tables = first_guess(frequencies, count);
    let groups = symbols.len().div_ceil(GROUP);
    let mut chosen = vec![0; groups];
    // What a symbol costs in each table, side by side.
    let mut costs = vec![[0_u16; 8]; frequencies.len()];
    // Some of the groups tell where tables have to go.
    let some = (groups / SAMPLE).max(1);
    for step in [some, some, 1] {
        for (place, costs) in costs.iter_mut().enumerate() {
            for (cost, table) in costs.iter_mut().zip(&tables) {
                *cost = table[place].into();
            }
        }
        let mut uses = vec![vec![0_u32; frequencies.len()]; count];
        for (group, choice) in symbols.chunks(GROUP).zip(&mut chosen).step_by(step) {
            let mut total = [0_u16; 8];
            for symbol in group {
                let costs = &costs[usize::from(*symbol)];
                for table in 0..8 {
                    total[table] += costs[table];
                }
            }
            let best = (0..count).min_by_key(|table| total[*table]).unwrap_or_default();
            *choice = best as u8;
            for symbol in group {
                uses[best][usize::from(*symbol)] += 1;
            }
        }
        for (table, uses) in tables.iter_mut().zip(&uses) {
            *table = lengths(uses);
        }
    }
    (tables, chosen)
}

/// Each table is good at a range of symbols that makes up its share of all.
fn first_guess(frequencies: &[u32], count: usize) -> Vec<Lengths> {
    let mut rest: u32 = frequencies.iter().sum();
    let mut from = 0;
    (0..count)
        .map(|table| {
            let share = rest / (count - table) as u32;
            let mut sum = 0;
            let mut to = from;
            while to < frequencies.len() && sum < share {
                sum += frequencies[to];
                to += 1;
            }
            let range = from..to;
            (from, rest) = (to, rest - sum);
            (0..frequencies.len()).map(|symbol| if range.contains(&symbol) { 0 } else { 15 }).collect()
        })
        .collect()
}

/// The lengths of Huffman codes for symbols that are used so often. All symbols get one. Where codes would be too long,
/// frequencies are brought nearer to each other.
fn lengths(uses: &[u32]) -> Lengths {
    let mut weights: Vec<u32> = uses.iter().map(|count| (*count).max(1)).collect();
    loop {
        let lengths = huffman(&weights);
        if lengths.iter().all(|length| *length <= LONGEST) {
            return lengths;
        }
        for weight in &mut weights {
            *weight = *weight / 2 + 1;
        }
    }
}

fn huffman(weights: &[u32]) -> Lengths {
    let mut heap: BinaryHeap<Reverse<(u32, usize)>> =
        weights.iter().enumerate().map(|(node, weight)| Reverse((*weight, node))).collect();
    // Nodes come after those that they are made of, so that depths are known from the last one down.
    let mut parents = vec![0; weights.len()];
    while let (Some(Reverse((lighter, a))), Some(Reverse((heavier, b)))) = (heap.pop(), heap.pop()) {
        let node = parents.len();
        parents.push(node);
        (parents[a], parents[b]) = (node, node);
        heap.push(Reverse((lighter + heavier, node)));
        if heap.len() == 1 {
            break;
        }
    }
    let mut depths = vec![0_u8; parents.len()];
    for node in (0..parents.len().saturating_sub(1)).rev() {
        depths[node] = depths[parents[node]].saturating_add(1);
    }
    depths.truncate(weights.len());
    depths
}

/// The codes of a table, each with its length: numbered by length, then by symbol.
fn codes(lengths: &[u8]) -> Vec<(u32, u32)> {
    let mut codes = vec![(0, 0); lengths.len()];
    let mut next = 0;
    for length in 1..=LONGEST {
        for (code, _) in codes.iter_mut().zip(lengths).filter(|(_, other)| **other == length) {
            *code = (next, length.into());
            next += 1;
        }
        next <<= 1;
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_complete() {
        let fibonacci =
            std::iter::successors(Some((1_u32, 1_u32)), |(a, b)| Some((*b, a + b))).map(|(a, _)| a);
        for uses in [vec![1; 3], vec![0; 258], fibonacci.take(40).collect(), vec![1 << 20, 0, 0, 5]] {
            let lengths = lengths(&uses);
            assert!(lengths.iter().all(|length| (1..=LONGEST).contains(length)), "{lengths:?}");
            let sum: u32 = lengths.iter().map(|length| 1 << (LONGEST - length)).sum();
            assert_eq!(sum, 1 << LONGEST);
        }
    }
}
