//! `fetchMercurial`.

use super::{Entry, entry, flakeref};
use crate::attrs::AttrsBuilder;
use crate::coerce::Coerce;
use crate::error::{ErrorKind, EvalError, EvalResult, TraceKind};
use crate::source::Pos;
use crate::value::Value;
use crate::vm::{Vm, host_error};
use firn_core::flake_ref::{Attr, Attrs, Input, is_commit};
use firn_syntax::Sym;

pub(super) const TABLE: &[Entry] = &[entry("fetchMercurial", 1, fetch_mercurial)];

/// The commit of a working tree with changes.
const NO_REV: &str = "0000000000000000000000000000000000000000";

fn fail<T>(pos: Pos, message: impl Into<String>) -> EvalResult<T> {
    Err(EvalError::at(ErrorKind::Eval, pos, message.into()))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The argument: where the repository is, and what of it is wanted.
fn given(vm: &mut Vm, value: Value, pos: Pos) -> EvalResult<(String, Attrs)> {
    let mut attrs = Attrs::from([("name".to_owned(), Attr::str("source"))]);
    let value = vm.force_at(value, pos)?;
    let Some(set) = value.as_attrs() else {
        let what = "while evaluating the first argument passed to builtins.fetchMercurial";
        let (url, _) = vm.coerce(value, Coerce::PLAIN, pos, what)?;
        return Ok((lossy(&url), attrs));
    };
    let mut url = String::new();
    for (i, key) in set.shape().syms().iter().enumerate() {
        let (value, at) = (set.get(i), set.position(i));
        match key.as_bytes() {
            b"url" => {
                let what = "while evaluating the `url` attribute passed to builtins.fetchMercurial";
                url = lossy(&vm.coerce(value, Coerce::PLAIN, at, what)?.0);
            }
            b"rev" => {
                let what = "while evaluating the `rev` attribute passed to builtins.fetchMercurial";
                let rev = vm.string_no_context(value, at, what)?;
                // A commit, or a branch or tag.
                let name = if is_commit(rev.as_bytes()) { "rev" } else { "ref" };
                attrs.insert(name.to_owned(), Attr::str(rev.as_bytes()));
            }
            b"name" => {
                let what = "while evaluating the `name` attribute passed to builtins.fetchMercurial";
                let name = vm.string_no_context(value, at, what)?;
                attrs.insert("name".to_owned(), Attr::str(name.as_bytes()));
            }
            _ => return fail(at, format!("unsupported argument '{}' to 'fetchMercurial'", key.shown())),
        }
    }
    match url.is_empty() {
        true => fail(pos, "'url' argument required"),
        false => Ok((url, attrs)),
    }
}

fn fetch_mercurial(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let (url, mut attrs) = given(vm, args[0], pos)?;
    vm.host.check_uri(&url).map_err(host_error)?;
    if vm.settings.pure_eval && !attrs.contains_key("rev") {
        let message = "in pure evaluation mode, 'fetchMercurial' requires a Mercurial revision";
        return Err(EvalError::new(ErrorKind::Eval, message));
    }
    let url = if url.contains("://") { url } else { format!("file://{url}") };
    attrs.insert("type".to_owned(), Attr::str("hg"));
    attrs.insert("url".to_owned(), Attr::str(url));
    let input = flakeref::with_context(vm, |context| Input::from_attrs(attrs, context))?;
    vm.in_turn()?;
    let fetched = vm.host.clone().fetch_tree(&input);
    let (path, attrs) = fetched.map_err(|error| {
        let shown = input.to_url().map_or_else(|error| error.message, |url| url.to_string());
        let what = TraceKind::Text(format!("while fetching the input '{shown}'").into());
        host_error(error).trace(Pos::NONE, what)
    })?;
    let text = |name: &str| match attrs.get(name) {
        Some(Attr::Str(text)) => Some(lossy(text)),
        _ => None,
    };
    let mut out = AttrsBuilder::with_capacity(5);
    out.push(Sym::from_static("outPath"), super::path_import::store_string(vm, path));
    if let Some(branch) = text("ref") {
        out.push(Sym::from_static("branch"), Value::str(branch.as_bytes()));
    }
    let rev = text("rev").unwrap_or_else(|| NO_REV.to_owned());
    out.push(Sym::from_static("rev"), Value::str(rev.as_bytes()));
    out.push(Sym::from_static("shortRev"), Value::str(rev.get(..12).unwrap_or(&rev).as_bytes()));
    if let Some(Attr::Int(count)) = attrs.get("revCount") {
        out.push(Sym::from_static("revCount"), Value::int(*count as i64));
    }
    Ok(out.finish())
}
