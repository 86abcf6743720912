//! Lists.

use super::{Entry, entry};
use crate::attrs::{AttrsBuilder, Groups};
use crate::coerce::place_of;
use crate::error::{ErrorKind, EvalError, EvalResult, ResultExt};
use crate::source::Pos;
use crate::value::{ListBuilder, Thunk, Value, ValueVec, has_room};
use crate::vm::Vm;
use firn_syntax::sym;

pub(super) const TABLE: &[Entry] = &[
    entry("head", 1, head),
    entry("tail", 1, tail),
    entry("elemAt", 2, elem_at),
    entry("length", 1, length),
    entry("map", 2, map),
    entry("filter", 2, filter),
    entry("elem", 2, elem),
    entry("concatLists", 1, concat_lists),
    entry("concatMap", 2, concat_map),
    entry("foldl'", 3, foldl),
    entry("any", 2, any),
    entry("all", 2, all),
    entry("genList", 2, gen_list),
    entry("sort", 2, super::sort::sort),
    entry("partition", 2, partition),
    entry("groupBy", 2, group_by),
];

fn head(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let list =
        vm.force_list(args[0], pos, "while evaluating the first argument passed to 'builtins.head'")?;
    if list.is_empty() {
        return Err(EvalError::at(ErrorKind::Eval, pos, "'builtins.head' called on an empty list"));
    }
    vm.force_at(list.get(0), pos)
}

fn tail(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let list =
        vm.force_list(args[0], pos, "while evaluating the first argument passed to 'builtins.tail'")?;
    if list.is_empty() {
        return Err(EvalError::at(ErrorKind::Eval, pos, "'builtins.tail' called on an empty list"));
    }
    Ok(list.tail_from(1))
}

fn elem_at(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let n = vm.force_int(args[1], pos, "while evaluating the second argument passed to 'builtins.elemAt'")?;
    let list =
        vm.force_list(args[0], pos, "while evaluating the first argument passed to 'builtins.elemAt'")?;
    match usize::try_from(n).ok().filter(|n| *n < list.len()) {
        Some(n) => vm.force_at(list.get(n), pos),
        None => Err(EvalError::at(
            ErrorKind::Eval,
            pos,
            format!("'builtins.elemAt' called with index {n} on a list of size {}", list.len()),
        )),
    }
}

fn length(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let list =
        vm.force_list(args[0], pos, "while evaluating the first argument passed to builtins.length")?;
    Ok(Value::int(list.len() as i64))
}

fn map(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let list = vm.force_list(args[1], pos, "while evaluating the second argument passed to builtins.map")?;
    if list.is_empty() {
        return Ok(Value::EMPTY_LIST);
    }
    let f = vm.force_function(args[0], pos, "while evaluating the first argument passed to builtins.map")?;
    let mut out = ListBuilder::new(list.len());
    for item in list.iter() {
        out.push(Thunk::apply(f, item).value());
    }
    Ok(out.finish())
}

fn filter(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let list =
        vm.force_list(args[1], pos, "while evaluating the second argument passed to builtins.filter")?;
    if list.is_empty() {
        return Ok(Value::EMPTY_LIST);
    }
    let f =
        vm.force_function(args[0], pos, "while evaluating the first argument passed to builtins.filter")?;
    let mut kept = ValueVec::with_capacity(list.len());
    let what = "while evaluating the return value of the filtering function passed to builtins.filter";
    for item in list.iter() {
        let keep = vm.call(f, &[item], pos)?;
        if vm.force_bool(keep, pos, what)? {
            kept.push(item.settled());
        }
    }
    if kept.len() == list.len() {
        return vm.force_at(args[1], pos);
    }
    Ok(kept.to_list())
}

fn elem(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let list = vm.force_list(args[1], pos, "while evaluating the second argument passed to builtins.elem")?;
    for item in list.iter() {
        let same = vm.equal(args[0], item, pos).context(pos, "")?;
        if same {
            return Ok(Value::TRUE);
        }
    }
    Ok(Value::FALSE)
}

fn concat_lists(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let lists =
        vm.force_list(args[0], pos, "while evaluating the first argument passed to builtins.concatLists")?;
    let what = "while evaluating a value of the list passed to builtins.concatLists";
    let mut forced = ValueVec::with_capacity(lists.len());
    for list in lists.iter() {
        let list = vm.force_at(list, pos)?;
        vm.force_list(list, pos, what)?;
        forced.push(list);
    }
    vm.concat_lists(forced.as_slice(), pos, what)
}

