//! Values that are to be had at once, so that nothing has to be suspended for them. Only what cannot fail, costs
//! next to nothing and shows nothing of being early.

use super::operators::small_arithmetic;
use crate::expr::*;
use crate::value::{Env, Value};

/// The value of a variable or constant that is evaluated already.
#[inline(always)]
fn operand(expr: &Expr, env: Env) -> Option<Value> {
    let word = match *expr {
        Expr::Const(value) => value,
        Expr::Local { slot, .. } => env.get(slot),
        Expr::Outer { depth, slot, .. } => env.up(depth).get(slot),
        _ => return None,
    };
    word.known()
}

impl Select {
    /// The attribute of an evaluated set, if it is evaluated too. Never a function: functions are compared by
    /// where they came from.
    #[inline]
    pub(crate) fn known(&self, env: Env) -> Option<Value> {
        let name = self.only.name?;
        let attrs = operand(&self.base, env)?.as_attrs()?;
        let found = attrs.find_cached(name, &self.only.cache)?;
        let value = found.known()?;
        (!value.is_fun() && !value.is_unset()).then_some(value)
    }
}

impl BinaryExpr {
    /// The result for small integers.
    #[inline]
    pub(crate) fn known(&self, op: Op, env: Env) -> Option<Value> {
        let a = operand(&self.left, env)?.as_small_int()?;
        let b = operand(&self.right, env)?.as_small_int()?;
        if matches!(op, Op::Greater | Op::LessEq) {
            small_arithmetic(op, b, a)
        } else {
            small_arithmetic(op, a, b)
        }
    }
}

impl ConcatExpr {
    /// The sum of small integers.
    #[inline]
    pub(crate) fn known(&self, env: Env) -> Option<Value> {
        let (ConcatKind::Add, [(left, _), (right, _)]) = (self.kind, self.parts) else { return None };
        let a = operand(left, env)?.as_small_int()?;
        let b = operand(right, env)?.as_small_int()?;
        Some(Value::int(a + b))
    }
}
