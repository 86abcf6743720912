//! Trees as numbers, to be kept on disk and read again without parsing.
//!
//! A tree is a head (how long each of its tables is), the tables one after the other, and the names of its symbols, which
//! the tables refer to by number, counted from 1. Numbers are those of the machine, and mean what this version of the
//! crate means by them: [`SOURCES`] tells versions apart. Whoever keeps trees checks that they come back as they were; what
//! was made up may give a nonsensical tree, but none that its accessors fail on.

use crate::ast::*;
use crate::symbol::Sym;
use rustc_hash::FxHashMap;
use std::ops::Range;
use std::sync::OnceLock;

/// Differs where trees may mean something else.
pub const SOURCES: &str = env!("FIRN_SYNTAX_SOURCES");

/// Numbers of the head: the root, then the length of each table.
pub const HEAD: usize = 15;
/// Words of a node.
const NODE: usize = 5;
/// From how many nodes on a tree is large.
const FAR: usize = 1 << 14;
/// For the number of free names: they are not known.
const UNKNOWN: u32 = u32::MAX;
/// With names of paths: a node.
const DYNAMIC: u32 = 1 << 31;
const RECURSIVE: u32 = 1;
const FORMALS: u32 = 1;
const ELLIPSIS: u32 = 2;
/// Kinds of attributes from this on are those that are inherited from something.
const FROM: u32 = 2;

/// Symbols' numbers in a tree that is written.
#[derive(Default)]
struct Names {
    numbers: FxHashMap<Sym, u32>,
    names: Vec<Sym>,
}

impl Names {
    fn number(&mut self, name: Sym) -> u32 {
        *self.numbers.entry(name).or_insert_with(|| {
            self.names.push(name);
            self.names.len() as u32
        })
    }

    fn number_of(&mut self, name: Option<Sym>) -> u32 {
        name.map_or(0, |name| self.number(name))
    }
}

fn words_for(bytes: usize) -> usize {
    bytes.div_ceil(4)
}

fn push_bytes<'a>(out: &mut Vec<u32>, parts: impl Iterator<Item = &'a [u8]>) {
    let mut bytes = Vec::new();
    parts.for_each(|part| bytes.extend_from_slice(part));
    bytes.resize(words_for(bytes.len()) * 4, 0);
    out.extend(bytes.as_chunks().0.iter().map(|chunk| u32::from_ne_bytes(*chunk)));
}

/// Appends a tree. Nothing, if it is too large for that.
pub fn write(ast: &Ast, out: &mut Vec<u32>) -> Option<()> {
    let tables = &ast.tables;
    let limit = DYNAMIC as usize;
    if tables.far.is_some() || tables.nodes.len() >= limit || tables.text.len() >= limit {
        return None;
    }
    let head = out.len();
    out.resize(head + HEAD, 0);
    let mut names = Names::default();
    for node in &tables.nodes {
        let mut node = *node;
        if node[0] == raw::VAR {
            node[1] = names.number_of(Sym::from_index(node[1]));
        }
        out.extend(node);
    }
    out.extend(tables.lists.iter().map(|node| node.0));
    out.extend(&tables.list_positions);
    out.extend(tables.operands.iter().flat_map(|(node, left, right)| [node.0, *left, *right]));
    for name in &tables.names {
        out.push(match name {
            AttrName::Static(name) => names.number(*name),
            AttrName::Dynamic(node) => node.0 | DYNAMIC,
        });
    }
    for set in &tables.sets {
        let (attrs, dynamic, from) = (set.attrs, set.dynamic, set.inherit_from);
        let recursive = if set.recursive { RECURSIVE } else { 0 };
        out.extend([recursive, attrs.start, attrs.len, dynamic.start, dynamic.len, from.start, from.len]);
    }
    for attr in &tables.attrs {
        let kind = match attr.kind {
            AttrKind::Plain => 0,
            AttrKind::Inherited => 1,
            AttrKind::InheritedFrom(n) => n.checked_add(FROM)?,
        };
        out.extend([names.number(attr.name), attr.pos, kind, attr.value.0]);
    }
    out.extend(tables.dynamic.iter().flat_map(|attr| [attr.name.0, attr.value.0, attr.pos]));
    out.extend(tables.inherit_from.iter().map(|node| node.0));
    for lambda in &tables.lambdas {
        let (flags, span) = match lambda.formals {
            Some((span, true)) => (FORMALS | ELLIPSIS, span),
            Some((span, false)) => (FORMALS, span),
            None => (0, Span::default()),
        };
        let (arg, name) = (names.number_of(lambda.arg), names.number_of(lambda.name));
        out.extend([arg, flags, span.start, span.len, lambda.body.0, name]);
    }
    for formal in &tables.formals {
        let default = formal.default.map_or(0, |node| node.0 + 1);
        out.extend([names.number(formal.name), formal.pos, default]);
    }
    let free = ast.free_names();
    for name in free.unwrap_or_default() {
        out.push(names.number(*name));
    }
    let names = names.names;
    out.extend(names.iter().map(|name| name.as_bytes().len() as u32));
    push_bytes(out, names.iter().map(|name| name.as_bytes()));
    push_bytes(out, std::iter::once(&tables.text[..]));
    let lengths = [
        ast.root.0 as usize,
        tables.nodes.len(),
        tables.lists.len(),
        tables.operands.len(),
        tables.names.len(),
        tables.sets.len(),
        tables.attrs.len(),
        tables.dynamic.len(),
        tables.inherit_from.len(),
        tables.lambdas.len(),
        tables.formals.len(),
        names.len(),
        names.iter().map(|name| name.as_bytes().len()).sum(),
        tables.text.len(),
        free.map_or(UNKNOWN as usize, <[Sym]>::len),
    ];
    for (to, length) in out[head..].iter_mut().zip(lengths) {
        *to = u32::try_from(length).ok()?;
    }
    Some(())
}

