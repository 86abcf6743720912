//! `fetchTree` and `fetchGit`: arguments become an input, which the host fetches; what it knows then becomes a set.

use super::{Entry, entry, experimental, flakeref};
use crate::attrs::AttrsBuilder;
use crate::coerce::{Coerce, CopyToStore, type_phrase};
use crate::context::ContextBuilder;
use crate::error::{ErrorKind, EvalError, EvalResult, TraceKind};
use crate::fmt::json;
use crate::source::Pos;
use crate::value::{Kind, Value};
use crate::vm::{Vm, host_error};
use firn_core::StorePath;
use firn_core::flake_ref::{Attr, Attrs, Input};
use firn_core::url::Url;
use firn_syntax::{Sym, sym};

pub(super) const TABLE: &[Entry] =
    &[entry("fetchGit", 1, fetch_git), experimental("fetchTree", 1, fetch_tree, "fetch-tree")];

/// The builtin that is called.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Git,
    Tree,
}

impl Who {
    fn name(self) -> &'static str {
        match self {
            Self::Git => "fetchGit",
            Self::Tree => "fetchTree",
        }
    }
}

fn fetch_git(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    fetch(vm, args[0], pos, Who::Git)
}

fn fetch_tree(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    fetch(vm, args[0], pos, Who::Tree)
}

fn fail<T>(pos: Pos, message: impl Into<String>) -> EvalResult<T> {
    Err(EvalError::at(ErrorKind::Eval, pos, message.into()))
}

fn fetch(vm: &mut Vm, value: Value, pos: Pos, who: Who) -> EvalResult<Value> {
    let mut input = input(vm, value, pos, who)?;
    if !vm.settings.pure_eval && !input.is_direct() && vm.settings.has_feature("flakes") {
        vm.in_turn()?;
        input = vm.host.clone().look_up_input(&input).map_err(host_error)?;
    }
    // What has no URL is not fetched.
    input.to_url().map_err(|error| EvalError::new(ErrorKind::Eval, error.message))?;
    let shown = |input: &Input| match input.to_url() {
        Ok(url) => String::from_utf8_lossy(url.to_string().as_bytes()).into_owned(),
        Err(error) => error.message,
    };
    if vm.settings.pure_eval && !input.is_locked(vm.settings.trust_forges) {
        if !input.attrs.contains_key("narHash") {
            return fail(
                pos,
                format!(
                    "in pure evaluation mode, '{}' doesn't fetch unlocked input '{}'",
                    who.name(),
                    shown(&input)
                ),
            );
        }
        vm.in_turn()?;
        vm.host.warn(&format!(
            "Input '{}' is unlocked (e.g. lacks a Git revision) but is checked by NAR hash. This is not reproducible and \
             will break after garbage collection or when shared.",
            shown(&input)
        ));
    }
    vm.host.check_uri(&shown(&input)).map_err(host_error)?;
    let is_final = flakeref::with_context(vm, |_| input.is_final())?;
    if is_final {
        let message = format!("input '{}' is not allowed to use the '__final' attribute", shown(&input));
        return Err(EvalError::new(ErrorKind::Eval, message));
    }
    vm.in_turn()?;
    let fetched = vm.host.clone().fetch_tree(&input);
    let (path, attrs) = fetched.map_err(|error| {
        let what = TraceKind::Text(format!("while fetching the input '{}'", shown(&input)).into());
        host_error(error).trace(Pos::NONE, what)
    })?;
    let commit = if who == Who::Git { Commit::Always } else { Commit::IfKnown };
    Ok(tree_value(vm, path, &attrs, commit))
}

/// Fetches an input of a lock file.
pub(super) fn fetch_locked(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let value = vm.force_at(args[0], pos)?;
    let attrs = given_attrs(vm, value, pos, Who::Tree)?;
    let input = flakeref::with_context(vm, |context| Input::from_attrs(attrs, context))?;
    vm.in_turn()?;
    let fetched = vm.host.clone().fetch_locked(&input);
    let (path, attrs) = fetched.map_err(|error| {
        let shown = input.to_url().map_or_else(|error| error.message, |url| url.to_string());
        let what = TraceKind::Text(format!("while fetching the input '{shown}'").into());
        host_error(error).trace(Pos::NONE, what)
    })?;
    Ok(tree_value(vm, path, &attrs, Commit::IfKnown))
}

