//! Why an assertion failed. Everything here runs on the way to an error only.

use crate::coerce::type_phrase;
use crate::error::{ErrorKind, EvalError, EvalResult, ResultExt, TraceKind};
use crate::source::Pos;
use crate::value::{Attrs, Kind, Value};
use crate::vm::Vm;
use firn_syntax::ast::{Ast, AttrName, Node, NodeId};
use firn_syntax::sym;

fn assertion(message: String) -> EvalError {
    EvalError::new(ErrorKind::Assertion, message)
}

fn text(text: String) -> TraceKind {
    TraceKind::Text(text.into())
}

impl Vm {
    /// The condition of the assertion at a place. Code does not keep its text, so the file is parsed again.
    #[cold]
    pub(super) fn condition_text(&mut self, pos: Pos) -> String {
        let shown = self.parsed_again(pos, |_, node| match node {
            Node::Assert { cond, .. } => Some(cond),
            _ => None,
        });
        shown.unwrap_or_else(|| "…".to_owned())
    }

    /// The dynamic name that is the `step`-th of the selection at a place.
    #[cold]
    pub(super) fn dynamic_step_text(&mut self, pos: Pos, step: usize) -> Vec<u8> {
        let shown = self.parsed_again(pos, |ast, node| match node {
            Node::Select { path, .. } => match ast.names(path).get(step) {
                Some(AttrName::Dynamic(name)) => Some(*name),
                _ => None,
            },
            _ => None,
        });
        format!("\"${{{}}}\"", shown.unwrap_or_else(|| "…".to_owned())).into_bytes()
    }

    fn parsed_again(&self, pos: Pos, choose: impl Fn(&Ast, Node) -> Option<NodeId>) -> Option<String> {
        let source = self.parse_source(pos)?;
        let chosen = source.ast.nodes().filter(|(_, _, at)| *at == source.offset);
        let node = chosen.filter_map(|(_, node, _)| choose(&source.ast, node)).next()?;
        let shown = self.show_tree(&source.ast, node, &source.dir);
        Some(String::from_utf8_lossy(&shown).into_owned())
    }

    /// Fails where two values differ, and says where in them. Compares as `==` does.
    pub(super) fn assert_equal(&mut self, a: Value, b: Value, pos: Pos) -> EvalResult<()> {
        self.nested(pos, |vm| vm.assert_equal_here(a, b, pos))
    }

    fn shown_pair(&mut self, a: Value, b: Value) -> (String, String) {
        (self.show_for_error(a), self.show_for_error(b))
    }

    fn assert_equal_here(&mut self, a: Value, b: Value, pos: Pos) -> EvalResult<()> {
        let same_cell = a == b && a.is_thunk();
        let (a, b) = (self.force_at(a, pos)?, self.force_at(b, pos)?);
        if same_cell {
            return Ok(());
        }
        match (a.kind(), b.kind()) {
            (Kind::Int(_) | Kind::Float(_), Kind::Int(_) | Kind::Float(_)) => {
                if self.equal_forced(a, b, pos)? {
                    return Ok(());
                }
                let (x, y) = self.shown_pair(a, b);
                let (left, right) = (type_phrase(a), type_phrase(b));
                Err(assertion(format!("{left} with value '{x}' is not equal to {right} with value '{y}'")))
            }
            (Kind::List(x), Kind::List(y)) => {
                if x.len() != y.len() {
                    let (left, right) = self.shown_pair(a, b);
                    return Err(assertion(format!(
                        "list of size '{}' is not equal to list of size '{}', left hand side is '{left}', right hand side is '{right}'",
                        x.len(),
                        y.len()
                    )));
                }
                for (i, (p, q)) in x.iter().zip(y.iter()).enumerate() {
                    self.assert_equal(p, q, pos)
                        .traced(pos, || text(format!("while comparing list element {i}")))?;
                }
                Ok(())
            }
            (Kind::Attrs(x), Kind::Attrs(y)) => self.assert_equal_sets(x, y, pos),
            (Kind::Fun(_), Kind::Fun(_)) => Err(assertion(
                "distinct functions and immediate comparisons of identical functions compare as unequal"
                    .into(),
            )),
            (x, y) => {
                if self.equal_forced(a, b, pos)? {
                    return Ok(());
                }
                let (left, right) = self.shown_pair(a, b);
                let kind = match (x, y) {
                    (Kind::Bool(_), Kind::Bool(_)) => "boolean",
                    (Kind::Str(_), Kind::Str(_)) => "string",
                    (Kind::Path(_), Kind::Path(_)) => "path",
                    _ => {
                        let (l, r) = (type_phrase(a), type_phrase(b));
                        return Err(assertion(format!(
                            "{l} of value '{left}' is not equal to {r} of value '{right}'"
                        )));
                    }
                };
                Err(assertion(format!("{kind} '{left}' is not equal to {kind} '{right}'")))
            }
        }
    }

    fn assert_equal_sets(&mut self, a: Attrs, b: Attrs, pos: Pos) -> EvalResult<()> {
        if self.is_derivation(a)? && self.is_derivation(b)? {
            let out_path = sym!("outPath");
            if let (Some(x), Some(y)) = (a.find(out_path), b.find(out_path)) {
                return self.assert_equal(x, y, pos).traced(pos, || {
                    TraceKind::Static("while comparing a derivation by its 'outPath' attribute")
                });
            }
        }
        if a.len() != b.len() {
            let (x, y) = self.shown_pair(a.value(), b.value());
            let message = format!("attribute names of attribute set '{x}' differs from attribute set '{y}'");
            return Err(assertion(message));
        }
        for i in 0..a.len() {
            let (left, right) = (a.shape().syms()[i], b.shape().syms()[i]);
            if left != right {
                let (x, y) = self.shown_pair(a.value(), b.value());
                return Err(assertion(if b.find(left).is_none() {
                    format!("attribute name '{}' is contained in '{x}', but not in '{y}'", left.shown())
                } else {
                    format!(
                        "attribute name '{}' is missing in '{x}', but is contained in '{y}'",
                        right.shown()
                    )
                }));
            }
            if let Err(mut error) = self.assert_equal(a.get(i), b.get(i), pos) {
                let places = (a.position(i), b.position(i));
                if !places.1.is_none() {
                    error = error.context(places.1, "where right hand side is");
                }
                if !places.0.is_none() {
                    error = error.context(places.0, "where left hand side is");
                }
                return Err(error.trace(pos, text(format!("while comparing attribute '{}'", left.shown()))));
            }
        }
        Ok(())
    }
}
