//! Tells the crate what its own sources are, in one number: trees that another version of it made are not taken for its
//! own (`stored`).

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::Hasher;
use std::path::{Path, PathBuf};

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(dir).expect("the sources can be listed");
    for entry in entries.map(|entry| entry.expect("an entry").path()) {
        match entry.is_dir() {
            true => sources(&entry, found),
            false => found.push(entry),
        }
    }
}

fn main() {
    println!("cargo:rerun-if-changed=src");
    let mut found = Vec::new();
    sources(Path::new("src"), &mut found);
    found.sort();
    let mut hasher = DefaultHasher::new();
    for file in found {
        hasher.write(&fs::read(file).expect("a source can be read"));
    }
    println!("cargo:rustc-env=FIRN_SYNTAX_SOURCES={:016x}", hasher.finish());
}
