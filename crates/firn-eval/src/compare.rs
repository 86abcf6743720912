//! Equality and order of values.

use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::source::Pos;
use crate::value::{Attrs, Kind, Value};
use crate::vm::Vm;
use firn_syntax::Sym;
use std::cmp::Ordering;

impl Vm {
    /// Equality of elements of lists and sets: the same element is equal to itself, even when it is a function.
    pub(crate) fn equal(&mut self, a: Value, b: Value, pos: Pos) -> EvalResult<bool> {
        if a == b {
            // The reference forces before it looks whether both are one.
            self.force_at(a, pos)?;
            return Ok(true);
        }
        let a = self.force_at(a, pos)?;
        let b = self.force_at(b, pos)?;
        self.equal_forced(a, b, pos)
    }

    /// Equality of two values that are not elements.
    pub(crate) fn equal_forced(&mut self, a: Value, b: Value, pos: Pos) -> EvalResult<bool> {
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
            let out_path = Sym::from_static("outPath");
            if let (Some(a), Some(b)) = (a.find(out_path), b.find(out_path)) {
                return self.equal(a, b, pos);
            }
        }
        if a.len() != b.len() {
            return Ok(false);
        }
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
            (Kind::List(a), Kind::List(b)) => self.nested(pos, |vm| {
                for (x, y) in a.iter().zip(b.iter()) {
                    if !vm.equal(x, y, pos)? {
                        return vm.less_than(x, y, pos, "while comparing two list elements");
                    }
                }
                Ok(a.len() < b.len())
            }),
            (x, y) => {
                let (left, right) = (crate::coerce::type_phrase(a), crate::coerce::type_phrase(b));
                let same = std::mem::discriminant(&x) == std::mem::discriminant(&y);
                let message = if same {
                    format!("cannot compare {left} with {right}; values of that type are incomparable")
                } else {
                    format!("cannot compare {left} with {right}")
                };
                let (left, right) = (self.show_for_error(a), self.show_for_error(b));
                let message = format!("{message} (values are {left} and {right})");
                Err(EvalError::new(ErrorKind::Type, message).context(pos, what))
            }
        }
    }

    /// Why two values of a failed `assert a == b` are not equal.
    pub(crate) fn explain_inequality(&mut self, a: Value, b: Value, pos: Pos) -> EvalResult<EvalError> {
        self.nested(pos, |vm| vm.explain_inequality_here(a, b, pos))
    }

    fn explain_inequality_here(&mut self, a: Value, b: Value, pos: Pos) -> EvalResult<EvalError> {
        let error = |message: String| EvalError::new(ErrorKind::Assertion, message);
        let (a, b) = (self.force_at(a, pos)?, self.force_at(b, pos)?);
        let shown = |vm: &mut Vm| (vm.show_for_error(a), vm.show_for_error(b));
        Ok(match (a.kind(), b.kind()) {
            (Kind::Int(x), Kind::Int(y)) => error(format!("integer '{x}' is not equal to integer '{y}'")),
            (Kind::Bool(x), Kind::Bool(y)) => error(format!("boolean '{x}' is not equal to boolean '{y}'")),
            (Kind::Float(x), Kind::Float(y)) => error(format!("float '{x}' is not equal to float '{y}'")),
            (Kind::Str(_), Kind::Str(_)) => {
                let (x, y) = shown(self);
                error(format!("string {x} is not equal to string {y}"))
            }
            (Kind::Path(x), Kind::Path(y)) => error(format!(
                "path '{}' is not equal to path '{}'",
                String::from_utf8_lossy(x.as_bytes()),
                String::from_utf8_lossy(y.as_bytes())
            )),
            (Kind::List(x), Kind::List(y)) => {
                if x.len() != y.len() {
                    let (l, r) = shown(self);
                    return Ok(error(format!(
                        "list of size '{}' is not equal to list of size '{}', left hand side is '{l}', right hand side is '{r}'",
                        x.len(),
                        y.len()
                    )));
                }
                for (i, (p, q)) in x.iter().zip(y.iter()).enumerate() {
                    if !self.equal(p, q, pos)? {
                        let inner = self.explain_inequality(p, q, pos)?;
                        let text = format!("while comparing list element {i}");
                        return Ok(inner.trace(Pos::NONE, crate::error::TraceKind::Text(text.into())));
                    }
                }
                error("lists are not equal".into())
            }
            (Kind::Attrs(x), Kind::Attrs(y)) => {
                for (name, value) in x.sorted() {
                    let Some(other) = y.find(name) else {
                        let (l, r) = shown(self);
                        return Ok(error(format!(
                            "attribute names of attribute set '{l}' differs from attribute set '{r}'"
                        )));
                    };
                    if !self.equal(value, other, pos)? {
                        let inner = self.explain_inequality(value, other, pos)?;
                        let text = format!("while comparing attribute '{name}'");
                        return Ok(inner.trace(Pos::NONE, crate::error::TraceKind::Text(text.into())));
                    }
                }
                let (l, r) = shown(self);
                error(format!("attribute names of attribute set '{l}' differs from attribute set '{r}'"))
            }
            (Kind::Fun(_), Kind::Fun(_)) => error(
                "distinct functions and immediate comparisons of identical functions compare as unequal"
                    .into(),
            ),
            _ => {
                let (l, r) = (crate::coerce::type_phrase(a), crate::coerce::type_phrase(b));
                let (x, y) = shown(self);
                error(format!("{l} of value '{x}' is not equal to {r} of value '{y}'"))
            }
        })
    }
}
