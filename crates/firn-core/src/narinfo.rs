//! `.narinfo` files: what a binary cache says of one store path.
//!
//! Source: the reference's "Binary cache" pages and the files that caches serve.

use crate::content_address::ContentAddress;
use crate::hash::{Hash, HashAlgo, HashFormat};
use crate::path_info::ValidPathInfo;
use crate::store_path::{StoreDir, StorePath};
use thiserror::Error;

/// Longest file that is believed to be a `.narinfo`, in bytes.
pub const MAX_NARINFO: usize = 8 << 20;

/// Path info with where the archive is and how it is compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NarInfo {
    pub info: ValidPathInfo,
    /// Relative to the cache, or a URL of its own.
    pub url: String,
    /// A name of a compression method; `bzip2` where the file names none.
    pub compression: String,
    /// Hash and size of the compressed file, where known.
    pub file_hash: Option<Hash>,
    pub file_size: Option<u64>,
}

/// Why a text is not a `.narinfo` file.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("NAR info file '{whence}' is corrupt: {reason}")]
pub struct NarInfoError {
    pub whence: String,
    pub reason: String,
}

impl NarInfo {
    /// Info without a file.
    pub fn new(info: ValidPathInfo) -> NarInfo {
        NarInfo { info, url: String::new(), compression: "none".into(), file_hash: None, file_size: None }
    }

    /// Parses a file; `whence` names it in errors. Unknown fields are ignored.
    pub fn parse(dir: &StoreDir, text: &str, whence: &str) -> Result<NarInfo, NarInfoError> {
        let mut line = 0;
        let (mut path, mut nar_hash) = (None, None);
        // The path comes when its line does; until then this stands for it.
        let unknown = StorePath::of_hash_part(&"0".repeat(32))
            .map_err(|e| NarInfoError { whence: whence.to_owned(), reason: e.to_string() })?;
        let mut info = NarInfo::new(ValidPathInfo::new(unknown, Hash::dummy(), 0));
        info.compression.clear();
        let fail = |line: usize, reason: String| NarInfoError {
            whence: whence.to_owned(),
            reason: if line > 0 { format!("{reason} at line {line}") } else { reason },
        };
        if text.len() > MAX_NARINFO {
            return Err(fail(0, "it is too long".into()));
        }
        let mut rest = text;
        while !rest.is_empty() {
            line += 1;
            let bad = |reason: &str| fail(line, reason.to_owned());
            let (field, after) = rest.split_once('\n').ok_or_else(|| bad("expecting '\\n'"))?;
            rest = after;
            let (name, value) = field.split_once(':').ok_or_else(|| bad("expecting ':'"))?;
            let value = value.strip_prefix(' ').unwrap_or(value);
            let hash = || Hash::parse_any_prefixed(value).map_err(|_| bad("bad hash"));
            let base_name =
                |text: &str| StorePath::from_base_name(text).map_err(|e| fail(line, e.to_string()));
            match name {
                "StorePath" => path = Some(dir.parse(value).map_err(|e| fail(line, e.to_string()))?),
                "URL" => value.clone_into(&mut info.url),
                "Compression" => value.clone_into(&mut info.compression),
                "FileHash" => info.file_hash = Some(hash()?),
                "FileSize" => {
                    info.file_size = Some(value.parse().map_err(|_| bad("invalid FileSize"))?);
                }
                "NarHash" => {
                    let hash = hash()?;
                    if hash.algo() != HashAlgo::Sha256 {
                        return Err(bad("bad hash"));
                    }
                    nar_hash = Some(hash);
                }
                "NarSize" => info.info.nar_size = value.parse().map_err(|_| bad("invalid NarSize"))?,
                "References" => {
                    if !info.info.references.is_empty() {
                        return Err(bad("extra References"));
                    }
                    for name in value.split(' ').filter(|name| !name.is_empty()) {
                        info.info.references.insert(base_name(name)?);
                    }
                }
                "Deriver" if value != "unknown-deriver" => info.info.deriver = Some(base_name(value)?),
                "Sig" => {
                    if !value.contains(':') {
                        return Err(bad("bad signature"));
                    }
                    info.info.signatures.insert(value.to_owned());
                }
                "CA" => {
                    if info.info.ca.is_some() {
                        return Err(bad("extra CA"));
                    }
                    if !value.is_empty() {
                        let ca = ContentAddress::parse(value).map_err(|e| fail(line, e.to_string()))?;
                        info.info.ca = Some(ca);
                    }
                }
                _ => {}
            }
        }
        if info.compression.is_empty() {
            info.compression = "bzip2".into();
        }
        let missing = |what: &str| fail(0, what.to_owned());
        info.info.path = path.ok_or_else(|| missing("StorePath missing"))?;
        info.info.nar_hash = nar_hash.ok_or_else(|| missing("NarHash missing"))?;
        if info.url.is_empty() {
            return Err(missing("URL missing"));
        }
        if info.info.nar_size == 0 {
            return Err(missing("NarSize missing or zero"));
        }
        Ok(info)
    }