/// Tables that are read one after the other.
struct Reader<'a> {
    words: &'a [u32],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u32]> {
        let (taken, rest) = self.words.split_at_checked(count)?;
        self.words = rest;
        Some(taken)
    }

    fn rows<const N: usize>(&mut self, count: u32) -> Option<&'a [[u32; N]]> {
        Some(self.take((count as usize).checked_mul(N)?)?.as_chunks().0)
    }

    fn column(&mut self, count: u32) -> Option<&'a [u32]> {
        self.take(count as usize)
    }
}

/// Bytes of words, as many as there were.
fn bytes(words: &[u32], count: u32) -> &[u8] {
    let bytes: &[u8] = bytemuck::cast_slice(words);
    &bytes[..(count as usize).min(bytes.len())]
}

/// Where a tree's nodes are among its words, when it is so large that they need not be read at once.
pub fn far_nodes(head: &[u32]) -> Option<Range<usize>> {
    let count = *head.get(1)? as usize;
    (count >= FAR).then(|| HEAD..HEAD + count * NODE)
}

/// The tree that was written as these numbers. Nothing, if there surely was none.
pub fn read(words: &[u32]) -> Option<Ast> {
    read_with(words, None)
}

/// The same without the nodes' words ([`far_nodes`]), which are read when they are needed.
pub fn read_far(words: &[u32], nodes: Box<dyn NodeSource>) -> Option<Ast> {
    read_with(words, Some(nodes))
}

