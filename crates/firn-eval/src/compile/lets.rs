//! `let`, and which of its variables refer to which.
//!
//! The variable that the body looks at first is evaluated when the `let` is entered ([`super::needs`]), while its slot is
//! empty. So it must not be possible to get from its value to the variable itself.

use super::{Compiler, Sources, needs};
use crate::error::EvalResult;
use crate::expr::*;
use crate::watch::WatchedKind;
use firn_syntax::ast::{self, NodeId};
use std::cell::Cell;

/// The variables of one `let` that the value being compiled refers to.
pub(super) struct Uses {
    frame: u32,
    first: u32,
    count: u32,
    /// A bit for each variable; the last one stands for all those beyond, and for those that are not known.
    used: Cell<u64>,
}

const MANY: u32 = 63;

impl Uses {
    fn new(frame: u32, first: u32, count: u32) -> Uses {
        Uses { frame, first, count, used: Cell::new(0) }
    }

    /// Notes that a variable is referred to, which need not be one of this `let`.
    #[inline]
    pub(super) fn note(&self, frame: u32, slot: u32) {
        let number = slot.wrapping_sub(self.first);
        if frame == self.frame && number < self.count {
            self.used.set(self.used.get() | 1 << number.min(MANY));
        }
    }

    pub(super) fn note_all(&self) {
        self.used.set(u64::MAX);
    }
}

/// Whether one can get from the value of a variable to the variable, by what each one's value refers to.
fn refers_to_itself(variable: u32, uses: &[u64]) -> bool {
    let mut reached = 0;
    let mut next = uses.get(variable as usize).copied().unwrap_or(u64::MAX);
    while next & !reached != 0 {
        if (reached | next) & (1 << variable.min(MANY) | 1 << MANY) != 0 {
            return true;
        }
        reached |= next;
        next = uses
            .iter()
            .enumerate()
            .take(MANY as usize)
            .filter(|(i, _)| reached & (1 << i) != 0)
            .fold(0, |all, (_, u)| all | u);
    }
    false
}

impl Compiler<'_> {
    /// What the value compiled last refers to, of the innermost `let`.
    fn uses(&self) -> u64 {
        self.lets.last().map_or(u64::MAX, |uses| uses.used.take())
    }

    pub(super) fn let_in(&mut self, set: ast::AttrSet<'_>, body: NodeId, tail: bool) -> EvalResult<Expr> {
        // `inherit x` means the variable outside, so those are resolved before the new names exist.
        if !tail {
            self.open_frame();
        }
        let count = (set.attrs.len() + set.inherit_from.len()) as u32;
        let first = self.reserve(count);
        let inherited = self.inherited(set)?;
        self.group += 1;
        for (i, attr) in set.attrs.iter().enumerate() {
            self.bind(attr.name, first + i as u32);
        }
        let from = first + set.attrs.len() as u32;
        let variables = self.variables(set.inherit_from);
        self.sources.push(Sources { frame: self.level(), first: from, variables });
        self.lets.push(Uses::new(self.level(), first, count));
        let result = (|| {
            let mut values = Vec::with_capacity(count as usize);
            let mut uses = Vec::with_capacity(count as usize);
            let mut sources = Vec::with_capacity(set.inherit_from.len());
            for from in set.inherit_from {
                // The sources of this `let` are not in scope of their own sources.
                sources.push((self.outside_from(*from)?, self.uses()));
            }
            for (attr, outer) in set.attrs.iter().zip(inherited) {
                values.push(match outer {
                    Some(expr) => expr,
                    None => self.expr(attr.value, false)?,
                });
                uses.push(self.uses());
            }
            for (source, used) in sources {
                values.push(source);
                uses.push(used);
            }
            let own = self.sources.pop();
            let at = self.pos_of(body);
            let body = self.expr(body, true);
            self.sources.extend(own);
            let body = match self.context.debugger {
                true => self.watched(body?, WatchedKind::Let, at),
                false => body?,
            };
            Ok((values, uses, body))
        })();
        self.lets.pop();
        self.sources.pop();
        for attr in set.attrs {
            self.unbind(attr.name);
        }
        let frame = (!tail).then(|| self.close_frame());
        let (values, uses, body) = result?;
        let needs = match needs::first_of_let(&body, first, &values) {
            needs if needs != NO_SLOT && refers_to_itself(needs, &uses) => NO_SLOT,
            needs => needs,
        };
        Ok(Expr::Let(self.alloc(LetExpr { frame, first, values: self.slice(values), needs, body })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_back() {
        assert!(!refers_to_itself(0, &[0b110, 0b100, 0]));
        assert!(refers_to_itself(0, &[0b001]));
        assert!(refers_to_itself(0, &[0b010, 0b100, 0b001]));
        assert!(!refers_to_itself(0, &[0b010, 0b010]));
        // What is not known may lead anywhere.
        assert!(refers_to_itself(0, &[1 << MANY]));
        assert!(refers_to_itself(0, &[0b010, u64::MAX]));
        assert!(refers_to_itself(70, &[0; 70]));
    }
}
