//! Running code.

mod assert;
mod call;
mod concat;
mod known;
mod sets;

use crate::error::{ErrorKind, EvalError, EvalResult, TraceKind};
use crate::expr::*;
use crate::source::Pos;
use crate::value::{Attrs, CallFrame, Env, FewValues, Thunk, ThunkState, Value};
use crate::vm::Vm;
use call::Next;
use firn_syntax::{Sym, sym};

/// Arguments of a call.
type Args = FewValues<6>;

impl Vm {
    /// Runs an expression to a value.
    pub(crate) fn eval(&mut self, expr: &'static Expr, env: Env) -> EvalResult<Value> {
        let base = self.calls.len();
        let mut frame = None;
        let result = self.eval_loop(expr, env, &mut frame);
        if self.calls.len() != base { self.leave_calls(base, frame, result) } else { result }
    }

    /// Runs the body of a function whose call has been recorded.
    pub(crate) fn eval_body(&mut self, body: &'static Expr, frame: CallFrame) -> EvalResult<Value> {
        let base = self.calls.len() - 1;
        let env = frame.env();
        let mut frame = Some(frame);
        let result = self.eval_loop(body, env, &mut frame);
        self.leave_calls(base, frame, result)
    }

    /// [`Vm::eval`], without the detour for what needs no evaluation.
    #[inline(always)]
    pub(crate) fn eval_inline(&mut self, expr: &'static Expr, env: Env) -> EvalResult<Value> {
        match *expr {
            Expr::Const(value) if !value.is_thunk() => Ok(value),
            Expr::Shared(value) => Ok(value),
            Expr::Local { slot, pos } => self.variable(env, slot, pos),
            Expr::Outer { depth, slot, pos } => self.variable(env.up(depth), slot, pos),
            _ => self.eval(expr, env),
        }
    }

    /// Forgets the calls that tail calls left behind, and tells of them where an error passes.
    #[inline]
    fn leave_calls(
        &mut self,
        base: usize,
        frame: Option<CallFrame>,
        result: EvalResult<Value>,
    ) -> EvalResult<Value> {
        match result {
            Ok(value) => {
                self.calls.truncate(base);
                if let Some(frame) = frame {
                    frame.release();
                }
                Ok(value)
            }
            Err(error) => self.fail_calls(base, error),
        }
    }

    #[cold]
    #[inline(never)]
    fn fail_calls(&mut self, base: usize, mut error: EvalError) -> EvalResult<Value> {
        while self.calls.len() > base {
            let Some(call) = self.calls.pop() else { break };
            if let (true, Some(lambda)) = (self.settings.show_trace, call.lambda) {
                error = error.trace(lambda.pos, TraceKind::Lambda(lambda.name));
                if !call.pos.is_none() {
                    error = error.trace(call.pos, TraceKind::CallSite);
                }
            }
        }
        Err(error)
    }

