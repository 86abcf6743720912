//! The derivation that joins the elements of a user environment into one tree.

use crate::element::{Element, Meta};
use crate::error::{ProfileError, ProfileResult};
use firn_core::StorePath;
use firn_core::store_path::StoreDir;
use firn_derivation::modulo::Mask;
use firn_derivation::{Derivation, DerivationOutput, HashModuloError};

/// The priority of an element that says nothing of it.
pub const DEFAULT_PRIORITY: i64 = 5;

/// The user environment of `elements`, whose manifest is at `manifest`.
pub fn derivation(elements: &[Element], manifest: &StorePath, dir: &StoreDir) -> ProfileResult<Derivation> {
    let mut words: Vec<Vec<u8>> = Vec::new();
    for element in elements {
        words.push(word(element, "active", || b"true".to_vec())?);
        words.push(word(element, "priority", || DEFAULT_PRIORITY.to_string().into_bytes())?);
        words.push(element.outputs.len().to_string().into_bytes());
        words.extend(element.outputs.values().map(|path| dir.display(path).into_bytes()));
    }
    let mut drv = Derivation::new("user-environment");
    drv.platform = b"builtin".to_vec();
    drv.builder = b"builtin:buildenv".to_vec();
    drv.input_srcs.insert(manifest.clone());
    drv.outputs.insert("out".into(), DerivationOutput::Deferred);
    let env: [(&str, Vec<u8>); 8] = [
        ("allowSubstitutes", Vec::new()),
        ("builder", drv.builder.clone()),
        ("derivations", words.join(&b' ')),
        ("manifest", dir.display(manifest).into_bytes()),
        ("name", b"user-environment".to_vec()),
        ("out", Vec::new()),
        ("preferLocalBuild", b"1".to_vec()),
        ("system", drv.platform.clone()),
    ];
    drv.env = env.into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value)).collect();
    let bad = |e: &dyn std::fmt::Display| ProfileError::Manifest(e.to_string());
    // There are no derivations among the inputs, so none is looked up.
    let masked = drv.hash_modulo::<HashModuloError>(dir, Mask::Outputs, |path| {
        Err(HashModuloError::NoOutput { output: "out".into(), drv: path.name().to_owned() })
    });
    drv.fill_output_paths(dir, &masked.map_err(|e| bad(&e))?).map_err(|e| bad(&e))?;
    Ok(drv)
}

/// A `meta` value as one word of the builder's argument.
fn word(element: &Element, name: &str, default: impl FnOnce() -> Vec<u8>) -> ProfileResult<Vec<u8>> {
    let bad = |what: &str| ProfileError::Manifest(format!("{what} as 'meta.{name}' of '{}'", element.name));
    let word = match element.meta.get(name.as_bytes()) {
        None => default(),
        Some(Meta::Str(text)) => text.clone(),
        Some(Meta::Int(n)) => n.to_string().into_bytes(),
        Some(Meta::Bool(true)) => b"true".to_vec(),
        Some(Meta::Bool(false)) => b"false".to_vec(),
        Some(_) => return Err(bad("a list, set or fraction")),
    };
    match word.is_empty() || word.iter().any(u8::is_ascii_whitespace) {
        true => Err(bad(&format!("the text '{}'", String::from_utf8_lossy(&word)))),
        false => Ok(word),
    }
}
