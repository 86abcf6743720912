//! Set expressions.

use crate::attrs::AttrsBuilder;
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::expr::*;
use crate::render::shown_place;
use crate::source::Pos;
use crate::value::{Attrs, Env, Thunk, Value};
use crate::vm::Vm;
use firn_syntax::Sym;

impl Vm {
    #[inline(never)]
    pub(super) fn eval_set(&mut self, set: &'static SetExpr, env: Env) -> EvalResult<Value> {
        if !set.plain {
            return self.eval_set_in_frame(set, env);
        }
        let values = set.values;
        assert!(values.len() == set.shape.len(), "as many values as names");
        Ok(Attrs::filled(set.shape, set.positions, |i| self.delay_element(&values[i], env)).value())
    }

    /// A set that is recursive, has `inherit (e)`, or is not known as it stands there.
    #[inline(never)]
    fn eval_set_in_frame(&mut self, set: &'static SetExpr, outer: Env) -> EvalResult<Value> {
        let mut env = outer;
        if let Some(size) = set.frame {
            env = Env::new(Some(outer), size as usize);
            let first_from = if set.recursive { set.values.len() as u32 } else { 0 };
            for (i, from) in set.from.iter().enumerate() {
                // A source is evaluated once, however many attributes come from it.
                env.set(first_from + i as u32, Thunk::new(from, env).value());
            }
        }
        if set.overrides.is_some() || !set.dynamic.is_empty() {
            return self.eval_unusual_set(set, env);
        }
        let attrs = Attrs::filled(set.shape, set.positions, |i| {
            let value = self.delay_element(&set.values[i], env);
            if set.recursive {
                env.set(i as u32, value);
            }
            value
        });
        Ok(attrs.value())
    }

    /// A set that has `__overrides` or names that are computed.
    #[inline(never)]
    fn eval_unusual_set(&mut self, set: &'static SetExpr, env: Env) -> EvalResult<Value> {
        let attrs = Attrs::filled(set.shape, set.positions, |i| {
            // With `__overrides`, a variable must not be copied before it is known what it stands for.
            let value = match &set.values[i] {
                expr @ Expr::Local { .. } if set.overrides.is_some() => Thunk::new(expr, env).value(),
                expr => self.delay_element(expr, env),
            };
            if set.recursive {
                env.set(i as u32, value);
            }
            value
        });
        self.finish_set(set, attrs, env)
    }

    #[cold]
    fn finish_set(&mut self, set: &'static SetExpr, mut attrs: Attrs, env: Env) -> EvalResult<Value> {
        if let Some(place) = set.overrides {
            let what = "while evaluating the `__overrides` attribute";
            let overrides = self.force(attrs.get(place as usize))?;
            let Some(overrides) = overrides.as_attrs() else {
                return Err(self.type_error(overrides, "a set", Pos::NONE).context(Pos::NONE, what));
            };
            for (i, name) in overrides.shape().syms().iter().enumerate() {
                if let Some(slot) = set.shape.find(*name) {
                    env.set(slot as u32, overrides.get(i));
                }
            }
            attrs = self.update(attrs, overrides);
        }
        if set.dynamic.is_empty() {
            return Ok(attrs.value());
        }
        let mut builder = AttrsBuilder::from_attrs(attrs);
        let mut added: Vec<(Sym, Pos)> = Vec::new();
        for attr in set.dynamic {
            let name = self.eval(&attr.name, env)?;
            if name == Value::NULL {
                continue;
            }
            let name =
                self.string_no_context(name, attr.pos, "while evaluating the name of a dynamic attribute")?;
            let name = name.sym();
            let before = attrs
                .shape()
                .find(name)
                .map(|p| attrs.position(p))
                .or_else(|| added.iter().find(|(n, _)| *n == name).map(|(_, p)| *p));
            if let Some(before) = before {
                let place = shown_place(before, &*self.host).map(|p| p.display()).unwrap_or_default();
                return Err(EvalError::at(
                    ErrorKind::Eval,
                    attr.pos,
                    format!("dynamic attribute '{}' already defined at {place}", name.shown()),
                ));
            }
            added.push((name, attr.pos));
            let value = self.delay_element(&attr.value, env);
            builder.push_at(name, value, attr.pos);
        }
        Ok(builder.finish_at(set.positions.set()).value())
    }
}