    /// The file's text.
    pub fn render(&self, dir: &StoreDir) -> String {
        let info = &self.info;
        let mut out = format!(
            "StorePath: {}\nURL: {}\nCompression: {}\n",
            dir.display(&info.path),
            self.url,
            self.compression
        );
        if let Some(hash) = &self.file_hash {
            out += &format!("FileHash: {}\n", hash.to_prefixed(HashFormat::Nix32));
        }
        if let Some(size) = self.file_size {
            out += &format!("FileSize: {size}\n");
        }
        let references: Vec<&str> = info.references.iter().map(StorePath::base_name).collect();
        out += &format!(
            "NarHash: {}\nNarSize: {}\nReferences: {}\n",
            info.nar_hash.to_prefixed(HashFormat::Nix32),
            info.nar_size,
            references.join(" ")
        );
        if let Some(deriver) = &info.deriver {
            out += &format!("Deriver: {}\n", deriver.base_name());
        }
        for signature in &info.signatures {
            out += &format!("Sig: {signature}\n");
        }
        if let Some(ca) = &info.ca {
            out += &format!("CA: {ca}\n");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s";

    fn file(extra: &str) -> String {
        let path = format!("{}-x", "a".repeat(32));
        format!(
            "StorePath: /nix/store/{path}\nURL: nar/x.nar.xz\nCompression: xz\nFileHash: {HASH}\nFileSize: 5\n\
             NarHash: {HASH}\nNarSize: 120\nReferences: {path} {}-y\n{extra}",
            "b".repeat(32)
        )
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let got = match NarInfo::parse(&StoreDir::default(), text, "f") {
            Ok(info) => {
                assert_eq!(info.render(&StoreDir::default()), text);
                "ok".to_owned()
            }
            Err(e) => e.to_string(),
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn files() {
        check(&file(""), "ok");
        check(&file(&format!("Deriver: {}-x.drv\nSig: k:abc\nCA: text:{HASH}\n", "c".repeat(32))), "ok");
        let corrupt = |what: &str| format!("NAR info file 'f' is corrupt: {what}");
        check("", &corrupt("StorePath missing"));
        check("x", &corrupt("expecting '\\n' at line 1"));
        check("x\n", &corrupt("expecting ':' at line 1"));
        check(&file("NarHash: sha256:zz\n"), &corrupt("bad hash at line 9"));
        check(&file("FileSize: -1\n"), &corrupt("invalid FileSize at line 9"));
        check(&file("NarSize: 0\n"), &corrupt("NarSize missing or zero"));
        check(&file("References: \n"), &corrupt("extra References at line 9"));
        check(
            &file("CA: text:x\n"),
            &corrupt(
                "hash 'x' does not include a type, nor is the type otherwise known from context at line 9",
            ),
        );
    }

    #[test]
    fn defaults() {
        let text = file("Deriver: unknown-deriver\nNew: thing\nCompression: \n");
        let info = NarInfo::parse(&StoreDir::default(), &text, "f").unwrap();
        assert_eq!((info.compression.as_str(), info.info.deriver), ("bzip2", None));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "(StorePath|URL|NarHash|NarSize|References|Sig|CA|Deriver|FileHash)?(: )?[ -~é\n]{0,60}") {
            let _ = NarInfo::parse(&StoreDir::default(), &text, "f");
        }

        #[test]
        fn bytes_of_a_good_file(at in 0usize..400, with in "[ -~\n]") {
            let mut text = file("").into_bytes();
            let at = at % text.len();
            text[at] = with.as_bytes()[0];
            if let Ok(text) = String::from_utf8(text)
                && let Ok(info) = NarInfo::parse(&StoreDir::default(), &text, "f")
            {
                let again = NarInfo::parse(&StoreDir::default(), &info.render(&StoreDir::default()), "f");
                proptest::prop_assert_eq!(again, Ok(info));
            }
        }
    }
}
