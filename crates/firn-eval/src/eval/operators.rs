//! Operators.

use crate::error::{EvalError, EvalResult, TraceKind};
use crate::expr::*;
use crate::source::Pos;
use crate::value::{Attrs, Env, Value};
use crate::vm::{Call, Vm};

impl Vm {
    /// `&&`, `||` and `->`: the right operand only where the left one does not decide.
    #[inline(never)]
    pub(super) fn connective(
        &mut self,
        op: Op,
        operands: &'static BinaryExpr,
        env: Env,
    ) -> EvalResult<Value> {
        let left = match self.eval(&operands.left, env) {
            Ok(left @ (Value::TRUE | Value::FALSE)) => left == Value::TRUE,
            other => return Err(self.no_operand(op, true, other, operands.pos)),
        };
        match (op, left) {
            (Op::And, false) => return Ok(Value::FALSE),
            (Op::And, true) | (Op::Or, false) => {}
            (Op::Or, true) | (_, false) => return Ok(Value::TRUE),
            (_, true) => {}
        }
        match self.eval(&operands.right, env) {
            Ok(right @ (Value::TRUE | Value::FALSE)) => Ok(right),
            other => Err(self.no_operand(op, false, other, operands.pos)),
        }
    }

    #[cold]
    #[inline(never)]
    fn no_operand(&mut self, op: Op, left: bool, found: EvalResult<Value>, pos: Pos) -> EvalError {
        let what = match (op, left) {
            (Op::And, true) => "in the left operand of the AND (&&) operator",
            (Op::And, false) => "in the right operand of the AND (&&) operator",
            (Op::Or, true) => "in the left operand of the OR (||) operator",
            (Op::Or, false) => "in the right operand of the OR (||) operator",
            (_, true) => "in the left operand of the IMPL (->) operator",
            (_, false) => "in the right operand of the IMPL (->) operator",
        };
        self.no_bool(found, pos, what)
    }

    #[inline]
    pub(super) fn binary(&mut self, op: Op, operands: &'static BinaryExpr, env: Env) -> EvalResult<Value> {
        match op {
            Op::Eq | Op::Neq => self.equality(op, operands, env),
            Op::Update => self.eval_update(operands, env),
            Op::ListConcat => self.eval_list_concat(operands, env),
            _ => self.eval_arithmetic(op, operands, env),
        }
    }

    #[inline(never)]
    fn eval_arithmetic(&mut self, op: Op, operands: &'static BinaryExpr, env: Env) -> EvalResult<Value> {
        // These operators are calls of builtins in the reference, which shows in how deep they go.
        if let Err(error) = self.check_depth(operands.pos) {
            return Err(negated(error, op, operands.pos));
        }
        match operands.known(op, env) {
            Some(value) => Ok(value),
            None => {
                self.calls.push(Call { lambda: None, pos: operands.pos });
                let result = self.arithmetic(op, operands, env);
                self.calls.pop();
                result
            }
        }
    }

    #[inline(never)]
    fn equality(&mut self, op: Op, operands: &'static BinaryExpr, env: Env) -> EvalResult<Value> {
        let left = self.eval_inline(&operands.left, env)?;
        let right = self.eval_inline(&operands.right, env)?;
        let equal = match left.equal_simply(right) {
            Some(equal) => equal,
            None => match (left.as_str(), right.as_str()) {
                (Some(left), Some(right)) => left.as_bytes() == right.as_bytes(),
                _ => self.equal_forced(left, right, operands.pos)?,
            },
        };
        self.check_depth(operands.pos)?;
        Ok(Value::bool(equal == (op == Op::Eq)))
    }

    #[inline(never)]
    fn eval_update(&mut self, operands: &'static BinaryExpr, env: Env) -> EvalResult<Value> {
        // The right one first, and what stands before the operator of an operand is not named again.
        let what = "in the right operand of the update (//) operator";
        let right = self.eval_update_operand(&operands.right, env, operands.places.1, what)?;
        let what = "in the left operand of the update (//) operator";
        let left = self.eval_update_operand(&operands.left, env, operands.places.0, what)?;
        Ok(self.update_at(left, right, &operands.update).value())
    }

    #[inline(never)]
    fn eval_list_concat(&mut self, operands: &'static BinaryExpr, env: Env) -> EvalResult<Value> {
        let left = self.eval(&operands.left, env)?;
        let right = self.eval(&operands.right, env)?;
        self.concat_lists(&[left, right], operands.pos, "while evaluating one of the elements to concatenate")
    }

