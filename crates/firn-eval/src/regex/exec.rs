//! The depth-first search, with a stack of its own and a memory of what was tried.
//!
//! Whether anything that follows from (state, position) leads to a match does not depend on how it was reached,
//! but for the counters of loops that can come round without taking a byte. So each branching state remembers
//! its answer at each position. One that said no need never be asked again. One that said yes has shown all
//! places where its matches end, and since only a longer match replaces an earlier one, asking again would
//! change nothing either.

use super::program::{NOWHERE, Op, Program, StateId};
use super::{Captures, RegexError};
use std::collections::HashMap;

/// How many results are remembered at most, each two bits or an entry of a map.
const MAX_DENSE: usize = 1 << 31;
const MAX_SPARSE: usize = 1 << 22;

/// Whether `^` matches at the place where a search starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchoring {
    Start,
    Middle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// A match must reach the end of the text.
    Exact,
    /// A match may end anywhere.
    Prefix,
}

/// What has to be done when a branch has been explored.
enum Frame {
    /// Undo a group's start.
    GroupStart { group: u32, before: usize },
    /// Undo a group's end.
    GroupEnd { group: u32, before: Option<(usize, usize)> },
    /// Try the second alternative.
    Second { state: StateId, position: usize },
    /// Combine with the answer of the first alternative, and remember.
    Combine { state: StateId, position: usize, first: bool },
    /// Leave the loop, if its body led to nothing. `counter` is to be restored first.
    Leave { state: StateId, position: usize, counter: (usize, u8) },
    /// Give up bytes of a run, one by one, until what follows matches.
    Shorten { state: StateId, low: usize, position: usize },
    /// Remember the answer for a loop.
    Remember { state: StateId, position: usize },
}

type SparseKey = (u32, usize, Box<[u8]>);

/// Searches in one text with one program.
pub struct Search<'r, 't> {
    program: &'r Program,
    text: &'t [u8],
    /// Two bits for each branching state at each position: known, and the answer.
    dense: Vec<u64>,
    /// The same where counters of empty loops are not at rest.
    sparse: HashMap<SparseKey, bool>,
    sparse_has_yes: bool,
    /// Where `dense` says yes, which is to be forgotten for the next match.
    yes: Vec<usize>,
    counters: Vec<(usize, u8)>,
    starts: Vec<usize>,
    groups: Vec<Option<(usize, usize)>>,
    stack: Vec<Frame>,
}

pub fn full_match(program: &Program, text: &[u8]) -> Result<Option<Captures>, RegexError> {
    Search::new(program, text).run(0, Mode::Exact, true, false)
}

impl<'r, 't> Search<'r, 't> {
    pub fn new(program: &'r Program, text: &'t [u8]) -> Self {
        Self {
            program,
            text,
            dense: Vec::new(),
            sparse: HashMap::new(),
            sparse_has_yes: false,
            yes: Vec::new(),
            counters: vec![(0, 0); program.counters],
            starts: vec![0; program.groups],
            groups: vec![None; program.groups],
            stack: Vec::new(),
        }
    }

    pub fn text_len(&self) -> usize {
        self.text.len()
    }

    /// The first match at `start` or later.
    pub fn find(&mut self, start: usize, anchoring: Anchoring) -> Result<Option<Captures>, RegexError> {
        let mut at = start;
        while at <= self.text.len() {
            if let Some(first) = &self.program.first {
                let rest = &self.text[at..];
                let skip = match first.single() {
                    Some(byte) => memchr::memchr(byte, rest),
                    None => rest.iter().position(|byte| first.contains(*byte)),
                };
                match skip {
                    Some(skip) => at += skip,
                    None => return Ok(None),
                }
            }
            let line_start = anchoring == Anchoring::Start && at == start;
            if let Some(captures) = self.run(at, Mode::Prefix, line_start, false)? {
                return Ok(Some(captures));
            }
            at += 1;
        }
        Ok(None)
    }

