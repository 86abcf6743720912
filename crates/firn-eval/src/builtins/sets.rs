//! Sets and functions' arguments.

use super::{Entry, entry};
use crate::attrs::{AttrsBuilder, Groups};
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::shape::Shape;
use crate::source::Pos;
use crate::value::{Attrs, Fun, ListBuilder, Native, Positions, Thunk, Value, ValueVec};
use crate::vm::Vm;
use firn_syntax::{Sym, sym};
use rustc_hash::FxHashSet;
use smallvec::SmallVec;

pub(super) const TABLE: &[Entry] = &[
    entry("attrNames", 1, attr_names),
    entry("attrValues", 1, attr_values),
    entry("getAttr", 2, get_attr),
    entry("hasAttr", 2, has_attr),
    entry("unsafeGetAttrPos", 2, unsafe_get_attr_pos),
    entry("removeAttrs", 2, remove_attrs),
    entry("listToAttrs", 1, list_to_attrs),
    entry("intersectAttrs", 2, intersect_attrs),
    entry("catAttrs", 2, cat_attrs),
    entry("functionArgs", 1, function_args),
    entry("mapAttrs", 2, map_attrs),
    entry("zipAttrsWith", 2, zip_attrs_with),
];

fn attr_names(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let attrs = vm.force_attrs(args[0], pos, "while evaluating the argument passed to builtins.attrNames")?;
    let mut out = ListBuilder::new(attrs.len());
    for (name, _) in attrs.sorted() {
        out.push(Value::name(name));
    }
    Ok(out.finish())
}

fn attr_values(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let attrs =
        vm.force_attrs(args[0], pos, "while evaluating the argument passed to builtins.attrValues")?;
    let mut out = ListBuilder::new(attrs.len());
    for (_, value) in attrs.sorted() {
        out.push(value);
    }
    Ok(out.finish())
}

fn name_of(vm: &mut Vm, value: Value, pos: Pos, what: &'static str) -> EvalResult<Sym> {
    let name = vm.string_no_context(value, pos, what)?;
    Ok(name.sym())
}

fn get_attr(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let name = name_of(vm, args[0], pos, "while evaluating the first argument passed to builtins.getAttr")?;
    let attrs =
        vm.force_attrs(args[1], pos, "while evaluating the second argument passed to builtins.getAttr")?;
    let value = required(attrs, name, "in the attribute set under consideration")?;
    vm.force_at(value, pos)
}

/// An attribute that has to be there.
pub(super) fn required(attrs: Attrs, name: Sym, what: &'static str) -> EvalResult<Value> {
    attrs.find(name).ok_or_else(|| missing(name, what))
}

#[cold]
fn missing(name: Sym, what: &'static str) -> EvalError {
    EvalError::new(ErrorKind::MissingAttribute, format!("attribute '{}' missing", name.shown()))
        .context(Pos::NONE, what)
}

fn has_attr(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let name = name_of(vm, args[0], pos, "while evaluating the first argument passed to builtins.hasAttr")?;
    let attrs =
        vm.force_attrs(args[1], pos, "while evaluating the second argument passed to builtins.hasAttr")?;
    Ok(Value::bool(attrs.find(name).is_some()))
}

fn unsafe_get_attr_pos(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = "while evaluating the first argument passed to builtins.unsafeGetAttrPos";
    let name = name_of(vm, args[0], pos, what)?;
    let what = "while evaluating the second argument passed to builtins.unsafeGetAttrPos";
    let attrs = vm.force_attrs(args[1], pos, what)?;
    Ok(match attrs.shape().find(name) {
        Some(place) => vm.position_value(attrs.position(place)),
        None => Value::NULL,
    })
}

/// What is left of sets of a shape without some of their attributes: its shape, and where it is in the sets.
fn kept(
    shape: &'static Shape,
    mut keeps: impl FnMut(usize) -> bool,
) -> (&'static Shape, SmallVec<[u32; 32]>) {
    let mut places: SmallVec<[u32; 32]> = SmallVec::new();
    let mut syms: SmallVec<[Sym; 32]> = SmallVec::new();
    for (place, name) in shape.syms().iter().enumerate() {
        if keeps(place) {
            places.push(place as u32);
            syms.push(*name);
        }
    }
    let kept = if places.len() == shape.len() { shape } else { Shape::intern(&syms) };
    (kept, places)
}

