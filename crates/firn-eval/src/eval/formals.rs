//! Patterns of arguments: `{ a, b ? 1, ... }`.

use super::call::call_site;
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::expr::*;
use crate::shape::Shape;
use crate::source::Pos;
use crate::table::Table;
use crate::value::{Env, Value};
use crate::vm::Vm;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::sync::atomic::Ordering;

/// Where the formals of a function are in sets of one shape.
struct FormalPlan {
    /// For each formal the place in the set, or [`ABSENT`].
    places: Box<[u32]>,
    /// No place is absent.
    complete: bool,
}

const ABSENT: u32 = u32::MAX;

impl Vm {
    /// Binds the formals to the attributes of a forced value.
    #[inline(never)]
    pub(super) fn bind_formals(
        &mut self,
        lambda: &'static Lambda,
        formals: &'static FormalArgs,
        value: Value,
        env: Env,
        pos: Pos,
    ) -> EvalResult<()> {
        let Some(attrs) = value.as_attrs() else {
            let error = self.type_error(value, "a set", Pos::NONE);
            return Err(argument_trace(error, lambda, pos));
        };
        if let Some((at, _)) = formals.at {
            env.set(at, value);
        }
        let shape = attrs.shape();
        let plan = match cached_plan(formals, shape) {
            Some(plan) => plan,
            None => self.plan_formals(lambda, formals, shape).map_err(|e| call_site(e, pos))?,
        };
        let values = attrs.values();
        env.set_each(formals.first, plan.places.len(), |n| match plan.places[n] {
            ABSENT => Value::UNSET,
            place => values.get(place as usize),
        });
        if !plan.complete {
            for (n, place) in plan.places.iter().enumerate() {
                if let (ABSENT, Some(default)) = (*place, &formals.formals[n].default) {
                    let value = self.delay(default, env);
                    env.set(formals.first + n as u32, value);
                }
            }
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn plan_formals(
        &mut self,
        lambda: &'static Lambda,
        formals: &'static FormalArgs,
        shape: &'static Shape,
    ) -> EvalResult<&'static FormalPlan> {
        let name = || lambda.name.map_or_else(|| "anonymous lambda".to_owned(), |n| n.to_string());
        let mut places = Vec::with_capacity(formals.formals.len());
        let mut used = 0;
        for formal in formals.formals {
            match shape.find(formal.name) {
                Some(place) => {
                    places.push(place as u32);
                    used += 1;
                }
                None if formal.default.is_some() => places.push(ABSENT),
                None => {
                    return Err(EvalError::at(
                        ErrorKind::MissingArgument,
                        lambda.pos,
                        format!(
                            "function '{}' called without required argument '{}'",
                            name(),
                            formal.name.shown()
                        ),
                    ));
                }
            }
        }
        if !formals.ellipsis && used != shape.len() {
            for sym in shape.syms() {
                if formals.formals.iter().all(|f| f.name != *sym) {
                    let names = formals.formals.iter().map(|f| f.name.as_bytes());
                    return Err(EvalError::at(
                        ErrorKind::Type,
                        lambda.pos,
                        format!("function '{}' called with unexpected argument '{}'", name(), sym.shown()),
                    )
                    .with_suggestions(crate::fmt::suggest::best_matches(names, sym.as_bytes())));
                }
            }
        }
        remember(formals, shape, FormalPlan { complete: !places.contains(&ABSENT), places: places.into() })
            .ok_or_else(|| EvalError::new(ErrorKind::Eval, "lost the plan of a function's arguments"))
    }
}

#[cold]
fn argument_trace(error: EvalError, lambda: &'static Lambda, pos: Pos) -> EvalError {
    let what = "while evaluating the value passed for the lambda argument";
    call_site(error.context(lambda.pos, what), pos)
}

/// All plans; those of one function and shape are found by [`PLAN_NUMBERS`], the last one by the function's cache.
static PLANS: Table<FormalPlan> = Table::new();
static PLAN_NUMBERS: Mutex<Option<FxHashMap<(usize, u32), u32>>> = Mutex::new(None);

#[inline]
fn cached_plan(formals: &'static FormalArgs, shape: &'static Shape) -> Option<&'static FormalPlan> {
    let cached = formals.cache.load(Ordering::Relaxed);
    if (cached >> 32) as u32 == shape.id {
        return PLANS.get(cached as u32);
    }
    let key = (formals as *const FormalArgs as usize, shape.id);
    let number = PLAN_NUMBERS.lock().as_ref()?.get(&key).copied()?;
    formals.cache.store((u64::from(shape.id) << 32) | u64::from(number), Ordering::Relaxed);
    PLANS.get(number)
}

fn remember(
    formals: &'static FormalArgs,
    shape: &'static Shape,
    plan: FormalPlan,
) -> Option<&'static FormalPlan> {
    let number = PLANS.push(plan);
    let key = (formals as *const FormalArgs as usize, shape.id);
    PLAN_NUMBERS.lock().get_or_insert_default().insert(key, number);
    formals.cache.store((u64::from(shape.id) << 32) | u64::from(number), Ordering::Relaxed);
    PLANS.get(number)
}
