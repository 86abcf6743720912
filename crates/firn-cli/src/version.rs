//! What `--version` prints. Scripts take the third word of the first line, or the last, for the version.

use crate::context::Context;
use firn_core::REFERENCE_VERSION;
use firn_store::activity::Verbosity;
use std::path::Path;

/// The text for `program`; more of it above the usual verbosity.
pub fn text(program: &str, context: &Context) -> String {
    if program == "firn" {
        return format!("firn {} (Nix) {REFERENCE_VERSION}\n", env!("CARGO_PKG_VERSION"));
    }
    let mut out = format!("{program} (Nix) {REFERENCE_VERSION}\n");
    if context.verbosity > Verbosity::Info {
        let settings = &context.settings;
        let platforms: Vec<&str> = settings.extra_platforms.iter().map(String::as_str).collect();
        let files: Vec<String> = settings.dirs.user_conf_files.iter().map(|file| show(file)).collect();
        out.push_str(&format!("System type: {}\n", settings.system));
        out.push_str(&format!("Additional system types: {}\n", platforms.join(", ")));
        out.push_str(&format!("Implementation: firn {}\n", env!("CARGO_PKG_VERSION")));
        out.push_str(&format!("System configuration file: \"{}\"\n", show(&settings.dirs.conf_file())));
        out.push_str(&format!("User configuration files: {}\n", files.join(":")));
        out.push_str(&format!("Store directory: {}\n", show(&settings.dirs.store)));
        out.push_str(&format!("State directory: \"{}\"\n", show(&settings.dirs.state)));
    }
    out
}

fn show(path: &Path) -> String {
    path.display().to_string()
}
