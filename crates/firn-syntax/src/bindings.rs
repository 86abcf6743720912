//! Building the bindings of a set: nested paths are merged, duplicates are errors.

use crate::ast::*;
use crate::parser::{PResult, Parser, SyntaxError};
use crate::show;
use crate::symbol::Sym;
use rustc_hash::FxHashMap;

/// Above this many attributes a set is searched by hash.
const INDEX_FROM: usize = 12;

/// A set under construction.
pub(crate) struct Builder {
    set: SetDraft,
    index: FxHashMap<Sym, u32>,
}

fn find(set: &SetDraft, name: Sym) -> Option<usize> {
    set.attrs.iter().position(|a| a.name == name)
}

impl Builder {
    pub(crate) fn new() -> Builder {
        Builder { set: SetDraft::default(), index: FxHashMap::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.set.attrs.is_empty() && self.set.dynamic.is_empty()
    }

    pub(crate) fn finish(self) -> SetDraft {
        self.set
    }

    fn find(&self, name: Sym) -> Option<usize> {
        if self.set.attrs.len() < INDEX_FROM {
            find(&self.set, name)
        } else {
            self.index.get(&name).map(|i| *i as usize)
        }
    }

    fn push(&mut self, def: AttrDef) {
        self.set.attrs.push(def);
        let len = self.set.attrs.len();
        if len == INDEX_FROM {
            self.index = self.set.attrs.iter().enumerate().map(|(i, a)| (a.name, i as u32)).collect();
        } else if len > INDEX_FROM {
            self.index.insert(def.name, len as u32 - 1);
        }
    }

    pub(crate) fn inherit_from(&mut self, from: NodeId) -> u32 {
        self.set.inherit_from.push(from);
        self.set.inherit_from.len() as u32 - 1
    }

    pub(crate) fn inherit(&mut self, parser: &Parser<'_>, def: AttrDef) -> PResult<()> {
        if let Some(i) = self.find(def.name) {
            return Err(duplicate(parser, &[AttrName::Static(def.name)], def.pos, self.set.attrs[i].pos));
        }
        self.push(def);
        Ok(())
    }

    /// Adds `path = value;`.
    pub(crate) fn add(
        &mut self,
        parser: &mut Parser<'_>,
        path: &[AttrName],
        value: NodeId,
        pos: Offset,
    ) -> PResult<()> {
        let Some((last, before)) = path.split_last() else { return Ok(()) };
        if before.is_empty() {
            return match *last {
                AttrName::Static(name) => match self.find(name) {
                    Some(i) => {
                        let existing = self.set.attrs[i];
                        merge(parser, path, existing, value, pos)
                    }
                    None => {
                        set_name(parser, value, name);
                        self.push(AttrDef { name, pos, kind: AttrKind::Plain, value });
                        Ok(())
                    }
                },
                AttrName::Dynamic(name) => {
                    self.set.dynamic.push(DynamicDef { name, value, pos });
                    Ok(())
                }
            };
        }
        // The first step is in this builder, the others in sets that are in the arena already.
        let mut nested = match path[0] {
            AttrName::Static(name) => match self.find(name) {
                Some(i) => nested_set(parser, self.set.attrs[i], &path[..1], pos)?,
                None => {
                    let (node, index) = new_set(parser, pos);
                    self.push(AttrDef { name, pos, kind: AttrKind::Plain, value: node });
                    index
                }
            },
            AttrName::Dynamic(name) => {
                let (node, index) = new_set(parser, pos);
                self.set.dynamic.push(DynamicDef { name, value: node, pos });
                index
            }
        };
        for depth in 1..before.len() {
            nested = match path[depth] {
                AttrName::Static(name) => {
                    let set = &parser.sets[nested as usize];
                    match find(set, name).map(|i| set.attrs[i]) {
                        Some(def) => nested_set(parser, def, &path[..=depth], pos)?,
                        None => {
                            let (value, index) = new_set(parser, pos);
                            let def = AttrDef { name, pos, kind: AttrKind::Plain, value };
                            parser.sets[nested as usize].attrs.push(def);
                            index
                        }
                    }
                }
                AttrName::Dynamic(name) => {
                    let (value, index) = new_set(parser, pos);
                    parser.sets[nested as usize].dynamic.push(DynamicDef { name, value, pos });
                    index
                }
            };
        }
        match *last {
            AttrName::Static(name) => {
                insert(parser, nested, path, AttrDef { name, pos, kind: AttrKind::Plain, value })
            }
            AttrName::Dynamic(name) => {
                parser.sets[nested as usize].dynamic.push(DynamicDef { name, value, pos });
                Ok(())
            }
        }
    }
}

/// Inserts into a set of the arena.
fn insert(parser: &mut Parser<'_>, set: u32, path: &[AttrName], def: AttrDef) -> PResult<()> {
    let attrs = &parser.sets[set as usize];
    match find(attrs, def.name).map(|i| attrs.attrs[i]) {
        Some(existing) => merge(parser, path, existing, def.value, def.pos),
        None => {
            if def.kind == AttrKind::Plain {
                set_name(parser, def.value, def.name);
            }
            parser.sets[set as usize].attrs.push(def);
            Ok(())
        }
    }
}

/// Two sets under one name become one; anything else is a duplicate. The second set's `rec` is lost, as in the
/// reference.
fn merge(
    parser: &mut Parser<'_>,
    path: &[AttrName],
    existing: AttrDef,
    value: NodeId,
    pos: Offset,
) -> PResult<()> {
    let (Node::Attrs(into), Node::Attrs(from)) = (parser.ast.node(existing.value), parser.ast.node(value))
    else {
        return Err(duplicate(parser, path, pos, existing.pos));
    };
    let from = std::mem::take(&mut parser.sets[from as usize]);
    let shift = parser.sets[into as usize].inherit_from.len() as u32;
    for mut def in from.attrs {
        if let AttrKind::InheritedFrom(n) = def.kind {
            def.kind = AttrKind::InheritedFrom(n + shift);
            if let Node::Select { base, .. } = parser.ast.node(def.value) {
                let at = parser.ast.pos(base);
                parser.ast.tables.nodes[base.0 as usize] = raw::pack(Node::InheritFrom(n + shift), at);
            }
        }
        let mut full = path.to_vec();
        full.push(AttrName::Static(def.name));
        insert(parser, into, &full, def)?;
    }
    let set = &mut parser.sets[into as usize];
    set.dynamic.extend(from.dynamic);
    set.inherit_from.extend(from.inherit_from);
    Ok(())
}

fn nested_set(parser: &Parser<'_>, def: AttrDef, path: &[AttrName], pos: Offset) -> PResult<u32> {
    match parser.ast.node(def.value) {
        Node::Attrs(index) => Ok(index),
        _ => Err(duplicate(parser, path, pos, def.pos)),
    }
}

fn new_set(parser: &mut Parser<'_>, pos: Offset) -> (NodeId, u32) {
    let index = parser.sets.len() as u32;
    parser.sets.push(SetDraft::default());
    (parser.add(Node::Attrs(index), pos as usize), index)
}

fn set_name(parser: &mut Parser<'_>, value: NodeId, name: Sym) {
    let mut node = value;
    while let Node::Lambda(index) = parser.ast.node(node) {
        let lambda = &mut parser.ast.tables.lambdas[index as usize];
        lambda.name = Some(name);
        node = lambda.body;
    }
}

fn duplicate(parser: &Parser<'_>, path: &[AttrName], pos: Offset, other: Offset) -> SyntaxError {
    let path = show::attr_path(&parser.ast, path);
    SyntaxError {
        message: format!("attribute '{}' already defined at {{}}", String::from_utf8_lossy(&path)),
        offset: pos,
        other: Some(other),
    }
}
