//! Turning values into strings and paths.

use crate::ahead::Pace;
use crate::context::{Context, ContextBuilder, ContextElem};
use crate::error::{ErrorKind, EvalError, EvalResult, ResultExt, TraceKind};
use crate::host::CopySource;
use crate::shape::Special;
use crate::source::Pos;
use crate::value::{Ahead, Attrs, Kind, List, NixStr, Value};
use crate::vm::Vm;
use firn_core::{CaMethod, HashAlgo, StorePath};
use firn_syntax::sym;
use std::borrow::Cow;

/// What becomes of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopyToStore {
    /// It is copied to the store, and the string refers to the copy.
    Yes,
    /// Its text is taken.
    No,
}

/// How to turn a value into a string.
#[derive(Clone, Copy, Debug)]
pub struct Coerce {
    /// Also accept null, Booleans, numbers and lists, as `toString` does.
    pub more: bool,
    pub copy: CopyToStore,
}

impl Coerce {
    /// Strings, paths and sets with `outPath` or `__toString`; paths by their text.
    pub const PLAIN: Coerce = Coerce { more: false, copy: CopyToStore::No };
    /// As derivation attributes are.
    pub const ENV: Coerce = Coerce { more: true, copy: CopyToStore::Yes };
}

/// Removes `.`, `..` and repeated slashes from an absolute path, without looking at the file system.
pub fn canonical(path: &[u8]) -> Vec<u8> {
    canonical_below(b"/", path)
}

/// As [`canonical`], for a path below a folder whose own path is canonical already.
pub fn canonical_below(dir: &[u8], path: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(dir.len() + path.len() + 1);
    if dir != b"/" {
        out.extend_from_slice(dir);
    }
    let mut start = 0;
    for end in memchr::memchr_iter(b'/', path).chain([path.len()]) {
        match &path[start..end] {
            b"" | b"." => {}
            b".." => out.truncate(memchr::memrchr(b'/', &out).unwrap_or(0)),
            part => {
                out.push(b'/');
                out.extend_from_slice(part);
            }
        }
        start = end + 1;
    }
    if out.is_empty() {
        out.push(b'/');
    }
    out
}

/// Everything before the last component of an absolute path.
pub fn dir_of(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|c| *c == b'/') {
        None | Some(0) => b"/",
        Some(n) => &path[..n],
    }
}

/// The last component.
pub fn base_name(path: &[u8]) -> &[u8] {
    let trimmed = if path.len() > 1 { path.strip_suffix(b"/").unwrap_or(path) } else { path };
    match trimmed.iter().rposition(|c| *c == b'/') {
        None => trimmed,
        Some(n) => &trimmed[n + 1..],
    }
}

/// A value's type with its article, for messages.
pub fn type_phrase(value: Value) -> Cow<'static, str> {
    let plain = match value.kind() {
        Kind::Null => "null",
        Kind::Bool(_) => "a Boolean",
        Kind::Int(_) => "an integer",
        Kind::Float(_) => "a float",
        Kind::Str(s) if s.has_context() => "a string with context",
        Kind::Str(_) => "a string",
        Kind::Path(_) => "a path",
        Kind::Attrs(_) => "a set",
        Kind::List(_) => "a list",
        Kind::Fun(crate::value::Fun::Closure(_)) => "a function",
        Kind::Fun(crate::value::Fun::PrimOp(op)) => {
            return format!("the built-in function '{}'", op.name).into();
        }
        Kind::Fun(crate::value::Fun::Partial(app)) => {
            return format!("the partially applied built-in function '{}'", app.primop.name).into();
        }
        Kind::Thunk(_) | Kind::Unset => "a thunk",
    };
    plain.into()
}

/// A value's type as `builtins.typeOf` names it.
pub fn type_name(value: Value) -> &'static str {
    match value.kind() {
        Kind::Null => "null",
        Kind::Bool(_) => "bool",
        Kind::Int(_) => "int",
        Kind::Float(_) => "float",
        Kind::Str(_) => "string",
        Kind::Path(_) => "path",
        Kind::Attrs(_) => "set",
        Kind::List(_) => "list",
        Kind::Fun(_) => "lambda",
        Kind::Thunk(_) | Kind::Unset => "thunk",
    }
}

/// `%f` of C, as the language prints floats in strings.
pub fn format_f6(value: f64) -> String {
    if value.is_nan() {
        if value.is_sign_negative() { "-nan".into() } else { "nan".into() }
    } else if value.is_infinite() {
        if value < 0.0 { "-inf".into() } else { "inf".into() }
    } else {
        format!("{value:.6}")
    }
}

