//! `derivationStrict`: from attributes to a derivation, its path, and the strings that refer to its outputs.

use crate::attrs::AttrsBuilder;
use crate::builtins::path_hash;
use crate::coerce::{Coerce, CopyToStore};
use crate::context::{Context, ContextBuilder, ContextElem};
use crate::error::{ErrorKind, EvalError, EvalResult, ResultExt, TraceKind};
use crate::fmt::json;
use crate::render::shown_place;
use crate::source::Pos;
use crate::value::{Ahead, Attrs, Value};
use crate::vm::{Vm, host_error};
use firn_core::store_path::check_name;
use firn_core::{CaMethod, ContentAddress, HashAlgo, SingleDerivedPath, StorePath};
use firn_derivation::modulo::Mask;
use firn_derivation::seal::Sealed;
use firn_derivation::{
    Derivation, DerivationOutput, DownstreamPlaceholder, DrvHashModulo, HashModuloError,
    STRUCTURED_ATTRS_ENV, output_placeholder,
};
use firn_syntax::{Sym, sym};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) fn derivation_strict(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = "while evaluating the argument passed to builtins.derivationStrict";
    let attrs = vm.force_attrs(args[0], pos, what)?;
    let name_sym = sym!("name");
    let what = "in the attrset passed as argument to builtins.derivationStrict";
    let Some(place) = attrs.shape().find(name_sym) else {
        return Err(
            EvalError::new(ErrorKind::MissingAttribute, "attribute 'name' missing").context(Pos::NONE, what)
        );
    };
    let name_pos = attrs.position(place);
    let what = "while evaluating the `name` attribute passed to builtins.derivationStrict";
    let name = vm
        .string_no_context(attrs.get(place), pos, what)
        .context(name_pos, "while evaluating the derivation attribute 'name'")?;
    let name = String::from_utf8_lossy(name.as_bytes()).into_owned();
    let mut maker = Maker::new(name.clone());
    maker.make(vm, attrs, pos).map_err(|e| {
        let host = vm.host.clone();
        let at = shown_place(name_pos, &*host).map_or_else(|| "«none»".to_owned(), |p| p.display());
        let text = format!("while evaluating derivation '{name}'\n  whose name attribute is located at {at}");
        e.trace(Pos::NONE, TraceKind::Text(text.into()))
    })
}

fn fail<T>(pos: Pos, message: impl Into<Vec<u8>>) -> EvalResult<T> {
    Err(EvalError::at(ErrorKind::Eval, pos, message))
}

/// A derivation under construction.
struct Maker {
    drv: Derivation,
    /// The variables, in their order.
    env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where a variable's value is put together.
    text: Vec<u8>,
    context: ContextBuilder,
    /// Structured attributes as JSON members, in order of names.
    structured: Option<Vec<u8>>,
    content_addressed: bool,
    impure: bool,
    output_hash: Option<Vec<u8>>,
    output_hash_algo: Option<HashAlgo>,
    method: Option<CaMethod>,
    outputs: BTreeSet<String>,
}

impl Maker {
    fn new(name: String) -> Maker {
        Maker {
            drv: Derivation::new(name),
            env: Vec::new(),
            text: Vec::new(),
            context: ContextBuilder::default(),
            structured: None,
            content_addressed: false,
            impure: false,
            output_hash: None,
            output_hash_algo: None,
            method: None,
            outputs: ["out".to_owned()].into(),
        }
    }

    fn make(&mut self, vm: &mut Vm, attrs: Attrs, pos: Pos) -> EvalResult<Value> {
        check_name(&self.drv.name).map_err(|e| {
            EvalError::at(
                ErrorKind::Eval,
                pos,
                format!("invalid derivation name: {e}. Please pass a different 'name'."),
            )
        })?;
        let flag = |vm: &mut Vm, name: &'static str, what: &'static str| -> EvalResult<bool> {
            match attrs.find(Sym::from_static(name)) {
                Some(value) => vm.force_bool(value, pos, what),
                None => Ok(false),
            }
        };
        let what = "while evaluating the `__structuredAttrs` attribute passed to builtins.derivationStrict";
        if flag(vm, "__structuredAttrs", what)? {
            self.structured = Some(Vec::new());
        }
        let what = "while evaluating the `__ignoreNulls` attribute passed to builtins.derivationStrict";
        let ignore_nulls = flag(vm, "__ignoreNulls", what)?;
        let shape = attrs.shape();
        inputs_ahead(vm, attrs);
        for place in shape.order() {
            let place = *place as usize;
            let key = shape.syms()[place];
            if key.as_bytes() == b"__ignoreNulls" {
                continue;
            }
            self.attribute(vm, key, attrs.get(place), ignore_nulls, pos).map_err(|e| {
                let text = format!("while evaluating attribute '{key}' of derivation '{}'", self.drv.name);
                e.trace(attrs.position(place), TraceKind::Text(text.into()))
            })?;
        }
        self.drv.env = std::mem::take(&mut self.env).into_iter().collect();
        if let Some(members) = self.structured.take() {
            let text = [b"{", &members[..], b"}"].concat();
            self.drv.env.insert(STRUCTURED_ATTRS_ENV.to_vec(), text);
        }
        self.inputs(vm)?;
        self.finish(vm, pos)
    }

