//! Making sets whose keys are only known at run time.

use crate::shape::Shape;
use crate::source::Pos;
use crate::value::{Attrs, Value, ValueVec};
use firn_syntax::Sym;

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
        for (i, (name, pos)) in shape.syms().iter().zip(shape.positions()).enumerate() {
            builder.push_at(*name, attrs.get(i), *pos);
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

    pub fn finish_attrs(mut self) -> Attrs {
        if !self.sorted {
            self.keys.sort_by_key(|(name, ..)| *name);
            self.keys.dedup_by_key(|(name, ..)| *name);
        }
        let syms: Vec<Sym> = self.keys.iter().map(|k| k.0).collect();
        let positions: Vec<Pos> = self.keys.iter().map(|k| k.1).collect();
        let attrs = Attrs::unfilled(Shape::intern(&syms, &positions));
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
        Attrs::unfilled(Shape::empty())
    }
}
