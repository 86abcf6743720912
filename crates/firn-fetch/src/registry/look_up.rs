//! What an indirect input means.

use super::RegistryKind;
use crate::Fetcher;
use crate::error::{FetchError, FetchResult};
use crate::tree::{shown, text};
use firn_core::flake_ref::Input;

/// Entries may lead to others so many times.
const MOST_STEPS: usize = 100;

impl Fetcher {
    /// What an input is called elsewhere, and the folder in it that the registry says. With `limited`, only flags and the
    /// global registry count.
    ///
    /// # Errors
    /// Names that no registry knows, and entries that lead in a circle.
    pub async fn look_up(&self, input: &Input, limited: bool) -> FetchResult<(Input, Option<Vec<u8>>)> {
        let registries = self.registries().await?;
        let counts =
            |kind: RegistryKind| !limited || matches!(kind, RegistryKind::Flag | RegistryKind::Global);
        let entries: Vec<_> = registries
            .iter()
            .filter(|registry| counts(registry.kind))
            .flat_map(|registry| &registry.entries)
            .collect();
        let (mut input, mut dir) = (input.clone(), None);
        for _ in 0..MOST_STEPS {
            let found = entries.iter().find(|entry| match entry.exact {
                true => entry.from == input,
                false => entry.from.contains(&input),
            });
            let Some(entry) = found else {
                return match input.is_direct() {
                    true => Ok((input, dir)),
                    false => Err(FetchError::Other(format!(
                        "cannot find flake '{}' in the flake registries",
                        shown(&input)
                    ))),
                };
            };
            let next = match entry.exact {
                true => entry.to.clone(),
                false => {
                    // What the name says of a version holds for what it stands for, unless the entry is for that version.
                    let own = |name: &str| match entry.from.attrs.contains_key(name) {
                        true => None,
                        false => text(&input.attrs, name),
                    };
                    let next = entry.to.at(own("ref"), own("rev"));
                    next.map_err(|error| FetchError::Other(error.message))?
                }
            };
            dir = entry.dir.clone();
            input = next;
        }
        Err(FetchError::Other(format!("cycle detected in flake registry for '{}'", shown(&input))))
    }
}