/// The set without some of its attributes.
fn keep(attrs: Attrs, keeps: impl FnMut(usize) -> bool) -> Attrs {
    let (kept, places) = kept(attrs.shape(), keeps);
    take(attrs, kept, &places)
}

/// The set with no more than what is at some places, whose names are a shape.
fn take(attrs: Attrs, kept: &'static Shape, places: &[u32]) -> Attrs {
    if places.len() == attrs.len() {
        return attrs;
    }
    attrs.gathered(kept, Positions::by_name(kept, attrs), places)
}

fn remove_attrs(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let attrs =
        vm.force_attrs(args[0], pos, "while evaluating the first argument passed to builtins.removeAttrs")?;
    let names =
        vm.force_list(args[1], pos, "while evaluating the second argument passed to builtins.removeAttrs")?;
    let what = "while evaluating the values of the second argument passed to builtins.removeAttrs";
    let shape = attrs.shape();
    // The list nearly always stands in the text, without anything in it that is computed.
    let key = vm.force(args[1])?.list_identity().map(|list| (shape.id, list));
    if let Some(removal) = key.and_then(|key| vm.removals.get(key)) {
        return Ok(removal.keep(attrs).value());
    }
    let mut removed: SmallVec<[Sym; 8]> = SmallVec::new();
    for name in names.iter() {
        removed.push(vm.string_no_context(name, pos, what)?.sym());
    }
    if removed.is_empty() {
        return Ok(attrs.value());
    }
    removed.sort_unstable();
    let mut removed = removed.iter().peekable();
    // A set's names are sorted too.
    let keeps = |i: usize| {
        let name = &shape.syms()[i];
        while removed.next_if(|removed| *removed < name).is_some() {}
        removed.peek() != Some(&name)
    };
    let (kept, places) = kept(shape, keeps);
    let removal = Removal { kept, places: places.as_slice().into() };
    let result = removal.keep(attrs);
    if let Some(key) = key {
        vm.removals.note(key, removal);
    }
    Ok(result.value())
}

/// What is left of sets of a shape.
struct Removal {
    kept: &'static Shape,
    /// Of what is left, in the sets.
    places: Box<[u32]>,
}

impl Removal {
    fn keep(&self, attrs: Attrs) -> Attrs {
        take(attrs, self.kept, &self.places)
    }
}

/// A shape, and the identity of a list of names that are removed.
type RemovalKey = (u32, u64);

/// What came of `removeAttrs` last, each in one of so many places.
#[derive(Default)]
pub(crate) struct Removals(Vec<Option<(RemovalKey, Removal)>>);

impl Removals {
    const PLACES: usize = 256;
    /// What is left of larger sets is not remembered.
    const LARGEST: usize = 256;

    fn place(key: RemovalKey) -> usize {
        let mixed = (key.1 ^ u64::from(key.0) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> (64 - Self::PLACES.trailing_zeros())) as usize
    }

    #[inline]
    fn get(&self, key: RemovalKey) -> Option<&Removal> {
        let (known, removal) = self.0.get(Self::place(key))?.as_ref()?;
        (*known == key).then_some(removal)
    }

    fn note(&mut self, key: RemovalKey, removal: Removal) {
        if removal.places.len() > Self::LARGEST {
            return;
        }
        if self.0.is_empty() {
            self.0.resize_with(Self::PLACES, || None);
        }
        self.0[Self::place(key)] = Some((key, removal));
    }
}

fn list_to_attrs(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let list = vm.force_list(args[0], pos, "while evaluating the argument passed to builtins.listToAttrs")?;
    let (name_sym, value_sym) = (sym!("name"), sym!("value"));
    let mut seen: FxHashSet<Sym> = FxHashSet::default();
    let mut out = AttrsBuilder::with_capacity(list.len());
    let pair = "in a {name=...; value=...;} pair";
    let what =
        "while evaluating the `name` attribute of an element of the list passed to builtins.listToAttrs";
    let mut last: Option<(&Shape, Option<usize>, Option<usize>)> = None;
    for item in list.iter() {
        let attrs = vm.force_attrs(
            item,
            pos,
            "while evaluating an element of the list passed to builtins.listToAttrs",
        )?;
        let shape = attrs.shape();
        // Nearly always all of them have the same names.
        if last.is_none_or(|(before, ..)| before != shape) {
            last = Some((shape, shape.find(name_sym), shape.find(value_sym)));
        }
        let (name, value) = last.map_or((None, None), |(_, name, value)| (name, value));
        let Some(place) = name else { return Err(missing(name_sym, pair)) };
        let name = match attrs.get(place).known().and_then(Value::as_str) {
            Some(name) if !name.has_context() => name,
            _ => vm.string_no_context(attrs.get(place), attrs.position(place), what)?,
        };
        let name = name.sym();
        if seen.insert(name) {
            let Some(place) = value else { return Err(missing(value_sym, pair)) };
            out.push_at(name, attrs.get(place), attrs.position(place));
        }
    }
    Ok(out.finish())
}

