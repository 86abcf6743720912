//! Calling functions.

use super::Args;
use crate::error::{ErrorKind, EvalError, EvalResult, ResultExt, TraceKind};
use crate::expr::*;
use crate::source::Pos;
use crate::value::{CallFrame, Closure, Env, Fun, PartialApp, Thunk, Value};
use crate::vm::{Call, Vm};
use crate::watch::Callee;
use firn_syntax::sym;

/// What is left to do after a call: nothing, or to run a body.
pub(super) enum Next {
    Value(Value),
    Body(&'static Expr, CallFrame),
}

/// No builtin takes more arguments.
const MAX_PRIMOP_ARITY: usize = 3;

/// Whether a call gives a builtin all of its arguments and no more.
pub(crate) fn takes_all(primop: &PrimOp, call: &CallExpr) -> bool {
    primop.arity == call.args.len() && primop.arity <= MAX_PRIMOP_ARITY
}

impl Vm {
    /// The function of a call, where it is found without evaluating anything.
    #[inline(always)]
    pub(super) fn known_function(call: &'static CallExpr, env: Env) -> Option<Value> {
        let function = match call.function {
            Expr::Local { slot, .. } => env.get(slot),
            Expr::Outer { depth, slot, .. } => env.up(depth).get(slot),
            Expr::WithVar(var) => var.found.get(env.up(var.innermost?))?,
            _ => return None,
        };
        function.known().filter(|function| function.is_fun())
    }

    /// Calls that are not of a function or builtin that has none of its arguments and gets all of them: with more or
    /// fewer, and of what is called like a function.
    #[inline(never)]
    pub(super) fn call_otherwise(
        &mut self,
        function: Value,
        call: &'static CallExpr,
        env: Env,
    ) -> EvalResult<Next> {
        if let Some(closure) = function.as_closure() {
            if closure.args.len() + call.args.len() == closure.lambda.arity() {
                return self.call_exactly(closure, call, env);
            }
        }
        let mut args = Args::new();
        for arg in call.args {
            args.push(self.delay_argument(arg, env));
        }
        self.apply(function, args.as_slice(), call.pos)
    }

    /// Calls a closure with as many arguments as it still needs.
    fn call_exactly(&mut self, closure: Closure, call: &'static CallExpr, env: Env) -> EvalResult<Next> {
        let lambda = closure.lambda;
        let frame = match lambda.formals {
            Some(formals) => self.call_with_set(closure, formals, call, env)?,
            None => self.call_with_args(lambda, closure.env, closure.args, call, env)?,
        };
        Ok(Next::Body(&lambda.body, frame))
    }

    /// Calls a closure that has none of its arguments yet with all of them.
    #[inline(always)]
    pub(super) fn call_whole(
        &mut self,
        lambda: &'static Lambda,
        scope: Env,
        call: &'static CallExpr,
        env: Env,
    ) -> EvalResult<CallFrame> {
        match lambda.formals {
            Some(formals) => {
                self.call_with_set(Closure { lambda, env: scope, args: &[] }, formals, call, env)
            }
            None => self.call_with_args(lambda, scope, &[], call, env),
        }
    }

    /// The frame of a call whose arguments, after those that the closure has already, go straight into it.
    #[inline(always)]
    fn call_with_args(
        &mut self,
        lambda: &'static Lambda,
        scope: Env,
        before: &[Value],
        call: &'static CallExpr,
        env: Env,
    ) -> EvalResult<CallFrame> {
        self.begin_call(call.args.len(), call.pos)?;
        self.calls.push(Call { lambda: Some(lambda), pos: call.pos });
        let (args, needs) = (call.args, (lambda.needs as usize).wrapping_sub(before.len()));
        let needed = match args.get(needs) {
            Some(arg) => self.needed_argument(arg, env)?,
            None => Value::UNSET,
        };
        Ok(CallFrame::filled(scope, lambda.frame, before, args.len(), |i| {
            if i == needs { needed } else { self.delay_argument(&args[i], env) }
        }))
    }

    /// The frame of a call whose last argument is a set, the attributes of which are the function's variables.
    #[inline(never)]
    fn call_with_set(
        &mut self,
        closure: Closure,
        formals: &'static FormalArgs,
        call: &'static CallExpr,
        env: Env,
    ) -> EvalResult<CallFrame> {
        let lambda = closure.lambda;
        self.begin_call(call.args.len(), call.pos)?;
        let Some((last, first)) = call.args.split_last() else { unreachable!("a call has arguments") };
        let owned = CallFrame::filled(closure.env, lambda.frame, closure.args, first.len(), |i| {
            self.delay_argument(&first[i], env)
        });
        // It is needed at once.
        let value = self.eval(last, env).map_err(|e| call_site(e, call.pos))?;
        self.bind_formals(lambda, formals, value, owned.env(), call.pos)?;
        self.calls.push(Call { lambda: Some(lambda), pos: call.pos });
        Ok(owned)
    }