    fn require(&self, vm: &Vm, feature: &str, why: &str, pos: Pos) -> EvalResult<()> {
        if vm.settings.has_feature(feature) {
            return Ok(());
        }
        let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
        fail(
            pos,
            format!(
                "experimental Nix feature '{feature}' is disabled{why}; add '--extra-experimental-features {feature}' to enable it"
            ),
        )
    }

    fn attribute(
        &mut self,
        vm: &mut Vm,
        key: Sym,
        value: Value,
        ignore_nulls: bool,
        pos: Pos,
    ) -> EvalResult<()> {
        if ignore_nulls && vm.force_at(value, pos)? == Value::NULL {
            return Ok(());
        }
        match key.as_bytes() {
            b"__contentAddressed" => {
                if vm.force_bool(value, pos, "")? {
                    self.content_addressed = true;
                    self.require(vm, "ca-derivations", "", pos)?;
                }
            }
            b"__impure" => {
                if vm.force_bool(value, pos, "")? {
                    self.impure = true;
                    self.require(vm, "impure-derivations", "", pos)?;
                }
            }
            b"args" => {
                let list = vm.force_list(value, pos, "")?;
                for item in list.iter() {
                    let mut text = Vec::new();
                    let what = "while evaluating an element of the argument list";
                    vm.coerce_into(item, Coerce::ENV, &mut text, &mut self.context, pos, what)?;
                    self.drv.args.push(text);
                }
            }
            name if self.structured.is_some() => self.structured_attribute(vm, name, value, pos)?,
            name => {
                self.text.clear();
                vm.coerce_into(value, Coerce::ENV, &mut self.text, &mut self.context, pos, "")?;
                let text = self.text.clone();
                self.special(vm, name, &text, pos)?;
                if name == b"outputs" {
                    let names = text
                        .split(|c| matches!(c, b' ' | b'\t' | b'\n' | b'\r'))
                        .filter(|n| !n.is_empty())
                        .map(|n| String::from_utf8_lossy(n).into_owned())
                        .collect();
                    self.set_outputs(names, pos)?;
                }
                if name == STRUCTURED_ATTRS_ENV {
                    vm.in_turn()?;
                    vm.host.warn(&format!(
                        "In derivation '{}': setting structured attributes via '__json' is deprecated, and may be disallowed in future versions of Nix. Set '__structuredAttrs = true' instead.",
                        self.drv.name
                    ));
                }
                self.env.push((name.to_vec(), text));
            }
        }
        Ok(())
    }

    /// Attributes that steer more than the environment.
    fn special(&mut self, vm: &mut Vm, name: &[u8], text: &[u8], pos: Pos) -> EvalResult<()> {
        match name {
            b"builder" => self.drv.builder = text.to_vec(),
            b"system" => self.drv.platform = text.to_vec(),
            b"outputHash" => self.output_hash = Some(text.to_vec()),
            b"outputHashAlgo" => {
                let name = String::from_utf8_lossy(text);
                self.output_hash_algo = if name.is_empty() { None } else { HashAlgo::parse_opt(&name) };
                if self.output_hash_algo == Some(HashAlgo::Blake3) {
                    self.require(vm, "blake3-hashes", "", pos)?;
                }
            }
            b"outputHashMode" => {
                let mode = String::from_utf8_lossy(text);
                let Some(method) = CaMethod::parse_opt(&mode) else {
                    return fail(pos, format!("invalid value '{mode}' for 'outputHashMode' attribute"));
                };
                match method {
                    CaMethod::Text => {
                        let name = &self.drv.name;
                        let why = format!("text-hashed derivation '{name}', outputHashMode = \"text\"");
                        self.require(vm, "dynamic-derivations", &why, pos)?;
                    }
                    CaMethod::Git => self.require(vm, "git-hashing", "", pos)?,
                    _ => {}
                }
                self.method = Some(method);
            }
            _ => {}
        }
        Ok(())
    }