fn concat_map(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let f =
        vm.force_function(args[0], pos, "while evaluating the first argument passed to builtins.concatMap")?;
    let list =
        vm.force_list(args[1], pos, "while evaluating the second argument passed to builtins.concatMap")?;
    let what = "while evaluating the return value of the function passed to builtins.concatMap";
    let mut parts = ValueVec::with_capacity(list.len());
    for item in list.iter() {
        let part = vm.call(f, &[item], pos)?;
        if part.as_list().is_none() {
            vm.force_list(part, place_of(part, place_of(f, pos)), what)?;
        }
        parts.push(part);
    }
    vm.concat_lists(parts.as_slice(), pos, what)
}

fn foldl(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let f = vm.force_function(
        args[0],
        pos,
        "while evaluating the first argument passed to builtins.foldlStrict",
    )?;
    let list =
        vm.force_list(args[2], pos, "while evaluating the third argument passed to builtins.foldlStrict")?;
    let mut result = args[1];
    for (i, item) in list.iter().enumerate() {
        result = vm.call(f, &[result, item], pos)?;
        list.settle(i, item);
    }
    vm.force_at(result, pos)
}

fn any_all(vm: &mut Vm, args: &[Value], pos: Pos, any: bool) -> EvalResult<Value> {
    let what: [&'static str; 3] = if any {
        [
            "while evaluating the first argument passed to builtins.any",
            "while evaluating the second argument passed to builtins.any",
            "while evaluating the return value of the function passed to builtins.any",
        ]
    } else {
        [
            "while evaluating the first argument passed to builtins.all",
            "while evaluating the second argument passed to builtins.all",
            "while evaluating the return value of the function passed to builtins.all",
        ]
    };
    let f = vm.force_function(args[0], pos, what[0])?;
    let list = vm.force_list(args[1], pos, what[1])?;
    for item in list.iter() {
        let result = vm.call(f, &[item], pos)?;
        if vm.force_bool(result, pos, what[2])? == any {
            return Ok(Value::bool(any));
        }
    }
    Ok(Value::bool(!any))
}

fn any(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    any_all(vm, args, pos, true)
}

fn all(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    any_all(vm, args, pos, false)
}

fn gen_list(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let n = vm.force_int(args[1], pos, "while evaluating the second argument passed to builtins.genList")?;
    let Some(len) = usize::try_from(n).ok().filter(|n| *n < 1 << 40) else {
        return Err(EvalError::at(ErrorKind::Eval, pos, format!("cannot create list of size {n}")));
    };
    let f =
        vm.force_function(args[0], pos, "while evaluating the first argument passed to builtins.genList")?;
    // A word for each element, and two for what is suspended.
    if !has_room(len.saturating_mul(3)) {
        return Err(EvalError::at(ErrorKind::Eval, pos, format!("out of memory: a list of {n} elements")));
    }
    let mut out = ListBuilder::new(len);
    for i in 0..len {
        if i % INTERRUPTIBLE == 0 {
            vm.check_stack(pos)?;
        }
        out.push(Thunk::apply(f, Value::int(i as i64)).value());
    }
    Ok(out.finish())
}

/// After how many elements somebody who wants to stop is heard.
const INTERRUPTIBLE: usize = 1 << 16;

fn partition(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let f =
        vm.force_function(args[0], pos, "while evaluating the first argument passed to builtins.partition")?;
    let list =
        vm.force_list(args[1], pos, "while evaluating the second argument passed to builtins.partition")?;
    let what = "while evaluating the return value of the partition function passed to builtins.partition";
    let (mut right, mut wrong) = (ValueVec::default(), ValueVec::default());
    for item in list.iter() {
        vm.force_at(item, pos)?;
        let result = vm.call(f, &[item], pos)?;
        if vm.force_bool(result, pos, what)? {
            right.push(item.settled());
        } else {
            wrong.push(item.settled());
        }
    }
    let mut attrs = AttrsBuilder::with_capacity(2);
    attrs.push(sym!("right"), right.to_list());
    attrs.push(sym!("wrong"), wrong.to_list());
    Ok(attrs.finish())
}

fn group_by(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let f =
        vm.force_function(args[0], pos, "while evaluating the first argument passed to builtins.groupBy")?;
    let list =
        vm.force_list(args[1], pos, "while evaluating the second argument passed to builtins.groupBy")?;
    let what = "while evaluating the return value of the grouping function passed to builtins.groupBy";
    let mut groups = Groups::default();
    for item in list.iter() {
        let name = vm.call(f, &[item], pos)?;
        let name = vm.string_no_context(name, pos, what)?;
        let name = name.sym();
        groups.push(name, item);
    }
    let mut attrs = AttrsBuilder::new();
    groups.each(|name, members| attrs.push(name, members));
    Ok(attrs.finish())
}
