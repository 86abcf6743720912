//! Equality and order of values.

use crate::error::{ErrorKind, EvalError, EvalResult, ResultExt};
use crate::shape::Special;
use crate::source::Pos;
use crate::value::{Attrs, Kind, Value};
use crate::vm::Vm;
use std::cmp::Ordering;

impl Vm {
    /// Equality of elements of lists and sets: the same element is equal to itself, even when it is a function.
    pub(crate) fn equal(&mut self, a: Value, b: Value, pos: Pos) -> EvalResult<bool> {
        self.check_depth(pos)?;
        if a == b {
            // The reference forces before it looks whether both are one.
            self.force_element(a, pos)?;
            return Ok(true);
        }
        let a = self.force_element(a, pos)?;
        let b = self.force_element(b, pos)?;
        self.equal_forced(a, b, pos)
    }

    /// Evaluates an element to compare, which is a level of its own for the depth limit.
    #[inline]
    fn force_element(&mut self, value: Value, pos: Pos) -> EvalResult<Value> {
        match value.known() {
            Some(value) => Ok(value),
            None => self.nested(pos, |vm| vm.force_at(value, pos)),
        }
    }

    /// Equality of two values that are not elements.
    #[inline]
    pub(crate) fn equal_forced(&mut self, a: Value, b: Value, pos: Pos) -> EvalResult<bool> {
        if let (Some(a), Some(b)) = (a.as_attrs(), b.as_attrs()) {
            // Otherwise it is compared once more, to fail as it has to.
            if self.calls.len() <= self.settings.max_call_depth
                && let Some(equal) = self.compared.derivations(a, b)
            {
                return Ok(equal);
            }
        }
        self.equal_kinds(a, b, pos)
    }

    #[inline(never)]
    fn equal_kinds(&mut self, a: Value, b: Value, pos: Pos) -> EvalResult<bool> {
        match (a.kind(), b.kind()) {
            (Kind::Int(a), Kind::Int(b)) => Ok(a == b),
            (Kind::Int(a), Kind::Float(b)) => Ok(a as f64 == b),
            (Kind::Float(a), Kind::Int(b)) => Ok(a == b as f64),
            (Kind::Float(a), Kind::Float(b)) => Ok(a == b),
            (Kind::Bool(a), Kind::Bool(b)) => Ok(a == b),
            (Kind::Null, Kind::Null) => Ok(true),
            (Kind::Str(a), Kind::Str(b)) => Ok(a.as_bytes() == b.as_bytes()),
            (Kind::Path(a), Kind::Path(b)) => Ok(a.as_bytes() == b.as_bytes()),
            (Kind::List(a), Kind::List(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                self.nested(pos, |vm| {
                    for (a, b) in a.iter().zip(b.iter()) {
                        if !vm.equal(a, b, pos)? {
                            return Ok(false);
                        }
                    }
                    Ok(true)
                })
            }
            (Kind::Attrs(x), Kind::Attrs(y)) => self.nested(pos, |vm| vm.equal_attrs(x, y, pos)),
            _ => Ok(false),
        }
    }

    fn equal_attrs(&mut self, a: Attrs, b: Attrs, pos: Pos) -> EvalResult<bool> {
        if self.is_derivation(a)? && self.is_derivation(b)? {
            let found = (a.find_special(Special::OutPath), b.find_special(Special::OutPath));
            if let (Some(left), Some(right)) = found {
                let equal = self.equal(left, right, pos)?;
                for (derivation, path) in [(a, left), (b, right)] {
                    if let Some(path) = path.known() {
                        self.compared.note_derivation(derivation, path);
                    }
                }
                return Ok(equal);
            }
        }
        if a.len() != b.len() {
            return Ok(false);
        }
        let depth = self.calls.len();
        if let Some(equal) = self.compared.pair(a, b, depth) {
            return Ok(equal);
        }
        let equal = self.equal_members(a, b, pos)?;
        self.compared.note_pair(a, b, depth, equal);
        Ok(equal)
    }

    fn equal_members(&mut self, a: Attrs, b: Attrs, pos: Pos) -> EvalResult<bool> {
        let (left, right) = (a.shape(), b.shape());
        for i in 0..left.len() {
            if left.syms()[i] != right.syms()[i] || !self.equal(a.get(i), b.get(i), pos)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// `a < b`, as `builtins.lessThan` and sorting have it.
    pub(crate) fn less_than(&mut self, a: Value, b: Value, pos: Pos, what: &'static str) -> EvalResult<bool> {
        let a = self.force_at(a, pos)?;
        let b = self.force_at(b, pos)?;
        match (a.kind(), b.kind()) {
            (Kind::Int(a), Kind::Int(b)) => Ok(a < b),
            (Kind::Int(a), Kind::Float(b)) => Ok((a as f64) < b),
            (Kind::Float(a), Kind::Int(b)) => Ok(a < b as f64),
            (Kind::Float(a), Kind::Float(b)) => Ok(a < b),
            (Kind::Str(a), Kind::Str(b)) => Ok(a.as_bytes().cmp(b.as_bytes()) == Ordering::Less),
            (Kind::Path(a), Kind::Path(b)) => Ok(a.as_bytes().cmp(b.as_bytes()) == Ordering::Less),
            (Kind::List(a), Kind::List(b)) => self
                .nested(pos, |vm| {
                    for (x, y) in a.iter().zip(b.iter()) {
                        if !vm.equal(x, y, pos)? {
                            return vm.less_than(x, y, pos, "while comparing two list elements");
                        }
                    }
                    Ok(a.len() < b.len())
                })
                .context(Pos::NONE, what),
            (x, y) => {
                let (left, right) = (crate::coerce::type_phrase(a), crate::coerce::type_phrase(b));
                let same = std::mem::discriminant(&x) == std::mem::discriminant(&y);
                let (x, y) = (self.show_for_error(a), self.show_for_error(b));
                let message = if same {
                    format!(
                        "cannot compare {left} with {right}; values of that type are incomparable (values are {x} and {y})"
                    )
                } else {
                    format!("cannot compare {left} with {right}; values are {x} and {y}")
                };
                Err(EvalError::new(ErrorKind::Eval, message).context(Pos::NONE, what))
            }
        }
    }
}