/// What is said of a tree's commit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Commit {
    IfKnown,
    /// Noughts where there is none.
    Always,
    Never,
}

/// The argument as an input.
fn input(vm: &mut Vm, value: Value, pos: Pos, who: Who) -> EvalResult<Input> {
    let value = vm.force_at(value, pos)?;
    let mut attrs = match value.as_attrs() {
        Some(_) => given_attrs(vm, value, pos, who)?,
        None => {
            let what = match who {
                Who::Git => "while evaluating the first argument passed to 'fetchGit'",
                Who::Tree => "while evaluating the first argument passed to 'fetchTree'",
            };
            let (url, _) = vm.coerce(value, Coerce::PLAIN, pos, what)?;
            if who == Who::Tree {
                return input_of_url(vm, &url, pos);
            }
            let url = git_url(&String::from_utf8_lossy(&url))
                .map_err(|message| EvalError::at(ErrorKind::Eval, pos, message))?;
            Attrs::from([("url".to_owned(), Attr::str(url))])
        }
    };
    if who == Who::Git {
        attrs.insert("type".to_owned(), Attr::str("git"));
        if !attrs.contains_key("exportIgnore") && attrs.get("submodules") != Some(&Attr::Bool(true)) {
            attrs.insert("exportIgnore".to_owned(), Attr::Bool(true));
        }
    } else if attrs.get("type") == Some(&Attr::str("git")) && !attrs.contains_key("shallow") {
        attrs.insert("shallow".to_owned(), Attr::Bool(true));
    }
    if who == Who::Tree && attrs.contains_key("name") {
        return fail(pos, "argument 'name' isn’t supported in call to 'fetchTree'");
    }
    flakeref::with_context(vm, |context| Input::from_attrs(attrs, context))
}

fn input_of_url(vm: &mut Vm, url: &[u8], pos: Pos) -> EvalResult<Input> {
    if !vm.settings.has_feature("flakes") {
        return fail(
            pos,
            "passing a string argument to 'fetchTree' requires the 'flakes' experimental feature",
        );
    }
    let text = String::from_utf8_lossy(url).into_owned();
    if text.strip_prefix("file:").is_some_and(|path| !path.starts_with('/')) {
        let message = format!(
            "tarball '{text}' must use an absolute path. The 'file' scheme does not support relative paths."
        );
        let what = TraceKind::Text(format!("while fetching the input '{text}'").into());
        return Err(EvalError::new(ErrorKind::Eval, message).trace(Pos::NONE, what));
    }
    flakeref::with_context(vm, |context| {
        let url = Url::parse_lenient(url, &mut context.warnings)?;
        Input::from_url(&url, true, context)
    })
}

/// The members of a set that is the argument.
fn given_attrs(vm: &mut Vm, value: Value, pos: Pos, who: Who) -> EvalResult<Attrs> {
    let Some(given) = value.as_attrs() else { return Ok(Attrs::new()) };
    let kind = sym!("type");
    let mut attrs = Attrs::new();
    match given.find(kind) {
        Some(_) if who == Who::Git => return fail(pos, "unexpected argument 'type'"),
        None if who == Who::Tree => return fail(pos, "argument 'type' is missing in call to 'fetchTree'"),
        Some(value) => {
            let what = "while evaluating the `type` argument passed to 'fetchTree'";
            let text = vm.string_no_context(value, given.position_of(kind), what)?;
            attrs.insert("type".to_owned(), Attr::str(text.as_bytes()));
        }
        None => {}
    }
    for (i, key) in given.shape().syms().iter().enumerate() {
        if *key == kind {
            continue;
        }
        let at = given.position(i);
        let value = vm.force_at(given.get(i), at)?;
        let attr = match value.kind() {
            Kind::Path(_) | Kind::Str(_) => {
                let (text, _) = vm.coerce(value, Coerce::PLAIN, at, "")?;
                match who == Who::Git && key.as_bytes() == b"url" {
                    true => Attr::str(
                        git_url(&String::from_utf8_lossy(&text))
                            .map_err(|message| EvalError::at(ErrorKind::Eval, pos, message))?,
                    ),
                    false => Attr::Str(text),
                }
            }
            Kind::Bool(value) => Attr::Bool(value),
            Kind::Int(number) => match u64::try_from(number) {
                Ok(number) => Attr::Int(number),
                Err(_) => {
                    let (who, key) = (who.name(), key.shown());
                    return fail(pos, format!("negative value given for '{who}' argument '{key}': {number}"));
                }
            },
            _ if key.as_bytes() == b"publicKeys" => {
                flakeref::with_context(vm, |context| context.require("verified-fetches"))?;
                let mut text = Vec::new();
                let mut context = ContextBuilder::default();
                json::to_json(vm, value, CopyToStore::Yes, &mut text, &mut context, pos)?;
                Attr::Str(text)
            }
            _ => {
                let (who, key, found) = (who.name(), key.shown(), type_phrase(value));
                let message = format!(
                    "argument '{key}' to '{who}' is {found} while a string, Boolean or integer is expected"
                );
                return Err(EvalError::new(ErrorKind::Type, message));
            }
        };
        attrs.insert(String::from_utf8_lossy(key.as_bytes()).into_owned(), attr);
    }
    Ok(attrs)
}

