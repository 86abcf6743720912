//! The syntax tree: an arena of small nodes that refer to each other by number.

use crate::symbol::Sym;
use std::cell::Cell;

/// A node of an [`Ast`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NodeId(pub u32);

/// Byte offset in the source file.
pub type Offset = u32;

/// A run of elements in one of the arena's pools.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    pub start: u32,
    pub len: u32,
}

impl Span {
    fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }
}

/// Binary operators. Arithmetic and comparison are calls of `__sub`, `__lessThan` and so on in the language;
/// the evaluator decides whether those names are shadowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BinOp {
    Eq,
    Neq,
    Less,
    LessEq,
    Greater,
    GreaterEq,
    And,
    Or,
    Impl,
    Update,
    Add,
    Sub,
    Mul,
    Div,
    Concat,
}

/// What is concatenated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InterpKind {
    /// `"…${…}…"` and `''…${…}…''`.
    String,
    /// `./a/${…}/b`.
    Path,
}

/// An expression.
#[derive(Clone, Copy, Debug)]
pub enum Node {
    Int(i64),
    Float(f64),
    Str(Span),
    /// A path literal as written; the evaluator makes it absolute.
    Path(Span),
    /// `~/…`, as written.
    HomePath(Span),
    /// `<…>`, without the brackets.
    SearchPath(Span),
    Var(Sym),
    CurPos,
    /// Parts with their positions are in [`Ast::list`].
    Interp {
        kind: InterpKind,
        parts: Span,
    },
    List(Span),
    /// Index into [`Ast::attrsets`].
    Attrs(u32),
    /// `let … in`, the bindings an index into [`Ast::attrsets`].
    Let {
        bindings: u32,
        body: NodeId,
    },
    /// `let { …, body = …; }`.
    LegacyLet(u32),
    With {
        scope: NodeId,
        body: NodeId,
    },
    If {
        cond: NodeId,
        then: NodeId,
        otherwise: NodeId,
    },
    Assert {
        cond: NodeId,
        body: NodeId,
    },
    /// Index into [`Ast::lambdas`].
    Lambda(u32),
    /// All arguments of a curried call.
    Call {
        function: NodeId,
        args: Span,
    },
    Select {
        base: NodeId,
        path: Span,
        default: Option<NodeId>,
    },
    HasAttr {
        base: NodeId,
        path: Span,
    },
    Binary {
        op: BinOp,
        left: NodeId,
        right: NodeId,
    },
    Not(NodeId),
    Negate(NodeId),
    /// Placeholder of `inherit (e) x`: the n-th inherit-from expression of the set around it.
    InheritFrom(u32),
}

/// One step of an attribute path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttrName {
    Static(Sym),
    Dynamic(NodeId),
}

/// How an attribute was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttrKind {
    Plain,
    /// `inherit x;`: the value is a variable of the scope around the set.
    Inherited,
    /// `inherit (e) x;`: the value selects from `inherit_from[n]`.
    InheritedFrom(u32),
}

/// An attribute with a static name.
#[derive(Clone, Copy, Debug)]
pub struct AttrDef {
    pub name: Sym,
    pub pos: Offset,
    pub kind: AttrKind,
    pub value: NodeId,
}

/// An attribute with a computed name.
#[derive(Clone, Copy, Debug)]
pub struct DynamicDef {
    pub name: NodeId,
    pub value: NodeId,
    pub pos: Offset,
}

/// The bindings of a set or a `let`.
#[derive(Clone, Debug, Default)]
pub struct AttrSet {
    pub recursive: bool,
    /// In the order written; names are unique.
    pub attrs: Vec<AttrDef>,
    pub dynamic: Vec<DynamicDef>,
    pub inherit_from: Vec<NodeId>,
}

/// A formal argument.
#[derive(Clone, Copy, Debug)]
pub struct Formal {
    pub name: Sym,
    pub pos: Offset,
    pub default: Option<NodeId>,
}

/// `{ a, b ? c, ... }`.
#[derive(Clone, Debug, Default)]
pub struct Formals {
    /// Sorted by symbol; names are unique.
    pub formals: Vec<Formal>,
    pub ellipsis: bool,
}

/// A function.
#[derive(Clone, Debug)]
pub struct Lambda {
    /// `x` in `x: …` and `x @ { … }: …`.
    pub arg: Option<Sym>,
    pub formals: Option<Formals>,
    pub body: NodeId,
    /// The attribute or variable that it is bound to, for messages.
    pub name: Option<Sym>,
}

