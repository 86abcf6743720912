//! From the text of an expression to its program, in one pass and without recursion.
//!
//! The states of whatever a quantifier can follow lie next to each other in the array, so that `{m,n}` copies
//! them as a block.

use super::program::{ByteSet, NOWHERE, Op, Program, State, StateId};
use super::{RegexError, bracket};

/// More states than this are `memory limit exceeded`, as in the reference.
const MAX_STATES: usize = 100_000;

/// The characters that a backslash may stand before.
const SPECIAL: &[u8] = b".[\\()*+?{|^$";

const PAREN: RegexError = RegexError::Invalid("parentheses do not match, or there is nothing to repeat");
const BRACE: RegexError = RegexError::Invalid("unfinished interval");
const BAD_BRACE: RegexError = RegexError::Invalid("invalid interval");

/// A piece of the program: where it starts, and the state whose `next` still leads nowhere.
#[derive(Debug, Clone, Copy)]
struct Fragment {
    start: StateId,
    end: StateId,
}

/// An open parenthesis, or the whole expression.
struct Level {
    /// The state that opens the group.
    open: StateId,
    group: u32,
    /// The first state of the group, for a quantifier that follows it.
    block: usize,
    /// The alternatives that are complete, joined.
    alternatives: Option<Fragment>,
    /// The alternative that is being read.
    sequence: Option<Fragment>,
}

struct Compiler<'p> {
    pattern: &'p [u8],
    at: usize,
    states: Vec<State>,
    sets: Vec<ByteSet>,
    groups: u32,
}

/// Compiles `pattern`.
pub fn compile(pattern: &[u8]) -> Result<Program, RegexError> {
    let mut compiler = Compiler { pattern, at: 0, states: Vec::new(), sets: Vec::new(), groups: 0 };
    let start = compiler.run()?;
    Ok(Program::new(compiler.states, start, compiler.sets, compiler.groups as usize))
}

