//! What commands do with values: calling functions with arguments from the command line, following attribute
//! paths, and finding derivations.

use crate::attrs::AttrsBuilder;
use crate::error::{ErrorKind, EvalError, EvalResult, ResultExt, TraceKind};
use crate::source::Pos;
use crate::value::{Ahead, Attrs, Kind, Value};
use crate::vm::Vm;
use firn_syntax::{Sym, sym};

/// A derivation that an expression gave.
#[derive(Clone, Debug)]
pub struct FoundDerivation {
    /// Where it was found, as `-A` takes it.
    pub attr_path: String,
    pub attrs: Attrs,
    pub name: String,
}

impl std::fmt::Debug for Attrs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{{{} attributes}}", self.len())
    }
}

/// Splits `a.b."c.d".0`.
pub fn parse_attr_path(text: &str) -> Result<Vec<String>, String> {
    let mut steps = Vec::new();
    let mut current = String::new();
    let mut chars = text.chars();
    let mut quoted = false;
    let mut any = false;
    while let Some(c) = chars.next() {
        match c {
            '.' => steps.push(std::mem::take(&mut current)),
            '"' => {
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some(c) => current.push(c),
                        None => return Err(format!("missing closing quote in selection path '{text}'")),
                    }
                }
                quoted = true;
            }
            c => current.push(c),
        }
        any = true;
    }
    let _ = quoted;
    if any && (!current.is_empty() || text.ends_with('"')) {
        steps.push(current);
    }
    Ok(steps)
}

impl Vm {
    /// Calls a function (or functor) with the arguments of `args` that it names, as long as it has such.
    pub fn auto_call(&mut self, args: Attrs, function: Value) -> EvalResult<Value> {
        let function = self.force(function)?;
        if let Some(functor) = function.as_attrs().and_then(|a| a.find(sym!("__functor"))) {
            let inner = self.call(functor, &[function], Pos::NONE)?;
            return self.auto_call(args, inner);
        }
        let Some(closure) = function.as_closure() else { return Ok(function) };
        let Some(formals) = closure.formals() else { return Ok(function) };
        let mut given = if formals.ellipsis { AttrsBuilder::from_attrs(args) } else { AttrsBuilder::new() };
        for formal in formals.formals {
            match args.find(formal.name) {
                Some(_) if formals.ellipsis => {}
                Some(value) => given.push(formal.name, value),
                // A function of more than it names is called with what there is.
                None if formal.default.is_some() || formals.ellipsis => {}
                None => {
                    return Err(EvalError::at(
                        ErrorKind::MissingArgument,
                        formal.pos,
                        format!(
                            "cannot evaluate a function that has an argument without a value ('{}')\n\
                             Nix attempted to evaluate a function as a top level expression; in\n\
                             this case it must have its arguments supplied either by default\n\
                             values, or passed explicitly with '--arg' or '--argstr'. See\n\
                             https://nix.dev/manual/nix/stable/language/syntax.html#functions.",
                            formal.name
                        ),
                    ));
                }
            }
        }
        let given = given.finish();
        self.call(function, &[given], closure.lambda.pos)
    }

    /// Whether `value` is a function that names `argument` among its formal arguments.
    pub fn names_argument(&mut self, value: Value, argument: &'static str) -> EvalResult<bool> {
        let value = self.force(value)?;
        let formals = value.as_closure().and_then(|closure| closure.formals());
        let argument = Sym::from_static(argument);
        Ok(formals.is_some_and(|formals| formals.formals.iter().any(|formal| formal.name == argument)))
    }

    /// The value at an attribute path; functions on the way are called with `args`.
    pub fn find_along_path(&mut self, path: &str, args: Attrs, root: Value) -> EvalResult<(Value, Pos)> {
        let steps = parse_attr_path(path).map_err(|e| EvalError::new(ErrorKind::Eval, e))?;
        let mut value = self.force(root)?;
        let mut pos = Pos::NONE;
        for step in &steps {
            value = self.auto_call(args, value)?;
            value = self.force(value)?;
            match step.parse::<usize>() {
                Ok(index) => {
                    let Some(list) = value.as_list() else {
                        return Err(self.wrong_selection("a list", path, value));
                    };
                    if index >= list.len() {
                        return Err(EvalError::new(
                            ErrorKind::MissingAttribute,
                            format!("list index {step} in selection path '{path}' is out of range"),
                        ));
                    }
                    value = list.get(index);
                    pos = Pos::NONE;
                }
                Err(_) => {
                    let Some(attrs) = value.as_attrs() else {
                        return Err(self.wrong_selection("a set", path, value));
                    };
                    if step.is_empty() {
                        return Err(EvalError::new(
                            ErrorKind::Eval,
                            format!("empty attribute name in selection path '{path}'"),
                        ));
                    }
                    let Some(place) = attrs.shape().find(Sym::new(step.as_bytes())) else {
                        let names = attrs.shape().syms().iter().map(|s| s.as_bytes());
                        return Err(EvalError::new(
                            ErrorKind::MissingAttribute,
                            format!("attribute '{step}' in selection path '{path}' not found"),
                        )
                        .with_suggestions(crate::fmt::suggest::best_matches(names, step.as_bytes())));
                    };
                    value = attrs.get(place);
                    pos = attrs.position(place);
                }
            }
        }
        Ok((value, pos))
    }

