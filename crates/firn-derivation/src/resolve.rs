//! Resolution: a derivation whose inputs are built becomes one with input sources only, placeholders being
//! replaced by the paths they stood for.

use crate::modulo::{HashModuloError, Mask};
use crate::{Derivation, DerivationOutput, DerivationType, DownstreamPlaceholder, DrvHashModulo, InputNode};
use firn_core::{SingleDerivedPath, StoreDir, StorePath};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Replaces every occurrence of each key by its value; the leftmost wins, keys of equal place by order.
pub fn rewrite(text: &[u8], rewrites: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
    let mut out = text.to_vec();
    for (from, to) in rewrites {
        if from.is_empty() || from == to {
            continue;
        }
        let finder = memchr::memmem::Finder::new(from);
        if finder.find(&out).is_none() {
            continue;
        }
        let mut next = Vec::with_capacity(out.len());
        let mut rest = &out[..];
        while let Some(at) = finder.find(rest) {
            next.extend_from_slice(&rest[..at]);
            next.extend_from_slice(to);
            rest = &rest[at + from.len()..];
        }
        next.extend_from_slice(rest);
        out = next;
    }
    out
}

impl Derivation {
    /// Replaces texts in builder, arguments and environment.
    pub fn apply_rewrites(&mut self, rewrites: &BTreeMap<Vec<u8>, Vec<u8>>) {
        if rewrites.is_empty() {
            return;
        }
        self.builder = rewrite(&self.builder, rewrites);
        for arg in &mut self.args {
            *arg = rewrite(arg, rewrites);
        }
        self.env = std::mem::take(&mut self.env)
            .into_iter()
            .map(|(name, value)| (rewrite(&name, rewrites), rewrite(&value, rewrites)))
            .collect();
    }

    /// Whether the derivation must be resolved before it is built.
    pub fn should_resolve(&self) -> bool {
        let by_type = match self.derivation_type() {
            Ok(DerivationType::InputAddressed { deferred }) => deferred,
            Ok(DerivationType::CaFloating | DerivationType::Impure) => true,
            Ok(DerivationType::CaFixed) | Err(_) => false,
        };
        !self.input_drvs.is_empty() && (by_type || self.has_dynamic_inputs())
    }

    /// The derivation with its inputs' outputs as input sources and every placeholder replaced. `path_of` gives
    /// the path of an output of a derivation; where it does not know, the result is `None`.
    pub fn resolve(
        &self,
        dir: &StoreDir,
        mut path_of: impl FnMut(&SingleDerivedPath, &str) -> Option<StorePath>,
    ) -> Result<Option<Derivation>, HashModuloError> {
        let mut resolved = self.clone();
        resolved.input_drvs.clear();
        let mut rewrites = BTreeMap::new();
        let mut work: Vec<(Arc<SingleDerivedPath>, &InputNode)> = self
            .input_drvs
            .iter()
            .map(|(path, node)| (Arc::new(SingleDerivedPath::Opaque(path.clone())), node))
            .collect();
        while let Some((drv, node)) = work.pop() {
            for output in &node.outputs {
                let Some(path) = path_of(&drv, output) else { return Ok(None) };
                rewrites.insert(
                    DownstreamPlaceholder::of(&drv, output).render().into_bytes(),
                    dir.display(&path).into_bytes(),
                );
                resolved.input_srcs.insert(path);
            }
            for (output, child) in &node.dynamic {
                let built = SingleDerivedPath::Built { drv: drv.clone(), output: output.clone() };
                work.push((Arc::new(built), child));
            }
        }
        resolved.apply_rewrites(&rewrites);
        let masked = resolved.hash_modulo(dir, Mask::Outputs, |_| {
            Err(HashModuloError::NoOutput { output: "*".to_owned(), drv: self.name.clone() })
        })?;
        if let DrvHashModulo::Regular(hash) = &masked {
            for (name, output) in &mut resolved.outputs {
                if *output == DerivationOutput::Deferred {
                    let path = dir.make_output_path(name, hash, &resolved.name)?;
                    let text = dir.display(&path).into_bytes();
                    resolved.env.insert(name.clone().into_bytes(), text);
                    *output = DerivationOutput::InputAddressed(path);
                }
            }
        }
        Ok(Some(resolved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewrites_all_occurrences() {
        let rewrites = [(b"ab".to_vec(), b"X".to_vec()), (b"c".to_vec(), b"YY".to_vec())].into();
        assert_eq!(rewrite(b"abcabab-c", &rewrites), b"XYYXX-YY");
    }
}
