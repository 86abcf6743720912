//! Fetching. The host does the work.

use super::{Entry, entry, experimental};
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::host::FetchRequest;
use crate::source::Pos;
use crate::value::Value;
use crate::vm::{Vm, host_error};
use firn_core::HashAlgo;

pub(super) const TABLE: &[Entry] = &[
    entry("fetchurl", 1, fetch_url),
    entry("fetchTarball", 1, fetch_tarball),
    entry("fetchGit", 1, fetch_git),
    entry("fetchMercurial", 1, fetch_mercurial),
    entry("fetchTree", 1, fetch_tree),
    experimental("fetchClosure", 1, fetch_closure, "fetch-closure"),
    experimental("getFlake", 1, get_flake, "flakes"),
];

fn fetch(vm: &mut Vm, value: Value, pos: Pos, who: &str, unpack: bool) -> EvalResult<Value> {
    let value = vm.force_at(value, pos)?;
    let mut request = FetchRequest { url: String::new(), name: String::new(), unpack, expected: None };
    let text = |vm: &mut Vm, value, at, what| -> EvalResult<String> {
        Ok(String::from_utf8_lossy(vm.string_no_context(value, at, what)?.as_bytes()).into_owned())
    };
    if let Some(attrs) = value.as_attrs() {
        for (i, key) in attrs.shape().syms().iter().enumerate() {
            let (value, at) = (attrs.get(i), attrs.shape().positions()[i]);
            match key.as_bytes() {
                b"url" => request.url = text(vm, value, at, "while evaluating the url we should fetch")?,
                b"sha256" => {
                    let what = "while evaluating the sha256 of the content we should fetch";
                    let hash = text(vm, value, at, what)?;
                    let algo = Some(HashAlgo::Sha256);
                    request.expected =
                        Some(super::path_import::parse_hash_or_empty(vm, hash.as_bytes(), algo)?);
                }
                b"name" => {
                    request.name =
                        text(vm, value, at, "while evaluating the name of the content we should fetch")?;
                }
                _ => {
                    let message = format!("unsupported argument '{key}' to '{who}'");
                    return Err(EvalError::at(ErrorKind::Eval, at, message));
                }
            }
        }
        if request.url.is_empty() {
            return Err(EvalError::at(ErrorKind::Eval, pos, "'url' argument required"));
        }
    } else {
        request.url = text(vm, value, pos, "while evaluating the url we should fetch")?;
    }
    vm.host.check_uri(&request.url).map_err(host_error)?;
    if vm.settings.pure_eval && request.expected.is_none() {
        let message = format!("in pure evaluation mode, '{who}' requires a 'sha256' argument");
        return Err(EvalError::at(ErrorKind::Eval, pos, message));
    }
    if request.name.is_empty() {
        let base = request.url.rsplit('/').next().unwrap_or_default();
        request.name = if unpack { "source".into() } else { base.to_owned() };
    }
    let path = vm.host.clone().fetch(&request).map_err(host_error)?;
    Ok(super::path_import::store_string(vm, path))
}

fn fetch_url(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    fetch(vm, args[0], pos, "fetchurl", false)
}

fn fetch_tarball(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    fetch(vm, args[0], pos, "fetchTarball", true)
}

fn not_here(who: &str, pos: Pos) -> EvalResult<Value> {
    Err(EvalError::at(
        ErrorKind::Eval,
        pos,
        format!("'builtins.{who}' is not supported by this version of firn"),
    ))
}

fn fetch_git(_: &mut Vm, _: &[Value], pos: Pos) -> EvalResult<Value> {
    not_here("fetchGit", pos)
}

fn fetch_mercurial(_: &mut Vm, _: &[Value], pos: Pos) -> EvalResult<Value> {
    not_here("fetchMercurial", pos)
}

fn fetch_tree(_: &mut Vm, _: &[Value], pos: Pos) -> EvalResult<Value> {
    not_here("fetchTree", pos)
}

fn fetch_closure(_: &mut Vm, _: &[Value], pos: Pos) -> EvalResult<Value> {
    not_here("fetchClosure", pos)
}

fn get_flake(_: &mut Vm, _: &[Value], pos: Pos) -> EvalResult<Value> {
    not_here("getFlake", pos)
}