    #[inline(always)]
    fn eval_loop(
        &mut self,
        mut expr: &'static Expr,
        mut env: Env,
        own: &mut Option<CallFrame>,
    ) -> EvalResult<Value> {
        loop {
            match *expr {
                Expr::Const(value) => return self.force(value),
                Expr::Shared(value) => return Ok(value),
                Expr::Local { slot, pos } => return self.variable(env, slot, pos),
                Expr::Outer { depth, slot, pos } => return self.variable(env.up(depth), slot, pos),
                Expr::WithVar(var) => {
                    let value = self.with_variable(var, env)?;
                    return self.force_at(value, var.pos);
                }
                Expr::Select(select) => match self.select(select, env)? {
                    Some(value) => return Ok(value),
                    None => match &select.default {
                        Some(default) => expr = default,
                        None => return Err(EvalError::new(ErrorKind::Eval, "attribute missing")),
                    },
                },
                Expr::HasAttr(has) => return self.has_attr(has, env),
                Expr::Set(set) => return self.eval_set(set, env),
                Expr::List(items) => {
                    let mut list = crate::value::ListBuilder::new(items.len());
                    for item in items {
                        list.push(self.delay_element(item, env));
                    }
                    return Ok(list.finish());
                }
                Expr::Lambda(lambda) => return Ok(Value::closure(lambda, env)),
                Expr::Let(bindings) => {
                    env = self.bind_let(bindings, env);
                    expr = &bindings.body;
                }
                Expr::With(with) => {
                    let scope = self.delay(&with.scope, env);
                    if let Some(size) = with.frame {
                        env = Env::new(Some(env), size as usize);
                    }
                    env.set(with.slot, scope);
                    expr = &with.body;
                }
                Expr::If(branch) => {
                    let cond =
                        self.eval_bool(&branch.cond, env, branch.pos, "while evaluating a branch condition")?;
                    expr = if cond { &branch.then } else { &branch.otherwise };
                }
                Expr::Assert(assert) => {
                    self.eval_assert(assert, env)?;
                    expr = &assert.body;
                }
                Expr::Not((inner, pos)) => {
                    let value = self.eval_bool(inner, env, *pos, "in the argument of the not operator")?;
                    return Ok(Value::bool(!value));
                }
                Expr::Call(call) => match self.eval_call(call, env)? {
                    Next::Value(value) => return Ok(value),
                    Next::Body(body, frame) => {
                        expr = body;
                        env = frame.env();
                        // The arguments are evaluated or suspended: a tail call ends the caller's frame.
                        if let Some(caller) = own.replace(frame) {
                            caller.release();
                        }
                    }
                },
                Expr::Binary(op, operands) => {
                    return match op {
                        Op::And | Op::Or | Op::Impl => self.connective(op, operands, env),
                        _ => self.binary(op, operands, env),
                    };
                }
                Expr::Concat(concat) => return self.eval_concat(concat, env),
                Expr::CurPos(pos) => return Ok(self.position_value(pos)),
                Expr::Watched(watched) => return self.eval_watched(watched, env),
            }
        }
    }

    #[inline(always)]
    fn variable(&mut self, frame: Env, slot: u32, pos: Pos) -> EvalResult<Value> {
        let word = frame.get(slot);
        if word.is_thunk() || word.is_unset() {
            self.pending_variable(word, frame, slot, pos)
        } else {
            Ok(word)
        }
    }

    /// A variable that is not evaluated yet, or was not when it was looked at last.
    #[inline(never)]
    fn pending_variable(&mut self, word: Value, frame: Env, slot: u32, pos: Pos) -> EvalResult<Value> {
        if word.is_unset() {
            return self.unbound(pos);
        }
        let value = self.force_at(word, pos)?;
        // The slot forgets the thunk, but not where a function came from: functions are compared by the thunk.
        if value.as_fun().is_none() {
            frame.set(slot, value);
        }
        Ok(value)
    }

    #[cold]
    fn unbound(&self, pos: Pos) -> EvalResult<Value> {
        Err(EvalError::at(ErrorKind::InfiniteRecursion, pos, "infinite recursion encountered"))
    }

    #[inline(never)]
    fn with_variable(&mut self, var: &'static WithVar, env: Env) -> EvalResult<Value> {
        for WithScope { depth, slot, pos, cache } in var.scopes {
            let frame = env.up(*depth);
            let scope = self.force_at(frame.get(*slot), *pos)?;
            let Some(attrs) = scope.as_attrs() else {
                return Err(self
                    .type_error(scope, "a set", Pos::NONE)
                    .context(*pos, "while evaluating the first subexpression of a with expression"));
            };
            frame.set(*slot, scope);
            if let Some(value) = attrs.find_cached(var.name, cache) {
                return Ok(value);
            }
        }
        Err(EvalError::at(
            ErrorKind::UndefinedVariable,
            var.pos,
            format!("undefined variable '{}'", var.name.shown()),
        ))
    }

