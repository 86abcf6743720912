//! Placeholders: texts that stand for store paths which are not known yet.

use firn_core::store_path::output_path_name;
use firn_core::{Hash, HashAlgo, HashFormat, SingleDerivedPath, StorePath};

/// What `builtins.placeholder` gives: stands for the derivation's own output `name` until its build.
pub fn output_placeholder(name: &str) -> String {
    render(&Hash::of(HashAlgo::Sha256, format!("nix-output:{name}").as_bytes()))
}

/// Stands for an output of another derivation whose path is not known before it is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownstreamPlaceholder(Hash);

impl DownstreamPlaceholder {
    /// For output `output` of the content-addressed derivation `drv`.
    pub fn ca_output(drv: &StorePath, output: &str) -> DownstreamPlaceholder {
        let name = drv.name();
        let name = name.strip_suffix(".drv").unwrap_or(name);
        let text = format!("nix-upstream-output:{}:{}", drv.hash_part(), output_path_name(name, output));
        DownstreamPlaceholder(Hash::of(HashAlgo::Sha256, text.as_bytes()))
    }

    /// For output `output` of the derivation that `self` stands for (dynamic derivations).
    pub fn derivation_output(&self, output: &str) -> DownstreamPlaceholder {
        let compressed = firn_core::base::nix32_encode(&self.0.compress::<20>());
        let text = format!("nix-computed-output:{compressed}:{output}");
        DownstreamPlaceholder(Hash::of(HashAlgo::Sha256, text.as_bytes()))
    }

    /// For `output` of `drv`, however deep it is built.
    pub fn of(drv: &SingleDerivedPath, output: &str) -> DownstreamPlaceholder {
        // The chain is walked from its base, so that its length costs no stack.
        let mut outputs = vec![output];
        let mut at = drv;
        let base = loop {
            match at {
                SingleDerivedPath::Opaque(path) => break path,
                SingleDerivedPath::Built { drv, output } => {
                    outputs.push(output);
                    at = drv;
                }
            }
        };
        let mut outputs = outputs.into_iter().rev();
        let first = DownstreamPlaceholder::ca_output(base, outputs.next().unwrap_or(output));
        outputs.fold(first, |placeholder, output| placeholder.derivation_output(output))
    }

    /// The text, which looks like an absolute path.
    pub fn render(&self) -> String {
        render(&self.0)
    }
}

fn render(hash: &Hash) -> String {
    format!("/{}", hash.to_base(HashFormat::Nix32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_reference() {
        assert_eq!(output_placeholder("out"), "/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9");
        let drv = StorePath::from_base_name("g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-foo.drv").unwrap();
        let placeholder = DownstreamPlaceholder::ca_output(&drv, "out");
        assert_eq!(placeholder.render(), "/0c6rn30q4frawknapgwq386zq358m8r6msvywcvc89n6m5p2dgbz");
        let built = SingleDerivedPath::Built {
            drv: std::sync::Arc::new(SingleDerivedPath::Opaque(drv.clone())),
            output: "out".to_owned(),
        };
        assert_eq!(DownstreamPlaceholder::of(&SingleDerivedPath::Opaque(drv), "out"), placeholder);
        assert_eq!(DownstreamPlaceholder::of(&built, "x"), placeholder.derivation_output("x"));
    }
}
