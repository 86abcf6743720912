//! The language's own form of values, as `nix-instantiate --eval` and messages print it.

use crate::error::{ErrorKind, EvalResult};
use crate::value::{Fun, Kind, Value};
use crate::vm::Vm;
use firn_syntax::show;
use rustc_hash::FxHashSet;

/// How much of a value is printed.
#[derive(Clone, Debug)]
pub struct PrintOptions {
    /// Force what is printed. Otherwise thunks print as `«thunk»` (or `<CODE>`).
    pub force: bool,
    /// Print derivations as `«derivation path»` instead of their attributes.
    pub derivation_paths: bool,
    /// Inside of lists and sets, errors are printed (`«error: …»`) rather than returned.
    pub inner_errors: bool,
    pub max_depth: usize,
    pub max_attrs: usize,
    pub max_list_items: usize,
    pub max_string: usize,
    /// Older notation: `<CODE>`, `<LAMBDA>`, `<PRIMOP>`.
    pub ambiguous: bool,
}

impl PrintOptions {
    /// As `nix-instantiate --eval` prints.
    pub fn ambiguous() -> PrintOptions {
        PrintOptions {
            force: false,
            derivation_paths: false,
            inner_errors: false,
            max_depth: usize::MAX,
            max_attrs: usize::MAX,
            max_list_items: usize::MAX,
            max_string: usize::MAX,
            ambiguous: true,
        }
    }

    /// As `nix eval` and the REPL print.
    pub fn unambiguous(force: bool) -> PrintOptions {
        PrintOptions {
            force,
            derivation_paths: true,
            inner_errors: true,
            ambiguous: false,
            ..PrintOptions::ambiguous()
        }
    }

    /// As messages print: short.
    pub fn for_errors() -> PrintOptions {
        PrintOptions {
            force: false,
            derivation_paths: false,
            inner_errors: true,
            max_depth: 10,
            max_attrs: 10,
            max_list_items: 10,
            max_string: 1024,
            ambiguous: false,
        }
    }
}

/// Prints a value.
pub fn print_value(vm: &mut Vm, value: Value, options: &PrintOptions) -> EvalResult<Vec<u8>> {
    let mut printer =
        Printer { vm, options, out: Vec::new(), seen: FxHashSet::default(), attrs: 0, items: 0 };
    printer.value(value, 0)?;
    Ok(printer.out)
}

struct Printer<'a> {
    vm: &'a mut Vm,
    options: &'a PrintOptions,
    out: Vec<u8>,
    seen: FxHashSet<Value>,
    attrs: usize,
    items: usize,
}