impl Vm {
    /// A value as a string with its context.
    pub fn coerce(
        &mut self,
        value: Value,
        how: Coerce,
        pos: Pos,
        what: &'static str,
    ) -> EvalResult<(Vec<u8>, Context)> {
        let mut text = Vec::new();
        let mut context = ContextBuilder::default();
        self.coerce_into(value, how, &mut text, &mut context, pos, what)?;
        Ok((text, context.finish()))
    }

    /// Evaluates what becomes a string, which is a level of its own for the depth limit.
    #[inline]
    pub(crate) fn force_text(&mut self, value: Value, pos: Pos) -> EvalResult<Value> {
        match value.known() {
            Some(value) => {
                self.check_depth(pos)?;
                Ok(value)
            }
            None => self.nested(pos, |vm| vm.force_at(value, pos)),
        }
    }

    /// Appends a value's text to `text`, and its context to `context`.
    pub(crate) fn coerce_into(
        &mut self,
        value: Value,
        how: Coerce,
        text: &mut Vec<u8>,
        context: &mut ContextBuilder,
        pos: Pos,
        what: &'static str,
    ) -> EvalResult<()> {
        let value = self.force_text(value, pos)?;
        match value.kind() {
            Kind::Str(s) => {
                text.extend_from_slice(s.as_bytes());
                context.add(s.context());
                Ok(())
            }
            Kind::Attrs(_) | Kind::List(_) => {
                self.nested(pos, |vm| vm.coerce_inside(value, how, text, context, pos, what))
            }
            _ => self.coerce_inside(value, how, text, context, pos, what),
        }
    }

    fn coerce_inside(
        &mut self,
        value: Value,
        how: Coerce,
        text: &mut Vec<u8>,
        context: &mut ContextBuilder,
        pos: Pos,
        what: &'static str,
    ) -> EvalResult<()> {
        match value.kind() {
            Kind::Path(path) => {
                match how.copy {
                    CopyToStore::Yes => {
                        let copied = self.copy_path(path.as_bytes())?;
                        text.extend_from_slice(self.host.store_dir().display(&copied).as_bytes());
                        context.add(Context::single(&ContextElem::Opaque(copied)));
                    }
                    CopyToStore::No => text.extend_from_slice(path.as_bytes()),
                }
                Ok(())
            }
            Kind::Attrs(attrs) => {
                if let Some(to_string) = attrs.find(sym!("__toString")) {
                    let result = self.call(to_string, &[value], pos)?;
                    let what = "while evaluating the result of the `__toString` attribute";
                    return self.coerce_into(result, how, text, context, pos, what);
                }
                match attrs.find_special(Special::OutPath) {
                    Some(path) => self.coerce_into(path, how, text, context, pos, what),
                    None => Err(self.cannot_coerce(value).context(pos, what)),
                }
            }
            _ if !how.more => Err(self.cannot_coerce(value).context(pos, what)),
            Kind::Bool(true) => {
                text.push(b'1');
                Ok(())
            }
            Kind::Bool(false) | Kind::Null => Ok(()),
            Kind::Int(n) => {
                text.extend_from_slice(n.to_string().as_bytes());
                Ok(())
            }
            Kind::Float(f) => {
                text.extend_from_slice(format_f6(f).as_bytes());
                Ok(())
            }
            Kind::List(list) => {
                let last = list.len().saturating_sub(1);
                let mut pace = Pace::new(self);
                for (i, item) in list.iter().enumerate() {
                    if pace.is_slow(self, i, list.len()) {
                        self.elements_ahead(list, Ahead::Derive);
                    }
                    self.coerce_into(
                        item,
                        how,
                        text,
                        context,
                        pos,
                        "while evaluating one element of the list",
                    )
                    .context(pos, what)?;
                    // An empty list among the elements gets no separator after it.
                    let empty = self.force(item)?.as_list().is_some_and(|l| l.is_empty());
                    if i < last && !empty {
                        text.push(b' ');
                    }
                }
                Ok(())
            }
            _ => Err(self.cannot_coerce(value).context(pos, what)),
        }
    }

    #[cold]
    fn cannot_coerce(&mut self, value: Value) -> EvalError {
        let shown = self.show_for_error(value);
        EvalError::new(ErrorKind::Type, format!("cannot coerce {} to a string: {shown}", type_phrase(value)))
    }

    /// Copies a source path to the store, once.
    pub(crate) fn copy_path(&mut self, path: &[u8]) -> EvalResult<StorePath> {
        if let Some(copied) = self.shared.copied.get(path) {
            return Ok(copied);
        }
        if path.ends_with(b".drv") {
            return Err(EvalError::new(ErrorKind::Eval, "file names are not allowed to end in '.drv'"));
        }
        let name = String::from_utf8_lossy(base_name(path)).into_owned();
        let source = CopySource {
            path,
            name: &name,
            method: CaMethod::NixArchive,
            algo: HashAlgo::Sha256,
            references: Default::default(),
            expected: None,
            filter: None,
        };
        let copied = self.host.clone().copy_to_store(source)?;
        self.host.copied_path(path, &copied);
        Ok(self.shared.copied.insert(path.to_vec(), copied))
    }

