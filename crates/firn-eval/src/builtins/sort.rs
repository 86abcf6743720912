//! `sort`.

use crate::error::EvalResult;
use crate::expr::{Expr, Op};
use crate::source::Pos;
use crate::value::{Fun, Value, ValueVec};
use crate::vm::Vm;

pub(super) fn sort(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let list = vm.force_list(args[1], pos, "while evaluating the second argument passed to builtins.sort")?;
    if list.is_empty() {
        return Ok(Value::EMPTY_LIST);
    }
    let f = vm.force_function(args[0], pos, "while evaluating the first argument passed to builtins.sort")?;
    let mut items = ValueVec::with_capacity(list.len());
    for item in list.iter() {
        let value = vm.force_at(item, pos)?;
        // Functions are compared by where they came from.
        items.push(if value.is_fun() { item } else { value });
    }
    let native = matches!(f.as_fun(), Some(Fun::PrimOp(op)) if op.name == "lessThan");
    let plain = if vm.watch.is_none() { plain_order(f) } else { None };
    let what = "while evaluating the return value of the sorting function passed to builtins.sort";
    merge_sort(items.as_mut_slice(), &mut |a, b| {
        if native {
            return vm.less_than(a, b, pos, "while evaluating the ordering function passed to builtins.sort");
        }
        if let Some(less) = plain.and_then(|order| order.less(a, b)) {
            vm.stats.function_calls += 2;
            return Ok(less);
        }
        let less = vm.call(f, &[a, b], pos)?;
        vm.force_bool(less, pos, what)
    })?;
    Ok(items.to_list())
}

/// An order that a function of two arguments gives by comparing just them, as most do that lists are sorted by.
#[derive(Clone, Copy)]
struct PlainOrder {
    op: Op,
    /// The left operand is the second argument.
    swapped: bool,
}

/// The order of `a: b: a < b` and the like.
fn plain_order(function: Value) -> Option<PlainOrder> {
    let closure = function.as_closure()?;
    let lambda = closure.lambda;
    if !closure.args.is_empty() || lambda.arity() != 2 || lambda.formals.is_some() {
        return None;
    }
    let Expr::Binary(op @ (Op::Less | Op::Greater), operands) = lambda.body else { return None };
    match (&operands.left, &operands.right) {
        (Expr::Local { slot: 0, .. }, Expr::Local { slot: 1, .. }) => Some(PlainOrder { op, swapped: false }),
        (Expr::Local { slot: 1, .. }, Expr::Local { slot: 0, .. }) => Some(PlainOrder { op, swapped: true }),
        _ => None,
    }
}

impl PlainOrder {
    /// What the function says, where that is told at once: of small integers and of strings.
    #[inline]
    fn less(self, a: Value, b: Value) -> Option<bool> {
        let (left, right) = if self.swapped != (self.op == Op::Greater) { (b, a) } else { (a, b) };
        if let (Some(left), Some(right)) = (left.as_small_int(), right.as_small_int()) {
            return Some(left < right);
        }
        Some(left.as_str()?.as_bytes() < right.as_str()?.as_bytes())
    }
}

/// A stable sort that bears any comparator: one that contradicts itself gives some order, never a panic.
fn merge_sort(
    items: &mut [Value],
    less: &mut impl FnMut(Value, Value) -> EvalResult<bool>,
) -> EvalResult<()> {
    const RUN: usize = 8;
    for run in items.chunks_mut(RUN) {
        for i in 1..run.len() {
            let mut j = i;
            while j > 0 && less(run[j], run[j - 1])? {
                run.swap(j, j - 1);
                j -= 1;
            }
        }
    }
    let len = items.len();
    let mut scratch = ValueVec::with_capacity(len);
    scratch.extend(items.iter().copied());
    let mut width = RUN;
    while width < len {
        let to = scratch.as_mut_slice();
        let mut start = 0;
        while start < len {
            let (middle, end) = ((start + width).min(len), (start + 2 * width).min(len));
            let (mut i, mut j) = (start, middle);
            for slot in &mut to[start..end] {
                let right = if i >= middle {
                    true
                } else if j >= end {
                    false
                } else {
                    less(items[j], items[i])?
                };
                if right {
                    *slot = items[j];
                    j += 1;
                } else {
                    *slot = items[i];
                    i += 1;
                }
            }
            start = end;
        }
        items.copy_from_slice(scratch.as_slice());
        width *= 2;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_and_bears_nonsense() {
        let mut items: Vec<Value> = (0..100).map(|i| Value::int((i * 37) % 100)).collect();
        let mut less = |a: Value, b: Value| Ok(a.as_int() < b.as_int());
        assert!(merge_sort(&mut items, &mut less).is_ok());
        assert!(items.iter().enumerate().all(|(i, v)| v.as_int() == Some(i as i64)));
        let mut always = |_, _| Ok(true);
        assert!(merge_sort(&mut items, &mut always).is_ok());
    }
}