    /// A match at `start` that is not empty.
    pub fn find_nonempty_at(&mut self, start: usize) -> Result<Option<Captures>, RegexError> {
        self.run(start, Mode::Prefix, start == 0, true)
    }

    fn run(
        &mut self,
        start: usize,
        mode: Mode,
        line_start: bool,
        not_empty: bool,
    ) -> Result<Option<Captures>, RegexError> {
        self.prepare()?;
        let mut best: Option<Captures> = None;
        let mut state = self.program.start;
        let mut position = start;
        loop {
            // Downwards, until a branch ends with a yes or no.
            let mut answer = 'down: loop {
                let here = self.program.states[state as usize];
                match here.op {
                    Op::Byte(_) | Op::Set(_) | Op::Any => match self.text.get(position) {
                        Some(byte) if self.program.takes(here.op, *byte) => position += 1,
                        _ => break 'down false,
                    },
                    Op::GroupStart(group) => {
                        let before = std::mem::replace(&mut self.starts[group as usize], position);
                        self.stack.push(Frame::GroupStart { group, before });
                    }
                    Op::GroupEnd(group) => {
                        let span = Some((self.starts[group as usize], position));
                        let before = std::mem::replace(&mut self.groups[group as usize], span);
                        self.stack.push(Frame::GroupEnd { group, before });
                    }
                    Op::LineStart if position == start && line_start => {}
                    Op::LineEnd if position == self.text.len() => {}
                    Op::LineStart | Op::LineEnd => break 'down false,
                    Op::Nothing => {}
                    Op::Accept => {
                        let accepted = match mode {
                            Mode::Exact => position == self.text.len(),
                            Mode::Prefix => !(not_empty && position == start),
                        };
                        let end =
                            |captures: &Captures| captures.first().copied().flatten().map(|(_, end)| end);
                        if accepted && best.as_ref().is_none_or(|best| end(best) < Some(position)) {
                            best = Some(self.groups.clone());
                        }
                        break 'down accepted;
                    }
                    Op::Alternative { first } => {
                        if let Some(known) = self.recall(state, position) {
                            break 'down known;
                        }
                        self.stack.push(Frame::Second { state, position });
                        state = first;
                        continue 'down;
                    }
                    Op::Repeat { body } => {
                        if let Some(known) = self.recall(state, position) {
                            break 'down known;
                        }
                        if let Some(op) = self.program.single_byte_body(state, body) {
                            let low = position;
                            while self.text.get(position).is_some_and(|byte| self.program.takes(op, *byte)) {
                                position += 1;
                                // A run that was here before went on from here already.
                                if let Some(known) = self.recall(state, position) {
                                    self.stack.push(Frame::Shorten { state, low, position });
                                    break 'down known;
                                }
                            }
                            self.stack.push(Frame::Shorten { state, low, position });
                        } else if let Some(counter) = self.count(state, position) {
                            self.stack.push(Frame::Leave { state, position, counter });
                            state = body;
                            continue 'down;
                        } else {
                            self.stack.push(Frame::Remember { state, position });
                        }
                    }
                }
                state = here.next;
            };
            // Upwards, until there is another branch to take.
            if answer && mode == Mode::Exact {
                break;
            }
            let again = 'up: loop {
                let Some(frame) = self.stack.pop() else { break 'up None };
                match frame {
                    Frame::GroupStart { group, before } => self.starts[group as usize] = before,
                    Frame::GroupEnd { group, before } => self.groups[group as usize] = before,
                    Frame::Second { state, position } => {
                        self.stack.push(Frame::Combine { state, position, first: answer });
                        break 'up Some((self.program.states[state as usize].next, position));
                    }
                    Frame::Combine { state, position, first } => {
                        answer |= first;
                        self.remember(state, position, answer)?;
                    }
                    Frame::Leave { state, position, counter } => {
                        self.restore(state, counter);
                        if answer {
                            self.remember(state, position, true)?;
                        } else {
                            self.stack.push(Frame::Remember { state, position });
                            break 'up Some((self.program.states[state as usize].next, position));
                        }
                    }
                    Frame::Remember { state, position } => self.remember(state, position, answer)?,
                    Frame::Shorten { state, low, position } => {
                        self.remember(state, position, answer)?;
                        if position > low {
                            let shorter = position - 1;
                            self.stack.push(Frame::Shorten { state, low, position: shorter });
                            // A yes holds for the whole run: nothing shorter is tried.
                            if !answer {
                                break 'up Some((self.program.states[state as usize].next, shorter));
                            }
                        }
                    }
                }
            };
            match again {
                Some((next, at)) => (state, position) = (next, at),
                None => break,
            }
        }
        Ok(best)
    }

    /// Makes ready for another match: groups, counters, and no remembered yes.
    fn prepare(&mut self) -> Result<(), RegexError> {
        if self.dense.is_empty() && self.program.branches > 0 {
            let bits = self.program.branches.checked_mul(2 * (self.text.len() + 1));
            let bits = bits.filter(|bits| *bits <= MAX_DENSE).ok_or(RegexError::MemoryLimit)?;
            self.dense = vec![0; bits.div_ceil(64)];
        }
        for index in self.yes.drain(..) {
            self.dense[index / 32] &= !(3 << (index % 32 * 2));
        }
        if std::mem::take(&mut self.sparse_has_yes) {
            self.sparse.retain(|_, answer| !*answer);
        }
        self.counters.fill((0, 0));
        self.groups.fill(None);
        self.stack.clear();
        Ok(())
    }

    fn dense_index(&self, state: StateId, position: usize) -> usize {
        self.program.branch_index[state as usize] as usize * (self.text.len() + 1) + position
    }

    /// The counters that are not at rest at `position`, if any is.
    fn counters_at(&self, position: usize) -> Option<Box<[u8]>> {
        let count = |(at, count): &(usize, u8)| if *at == position { *count } else { 0 };
        if self.counters.iter().all(|counter| count(counter) == 0) {
            return None;
        }
        Some(self.counters.iter().map(count).collect())
    }

    fn recall(&self, state: StateId, position: usize) -> Option<bool> {
        if let Some(counters) = self.counters_at(position) {
            return self.sparse.get(&(state, position, counters)).copied();
        }
        let index = self.dense_index(state, position);
        match self.dense[index / 32] >> (index % 32 * 2) & 3 {
            0 => None,
            bits => Some(bits == 3),
        }
    }

    fn remember(&mut self, state: StateId, position: usize, answer: bool) -> Result<(), RegexError> {
        if let Some(counters) = self.counters_at(position) {
            if self.sparse.len() >= MAX_SPARSE {
                return Err(RegexError::MemoryLimit);
            }
            self.sparse_has_yes |= answer;
            self.sparse.insert((state, position, counters), answer);
            return Ok(());
        }
        let index = self.dense_index(state, position);
        let bits = if answer { 3 } else { 1 };
        let word = &mut self.dense[index / 32];
        let before = *word;
        *word |= bits << (index % 32 * 2);
        if answer && *word != before {
            self.yes.push(index);
        }
        Ok(())
    }

    /// Counts another round of a loop that may take no byte: at most two at the same place. Gives the counter as
    /// it was, or `None` where the loop must not be entered again.
    fn count(&mut self, state: StateId, position: usize) -> Option<(usize, u8)> {
        let index = self.program.counter_index[state as usize];
        if index == NOWHERE {
            return Some((0, 0));
        }
        let counter = &mut self.counters[index as usize];
        let before = *counter;
        match before {
            (at, rounds) if rounds > 0 && at == position => {
                if rounds >= 2 {
                    return None;
                }
                counter.1 += 1;
            }
            _ => *counter = (position, 1),
        }
        Some(before)
    }

    fn restore(&mut self, state: StateId, counter: (usize, u8)) {
        let index = self.program.counter_index[state as usize];
        if index != NOWHERE {
            self.counters[index as usize] = counter;
        }
    }
}
