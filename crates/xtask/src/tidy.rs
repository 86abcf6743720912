//! `cargo xtask tidy`: small rules that keep the tree in order.

use crate::source::{self, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A file longer than this asks to be split.
const MAX_LINES: usize = 800;

/// Files that are longer for a reason, with it.
const LONG_FILES: &[(&str, &str)] =
    &[("crates/firn-syntax/src/parser.rs", "one Pratt parser; splitting it would scatter one table")];

/// Where `unsafe` may stand; each use says why it is sound.
const UNSAFE_IN: &[&str] = &["crates/firn-sandbox/", "crates/firn-eval/src/value/", "crates/xtask/"];

/// Crates whose code does no input or output.
const NO_FILES: &[&str] = &["crates/firn-core/src/", "crates/firn-derivation/src/", "crates/firn-eval/src/"];

/// All problems, each with its file and line.
pub fn problems() -> Result<Vec<String>> {
    let root = source::root()?;
    let files = source::files()?;
    let known: BTreeSet<&Path> = files.iter().map(PathBuf::as_path).collect();
    let mut problems = Vec::new();
    for file in &files {
        let Ok(bytes) = std::fs::read(root.join(file)) else { continue };
        let Ok(text) = String::from_utf8(bytes) else { continue };
        machine_paths(file, &text, &root, &mut problems);
        half_merged(file, &text, &mut problems);
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => {
                rust_file(file, &text, &mut problems);
                reached(file, &root, &known, &mut problems);
            }
            Some("toml") if file.file_name().is_some_and(|name| name == "Cargo.toml") => {
                manifest(file, &text, &mut problems);
            }
            _ => {}
        }
    }
    Ok(problems)
}

/// No file tells where the project was checked out.
fn machine_paths(file: &Path, text: &str, root: &Path, problems: &mut Vec<String>) {
    let checkout = root.to_string_lossy();
    for (number, line) in text.lines().enumerate() {
        if line.contains(&*checkout) {
            problems.push(format!("{}:{}: names this checkout's folder", file.display(), number + 1));
        }
    }
}

/// What a merge that nobody finished leaves behind.
fn half_merged(file: &Path, text: &str, problems: &mut Vec<String>) {
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ") {
            problems.push(format!("{}:{}: a conflict of a merge", file.display(), number + 1));
        }
    }
}

fn rust_file(file: &Path, text: &str, problems: &mut Vec<String>) {
    let name = file.to_string_lossy();
    let lines = text.lines().count();
    if lines > MAX_LINES && !LONG_FILES.iter().any(|(long, _)| name == *long) {
        problems.push(format!("{name}: {lines} lines; more than {MAX_LINES} ask to be split"));
    }
    if name.starts_with("crates/xtask/") {
        return;
    }
    let is_test = name.contains("/tests/") || name.ends_with("tests.rs");
    // What stands below is a module of tests by custom.
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    for (number, line) in code.lines().enumerate() {
        let line = line.trim_start();
        let mut problem = |what: &str| problems.push(format!("{name}:{}: {what}", number + 1));
        if line.starts_with("//") {
            continue;
        }
        if line.starts_with("#[ignore") {
            problem("an ignored test: assert what it does today instead, with a FIXME");
        }
        if (line.starts_with("#[allow(") || line.starts_with("#![allow(")) && !line.contains("reason") {
            problem("allow without a reason; prefer #[expect(…, reason = \"…\")]");
        }
        let is_unsafe =
            line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl");
        if is_unsafe && !is_test && !UNSAFE_IN.iter().any(|place| name.starts_with(place)) {
            problem("unsafe code outside the places for it");
        }
        if line.contains("std::fs") && !is_test && NO_FILES.iter().any(|place| name.starts_with(place)) {
            problem("this crate reads no files");
        }
    }
}

/// Every source file is a module of the one that it stands under: a test file that no one includes tests nothing.
fn reached(file: &Path, root: &Path, known: &BTreeSet<&Path>, problems: &mut Vec<String>) {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let folder = file.parent().unwrap_or(Path::new(""));
    let is_root = matches!(stem, "main" | "lib" | "build")
        || ["src/bin", "examples", "fuzz_targets"].iter().any(|programs| folder.ends_with(programs));
    if is_root {
        return;
    }
    let (module, above) = match stem {
        "mod" => (folder.file_name().and_then(|name| name.to_str()).unwrap_or_default(), folder.parent()),
        other => (other, Some(folder)),
    };
    let Some(above) = above else { return };
    let beside = above.with_extension("rs");
    let parents = ["mod.rs", "lib.rs", "main.rs"].map(|name| above.join(name));
    let declares = |parent: &Path| {
        let text = std::fs::read_to_string(root.join(parent)).unwrap_or_default();
        text.lines().any(|line| {
            let line = line.trim_start().trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
            line.trim_start_matches("pub ") == format!("mod {module};")
        })
    };
    let found =
        parents.iter().chain([&beside]).any(|parent| known.contains(parent.as_path()) && declares(parent));
    if !found {
        problems.push(format!("{}: no file has 'mod {module};' for it", file.display()));
    }
}

fn manifest(file: &Path, text: &str, problems: &mut Vec<String>) {
    if !text.contains("[package]") {
        return;
    }
    for wanted in
        ["license.workspace = true", "publish.workspace = true", "edition.workspace = true", "[lints"]
    {
        if !text.contains(wanted) {
            problems.push(format!("{}: lacks '{wanted}'", file.display()));
        }
    }
}