fn read_with(words: &[u32], far: Option<Box<dyn NodeSource>>) -> Option<Ast> {
    let mut all = Reader { words };
    let [
        root,
        nodes,
        lists,
        operands,
        names,
        sets,
        attrs,
        dynamic,
        from,
        lambdas,
        formals,
        syms,
        name_bytes,
        text,
        free,
    ] = *all.take(HEAD)?
    else {
        return None;
    };
    let node_rows = all.rows::<NODE>(if far.is_some() { 0 } else { nodes })?;
    let list_nodes = all.column(lists)?;
    let list_positions = all.column(lists)?;
    let operand_rows = all.rows::<3>(operands)?;
    let path_names = all.column(names)?;
    let set_rows = all.rows::<7>(sets)?;
    let attr_rows = all.rows::<4>(attrs)?;
    let dynamic_rows = all.rows::<3>(dynamic)?;
    let from_nodes = all.column(from)?;
    let lambda_rows = all.rows::<6>(lambdas)?;
    let formal_rows = all.rows::<3>(formals)?;
    let free_names = (free != UNKNOWN).then(|| all.column(free));
    let name_lengths = all.column(syms)?;
    let name_words = all.take(words_for(name_bytes as usize))?;
    let text_words = all.take(words_for(text as usize))?;
    if !all.words.is_empty() {
        return None;
    }

    // Number 0 is no symbol.
    let mut symbols: Vec<u32> = Vec::with_capacity(name_lengths.len() + 1);
    symbols.push(0);
    let mut rest = bytes(name_words, name_bytes);
    for length in name_lengths {
        let (name, more) = rest.split_at_checked(*length as usize)?;
        symbols.push(Sym::new(name).index());
        rest = more;
    }
    let symbol = |number: u32| symbols.get(number as usize).and_then(|index| Sym::from_index(*index));

    let mut ast = Ast::empty();
    ast.root = NodeId(root);
    let free = match free_names {
        Some(numbers) => Some(numbers?.iter().map(|number| symbol(*number)).collect::<Option<_>>()?),
        None => None,
    };
    ast.free = OnceLock::from(free);
    let tables = &mut ast.tables;
    tables.nodes.extend_from_slice(node_rows);
    if !raw::translate(&mut tables.nodes, &symbols) {
        return None;
    }
    tables.lists.extend(list_nodes.iter().map(|node| NodeId(*node)));
    tables.list_positions.extend_from_slice(list_positions);
    tables.operands.extend(operand_rows.iter().map(|[node, left, right]| (NodeId(*node), *left, *right)));
    for name in path_names {
        tables.names.push(match name & DYNAMIC {
            0 => AttrName::Static(symbol(*name)?),
            _ => AttrName::Dynamic(NodeId(name & !DYNAMIC)),
        });
    }
    let span = |start: u32, len: u32| Span { start, len };
    tables.sets.extend(set_rows.iter().map(|[flags, a, b, c, d, e, f]| SetParts {
        recursive: flags & RECURSIVE != 0,
        attrs: span(*a, *b),
        dynamic: span(*c, *d),
        inherit_from: span(*e, *f),
    }));
    for [name, pos, kind, value] in attr_rows {
        let kind = match *kind {
            0 => AttrKind::Plain,
            1 => AttrKind::Inherited,
            from => AttrKind::InheritedFrom(from - FROM),
        };
        tables.attrs.push(AttrDef { name: symbol(*name)?, pos: *pos, kind, value: NodeId(*value) });
    }
    tables.dynamic.extend(dynamic_rows.iter().map(|[name, value, pos]| DynamicDef {
        name: NodeId(*name),
        value: NodeId(*value),
        pos: *pos,
    }));
    tables.inherit_from.extend(from_nodes.iter().map(|node| NodeId(*node)));
    for [name, pos, default] in formal_rows {
        let default = default.checked_sub(1).map(NodeId);
        tables.formals.push(Formal { name: symbol(*name)?, pos: *pos, default });
    }
    for [arg, flags, start, len, body, name] in lambda_rows {
        let formals = (flags & FORMALS != 0).then_some((span(*start, *len), flags & ELLIPSIS != 0));
        if let Some((span, _)) = formals {
            // They are sorted by symbol, and symbols have other numbers now.
            tables.formals.get_mut(span.range())?.sort_unstable_by_key(|formal| formal.name);
        }
        tables.lambdas.push(LambdaParts {
            arg: symbol(*arg),
            formals,
            body: NodeId(*body),
            name: symbol(*name),
        });
    }
    tables.text.extend_from_slice(bytes(text_words, text));
    tables.far = far.map(|source| Box::new(FarNodes::new(source, HEAD, nodes as usize, symbols)));
    Some(ast)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parser::{ParseOptions, parse};
    use crate::show::{ShowContext, show};

    fn shown(ast: &Ast) -> String {
        let context = ShowContext { absolute: &|path| [b"/base/", path].concat(), home: b"/home" };
        String::from_utf8_lossy(&show(ast, &context)).into_owned()
    }

    fn words(text: &str) -> (Ast, Vec<u32>) {
        let ast = parse(text.as_bytes(), ParseOptions::default()).expect("parses");
        let mut words = Vec::new();
        write(&ast, &mut words).expect("small");
        (ast, words)
    }

    const TEXT: &str = "{ z, a ? b.c or 1, ... } @ args: rec { inherit z; inherit (args) y; \"x${z}\" = ./p; f = 1.5; \
        g = if z ? q.\"r\" then -1 else <nix/x>; h = with a; [ (!i) (i // { }) ''k'' ~/l ]; } + (assert true; let m = x: y: x; in m)";

    #[test]
    fn trees_come_back() {
        for text in ["1", "a: a", "{ }", TEXT] {
            let (ast, words) = words(text);
            let again = read(&words).expect(text);
            assert_eq!(shown(&again), shown(&ast));
            let places = |ast: &Ast| ast.nodes().map(|(_, _, at)| at).collect::<Vec<_>>();
            assert_eq!(places(&again), places(&ast));
            assert_eq!(again.free_names(), ast.free_names());
        }
    }

    #[test]
    fn what_is_cut_off_is_no_tree() {
        let (_, words) = words(TEXT);
        for end in 0..words.len() {
            assert!(read(&words[..end]).is_none(), "{end}");
        }
        assert!(read(&[&words[..], &[0]].concat()).is_none());
    }

    struct Elsewhere(Vec<u32>);

    impl NodeSource for Elsewhere {
        fn read(&self, start: usize, words: &mut [u32]) -> bool {
            words.copy_from_slice(&self.0[start..start + words.len()]);
            true
        }
    }

    #[test]
    fn nodes_of_large_trees_are_read_when_they_are_needed() {
        let (_, small) = words(TEXT);
        assert_eq!(far_nodes(&small), None);
        let text = format!("[ {} ({TEXT}) ]", "(a: b) ".repeat(FAR));
        let (ast, all) = words(&text);
        let nodes = far_nodes(&all).expect("large");
        let rest = [&all[..nodes.start], &all[nodes.end..]].concat();
        let again = read_far(&rest, Box::new(Elsewhere(all))).expect("a tree");
        assert_eq!((shown(&again), again.len()), (shown(&ast), ast.len()));
    }
}