    #[inline(never)]
    fn arithmetic(&mut self, op: Op, operands: &'static BinaryExpr, env: Env) -> EvalResult<Value> {
        // The two that are the other way round evaluate the right operand first.
        let swapped = matches!(op, Op::Greater | Op::LessEq);
        let (first, second) =
            if swapped { (&operands.right, &operands.left) } else { (&operands.left, &operands.right) };
        let a = match self.eval_inline(first, env) {
            Ok(value) => value,
            Err(error) => return Err(operator_trace(error, op, operands.pos)),
        };
        let b = match self.eval_inline(second, env) {
            Ok(value) => value,
            Err(error) => return Err(operator_trace(error, op, operands.pos)),
        };
        if let (Some(x), Some(y)) = (a.as_small_int(), b.as_small_int()) {
            if let Some(value) = small_arithmetic(op, x, y) {
                return Ok(value);
            }
        }
        self.arithmetic_of(op, a, b).map_err(|e| operator_trace(e, op, operands.pos))
    }

    #[inline(never)]
    fn arithmetic_of(&mut self, op: Op, a: Value, b: Value) -> EvalResult<Value> {
        match op {
            Op::Sub => crate::builtins::math::sub(self, &[a, b], Pos::NONE),
            Op::Mul => crate::builtins::math::mul(self, &[a, b], Pos::NONE),
            Op::Div => crate::builtins::math::div(self, &[a, b], Pos::NONE),
            _ => {
                let less = self.less_than(a, b, Pos::NONE, "")?;
                Ok(Value::bool(less != matches!(op, Op::LessEq | Op::GreaterEq)))
            }
        }
    }

    fn eval_update_operand(
        &mut self,
        expr: &'static Expr,
        env: Env,
        pos: Pos,
        what: &'static str,
    ) -> EvalResult<Attrs> {
        match self.eval(expr, env) {
            Ok(value) => {
                value.as_attrs().ok_or_else(|| self.type_error(value, "a set", Pos::NONE).context(pos, what))
            }
            Err(error) if matches!(expr, Expr::Binary(Op::Update, _)) => Err(error),
            Err(error) => Err(error.context(pos, what)),
        }
    }

    /// Concatenates forced lists.
    pub(crate) fn concat_lists(
        &mut self,
        lists: &[Value],
        pos: Pos,
        what: &'static str,
    ) -> EvalResult<Value> {
        let mut total = 0;
        let mut nonempty = None;
        let mut count = 0;
        for value in lists {
            let Some(list) = value.as_list() else {
                return Err(self.type_error(*value, "a list", Pos::NONE).context(pos, what));
            };
            total += list.len();
            if !list.is_empty() {
                nonempty = Some(*value);
                count += 1;
            }
        }
        match (count, nonempty) {
            (0, _) => return Ok(Value::EMPTY_LIST),
            (1, Some(only)) => return Ok(only),
            _ => {}
        }
        if let [first, second] = lists {
            if let Some(grown) = second.as_list().and_then(|more| first.append(more)) {
                return Ok(grown);
            }
        }
        let mut out = crate::value::ListBuilder::new(total);
        for list in lists.iter().filter_map(|v| v.as_list()) {
            for item in list.iter() {
                out.push(item);
            }
        }
        Ok(out.finish())
    }
}

/// Arithmetic and order of small integers, in the order in which they are evaluated; `None` for what may fail.
#[inline(always)]
pub(super) fn small_arithmetic(op: Op, a: i64, b: i64) -> Option<Value> {
    match op {
        // Small integers have 61 bits: neither sum nor difference leaves 64.
        Op::Sub => Some(Value::int(a - b)),
        Op::Mul => a.checked_mul(b).map(Value::int),
        Op::Div if b != 0 => Some(Value::int(a / b)),
        Op::Less | Op::Greater => Some(Value::bool(a < b)),
        Op::LessEq | Op::GreaterEq => Some(Value::bool(a >= b)),
        _ => None,
    }
}

#[cold]
fn operator_trace(error: EvalError, op: Op, pos: Pos) -> EvalError {
    let name = match op {
        Op::Sub => "sub",
        Op::Mul => "mul",
        Op::Div => "div",
        _ => "lessThan",
    };
    negated(error.trace(pos, TraceKind::Builtin(name)), op, pos)
}

/// What fails below `<=` and `>=`, which are the negation of a call.
#[cold]
fn negated(error: EvalError, op: Op, pos: Pos) -> EvalError {
    match op {
        Op::LessEq | Op::GreaterEq => error.context(pos, "in the argument of the not operator"),
        _ => error,
    }
}
