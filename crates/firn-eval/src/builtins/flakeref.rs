//! Flake references as text and as sets.

use super::{Entry, of_flakes};
use crate::attrs::AttrsBuilder;
use crate::coerce::type_phrase;
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::source::Pos;
use crate::value::{Kind, Value};
use crate::vm::Vm;
use firn_core::flake_ref::{Attr, Attrs, FlakeRef, FlakeRefError, ParseContext};
use firn_syntax::Sym;

pub(super) const TABLE: &[Entry] =
    &[of_flakes("parseFlakeRef", 1, parse), of_flakes("flakeRefToString", 1, render)];

/// Runs `f` with what the settings say.
pub(super) fn with_context<T>(
    vm: &Vm,
    f: impl FnOnce(&mut ParseContext<'_>) -> Result<T, FlakeRefError>,
) -> EvalResult<T> {
    let settings = vm.settings.clone();
    let has_feature = |name: &str| settings.has_feature(name);
    let mut context = ParseContext { has_feature: &has_feature, warnings: Vec::new() };
    let result = f(&mut context);
    for warning in &context.warnings {
        vm.in_turn()?;
        vm.host.warn(warning);
    }
    result.map_err(|error| EvalError::new(ErrorKind::Eval, error.message))
}

fn parse(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = "while evaluating the argument passed to builtins.parseFlakeRef";
    let text = vm.string_no_context(args[0], pos, what)?;
    let reference = with_context(vm, |context| FlakeRef::parse(text.as_bytes(), context))?;
    let attrs = reference.to_attrs();
    let mut out = AttrsBuilder::with_capacity(attrs.len());
    for (name, value) in attrs {
        let value = match value {
            Attr::Str(text) => Value::str(&text),
            Attr::Int(n) => Value::int(n as i64),
            Attr::Bool(b) => Value::bool(b),
        };
        out.push(Sym::new(name.as_bytes()), value);
    }
    Ok(out.finish())
}

fn render(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = "while evaluating the argument passed to builtins.flakeRefToString";
    let set = vm.force_attrs(args[0], Pos::NONE, what)?;
    let mut attrs = Attrs::new();
    for (i, name) in set.shape().syms().iter().enumerate() {
        let value = vm.force_at(set.get(i), set.position(i))?;
        let attr = match value.kind() {
            Kind::Int(n) => match u64::try_from(n) {
                Ok(n) => Attr::Int(n),
                Err(_) => {
                    let message = format!("negative value given for flake ref attr {name}: {n}");
                    return Err(EvalError::at(ErrorKind::Eval, pos, message));
                }
            },
            Kind::Bool(b) => Attr::Bool(b),
            Kind::Str(text) => Attr::str(text.as_bytes()),
            _ => {
                let message = format!(
                    "flake reference attribute sets may only contain integers, Booleans, and strings, \
                     but attribute '{name}' is {}",
                    type_phrase(value)
                );
                return Err(EvalError::new(ErrorKind::Eval, message));
            }
        };
        attrs.insert(name.to_string(), attr);
    }
    let text = with_context(vm, |context| FlakeRef::from_attrs(attrs, context)?.to_url())?;
    Ok(Value::str(text.as_bytes()))
}
