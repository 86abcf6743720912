//! Fetching. The host does the work.

use super::{Entry, entry, experimental};
use crate::coerce::Coerce;
use crate::coerce::CopyToStore;
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::host::{ClosureRequest, FetchRequest};
use crate::source::Pos;
use crate::value::{Kind, Value};
use crate::vm::{Vm, host_error};
use firn_core::{HashAlgo, StorePath};

pub(super) const TABLE: &[Entry] = &[
    entry("fetchurl", 1, fetch_url),
    entry("fetchTarball", 1, fetch_tarball),
    experimental("fetchClosure", 1, fetch_closure, "fetch-closure"),
];

fn fetch(vm: &mut Vm, value: Value, pos: Pos, who: &str, unpack: bool) -> EvalResult<Value> {
    let value = vm.force_at(value, pos)?;
    let mut has_url = false;
    let mut has_name = false;
    let mut request = FetchRequest { url: String::new(), name: String::new(), unpack, expected: None };
    let text = |vm: &mut Vm, value, at, what| -> EvalResult<String> {
        Ok(String::from_utf8_lossy(vm.string_no_context(value, at, what)?.as_bytes()).into_owned())
    };
    if let Some(attrs) = value.as_attrs() {
        for (i, key) in attrs.shape().syms().iter().enumerate() {
            let (value, at) = (attrs.get(i), attrs.position(i));
            match key.as_bytes() {
                b"url" => {
                    has_url = true;
                    request.url = text(vm, value, at, "while evaluating the url we should fetch")?;
                }
                b"sha256" => {
                    let what = "while evaluating the sha256 of the content we should fetch";
                    let hash = text(vm, value, at, what)?;
                    let algo = Some(HashAlgo::Sha256);
                    request.expected =
                        Some(super::path_import::parse_hash_or_empty(vm, hash.as_bytes(), algo)?);
                }
                b"name" => {
                    has_name = true;
                    request.name =
                        text(vm, value, at, "while evaluating the name of the content we should fetch")?;
                }
                _ => {
                    let message = format!("unsupported argument '{key}' to '{who}'");
                    return Err(EvalError::at(ErrorKind::Eval, pos, message));
                }
            }
        }
        if !has_url {
            return Err(EvalError::at(ErrorKind::Eval, pos, "'url' argument required"));
        }
    } else {
        request.url = text(vm, value, pos, "while evaluating the url we should fetch")?;
    }
    if unpack && let Some(channel) = request.url.strip_prefix("channel:") {
        request.url = format!("https://channels.nixos.org/{channel}/nixexprs.tar.xz");
    }
    vm.host.check_uri(&request.url).map_err(host_error)?;
    if request.name.is_empty() {
        let base = crate::coerce::base_name(request.url.as_bytes());
        let base = String::from_utf8_lossy(base).into_owned();
        request.name = if unpack && !has_name { "source".into() } else { base };
    }
    if let Err(reason) = firn_core::store_path::check_name(&request.name) {
        let advice = if has_name {
            format!("Please change the value for the 'name' attribute passed to '{who}', so")
        } else if value.as_attrs().is_some() {
            format!("Please add a valid 'name' attribute to the argument for '{who}', so")
        } else {
            format!("Please pass an attribute set with 'url' and 'name' attributes to '{who}',  so")
        };
        let message = format!(
            "invalid store path name when fetching URL '{}': {reason}. {advice} that it can create a valid store path.",
            request.url
        );
        return Err(EvalError::at(ErrorKind::Eval, pos, message));
    }
    if vm.settings.pure_eval && request.expected.is_none() {
        let message = format!("in pure evaluation mode, '{who}' requires a 'sha256' argument");
        return Err(EvalError::at(ErrorKind::Eval, pos, message));
    }
    vm.in_turn()?;
    let path = vm.host.clone().fetch(&request).map_err(host_error)?;
    Ok(super::path_import::store_string(vm, path))
}

fn fetch_url(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    fetch(vm, args[0], pos, "fetchurl", false)
}

fn fetch_tarball(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    fetch(vm, args[0], pos, "fetchTarball", true)
}

/// A store path, as text or as a path that is not copied.
fn store_path(vm: &mut Vm, value: Value, at: Pos, what: &'static str) -> EvalResult<StorePath> {
    let how = Coerce { more: false, copy: CopyToStore::No };
    let (text, _) = vm.coerce(value, how, at, what)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    vm.host
        .store_dir()
        .parse(&text)
        .map_err(|_| EvalError::at(ErrorKind::Eval, at, format!("path '{text}' is not in the Nix store")))
}

fn fetch_closure(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let argument =
        vm.force_attrs(args[0], pos, "while evaluating the argument passed to builtins.fetchClosure")?;
    let fail = |message: String| EvalError::at(ErrorKind::Eval, pos, message);
    let (mut from_store, mut from_path, mut to_path, mut input_addressed) = (None, None, None, false);
    for (i, key) in argument.shape().syms().iter().enumerate() {
        let (value, at) = (argument.get(i), argument.position(i));
        match key.as_bytes() {
            b"fromPath" => {
                let what = "while evaluating the attribute 'fromPath' passed to builtins.fetchClosure";
                from_path = Some(store_path(vm, value, at, what)?);
            }
            b"toPath" => {
                let what = "while evaluating the attribute 'toPath' passed to builtins.fetchClosure";
                let value = vm.force_at(value, at)?;
                let is_empty = matches!(value.kind(), Kind::Str(text) if text.as_bytes().is_empty());
                to_path = Some(match is_empty {
                    true => None,
                    false => Some(store_path(vm, value, at, what)?),
                });
            }
            b"fromStore" => {
                let what = "while evaluating the attribute 'fromStore' passed to builtins.fetchClosure";
                let text = vm.string_no_context(value, at, what)?;
                from_store = Some(String::from_utf8_lossy(text.as_bytes()).into_owned());
            }
            b"inputAddressed" => {
                let what = "while evaluating the attribute 'inputAddressed' passed to builtins.fetchClosure";
                input_addressed = vm.force_bool(value, at, what)?;
            }
            _ => return Err(fail(format!("attribute '{key}' isn't supported in call to 'fetchClosure'"))),
        }
    }
    let missing = |name: &str| fail(format!("attribute '{name}' is missing in call to 'fetchClosure'"));
    let from_path = from_path.ok_or_else(|| missing("fromPath"))?;
    if input_addressed && to_path.is_some() {
        let message =
            "attribute 'inputAddressed' is set to true, but 'toPath' is also set. Please remove one of them";
        return Err(fail(message.into()));
    }
    let from_store = from_store.ok_or_else(|| missing("fromStore"))?;
    vm.in_turn()?;
    let request = ClosureRequest { from_store, from_path, to_path, input_addressed };
    let path = vm.host.clone().fetch_closure(&request);
    let path = path.map_err(|e| EvalError::at(ErrorKind::Host { exit: e.exit }, pos, e.message))?;
    Ok(super::path_import::store_string(vm, path))
}
