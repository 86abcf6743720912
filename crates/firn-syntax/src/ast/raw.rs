//! Nodes as they lie in memory and on disk: four words, of which the first one's lowest byte is the kind, and the place.

use super::{BinOp, InterpKind, Node, NodeId, Offset, Span};
use crate::symbol::Sym;

pub(crate) type RawNode = [u32; 5];
type Words = [u32; 4];

/// The kind of variables, whose second word is a symbol.
pub(crate) const VAR: u32 = 6;
/// With selections: there is a default.
const DEFAULT: u32 = 1 << 8;
const OPERATORS: [BinOp; 15] = [
    BinOp::Eq,
    BinOp::Neq,
    BinOp::Less,
    BinOp::LessEq,
    BinOp::Greater,
    BinOp::GreaterEq,
    BinOp::And,
    BinOp::Or,
    BinOp::Impl,
    BinOp::Update,
    BinOp::Add,
    BinOp::Sub,
    BinOp::Mul,
    BinOp::Div,
    BinOp::Concat,
];
/// How many steps a selection's path can have: their number is in the first word.
pub(crate) const MAX_PATH: u32 = (1 << 23) - 1;

fn wide(kind: u32, bits: u64) -> Words {
    [kind, bits as u32, (bits >> 32) as u32, 0]
}

fn span(kind: u32, span: Span) -> Words {
    [kind, span.start, span.len, 0]
}

#[inline]
pub(crate) fn pack(node: Node, at: Offset) -> RawNode {
    let [head, a, b, c] = words(node);
    [head, a, b, c, at]
}

#[inline]
fn words(node: Node) -> Words {
    match node {
        Node::Int(n) => wide(0, n as u64),
        Node::Float(f) => wide(1, f.to_bits()),
        Node::Str(text) => span(2, text),
        Node::Path(text) => span(3, text),
        Node::HomePath(text) => span(4, text),
        Node::SearchPath(text) => span(5, text),
        Node::Var(name) => [VAR, name.index(), 0, 0],
        Node::CurPos => [7, 0, 0, 0],
        Node::Interp { kind: InterpKind::String, parts } => span(8, parts),
        Node::Interp { kind: InterpKind::Path, parts } => span(9, parts),
        Node::List(items) => span(10, items),
        Node::Attrs(set) => [11, set, 0, 0],
        Node::Let { bindings, body } => [12, bindings, body.0, 0],
        Node::LegacyLet(set) => [13, set, 0, 0],
        Node::With { scope, body } => [14, scope.0, body.0, 0],
        Node::If { cond, then, otherwise } => [15, cond.0, then.0, otherwise.0],
        Node::Assert { cond, body } => [16, cond.0, body.0, 0],
        Node::Lambda(index) => [17, index, 0, 0],
        Node::Call { function, args } => [18, function.0, args.start, args.len],
        Node::Select { base, path, default } => {
            let head = 19 | path.len.min(MAX_PATH) << 9;
            match default {
                Some(default) => [head | DEFAULT, base.0, path.start, default.0],
                None => [head, base.0, path.start, 0],
            }
        }
        Node::HasAttr { base, path } => [20, base.0, path.start, path.len],
        Node::Binary { op, left, right } => [21 | (op as u32) << 8, left.0, right.0, 0],
        Node::Not(inner) => [22, inner.0, 0, 0],
        Node::Negate(inner) => [23, inner.0, 0, 0],
        Node::InheritFrom(n) => [24, n, 0, 0],
    }
}

/// Gives variables the symbols of their numbers; false if some have none.
pub(crate) fn translate(nodes: &mut [RawNode], symbols: &[u32]) -> bool {
    let mut all = true;
    for node in nodes {
        if node[0] == VAR {
            let symbol = symbols.get(node[1] as usize).copied();
            node[1] = symbol.unwrap_or_default();
            all &= symbol.is_some();
        }
    }
    all
}

#[inline(always)]
pub(crate) fn unpack([head, a, b, c, _]: RawNode) -> Node {
    let bits = || u64::from(a) | u64::from(b) << 32;
    let span = || Span { start: a, len: b };
    match head & 0xff {
        0 => Node::Int(bits() as i64),
        1 => Node::Float(f64::from_bits(bits())),
        2 => Node::Str(span()),
        3 => Node::Path(span()),
        4 => Node::HomePath(span()),
        5 => Node::SearchPath(span()),
        VAR => Sym::from_index(a).map_or(Node::CurPos, Node::Var),
        8 => Node::Interp { kind: InterpKind::String, parts: span() },
        9 => Node::Interp { kind: InterpKind::Path, parts: span() },
        10 => Node::List(span()),
        11 => Node::Attrs(a),
        12 => Node::Let { bindings: a, body: NodeId(b) },
        13 => Node::LegacyLet(a),
        14 => Node::With { scope: NodeId(a), body: NodeId(b) },
        15 => Node::If { cond: NodeId(a), then: NodeId(b), otherwise: NodeId(c) },
        16 => Node::Assert { cond: NodeId(a), body: NodeId(b) },
        17 => Node::Lambda(a),
        18 => Node::Call { function: NodeId(a), args: Span { start: b, len: c } },
        19 => Node::Select {
            base: NodeId(a),
            path: Span { start: b, len: head >> 9 },
            default: (head & DEFAULT != 0).then_some(NodeId(c)),
        },
        20 => Node::HasAttr { base: NodeId(a), path: Span { start: b, len: c } },
        21 => Node::Binary {
            op: OPERATORS.get((head >> 8) as usize).copied().unwrap_or(BinOp::Eq),
            left: NodeId(a),
            right: NodeId(b),
        },
        22 => Node::Not(NodeId(a)),
        23 => Node::Negate(NodeId(a)),
        24 => Node::InheritFrom(a),
        _ => Node::CurPos,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(node: Node) {
        assert_eq!(format!("{:?}", unpack(pack(node, 5))), format!("{node:?}"));
    }

    #[test]
    fn nodes_come_back() {
        let (a, b, c) = (NodeId(1), NodeId(u32::MAX), NodeId(7));
        let span = Span { start: 5, len: u32::MAX };
        let path = Span { start: u32::MAX, len: MAX_PATH };
        check(Node::Int(i64::MIN + 3));
        check(Node::Float(-0.1));
        check(Node::Str(span));
        check(Node::Path(span));
        check(Node::HomePath(span));
        check(Node::SearchPath(span));
        check(Node::Var(Sym::new(b"name")));
        check(Node::CurPos);
        check(Node::Interp { kind: InterpKind::String, parts: span });
        check(Node::Interp { kind: InterpKind::Path, parts: span });
        check(Node::List(span));
        check(Node::Attrs(9));
        check(Node::Let { bindings: 3, body: b });
        check(Node::LegacyLet(3));
        check(Node::With { scope: a, body: b });
        check(Node::If { cond: a, then: b, otherwise: c });
        check(Node::Assert { cond: a, body: b });
        check(Node::Lambda(u32::MAX));
        check(Node::Call { function: a, args: span });
        check(Node::Select { base: a, path, default: None });
        check(Node::Select { base: a, path, default: Some(b) });
        check(Node::HasAttr { base: a, path: span });
        for op in OPERATORS {
            check(Node::Binary { op, left: a, right: b });
        }
        check(Node::Not(b));
        check(Node::Negate(b));
        check(Node::InheritFrom(4));
    }
}
