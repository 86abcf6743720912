//! What commands ask of a derivation that was found: system, paths, outputs and `meta`.

use crate::coerce::Coerce;
use crate::error::{ErrorKind, EvalError, EvalResult, TraceKind};
use crate::select::FoundDerivation;
use crate::shape::Special;
use crate::source::Pos;
use crate::value::{Attrs, Kind, Value};
use crate::vm::Vm;
use firn_core::StorePath;
use firn_syntax::{Sym, sym};
use std::collections::BTreeMap;

/// Outputs by name; their paths where they were asked for.
pub type PackageOutputs = BTreeMap<Vec<u8>, Option<StorePath>>;

fn attribute(attrs: Attrs, name: &'static str) -> Option<(Value, Pos)> {
    let shape = attrs.shape();
    shape.find(Sym::from_static(name)).map(|place| (attrs.get(place), attrs.position(place)))
}

impl Vm {
    /// The derivation that a value is; nothing if it is none.
    pub fn derivation_of(&mut self, value: Value) -> EvalResult<Option<FoundDerivation>> {
        let value = self.force(value)?;
        let Some(attrs) = value.as_attrs() else { return Ok(None) };
        if !self.is_derivation(attrs)? {
            return Ok(None);
        }
        Ok(Some(FoundDerivation { attr_path: String::new(), attrs, name: String::new() }))
    }

    /// The absolute path that a value stands for.
    pub fn path_of(&mut self, value: Value, pos: Pos, what: &'static str) -> EvalResult<Vec<u8>> {
        Ok(self.coerce_path(value, pos, what)?.0)
    }

    /// The path of a found derivation.
    pub fn drv_path(&mut self, found: &FoundDerivation) -> EvalResult<StorePath> {
        let missing = || EvalError::new(ErrorKind::Eval, "derivation does not contain a 'drvPath' attribute");
        self.drv_path_if_any(found)?.ok_or_else(missing)
    }

    /// The path of a found derivation; a set that only claims to be one may have none.
    pub fn drv_path_if_any(&mut self, found: &FoundDerivation) -> EvalResult<Option<StorePath>> {
        let Some((value, pos)) = attribute(found.attrs, "drvPath") else { return Ok(None) };
        let what = "while evaluating the 'drvPath' attribute of a derivation";
        let path = self.store_path(value, pos, what)?;
        if !path.is_derivation() {
            let message = format!("store path '{}' is not a valid derivation path", path.base_name());
            return Err(EvalError::new(ErrorKind::Eval, message).context(pos, what));
        }
        Ok(Some(path))
    }

    /// `outPath`: the path of the output that the derivation stands for.
    pub fn out_path(&mut self, found: &FoundDerivation) -> EvalResult<StorePath> {
        let Some((value, pos)) = attribute(found.attrs, "outPath") else {
            return Err(EvalError::new(ErrorKind::Eval, "derivation does not have attribute 'outPath'"));
        };
        self.store_path(value, pos, "while evaluating the output path of a derivation")
    }

    pub(crate) fn store_path(&mut self, value: Value, pos: Pos, what: &'static str) -> EvalResult<StorePath> {
        let (text, _) = self.coerce(value, Coerce::PLAIN, pos, what)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        self.host.store_dir().parse(&text).map_err(|_| {
            EvalError::new(ErrorKind::Eval, format!("path '{text}' is not in the Nix store"))
                .context(pos, what)
        })
    }

    /// The output that a found derivation stands for; empty where it does not say.
    pub fn output_name(&mut self, found: &FoundDerivation) -> EvalResult<String> {
        match found.attrs.find(sym!("outputName")) {
            Some(value) => {
                let what = "while evaluating the output name of a derivation";
                let name = self.string_no_context(value, Pos::NONE, what)?;
                Ok(String::from_utf8_lossy(name.as_bytes()).into_owned())
            }
            None => Ok(String::new()),
        }
    }