    fn structured_attribute(&mut self, vm: &mut Vm, name: &[u8], value: Value, pos: Pos) -> EvalResult<()> {
        if name == b"__structuredAttrs" {
            return Ok(());
        }
        let mut member = Vec::new();
        json::string(name, &mut member)?;
        member.push(b':');
        json::to_json(vm, value, CopyToStore::Yes, &mut member, &mut self.context, pos)?;
        if let Some(members) = &mut self.structured {
            if !members.is_empty() {
                members.push(b',');
            }
            members.extend_from_slice(&member);
        }
        match name {
            b"builder" => {
                let text = vm.force_string(value, pos, "")?;
                self.context.add(text.context());
                self.drv.builder = text.as_bytes().to_vec();
            }
            b"system" | b"outputHash" | b"outputHashAlgo" | b"outputHashMode" => {
                let text = vm.string_no_context(value, pos, "")?;
                self.special(vm, name, text.as_bytes(), pos)?;
            }
            b"outputs" => {
                let list = vm.force_list(value, pos, "")?;
                let mut names = Vec::with_capacity(list.len());
                for item in list.iter() {
                    let text = vm.string_no_context(item, pos, "")?;
                    names.push(String::from_utf8_lossy(text.as_bytes()).into_owned());
                }
                self.set_outputs(names, pos)?;
            }
            b"allowedReferences"
            | b"allowedRequisites"
            | b"disallowedReferences"
            | b"disallowedRequisites"
            | b"maxSize"
            | b"maxClosureSize" => {
                let name = String::from_utf8_lossy(name);
                vm.in_turn()?;
                vm.host.warn(&format!(
                    "In a derivation named '{}', 'structuredAttrs' disables the effect of the derivation attribute '{name}'; use 'outputChecks.<output>.{name}' instead",
                    self.drv.name
                ));
            }
            _ => {}
        }
        Ok(())
    }

    fn set_outputs(&mut self, names: Vec<String>, pos: Pos) -> EvalResult<()> {
        self.outputs.clear();
        for name in names {
            if name == "drvPath" {
                return fail(pos, "invalid derivation output name 'drvPath'");
            }
            if self.outputs.contains(&name) {
                return fail(pos, format!("duplicate derivation output '{name}'"));
            }
            self.outputs.insert(name);
        }
        if self.outputs.is_empty() {
            return fail(pos, "derivation cannot have an empty set of outputs");
        }
        Ok(())
    }

    /// What the strings refer to becomes the derivation's inputs.
    fn inputs(&mut self, vm: &mut Vm) -> EvalResult<()> {
        for elem in self.context.finish().elems() {
            match elem {
                ContextElem::Opaque(path) => {
                    self.drv.input_srcs.insert(path);
                }
                ContextElem::Built { drv, output } => self.add_built(&drv, output),
                ContextElem::DrvDeep(path) => {
                    for reference in vm.host.closure(&path).map_err(host_error)? {
                        if reference.is_derivation() {
                            let input = vm.host.read_derivation(&reference).map_err(host_error)?;
                            let node = self.drv.input_drvs.entry(reference.clone()).or_default();
                            node.outputs.extend(input.outputs.into_keys());
                        }
                        self.drv.input_srcs.insert(reference);
                    }
                }
            }
        }
        Ok(())
    }

    fn add_built(&mut self, drv: &SingleDerivedPath, output: String) {
        let mut chain = Vec::new();
        let mut base = drv;
        let root = loop {
            match base {
                SingleDerivedPath::Opaque(path) => break path,
                SingleDerivedPath::Built { drv, output } => {
                    chain.push(output.clone());
                    base = drv;
                }
            }
        };
        let mut node = self.drv.input_drvs.entry(root.clone()).or_default();
        for step in chain.into_iter().rev() {
            node = node.dynamic.entry(step).or_default();
        }
        node.outputs.insert(output);
    }

