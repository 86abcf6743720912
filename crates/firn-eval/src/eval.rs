//! Running code.

mod assert;
mod call;
mod concat;
mod formals;
mod known;
mod operators;
mod selection;
mod sets;

use crate::error::{ErrorKind, EvalError, EvalResult, TraceKind};
use crate::expr::*;
use crate::source::Pos;
use crate::value::{CallFrame, Env, FewValues, Thunk, Value};
use crate::vm::Vm;
use call::Next;
pub(crate) use call::takes_all;
use firn_syntax::sym;

/// Arguments of a call.
type Args = FewValues<6>;

impl Vm {
    /// Runs an expression to a value. What calls nothing itself is done by functions of its own, so that it costs no
    /// more than a jump.
    pub(crate) fn eval(&mut self, expr: &'static Expr, env: Env) -> EvalResult<Value> {
        match *expr {
            Expr::Select(select) | Expr::SelectOr(select) => self.eval_select(select, env),
            Expr::HasAttr(has) => self.has_attr(has, env),
            Expr::Set(set) => self.eval_set(set, env),
            Expr::List(items) => self.eval_list(items, env),
            Expr::WithVar(var) => self.eval_with_variable(var, env),
            Expr::Not(not) => self.eval_not(not, env),
            Expr::Binary(op @ (Op::And | Op::Or | Op::Impl), operands) => self.connective(op, operands, env),
            Expr::Binary(op, operands) => self.binary(op, operands, env),
            Expr::Concat(concat) => self.eval_concat(concat, env),
            Expr::Builtin(builtin) => self.eval_builtin(builtin, env),
            Expr::Local { slot, pos } => self.eval_variable(env, slot, pos),
            Expr::Outer { depth, slot, pos } => self.eval_outer(env, depth, slot, pos),
            Expr::Const(value) => self.force(value),
            Expr::Shared(value) => Ok(value),
            Expr::Lambda(lambda) => self.eval_lambda(lambda, env),
            _ => self.eval_calling(expr, env),
        }
    }

    #[inline(never)]
    fn eval_lambda(&mut self, lambda: &'static Lambda, env: Env) -> EvalResult<Value> {
        Ok(Value::closure(lambda, env))
    }

    #[inline(never)]
    fn eval_variable(&mut self, frame: Env, slot: u32, pos: Pos) -> EvalResult<Value> {
        self.variable(frame, slot, pos)
    }

    #[inline(never)]
    fn eval_outer(&mut self, env: Env, depth: u32, slot: u32, pos: Pos) -> EvalResult<Value> {
        self.variable(env.up(depth), slot, pos)
    }

    /// What may call functions. A builtin that is found at once needs no loop, and a function need not be looked for again.
    #[inline(never)]
    fn eval_calling(&mut self, expr: &'static Expr, env: Env) -> EvalResult<Value> {
        let mut function = None;
        if let Expr::Call(call) = *expr {
            function = Vm::known_function(call, env);
            if let Some(primop) = function.and_then(Value::as_primop) {
                if takes_all(primop, call) {
                    return self.call_primop_directly(primop, call, env);
                }
            }
        }
        let base = self.calls.len();
        self.run_expr(expr, env, None, base, function)
    }

    /// Runs the body of a function whose call has been recorded.
    pub(crate) fn eval_body(&mut self, body: &'static Expr, frame: CallFrame) -> EvalResult<Value> {
        let base = self.calls.len() - 1;
        self.run_expr(body, frame.env(), Some(frame), base, None)
    }

