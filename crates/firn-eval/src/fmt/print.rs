//! The language's own form of values, as `nix-instantiate --eval` and messages print it.

use crate::error::{ErrorKind, EvalResult};
use crate::render::shown_place;
use crate::value::{Attrs, Fun, Kind, List, Value};
use crate::vm::Vm;
use firn_syntax::{show, sym};
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
    /// The same for the value itself, once it is evaluated.
    pub outer_errors: bool,
    pub max_depth: usize,
    pub max_attrs: usize,
    pub max_list_items: usize,
    pub max_string: usize,
    /// Older notation: `<CODE>`, `<LAMBDA>`, `<PRIMOP>`.
    pub ambiguous: bool,
    /// Sets and lists with several things in them take a line for each, indented by so many blanks; 0 for one line.
    pub indent: usize,
    /// Kinds of values in colours of the terminal.
    pub colour: bool,
}

const RED: &str = "\x1b[31;1m";
const GREEN: &str = "\x1b[32;1m";
const MAGENTA: &str = "\x1b[35;1m";
const BLUE: &str = "\x1b[34;1m";
const CYAN: &str = "\x1b[36;1m";
const NORMAL: &str = "\x1b[0m";

impl PrintOptions {
    /// As `nix-instantiate --eval` prints.
    pub fn ambiguous() -> PrintOptions {
        PrintOptions {
            force: false,
            derivation_paths: false,
            inner_errors: false,
            outer_errors: false,
            max_depth: usize::MAX,
            max_attrs: usize::MAX,
            max_list_items: usize::MAX,
            max_string: usize::MAX,
            ambiguous: true,
            indent: 0,
            colour: false,
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
            outer_errors: false,
            max_depth: 10,
            max_attrs: 10,
            max_list_items: 10,
            max_string: 1024,
            ambiguous: false,
            indent: 0,
            colour: false,
        }
    }
}

/// Prints a value.
pub fn print_value(vm: &mut Vm, value: Value, options: &PrintOptions) -> EvalResult<Vec<u8>> {
    let mut printer =
        Printer { vm, options, out: Vec::new(), seen: FxHashSet::default(), attrs: 0, items: 0, indent: 0 };
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
    /// Blanks in front of a new line.
    indent: usize,
}

