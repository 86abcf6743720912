//! Reading a `flake.nix`: its description, inputs and settings must be written out, so that nothing is evaluated before it is
//! known what the flake is.

use super::door::{attr as text_attr, os_path};
use super::literal::{Attribute, Literal, attributes};
use crate::StoreHost;
use firn_core::flake_ref::{Attr, Attrs, FlakeRef, FlakeRefError, Form, ParseContext};
use firn_eval::{
    CopySource, ErrorKind, EvalError, EvalHost, Pos, TraceKind, position_in_file, shown_place,
    syntax_error_in_file,
};
use firn_flake::{ConfigValue, FlakeSpec, InputPath, InputSpec, IsFlake};
use firn_syntax::ast::{Node, Offset};
use firn_syntax::{ParseOptions, parse};
use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};

/// The file that is read.
pub(super) struct File<'a> {
    pub host: &'a StoreHost,
    pub path: &'a [u8],
    pub dir: &'a [u8],
    /// The flake's name in messages.
    pub reference: &'a FlakeRef,
    /// What inputs follow is relative to this.
    pub prefix: &'a InputPath,
}

type Result<T> = std::result::Result<T, EvalError>;

struct Reader<'a> {
    file: &'a File<'a>,
    text: &'a [u8],
}

fn error(message: impl Into<String>) -> EvalError {
    EvalError::new(ErrorKind::Eval, message.into())
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads the text of a `flake.nix`.
pub(super) fn flake(file: &File<'_>, text: &[u8]) -> Result<FlakeSpec> {
    let features = &file.host.parts.fetcher.options().features;
    let options =
        ParseOptions { pipe_operators: features.contains("pipe-operators"), ..ParseOptions::default() };
    let ast =
        parse(text, options).map_err(|errors| syntax_error_in_file(file.path, text, errors, file.host))?;
    let reader = Reader { file, text };
    let set = match ast.node(ast.root) {
        Node::Attrs(set) => attributes(&ast, set, 0),
        _ => None,
    };
    let Some(set) = set else {
        return Err(error(format!("file '{}' must be an attribute set", lossy(file.path))));
    };
    reader.flake(set)
}

impl Reader<'_> {
    fn position(&self, offset: Offset) -> Pos {
        position_in_file(self.file.path, self.text, offset)
    }

    fn at(&self, offset: Offset) -> String {
        shown_place(self.position(offset), self.file.host).map(|place| place.display()).unwrap_or_default()
    }

    fn expected(&self, expected: &str, found: &Literal<'_>, at: Offset) -> EvalError {
        error(format!("expected {expected} but got {} at {}", found.phrase(), self.at(at)))
    }

    fn set<'v, 'a>(&self, value: &'v Literal<'a>, at: Offset) -> Result<&'v [Attribute<'a>]> {
        match value {
            Literal::Attrs(attributes) => Ok(attributes),
            found => Err(self.expected("a set", found, at)),
        }
    }

    fn context<T>(
        &self,
        f: impl FnOnce(&mut ParseContext<'_>) -> std::result::Result<T, FlakeRefError>,
    ) -> Result<T> {
        let features = &self.file.host.parts.fetcher.options().features;
        let has_feature = |name: &str| features.contains(name);
        let mut context = ParseContext { has_feature: &has_feature, warnings: Vec::new() };
        let result = f(&mut context);
        for warning in &context.warnings {
            EvalHost::warn(self.file.host, warning);
        }
        result.map_err(|bad| error(bad.message))
    }

    fn flake(&self, set: Vec<Attribute<'_>>) -> Result<FlakeSpec> {
        let find = |name: &str| set.iter().find(|attribute| attribute.name == name.as_bytes());
        let mut spec = FlakeSpec::default();
        if let Some(description) = find("description") {
            match &description.value {
                Literal::Str(text) => spec.description = Some(text.to_vec()),
                found => return Err(self.expected("a string", found, description.at)),
            }
        }
        if let Some(inputs) = find("inputs") {
            let attributes = self.set(&inputs.value, inputs.at)?;
            for attribute in attributes {
                if attribute.name == b"self" {
                    for own in self.set(&attribute.value, attribute.at)? {
                        spec.self_attrs.insert(lossy(own.name), self.input_attr(own)?);
                    }
                    continue;
                }
                let input = self.input(&attribute.value, attribute.at)?;
                spec.inputs.insert(lossy(attribute.name), input);
            }
        }
        let shown = self.file.reference.shown();
        let outputs =
            find("outputs").ok_or_else(|| error(format!("flake '{shown}' lacks attribute 'outputs'")))?;
        match &outputs.value {
            Literal::Function(formals) => {
                let names = formals.iter().flatten().filter(|name| **name != b"self");
                for name in names {
                    if let Entry::Vacant(place) = spec.inputs.entry(lossy(name)) {
                        let reference = self.context(|context| FlakeRef::parse(name, context))?;
                        place.insert(InputSpec { reference: Some(reference), ..InputSpec::default() });
                    }
                }
            }
            found => return Err(self.expected("a function", found, outputs.at)),
        }
        if let Some(config) = find("nixConfig") {
            for setting in self.set(&config.value, config.at)? {
                spec.config.push((lossy(setting.name), self.setting(setting)?));
            }
        }
        const KNOWN: [&[u8]; 4] = [b"description", b"inputs", b"outputs", b"nixConfig"];
        match set.iter().find(|attribute| !KNOWN.contains(&attribute.name)) {
            None => Ok(spec),
            Some(unknown) => Err(error(format!(
                "flake '{shown}' has an unsupported attribute '{}', at {}",
                lossy(unknown.name),
                self.at(unknown.at)
            ))),
        }
    }

    fn setting(&self, setting: &Attribute<'_>) -> Result<ConfigValue> {
        let name = || lossy(setting.name);
        Ok(match &setting.value {
            Literal::Str(text) => ConfigValue::Text(text.to_vec()),
            Literal::Int(number) => ConfigValue::Int(*number),
            Literal::Bool(flag) => ConfigValue::Bool(*flag),
            Literal::Path(path) => {
                let path = self.absolute(path);
                let name = os_path(&path).file_name().map(|name| name.to_string_lossy().into_owned());
                let copied = self.file.host.copy_to_store(CopySource {
                    path: &path,
                    name: name.as_deref().unwrap_or("source"),
                    method: firn_core::CaMethod::NixArchive,
                    algo: firn_core::HashAlgo::Sha256,
                    references: BTreeSet::new(),
                    expected: None,
                    filter: None,
                })?;
                ConfigValue::Text(self.file.host.store_dir().display(&copied).into_bytes())
            }
            Literal::List(items) => {
                let mut words = Vec::new();
                for item in items {
                    let Literal::Str(word) = item else {
                        return Err(error(format!(
                            "list element in flake configuration setting '{}' is {} while a string is expected",
                            name(),
                            item.phrase()
                        )));
                    };
                    words.push(word.to_vec());
                }
                ConfigValue::List(words)
            }
            found => {
                return Err(error(format!("flake configuration setting '{}' is {}", name(), found.phrase())));
            }
        })
    }

    fn input_attr(&self, attribute: &Attribute<'_>) -> Result<Attr> {
        let name = lossy(attribute.name);
        match &attribute.value {
            Literal::Str(text) => Ok(text_attr(text)),
            Literal::Bool(flag) => Ok(Attr::Bool(*flag)),
            Literal::Int(number) => u64::try_from(*number).map(Attr::Int).map_err(|_| {
                error(format!("negative value given for flake input attribute {name}: {number}"))
            }),
            Literal::List(keys) if name == "publicKeys" => self.public_keys(keys),
            found => Err(error(format!(
                "flake input attribute '{name}' is {} while a string, Boolean, or integer is expected",
                found.phrase()
            ))),
        }
    }

    /// The keys that may have signed an input, as JSON.
    fn public_keys(&self, keys: &[Literal<'_>]) -> Result<Attr> {
        self.context(|context| context.require("verified-fetches"))?;
        let wrong = |found: &Literal<'_>, wanted: &str| {
            let found = found.phrase();
            error(format!(
                "a key in flake input attribute 'publicKeys' is {found} while {wanted} is expected"
            ))
        };
        let mut list = Vec::new();
        for key in keys {
            let Literal::Attrs(members) = key else { return Err(wrong(key, "a set of strings")) };
            let mut attrs = Attrs::new();
            for member in members {
                let Literal::Str(text) = member.value else { return Err(wrong(&member.value, "a string")) };
                attrs.insert(lossy(member.name), text_attr(text));
            }
            list.push(firn_core::flake_ref::json(&attrs));
        }
        Ok(Attr::str(format!("[{}]", list.join(","))))
    }

    fn inputs(&self, value: &Literal<'_>, at: Offset) -> Result<BTreeMap<String, InputSpec>> {
        let mut inputs = BTreeMap::new();
        for attribute in self.set(value, at)? {
            if attribute.name == b"self" {
                let at = self.at(attribute.at);
                return Err(error(format!("'self' input attribute not allowed at {at}")));
            }
            inputs.insert(lossy(attribute.name), self.input(&attribute.value, attribute.at)?);
        }
        Ok(inputs)
    }

    /// A path of the file without `.` and `..`.
    fn absolute(&self, path: &[u8]) -> Vec<u8> {
        match path.first() {
            Some(b'/') => firn_eval::canonical_path(path),
            _ => firn_eval::canonical_path(&[self.file.dir, b"/", path].concat()),
        }
    }

    /// The way from the flake to a path.
    fn relative(&self, path: &[u8]) -> Vec<u8> {
        let parts = |path: &[u8]| -> Vec<Vec<u8>> {
            path.split(|c| *c == b'/').filter(|part| !part.is_empty()).map(<[u8]>::to_vec).collect()
        };
        let (base, path) = (parts(self.file.dir), parts(path));
        let common = base.iter().zip(&path).take_while(|(a, b)| a == b).count();
        let mut out = vec![b"..".to_vec(); base.len() - common];
        out.extend(path[common..].iter().cloned());
        match out.is_empty() {
            true => b".".to_vec(),
            false => out.join(&b'/'),
        }
    }

    fn input(&self, value: &Literal<'_>, at: Offset) -> Result<InputSpec> {
        let mut input = InputSpec::default();
        let mut url = None;
        let mut attrs = Attrs::new();
        for attribute in self.set(value, at)? {
            self.input_attribute(attribute, &mut input, &mut url, &mut attrs).map_err(|bad| {
                let what = format!("while evaluating flake attribute '{}'", lossy(attribute.name));
                bad.trace(self.position(attribute.at), TraceKind::Text(what.into()))
            })?;
        }
        if attrs.contains_key("type") {
            attrs.extend(url.map(|url| ("url".to_owned(), Attr::Str(url))));
            let reference = self.context(|context| FlakeRef::from_attrs(attrs, context));
            input.reference =
                Some(reference.map_err(|bad| {
                    bad.trace(Pos::NONE, TraceKind::Static("while evaluating flake input"))
                })?);
        } else {
            if let Some(name) = attrs.keys().next() {
                return Err(error(format!("unexpected flake input attribute '{name}', at {}", self.at(at))));
            }
            if let Some(url) = url {
                let form = Form { tree: input.is_flake == IsFlake::Yes, relative: true };
                let (reference, fragment) =
                    self.context(|context| FlakeRef::parse_as(&url, &form, context))?;
                if !fragment.is_empty() {
                    return Err(error(format!(
                        "unexpected fragment '{}' in flake reference '{}'",
                        lossy(&fragment),
                        lossy(&url)
                    )));
                }
                input.reference = Some(reference);
            }
        }
        if input.reference.is_some() && input.follows.is_some() {
            return Err(error(format!(
                "flake input has both a flake reference and a follows attribute, at {}",
                self.at(at)
            )));
        }
        Ok(input)
    }

    fn input_attribute(
        &self,
        attribute: &Attribute<'_>,
        input: &mut InputSpec,
        url: &mut Option<Vec<u8>>,
        attrs: &mut Attrs,
    ) -> Result<()> {
        match (attribute.name, &attribute.value) {
            (b"url", Literal::Str(text)) => *url = Some(text.to_vec()),
            (b"url", Literal::Path(path)) => {
                let relative = self.relative(&self.absolute(path));
                *url = Some([b"path:", &relative[..]].concat());
            }
            (b"url", found) => return Err(self.expected("a string or a path", found, attribute.at)),
            (b"flake", Literal::Bool(flag)) => {
                input.is_flake = if *flag { IsFlake::Yes } else { IsFlake::No };
            }
            (b"flake", found) => return Err(self.expected("a Boolean", found, attribute.at)),
            (b"inputs", value) => input.overrides = self.inputs(value, attribute.at)?,
            (b"follows", Literal::Str(text)) => {
                let path = InputPath::parse(&lossy(text))
                    .map_err(|bad| EvalError::new(ErrorKind::Usage, bad.to_string()))?;
                input.follows = Some(self.file.prefix.chain(&path));
            }
            (b"follows", found) => return Err(self.expected("a string", found, attribute.at)),
            _ => {
                attrs.insert(lossy(attribute.name), self.input_attr(attribute)?);
            }
        }
        Ok(())
    }
}
