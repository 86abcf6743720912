//! The syntax tree: an arena of small nodes that refer to each other by number.

mod far;
pub(crate) mod raw;

use crate::symbol::Sym;
pub(crate) use far::FarNodes;
pub use far::{LostTree, NodeSource};
pub(crate) use raw::RawNode;
use std::cell::Cell;
use std::sync::OnceLock;

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
    pub(crate) fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }

    /// The elements of a pool; none where there are not so many.
    #[inline]
    fn of<T>(self, pool: &[T]) -> &[T] {
        pool.get(self.range()).unwrap_or_default()
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
    /// For [`Ast::set`].
    Attrs(u32),
    /// `let … in`, the bindings for [`Ast::set`].
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
    /// For [`Ast::lambda`].
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
#[derive(Clone, Copy, Debug)]
pub struct AttrSet<'a> {
    pub recursive: bool,
    /// In the order written; names are unique.
    pub attrs: &'a [AttrDef],
    pub dynamic: &'a [DynamicDef],
    pub inherit_from: &'a [NodeId],
}

/// Where the parts of an [`AttrSet`] are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SetParts {
    pub(crate) recursive: bool,
    pub(crate) attrs: Span,
    pub(crate) dynamic: Span,
    pub(crate) inherit_from: Span,
}

/// An [`AttrSet`] that is being read.
#[derive(Clone, Debug, Default)]
pub(crate) struct SetDraft {
    pub(crate) recursive: bool,
    pub(crate) attrs: Vec<AttrDef>,
    pub(crate) dynamic: Vec<DynamicDef>,
    pub(crate) inherit_from: Vec<NodeId>,
}

/// A formal argument.
#[derive(Clone, Copy, Debug)]
pub struct Formal {
    pub name: Sym,
    pub pos: Offset,
    pub default: Option<NodeId>,
}

/// `{ a, b ? c, ... }`.
#[derive(Clone, Copy, Debug)]
pub struct Formals<'a> {
    /// Sorted by symbol; names are unique.
    pub formals: &'a [Formal],
    pub ellipsis: bool,
}

/// [`Formals`] that are being read.
#[derive(Clone, Debug, Default)]
pub(crate) struct FormalsDraft {
    pub(crate) formals: Vec<Formal>,
    pub(crate) ellipsis: bool,
}

/// A function.
#[derive(Clone, Copy, Debug)]
pub struct Lambda<'a> {
    /// `x` in `x: …` and `x @ { … }: …`.
    pub arg: Option<Sym>,
    pub formals: Option<Formals<'a>>,
    pub body: NodeId,
    /// The attribute or variable that it is bound to, for messages.
    pub name: Option<Sym>,
}

/// Where the parts of a [`Lambda`] are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LambdaParts {
    pub(crate) arg: Option<Sym>,
    /// And whether there is an ellipsis.
    pub(crate) formals: Option<(Span, bool)>,
    pub(crate) body: NodeId,
    pub(crate) name: Option<Sym>,
}

/// A parsed file.
#[derive(Debug, Default)]
pub struct Ast {
    pub(crate) tables: Tables,
    pub root: NodeId,
    /// What [`Ast::free_names`] says, once it is known.
    pub(crate) free: OnceLock<Option<Box<[Sym]>>>,
}

/// What a tree keeps its parts in.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) nodes: Vec<RawNode>,
    /// Where there are none: nodes that are read when they are needed.
    pub(crate) far: Option<Box<FarNodes>>,
    pub(crate) lists: Vec<NodeId>,
    /// For each element of `lists` where it starts, `${` included.
    pub(crate) list_positions: Vec<Offset>,
    /// Where the operands of a sum start, for those in parentheses and those that are operations: a node's own
    /// place is behind the parenthesis, or at the operator. By the number of the sum.
    pub(crate) operands: Vec<(NodeId, Offset, Offset)>,
    pub(crate) names: Vec<AttrName>,
    pub(crate) text: Vec<u8>,
    pub(crate) sets: Vec<SetParts>,
    pub(crate) attrs: Vec<AttrDef>,
    pub(crate) dynamic: Vec<DynamicDef>,
    pub(crate) inherit_from: Vec<NodeId>,
    pub(crate) lambdas: Vec<LambdaParts>,
    pub(crate) formals: Vec<Formal>,
}

thread_local! {
    /// Those of the last tree that was dropped, emptied: most trees are dropped before the next is made, and memory that
    /// was used before costs less than new one.
    static SPARE: Cell<Option<Tables>> = const { Cell::new(None) };
}

/// How many nodes there may be room for in what is kept.
const MAX_SPARE: usize = 1 << 20;

impl Tables {
    fn clear(&mut self) {
        self.nodes.clear();
        self.far = None;
        self.lists.clear();
        self.list_positions.clear();
        self.operands.clear();
        self.names.clear();
        self.text.clear();
        self.sets.clear();
        self.attrs.clear();
        self.dynamic.clear();
        self.inherit_from.clear();
        self.lambdas.clear();
        self.formals.clear();
    }

