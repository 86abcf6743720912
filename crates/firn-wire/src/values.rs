//! What both protocols send: paths, derivations, realisations.

use crate::error::{WireError, WireResult};
use crate::read::WireReader;
use crate::write::Message;
use firn_core::{ContentAddress, DerivedPath, Hash, HashAlgo, StoreDir, StorePath};
use firn_derivation::{Derivation, DerivationOutput};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use tokio::io::AsyncRead;

impl<R: AsyncRead + Unpin> WireReader<R> {
    pub async fn path(&mut self, dir: &StoreDir) -> WireResult<StorePath> {
        Ok(dir.parse(&self.text("a store path").await?)?)
    }

    /// A path; an empty string is none.
    pub async fn opt_path(&mut self, dir: &StoreDir) -> WireResult<Option<StorePath>> {
        let text = self.text("a store path").await?;
        Ok(if text.is_empty() { None } else { Some(dir.parse(&text)?) })
    }

    pub async fn paths(&mut self, dir: &StoreDir) -> WireResult<BTreeSet<StorePath>> {
        let count = self.count().await?;
        let mut paths = BTreeSet::new();
        for _ in 0..count {
            paths.insert(self.path(dir).await?);
        }
        Ok(paths)
    }

    /// A content address; an empty string is none.
    pub async fn opt_content_address(&mut self) -> WireResult<Option<ContentAddress>> {
        let text = self.text("a content address").await?;
        Ok(if text.is_empty() { None } else { Some(ContentAddress::parse(&text)?) })
    }

    /// A SHA-256 hash in any form.
    pub async fn nar_hash(&mut self) -> WireResult<Hash> {
        Ok(Hash::parse_any(&self.text("a hash").await?, Some(HashAlgo::Sha256))?)
    }

    /// A derivation without its input derivations, as builds are asked for.
    pub async fn derivation(&mut self, dir: &StoreDir, name: &str) -> WireResult<Derivation> {
        let mut drv = Derivation::new(name);
        for _ in 0..self.count().await? {
            let output = self.text("an output's name").await?;
            let path = self.text("an output's path").await?;
            let method = self.text("an output's hash algorithm").await?;
            let hash = self.text("an output's hash").await?;
            let parsed = DerivationOutput::from_fields(dir, &path, &method, &hash)
                .map_err(|e| WireError::Invalid(format!("output '{output}' of derivation '{name}': {e}")))?;
            drv.outputs.insert(output, parsed);
        }
        drv.input_srcs = self.paths(dir).await?;
        drv.platform = self.bytes().await?;
        drv.builder = self.bytes().await?;
        for _ in 0..self.count().await? {
            drv.args.push(self.bytes().await?);
        }
        for _ in 0..self.count().await? {
            let key = self.bytes().await?;
            drv.env.insert(key, self.bytes().await?);
        }
        Ok(drv)
    }

    pub async fn realisation(&mut self) -> WireResult<Realisation> {
        parse_realisation(&self.bytes().await?)
    }
}

impl Message {
    pub fn content_address(&mut self, ca: Option<&ContentAddress>) -> &mut Self {
        self.bytes(ca.map(ToString::to_string).unwrap_or_default())
    }

    /// A derivation without its input derivations.
    pub fn derivation(&mut self, dir: &StoreDir, drv: &Derivation) -> &mut Self {
        self.count(drv.outputs.len());
        for (name, output) in &drv.outputs {
            let path = match output {
                DerivationOutput::InputAddressed(_) | DerivationOutput::CaFixed(_) => {
                    output.path(dir, &drv.name, name).ok().flatten()
                }
                _ => None,
            };
            let (method, hash) = output.method_and_hash_fields();
            self.bytes(name).opt_path(dir, path.as_ref()).bytes(method).bytes(hash);
        }
        self.paths(dir, &drv.input_srcs).bytes(&drv.platform).bytes(&drv.builder).strings(&drv.args);
        self.count(drv.env.len());
        for (key, value) in &drv.env {
            self.bytes(key).bytes(value);
        }
        self
    }

    pub fn realisation(&mut self, realisation: &Realisation) -> &mut Self {
        self.bytes(render_realisation(realisation))
    }
}

/// Which path an output of a derivation has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realisation {
    /// `sha256:<hash of the derivation>!<output>`.
    pub id: String,
    pub out_path: StorePath,
    pub signatures: BTreeSet<String>,
    pub dependent_realisations: BTreeMap<String, StorePath>,
}