    /// A value as an absolute path, with the context of the string it came from.
    pub(crate) fn coerce_path(
        &mut self,
        value: Value,
        pos: Pos,
        what: &'static str,
    ) -> EvalResult<(Vec<u8>, Context)> {
        let value = self.force_at(value, pos).context(pos, what)?;
        if let Kind::Path(path) = value.kind() {
            return Ok((path.as_bytes().to_vec(), Context::EMPTY));
        }
        if let Some(to_string) = value.as_attrs().and_then(|a| a.find(sym!("__toString"))) {
            let result = self.call(to_string, &[value], pos)?;
            return self.coerce_path(result, pos, what);
        }
        let (text, context) = self.coerce(value, Coerce::PLAIN, pos, what)?;
        if text.first() != Some(&b'/') {
            let shown = String::from_utf8_lossy(&text).into_owned();
            return Err(EvalError::new(
                ErrorKind::Eval,
                format!("string '{shown}' doesn't represent an absolute path"),
            )
            .context(pos, what));
        }
        Ok((canonical(&text), context))
    }

    // ---- forced values of one type --------------------------------------------------------------------

    fn forced(&mut self, value: Value, pos: Pos, what: &'static str) -> EvalResult<Value> {
        self.force_at(value, pos).context(pos, what)
    }

    #[cold]
    fn wrong_type(&mut self, value: Value, expected: &str, pos: Pos, what: &'static str) -> EvalError {
        self.type_error(value, expected, pos).context(pos, what)
    }

    /// A set.
    pub fn force_attrs(&mut self, value: Value, pos: Pos, what: &'static str) -> EvalResult<Attrs> {
        let value = self.force_at(value, pos)?;
        value.as_attrs().ok_or_else(|| self.type_error(value, "a set", Pos::NONE).context(pos, what))
    }

    pub(crate) fn force_list(&mut self, value: Value, pos: Pos, what: &'static str) -> EvalResult<List> {
        let value = self.force_at(value, pos)?;
        value.as_list().ok_or_else(|| self.type_error(value, "a list", Pos::NONE).context(pos, what))
    }

    pub(crate) fn force_string(&mut self, value: Value, pos: Pos, what: &'static str) -> EvalResult<NixStr> {
        let value = self.forced(value, pos, what)?;
        value.as_str().ok_or_else(|| self.wrong_type(value, "a string", pos, what))
    }

    pub(crate) fn force_int(&mut self, value: Value, pos: Pos, what: &'static str) -> EvalResult<i64> {
        let value = self.forced(value, pos, what)?;
        value.as_int().ok_or_else(|| self.wrong_type(value, "an integer", pos, what))
    }

    /// A truth value.
    pub fn force_bool(&mut self, value: Value, pos: Pos, what: &'static str) -> EvalResult<bool> {
        match self.forced(value, pos, what)? {
            Value::TRUE => Ok(true),
            Value::FALSE => Ok(false),
            other => Err(self.wrong_type(other, "a Boolean", pos, what)),
        }
    }

    /// A function or a set that can be called; the value is forced.
    pub(crate) fn force_function(&mut self, value: Value, pos: Pos, what: &'static str) -> EvalResult<Value> {
        let value = self.forced(value, pos, what)?;
        let callable =
            value.as_fun().is_some() || value.as_attrs().is_some_and(|a| a.find(sym!("__functor")).is_some());
        if callable { Ok(value) } else { Err(self.wrong_type(value, "a function", pos, what)) }
    }

    /// A string that refers to nothing in the store.
    #[inline]
    pub fn string_no_context(&mut self, value: Value, pos: Pos, what: &'static str) -> EvalResult<NixStr> {
        if let Some(text) = value.as_str().filter(|text| !text.has_context()) {
            return Ok(text);
        }
        self.string_no_context_slowly(value, pos, what)
    }

    #[inline(never)]
    fn string_no_context_slowly(&mut self, value: Value, pos: Pos, what: &'static str) -> EvalResult<NixStr> {
        let text = self.force_string(value, pos, what)?;
        if !text.has_context() {
            return Ok(text);
        }
        let shown = String::from_utf8_lossy(text.as_bytes()).into_owned();
        let first = text.context().elems().into_iter().next();
        let refers = first.map(|e| self.show_elem(&e)).unwrap_or_default();
        Err(EvalError::new(
            ErrorKind::Eval,
            format!("the string '{shown}' is not allowed to refer to a store path (such as '{refers}')"),
        )
        .context(pos, what))
    }

