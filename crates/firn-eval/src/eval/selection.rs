//! Attributes: selecting them, and asking whether they are there.

use crate::error::{ErrorKind, EvalError, EvalResult, TraceKind};
use crate::expr::*;
use crate::source::Pos;
use crate::value::{Attrs, Env, Value};
use crate::vm::Vm;
use firn_syntax::Sym;

impl Vm {
    fn step_name(&mut self, (expr, pos): &'static (Expr, Pos), env: Env) -> EvalResult<Sym> {
        let pos = *pos;
        let value = self.eval(expr, env)?;
        let name = self.string_no_context(value, pos, "while evaluating an attribute name")?;
        Ok(name.sym())
    }

    /// The selected value, forced; `None` when the default has to be taken.
    #[inline(always)]
    pub(super) fn select(&mut self, select: &'static Select, env: Env) -> EvalResult<Option<Value>> {
        let base = self.eval_inline(&select.base, env)?;
        let OnlyStep { name: Some(name), cache } = &select.only else {
            return self.select_along(base, select, env);
        };
        if let Some(attrs) = base.as_attrs() {
            match attrs.find_cached(*name, cache).map(|found| (found, found.known())) {
                Some((_, Some(known))) => return Ok(Some(known)),
                Some((found, None)) => return self.select_last(found, select, (attrs, *name), env),
                None if select.default.is_some() => return Ok(None),
                None => {}
            }
        }
        self.select_in(base, select, env)
    }

    /// [`Vm::select`] with several steps, or computed ones.
    #[inline(never)]
    fn select_along(&mut self, base: Value, select: &'static Select, env: Env) -> EvalResult<Option<Value>> {
        // Nearly always these are names of sets, which are there and evaluated, but for the last perhaps.
        let mut value = base;
        let mut steps = select.path.iter();
        while let Some(Step::Static { name, cache }) = steps.next() {
            let Some(attrs) = value.as_attrs() else { break };
            let Some(found) = attrs.find_cached(*name, cache) else {
                if select.default.is_some() {
                    return Ok(None);
                }
                break;
            };
            match found.known() {
                Some(known) if steps.len() == 0 => return Ok(Some(known)),
                Some(known) => value = known,
                None => match steps.as_slice() {
                    [] => return self.select_last(found, select, (attrs, *name), env),
                    [Step::Static { .. }, ..] => match self.force_at(found, select.pos) {
                        Ok(known) => value = known,
                        Err(error) => {
                            return Err(self.select_trace(error, select, Some((attrs, *name)), env));
                        }
                    },
                    // The next name is evaluated first.
                    [Step::Dynamic(_), ..] => break,
                },
            }
        }
        self.select_in(base, select, env)
    }

    /// The value of a selection's last attribute.
    #[inline(never)]
    fn select_last(
        &mut self,
        value: Value,
        select: &'static Select,
        last: (Attrs, Sym),
        env: Env,
    ) -> EvalResult<Option<Value>> {
        // Applications are called from here, and what is being computed needs itself here.
        let code = value.as_thunk().is_some_and(|thunk| thunk.is_code());
        let pos = if code { Pos::NONE } else { select_place(select, last) };
        match self.force_at(value, pos) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(self.select_trace(error, select, Some(last), env)),
        }
    }

    /// [`Vm::select`] where what is selected from is known.
    #[inline(never)]
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
        match last {
            Some(last) if value.is_thunk() => self.select_last(value, select, last, env),
            _ => Ok(Some(value)),
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
    pub(super) fn has_attr(&mut self, has: &'static HasAttr, env: Env) -> EvalResult<Value> {
        let mut value = self.eval_inline(&has.base, env)?;
        if let OnlyStep { name: Some(name), cache } = &has.only {
            let found = value.as_attrs().and_then(|attrs| attrs.find_cached(*name, cache));
            return Ok(Value::bool(found.is_some()));
        }
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
}

/// Where a selection evaluates its last attribute.
fn select_place(select: &Select, (attrs, name): (Attrs, Sym)) -> Pos {
    let cache = match (&select.only, select.path.last()) {
        (OnlyStep { name: Some(_), cache }, _) | (_, Some(Step::Static { cache, .. })) => Some(cache),
        _ => None,
    };
    let known = cache.and_then(|cache| attrs.position_as_before(cache));
    let pos = known.unwrap_or_else(|| attrs.position_of(name));
    if pos.is_none() { select.pos } else { pos }
}

#[cold]
fn missing_attribute(attrs: Attrs, name: Sym, pos: Pos) -> EvalError {
    let names = attrs.shape().syms().iter().map(|s| s.as_bytes());
    EvalError::at(ErrorKind::MissingAttribute, pos, format!("attribute '{}' missing", name.shown()))
        .with_suggestions(crate::fmt::suggest::best_matches(names, name.as_bytes()))
}