impl Realisation {
    /// One without further facts.
    pub fn new(id: String, out_path: StorePath) -> Realisation {
        Realisation { id, out_path, signatures: BTreeSet::new(), dependent_realisations: BTreeMap::new() }
    }

    /// The name of the output in the id.
    pub fn output_name(&self) -> &str {
        self.id.split_once('!').map_or("", |(_, name)| name)
    }
}

/// The JSON text of a realisation that both protocols send.
pub fn render_realisation(realisation: &Realisation) -> String {
    let mut object = Map::new();
    let dependents = realisation
        .dependent_realisations
        .iter()
        .map(|(id, path)| (id.clone(), Value::from(path.base_name())))
        .collect::<Map<_, _>>();
    object.insert("dependentRealisations".into(), dependents.into());
    object.insert("id".into(), realisation.id.as_str().into());
    object.insert("outPath".into(), realisation.out_path.base_name().into());
    object.insert("signatures".into(), realisation.signatures.iter().map(String::as_str).collect());
    Value::from(object).to_string()
}

/// Reads such a text.
pub fn parse_realisation(json: &[u8]) -> WireResult<Realisation> {
    let bad = |why: String| {
        WireError::Invalid(format!("while parsing a realisation object in the remote protocol: {why}"))
    };
    let value: Value = serde_json::from_slice(json).map_err(|e| bad(e.to_string()))?;
    let text = |key: &str| {
        let text = value.get(key).and_then(Value::as_str);
        text.ok_or_else(|| bad(format!("'{key}' is missing or not a string")))
    };
    let path = |text: &str| StorePath::from_base_name(text).map_err(|e| bad(e.to_string()));
    let mut realisation = Realisation::new(text("id")?.to_owned(), path(text("outPath")?)?);
    check_output_id(&realisation.id)?;
    for signature in value.get("signatures").and_then(Value::as_array).into_iter().flatten() {
        let text = signature.as_str().ok_or_else(|| bad("a signature is not a string".into()))?;
        realisation.signatures.insert(text.to_owned());
    }
    for (id, out) in value.get("dependentRealisations").and_then(Value::as_object).into_iter().flatten() {
        let out = out.as_str().ok_or_else(|| bad(format!("the path of '{id}' is not a string")))?;
        realisation.dependent_realisations.insert(id.clone(), path(out)?);
    }
    Ok(realisation)
}

/// Checks the form `hash!output`.
pub fn check_output_id(id: &str) -> WireResult<()> {
    let (hash, output) =
        id.split_once('!').ok_or_else(|| WireError::Invalid(format!("Invalid derivation output id {id}")))?;
    Hash::parse_any_prefixed(hash)?;
    match output.is_empty() {
        true => Err(WireError::Invalid(format!("Invalid derivation output id {id}"))),
        false => Ok(()),
    }
}

/// `path` or `drv!out1,out2`, as older versions and the serve protocol write requests: a derivation without outputs
/// means all of them. `None` where that cannot be said so.
pub fn render_path_with_outputs(dir: &StoreDir, path: &DerivedPath) -> Option<String> {
    use firn_core::{OutputsSpec, SingleDerivedPath};
    match path {
        DerivedPath::Opaque(path) if path.is_derivation() => None,
        DerivedPath::Opaque(path) => Some(dir.display(path)),
        DerivedPath::Built { drv, outputs } => match (&**drv, outputs) {
            (SingleDerivedPath::Opaque(drv), OutputsSpec::All) => Some(dir.display(drv)),
            (SingleDerivedPath::Opaque(drv), outputs) => {
                Some(format!("{}!{}", dir.display(drv), outputs.render()))
            }
            (SingleDerivedPath::Built { .. }, _) => None,
        },
    }
}

/// Reads what [`render_path_with_outputs`] writes.
pub fn parse_path_with_outputs(dir: &StoreDir, text: &str) -> WireResult<DerivedPath> {
    use firn_core::OutputsSpec;
    let (path, outputs) = match text.split_once('!') {
        Some((path, outputs)) => (dir.parse(path)?, Some(outputs)),
        None => (dir.parse(text)?, None),
    };
    let bad = || WireError::Invalid(format!("'{text}' does not name outputs"));
    Ok(match outputs {
        Some(outputs) => DerivedPath::built(path, OutputsSpec::parse(outputs).ok_or_else(bad)?),
        None if path.is_derivation() => DerivedPath::built(path, OutputsSpec::All),
        None => DerivedPath::Opaque(path),
    })
}
