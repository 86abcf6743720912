//! The derivation that writes the environment of another down.

use super::DUMP;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_core::{CaMethod, DerivedPath, HashAlgo, OutputsSpec, StorePath};
use firn_derivation::modulo::{Mask, ModuloMemo};
use firn_derivation::{Derivation, DerivationOutput, HashModuloError, STRUCTURED_ATTRS_ENV};
use firn_store::{AddSource, BuildMode, StoreError};
use std::collections::BTreeSet;
use thiserror::Error;

/// Checks of outputs, which the environment is not meant to meet.
const CHECKS: [&str; 4] =
    ["allowedReferences", "allowedRequisites", "disallowedReferences", "disallowedRequisites"];

#[derive(Debug, Error)]
enum HashError {
    #[error("{0}")]
    Modulo(#[from] HashModuloError),
    #[error("{0}")]
    Store(String),
}

/// Builds the environment of `drv_path` and returns the path of the file that holds it.
pub fn environment(context: &Context, drv_path: &StorePath) -> CliResult<StorePath> {
    let store = context.eval_store()?;
    let dir = store.store_dir();
    let mut drv = context.block_on(store.read_derivation(drv_path))??;
    if drv.builder.rsplit(|byte| *byte == b'/').next() != Some(b"bash") {
        return Err(CliError::failed(
            "'nix develop' only works on derivations that use 'bash' as their builder",
        ));
    }
    let script = context.block_on(store.add_to_store(
        "get-env.sh",
        AddSource::Bytes(DUMP.as_bytes()),
        CaMethod::Text,
        HashAlgo::Sha256,
        &BTreeSet::new(),
        false,
    ))??;
    change(&mut drv, &script.path, &dir.display(&script.path))?;
    let mut memo = ModuloMemo::default();
    let masked = drv.hash_modulo::<HashError>(dir, Mask::Outputs, |input| {
        memo.compute(dir, input, |path| {
            let read = context.block_on(store.read_derivation(path));
            read.map_err(|e| HashError::Store(e.to_string()))?.map_err(|e| HashError::Store(e.to_string()))
        })
    });
    let masked = masked.map_err(|e| CliError::failed(e.to_string()))?;
    drv.fill_output_paths(dir, &masked).map_err(StoreError::from)?;
    let name = format!("{}.drv", drv.name);
    let text = drv.to_aterm(dir);
    let path = context.block_on(store.add_text(&name, &text, &drv.references(), false))??;

    let builder = context.build_store()?;
    let requests = [DerivedPath::built(path.clone(), OutputsSpec::All)];
    let built = context.block_on(builder.realise(&requests, BuildMode::Normal))??;
    let mut outputs: Vec<StorePath> =
        built.into_iter().flat_map(|result| result.outputs.into_values()).collect();
    if outputs.is_empty() {
        let known = context.block_on(store.query_derivation_outputs(&path))??;
        outputs.extend(known.into_values().flatten());
    }
    // It is in one of the outputs, all others are empty.
    for output in outputs {
        if !super::read(context, &output)?.is_empty() {
            return Ok(output);
        }
    }
    Err(CliError::failed("the builder of 'nix develop' did not write an environment"))
}

fn change(drv: &mut Derivation, script: &StorePath, shown: &str) -> CliResult<()> {
    drv.args = vec![shown.as_bytes().to_vec()];
    drv.input_srcs.insert(script.clone());
    match drv.env.get_mut(STRUCTURED_ATTRS_ENV) {
        None => CHECKS.iter().for_each(|check| drop(drv.env.remove(check.as_bytes()))),
        Some(attrs) => {
            let mut value: serde_json::Value = serde_json::from_slice(attrs)
                .map_err(|e| CliError::failed(format!("structured attributes of '{}': {e}", drv.name)))?;
            if let Some(map) = value.as_object_mut() {
                map.remove("outputChecks");
            }
            *attrs = value.to_string().into_bytes();
        }
    }
    drv.name += "-env";
    drv.env.insert(b"name".to_vec(), drv.name.clone().into_bytes());
    for (name, output) in &mut drv.outputs {
        if matches!(output, DerivationOutput::InputAddressed(_) | DerivationOutput::CaFixed(_)) {
            *output = DerivationOutput::Deferred;
            drv.env.insert(name.clone().into_bytes(), Vec::new());
        }
    }
    Ok(())
}
