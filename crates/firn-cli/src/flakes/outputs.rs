//! The outputs of a locked flake, attribute by attribute: from the cache where it has them.

use super::cache::{EvalCache, Known, context_element, parse_element};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::evaluation::Evaluation;
use firn_core::Hash;
use firn_core::flake_ref::FlakeRef;
use firn_eval::{
    Ahead, Coerce, ContextElem, ErrorKind, EvalError, EvalResult, Kind, Pos, Sym, Value, type_phrase,
};
use firn_flake::{InputPath, LockFlags, LockedFlake, fingerprint};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

/// A flake that is locked, and evaluated once somebody asks what is not known.
pub struct OpenFlake {
    pub locked: LockedFlake,
    outputs: RefCell<Option<Value>>,
    cache: Option<EvalCache>,
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
        let settings = &context.settings;
        let is_pure = evaluation.vm.settings().pure_eval;
        let mut flake = OpenFlake { locked, outputs: RefCell::new(None), cache: None };
        if let (true, Some(dir)) = (settings.eval_cache && is_pure, &settings.dirs.cache_home) {
            flake.cache = flake.fingerprint(context).and_then(|hash| EvalCache::open(dir, &hash));
        }
        Ok(Rc::new(flake))
    }

    /// What pure evaluation depends on; nothing where evaluating again may give something else.
    pub fn fingerprint(&self, context: &Context) -> Option<Hash> {
        let settings = &context.settings;
        fingerprint(&self.locked, settings.trust_tarballs_from_git_forges, settings.allow_dirty_locks)
    }

    /// The locked reference of an input; nothing if there is none of this name, or it is the flake itself.
    pub fn input(&self, name: &str) -> CliResult<Option<FlakeRef>> {
        let path = InputPath::parse(name).map_err(|error| CliError::failed(error.to_string()))?;
        let node = self.locked.lock.find(&path).map_err(CliError::failed)?;
        let locked = node.and_then(|node| self.locked.lock.node(node).locked.as_ref());
        Ok(locked.map(|locked| locked.locked.clone()))
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
        Rc::new(Cursor {
            flake: self.clone(),
            parent: None,
            value: RefCell::new(None),
            known: RefCell::new(None),
        })
    }
}

/// A place among the outputs.
pub struct Cursor {
    flake: Rc<OpenFlake>,
    parent: Option<(Rc<Cursor>, Sym)>,
    value: RefCell<Option<Value>>,
    /// The row in the cache, and what that says.
    known: RefCell<Option<(i64, Known)>>,
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

/// Whether evaluation fails like this every time, whatever the settings are.
fn is_lasting(error: &EvalError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Throw
            | ErrorKind::Assertion
            | ErrorKind::Abort
            | ErrorKind::Type
            | ErrorKind::UndefinedVariable
            | ErrorKind::MissingAttribute
            | ErrorKind::MissingArgument
    )
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

    fn name(&self) -> String {
        self.parent.as_ref().map_or_else(String::new, |(_, name)| name.to_string())
    }

    /// The row of the set that this is in; 0 for the root.
    fn parent_row(&self, cache: &EvalCache) -> Option<i64> {
        match &self.parent {
            None => Some(0),
            Some((parent, _)) => parent.row(cache),
        }
    }

    /// The row in the cache, made if there is none.
    fn row(&self, cache: &EvalCache) -> Option<i64> {
        self.look(cache);
        if let Some((row, _)) = &*self.known.borrow() {
            return Some(*row);
        }
        self.note(Known::Placeholder)
    }

    fn look(&self, cache: &EvalCache) {
        if self.known.borrow().is_none()
            && let Some(parent) = self.parent_row(cache)
        {
            let found = cache.get((parent, &self.name()));
            *self.known.borrow_mut() = found;
        }
    }

    /// What the cache says, if that is more than that there is something.
    fn known(&self) -> Option<Known> {
        let cache = self.flake.cache.as_ref()?;
        self.look(cache);
        let known = self.known.borrow();
        known.as_ref().map(|(_, known)| known.clone()).filter(|known| {
            // What failed is evaluated again, for the error that it was.
            !matches!(known, Known::Placeholder | Known::Failed | Known::Missing)
        })
    }

    /// Whether there is a cache for this flake.
    pub fn is_cached(&self) -> bool {
        self.flake.cache.is_some()
    }

    /// Whether evaluating this is known to fail.
    pub fn failed_before(&self) -> bool {
        let Some(cache) = &self.flake.cache else { return false };
        self.look(cache);
        matches!(&*self.known.borrow(), Some((_, Known::Failed)))
    }

    /// Whether this is a set.
    pub fn is_set(self: &Rc<Self>, evaluation: &mut Evaluation) -> CliResult<bool> {
        match self.known() {
            Some(known) => Ok(matches!(known, Known::Attrs(_))),
            None => Ok(self.force(evaluation)?.as_attrs().is_some()),
        }
    }

