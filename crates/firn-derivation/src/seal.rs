//! Completing a derivation: the paths of its outputs, its own path, its text and its hash modulo, in one go.
//!
//! Three hashes are taken of nearly the same text: without output paths, to make these; as it is, for the derivation's
//! path; and with hashes for input derivations, for others that depend on it. Each part of the text is printed once.

use crate::aterm::{Inputs, unmasked};
use crate::modulo::HashModuloError;
use crate::{Derivation, DerivationOutput, DrvHashModulo};
use firn_core::hash::Hasher;
use firn_core::{Hash, HashAlgo, StoreDir, StorePath};

/// What a completed derivation is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Of the `.drv` file.
    pub path: StorePath,
    /// The bytes of the `.drv` file.
    pub aterm: Vec<u8>,
    /// Their SHA-256.
    pub aterm_hash: Hash,
    /// What stands for it in the hashes of others.
    pub hash: DrvHashModulo,
}

impl Derivation {
    /// Fills in the paths of outputs that are [`DerivationOutput::Deferred`] as [`Derivation::fill_output_paths`] does, if
    /// they can be known, and gives what follows from the whole. `lookup` as for [`Derivation::hash_modulo`].
    pub fn seal<E: From<HashModuloError>>(
        &mut self,
        dir: &StoreDir,
        mut lookup: impl FnMut(&StorePath) -> Result<DrvHashModulo, E>,
    ) -> Result<Sealed, E> {
        let kind = self.derivation_type().map_err(HashModuloError::Type)?;
        if kind.is_fixed() {
            let hash = self.hash_fixed(dir)?;
            let aterm = self.to_aterm(dir);
            let aterm_hash = hash_of(&[&aterm]);
            let path = self.store_path_by_hash(dir, &aterm_hash).map_err(HashModuloError::Name)?;
            return Ok(Sealed { path, aterm, aterm_hash, hash });
        }
        let inputs = self.input_hashes(kind, &mut lookup)?;
        let deferred = inputs.deferred;
        let hashed = self.write_inputs(dir, &Inputs::Hashes(&inputs.hashes));
        let (mut rest, mut holes) = self.write_rest(dir);
        if self.outputs.values().any(|output| matches!(output, DerivationOutput::Deferred)) {
            let masked = modulo(deferred, hash_of(&[&self.write_outputs(dir), &hashed, &rest]));
            let variables = self.env.len();
            self.fill_output_paths(dir, &masked).map_err(HashModuloError::Name)?;
            if self.env.len() != variables {
                // Outputs that had no variable have one now.
                (rest, holes) = self.write_rest(dir);
            }
        }
        let outputs = self.write_outputs(dir);
        let paths = self.write_inputs(dir, &Inputs::Paths);
        let values: Vec<_> = holes.iter().map(|(at, name)| (*at, &self.env[name][..])).collect();
        let longest = values.iter().map(|(_, value)| value.len() + value.len() / 16 + 8).sum::<usize>();
        let mut aterm = Vec::with_capacity(outputs.len() + paths.len() + rest.len() + longest);
        aterm.extend_from_slice(&outputs);
        aterm.extend_from_slice(&paths);
        let start = aterm.len();
        let aterm = unmasked(&rest, &values, dir, aterm);
        let aterm_hash = hash_of(&[&aterm]);
        let path = self.store_path_by_hash(dir, &aterm_hash).map_err(HashModuloError::Name)?;
        let hash = modulo(deferred, hash_of(&[&outputs, &hashed, &aterm[start..]]));
        Ok(Sealed { path, aterm, aterm_hash, hash })
    }
}

fn modulo(deferred: bool, hash: Hash) -> DrvHashModulo {
    if deferred { DrvHashModulo::Deferred(hash) } else { DrvHashModulo::Regular(hash) }
}

fn hash_of(parts: &[&[u8]]) -> Hash {
    let mut hasher = Hasher::new(HashAlgo::Sha256);
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finish()
}
