//! Which argument a function looks at first, and which variable a `let`. Such a one need not be suspended: it is
//! evaluated when the function is called or the `let` entered, and as nothing happens in between, nobody can tell.

use crate::expr::*;

/// Slot of the argument that running a body evaluates before anything else, of the first `arity` slots.
pub(super) fn first_argument(body: &Expr, arity: usize) -> u32 {
    match first_variable(body) {
        Some(slot) if (slot as usize) < arity => slot,
        _ => NO_SLOT,
    }
}

/// Number of the variable of a `let` that its body evaluates before anything else, where it is worth evaluating.
pub(super) fn first_of_let(body: &Expr, first: u32, values: &[Expr]) -> u32 {
    let number = first_variable(body).and_then(|slot| slot.checked_sub(first));
    let value = number.and_then(|number| values.get(number as usize));
    match (number, value) {
        (_, Some(Expr::Const(_) | Expr::Local { .. } | Expr::Outer { .. } | Expr::Lambda(_))) => NO_SLOT,
        (Some(number), Some(_)) => number,
        _ => NO_SLOT,
    }
}

/// Slot of the variable of the body's own frame that is evaluated before anything else.
fn first_variable(body: &Expr) -> Option<u32> {
    let mut expr = body;
    // How many frames lie between the one of the call and the current one.
    let mut level = 0;
    loop {
        expr = match expr {
            Expr::Local { slot, .. } if level == 0 => return Some(*slot),
            Expr::Outer { depth, slot, .. } if *depth == level => return Some(*slot),
            Expr::Select(select) | Expr::SelectOr(select) => &select.base,
            Expr::HasAttr(has) => &has.base,
            Expr::Let(bindings) => {
                level += u32::from(bindings.frame.is_some());
                &bindings.body
            }
            Expr::With(with) => {
                level += u32::from(with.frame.is_some());
                &with.body
            }
            Expr::If(branch) => &branch.cond,
            Expr::Assert(assert) => &assert.cond,
            Expr::Not((inner, _)) => inner,
            Expr::Builtin(builtin) => match builtin.primop.eager {
                [first, ..] => &builtin.call.args[*first as usize],
                [] => return None,
            },
            Expr::Call(call) => match call.function {
                Expr::Const(_) => return None,
                _ => &call.function,
            },
            // These evaluate the right operand first.
            Expr::Binary(Op::Update | Op::Greater | Op::LessEq, operands) => &operands.right,
            Expr::Binary(_, operands) => &operands.left,
            Expr::Concat(concat) => match concat.parts {
                [(first, _), ..] => first,
                [] => return None,
            },
            _ => return None,
        }
    }
}