/// A path as it stands in a URL (RFC 3986).
fn encode_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// What Git takes for a URL as one: `user@host:path`, and paths.
fn git_url(text: &str) -> Result<String, String> {
    let scp = match (text.starts_with('/'), text.split_once('@')) {
        (false, Some((user, rest))) if !user.contains('/') => {
            rest.rsplit_once(':').map(|(host, path)| format!("ssh://{user}@{host}/{path}"))
        }
        _ => None,
    };
    let text = scp.unwrap_or_else(|| text.to_owned());
    if !text.starts_with("file:") && !text.starts_with("git+file:") && !text.contains("://") {
        if text.split('/').next().is_some_and(|first| first.contains(':')) {
            return Err(format!(
                "SCP-like URL '{text}' is not supported; use SSH URL syntax instead (ssh://...)"
            ));
        }
        let encoded = encode_path(&text);
        return Ok(match text.starts_with('/') {
            true => format!("file://{encoded}"),
            false => format!("file:{encoded}"),
        });
    }
    Ok(text.strip_prefix("git+").map_or(text.clone(), str::to_owned))
}

/// What is known of a fetched input, as a set.
pub(super) fn tree_value(vm: &mut Vm, path: StorePath, attrs: &Attrs, commit: Commit) -> Value {
    let mut out = AttrsBuilder::with_capacity(12);
    let text = |name: &str| match attrs.get(name) {
        Some(Attr::Str(text)) => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    };
    let number = |name: &str| match attrs.get(name) {
        Some(Attr::Int(number)) => Some(*number as i64),
        _ => None,
    };
    let mut push = |name: &'static str, value: Value| out.push(Sym::from_static(name), value);
    push("outPath", super::path_import::store_string(vm, path));
    if let Some(hash) = text("narHash") {
        push("narHash", Value::str(hash.as_bytes()));
    }
    if text("type").as_deref() == Some("git") {
        push("submodules", Value::bool(attrs.get("submodules") == Some(&Attr::Bool(true))));
    }
    // Working trees with changes have no commit; `fetchGit` says so with noughts.
    let rev_always = commit == Commit::Always;
    let rev = text("rev").or_else(|| rev_always.then(|| "0".repeat(40)));
    if let Some(rev) = rev.filter(|_| commit != Commit::Never) {
        push("rev", Value::str(rev.as_bytes()));
        push("shortRev", Value::str(&rev.as_bytes()[..rev.len().min(7)]));
    }
    let count = number("revCount").or(rev_always.then_some(0));
    if let Some(count) = count.filter(|_| commit != Commit::Never) {
        push("revCount", Value::int(count));
    }
    for name in ["dirtyRev", "dirtyShortRev"] {
        if let Some(rev) = text(name) {
            push(name, Value::str(rev.as_bytes()));
        }
    }
    if let Some(time) = number("lastModified") {
        push("lastModified", Value::int(time));
        push("lastModifiedDate", Value::str(firn_core::date::digits(time).as_bytes()));
    }
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_urls() {
        for (text, expected) in [
            ("/a/b", "file:///a/b"),
            ("/a b/c#", "file:///a%20b/c%23"),
            ("a/b", "file:a/b"),
            ("git@h.org:x/y.git", "ssh://git@h.org/x/y.git"),
            ("https://h/x", "https://h/x"),
            ("git+ssh://h/x", "ssh://h/x"),
            ("git+file:///a", "file:///a"),
        ] {
            assert_eq!(git_url(text).as_deref(), Ok(expected));
        }
        assert!(git_url("h.org:x").is_err());
    }
}
