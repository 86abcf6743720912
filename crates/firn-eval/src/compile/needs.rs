//! Which argument a function looks at first. Such an argument need not be suspended: it is evaluated when the function
//! is called, and as nothing happens in between, nobody can tell.

use crate::expr::*;
use crate::value::Fun;

/// Slot of the argument that running a body evaluates before anything else, of the first `arity` slots.
pub(super) fn first_needed(body: &Expr, arity: usize) -> u32 {
    let mut expr = body;
    // How many frames lie between the one of the call and the current one.
    let mut level = 0;
    loop {
        expr = match expr {
            Expr::Local { slot, .. } if level == 0 => return argument(*slot, arity),
            Expr::Outer { depth, slot, .. } if *depth == level => return argument(*slot, arity),
            Expr::Select(select) => &select.base,
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
            Expr::Call(call) => match call.function {
                Expr::Const(function) => match function.as_fun() {
                    Some(Fun::PrimOp(primop)) if primop.arity == call.args.len() => match primop.eager {
                        [first, ..] => &call.args[*first as usize],
                        [] => return NO_SLOT,
                    },
                    _ => return NO_SLOT,
                },
                _ => &call.function,
            },
            // These evaluate the right operand first.
            Expr::Binary(Op::Update | Op::Greater | Op::LessEq, operands) => &operands.right,
            Expr::Binary(_, operands) => &operands.left,
            Expr::Concat(concat) => match concat.parts {
                [(first, _), ..] => first,
                [] => return NO_SLOT,
            },
            _ => return NO_SLOT,
        }
    }
}

fn argument(slot: u32, arity: usize) -> u32 {
    if (slot as usize) < arity { slot } else { NO_SLOT }
}