    /// The argument that the function whose call was recorded last looks at first.
    #[inline]
    fn needed_argument(&mut self, arg: &'static Expr, env: Env) -> EvalResult<Value> {
        if matches!(arg, Expr::Const(_) | Expr::Local { .. } | Expr::Outer { .. } | Expr::Lambda(_)) {
            return Ok(self.delay(arg, env));
        }
        let value = self.eval_needed(arg, env);
        if value.is_err() {
            self.calls.pop();
        }
        value
    }

    /// Calls a function to the end.
    pub fn call(&mut self, function: Value, args: &[Value], pos: Pos) -> EvalResult<Value> {
        let function = self.force_at(function, pos)?;
        if self.watch.is_some() {
            return self.call_watched(function, args, pos);
        }
        self.call_forced(function, args, pos)
    }

    #[inline]
    pub(crate) fn call_forced(&mut self, function: Value, args: &[Value], pos: Pos) -> EvalResult<Value> {
        if let Some(closure) = function.as_closure() {
            if closure.args.len() + args.len() == closure.lambda.arity() {
                let frame = self.enter(closure, args, pos)?;
                return self.eval_body(&closure.lambda.body, frame);
            }
        }
        match self.apply(function, args, pos)? {
            Next::Value(value) => Ok(value),
            Next::Body(body, frame) => self.eval_body(body, frame),
        }
    }

    #[inline(never)]
    fn apply(&mut self, function: Value, args: &[Value], pos: Pos) -> EvalResult<Next> {
        let mut function = function;
        let mut args = args;
        loop {
            let Some((first, rest)) = args.split_first() else { return Ok(Next::Value(function)) };
            match function.as_fun() {
                Some(Fun::Closure(closure)) => {
                    let missing = closure.lambda.arity() - closure.args.len();
                    if args.len() < missing {
                        self.stats.function_calls += args.len() as u64;
                        return Ok(Next::Value(Value::partial_closure(closure, args)));
                    }
                    let (now, later) = args.split_at(missing);
                    let frame = self.enter(closure, now, pos)?;
                    if later.is_empty() {
                        return Ok(Next::Body(&closure.lambda.body, frame));
                    }
                    function = self.eval_body(&closure.lambda.body, frame)?;
                    args = later;
                }
                Some(Fun::PrimOp(primop)) => {
                    if args.len() < primop.arity {
                        return Ok(Next::Value(Value::partial(primop, &[args])));
                    }
                    let (now, later) = args.split_at(primop.arity);
                    function = self.call_primop(primop, now, pos)?;
                    args = later;
                }
                Some(Fun::Partial(PartialApp { primop, args: before })) => {
                    let missing = primop.arity - before.len();
                    if args.len() < missing {
                        return Ok(Next::Value(Value::partial(primop, &[before, args])));
                    }
                    let (now, later) = args.split_at(missing);
                    let mut all = Args::new();
                    all.extend_from_slice(before);
                    all.extend_from_slice(now);
                    function = self.call_primop(primop, all.as_slice(), pos)?;
                    args = later;
                }
                None => {
                    function = self.call_functor(function, *first, pos)?;
                    args = rest;
                }
            }
        }
    }

    #[inline]
    pub(super) fn eval_builtin(&mut self, builtin: &'static BuiltinCall, env: Env) -> EvalResult<Value> {
        self.call_primop_directly(builtin.primop, builtin.call, env)
    }

    /// Calls a builtin with all of its arguments.
    #[inline(never)]
    pub(super) fn call_primop_directly(
        &mut self,
        primop: &'static PrimOp,
        call: &'static CallExpr,
        env: Env,
    ) -> EvalResult<Value> {
        self.check_depth(call.pos)?;
        self.calls.push(Call { lambda: None, pos: call.pos });
        match call.args {
            [arg] => {
                let value = match primop.eager {
                    [] => self.delay_argument(arg, env),
                    _ if primop.coerces => self.eager_text(arg, env, call.pos),
                    _ => self.eager_argument(arg, env),
                };
                self.run_primop(primop, &[value], call.pos)
            }
            [first, second] => {
                let (mut a, mut b) = (Value::UNSET, Value::UNSET);
                match primop.eager {
                    [] => {}
                    [1, ..] => {
                        b = self.eager_argument(second, env);
                        if primop.eager.len() == 2 && !b.is_thunk() {
                            a = self.eager_argument(first, env);
                        }
                    }
                    _ => {
                        a = self.eager_argument(first, env);
                        if primop.eager.len() == 2 && !a.is_thunk() {
                            b = self.eager_argument(second, env);
                        }
                    }
                }
                if a.is_unset() {
                    a = self.delay_argument(first, env);
                }
                if b.is_unset() {
                    b = self.delay_argument(second, env);
                }
                self.run_primop(primop, &[a, b], call.pos)
            }
            args => {
                let mut values = [Value::UNSET; MAX_PRIMOP_ARITY];
                for i in primop.eager {
                    let value = self.eager_argument(&args[*i as usize], env);
                    values[*i as usize] = value;
                    if value.is_thunk() {
                        break;
                    }
                }
                for i in 0..args.len() {
                    if values[i].is_unset() {
                        values[i] = self.delay_argument(&args[i], env);
                    }
                }
                self.run_primop(primop, &values[..args.len()], call.pos)
            }
        }
    }