impl Printer<'_> {
    fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn value(&mut self, value: Value, depth: usize) -> EvalResult<()> {
        match self.print(value, depth) {
            Err(error)
                if self.options.inner_errors
                    && depth > 0
                    && !matches!(error.kind(), ErrorKind::StackOverflow | ErrorKind::Quit) =>
            {
                self.put(&format!("«error: {}»", error.message()));
                Ok(())
            }
            result => result,
        }
    }

    fn print(&mut self, value: Value, depth: usize) -> EvalResult<()> {
        self.vm.check_stack(crate::source::Pos::NONE)?;
        if depth > self.vm.settings().max_call_depth {
            return Err(self.vm.stack_overflow(crate::source::Pos::NONE));
        }
        // Lists are known again by the cell that they were found in, sets by themselves.
        let cell = value;
        let mut value = value;
        if let Some(thunk) = value.as_thunk() {
            match thunk.result() {
                Some(result) => value = result,
                None if self.options.force => value = self.vm.force(value)?,
                None if matches!(thunk.state(), crate::value::ThunkState::Claimed(_))
                    && !self.options.ambiguous =>
                {
                    self.put("«potential infinite recursion»");
                    return Ok(());
                }
                None => {
                    self.put(if self.options.ambiguous { "<CODE>" } else { "«thunk»" });
                    return Ok(());
                }
            }
        }
        match value.kind() {
            Kind::Null => self.put("null"),
            Kind::Bool(b) => self.put(if b { "true" } else { "false" }),
            Kind::Int(n) => self.put(&n.to_string()),
            Kind::Float(f) => show::write_float(&mut self.out, f),
            Kind::Str(s) => self.string(s.as_bytes()),
            Kind::Path(p) => self.out.extend_from_slice(p.as_bytes()),
            Kind::List(list) => {
                if list.is_empty() {
                    self.put("[ ]");
                } else if !self.seen.insert(cell) {
                    self.put("«repeated»");
                } else if depth >= self.options.max_depth {
                    self.put("[ ... ]");
                } else {
                    self.put("[ ");
                    for (i, item) in list.iter().enumerate() {
                        if self.items >= self.options.max_list_items {
                            self.elided(list.len() - i, "item", "items");
                            self.put(" ");
                            break;
                        }
                        self.value(item, depth + 1)?;
                        self.items += 1;
                        self.put(" ");
                    }
                    self.put("]");
                }
            }
            Kind::Attrs(attrs) => {
                if attrs.is_empty() {
                    self.put("{ }");
                    return Ok(());
                }
                if self.options.derivation_paths && self.vm.is_derivation(attrs)? {
                    return self.derivation(attrs);
                }
                if !self.seen.insert(value) {
                    self.put("«repeated»");
                } else if depth >= self.options.max_depth {
                    self.put("{ ... }");
                } else {
                    self.put("{ ");
                    let total = attrs.len();
                    for (i, (name, value)) in attrs.sorted().enumerate() {
                        if self.attrs >= self.options.max_attrs {
                            self.elided(total - i, "attribute", "attributes");
                            self.put(" ");
                            break;
                        }
                        show::write_name(&mut self.out, name.as_bytes());
                        self.put(" = ");
                        self.value(value, depth + 1)?;
                        self.attrs += 1;
                        self.put("; ");
                    }
                    self.put("}");
                }
            }
            Kind::Fun(fun) => self.function(fun),
            Kind::Thunk(_) | Kind::Unset => self.put("«potential infinite recursion»"),
        }
        Ok(())
    }

    fn elided(&mut self, count: usize, one: &str, many: &str) {
        self.put(&format!("«{count} {} elided»", if count == 1 { one } else { many }));
    }

    fn string(&mut self, text: &[u8]) {
        if text.len() <= self.options.max_string {
            show::write_string(&mut self.out, text);
            return;
        }
        show::write_string(&mut self.out, &text[..self.options.max_string]);
        self.put(" ");
        self.elided(text.len() - self.options.max_string, "byte", "bytes");
    }

    fn derivation(&mut self, attrs: crate::value::Attrs) -> EvalResult<()> {
        let path = match attrs.find(firn_syntax::Sym::from_static("drvPath")) {
            Some(path) => {
                let (text, _) = self.vm.coerce(
                    path,
                    crate::coerce::Coerce::PLAIN,
                    crate::source::Pos::NONE,
                    "while evaluating the drvPath of a derivation",
                )?;
                text
            }
            None => Vec::new(),
        };
        self.put("«derivation");
        if !path.is_empty() {
            self.put(" ");
            self.out.extend_from_slice(&path);
        }
        self.put("»");
        Ok(())
    }

    fn function(&mut self, fun: Fun) {
        if self.options.ambiguous {
            self.put(match fun {
                Fun::Closure(_) => "<LAMBDA>",
                Fun::PrimOp(_) => "<PRIMOP>",
                Fun::Partial(_) => "<PRIMOP-APP>",
            });
            return;
        }
        match fun {
            Fun::Closure(closure) => {
                self.put("«lambda");
                if let Some(name) = closure.next().0 {
                    self.put(" ");
                    show::write_name(&mut self.out, name.as_bytes());
                }
                let host = self.vm.host().clone();
                if let Some(place) = closure.next().1.place(&*host) {
                    self.put(" @ ");
                    self.put(&place.display());
                }
                self.put("»");
            }
            Fun::PrimOp(op) => self.put(&format!("«primop {}»", op.name)),
            Fun::Partial(app) => self.put(&format!("«partially applied primop {}»", app.primop.name)),
        }
    }
}
