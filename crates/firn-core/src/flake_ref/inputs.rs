//! What there is to ask of inputs before they are fetched.

use super::schemes::{optional_str, set};
use super::{Attr, FlakeRef, FlakeRefError, FlakeRefResult, Input, Scheme, json};
use crate::url::Url;

/// The commit of a repository that has none.
const NO_REV: &[u8] = &[b'0'; 40];

impl Input {
    /// Whether it names a place, and nothing that registries know.
    pub fn is_direct(&self) -> bool {
        self.scheme != Some(Scheme::Indirect)
    }

    /// The path, where that is relative to the flake that has the input.
    pub fn relative_path(&self) -> Option<&[u8]> {
        match (self.scheme, self.attrs.get("path")) {
            (Some(Scheme::Path), Some(Attr::Str(path))) => (!path.starts_with(b"/")).then_some(path),
            _ => None,
        }
    }

    /// Whether it can only be one thing. `trust_forges` is the setting `trust-tarballs-from-git-forges`.
    pub fn is_locked(&self, trust_forges: bool) -> bool {
        let has = |name: &str| self.attrs.contains_key(name);
        match self.scheme {
            Some(Scheme::Git) => match self.attrs.get("rev") {
                Some(Attr::Str(rev)) => rev != NO_REV,
                _ => false,
            },
            Some(Scheme::Mercurial) => has("rev"),
            Some(Scheme::GitHub | Scheme::GitLab | Scheme::SourceHut) => {
                has("rev") && (trust_forges || has("narHash"))
            }
            Some(Scheme::File | Scheme::Tarball | Scheme::Path) => has("narHash"),
            Some(Scheme::Indirect) | None => false,
        }
    }

    /// Whether `other` is this, perhaps at a certain branch or commit.
    pub fn contains(&self, other: &Input) -> bool {
        if self == other {
            return true;
        }
        let mut other = other.clone();
        other.attrs.remove("ref");
        other.attrs.remove("rev");
        *self == other
    }

    /// The input at another branch or commit.
    ///
    /// # Errors
    /// Kinds that have neither.
    pub fn at(&self, name: Option<&[u8]>, rev: Option<&[u8]>) -> FlakeRefResult<Input> {
        let mut out = self.clone();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let shown = |input: &Input| input.to_url().map_or_else(|_| json(&input.attrs), |url| url.to_string());
        match self.scheme {
            None => {}
            Some(Scheme::Git | Scheme::Mercurial | Scheme::Indirect) => {
                set(&mut out.attrs, "rev", rev);
                set(&mut out.attrs, "ref", name);
                let is_git = self.scheme == Some(Scheme::Git);
                if is_git && !out.attrs.contains_key("ref") && out.attrs.contains_key("rev") {
                    return Err(FlakeRefError::new(format!(
                        "Git input '{}' has a commit hash but no branch/tag name",
                        shown(&out)
                    )));
                }
            }
            Some(Scheme::GitHub | Scheme::GitLab | Scheme::SourceHut) => {
                if let (Some(name), Some(rev)) = (name, rev) {
                    return Err(FlakeRefError::new(format!(
                        "cannot apply both a commit hash ({}) and a branch/tag name ('{}') to input '{}'",
                        text(rev),
                        text(name),
                        shown(self)
                    )));
                }
                if rev.is_some() {
                    set(&mut out.attrs, "rev", rev);
                    out.attrs.remove("ref");
                }
                if name.is_some() {
                    set(&mut out.attrs, "ref", name);
                    out.attrs.remove("rev");
                }
            }
            Some(Scheme::File | Scheme::Tarball | Scheme::Path) => {
                if let Some(name) = name {
                    return Err(FlakeRefError::new(format!(
                        "don't know how to set branch/tag name of input '{}' to '{}'",
                        shown(self),
                        text(name)
                    )));
                }
                if let Some(rev) = rev {
                    return Err(FlakeRefError::new(format!(
                        "don't know how to set revision of input '{}' to '{}'",
                        shown(self),
                        text(rev)
                    )));
                }
            }
        }
        Ok(out)
    }

    /// The branch or tag.
    pub fn branch(&self) -> Option<&[u8]> {
        optional_str(&self.attrs, "ref").ok().flatten()
    }

    /// A number among the attributes, such as `lastModified`.
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.attrs.get(name) {
            Some(Attr::Int(number)) => Some(*number),
            _ => None,
        }
    }

    /// The name in the store.
    pub fn name(&self) -> String {
        match self.attrs.get("name") {
            Some(Attr::Str(name)) => String::from_utf8_lossy(name).into_owned(),
            _ => "source".to_owned(),
        }
    }
}

impl FlakeRef {
    /// The reference in the form in which those of lock files are compared: `?dir=` of its URL counts as its folder.
    pub fn canonical(&self) -> FlakeRef {
        let mut out = self.clone();
        let Some(Attr::Str(text)) = self.input.attrs.get("url") else { return out };
        let Ok(mut url) = Url::parse_lenient(text, &mut Vec::new()) else { return out };
        let is_subdir = url.query.get(&b"dir"[..]).is_some_and(|dir| *dir == self.subdir);
        if is_subdir && !self.subdir.is_empty() {
            url.query.remove(&b"dir"[..]);
        }
        out.input.attrs.insert("url".to_owned(), Attr::str(url.to_string()));
        out
    }

    /// The reference for people: its URL, or its attributes if it has none.
    pub fn shown(&self) -> String {
        self.to_url().unwrap_or_else(|_| json(&self.to_attrs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flake_ref::ParseContext;

    fn parsed(text: &str) -> FlakeRef {
        let mut context = ParseContext { has_feature: &|_| true, warnings: Vec::new() };
        FlakeRef::parse(text.as_bytes(), &mut context).expect(text)
    }

    #[test]
    fn locked() {
        let check = |text: &str, expected: bool| {
            assert_eq!(parsed(text).input.is_locked(true), expected, "{text}");
        };
        let rev = "0123456789012345678901234567890123456789";
        check(&format!("github:a/b/{rev}"), true);
        check("github:a/b", false);
        check("nixpkgs", false);
        check(&format!("git+file:///a?rev={rev}"), true);
        check(&format!("git+file:///a?rev={}", "0".repeat(40)), false);
        check("path:/a", false);
        assert!(!parsed(&format!("github:a/b/{rev}")).input.is_locked(false));
    }

    #[test]
    fn overrides() {
        let check = |text: &str, name: Option<&str>, rev: Option<&str>, expected: &str| {
            let input = parsed(text).input.at(name.map(str::as_bytes), rev.map(str::as_bytes));
            let found = match input {
                Ok(input) => input.to_url().expect(text).to_string(),
                Err(error) => error.message,
            };
            assert_eq!(found, expected, "{text}");
        };
        let rev = "0123456789012345678901234567890123456789";
        check("github:a/b/c", None, Some(rev), &format!("github:a/b/{rev}"));
        check("github:a/b", Some("x"), None, "github:a/b/x");
        check("git+file:///a", Some("x"), Some(rev), &format!("git+file:///a?ref=x&rev={rev}"));
        check("path:/a", Some("x"), None, "don't know how to set branch/tag name of input 'path:/a' to 'x'");
        check("path:/a", None, None, "path:/a");
    }

    #[test]
    fn containing() {
        assert!(parsed("nixpkgs").input.contains(&parsed("nixpkgs/x").input));
        assert!(!parsed("nixpkgs/x").input.contains(&parsed("nixpkgs").input));
        assert!(!parsed("nixpkgs/x").input.contains(&parsed("nixpkgs/y").input));
    }
}