    /// An argument that a builtin evaluates before anything else. When that fails it finds the error where it looks, and
    /// says what it wanted.
    #[inline]
    fn eager_argument(&mut self, arg: &'static Expr, env: Env) -> Value {
        match self.eval_argument(arg, env) {
            Ok(value) => value,
            Err(error) => Thunk::failed(error).value(),
        }
    }

    /// A variable has no place here: the builtin is handed what it stands for, and evaluates that.
    #[inline(always)]
    fn eval_argument(&mut self, arg: &'static Expr, env: Env) -> EvalResult<Value> {
        match *arg {
            Expr::Local { slot, .. } => self.variable(env, slot, Pos::NONE),
            Expr::Outer { depth, slot, .. } => self.variable(env.up(depth), slot, Pos::NONE),
            _ => self.eval_inline(arg, env),
        }
    }

    /// [`Vm::eager_argument`] for one that becomes a string, which is a level of its own.
    #[inline(never)]
    fn eager_text(&mut self, arg: &'static Expr, env: Env, pos: Pos) -> Value {
        match self.nested(pos, |vm| vm.eval_argument(arg, env)) {
            Ok(value) => value,
            Err(error) => Thunk::failed(error).value(),
        }
    }

    fn call_primop(&mut self, primop: &'static PrimOp, args: &[Value], pos: Pos) -> EvalResult<Value> {
        self.check_depth(pos)?;
        self.calls.push(Call { lambda: None, pos });
        self.run_primop(primop, args, pos)
    }

    /// Runs a builtin whose call has been recorded.
    #[inline]
    fn run_primop(&mut self, primop: &'static PrimOp, args: &[Value], pos: Pos) -> EvalResult<Value> {
        self.stats.primop_calls += 1;
        // As in the reference, a builtin does not know where it was called: its own messages name no place.
        let result = (primop.run)(self, args, Pos::NONE);
        self.calls.pop();
        match result {
            Ok(value) => self.force_at(value, pos),
            Err(error) if primop.name == "addErrorContext" => Err(error),
            Err(error) => Err(error.trace(pos, TraceKind::Builtin(primop.name))),
        }
    }

    #[cold]
    fn call_functor(&mut self, function: Value, arg: Value, pos: Pos) -> EvalResult<Value> {
        let attrs = function.as_attrs();
        let functor = attrs.and_then(|a| Some((a, a.shape().find(sym!("__functor"))?)));
        match functor {
            Some((attrs, place)) => {
                let at = attrs.position(place);
                self.nested(pos, |vm| {
                    // Whether there may be such a call at all is not its matter.
                    Ok(vm.call_method(attrs.get(place), &[function, arg], at).traced(pos, || {
                        TraceKind::Static(
                            "while calling a functor (an attribute set with a '__functor' attribute)",
                        )
                    }))
                })?
            }
            None => {
                let shown = self.show_for_error(function);
                let kind = crate::coerce::type_phrase(function);
                Err(EvalError::at(
                    ErrorKind::Type,
                    pos,
                    format!("attempt to call something which is not a function but {kind}: {shown}"),
                ))
            }
        }
    }

    fn call_method(&mut self, method: Value, args: &[Value], pos: Pos) -> EvalResult<Value> {
        if self.watch.is_none() {
            return self.call(method, args, pos);
        }
        let method = self.force_at(method, pos)?;
        self.call_as(&Callee::Other, method, args, pos)
    }

    /// Counts a call with so many arguments, and looks whether there may be another one.
    #[inline(always)]
    fn begin_call(&mut self, args: usize, pos: Pos) -> EvalResult<()> {
        self.stats.function_calls += args as u64;
        self.check_depth(pos)?;
        self.check_stack(pos)
    }

    /// The frame of a call with the arguments that the closure has already, and others.
    #[inline(always)]
    fn open_call(&mut self, closure: Closure, args: &[Value], pos: Pos) -> EvalResult<CallFrame> {
        self.begin_call(closure.lambda.arity() - closure.args.len(), pos)?;
        Ok(CallFrame::new(closure.env, closure.lambda.frame, closure.args, args))
    }

    /// The frame of a call with all arguments that are missing, recorded as running.
    #[inline]
    fn enter(&mut self, closure: Closure, args: &[Value], pos: Pos) -> EvalResult<CallFrame> {
        let lambda = closure.lambda;
        let owned = match (args.split_last(), lambda.formals) {
            (Some((last, first)), Some(formals)) => {
                let owned = self.open_call(closure, first, pos)?;
                let value = self.force_at(*last, lambda.pos).map_err(|e| call_site(e, pos))?;
                self.bind_formals(lambda, formals, value, owned.env(), pos)?;
                owned
            }
            _ => self.open_call(closure, args, pos)?,
        };
        self.calls.push(Call { lambda: Some(lambda), pos });
        Ok(owned)
    }
}

#[cold]
pub(super) fn call_site(error: EvalError, pos: Pos) -> EvalError {
    if pos.is_none() { error } else { error.trace(pos, TraceKind::CallSite) }
}
