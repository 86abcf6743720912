//! Roots of running programs: what they execute, have open, have mapped, stand in, or name in their environment.
//!
//! What may not be read or vanishes meanwhile is passed over; without /proc there are none.

use firn_core::{StoreDir, StorePath};
use memchr::memmem;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Store paths in use, with the files below /proc that say so. They need not be valid.
pub(crate) fn find(dir: &StoreDir) -> BTreeMap<StorePath, BTreeSet<String>> {
    let mut found = Found { dir, roots: BTreeMap::new() };
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.as_bytes().iter().all(u8::is_ascii_digit) {
            found.process(&entry.path());
        }
    }
    for file in ["modprobe", "fbsplash", "poweroff_cmd"] {
        let path = Path::new("/proc/sys/kernel").join(file);
        if let Ok(text) = std::fs::read(&path) {
            found.add(&text, &path);
        }
    }
    found.roots
}

struct Found<'a> {
    dir: &'a StoreDir,
    roots: BTreeMap<StorePath, BTreeSet<String>>,
}

impl Found<'_> {
    fn process(&mut self, process: &Path) {
        for link in ["exe", "cwd"] {
            self.link(&process.join(link));
        }
        let Ok(open) = std::fs::read_dir(process.join("fd")) else { return };
        for fd in open.flatten() {
            self.link(&fd.path());
        }
        let maps = process.join("maps");
        if let Ok(text) = std::fs::read(&maps) {
            for line in text.split(|b| *b == b'\n') {
                let mut fields = line.split(u8::is_ascii_whitespace).filter(|f| !f.is_empty());
                if let (Some(path), None) = (fields.nth(5), fields.next())
                    && path.starts_with(b"/")
                {
                    self.add(path, &maps);
                }
            }
        }
        let environ = process.join("environ");
        if let Ok(text) = std::fs::read(&environ) {
            let prefix = format!("{}/", self.dir);
            for at in memmem::find_iter(&text, prefix.as_bytes()) {
                let rest = &text[at + prefix.len()..];
                let is_name = |b: &u8| b.is_ascii_alphanumeric() || b"+-._?=".contains(b);
                let end = rest.iter().position(|b| !is_name(b)).unwrap_or(rest.len());
                self.add(&text[at..at + prefix.len() + end], &environ);
            }
        }
    }

    fn link(&mut self, link: &Path) {
        if let Ok(target) = std::fs::read_link(link) {
            self.add(target.as_os_str().as_bytes(), link);
        }
    }

    fn add(&mut self, target: &[u8], source: &Path) {
        let text = std::str::from_utf8(target).ok();
        if let Some(Ok((path, _))) = text.map(|text| self.dir.split(text)) {
            self.roots.entry(path).or_default().insert(source.to_string_lossy().into_owned());
        }
    }
}