    /// Puts a set's parts behind those that are there.
    pub(crate) fn add_set(&mut self, set: &SetDraft) {
        fn add<T: Copy>(to: &mut Vec<T>, parts: &[T]) -> Span {
            to.extend_from_slice(parts);
            Span { start: (to.len() - parts.len()) as u32, len: parts.len() as u32 }
        }
        self.sets.push(SetParts {
            recursive: set.recursive,
            attrs: add(&mut self.attrs, &set.attrs),
            dynamic: add(&mut self.dynamic, &set.dynamic),
            inherit_from: add(&mut self.inherit_from, &set.inherit_from),
        });
    }
}

impl Drop for Ast {
    fn drop(&mut self) {
        if !(1..=MAX_SPARE).contains(&self.tables.nodes.capacity()) {
            return;
        }
        let mut tables = std::mem::take(&mut self.tables);
        tables.clear();
        // At the end of a thread there is nobody to keep them for.
        let _ = SPARE.try_with(|spare| spare.set(Some(tables)));
    }
}

impl Ast {
    /// An empty tree, with the room of one that was dropped.
    pub(crate) fn empty() -> Ast {
        let tables = SPARE.try_with(Cell::take).ok().flatten().unwrap_or_default();
        Ast { tables, root: NodeId::default(), free: OnceLock::new() }
    }

    /// An empty tree with room for that of a text of `len` bytes.
    pub(crate) fn with_room(len: usize) -> Ast {
        let mut ast = Ast::empty();
        // More than nearly all texts need: room that is not used costs nothing.
        let nodes = len / 6;
        if ast.tables.nodes.capacity() < nodes {
            // Made anew rather than grown, which would copy.
            ast.tables.nodes = Vec::with_capacity(nodes);
        }
        ast
    }

    #[inline]
    fn raw(&self, id: NodeId) -> RawNode {
        match self.tables.nodes.get(id.0 as usize) {
            Some(node) => *node,
            None => self.far(id),
        }
    }

    #[inline(never)]
    fn far(&self, id: NodeId) -> RawNode {
        let found = self.tables.far.as_ref().and_then(|far| far.get(id.0 as usize));
        found.unwrap_or(raw::pack(Node::CurPos, 0))
    }

    #[inline]
    pub fn node(&self, id: NodeId) -> Node {
        raw::unpack(self.raw(id))
    }

    /// The bindings that a node names by their number.
    pub fn set(&self, index: u32) -> AttrSet<'_> {
        let parts = self.tables.sets.get(index as usize).copied().unwrap_or_default();
        AttrSet {
            recursive: parts.recursive,
            attrs: parts.attrs.of(&self.tables.attrs),
            dynamic: parts.dynamic.of(&self.tables.dynamic),
            inherit_from: parts.inherit_from.of(&self.tables.inherit_from),
        }
    }

    /// All sets and bindings.
    pub fn sets(&self) -> impl Iterator<Item = AttrSet<'_>> {
        (0..self.tables.sets.len() as u32).map(|index| self.set(index))
    }

    /// The function that a node names by its number.
    pub fn lambda(&self, index: u32) -> Lambda<'_> {
        let parts = self.tables.lambdas.get(index as usize).copied().unwrap_or_default();
        let formals = parts
            .formals
            .map(|(span, ellipsis)| Formals { formals: span.of(&self.tables.formals), ellipsis });
        Lambda { arg: parts.arg, formals, body: parts.body, name: parts.name }
    }

    /// Where the reference says the node is: operators at the operator, everything else at its start.
    pub fn pos(&self, id: NodeId) -> Offset {
        self.raw(id)[4]
    }

    /// The variables that neither the tree binds nor a `with` gives. Nothing where there are paths below the home folder.
    pub fn free_names(&self) -> Option<&[Sym]> {
        self.free.get_or_init(|| crate::scope::free_names(self)).as_deref()
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.tables.far.as_ref().map_or(self.tables.nodes.len(), |far| far.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn list(&self, span: Span) -> &[NodeId] {
        span.of(&self.tables.lists)
    }

    /// Where the parts of an interpolation start: at their `${`.
    pub fn list_positions(&self, span: Span) -> &[Offset] {
        span.of(&self.tables.list_positions)
    }

    /// Where the operands of a binary operation start; parentheses count for sums only.
    pub fn operands_of(&self, id: NodeId) -> (Offset, Offset) {
        if let Ok(i) = self.tables.operands.binary_search_by_key(&id.0, |(id, ..)| id.0) {
            return (self.tables.operands[i].1, self.tables.operands[i].2);
        }
        match self.node(id) {
            Node::Binary { left, right, .. } => (self.pos(left), self.pos(right)),
            _ => (self.pos(id), self.pos(id)),
        }
    }

    /// All nodes, with their places.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, Node, Offset)> {
        (0..self.len() as u32).map(NodeId).map(|id| (id, self.node(id), self.pos(id)))
    }

    pub fn names(&self, span: Span) -> &[AttrName] {
        span.of(&self.tables.names)
    }

    pub fn bytes(&self, span: Span) -> &[u8] {
        span.of(&self.tables.text)
    }
}