    #[inline(never)]
    fn bind_let(&mut self, bindings: &'static LetExpr, mut env: Env) -> Env {
        if let Some(size) = bindings.frame {
            env = Env::new(Some(env), size as usize);
        }
        for (i, value) in bindings.values.iter().enumerate() {
            let value = self.delay(value, env);
            env.set(bindings.first + i as u32, value);
        }
        env
    }

    pub(crate) fn eval_bool(
        &mut self,
        expr: &'static Expr,
        env: Env,
        pos: Pos,
        what: &'static str,
    ) -> EvalResult<bool> {
        match self.eval_inline(expr, env) {
            Ok(Value::TRUE) => Ok(true),
            Ok(Value::FALSE) => Ok(false),
            Ok(other) => Err(self.type_error(other, "a Boolean", pos).context(pos, what)),
            Err(error) => Err(error.context(pos, what)),
        }
    }

    #[inline(never)]
    fn eval_assert(&mut self, assert: &'static AssertExpr, env: Env) -> EvalResult<()> {
        if self.eval_bool(&assert.cond, env, assert.pos, "in the condition of the assert statement")? {
            return Ok(());
        }
        let condition = self.condition_text(assert.pos);
        if let Expr::Binary(Op::Eq, operands) = &assert.cond {
            let compared = self.eval(&operands.left, env).and_then(|left| {
                let right = self.eval(&operands.right, env)?;
                self.assert_equal(left, right, operands.pos)
            });
            if let Err(error) = compared {
                if error.kind() != ErrorKind::Assertion {
                    return Err(error);
                }
                let text = format!("while evaluating the condition of the assertion '{condition}'");
                return Err(error.trace(assert.pos, TraceKind::Text(text.into())));
            }
        }
        Err(EvalError::at(ErrorKind::Assertion, assert.pos, format!("assertion '{condition}' failed")))
    }

    // ---- selection ------------------------------------------------------------------------------------

    fn step_name(&mut self, (expr, pos): &'static (Expr, Pos), env: Env) -> EvalResult<Sym> {
        let pos = *pos;
        let value = self.eval(expr, env)?;
        let name = self.string_no_context(value, pos, "while evaluating an attribute name")?;
        Ok(name.sym())
    }

    /// The selected value, forced; `None` when the default has to be taken.
    #[inline(never)]
    fn select(&mut self, select: &'static Select, env: Env) -> EvalResult<Option<Value>> {
        let base = self.eval_inline(&select.base, env)?;
        // Nearly always it is one name of a set, which is there and evaluated.
        if let ([Step::Static { name, cache }], Some(attrs)) = (select.path, base.as_attrs()) {
            if let Some(found) = attrs.find_cached(*name, cache) {
                let value = match found.as_thunk() {
                    None => Some(found),
                    Some(thunk) => thunk.result(),
                };
                if value.is_some() {
                    return Ok(value);
                }
            }
        }
        self.select_in(base, select, env)
    }

