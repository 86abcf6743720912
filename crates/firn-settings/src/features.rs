//! Experimental features: what must be asked for by name before it can be used.

use std::collections::BTreeSet;
use std::fmt;

macro_rules! features {
    ($($variant:ident = $name:literal,)*) => {
        /// A feature of the reference that `experimental-features` switches on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ExperimentalFeature { $($variant,)* }

        impl ExperimentalFeature {
            /// All features, by name.
            pub const ALL: &'static [ExperimentalFeature] = &[$(ExperimentalFeature::$variant,)*];

            /// The name a user writes.
            pub fn name(self) -> &'static str {
                match self { $(ExperimentalFeature::$variant => $name,)* }
            }
        }
    };
}

features! {
    AutoAllocateUids = "auto-allocate-uids",
    Blake3Hashes = "blake3-hashes",
    CaDerivations = "ca-derivations",
    Cgroups = "cgroups",
    ConfigurableImpureEnv = "configurable-impure-env",
    DaemonTrustOverride = "daemon-trust-override",
    DynamicDerivations = "dynamic-derivations",
    ExternalBuilders = "external-builders",
    FetchClosure = "fetch-closure",
    FetchTree = "fetch-tree",
    Flakes = "flakes",
    GitHashing = "git-hashing",
    ImpureDerivations = "impure-derivations",
    LocalOverlayStore = "local-overlay-store",
    MountedSshStore = "mounted-ssh-store",
    NixCommand = "nix-command",
    ParseTomlTimestamps = "parse-toml-timestamps",
    PipeOperators = "pipe-operators",
    ReadOnlyLocalStore = "read-only-local-store",
    RecursiveNix = "recursive-nix",
    VerifiedFetches = "verified-fetches",
}

impl ExperimentalFeature {
    /// The feature called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|feature| feature.name() == name)
    }

    /// The message for something that needs this feature while it is off.
    pub fn disabled_message(self) -> String {
        let name = self.name();
        format!(
            "experimental Nix feature '{name}' is disabled; \
             add '--extra-experimental-features {name}' to enable it"
        )
    }
}

impl fmt::Display for ExperimentalFeature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialOrd for ExperimentalFeature {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// By name, so that sets print in the reference's order.
impl Ord for ExperimentalFeature {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.name().cmp(other.name())
    }
}

/// The features that are on.
pub type FeatureSet = BTreeSet<ExperimentalFeature>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for &feature in ExperimentalFeature::ALL {
            assert_eq!(ExperimentalFeature::parse(feature.name()), Some(feature));
        }
        assert_eq!(ExperimentalFeature::parse("no-such"), None);
    }
}
