//! Huffman codes: a few tables of them, of which each fifty symbols use the one that suits them.

use super::bits::Bits;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// How many symbols choose a table together.
const GROUP: usize = 50;
/// The longest code; decoders take up to 20. Four of them are put at once.
const LONGEST: u8 = 14;
/// The most tables.
const TABLES: usize = 6;
/// So many groups are enough to fit tables to.
const SAMPLE: usize = 1000;
/// How often tables are fitted to the groups that chose them.
const ROUNDS: usize = 3;

/// The lengths of all codes of a table.
type Lengths = Vec<u8>;

/// A code, which has that many bits.
#[derive(Clone, Copy, Default)]
struct Code {
    bits: u16,
    length: u8,
}

/// Writes tables, which groups use which, and the symbols themselves, of which the last is the largest.
pub(super) fn put_symbols(symbols: &[u16], bits: &mut Bits) {
    let (tables, chosen) = fit(symbols);
    bits.put(3, tables.len() as u64);
    bits.put(15, chosen.len() as u64);
    let mut order: Vec<u8> = (0..tables.len() as u8).collect();
    for table in &chosen {
        let place = order.iter().position(|other| other == table).unwrap_or_default();
        bits.put(place as u32 + 1, (1 << (place + 1)) - 2);
        order[..=place].rotate_right(1);
    }
    for lengths in &tables {
        put_lengths(lengths, bits);
    }
    let codes: Vec<Vec<Code>> = tables.iter().map(|lengths| codes(lengths)).collect();
    for (group, table) in symbols.chunks(GROUP).zip(&chosen) {
        let codes = codes[usize::from(*table)].as_slice();
        let (fours, last) = group.as_chunks::<4>();
        for four in fours {
            put_codes(four, codes, bits);
        }
        put_codes(last, codes, bits);
    }
}

/// Writes four symbols at most.
fn put_codes(symbols: &[u16], codes: &[Code], bits: &mut Bits) {
    let (mut all, mut length) = (0, 0);
    for symbol in symbols {
        let code = codes[usize::from(*symbol)];
        all = all << code.length | u64::from(code.bits);
        length += u32::from(code.length);
    }
    bits.put(length, all);
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
fn fit(symbols: &[u16]) -> (Vec<Lengths>, Vec<u8>) {
    let count = match symbols.len() {
        0..200 => 2,
        200..600 => 3,
        600..1200 => 4,
        1200..2400 => 5,
        _ => TABLES,
    };
    let kinds = symbols.last().map_or(0, |end| usize::from(*end) + 1);
    let groups = symbols.chunks(GROUP);
    // Some of the groups tell where tables have to go.
    let sample = || groups.clone().step_by((groups.len() / SAMPLE).max(1));
    let mut frequencies = vec![0; kinds];
    for symbol in sample().flatten() {
        frequencies[usize::from(*symbol)] += 1;
    }
    let mut tables = first_guess(&frequencies, count);
    for _ in 0..ROUNDS {
        let costs = costs(&tables, kinds);
        let mut uses = vec![vec![0_u32; kinds]; count];
        for group in sample() {
            let uses = &mut uses[cheapest(group, &costs, count)];
            for symbol in group {
                uses[usize::from(*symbol)] += 1;
            }
        }
        for (table, uses) in tables.iter_mut().zip(&uses) {
            *table = lengths(uses);
        }
    }
    let costs = costs(&tables, kinds);
    let chosen = groups.map(|group| cheapest(group, &costs, count) as u8).collect();
    (tables, chosen)
}

/// What a symbol costs in each table, side by side.
fn costs(tables: &[Lengths], kinds: usize) -> Vec<[u16; 8]> {
    let mut costs = vec![[0; 8]; kinds];
    for (place, costs) in costs.iter_mut().enumerate() {
        for (cost, table) in costs.iter_mut().zip(tables) {
            *cost = table[place].into();
        }
    }
    costs
}

/// The table that a group of symbols costs least in.
fn cheapest(group: &[u16], costs: &[[u16; 8]], count: usize) -> usize {
    let mut total = [0_u16; 8];
    for symbol in group {
        let costs = &costs[usize::from(*symbol)];
        for table in 0..8 {
            total[table] += costs[table];
        }
    }
    (0..count).min_by_key(|table| total[*table]).unwrap_or_default()
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

/// The codes of a table: numbered by length, then by symbol.
fn codes(lengths: &[u8]) -> Vec<Code> {
    let mut codes = vec![Code::default(); lengths.len()];
    let mut next = 0;
    for length in 1..=LONGEST {
        for (code, _) in codes.iter_mut().zip(lengths).filter(|(_, other)| **other == length) {
            *code = Code { bits: next, length };
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
