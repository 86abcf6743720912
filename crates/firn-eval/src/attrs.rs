//! Making sets whose keys are only known at run time.

use crate::shape::Shape;
use crate::source::Pos;
use crate::value::{Attrs, ListBuilder, Positions, Value, ValueVec};
use firn_syntax::Sym;
use rustc_hash::FxHashMap;

/// Collects attributes; they may come in any order. Of attributes with one name, the first wins.
pub struct AttrsBuilder {
    keys: Vec<(Sym, Pos, u32)>,
    values: ValueVec,
    sorted: bool,
}

impl AttrsBuilder {
    pub fn new() -> AttrsBuilder {
        AttrsBuilder::with_capacity(0)
    }

    pub fn with_capacity(capacity: usize) -> AttrsBuilder {
        AttrsBuilder {
            keys: Vec::with_capacity(capacity),
            values: ValueVec::with_capacity(capacity),
            sorted: true,
        }
    }

    /// Starts from the attributes of a set.
    pub fn from_attrs(attrs: Attrs) -> AttrsBuilder {
        let shape = attrs.shape();
        let mut builder = AttrsBuilder::with_capacity(shape.len() + 1);
        for (i, name) in shape.syms().iter().enumerate() {
            builder.push_at(*name, attrs.get(i), attrs.position(i));
        }
        builder
    }

    pub fn push(&mut self, name: Sym, value: Value) {
        self.push_at(name, value, Pos::NONE);
    }

    pub fn push_at(&mut self, name: Sym, value: Value, pos: Pos) {
        self.sorted &= self.keys.last().is_none_or(|(last, ..)| *last < name);
        self.keys.push((name, pos, self.values.len() as u32));
        self.values.push(value);
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub fn finish_attrs(self) -> Attrs {
        self.finish_at(Pos::NONE)
    }

    /// The set, which was written at this place.
    pub fn finish_at(mut self, set: Pos) -> Attrs {
        if !self.sorted {
            self.keys.sort_by_key(|(name, ..)| *name);
            self.keys.dedup_by_key(|(name, ..)| *name);
        }
        let syms: Vec<Sym> = self.keys.iter().map(|k| k.0).collect();
        let positions: Vec<Pos> = self.keys.iter().map(|k| k.1).collect();
        let attrs = Attrs::unfilled(Shape::intern(&syms), Positions::list(&positions, set));
        let values = self.values.as_slice();
        for (i, (_, _, place)) in self.keys.iter().enumerate() {
            attrs.set(i, values[*place as usize]);
        }
        attrs
    }

    pub fn finish(self) -> Value {
        self.finish_attrs().value()
    }
}

/// Values by name, in the order in which they came.
#[derive(Default)]
pub(crate) struct Groups {
    numbers: FxHashMap<Sym, u32>,
    names: Vec<(Sym, usize)>,
    values: ValueVec,
    /// The group of each value.
    places: Vec<u32>,
}

impl Groups {
    pub(crate) fn push(&mut self, name: Sym, value: Value) {
        let number = *self.numbers.entry(name).or_insert_with(|| {
            self.names.push((name, 0));
            self.names.len() as u32 - 1
        });
        self.names[number as usize].1 += 1;
        self.values.push(value);
        self.places.push(number);
    }

    /// Gives each name and the list of its values.
    pub(crate) fn each(&self, mut f: impl FnMut(Sym, Value)) {
        let lists: ValueVec = self.names.iter().map(|(_, count)| ListBuilder::new(*count).finish()).collect();
        let mut filled = vec![0; self.names.len()];
        for (value, place) in self.values.as_slice().iter().zip(&self.places) {
            let place = *place as usize;
            if let Some(list) = lists.as_slice()[place].as_list() {
                list.set(filled[place], *value);
            }
            filled[place] += 1;
        }
        for ((name, _), list) in self.names.iter().zip(lists.as_slice()) {
            f(*name, *list);
        }
    }
}

impl Default for AttrsBuilder {
    fn default() -> Self {
        AttrsBuilder::new()
    }
}

impl Attrs {
    /// The attributes in lexicographic order.
    pub fn sorted(self) -> impl Iterator<Item = (Sym, Value)> {
        let shape = self.shape();
        shape.order().iter().map(move |i| (shape.syms()[*i as usize], self.get(*i as usize)))
    }

    /// The empty set.
    pub fn empty() -> Attrs {
        Attrs::unfilled(Shape::empty(), Positions::NONE)
    }
}
