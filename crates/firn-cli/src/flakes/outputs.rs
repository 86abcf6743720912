//! The outputs of a locked flake, attribute by attribute.

use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::evaluation::Evaluation;
use firn_core::flake_ref::FlakeRef;
use firn_eval::{ErrorKind, EvalError, EvalResult, Kind, Pos, Sym, Value, type_phrase};
use firn_flake::{LockFlags, LockedFlake};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

/// A flake that is locked, and evaluated once somebody asks.
pub struct OpenFlake {
    pub locked: LockedFlake,
    outputs: RefCell<Option<Value>>,
}

impl OpenFlake {
    /// Locks a flake.
    pub fn open(
        context: &Context,
        evaluation: &mut Evaluation,
        reference: &FlakeRef,
        flags: &LockFlags,
    ) -> CliResult<Rc<OpenFlake>> {
        let locked = evaluation.lock(context, reference, flags)?;
        Ok(Rc::new(OpenFlake { locked, outputs: RefCell::new(None) }))
    }

    /// The set of its outputs.
    pub fn outputs(&self, evaluation: &mut Evaluation) -> CliResult<Value> {
        if let Some(known) = *self.outputs.borrow() {
            return Ok(known);
        }
        if std::env::var("NIX_ALLOW_EVAL").is_ok_and(|value| value == "0") {
            return Err(CliError::failed("not everything is cached, but evaluation is not allowed"));
        }
        let flake = evaluation.call_flake(&self.locked)?;
        let outputs = evaluation.run(|vm| {
            let attrs = vm.force_attrs(flake, Pos::NONE, "while parsing cached flake data")?;
            match attrs.find(Sym::from_static("outputs")) {
                Some(outputs) => Ok(outputs),
                None => Err(EvalError::new(ErrorKind::Eval, "the flake has no outputs")),
            }
        })?;
        *self.outputs.borrow_mut() = Some(outputs.keep());
        Ok(outputs)
    }

    pub fn root(self: &Rc<Self>) -> Rc<Cursor> {
        Rc::new(Cursor { flake: self.clone(), parent: None, value: RefCell::new(None) })
    }
}

/// A place among the outputs.
pub struct Cursor {
    flake: Rc<OpenFlake>,
    parent: Option<(Rc<Cursor>, Sym)>,
    value: RefCell<Option<Value>>,
}

/// A name as it stands in an attribute path.
fn shown_step(step: &str) -> String {
    match step.contains('.') || step.is_empty() {
        true => format!("\"{step}\""),
        false => step.to_owned(),
    }
}

fn wrong_kind<T>(message: String) -> EvalResult<T> {
    Err(EvalError::new(ErrorKind::Type, message))
}

impl Cursor {
    /// The steps from the root.
    pub fn steps(&self) -> Vec<String> {
        match &self.parent {
            None => Vec::new(),
            Some((parent, name)) => {
                let mut steps = parent.steps();
                steps.push(name.to_string());
                steps
            }
        }
    }

    /// The attribute path as text.
    pub fn path(&self) -> String {
        self.steps().iter().map(|step| shown_step(step)).collect::<Vec<_>>().join(".")
    }

    pub fn path_of(&self, name: &str) -> String {
        let mut steps = self.steps();
        steps.push(name.to_owned());
        steps.iter().map(|step| shown_step(step)).collect::<Vec<_>>().join(".")
    }

    /// The value, evaluated.
    pub fn force(&self, evaluation: &mut Evaluation) -> CliResult<Value> {
        let known = *self.value.borrow();
        let value = match (known, &self.parent) {
            (Some(known), _) => known,
            (None, None) => self.flake.outputs(evaluation)?,
            (None, Some((parent, name))) => {
                let set = parent.force(evaluation)?;
                let missing =
                    || CliError::failed(format!("attribute '{}' is unexpectedly missing", self.path()));
                set.as_attrs().and_then(|attrs| attrs.find(*name)).ok_or_else(missing)?
            }
        };
        let value = evaluation.run(|vm| vm.force(value))?.keep();
        *self.value.borrow_mut() = Some(value);
        Ok(value)
    }

    /// An attribute, if this is a set that has it.
    pub fn attr(self: &Rc<Self>, evaluation: &mut Evaluation, name: &str) -> CliResult<Option<Rc<Cursor>>> {
        let name = Sym::new(name.as_bytes());
        let value = self.force(evaluation)?;
        let found = value.as_attrs().and_then(|attrs| attrs.find(name));
        Ok(found.map(|value| {
            let value = RefCell::new(Some(value.keep()));
            Rc::new(Cursor { flake: self.flake.clone(), parent: Some((self.clone(), name)), value })
        }))
    }

