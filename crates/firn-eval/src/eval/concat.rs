//! `a + b`, interpolated strings and interpolated paths.

use crate::coerce::{Coerce, CopyToStore, type_phrase};
use crate::context::ContextBuilder;
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::expr::*;
use crate::source::Pos;
use crate::value::{Env, FewValues, Kind, Value};
use crate::vm::Vm;
use smallvec::SmallVec;

impl Vm {
    /// The sum of two small integers; all else is left to functions of their own, whose frames would be made here too.
    #[inline(never)]
    pub(super) fn eval_concat(&mut self, concat: &'static ConcatExpr, env: Env) -> EvalResult<Value> {
        let (ConcatKind::Add, [(first, _), (second, pos)]) = (concat.kind, concat.parts) else {
            return self.concat_parts(concat, env);
        };
        let value = self.eval_inline(first, env)?;
        let Some(small) = value.as_small_int() else {
            return self.concat_to(value, concat, env);
        };
        let other = self.eval_inline(second, env)?;
        match value.plus_simply(other) {
            Some(sum) => Ok(sum),
            None => self.add_otherwise(small, other, *pos),
        }
    }

    #[inline(never)]
    fn concat_parts(&mut self, concat: &'static ConcatExpr, env: Env) -> EvalResult<Value> {
        if concat.kind == ConcatKind::String {
            return self.concat_string(concat, env, None);
        }
        let Some((first, _)) = concat.parts.first() else { return Ok(Value::str(b"")) };
        let value = self.eval_inline(first, env)?;
        self.concat_to(value, concat, env)
    }

    /// Goes on where the first part is known.
    #[inline(never)]
    fn concat_to(&mut self, value: Value, concat: &'static ConcatExpr, env: Env) -> EvalResult<Value> {
        let rest = concat.parts.get(1..).unwrap_or_default();
        match value.kind() {
            Kind::Int(n) => self.add_numbers(Number::Int(n), rest, env),
            Kind::Float(f) => self.add_numbers(Number::Float(f), rest, env),
            Kind::Path(path) => {
                let mut text = path.as_bytes().to_vec();
                let mut context = ContextBuilder::default();
                for (part, pos) in rest {
                    let value = self.eval(part, env)?;
                    let how = Coerce { more: false, copy: CopyToStore::No };
                    self.coerce_into(
                        value,
                        how,
                        &mut text,
                        &mut context,
                        *pos,
                        "while evaluating a path segment",
                    )?;
                }
                if !context.is_empty() {
                    return Err(EvalError::at(
                        ErrorKind::Eval,
                        concat.pos,
                        "a string that refers to a store path cannot be appended to a path",
                    ));
                }
                Ok(Value::path(&crate::coerce::canonical(&text)))
            }
            _ => self.concat_string(concat, env, Some(value)),
        }
    }

    #[cold]
    #[inline(never)]
    fn add_otherwise(&mut self, small: i64, other: Value, pos: Pos) -> EvalResult<Value> {
        self.add_numbers_of(Number::Int(small), other, pos).map(Number::value)
    }

    /// `first` is the value of the first part, where it is known already; then paths are not copied to the store
    /// unless the first part was a string.
    fn concat_string(
        &mut self,
        concat: &'static ConcatExpr,
        env: Env,
        first: Option<Value>,
    ) -> EvalResult<Value> {
        let what = "while evaluating a path segment";
        let mut context = ContextBuilder::default();
        let copy = match first {
            Some(value) if value.as_str().is_none() => CopyToStore::No,
            _ => CopyToStore::Yes,
        };
        let how = Coerce { more: false, copy };
        let mut parts: FewValues<8> = FewValues::new();
        let mut scratch: Vec<u8> = Vec::new();
        // Text of parts that are not strings, as ranges of `scratch`.
        let mut ranges: SmallVec<[(u32, u32); 8]> = SmallVec::new();
        for (i, (part, pos)) in concat.parts.iter().enumerate() {
            let value = match first {
                Some(value) if i == 0 => value,
                _ => self.eval_inline(part, env)?,
            };
            if i == 0 {
                // Each part is, and all at the same depth.
                self.check_depth(*pos)?;
            }
            if let Some(text) = value.as_str() {
                context.add(text.context());
                parts.push(value);
                ranges.push((0, 0));
            } else {
                let start = scratch.len();
                self.coerce_into(value, how, &mut scratch, &mut context, *pos, what)?;
                parts.push(Value::NULL);
                ranges.push((start as u32, scratch.len() as u32));
            }
        }
        let slices: SmallVec<[&[u8]; 8]> = parts
            .as_slice()
            .iter()
            .zip(&ranges)
            .map(|(value, (start, end))| match value.as_str() {
                Some(text) => text.as_bytes(),
                None => &scratch[*start as usize..*end as usize],
            })
            .collect();
        let text = Value::str_parts(&slices, context.finish());
        // The slices do not keep the parts from being collected.
        std::hint::black_box(&parts);
        Ok(text)
    }

    fn add_numbers(&mut self, mut sum: Number, rest: &'static [(Expr, Pos)], env: Env) -> EvalResult<Value> {
        for (part, pos) in rest {
            let value = self.eval(part, env)?;
            sum = self.add_numbers_of(sum, value, *pos)?;
        }
        Ok(sum.value())
    }

    fn add_numbers_of(&mut self, sum: Number, value: Value, pos: Pos) -> EvalResult<Number> {
        Ok(match (sum, value.kind()) {
            (Number::Int(a), Kind::Int(b)) => match a.checked_add(b) {
                Some(sum) => Number::Int(sum),
                None => {
                    let message = format!("integer overflow in adding {a} + {b}");
                    return Err(EvalError::at(ErrorKind::Eval, pos, message));
                }
            },
            (Number::Int(a), Kind::Float(b)) => Number::Float(a as f64 + b),
            (Number::Float(a), Kind::Int(b)) => Number::Float(a + b as f64),
            (Number::Float(a), Kind::Float(b)) => Number::Float(a + b),
            (sum, _) => {
                let to = if matches!(sum, Number::Int(_)) { "an integer" } else { "a float" };
                let message = format!("cannot add {} to {to}", type_phrase(value));
                return Err(EvalError::at(ErrorKind::Eval, pos, message));
            }
        })
    }
}

#[derive(Clone, Copy)]
enum Number {
    Int(i64),
    Float(f64),
}

impl Number {
    fn value(self) -> Value {
        match self {
            Number::Int(n) => Value::int(n),
            Number::Float(f) => Value::float(f),
        }
    }
}