    /// What the derivation is for, such as `x86_64-linux`; `unknown` where it does not say.
    pub fn package_system(&mut self, found: &FoundDerivation) -> EvalResult<Vec<u8>> {
        let Some((value, pos)) = attribute(found.attrs, "system") else { return Ok(b"unknown".to_vec()) };
        let what = "while evaluating the 'system' attribute of a derivation";
        Ok(self.string_no_context(value, pos, what)?.as_bytes().to_vec())
    }

    /// All outputs. With `with_paths`, outputs that have no set or no path are left out.
    pub fn package_outputs(
        &mut self,
        found: &FoundDerivation,
        with_paths: bool,
    ) -> EvalResult<PackageOutputs> {
        let mut outputs = PackageOutputs::new();
        let Some((list, pos)) = attribute(found.attrs, "outputs") else {
            let path = if with_paths { Some(self.out_path(found)?) } else { None };
            outputs.insert(b"out".to_vec(), path);
            return Ok(outputs);
        };
        let list = self.force_list(list, pos, "while evaluating the 'outputs' attribute of a derivation")?;
        for name in list.iter() {
            let what = "while evaluating the name of an output of a derivation";
            let name = self.string_no_context(name, pos, what)?.as_bytes();
            let mut path = None;
            if with_paths {
                let Some(output) = found.attrs.find(Sym::new(name)) else { continue };
                let output = self.force_attrs(output, pos, "while evaluating an output of a derivation")?;
                let Some((value, pos)) = attribute(output, "outPath") else { continue };
                let what = "while evaluating an output path of a derivation";
                path = Some(self.store_path(value, pos, what)?);
            }
            outputs.entry(name.to_vec()).or_insert(path);
        }
        Ok(outputs)
    }

    /// The `meta` set, if there is one.
    pub fn package_meta(&mut self, found: &FoundDerivation) -> EvalResult<Option<Attrs>> {
        let Some((value, pos)) = attribute(found.attrs, "meta") else { return Ok(None) };
        let what = "while evaluating the 'meta' attribute of a derivation";
        self.force_attrs(value, pos, what).map(Some)
    }

    /// An attribute of `meta`, wholly evaluated; nothing if it is missing or holds what `meta` must not hold:
    /// functions, paths, null and derivations.
    pub fn package_meta_value(&mut self, meta: Attrs, name: Sym) -> EvalResult<Option<Value>> {
        let Some(value) = meta.find(name) else { return Ok(None) };
        if self.is_plain_data(value, 0)? { self.force(value).map(Some) } else { Ok(None) }
    }

    fn is_plain_data(&mut self, value: Value, depth: usize) -> EvalResult<bool> {
        self.check_stack(Pos::NONE)?;
        let value = self.force(value)?;
        if depth > self.settings().max_call_depth {
            return Err(self.stack_overflow(value.as_attrs().map_or(Pos::NONE, |set| set.positions().set())));
        }
        match value.kind() {
            Kind::Int(_) | Kind::Bool(_) | Kind::Str(_) | Kind::Float(_) => Ok(true),
            Kind::List(list) => {
                for item in list.iter() {
                    if !self.is_plain_data(item, depth + 1)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Kind::Attrs(attrs) => {
                if attrs.find_special(Special::OutPath).is_some() {
                    return Ok(false);
                }
                for (_, item) in attrs.sorted() {
                    if !self.is_plain_data(item, depth + 1)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// A text of `meta`; empty if it is missing or something else.
    pub fn package_meta_string(&mut self, found: &FoundDerivation, name: &str) -> EvalResult<Vec<u8>> {
        let Some(meta) = self.package_meta(found)? else { return Ok(Vec::new()) };
        let value = self.package_meta_value(meta, Sym::new(name.as_bytes()))?;
        Ok(value.and_then(|v| v.as_str()).map(|s| s.as_bytes().to_vec()).unwrap_or_default())
    }
}

/// Says which derivation was being asked when `error` came up.
pub fn while_querying(error: EvalError, name: &str) -> EvalError {
    let text = format!("while querying the derivation named '{name}'");
    error.trace(Pos::NONE, TraceKind::Text(text.into()))
}