    /// An attribute that has to be there.
    pub fn need(self: &Rc<Self>, evaluation: &mut Evaluation, name: &str) -> CliResult<Rc<Cursor>> {
        let missing = || CliError::failed(format!("attribute '{}' does not exist", self.path_of(name)));
        self.attr(evaluation, name)?.ok_or_else(missing)
    }

    /// The names of a set, in order.
    pub fn names(self: &Rc<Self>, evaluation: &mut Evaluation) -> CliResult<Vec<String>> {
        let value = self.force(evaluation)?;
        match value.as_attrs() {
            Some(attrs) => {
                let names: BTreeSet<String> = attrs.sorted().map(|(name, _)| name.to_string()).collect();
                Ok(names.into_iter().collect())
            }
            None => evaluation.run(|_| wrong_kind(format!("'{}' is not an attribute set", self.path()))),
        }
    }

    /// The place at an attribute path, or the names that may have been meant.
    pub fn find(
        self: &Rc<Self>,
        evaluation: &mut Evaluation,
        path: &[String],
    ) -> CliResult<Result<Rc<Cursor>, Vec<(usize, String)>>> {
        let mut here = self.clone();
        for step in path {
            match here.attr(evaluation, step)? {
                Some(next) => here = next,
                None => {
                    let names = here.names(evaluation)?;
                    let near =
                        firn_eval::near_names(names.iter().map(|name| name.as_bytes()), step.as_bytes());
                    return Ok(Err(near));
                }
            }
        }
        Ok(Ok(here))
    }

    /// The text of a string or a path.
    pub fn string(self: &Rc<Self>, evaluation: &mut Evaluation) -> CliResult<String> {
        let value = self.force(evaluation)?;
        match value.kind() {
            Kind::Str(text) => Ok(String::from_utf8_lossy(text.as_bytes()).into_owned()),
            Kind::Path(path) => Ok(String::from_utf8_lossy(path.as_bytes()).into_owned()),
            _ => {
                let message = format!("'{}' is not a string but {}", self.path(), type_phrase(value));
                evaluation.run(|_| wrong_kind(message))
            }
        }
    }

    pub fn bool(self: &Rc<Self>, evaluation: &mut Evaluation) -> CliResult<bool> {
        match self.force(evaluation)?.kind() {
            Kind::Bool(flag) => Ok(flag),
            _ => evaluation.run(|_| wrong_kind(format!("'{}' is not a Boolean", self.path()))),
        }
    }

    pub fn int(self: &Rc<Self>, evaluation: &mut Evaluation) -> CliResult<i64> {
        match self.force(evaluation)?.as_int() {
            Some(number) => Ok(number),
            None => evaluation.run(|_| wrong_kind(format!("'{}' is not an integer", self.path()))),
        }
    }

    pub fn strings(self: &Rc<Self>, evaluation: &mut Evaluation) -> CliResult<Vec<String>> {
        let value = self.force(evaluation)?;
        let Some(list) = value.as_list() else {
            return evaluation.run(|_| wrong_kind(format!("'{}' is not a list", self.path())));
        };
        evaluation.run(|vm| {
            let mut out = Vec::new();
            for item in list.iter() {
                let what = "while evaluating an attribute for caching";
                let text = vm.string_no_context(item, Pos::NONE, what)?;
                out.push(String::from_utf8_lossy(text.as_bytes()).into_owned());
            }
            Ok(out)
        })
    }

    pub fn is_derivation(self: &Rc<Self>, evaluation: &mut Evaluation) -> CliResult<bool> {
        match self.attr(evaluation, "type")? {
            Some(kind) => Ok(kind.string(evaluation)? == "derivation"),
            None => Ok(false),
        }
    }

    /// The derivation, which is in the store then.
    pub fn derivation(
        self: &Rc<Self>,
        context: &Context,
        evaluation: &mut Evaluation,
    ) -> CliResult<firn_core::StorePath> {
        let text = self.need(evaluation, "drvPath")?.string(evaluation)?;
        let store = context.eval_store()?;
        let path = store.store_dir().parse(&text).map_err(firn_store::StoreError::from)?;
        match path.is_derivation() {
            true => Ok(path),
            false => Err(CliError::failed(format!(
                "store path '{}' is not a valid derivation path",
                path.base_name()
            ))),
        }
    }
}