    /// Lets other threads evaluate what packages in this set say of themselves, if it was evaluated.
    pub fn describe_ahead(&self, evaluation: &mut Evaluation) {
        if let Some(attrs) = self.value.borrow().and_then(|value| value.as_attrs()) {
            evaluation.vm.attributes_ahead(attrs, Ahead::Describe);
        }
    }

    /// Keeps what is known now.
    fn note(&self, known: Known) -> Option<i64> {
        let cache = self.flake.cache.as_ref()?;
        let row = cache.set((self.parent_row(cache)?, &self.name()), &known)?;
        *self.known.borrow_mut() = Some((row, known));
        Some(row)
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
        let value = match evaluation.vm.force(value) {
            Ok(value) => value.keep(),
            Err(error) => {
                if is_lasting(&error) && self.parent.is_some() {
                    self.note(Known::Failed);
                }
                return Err(evaluation.fail(error));
            }
        };
        *self.value.borrow_mut() = Some(value);
        if let Some(cache) = &self.flake.cache {
            self.look(cache);
            let is_open =
                matches!(&*self.known.borrow(), None | Some((_, Known::Placeholder | Known::Failed)));
            let found = match value.kind() {
                _ if !is_open => None,
                Kind::Str(text) => {
                    text.context().elems().iter().map(context_element).collect::<Option<Vec<_>>>().map(
                        |context| Known::Text(String::from_utf8_lossy(text.as_bytes()).into_owned(), context),
                    )
                }
                Kind::Path(path) => {
                    Some(Known::Text(String::from_utf8_lossy(path.as_bytes()).into_owned(), Vec::new()))
                }
                Kind::Bool(flag) => Some(Known::Bool(flag)),
                // The reference keeps numbers of 32 bits.
                Kind::Int(number) if i32::try_from(number).is_ok() => Some(Known::Int(number)),
                Kind::Attrs(_) | Kind::Int(_) => None,
                _ => Some(Known::Other),
            };
            if let Some(found) = found {
                self.note(found);
            }
        }
        Ok(value)
    }

    fn child(self: &Rc<Self>, name: Sym, value: Option<Value>, known: Option<(i64, Known)>) -> Rc<Cursor> {
        Rc::new(Cursor {
            flake: self.flake.clone(),
            parent: Some((self.clone(), name)),
            value: RefCell::new(value),
            known: RefCell::new(known),
        })
    }

    /// An attribute, if this is a set that has it.
    pub fn attr(self: &Rc<Self>, evaluation: &mut Evaluation, name: &str) -> CliResult<Option<Rc<Cursor>>> {
        let symbol = Sym::new(name.as_bytes());
        if let Some(cache) = &self.flake.cache {
            self.look(cache);
            // Sets may have tens of thousands of names, in order.
            let has_name = match &*self.known.borrow() {
                Some((_, Known::Attrs(names))) => {
                    Some(names.binary_search_by(|known| known.as_str().cmp(name)).is_ok())
                }
                _ => None,
            };
            if let Some(has_name) = has_name {
                return Ok(has_name.then(|| self.child(symbol, None, None)));
            }
            match self.known() {
                Some(_) => return Ok(None),
                None => {
                    let row = self.known.borrow().as_ref().map(|(row, _)| *row);
                    match row.and_then(|row| cache.get((row, name))) {
                        Some((_, Known::Missing)) => return Ok(None),
                        Some((_, Known::Failed)) | None => {}
                        found => return Ok(Some(self.child(symbol, None, found))),
                    }
                }
            }
        }
        let value = self.force(evaluation)?;
        let found = value.as_attrs().and_then(|attrs| attrs.find(symbol));
        if let (Some(cache), true) = (&self.flake.cache, value.as_attrs().is_some())
            && let Some(row) = self.row(cache)
        {
            let known = if found.is_some() { Known::Placeholder } else { Known::Missing };
            let is_new = cache.get((row, name)).is_none();
            if is_new {
                cache.set((row, name), &known);
            }
        }
        Ok(found.map(|value| self.child(symbol, Some(value.keep()), None)))
    }

    /// An attribute that has to be there.
    pub fn need(self: &Rc<Self>, evaluation: &mut Evaluation, name: &str) -> CliResult<Rc<Cursor>> {
        let missing = || CliError::failed(format!("attribute '{}' does not exist", self.path_of(name)));
        self.attr(evaluation, name)?.ok_or_else(missing)
    }