    /// [`Vm::select`] where what is selected from is known.
    #[inline(always)]
    pub(crate) fn select_in(
        &mut self,
        base: Value,
        select: &'static Select,
        env: Env,
    ) -> EvalResult<Option<Value>> {
        let mut value = base;
        // Where the last step was found; only errors ask where that is.
        let mut last: Option<(Attrs, Sym)> = None;
        for step in select.path {
            let name = match step {
                Step::Static { name, .. } => *name,
                Step::Dynamic(name) => match self.step_name(name, env) {
                    Ok(name) => name,
                    Err(error) => return Err(self.select_trace(error, select, last, env)),
                },
            };
            value = match self.force_at(value, select.pos) {
                Ok(value) => value,
                Err(error) => return Err(self.select_trace(error, select, last, env)),
            };
            let Some(attrs) = value.as_attrs() else {
                if select.default.is_some() {
                    return Ok(None);
                }
                let error = self
                    .type_error(value, "a set", Pos::NONE)
                    .context(select.pos, "while selecting an attribute");
                return Err(self.select_trace(error, select, last, env));
            };
            let found = match step {
                Step::Static { cache, .. } => attrs.find_cached(name, cache),
                Step::Dynamic(_) => attrs.find(name),
            };
            match found {
                Some(found) => {
                    value = found;
                    last = Some((attrs, name));
                }
                None if select.default.is_some() => return Ok(None),
                None => {
                    let error = missing_attribute(attrs, name, select.pos);
                    return Err(self.select_trace(error, select, last, env));
                }
            }
        }
        if !value.is_thunk() {
            return Ok(Some(value));
        }
        let claimed = value.as_thunk().is_some_and(|t| matches!(t.state(), ThunkState::Claimed(_)));
        let pos = if claimed { select_place(select, last) } else { Pos::NONE };
        match self.force_at(value, pos) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(self.select_trace(error, select, last, env)),
        }
    }

    #[cold]
    fn select_trace(
        &mut self,
        error: EvalError,
        select: &'static Select,
        last: Option<(Attrs, Sym)>,
        env: Env,
    ) -> EvalError {
        let pos = last.map_or(Pos::NONE, |(attrs, name)| attrs.position_of(name));
        if pos.is_none()
            || pos.origin() == Some(crate::source::Origin::Internal(crate::builtins::DERIVATION_NAME))
        {
            return error;
        }
        let text = format!("while evaluating the attribute '{}'", self.select_text(select, env));
        error.trace(pos, TraceKind::Text(text.into()))
    }

    /// The path of a selection as messages show it.
    #[cold]
    pub(crate) fn select_text(&mut self, select: &'static Select, env: Env) -> String {
        let mut path = Vec::new();
        for (i, step) in select.path.iter().enumerate() {
            if i > 0 {
                path.push(b'.');
            }
            match step {
                Step::Static { name, .. } => firn_syntax::show::write_name(&mut path, name.as_bytes()),
                Step::Dynamic(name) => match self.step_name(name, env) {
                    Ok(name) => firn_syntax::show::write_name(&mut path, name.as_bytes()),
                    Err(_) => path.extend_from_slice(&self.dynamic_step_text(select.pos, i)),
                },
            }
        }
        String::from_utf8_lossy(&path).into_owned()
    }

    #[inline(never)]
    fn has_attr(&mut self, has: &'static HasAttr, env: Env) -> EvalResult<Value> {
        let mut value = self.eval_inline(&has.base, env)?;
        for step in has.path {
            value = self.force_at(value, has.pos)?;
            let name = match step {
                Step::Static { name, .. } => *name,
                Step::Dynamic(name) => self.step_name(name, env)?,
            };
            let found = value.as_attrs().and_then(|attrs| match step {
                Step::Static { cache, .. } => attrs.find_cached(name, cache),
                Step::Dynamic(_) => attrs.find(name),
            });
            match found {
                Some(found) => value = found,
                None => return Ok(Value::FALSE),
            }
        }
        Ok(Value::TRUE)
    }

    // ---- operators ------------------------------------------------------------------------------------

    /// `&&`, `||` and `->`: the right operand only where the left one does not decide.
    #[inline(always)]
    fn connective(&mut self, op: Op, operands: &'static BinaryExpr, env: Env) -> EvalResult<Value> {
        let (decides, result, left, right) = match op {
            Op::And => (
                false,
                Value::FALSE,
                "in the left operand of the AND (&&) operator",
                "in the right operand of the AND (&&) operator",
            ),
            Op::Or => (
                true,
                Value::TRUE,
                "in the left operand of the OR (||) operator",
                "in the right operand of the OR (||) operator",
            ),
            _ => (
                false,
                Value::TRUE,
                "in the left operand of the IMPL (->) operator",
                "in the right operand of the IMPL (->) operator",
            ),
        };
        if self.eval_bool(&operands.left, env, operands.pos, left)? == decides {
            return Ok(result);
        }
        self.eval_bool(&operands.right, env, operands.pos, right).map(Value::bool)
    }

    #[inline(never)]
    fn binary(&mut self, op: Op, operands: &'static BinaryExpr, env: Env) -> EvalResult<Value> {
        let pos = operands.pos;
        match op {
            Op::Eq | Op::Neq => {
                let left = self.eval_inline(&operands.left, env)?;
                let right = self.eval_inline(&operands.right, env)?;
                let equal = match left.equal_simply(right) {
                    Some(equal) => equal,
                    None => self.equal_forced(left, right, pos)?,
                };
                Ok(Value::bool(equal == (op == Op::Eq)))
            }
            Op::Update => {
                // The right one first, and what stands before the operator of an operand is not named again.
                let what = "in the right operand of the update (//) operator";
                let right = self.eval_update_operand(&operands.right, env, operands.places.1, what)?;
                let what = "in the left operand of the update (//) operator";
                let left = self.eval_update_operand(&operands.left, env, operands.places.0, what)?;
                Ok(self.update_at(left, right, &operands.plan).value())
            }
            Op::ListConcat => {
                let left = self.eval(&operands.left, env)?;
                let right = self.eval(&operands.right, env)?;
                self.concat_lists(&[left, right], pos, "while evaluating one of the elements to concatenate")
            }
            _ => self.arithmetic(op, operands, env),
        }
    }

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

    /// `{ file, line, column }`, or null for no place.
    pub(crate) fn position_value(&mut self, pos: Pos) -> Value {
        let Some(crate::source::Origin::Path(path)) = pos.origin() else { return Value::NULL };
        let number = Value::int(i64::from(pos.number()));
        let mut attrs = crate::attrs::AttrsBuilder::new();
        attrs.push(sym!("file"), Value::str(&path));
        attrs.push(sym!("line"), Thunk::native(crate::value::Native::PosLine, &[number]).value());
        attrs.push(sym!("column"), Thunk::native(crate::value::Native::PosColumn, &[number]).value());
        attrs.finish()
    }

    /// "expected … but found …".
    #[cold]
    pub(crate) fn type_error(&mut self, found: Value, expected: &str, pos: Pos) -> EvalError {
        let shown = self.show_for_error(found);
        let kind = crate::coerce::type_phrase(found);
        EvalError::at(ErrorKind::Type, pos, format!("expected {expected} but found {kind}: {shown}"))
    }

    /// A value as messages show it: not forced, and cut short.
    pub(crate) fn show_for_error(&mut self, value: Value) -> String {
        let options = crate::fmt::print::PrintOptions::for_errors();
        String::from_utf8_lossy(&crate::fmt::print::print_value(self, value, &options).unwrap_or_default())
            .into_owned()
    }
}

/// Arithmetic and order of small integers, in the order in which they are evaluated; `None` for what may fail.
#[inline(always)]
pub(crate) fn small_arithmetic(op: Op, a: i64, b: i64) -> Option<Value> {
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
    let error = error.trace(pos, TraceKind::Builtin(name));
    match op {
        // They are the negation of a call.
        Op::LessEq | Op::GreaterEq => error.context(pos, "in the argument of the not operator"),
        _ => error,
    }
}

/// Where a selection that needs itself is reported.
#[cold]
fn select_place(select: &Select, last: Option<(Attrs, Sym)>) -> Pos {
    let pos = last.map_or(Pos::NONE, |(attrs, name)| attrs.position_of(name));
    if pos.is_none() { select.pos } else { pos }
}

#[cold]
fn missing_attribute(attrs: Attrs, name: Sym, pos: Pos) -> EvalError {
    let names = attrs.shape().syms().iter().map(|s| s.as_bytes());
    EvalError::at(ErrorKind::MissingAttribute, pos, format!("attribute '{}' missing", name.shown()))
        .with_suggestions(crate::fmt::suggest::best_matches(names, name.as_bytes()))
}