    /// Runs an expression in a frame, which may be its own to end, and forgets the calls that were recorded after `base`.
    /// Of a call the function may be known.
    #[inline(never)]
    fn run_expr(
        &mut self,
        expr: &'static Expr,
        env: Env,
        frame: Option<CallFrame>,
        base: usize,
        function: Option<Value>,
    ) -> EvalResult<Value> {
        let mut frame = frame;
        let result = self.eval_loop(expr, env, &mut frame, function);
        if self.calls.len() != base { self.leave_calls(base, frame, result) } else { result }
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
        mut function: Option<Value>,
    ) -> EvalResult<Value> {
        loop {
            match *expr {
                Expr::Const(value) => return self.force(value),
                Expr::Shared(value) => return Ok(value),
                Expr::Local { slot, pos } => return self.variable(env, slot, pos),
                Expr::Outer { depth, slot, pos } => return self.variable(env.up(depth), slot, pos),
                Expr::WithVar(var) => return self.eval_with_variable(var, env),
                Expr::Select(select) => return self.eval_select(select, env),
                Expr::SelectOr(select) => match self.select(select, env)? {
                    Some(value) => return Ok(value),
                    None => expr = select.default()?,
                },
                Expr::HasAttr(has) => return self.has_attr(has, env),
                Expr::Set(set) => return self.eval_set(set, env),
                Expr::List(items) => return self.eval_list(items, env),
                Expr::Lambda(lambda) => return Ok(Value::closure(lambda, env)),
                Expr::Let(bindings) => {
                    env = self.bind_let(bindings, env)?;
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
                Expr::Not(not) => return self.eval_not(not, env),
                Expr::Call(call) => {
                    let function = match function.take() {
                        Some(known) => known,
                        None => self.eval_inline(&call.function, env)?,
                    };
                    let frame;
                    (expr, frame) = match (function.as_whole_closure(), function.as_primop()) {
                        (Some((lambda, scope)), _) if lambda.arity() == call.args.len() => {
                            (&lambda.body, self.call_whole(lambda, scope, call, env)?)
                        }
                        (_, Some(primop)) if takes_all(primop, call) => {
                            return self.call_primop_directly(primop, call, env);
                        }
                        _ => match self.call_otherwise(function, call, env)? {
                            Next::Value(value) => return Ok(value),
                            Next::Body(body, frame) => (body, frame),
                        },
                    };
                    env = frame.env();
                    // The arguments are evaluated or suspended: a tail call ends the caller's frame.
                    if let Some(caller) = own.replace(frame) {
                        caller.release();
                    }
                }
                Expr::Builtin(builtin) => return self.eval_builtin(builtin, env),
                Expr::Binary(op, operands) => {
                    return match op {
                        Op::And | Op::Or | Op::Impl => self.connective(op, operands, env),
                        _ => self.binary(op, operands, env),
                    };
                }
                Expr::Concat(concat) => return self.eval_concat(concat, env),
                Expr::CurPos(pos) => return Ok(self.position_value(pos)),
                Expr::Watched(watched) => return self.eval_watched(watched, env),
                Expr::Deferred(deferred) => expr = deferred.code()?,
            }
        }
    }

    #[inline(never)]
    fn eval_select(&mut self, select: &'static Select, env: Env) -> EvalResult<Value> {
        match self.select(select, env)? {
            Some(value) => Ok(value),
            None => self.eval(select.default()?, env),
        }
    }

    #[inline(never)]
    fn eval_list(&mut self, items: &'static [Expr], env: Env) -> EvalResult<Value> {
        let mut list = crate::value::ListBuilder::new(items.len());
        for item in items {
            list.push(self.delay_element(item, env));
        }
        Ok(list.finish())
    }

    #[inline(never)]
    fn eval_not(&mut self, (inner, pos): &'static (Expr, Pos), env: Env) -> EvalResult<Value> {
        let value = self.eval_bool(inner, env, *pos, "in the argument of the not operator")?;
        Ok(Value::bool(!value))
    }

    #[inline(always)]
    fn variable(&mut self, frame: Env, slot: u32, pos: Pos) -> EvalResult<Value> {
        let word = frame.get(slot);
        match word.as_thunk() {
            Some(thunk) => match thunk.result() {
                // The slot keeps the thunk of a function, so this is met again and again.
                Some(value) if value.is_fun() => Ok(value),
                _ => self.pending_variable(word, frame, slot, pos),
            },
            None if word.is_unset() => self.unbound(pos),
            None => Ok(word),
        }
    }

    /// A variable that was not evaluated yet when it was looked at last.
    #[inline(never)]
    fn pending_variable(&mut self, word: Value, frame: Env, slot: u32, pos: Pos) -> EvalResult<Value> {
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

    /// Where it was found before and is evaluated, this calls nothing, so that it costs no more than looking.
    #[inline(never)]
    fn eval_with_variable(&mut self, var: &'static WithVar, env: Env) -> EvalResult<Value> {
        match var
            .innermost
            .map(|depth| env.up(depth))
            .and_then(|frame| var.found.get(frame))
            .and_then(Value::known)
        {
            Some(value) => Ok(value),
            None => self.look_through_scopes(var, env),
        }
    }

    #[inline(never)]
    fn look_through_scopes(&mut self, var: &'static WithVar, env: Env) -> EvalResult<Value> {
        let innermost = var.innermost.map(|depth| env.up(depth));
        if let Some(value) = innermost.and_then(|frame| var.found.get(frame)) {
            return self.force_at(value, var.pos);
        }
        let mut frame = env;
        let mut above = 0;
        for WithScope { depth, slot, pos, cache } in var.scopes {
            // Those further out are in frames further out.
            frame = frame.up(*depth - above);
            above = *depth;
            let word = frame.get(*slot);
            let scope = self.force_at(word, *pos)?;
            let Some(attrs) = scope.as_attrs() else {
                return Err(self
                    .type_error(scope, "a set", Pos::NONE)
                    .context(*pos, "while evaluating the first subexpression of a with expression"));
            };
            if word != scope {
                frame.set(*slot, scope);
            }
            if let Some(value) = attrs.find_cached(var.name, cache) {
                if let Some(innermost) = innermost {
                    var.found.set(innermost, value);
                }
                return self.force_at(value, var.pos);
            }
        }
        Err(EvalError::at(
            ErrorKind::UndefinedVariable,
            var.pos,
            format!("undefined variable '{}'", var.name.shown()),
        ))
    }

    #[inline(never)]
    fn bind_let(&mut self, bindings: &'static LetExpr, mut env: Env) -> EvalResult<Env> {
        if let Some(size) = bindings.frame {
            env = Env::new(Some(env), size as usize);
        }
        let (values, needs) = (bindings.values, bindings.needs as usize);
        env.set_each(bindings.first, values.len(), |i| {
            if i == needs { Value::UNSET } else { self.delay(&values[i], env) }
        });
        if let Some(needed) = values.get(needs) {
            let value = self.eval_needed(needed, env)?;
            env.set(bindings.first + bindings.needs, value);
        }
        Ok(env)
    }

    /// The value of what is going to be looked at first, for whoever looks.
    #[inline]
    fn eval_needed(&mut self, expr: &'static Expr, env: Env) -> EvalResult<Value> {
        match self.eval(expr, env) {
            Ok(value) if !value.is_fun() => Ok(value),
            Ok(function) => Ok(Thunk::finished(function).value()),
            // It says nothing of the value, which is suspended again further out.
            Err(error) if self.ahead || error.kind() == ErrorKind::Interrupted => Err(error),
            // It is found where the value is looked at.
            Err(error) => Ok(Thunk::failed(error).value()),
        }
    }

    #[inline(always)]
    pub(crate) fn eval_bool(
        &mut self,
        expr: &'static Expr,
        env: Env,
        pos: Pos,
        what: &'static str,
    ) -> EvalResult<bool> {
        match self.eval(expr, env) {
            Ok(Value::TRUE) => Ok(true),
            Ok(Value::FALSE) => Ok(false),
            other => Err(self.no_bool(other, pos, what)),
        }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn no_bool(&mut self, found: EvalResult<Value>, pos: Pos, what: &'static str) -> EvalError {
        let error = match found {
            Ok(other) => self.type_error(other, "a Boolean", pos),
            Err(error) => error,
        };
        error.context(pos, what)
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