impl Compiler<'_> {
    fn add(&mut self, op: Op) -> Result<StateId, RegexError> {
        if self.states.len() > MAX_STATES {
            return Err(RegexError::MemoryLimit);
        }
        self.states.push(State { op, next: NOWHERE });
        Ok((self.states.len() - 1) as StateId)
    }

    fn single(&mut self, op: Op) -> Result<Fragment, RegexError> {
        let id = self.add(op)?;
        Ok(Fragment { start: id, end: id })
    }

    fn link(&mut self, from: StateId, to: StateId) {
        self.states[from as usize].next = to;
    }

    fn join(&mut self, first: Fragment, second: Fragment) -> Fragment {
        self.link(first.end, second.start);
        Fragment { start: first.start, end: second.end }
    }

    fn open(&mut self) -> Result<Level, RegexError> {
        let block = self.states.len();
        let group = self.groups;
        self.groups += 1;
        let open = self.add(Op::GroupStart(group))?;
        Ok(Level { open, group, block, alternatives: None, sequence: None })
    }

    fn run(&mut self) -> Result<StateId, RegexError> {
        let mut level = self.open()?;
        let start = level.open;
        let mut outer: Vec<Level> = Vec::new();
        while let Some(&byte) = self.pattern.get(self.at) {
            let block = self.states.len();
            self.at += 1;
            let atom = match byte {
                b'(' => {
                    outer.push(std::mem::replace(&mut level, self.open()?));
                    continue;
                }
                b')' => {
                    let inner = std::mem::replace(&mut level, outer.pop().ok_or(PAREN)?);
                    let block = inner.block;
                    let group = self.close(inner)?;
                    let group = self.quantifiers(group, block)?;
                    self.append(&mut level, group);
                    continue;
                }
                b'|' => {
                    self.end_alternative(&mut level)?;
                    continue;
                }
                b'^' => {
                    let assertion = self.single(Op::LineStart)?;
                    self.append(&mut level, assertion);
                    continue;
                }
                b'$' => {
                    let assertion = self.single(Op::LineEnd)?;
                    self.append(&mut level, assertion);
                    continue;
                }
                b'*' | b'+' | b'?' | b'{' => return Err(PAREN),
                b'.' => self.single(Op::Any)?,
                b'[' => {
                    let inverted = self.pattern.get(self.at) == Some(&b'^');
                    self.at += usize::from(inverted);
                    let set = bracket::parse(self.pattern, &mut self.at, inverted)?;
                    self.sets.push(set);
                    self.single(Op::Set((self.sets.len() - 1) as u32))?
                }
                b'\\' => {
                    let escaped = self.pattern.get(self.at).filter(|byte| SPECIAL.contains(byte));
                    let escaped = *escaped.ok_or(RegexError::Invalid("invalid escape"))?;
                    self.at += 1;
                    self.single(Op::Byte(escaped))?
                }
                0 => return Err(RegexError::Invalid("unexpected null character")),
                _ => self.single(Op::Byte(byte))?,
            };
            let atom = self.quantifiers(atom, block)?;
            self.append(&mut level, atom);
        }
        if !outer.is_empty() {
            return Err(PAREN);
        }
        let whole = self.close(level)?;
        let accept = self.add(Op::Accept)?;
        self.link(whole.end, accept);
        Ok(start)
    }

    fn append(&mut self, level: &mut Level, fragment: Fragment) {
        level.sequence = Some(match level.sequence {
            Some(before) => self.join(before, fragment),
            None => fragment,
        });
    }

    /// Ends the alternative that is being read and joins it to those before.
    fn end_alternative(&mut self, level: &mut Level) -> Result<(), RegexError> {
        let last = match level.sequence.take() {
            Some(sequence) => sequence,
            None => self.single(Op::Nothing)?,
        };
        level.alternatives = Some(match level.alternatives {
            None => last,
            Some(before) => {
                let end = self.add(Op::Nothing)?;
                self.link(before.end, end);
                self.link(last.end, end);
                let start = self.add(Op::Alternative { first: before.start })?;
                self.link(start, last.start);
                Fragment { start, end }
            }
        });
        Ok(())
    }

    fn close(&mut self, mut level: Level) -> Result<Fragment, RegexError> {
        self.end_alternative(&mut level)?;
        let end = self.add(Op::GroupEnd(level.group))?;
        if let Some(inner) = level.alternatives {
            self.link(level.open, inner.start);
            self.link(inner.end, end);
        }
        Ok(Fragment { start: level.open, end })
    }

    /// Applies all quantifiers that follow to `atom`, whose states start at `block`.
    fn quantifiers(&mut self, mut atom: Fragment, block: usize) -> Result<Fragment, RegexError> {
        while let Some(&byte) = self.pattern.get(self.at) {
            atom = match byte {
                b'*' | b'+' => {
                    let repeat = self.add(Op::Repeat { body: atom.start })?;
                    self.link(atom.end, repeat);
                    Fragment { start: if byte == b'*' { repeat } else { atom.start }, end: repeat }
                }
                b'?' => self.optional(atom)?,
                b'{' => {
                    self.at += 1;
                    let (least, most) = self.interval()?;
                    self.repeat(atom, block, least, most)?
                }
                _ => break,
            };
            if byte != b'{' {
                self.at += 1;
            }
        }
        Ok(atom)
    }

    fn optional(&mut self, atom: Fragment) -> Result<Fragment, RegexError> {
        let end = self.add(Op::Nothing)?;
        let start = self.add(Op::Repeat { body: atom.start })?;
        self.link(start, end);
        self.link(atom.end, end);
        Ok(Fragment { start, end })
    }

    /// What stands between the braces; `None` for no upper limit.
    fn interval(&mut self) -> Result<(usize, Option<usize>), RegexError> {
        let least = self.number()?.ok_or(BAD_BRACE)?;
        let most = if self.peek()? == b',' {
            self.at += 1;
            self.number()?
        } else {
            Some(least)
        };
        if self.peek()? != b'}' {
            return Err(BRACE);
        }
        self.at += 1;
        match most {
            Some(most) if most < least => Err(BAD_BRACE),
            most => Ok((least, most)),
        }
    }

    fn peek(&self) -> Result<u8, RegexError> {
        self.pattern.get(self.at).copied().ok_or(BRACE)
    }

    fn number(&mut self) -> Result<Option<usize>, RegexError> {
        let start = self.at;
        let mut number = 0usize;
        while let digit @ b'0'..=b'9' = self.peek()? {
            number = number.saturating_mul(10).saturating_add(usize::from(digit - b'0'));
            self.at += 1;
        }
        if number > i32::MAX as usize {
            return Err(BAD_BRACE);
        }
        Ok((self.at > start).then_some(number))
    }

    /// Replaces `atom` by `least` copies of it and a loop, or up to `most`.
    fn repeat(
        &mut self,
        atom: Fragment,
        block: usize,
        least: usize,
        most: Option<usize>,
    ) -> Result<Fragment, RegexError> {
        let template: Vec<State> = self.states.split_off(block);
        let mut whole = self.single(Op::Nothing)?;
        for _ in 0..least {
            let copy = self.copy(&template, atom, block)?;
            whole = self.join(whole, copy);
        }
        match most {
            None => {
                let copy = self.copy(&template, atom, block)?;
                let repeat = self.add(Op::Repeat { body: copy.start })?;
                self.link(copy.end, repeat);
                whole = self.join(whole, Fragment { start: repeat, end: repeat });
            }
            Some(most) => {
                let end = self.add(Op::Nothing)?;
                for _ in least..most {
                    let copy = self.copy(&template, atom, block)?;
                    let repeat = self.add(Op::Repeat { body: copy.start })?;
                    self.link(repeat, end);
                    self.link(whole.end, repeat);
                    whole.end = copy.end;
                }
                self.link(whole.end, end);
                whole.end = end;
            }
        }
        Ok(whole)
    }

    /// Adds a copy of `template`, which was at `block`.
    fn copy(&mut self, template: &[State], atom: Fragment, block: usize) -> Result<Fragment, RegexError> {
        let base = self.states.len();
        if base + template.len() > MAX_STATES {
            return Err(RegexError::MemoryLimit);
        }
        let moved = |id: StateId| if id == NOWHERE { id } else { id - block as StateId + base as StateId };
        for state in template {
            let op = match state.op {
                Op::Alternative { first } => Op::Alternative { first: moved(first) },
                Op::Repeat { body } => Op::Repeat { body: moved(body) },
                op => op,
            };
            self.states.push(State { op, next: moved(state.next) });
        }
        let copy = Fragment { start: moved(atom.start), end: moved(atom.end) };
        self.link(copy.end, NOWHERE);
        Ok(copy)
    }
}