fn intersect_attrs(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let left = vm.force_attrs(
        args[0],
        pos,
        "while evaluating the first argument passed to builtins.intersectAttrs",
    )?;
    let right = vm.force_attrs(
        args[1],
        pos,
        "while evaluating the second argument passed to builtins.intersectAttrs",
    )?;
    if left.len() < right.least_len() / 4 {
        return Ok(pick(right, left.shape()).value());
    }
    let shape = right.shape();
    Ok(keep(right, |i| left.shape().find(shape.syms()[i]).is_some()).value())
}

/// A few attributes of a large set, looked up one by one.
fn pick(from: Attrs, names: &Shape) -> Attrs {
    let (mut syms, mut values) = (Vec::with_capacity(names.len()), ValueVec::with_capacity(names.len()));
    let mut positions = Vec::with_capacity(names.len());
    for name in names.syms() {
        if let Some((set, place)) = from.locate(*name) {
            syms.push(*name);
            values.push(set.get(place));
            positions.push(set.position(place));
        }
    }
    let result = Attrs::unfilled(Shape::intern(&syms), Positions::list(&positions, Pos::NONE));
    for (i, value) in values.as_slice().iter().enumerate() {
        result.set(i, *value);
    }
    result
}

fn cat_attrs(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let name = name_of(vm, args[0], pos, "while evaluating the first argument passed to builtins.catAttrs")?;
    let list =
        vm.force_list(args[1], pos, "while evaluating the second argument passed to builtins.catAttrs")?;
    let what = "while evaluating an element in the list passed as second argument to builtins.catAttrs";
    let mut found = ValueVec::with_capacity(list.len());
    for item in list.iter() {
        found.extend(vm.force_attrs(item, pos, what)?.find(name));
    }
    Ok(found.to_list())
}

fn function_args(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let value = vm.force_at(args[0], pos)?;
    match value.as_fun() {
        Some(Fun::Closure(closure)) => {
            let Some(formals) = closure.formals() else { return Ok(Attrs::empty().value()) };
            let mut out = AttrsBuilder::with_capacity(formals.formals.len());
            for formal in formals.formals {
                out.push_at(formal.name, Value::bool(formal.default.is_some()), formal.pos);
            }
            Ok(out.finish())
        }
        Some(_) => Ok(Attrs::empty().value()),
        None => Err(EvalError::at(ErrorKind::Type, pos, "'functionArgs' requires a function")),
    }
}

fn map_attrs(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let attrs =
        vm.force_attrs(args[1], pos, "while evaluating the second argument passed to builtins.mapAttrs")?;
    let shape = attrs.shape();
    let values = attrs.values();
    let out = Attrs::filled(shape, Positions::NONE, |i| {
        let name = Value::name(shape.syms()[i]);
        Thunk::native(Native::Apply, &[args[0], name, values.get(i)]).value()
    });
    Ok(out.value())
}

fn zip_attrs_with(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let f = vm.force_function(
        args[0],
        pos,
        "while evaluating the first argument passed to builtins.zipAttrsWith",
    )?;
    let list =
        vm.force_list(args[1], pos, "while evaluating the second argument passed to builtins.zipAttrsWith")?;
    let what = "while evaluating a value of the list passed as second argument to builtins.zipAttrsWith";
    let mut groups = Groups::default();
    for item in list.iter() {
        let attrs = vm.force_attrs(item, pos, what)?;
        for (i, name) in attrs.shape().syms().iter().enumerate() {
            groups.push(*name, attrs.get(i));
        }
    }
    let mut out = AttrsBuilder::new();
    groups.each(|name, values| {
        let shown = Value::name(name);
        out.push(name, Thunk::native(Native::Apply, &[f, shown, values]).value());
    });
    Ok(out.finish())
}