impl Printer<'_> {
    fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Something in a colour, where there are colours.
    fn painted(&mut self, colour: &'static str, f: impl FnOnce(&mut Self)) {
        if self.options.colour {
            self.put(colour);
        }
        f(self);
        if self.options.colour {
            self.put(NORMAL);
        }
    }

    /// What stands between things: a blank, or a new line.
    fn space(&mut self, lines: bool) {
        if lines {
            self.out.push(b'\n');
            self.out.resize(self.out.len() + self.indent, b' ');
        } else {
            self.out.push(b' ');
        }
    }

    /// Whether things take a line each: there are several, or the only one has things in it.
    fn takes_lines(&mut self, count: usize, first: Option<Value>) -> EvalResult<bool> {
        if self.options.indent == 0 {
            return Ok(false);
        }
        match (count, first) {
            (0, _) | (_, None) => Ok(false),
            (1, Some(only)) => {
                let only = self.vm.force(only)?;
                Ok(matches!(only.kind(), Kind::List(_) | Kind::Attrs(_)))
            }
            _ => Ok(true),
        }
    }

    fn value(&mut self, value: Value, depth: usize) -> EvalResult<()> {
        match self.print(value, depth) {
            Err(error)
                if self.options.inner_errors
                    && (depth > 0 || self.options.outer_errors)
                    && !matches!(error.kind(), ErrorKind::StackOverflow | ErrorKind::Quit) =>
            {
                self.painted(RED, |p| p.put(&format!("«error: {}»", error.message())));
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
                    self.painted(RED, |p| p.put("«potential infinite recursion»"));
                    return Ok(());
                }
                None => {
                    let text = if self.options.ambiguous { "<CODE>" } else { "«thunk»" };
                    self.painted(MAGENTA, |p| p.put(text));
                    return Ok(());
                }
            }
        }
        match value.kind() {
            Kind::Null => self.painted(CYAN, |p| p.put("null")),
            Kind::Bool(b) => self.painted(CYAN, |p| p.put(if b { "true" } else { "false" })),
            Kind::Int(n) => self.painted(CYAN, |p| p.put(&n.to_string())),
            Kind::Float(f) => self.painted(CYAN, |p| show::write_float(&mut p.out, f)),
            Kind::Str(s) => self.painted(MAGENTA, |p| p.string(s.as_bytes())),
            Kind::Path(path) => self.painted(GREEN, |p| p.out.extend_from_slice(path.as_bytes())),
            Kind::List(list) => {
                if list.is_empty() {
                    self.put("[ ]");
                } else if !self.seen.insert(cell) {
                    self.repeated();
                } else if depth >= self.options.max_depth {
                    self.put("[ ... ]");
                } else {
                    self.list(list, depth)?;
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
                    self.repeated();
                } else if depth >= self.options.max_depth {
                    self.put("{ ... }");
                } else {
                    self.set(attrs, depth)?;
                }
            }
            Kind::Fun(fun) => self.function(fun),
            Kind::Thunk(_) | Kind::Unset => self.put("«potential infinite recursion»"),
        }
        Ok(())
    }

    fn repeated(&mut self) {
        self.painted(MAGENTA, |p| p.put("«repeated»"));
    }

    fn list(&mut self, list: List, depth: usize) -> EvalResult<()> {
        self.put("[");
        let lines = self.takes_lines(list.len(), list.iter().next())?;
        self.indent += self.options.indent;
        for (i, item) in list.iter().enumerate() {
            self.space(lines);
            if self.items >= self.options.max_list_items {
                self.elided(list.len() - i, "item", "items");
                break;
            }
            self.value(item, depth + 1)?;
            self.items += 1;
        }
        self.indent -= self.options.indent;
        self.space(lines);
        self.put("]");
        Ok(())
    }

    fn set(&mut self, attrs: Attrs, depth: usize) -> EvalResult<()> {
        self.put("{");
        let total = attrs.len();
        let mut entries: Vec<_> = attrs.sorted().collect();
        if self.options.max_attrs != usize::MAX {
            // What a set is stands first where not all of it is shown.
            entries.sort_by_key(|(name, _)| !matches!(name.as_bytes(), b"type" | b"_type"));
        }
        let lines = self.takes_lines(total, entries.first().map(|(_, value)| *value))?;
        self.indent += self.options.indent;
        for (i, (name, value)) in entries.into_iter().enumerate() {
            self.space(lines);
            if self.attrs >= self.options.max_attrs {
                self.elided(total - i, "attribute", "attributes");
                break;
            }
            show::write_name(&mut self.out, name.as_bytes());
            self.put(" = ");
            self.value(value, depth + 1)?;
            self.attrs += 1;
            self.put(";");
        }
        self.indent -= self.options.indent;
        self.space(lines);
        self.put("}");
        Ok(())
    }

    fn elided(&mut self, count: usize, one: &str, many: &str) {
        let text = format!("«{count} {} elided»", if count == 1 { one } else { many });
        self.painted(MAGENTA, |p| p.put(&text));
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

    fn derivation(&mut self, attrs: Attrs) -> EvalResult<()> {
        let path = match attrs.find(sym!("drvPath")) {
            Some(path) => {
                let (pos, what) =
                    (attrs.position_of(sym!("drvPath")), "while evaluating the drvPath of a derivation");
                let path = self.vm.store_path(path, pos, what)?;
                self.vm.host.store_dir().display(&path).to_string()
            }
            None => String::new(),
        };
        self.painted(GREEN, |p| {
            p.put("«derivation");
            if !path.is_empty() {
                p.put(" ");
                p.put(&path);
            }
            p.put("»");
        });
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
        self.painted(BLUE, |p| p.new_function(fun));
    }

    fn new_function(&mut self, fun: Fun) {
        match fun {
            Fun::Closure(closure) => {
                self.put("«lambda");
                if let Some(name) = closure.next().0 {
                    self.put(" ");
                    show::write_name(&mut self.out, name.as_bytes());
                }
                let host = self.vm.host().clone();
                if let Some(place) = shown_place(closure.next().1, &*host) {
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
