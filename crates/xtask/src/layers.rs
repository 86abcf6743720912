//! `cargo xtask layers`: which crate may use which, and which outside crates stay out where.
//!
//! The table is that of ARCHITECTURE.md. Dependencies of tests are free.

use crate::source::{self, Result};

struct Layer {
    name: &'static str,
    /// Crates of this workspace that it may use.
    may_use: &'static [&'static str],
    /// Crates from outside that it never uses.
    never: &'static [&'static str],
}

const STORE: &[&str] = &["firn-core", "firn-nar", "firn-derivation", "firn-settings", "firn-store"];

const STORE_AND_NET: &[&str] =
    &["firn-archive", "firn-core", "firn-derivation", "firn-http", "firn-nar", "firn-settings", "firn-store"];

const LAYERS: &[Layer] = &[
    Layer {
        name: "firn-core",
        may_use: &[],
        never: &["tokio", "rusqlite", "rustix", "libc", "nix", "fs-err"],
    },
    Layer { name: "firn-nar", may_use: &["firn-core"], never: &["tokio", "rusqlite"] },
    Layer { name: "firn-archive", may_use: &[], never: &["tokio", "rusqlite", "reqwest"] },
    Layer {
        name: "firn-http",
        may_use: &["firn-archive", "firn-core", "firn-settings"],
        never: &["rusqlite"],
    },
    Layer {
        name: "firn-derivation",
        may_use: &["firn-core"],
        never: &["tokio", "rusqlite", "rustix", "fs-err"],
    },
    Layer { name: "firn-settings", may_use: &["firn-core"], never: &["tokio", "rusqlite"] },
    Layer { name: "firn-syntax", may_use: &[], never: &["tokio", "rusqlite", "rustix", "fs-err"] },
    Layer {
        name: "firn-eval",
        may_use: &["firn-syntax", "firn-core", "firn-derivation"],
        never: &["tokio", "rusqlite", "fs-err"],
    },
    Layer {
        name: "firn-store",
        may_use: &["firn-core", "firn-nar", "firn-derivation", "firn-settings"],
        never: &["rusqlite", "reqwest", "hyper"],
    },
    Layer { name: "firn-store-local", may_use: STORE, never: &["reqwest", "hyper"] },
    Layer { name: "firn-store-cache", may_use: STORE_AND_NET, never: &["reqwest"] },
    Layer { name: "firn-wire", may_use: &["firn-core", "firn-derivation"], never: &["rusqlite"] },
    Layer {
        name: "firn-store-remote",
        may_use: &["firn-core", "firn-nar", "firn-derivation", "firn-settings", "firn-store", "firn-wire"],
        never: &["rusqlite"],
    },
    Layer {
        name: "firn-daemon",
        may_use: &["firn-core", "firn-nar", "firn-derivation", "firn-settings", "firn-store", "firn-wire"],
        never: &["rusqlite"],
    },
    Layer {
        name: "firn-remote-build",
        may_use: &[
            "firn-archive",
            "firn-core",
            "firn-nar",
            "firn-derivation",
            "firn-settings",
            "firn-store",
            "firn-wire",
            "firn-scheduler",
        ],
        never: &["rusqlite"],
    },
    Layer { name: "firn-sandbox", may_use: &[], never: &["tokio", "rusqlite"] },
    Layer {
        name: "firn-build",
        may_use: &[
            "firn-archive",
            "firn-http",
            "firn-core",
            "firn-nar",
            "firn-derivation",
            "firn-settings",
            "firn-store",
            "firn-sandbox",
            "firn-scheduler",
        ],
        never: &["rusqlite"],
    },
    Layer {
        name: "firn-scheduler",
        may_use: &["firn-core", "firn-derivation", "firn-settings", "firn-store"],
        never: &["rusqlite"],
    },
    Layer { name: "firn-fetch", may_use: STORE_AND_NET, never: &["reqwest"] },
    Layer {
        name: "firn-flake",
        may_use: &["firn-core", "firn-settings", "firn-store", "firn-fetch"],
        never: &["tokio", "rusqlite", "reqwest"],
    },
    Layer {
        name: "firn-host",
        may_use: &[
            "firn-core",
            "firn-nar",
            "firn-derivation",
            "firn-settings",
            "firn-store",
            "firn-syntax",
            "firn-eval",
            "firn-fetch",
            "firn-flake",
        ],
        never: &["rusqlite"],
    },
    Layer { name: "firn-install", may_use: &[], never: &["tokio", "rusqlite"] },
    Layer { name: "firn-profile", may_use: STORE, never: &["rusqlite"] },
];

/// Crates that may use everything and that nothing that is shipped uses.
const TOPS: &[&str] = &["firn-cli", "firn-testkit", "xtask", "firn-tests"];

/// Every edge that the table forbids.
pub fn problems() -> Result<Vec<String>> {
    let metadata = source::metadata()?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata has no packages")?;
    let mut problems = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        if TOPS.iter().any(|top| name == *top || name.starts_with("firn-tests-")) {
            continue;
        }
        let Some(layer) = LAYERS.iter().find(|layer| layer.name == name) else {
            problems.push(format!("{name}: not in the table of layers (crates/xtask/src/layers.rs)"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            if dependency["kind"] == "dev" {
                continue;
            }
            let is_ours = used.starts_with("firn-") || used == "xtask";
            if is_ours && !layer.may_use.contains(&used) {
                problems.push(format!("{name} must not use {used}"));
            }
            if layer.never.contains(&used) {
                problems.push(format!("{name} must never use {used}"));
            }
        }
    }
    Ok(problems)
}
