//! What kind of derivation it is, and the paths of its outputs.

use crate::aterm::Problem;
use crate::modulo::{DrvHashModulo, HashModuloError};
use crate::{Derivation, DerivationOutput};
use firn_core::store_path::{NameError, check_name, output_path_name};
use firn_core::{StoreDir, StorePath};
use std::collections::BTreeMap;
use thiserror::Error;

/// The kind of a derivation, which all of its outputs share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DerivationType {
    /// `deferred`: paths are known only after resolution.
    InputAddressed {
        deferred: bool,
    },
    /// One output whose content is known beforehand; may use the network.
    CaFixed,
    CaFloating,
    Impure,
}

impl DerivationType {
    pub fn is_fixed(self) -> bool {
        self == DerivationType::CaFixed
    }

    /// Whether paths follow from contents.
    pub fn is_content_addressed(self) -> bool {
        !matches!(self, DerivationType::InputAddressed { .. })
    }

    /// Whether every output's path is known before the build.
    pub fn has_known_output_paths(self) -> bool {
        matches!(self, DerivationType::InputAddressed { deferred: false } | DerivationType::CaFixed)
    }

    pub fn is_impure(self) -> bool {
        self == DerivationType::Impure
    }

    /// Whether the build is kept from the network: all but fixed and impure ones.
    pub fn is_sandboxed(self) -> bool {
        matches!(self, DerivationType::InputAddressed { .. } | DerivationType::CaFloating)
    }
}

/// Why the outputs of a derivation do not go together.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum TypeError {
    #[error("must have at least one output")]
    None,
    #[error("can't mix derivation output types")]
    Mixed,
    #[error("only one fixed output is allowed for now")]
    SeveralFixed,
    #[error("single fixed output must be named \"out\"")]
    FixedName,
    #[error("all floating outputs must use the same hash algorithm")]
    FloatingAlgos,
}

/// Why output paths or their environment variables are not what they should be.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum InvariantError {
    #[error(transparent)]
    Type(#[from] TypeError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("derivation has incorrect output '{got}', should be '{expected}'")]
    Output { got: String, expected: String },
    #[error("derivation has incorrect output '{got}', should be deferred")]
    ShouldBeDeferred { got: String },
    #[error(
        "derivation has missing environment variable '{name}', should be '{expected}' but is not present"
    )]
    MissingEnv { name: String, expected: String },
    #[error(
        "derivation has incorrect environment variable '{name}', should be '{expected}' but is actually '{got}'"
    )]
    Env { name: String, expected: String, got: String },
}

impl DerivationOutput {
    /// The output's path as far as it is known without building or resolving.
    pub fn path(&self, dir: &StoreDir, drv_name: &str, output: &str) -> Result<Option<StorePath>, NameError> {
        match self {
            DerivationOutput::InputAddressed(path) => Ok(Some(path.clone())),
            DerivationOutput::CaFixed(ca) => {
                crate::aterm::fixed_output_path(dir, drv_name, output, ca).map(Some)
            }
            DerivationOutput::CaFloating { .. }
            | DerivationOutput::Deferred
            | DerivationOutput::Impure { .. } => Ok(None),
        }
    }

    /// The method with algorithm (`r:sha256`) and digest in base 16, as ATerm and the worker protocol have them.
    pub fn method_and_hash_fields(&self) -> (String, String) {
        match self {
            DerivationOutput::InputAddressed(_) | DerivationOutput::Deferred => Default::default(),
            DerivationOutput::CaFixed(ca) => (
                format!("{}{}", ca.method.prefix(), ca.hash.algo()),
                ca.hash.to_base(firn_core::HashFormat::Base16),
            ),
            DerivationOutput::CaFloating { method, algo } => {
                (format!("{}{algo}", method.prefix()), String::new())
            }
            DerivationOutput::Impure { method, algo } => {
                (format!("{}{algo}", method.prefix()), "impure".to_owned())
            }
        }
    }
}