/// A parsed file.
#[derive(Debug, Default)]
pub struct Ast {
    pub(crate) nodes: Vec<Node>,
    pub(crate) positions: Vec<Offset>,
    pub(crate) lists: Vec<NodeId>,
    /// For each element of `lists` where it starts, `${` included.
    pub(crate) list_positions: Vec<Offset>,
    /// Where the operands of a sum start, for those in parentheses and those that are operations: a node's own
    /// place is behind the parenthesis, or at the operator. By the number of the sum.
    pub(crate) operands: Vec<(NodeId, Offset, Offset)>,
    pub(crate) names: Vec<AttrName>,
    pub(crate) text: Vec<u8>,
    pub attrsets: Vec<AttrSet>,
    pub lambdas: Vec<Lambda>,
    pub root: NodeId,
}

/// What a tree keeps its parts in, emptied.
struct Pools {
    nodes: Vec<Node>,
    positions: Vec<Offset>,
    lists: Vec<NodeId>,
    list_positions: Vec<Offset>,
    operands: Vec<(NodeId, Offset, Offset)>,
    names: Vec<AttrName>,
    text: Vec<u8>,
    attrsets: Vec<AttrSet>,
    lambdas: Vec<Lambda>,
}

thread_local! {
    /// Those of the last tree that was dropped: most trees are dropped before the next is made, and memory that was used
    /// before costs less than new one.
    static SPARE: Cell<Option<Pools>> = const { Cell::new(None) };
}

/// How many nodes there may be room for in what is kept.
const MAX_SPARE: usize = 1 << 20;

fn emptied<T>(pool: &mut Vec<T>) -> Vec<T> {
    pool.clear();
    std::mem::take(pool)
}

impl Drop for Ast {
    fn drop(&mut self) {
        if !(1..=MAX_SPARE).contains(&self.nodes.capacity()) {
            return;
        }
        let pools = Pools {
            nodes: emptied(&mut self.nodes),
            positions: emptied(&mut self.positions),
            lists: emptied(&mut self.lists),
            list_positions: emptied(&mut self.list_positions),
            operands: emptied(&mut self.operands),
            names: emptied(&mut self.names),
            text: emptied(&mut self.text),
            attrsets: emptied(&mut self.attrsets),
            lambdas: emptied(&mut self.lambdas),
        };
        // At the end of a thread there is nobody to keep them for.
        let _ = SPARE.try_with(|spare| spare.set(Some(pools)));
    }
}

impl Ast {
    /// An empty tree with room for that of a text of `len` bytes.
    pub(crate) fn with_room(len: usize) -> Ast {
        let mut ast = match SPARE.try_with(Cell::take) {
            Ok(Some(pools)) => Ast {
                nodes: pools.nodes,
                positions: pools.positions,
                lists: pools.lists,
                list_positions: pools.list_positions,
                operands: pools.operands,
                names: pools.names,
                text: pools.text,
                attrsets: pools.attrsets,
                lambdas: pools.lambdas,
                root: NodeId::default(),
            },
            _ => Ast::default(),
        };
        // More than nearly all texts need: room that is not used costs nothing.
        let nodes = len / 6;
        if ast.nodes.capacity() < nodes {
            // Made anew rather than grown, which would copy.
            ast.nodes = Vec::with_capacity(nodes);
            ast.positions = Vec::with_capacity(nodes);
        }
        ast
    }

    pub fn node(&self, id: NodeId) -> Node {
        self.nodes[id.0 as usize]
    }

    /// Where the reference says the node is: operators at the operator, everything else at its start.
    pub fn pos(&self, id: NodeId) -> Offset {
        self.positions[id.0 as usize]
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub fn list(&self, span: Span) -> &[NodeId] {
        &self.lists[span.range()]
    }

    /// Where the parts of an interpolation start: at their `${`.
    pub fn list_positions(&self, span: Span) -> &[Offset] {
        &self.list_positions[span.range()]
    }

    /// Where the operands of a binary operation start; parentheses count for sums only.
    pub fn operands_of(&self, id: NodeId) -> (Offset, Offset) {
        if let Ok(i) = self.operands.binary_search_by_key(&id.0, |(id, ..)| id.0) {
            return (self.operands[i].1, self.operands[i].2);
        }
        match self.node(id) {
            Node::Binary { left, right, .. } => (self.pos(left), self.pos(right)),
            _ => (self.pos(id), self.pos(id)),
        }
    }

    /// All nodes, with their places.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, Node, Offset)> {
        let places = self.nodes.iter().zip(&self.positions).enumerate();
        places.map(|(i, (node, at))| (NodeId(i as u32), *node, *at))
    }

    pub fn names(&self, span: Span) -> &[AttrName] {
        &self.names[span.range()]
    }

    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.text[span.range()]
    }
}
