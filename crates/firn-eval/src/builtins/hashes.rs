//! Hashes.

use super::{Entry, entry};
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::source::Pos;
use crate::value::Value;
use crate::vm::{Vm, host_error};
use firn_core::{Hash, HashAlgo, HashFormat};
use firn_syntax::sym;

pub(super) const TABLE: &[Entry] = &[
    entry("hashString", 2, hash_string),
    entry("hashFile", 2, hash_file),
    entry("convertHash", 1, convert_hash),
];

fn algo(vm: &mut Vm, value: Value, pos: Pos, what: &'static str) -> EvalResult<HashAlgo> {
    let name = vm.string_no_context(value, pos, what)?;
    let name = String::from_utf8_lossy(name.as_bytes());
    let algo = HashAlgo::parse_opt(&name)
        .filter(|a| *a != HashAlgo::Blake3 || vm.settings.has_feature("blake3-hashes"));
    algo.ok_or_else(|| EvalError::at(ErrorKind::Usage, pos, unknown_algorithm(&name)))
}

fn unknown_algorithm(name: &str) -> String {
    format!("unknown hash algorithm '{name}', expect 'blake3', 'md5', 'sha1', 'sha256', or 'sha512'")
}

fn hash_string(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let algo = algo(vm, args[0], pos, "while evaluating the first argument passed to builtins.hashString")?;
    let what = "while evaluating the second argument passed to builtins.hashString";
    let text = vm.force_string(args[1], pos, what)?;
    Ok(Value::str(Hash::of(algo, text.as_bytes()).to_base(HashFormat::Base16).as_bytes()))
}

fn hash_file(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let algo = algo(vm, args[0], pos, "while evaluating the first argument passed to builtins.hashFile")?;
    let path = vm.realise_path(args[1], pos)?;
    let text = vm.host.read_file(&path).map_err(host_error)?;
    Ok(Value::str(Hash::of(algo, &text).to_base(HashFormat::Base16).as_bytes()))
}

fn convert_hash(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let attrs =
        vm.force_attrs(args[0], pos, "while evaluating the first argument passed to builtins.convertHash")?;
    let hash = super::sets::required(attrs, sym!("hash"), "while locating the attribute 'hash'")?;
    let hash = vm.string_no_context(hash, pos, "while evaluating the attribute 'hash'")?;
    let fail = |message: String| EvalError::at(ErrorKind::Eval, pos, message);
    let algo = match attrs.find(sym!("hashAlgo")) {
        Some(value) => {
            let name = vm.string_no_context(value, pos, "while evaluating the attribute 'hashAlgo'")?;
            let name = String::from_utf8_lossy(name.as_bytes()).into_owned();
            Some(name.parse::<HashAlgo>().map_err(|e| fail(e.to_string()))?)
        }
        None => None,
    };
    let what = "while locating the attribute 'toHashFormat'";
    let format = super::sets::required(attrs, sym!("toHashFormat"), what)?;
    let format = vm.string_no_context(format, pos, "while evaluating the attribute 'toHashFormat'")?;
    let format = String::from_utf8_lossy(format.as_bytes()).into_owned();
    if format == "base32" {
        vm.in_turn()?;
        vm.host.warn("\"base32\" is a deprecated alias for hash format \"nix32\".");
    }
    let to = HashFormat::parse_opt(&format).ok_or_else(|| {
        fail(format!("unknown hash format '{format}', expect 'base16', 'nix32', 'base64', or 'sri'"))
    })?;
    let hash = String::from_utf8_lossy(hash.as_bytes()).into_owned();
    let hash = Hash::parse_any(&hash, algo).map_err(|e| fail(e.to_string()))?;
    Ok(Value::str(hash.to_base(to).as_bytes()))
}
