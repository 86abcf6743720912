//! Code: trees with resolved variables, made by [`crate::compile`] and run by [`crate::eval`]. Code lives as long
//! as the process, because values refer to it.

use crate::compile::Deferred;
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::shape::Shape;
use crate::source::Pos;
use crate::value::{FrameSize, PlaceCache, Positions, ScopeCache, UpdateCache, Value};
use crate::vm::Vm;
use crate::watch::Watched;
use firn_syntax::Sym;
use std::sync::atomic::AtomicU64;

/// An expression.
#[derive(Clone, Copy)]
pub enum Expr {
    Const(Value),
    /// A list or set of constants, made once. It is suspended where others are: printing tells.
    Shared(Value),
    /// A slot of the current frame.
    Local {
        slot: u32,
        pos: Pos,
    },
    /// A slot of a frame further out.
    Outer {
        depth: u32,
        slot: u32,
        pos: Pos,
    },
    /// A name that only `with` can give.
    WithVar(&'static WithVar),
    Select(&'static Select),
    /// One that has a default.
    SelectOr(&'static Select),
    HasAttr(&'static HasAttr),
    Set(&'static SetExpr),
    List(&'static [Expr]),
    Lambda(&'static Lambda),
    Let(&'static LetExpr),
    With(&'static WithExpr),
    If(&'static IfExpr),
    Assert(&'static AssertExpr),
    Not(&'static (Expr, Pos)),
    Call(&'static CallExpr),
    /// Of a builtin that is named in the text, with all of its arguments.
    Builtin(&'static BuiltinCall),
    Binary(Op, &'static BinaryExpr),
    Concat(&'static ConcatExpr),
    CurPos(Pos),
    /// Only where evaluation is watched.
    Watched(&'static Watched),
    /// What there is no code of until it is run; always suspended.
    Deferred(&'static Deferred),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    Eq,
    Neq,
    And,
    Or,
    Impl,
    Update,
    ListConcat,
    Sub,
    Mul,
    Div,
    Less,
    /// `a <= b` is `!(b < a)`: the right operand is evaluated first.
    LessEq,
    Greater,
    GreaterEq,
}

pub struct WithVar {
    /// What was found from the innermost one's frame on.
    pub found: ScopeCache,
    /// How far out the innermost `with` is, if there are several: one is looked through about as fast as the cache.
    pub innermost: Option<u32>,
    pub name: Sym,
    pub pos: Pos,
    /// Where the `with` sets around it are, innermost first.
    pub scopes: &'static [WithScope],
}

pub struct WithScope {
    pub depth: u32,
    pub slot: u32,
    /// Where the `with` is written.
    pub pos: Pos,
    pub cache: PlaceCache,
}

/// One step of an attribute path.
pub enum Step {
    Static {
        name: Sym,
        cache: PlaceCache,
    },
    /// The name's expression, and its place.
    Dynamic((Expr, Pos)),
}

/// What is looked at each time comes first: it fits into half a line of a processor's cache.
#[repr(C)]
pub struct Select {
    pub base: Expr,
    pub only: OnlyStep,
    pub pos: Pos,
    pub path: &'static [Step],
    pub default: Option<Expr>,
}

impl Select {
    pub fn new(base: Expr, path: &'static [Step], default: Option<Expr>, pos: Pos) -> Select {
        Select { base, only: OnlyStep::of(path), pos, path, default }
    }

    /// What stands for an attribute that is missing.
    pub fn default(&'static self) -> EvalResult<&'static Expr> {
        self.default.as_ref().ok_or_else(|| EvalError::new(ErrorKind::Eval, "attribute missing"))
    }
}

#[repr(C)]
pub struct HasAttr {
    pub base: Expr,
    pub only: OnlyStep,
    pub pos: Pos,
    pub path: &'static [Step],
}

impl HasAttr {
    pub fn new(base: Expr, path: &'static [Step], pos: Pos) -> HasAttr {
        HasAttr { base, only: OnlyStep::of(path), pos, path }
    }
}

/// The name, where a path is a single one that is written out, which nearly all are.
#[repr(C)]
pub struct OnlyStep {
    pub cache: PlaceCache,
    pub name: Option<Sym>,
}

impl OnlyStep {
    fn of(path: &[Step]) -> OnlyStep {
        let name = match path {
            [Step::Static { name, .. }] => Some(*name),
            _ => None,
        };
        OnlyStep { cache: PlaceCache::new(), name }
    }
}

pub struct DynamicAttr {
    pub name: Expr,
    pub value: Expr,
    pub pos: Pos,
}

pub struct SetExpr {
    /// There are names and values only: no frame, nothing that is computed.
    pub plain: bool,
    pub shape: &'static Shape,
    pub positions: Positions,
    /// Values in the order of the shape, in the scope of the new frame where there is one.
    pub values: &'static [Expr],
    /// Slots of the new frame; none when the set is not recursive and has no `inherit (e)`.
    pub frame: Option<u32>,
    pub recursive: bool,
    /// `inherit (e)` sources: slots follow those of the attributes (recursive) or start at 0.
    pub from: &'static [Expr],
    pub dynamic: &'static [DynamicAttr],
    /// Place of `__overrides` in a recursive set.
    pub overrides: Option<u32>,
    pub pos: Pos,
}

pub struct LetExpr {
    /// Slots of a new frame, or none when the variables live in the current one.
    pub frame: Option<u32>,
    pub first: u32,
    /// Expressions of the slots from `first` on.
    pub values: &'static [Expr],
    /// Which of them the body evaluates before anything else, or [`NO_SLOT`].
    pub needs: u32,
    pub body: Expr,
}

pub struct WithExpr {
    pub frame: Option<u32>,
    pub slot: u32,
    /// In the scope outside of the new frame.
    pub scope: Expr,
    pub body: Expr,
    pub pos: Pos,
}

pub struct IfExpr {
    pub cond: Expr,
    pub then: Expr,
    pub otherwise: Expr,
    pub pos: Pos,
}

pub struct AssertExpr {
    pub cond: Expr,
    pub body: Expr,
    pub pos: Pos,
}

pub struct CallExpr {
    pub function: Expr,
    pub args: &'static [Expr],
    pub pos: Pos,
}

pub struct BuiltinCall {
    pub primop: &'static PrimOp,
    pub call: &'static CallExpr,
}

/// What is looked at each time comes first.
#[repr(C)]
pub struct BinaryExpr {
    pub left: Expr,
    pub right: Expr,
    /// For `//`.
    pub update: UpdateCache,
    pub pos: Pos,
    /// Places of the operands, for `//`.
    pub places: (Pos, Pos),
}

impl BinaryExpr {
    pub fn new(left: Expr, right: Expr, pos: Pos, places: (Pos, Pos)) -> BinaryExpr {
        BinaryExpr { left, right, update: UpdateCache::new(), pos, places }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ConcatKind {
    /// `a + b`: numbers, paths or strings, as the first operand is.
    Add,
    /// `"${a}b"`: always a string.
    String,
    /// `./a/${b}`: a path.
    Path,
}

pub struct ConcatExpr {
    pub kind: ConcatKind,
    pub parts: &'static [(Expr, Pos)],
    pub pos: Pos,
}

pub struct FormalArg {
    pub name: Sym,
    pub pos: Pos,
    pub default: Option<Expr>,
}

pub struct FormalArgs {
    /// Slot of the first formal.
    pub first: u32,
    /// Sorted by symbol; the n-th lives in slot `first + n`.
    pub formals: &'static [FormalArg],
    pub ellipsis: bool,
    /// Slot of `x` in `x @ { … }`, and the name.
    pub at: Option<(u32, Sym)>,
    /// The plan used last: a shape's id (upper half) and the plan's number.
    pub cache: AtomicU64,
}

/// A function whose body is another function: one of the arguments before the last.
pub struct Param {
    /// The name of the function, not of the argument.
    pub name: Option<Sym>,
    pub pos: Pos,
    pub arg: Sym,
}

/// A function of one or more arguments: `a: b: { c }: body` is one. The n-th argument lives in slot n, unless it
/// is the last and a pattern. What each call looks at comes first.
#[repr(C)]
pub struct Lambda {
    /// How many arguments there are.
    pub args: u32,
    pub frame: FrameSize,
    /// Slot of the plain argument that the body evaluates before anything else, or [`NO_SLOT`].
    pub needs: u32,
    /// Name (below) and place of the innermost function.
    pub pos: Pos,
    pub body: Expr,
    /// The last argument, if it is a pattern.
    pub formals: Option<&'static FormalArgs>,
    pub name: Option<Sym>,
    /// The name of the last argument, if it is a plain one.
    pub arg: Option<Sym>,
    /// All arguments but the last.
    pub params: &'static [Param],
}

/// None of the slots.
pub const NO_SLOT: u32 = u32::MAX;

impl Lambda {
    /// How many arguments there are.
    #[inline]
    pub fn arity(&self) -> usize {
        self.args as usize
    }
}

/// A compiled file or string.
pub struct Code {
    pub body: Expr,
    pub frame_size: u32,
}

/// Type of a primitive operation: gets exactly `arity` arguments, not forced.
pub type PrimOpFn = fn(&mut Vm, &[Value], Pos) -> EvalResult<Value>;

/// A builtin function.
pub struct PrimOp {
    /// Without leading underscores, as messages name it.
    pub name: &'static str,
    pub arity: usize,
    pub run: PrimOpFn,
    /// The arguments that it evaluates before anything else, in that order, so that nothing need be suspended
    /// for them.
    pub eager: &'static [u8],
    /// Whether the only argument becomes a string and is evaluated for that.
    pub coerces: bool,
}