    /// A context element as messages and the older text form have it.
    pub(crate) fn show_elem(&self, elem: &ContextElem) -> String {
        let dir = self.host.store_dir();
        match elem {
            ContextElem::Opaque(path) => dir.display(path).to_string(),
            ContextElem::DrvDeep(path) => format!("{} (deep)", dir.display(path)),
            ContextElem::Built { drv, output } => format!("{}^{output}", drv.render(dir)),
        }
    }

    /// Whether a set is a derivation.
    pub fn is_derivation(&mut self, attrs: Attrs) -> EvalResult<bool> {
        let Some(kind) = attrs.find_special(Special::Type) else { return Ok(false) };
        let kind = self.force(kind)?;
        Ok(kind.as_str().is_some_and(|s| s.as_bytes() == b"derivation"))
    }

    /// Forces a value and everything in it.
    pub fn force_deep(&mut self, value: Value) -> EvalResult<()> {
        let mut seen = rustc_hash::FxHashSet::default();
        self.force_deep_seen(value, &mut seen)
    }

    fn force_deep_seen(&mut self, value: Value, seen: &mut rustc_hash::FxHashSet<Value>) -> EvalResult<()> {
        let place = if value.known().is_some() { Pos::NONE } else { function_place(value) };
        self.nested(place, |vm| {
            let value = vm.force_at(value, place)?;
            vm.force_inside(value, seen)
        })
    }

    fn force_inside(&mut self, value: Value, seen: &mut rustc_hash::FxHashSet<Value>) -> EvalResult<()> {
        match value.kind() {
            Kind::Attrs(attrs) if seen.insert(value) => {
                let shape = attrs.shape();
                let mut pace = Pace::new(self);
                for i in 0..shape.len() {
                    if pace.is_slow(self, i, shape.len()) {
                        self.values_ahead(attrs, Ahead::Deep);
                    }
                    let result = self.force_deep_seen(attrs.get(i), seen);
                    result.traced(attrs.position(i), || TraceKind::Attribute(shape.syms()[i]))?;
                }
                Ok(())
            }
            Kind::List(list) if seen.insert(value) => {
                let mut pace = Pace::new(self);
                for (i, item) in list.iter().enumerate() {
                    if pace.is_slow(self, i, list.len()) {
                        self.elements_ahead(list, Ahead::Deep);
                    }
                    self.force_deep_seen(item, seen).traced(Pos::NONE, || {
                        TraceKind::Text(format!("while evaluating list element at index {i}").into())
                    })?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Strings of the language hold no null bytes.
pub(crate) fn no_nul(text: &[u8], pos: Pos) -> EvalResult<()> {
    if memchr::memchr(0, text).is_none() {
        return Ok(());
    }
    Err(EvalError::at(ErrorKind::Eval, pos, firn_syntax::nul_message(text)))
}

/// Where the function was written that a value is, or that gives a value when it is forced.
#[cold]
pub(crate) fn function_place(value: Value) -> Pos {
    let mut value = value;
    while let Some(function) = value.as_thunk().and_then(|t| t.applied_function()) {
        value = function;
    }
    match value.as_fun() {
        Some(crate::value::Fun::Closure(closure)) => closure.next().1,
        _ => Pos::NONE,
    }
}

/// Where a value that is no list comes from, as far as it tells: for a set that stands in the text there, for a function its
/// own place; nowhere for what was made of other sets, and `otherwise` for anything else.
pub(crate) fn place_of(value: Value, otherwise: Pos) -> Pos {
    match value.as_attrs() {
        Some(attrs) => attrs.positions().set(),
        None if value.as_fun().is_some_and(|f| matches!(f, crate::value::Fun::Closure(_))) => {
            function_place(value)
        }
        None => otherwise,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (from, to) in [("/a/../b/./c//d", "/b/c/d"), ("/..", "/"), ("/", "/"), ("/a/b/", "/a/b")] {
            assert_eq!(canonical(from.as_bytes()), to.as_bytes());
        }
        for (dir, path, to) in
            [("/a/b", "../c/./d", "/a/c/d"), ("/", "x", "/x"), ("/a", "../..", "/"), ("/a", "", "/a")]
        {
            assert_eq!(canonical_below(dir.as_bytes(), path.as_bytes()), to.as_bytes());
        }
        assert_eq!((dir_of(b"/a/b"), dir_of(b"/a"), base_name(b"/a/b")), (&b"/a"[..], &b"/"[..], &b"b"[..]));
    }
}
