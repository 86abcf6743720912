//! Questions about types.

use super::{Entry, entry};
use crate::coerce::type_name;
use crate::error::EvalResult;
use crate::source::Pos;
use crate::value::{Kind, Value};
use crate::vm::Vm;
use firn_syntax::Sym;

macro_rules! question {
    ($name:ident, $pattern:pat) => {
        fn $name(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
            let value = vm.force_at(args[0], pos)?;
            Ok(Value::bool(matches!(value.kind(), $pattern)))
        }
    };
}

question!(is_attrs, Kind::Attrs(_));
question!(is_bool, Kind::Bool(_));
question!(is_float, Kind::Float(_));
question!(is_function, Kind::Fun(_));
question!(is_int, Kind::Int(_));
question!(is_list, Kind::List(_));
question!(is_null, Kind::Null);
question!(is_path, Kind::Path(_));
question!(is_string, Kind::Str(_));

pub(super) const TABLE: &[Entry] = &[
    entry("isAttrs", 1, is_attrs),
    entry("isBool", 1, is_bool),
    entry("isFloat", 1, is_float),
    entry("isFunction", 1, is_function),
    entry("isInt", 1, is_int),
    entry("isList", 1, is_list),
    entry("isNull", 1, is_null),
    entry("isPath", 1, is_path),
    entry("isString", 1, is_string),
    entry("typeOf", 1, type_of),
];

fn type_of(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let value = vm.force_at(args[0], pos)?;
    Ok(Value::name(Sym::from_static(type_name(value))))
}