impl Derivation {
    /// The kind that all outputs share.
    pub fn derivation_type(&self) -> Result<DerivationType, TypeError> {
        let mut all: Option<DerivationType> = None;
        let mut floating = None;
        for (name, output) in &self.outputs {
            let this = match output {
                DerivationOutput::InputAddressed(_) => DerivationType::InputAddressed { deferred: false },
                DerivationOutput::Deferred => DerivationType::InputAddressed { deferred: true },
                DerivationOutput::CaFixed(_) => DerivationType::CaFixed,
                DerivationOutput::CaFloating { algo, .. } => {
                    if *floating.get_or_insert(*algo) != *algo {
                        return Err(TypeError::FloatingAlgos);
                    }
                    DerivationType::CaFloating
                }
                DerivationOutput::Impure { .. } => DerivationType::Impure,
            };
            match all {
                None => all = Some(this),
                Some(other) if other != this => return Err(TypeError::Mixed),
                Some(DerivationType::CaFixed) => return Err(TypeError::SeveralFixed),
                Some(_) => {}
            }
            if this.is_fixed() && name != "out" {
                return Err(TypeError::FixedName);
            }
        }
        all.ok_or(TypeError::None)
    }

    /// Each output's path where it is known.
    pub fn output_paths(&self, dir: &StoreDir) -> Result<BTreeMap<String, Option<StorePath>>, NameError> {
        self.outputs
            .iter()
            .map(|(name, output)| Ok((name.clone(), output.path(dir, &self.name, name)?)))
            .collect()
    }

    /// Checks that the derivation's and its outputs' names can be parts of store paths.
    pub fn check_names(&self) -> Result<(), NameError> {
        check_name(&self.name)?;
        self.outputs.keys().try_for_each(|name| check_name(&output_path_name(&self.name, name)))
    }

    /// Sets the paths of deferred outputs that can be known, and the environment variables that hold output
    /// paths where they are absent or empty. `masked` is this derivation's masked hash
    /// ([`Derivation::hash_modulo`] with `Mask::Outputs`).
    pub fn fill_output_paths(&mut self, dir: &StoreDir, masked: &DrvHashModulo) -> Result<(), NameError> {
        let mut known = Vec::new();
        for (name, output) in &mut self.outputs {
            let path = match (&*output, masked) {
                (DerivationOutput::Deferred, DrvHashModulo::Regular(hash)) => {
                    let path = dir.make_output_path(name, hash, &self.name)?;
                    *output = DerivationOutput::InputAddressed(path.clone());
                    path
                }
                (DerivationOutput::CaFixed(ca), _) => {
                    crate::aterm::fixed_output_path(dir, &self.name, name, ca)?
                }
                (DerivationOutput::InputAddressed(path), _) => path.clone(),
                _ => continue,
            };
            known.push((name.clone().into_bytes(), dir.display(&path).into_bytes()));
        }
        for (name, path) in known {
            let value = self.env.entry(name).or_default();
            if value.is_empty() {
                *value = path;
            }
        }
        Ok(())
    }

    /// Checks that output paths, and the environment variables that hold them, follow from the rest of the
    /// derivation. `masked` as for [`Derivation::fill_output_paths`].
    pub fn check_invariants(&self, dir: &StoreDir, masked: &DrvHashModulo) -> Result<(), InvariantError> {
        self.derivation_type()?;
        for (name, output) in &self.outputs {
            let expected = match (output, masked) {
                (DerivationOutput::InputAddressed(path), DrvHashModulo::Regular(hash)) => {
                    let expected = dir.make_output_path(name, hash, &self.name)?;
                    if expected != *path {
                        return Err(InvariantError::Output {
                            got: dir.display(path),
                            expected: dir.display(&expected),
                        });
                    }
                    expected
                }
                (DerivationOutput::InputAddressed(path), DrvHashModulo::Deferred(_)) => {
                    return Err(InvariantError::ShouldBeDeferred { got: dir.display(path) });
                }
                (DerivationOutput::CaFixed(ca), _) => {
                    crate::aterm::fixed_output_path(dir, &self.name, name, ca)?
                }
                _ => continue,
            };
            let expected = dir.display(&expected);
            match self.env.get(name.as_bytes()) {
                None => return Err(InvariantError::MissingEnv { name: name.clone(), expected }),
                Some(value) if value != expected.as_bytes() => {
                    return Err(InvariantError::Env {
                        name: name.clone(),
                        expected,
                        got: String::from_utf8_lossy(value).into_owned(),
                    });
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

impl From<TypeError> for HashModuloError {
    fn from(error: TypeError) -> Self {
        HashModuloError::Type(error)
    }
}

/// The wire's and ATerm's way to describe an output failed; kept apart so that callers need one import.
pub type OutputFieldError = Problem;