    fn wrong_selection(&mut self, expected: &str, path: &str, value: Value) -> EvalError {
        let found = crate::coerce::type_phrase(value);
        EvalError::new(
            ErrorKind::Type,
            format!(
                "the expression selected by the selection path '{path}' should be {expected} but is {found}"
            ),
        )
    }

    /// All derivations of a value: itself, or those of a set or list.
    pub fn find_derivations(
        &mut self,
        value: Value,
        prefix: &str,
        args: Attrs,
        ignore_assertions: bool,
    ) -> EvalResult<Vec<FoundDerivation>> {
        let mut found = Vec::new();
        let mut done = rustc_hash::FxHashSet::default();
        let mut finder = Finder { depth: 0, args, ignore_assertions, found: &mut found, done: &mut done };
        finder.find(self, value, prefix)?;
        Ok(found)
    }
}

struct Finder<'a> {
    /// How many sets and lists are being looked through, one in the other.
    depth: usize,
    args: Attrs,
    ignore_assertions: bool,
    found: &'a mut Vec<FoundDerivation>,
    done: &'a mut rustc_hash::FxHashSet<Value>,
}

fn is_attr_name(name: &[u8]) -> bool {
    name.first().is_some_and(|c| c.is_ascii_alphabetic() || *c == b'_')
        && name.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'+'))
}

fn join(prefix: &str, step: &str) -> String {
    if prefix.is_empty() { step.to_owned() } else { format!("{prefix}.{step}") }
}

impl Finder<'_> {
    fn find(&mut self, vm: &mut Vm, value: Value, prefix: &str) -> EvalResult<()> {
        vm.check_stack(Pos::NONE)?;
        if self.depth > vm.settings().max_call_depth {
            return Err(vm.stack_overflow(Pos::NONE));
        }
        self.depth += 1;
        let result = self.find_in(vm, value, prefix);
        self.depth -= 1;
        result
    }

    fn find_in(&mut self, vm: &mut Vm, value: Value, prefix: &str) -> EvalResult<()> {
        let value = vm.auto_call(self.args, value)?;
        if !self.derivation(vm, value, prefix)? {
            return Ok(());
        }
        match value.kind() {
            Kind::Attrs(attrs) => {
                let combine = attrs.find(sym!("_combineChannels")).is_some();
                vm.attributes_ahead(attrs, Ahead::Find);
                for (name, value) in attrs.sorted() {
                    if !is_attr_name(name.as_bytes()) {
                        continue;
                    }
                    let pos = attrs.position_of(name);
                    let path = join(prefix, &name.to_string());
                    self.attribute(vm, value, &path, combine).traced(pos, || TraceKind::Attribute(name))?;
                }
                Ok(())
            }
            Kind::List(list) => {
                for (i, item) in list.iter().enumerate() {
                    let path = join(prefix, &i.to_string());
                    if self.derivation(vm, item, &path)? {
                        self.find(vm, item, &path)?;
                    }
                }
                Ok(())
            }
            _ => Err(EvalError::new(
                ErrorKind::Type,
                "expression does not evaluate to a derivation (or a set or list of those)",
            )),
        }
    }

    fn attribute(&mut self, vm: &mut Vm, value: Value, path: &str, combine: bool) -> EvalResult<()> {
        if combine {
            return self.find(vm, value, path);
        }
        if !self.derivation(vm, value, path)? {
            return Ok(());
        }
        let value = vm.force(value)?;
        let Some(recurse) = value.as_attrs().and_then(|a| a.find(sym!("recurseForDerivations"))) else {
            return Ok(());
        };
        let what = "while evaluating the attribute `recurseForDerivations`";
        if vm.force_bool(recurse, Pos::NONE, what)? { self.find(vm, value, path) } else { Ok(()) }
    }

    /// Whether the value is not a derivation, so that it may hold some.
    fn derivation(&mut self, vm: &mut Vm, value: Value, path: &str) -> EvalResult<bool> {
        match self.try_derivation(vm, value, path) {
            Err(e) if self.ignore_assertions && e.is_catchable() => Ok(false),
            other => other,
        }
    }

    fn try_derivation(&mut self, vm: &mut Vm, value: Value, path: &str) -> EvalResult<bool> {
        let value = vm.force(value)?;
        let Some(attrs) = value.as_attrs() else { return Ok(true) };
        if !vm.is_derivation(attrs)? {
            return Ok(true);
        }
        if !self.done.insert(value.keep()) {
            return Ok(false);
        }
        let Some(name) = attrs.find(sym!("name")) else {
            return Err(EvalError::new(ErrorKind::Eval, "derivation name missing"));
        };
        let name =
            vm.string_no_context(name, Pos::NONE, "while evaluating the 'name' attribute of a derivation")?;
        let name = String::from_utf8_lossy(name.as_bytes()).into_owned();
        self.found.push(FoundDerivation { attr_path: path.to_owned(), attrs, name });
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split() {
        assert_eq!(parse_attr_path("a.b.0").unwrap(), ["a", "b", "0"]);
        assert_eq!(parse_attr_path("a.\"b.c\".d").unwrap(), ["a", "b.c", "d"]);
        assert!(parse_attr_path("").unwrap().is_empty());
        assert!(parse_attr_path("a.\"b").is_err());
    }
}