    /// The names of a set, in order.
    pub fn names(self: &Rc<Self>, evaluation: &mut Evaluation) -> CliResult<Vec<String>> {
        let wrong = || format!("'{}' is not an attribute set", self.path());
        match self.known() {
            Some(Known::Attrs(names)) => return Ok(names),
            Some(_) => return evaluation.run(|_| wrong_kind(wrong())),
            None => {}
        }
        let value = self.force(evaluation)?;
        match value.as_attrs() {
            Some(attrs) => {
                let names: BTreeSet<String> = attrs.sorted().map(|(name, _)| name.to_string()).collect();
                let names: Vec<String> = names.into_iter().collect();
                if let Some(cache) = &self.flake.cache
                    && let Some(row) = self.row(cache)
                {
                    cache.complete(row, &names);
                    *self.known.borrow_mut() = Some((row, Known::Attrs(names.clone())));
                }
                Ok(names)
            }
            None => evaluation.run(|_| wrong_kind(wrong())),
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
        match self.known() {
            Some(Known::Text(text, _)) => return Ok(text),
            Some(_) => return evaluation.run(|_| wrong_kind(format!("'{}' is not a string", self.path()))),
            None => {}
        }
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

    /// The text of a string, and what it refers to.
    pub fn text_with_context(
        self: &Rc<Self>,
        context: &Context,
        evaluation: &mut Evaluation,
    ) -> CliResult<(Vec<u8>, Vec<ContextElem>)> {
        if let Some(Known::Text(text, elements)) = self.known()
            && let Some(elements) =
                elements.iter().map(|text| parse_element(text)).collect::<Option<Vec<_>>>()
        {
            let store = context.eval_store()?;
            let mut valid = true;
            for element in &elements {
                let path = match element {
                    ContextElem::Opaque(path) | ContextElem::DrvDeep(path) => path,
                    ContextElem::Built { drv, .. } => drv.base(),
                };
                valid &= context.block_on(store.is_valid_path(path))??;
            }
            if valid {
                return Ok((text.into_bytes(), elements));
            }
        }
        let value = self.force(evaluation)?;
        let (text, references) = evaluation.run(|vm| vm.coerce(value, Coerce::PLAIN, Pos::NONE, ""))?;
        Ok((text, references.elems()))
    }

    pub fn bool(self: &Rc<Self>, evaluation: &mut Evaluation) -> CliResult<bool> {
        if let Some(Known::Bool(flag)) = self.known() {
            return Ok(flag);
        }
        match self.force(evaluation)?.kind() {
            Kind::Bool(flag) => Ok(flag),
            _ => evaluation.run(|_| wrong_kind(format!("'{}' is not a Boolean", self.path()))),
        }
    }

    pub fn int(self: &Rc<Self>, evaluation: &mut Evaluation) -> CliResult<i64> {
        if let Some(Known::Int(number)) = self.known() {
            return Ok(number);
        }
        match self.force(evaluation)?.as_int() {
            Some(number) => Ok(number),
            None => evaluation.run(|_| wrong_kind(format!("'{}' is not an integer", self.path()))),
        }
    }

    pub fn strings(self: &Rc<Self>, evaluation: &mut Evaluation) -> CliResult<Vec<String>> {
        if let Some(Known::Texts(texts)) = self.known() {
            return Ok(texts);
        }
        let value = self.force(evaluation)?;
        let Some(list) = value.as_list() else {
            return evaluation.run(|_| wrong_kind(format!("'{}' is not a list", self.path())));
        };
        let texts: Vec<String> = evaluation.run(|vm| {
            let mut out = Vec::new();
            for item in list.iter() {
                let what = "while evaluating an attribute for caching";
                let text = vm.string_no_context(item, Pos::NONE, what)?;
                out.push(String::from_utf8_lossy(text.as_bytes()).into_owned());
            }
            Ok(out)
        })?;
        // Empty words and tabs would not come back as they are.
        if texts.iter().all(|text| !text.is_empty() && !text.contains('\t')) {
            self.note(Known::Texts(texts.clone()));
        }
        Ok(texts)
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
        let cursor = self.need(evaluation, "drvPath")?;
        let text = cursor.string(evaluation)?;
        let store = context.eval_store()?;
        let path = store.store_dir().parse(&text).map_err(firn_store::StoreError::from)?;
        if !path.is_derivation() {
            let message = format!("store path '{}' is not a valid derivation path", path.base_name());
            return Err(CliError::failed(message));
        }
        let is_evaluated = cursor.value.borrow().is_some();
        if !is_evaluated
            && !context.settings.read_only_mode
            && !context.block_on(store.is_valid_path(&path))??
        {
            // It was collected since.
            cursor.force(evaluation)?;
            evaluation.flush()?;
            if !context.block_on(store.is_valid_path(&path))?? {
                let shown = store.store_dir().display(&path);
                return Err(CliError::failed(format!(
                    "don't know how to recreate store derivation '{shown}'!"
                )));
            }
        }
        Ok(path)
    }
}