    fn finish(&mut self, vm: &mut Vm, pos: Pos) -> EvalResult<Value> {
        if self.drv.builder.is_empty() {
            return fail(pos, "required attribute 'builder' missing");
        }
        if self.drv.platform.is_empty() {
            return fail(pos, "required attribute 'system' missing");
        }
        let only_out = self.outputs.len() == 1 && self.outputs.contains("out");
        if self.drv.name.ends_with(".drv") && !(self.method == Some(CaMethod::Text) && only_out) {
            return fail(
                pos,
                "derivation names are allowed to end in '.drv' only if they produce a single derivation file",
            );
        }
        let dir = vm.host.store_dir().clone();
        let named = |e: firn_core::store_path::NameError| EvalError::at(ErrorKind::Eval, pos, e.to_string());
        if let Some(hash) = self.output_hash.take() {
            if !only_out {
                return fail(pos, "multiple outputs are not supported in fixed-output derivations");
            }
            let hash = path_hash(vm, &hash, self.output_hash_algo)?;
            let ca = ContentAddress { method: self.method.unwrap_or(CaMethod::Flat), hash };
            let output = DerivationOutput::CaFixed(ca);
            let path = output.path(&dir, &self.drv.name, "out").map_err(named)?;
            let text = path.map(|p| dir.display(&p)).unwrap_or_default();
            self.drv.env.insert(b"out".to_vec(), text.into_bytes());
            self.drv.outputs.insert("out".into(), output);
        } else if self.content_addressed || self.impure {
            if self.content_addressed && self.impure {
                return fail(pos, "derivation cannot be both content-addressed and impure");
            }
            let algo = self.output_hash_algo.unwrap_or(HashAlgo::Sha256);
            let method = self.method.unwrap_or(CaMethod::NixArchive);
            for name in &self.outputs {
                self.drv.env.insert(name.clone().into_bytes(), output_placeholder(name).into_bytes());
                let output = if self.impure {
                    DerivationOutput::Impure { method, algo }
                } else {
                    DerivationOutput::CaFloating { method, algo }
                };
                self.drv.outputs.insert(name.clone(), output);
            }
        } else {
            for name in &self.outputs {
                self.drv.env.insert(name.clone().into_bytes(), Vec::new());
                self.drv.outputs.insert(name.clone(), DerivationOutput::Deferred);
            }
        }
        let sealed = self.drv.seal(&dir, |input| vm.input_hash(input).map_err(ModuloError::Eval));
        let Sealed { path, aterm, aterm_hash, hash } = sealed.map_err(|e| match e {
            ModuloError::Hash(HashModuloError::Name(e)) => named(e),
            e => e.into_eval_error(),
        })?;
        if !vm.settings.read_only {
            let references = self.drv.references();
            vm.host.write_derivation(&path, aterm, aterm_hash, references).map_err(host_error)?;
        }
        vm.host.instantiated(&path);
        vm.shared.derivation_hashes.insert(path.clone(), hash);
        let mut out = AttrsBuilder::with_capacity(self.drv.outputs.len() + 1);
        let text = dir.display(&path);
        let deep = Context::single(&ContextElem::DrvDeep(path.clone()));
        out.push(sym!("drvPath"), Value::str_with(text.as_bytes(), deep));
        let single = Arc::new(SingleDerivedPath::Opaque(path.clone()));
        for (name, output) in &self.drv.outputs {
            let known = output.path(&dir, &self.drv.name, name).map_err(named)?;
            let text = match known {
                Some(path) => dir.display(&path),
                None => DownstreamPlaceholder::ca_output(&path, name).render(),
            };
            let elem = ContextElem::Built { drv: single.clone(), output: name.clone() };
            out.push(Sym::new(name.as_bytes()), Value::str_with(text.as_bytes(), Context::single(&elem)));
        }
        Ok(out.finish())
    }
}

/// Evaluations with fewer derivations are over before other threads have begun.
const WORTH_HELPERS: u64 = 400;

/// Lets other threads begin with what the attributes of a derivation refer to: those that hold lists.
fn inputs_ahead(vm: &mut Vm, attrs: Attrs) {
    vm.stats.derivations += 1;
    if vm.stats.derivations < WORTH_HELPERS {
        return;
    }
    let pending = |value: &Value| match value.as_thunk() {
        Some(thunk) => thunk.result().is_none(),
        None => value.as_list().is_some(),
    };
    let named = |name: Sym| {
        let name = name.as_bytes();
        name.ends_with(b"nputs") || name == b"paths" || name.starts_with(b"deps")
    };
    let mut values =
        attrs.sorted().filter(|(name, value)| named(*name) && pending(value)).map(|(_, value)| value);
    vm.evaluate_ahead(&mut values, Ahead::Derive);
}

/// A hash computation that failed on one of the inputs.
enum ModuloError {
    Hash(HashModuloError),
    Eval(EvalError),
}

impl ModuloError {
    fn into_eval_error(self) -> EvalError {
        match self {
            ModuloError::Eval(error) => error,
            ModuloError::Hash(error) => EvalError::new(ErrorKind::Eval, error.to_string()),
        }
    }
}

impl From<HashModuloError> for ModuloError {
    fn from(error: HashModuloError) -> Self {
        ModuloError::Hash(error)
    }
}

impl Vm {
    /// The unmasked hash of a derivation, read from the store where it was not made here.
    fn input_hash(&mut self, path: &StorePath) -> EvalResult<DrvHashModulo> {
        if let Some(hash) = self.shared.derivation_hashes.get(path) {
            return Ok(hash);
        }
        self.check_stack(Pos::NONE)?;
        let drv = self.host.read_derivation(path).map_err(host_error)?;
        let dir = self.host.store_dir().clone();
        let hash = drv
            .hash_modulo(&dir, Mask::Nothing, |input| self.input_hash(input).map_err(ModuloError::Eval))
            .map_err(ModuloError::into_eval_error)?;
        self.shared.derivation_hashes.insert(path.clone(), hash.clone());
        Ok(hash)
    }
}
