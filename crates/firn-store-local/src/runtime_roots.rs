//! Roots of running programs: what they execute, have open, have mapped, stand in, or name in their environment.
//!
//! What may not be read or vanishes meanwhile is passed over; without /proc there are none.

use firn_core::{StoreDir, StorePath};
use firn_store::{StoreError, StoreResult};
use memchr::memmem;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A path that a daemon of roots sends is not longer than this, in bytes.
const MAX_PATH: u64 = 4096;

/// The same as [`find`], from a daemon that may see more than this process (`nix store roots-daemon`). It does not say
/// who uses a path. An answer that is not whole is an error: what is missing in it would be deleted.
pub(crate) fn ask(dir: &StoreDir, socket: &Path) -> StoreResult<BTreeMap<StorePath, BTreeSet<String>>> {
    let failed = || StoreError::io("asking the roots daemon at", socket);
    let mut answer = BufReader::new(UnixStream::connect(socket).map_err(failed())?);
    let mut roots = BTreeMap::new();
    loop {
        let mut line = Vec::new();
        (&mut answer).take(MAX_PATH).read_until(0, &mut line).map_err(failed())?;
        match line.split_last() {
            None => return Ok(roots),
            Some((0, path)) => {
                let path = dir.parse(&String::from_utf8_lossy(path))?;
                roots.insert(path, BTreeSet::from(["{censored}".to_owned()]));
            }
            Some(_) => return Err(failed()(std::io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

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
