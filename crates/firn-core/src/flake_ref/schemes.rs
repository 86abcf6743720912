//! Inputs: the kinds of places that references name.

use super::names::{is_commit, is_flake_id, is_legal_ref_name, is_ref_like};
use super::public_keys::{self, public_keys};
use super::{Attr, Attrs, FlakeRefError, FlakeRefResult, ParseContext, json, lossy};
use crate::hash::{Hash, HashAlgo, HashFormat};
use crate::url::{Authority, Url, split_scheme};
use std::collections::BTreeMap;

/// A kind of input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    File,
    Git,
    GitHub,
    GitLab,
    Mercurial,
    Indirect,
    Path,
    SourceHut,
    Tarball,
}

/// All kinds, in the order in which a URL is tried.
const SCHEMES: [Scheme; 9] = [
    Scheme::File,
    Scheme::Git,
    Scheme::GitHub,
    Scheme::GitLab,
    Scheme::Mercurial,
    Scheme::Indirect,
    Scheme::Path,
    Scheme::SourceHut,
    Scheme::Tarball,
];

impl Scheme {
    /// All kinds.
    pub fn all() -> [Scheme; 9] {
        SCHEMES
    }

    /// The `type` attribute.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::File => "file",
            Scheme::Git => "git",
            Scheme::GitHub => "github",
            Scheme::GitLab => "gitlab",
            Scheme::Mercurial => "hg",
            Scheme::Indirect => "indirect",
            Scheme::Path => "path",
            Scheme::SourceHut => "sourcehut",
            Scheme::Tarball => "tarball",
        }
    }

    /// Whether inputs of this kind are only there with the experimental feature `flakes`.
    fn needs_flakes(self) -> bool {
        match self {
            Scheme::GitHub | Scheme::GitLab | Scheme::Indirect | Scheme::Path | Scheme::SourceHut => true,
            Scheme::File | Scheme::Git | Scheme::Mercurial | Scheme::Tarball => false,
        }
    }

    /// The attributes that inputs of this kind may have, besides `type`.
    pub fn attributes(self) -> &'static [&'static str] {
        match self {
            Scheme::File | Scheme::Tarball => {
                &["url", "narHash", "name", "unpack", "rev", "revCount", "lastModified"]
            }
            Scheme::Git => &[
                "url",
                "ref",
                "rev",
                "shallow",
                "submodules",
                "lfs",
                "exportIgnore",
                "lastModified",
                "revCount",
                "narHash",
                "allRefs",
                "name",
                "dirtyRev",
                "dirtyShortRev",
                "verifyCommit",
                "keytype",
                "publicKey",
                "publicKeys",
            ],
            Scheme::GitHub | Scheme::GitLab | Scheme::SourceHut => {
                &["owner", "repo", "ref", "rev", "narHash", "lastModified", "host", "treeHash"]
            }
            Scheme::Mercurial => &["url", "ref", "rev", "revCount", "narHash", "name"],
            Scheme::Indirect => &["id", "ref", "rev", "narHash"],
            Scheme::Path => &["path", "rev", "revCount", "lastModified", "narHash"],
        }
    }
}

/// Where something comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    pub attrs: Attrs,
    /// The kind; none where it is not known.
    pub scheme: Option<Scheme>,
}

/// Sets an attribute, if there is something to set it to.
pub(super) fn set(attrs: &mut Attrs, name: &str, value: Option<&[u8]>) {
    attrs.extend(value.map(|value| (name.to_owned(), Attr::str(value))));
}

pub(super) fn optional_str<'a>(attrs: &'a Attrs, name: &str) -> FlakeRefResult<Option<&'a [u8]>> {
    match attrs.get(name) {
        None => Ok(None),
        Some(Attr::Str(text)) => Ok(Some(text)),
        Some(_) => {
            Err(FlakeRefError::new(format!("input attribute '{name}' is not a string {}", json(attrs))))
        }
    }
}

fn required_str<'a>(attrs: &'a Attrs, name: &str) -> FlakeRefResult<&'a [u8]> {
    optional_str(attrs, name)?
        .ok_or_else(|| FlakeRefError::new(format!("input attribute '{name}' is missing")))
}

fn optional_int(attrs: &Attrs, name: &str) -> FlakeRefResult<Option<u64>> {
    match attrs.get(name) {
        None => Ok(None),
        Some(Attr::Int(n)) => Ok(Some(*n)),
        Some(_) => Err(FlakeRefError::new(format!("input attribute '{name}' is not an integer"))),
    }
}

fn optional_bool(attrs: &Attrs, name: &str) -> FlakeRefResult<Option<bool>> {
    match attrs.get(name) {
        None => Ok(None),
        Some(Attr::Bool(b)) => Ok(Some(*b)),
        Some(_) => Err(FlakeRefError::new(format!("input attribute '{name}' is not a Boolean"))),
    }
}

fn commit(text: &[u8]) -> FlakeRefResult<Hash> {
    Hash::parse_any(&lossy(text), Some(HashAlgo::Sha1)).map_err(|e| FlakeRefError::new(e.to_string()))
}

/// A number as C++'s streams read it.
fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

impl Input {
    /// What a URL names. Where `tree` is set, something with files in it is wanted.
    pub fn from_url(url: &Url, tree: bool, context: &mut ParseContext<'_>) -> FlakeRefResult<Input> {
        for scheme in SCHEMES {
            if let Some(attrs) = attrs_of_url(scheme, url, tree, context)? {
                if scheme.needs_flakes() {
                    context.require("flakes")?;
                }
                return Input { attrs, scheme: Some(scheme) }.checked();
            }
        }
        let hint = match split_scheme(&url.scheme) {
            (Some("file"), "git") => "; did you mean 'git+file' instead of 'file+git'?",
            _ => "",
        };
        Err(FlakeRefError::new(format!("input '{url}' is unsupported{hint}")))
    }

    /// An input of attributes; the kind is their `type`.
    pub fn from_attrs(attrs: Attrs, context: &mut ParseContext<'_>) -> FlakeRefResult<Input> {
        let Some(name) = optional_str(&attrs, "type")? else {
            return Err(FlakeRefError::new(
                "'type' attribute to specify input scheme is required but not provided",
            ));
        };
        let Some(scheme) = SCHEMES.into_iter().find(|scheme| scheme.name().as_bytes() == name) else {
            return Input { attrs, scheme: None }.checked();
        };
        if scheme.needs_flakes() {
            context.require("flakes")?;
        }
        for name in attrs.keys() {
            if !matches!(name.as_str(), "type" | "__final") && !scheme.attributes().contains(&name.as_str()) {
                return Err(FlakeRefError::new(format!(
                    "input attribute '{name}' not supported by scheme '{}'",
                    scheme.name()
                )));
            }
        }
        let attrs = check_attrs(scheme, attrs, context)?;
        Input { attrs, scheme: Some(scheme) }.checked()
    }

    /// Looks at the attributes that all kinds have in common.
    fn checked(self) -> FlakeRefResult<Input> {
        required_str(&self.attrs, "type")?;
        optional_str(&self.attrs, "ref")?;
        optional_int(&self.attrs, "revCount")?;
        optional_int(&self.attrs, "lastModified")?;
        Ok(self)
    }

    pub fn nar_hash(&self) -> FlakeRefResult<Option<Hash>> {
        let Some(text) = optional_str(&self.attrs, "narHash")? else { return Ok(None) };
        if text.is_empty() {
            return Ok(Hash::from_bytes(HashAlgo::Sha256, &[0; 32]));
        }
        let hash = Hash::parse_sri(&lossy(text)).map_err(|e| FlakeRefError::new(e.to_string()))?;
        match hash.algo() {
            HashAlgo::Sha256 => Ok(Some(hash)),
            _ => Err(FlakeRefError::new("narHash must use SHA-256")),
        }
    }

    pub fn rev(&self) -> FlakeRefResult<Option<Hash>> {
        let Some(text) = optional_str(&self.attrs, "rev")? else { return Ok(None) };
        if let Ok(hash) = Hash::parse_any_prefixed(&lossy(text)) {
            return Ok(Some(hash));
        }
        // Repositories may name their commits by SHA-256.
        let long = self.scheme == Some(Scheme::Git) && text.len() == 64;
        let algo = if long { HashAlgo::Sha256 } else { HashAlgo::Sha1 };
        let hash = Hash::parse_any(&lossy(text), Some(algo));
        hash.map(Some).map_err(|e| FlakeRefError::new(e.to_string()))
    }

    /// Whether the input says that nothing about it is left to be found out.
    pub fn is_final(&self) -> FlakeRefResult<bool> {
        self.flag("__final")
    }

    fn rev_text(&self) -> FlakeRefResult<Option<Vec<u8>>> {
        Ok(self.rev()?.map(|rev| rev.to_base(HashFormat::Base16).into_bytes()))
    }

    fn flag(&self, name: &str) -> FlakeRefResult<bool> {
        Ok(optional_bool(&self.attrs, name)?.unwrap_or(false))
    }

    /// The input as a URL.
    pub fn to_url(&self) -> FlakeRefResult<Url> {
        let Some(scheme) = self.scheme else {
            return Err(FlakeRefError::new(format!("cannot show unsupported input '{}'", json(&self.attrs))));
        };
        match scheme {
            Scheme::Path => self.path_url(),
            Scheme::Indirect => {
                let mut path = vec![required_str(&self.attrs, "id")?.to_vec()];
                path.extend(optional_str(&self.attrs, "ref")?.map(<[u8]>::to_vec));
                path.extend(self.rev_text()?);
                Ok(plain_url("flake", path, BTreeMap::new()))
            }
            Scheme::GitHub | Scheme::GitLab | Scheme::SourceHut => {
                let mut path = vec![
                    required_str(&self.attrs, "owner")?.to_vec(),
                    required_str(&self.attrs, "repo")?.to_vec(),
                ];
                path.extend(optional_str(&self.attrs, "ref")?.map(<[u8]>::to_vec));
                path.extend(self.rev_text()?);
                let mut query = BTreeMap::new();
                if let Some(hash) = self.nar_hash()? {
                    query.insert(b"narHash".to_vec(), hash.to_sri().into_bytes());
                }
                if let Some(host) = optional_str(&self.attrs, "host")? {
                    query.insert(b"host".to_vec(), host.to_vec());
                }
                Ok(plain_url(scheme.name(), path, query))
            }
            Scheme::File | Scheme::Tarball => {
                let mut url = self.own_url()?;
                if let Some(hash) = self.nar_hash()? {
                    url.query.insert(b"narHash".to_vec(), hash.to_sri().into_bytes());
                }
                Ok(url)
            }
            Scheme::Mercurial => {
                let mut url = self.own_url()?;
                url.scheme = format!("hg+{}", url.scheme);
                self.add_version(&mut url)?;
                Ok(url)
            }
            Scheme::Git => self.git_url(),
        }
    }

    fn own_url(&self) -> FlakeRefResult<Url> {
        Ok(Url::parse(required_str(&self.attrs, "url")?, &mut Vec::new())?)
    }

    fn add_version(&self, url: &mut Url) -> FlakeRefResult<()> {
        if let Some(rev) = self.rev_text()? {
            url.query.insert(b"rev".to_vec(), rev);
        }
        if let Some(name) = optional_str(&self.attrs, "ref")? {
            url.query.insert(b"ref".to_vec(), name.to_vec());
        }
        Ok(())
    }

    fn path_url(&self) -> FlakeRefResult<Url> {
        let mut query = BTreeMap::new();
        for (name, value) in &self.attrs {
            if matches!(name.as_str(), "path" | "type" | "__final") {
                continue;
            }
            let value = match value {
                Attr::Int(n) => n.to_string().into_bytes(),
                Attr::Str(text) => text.clone(),
                Attr::Bool(b) => if *b { b"1" } else { b"0" }.to_vec(),
            };
            query.insert(name.clone().into_bytes(), value);
        }
        let path = required_str(&self.attrs, "path")?;
        Ok(plain_url("path", path.split(|c| *c == b'/').map(<[u8]>::to_vec).collect(), query))
    }

    fn git_url(&self) -> FlakeRefResult<Url> {
        let mut url = self.own_url()?;
        if url.scheme != "git" {
            url.scheme = format!("git+{}", url.scheme);
        }
        self.add_version(&mut url)?;
        for name in ["shallow", "lfs", "submodules", "exportIgnore", "verifyCommit"] {
            if self.flag(name)? {
                url.query.insert(name.as_bytes().to_vec(), b"1".to_vec());
            }
        }
        let mut add = |name: &str, value: &str| {
            url.query.insert(name.as_bytes().to_vec(), value.as_bytes().to_vec());
        };
        match &public_keys(&self.attrs)?[..] {
            [] => {}
            [only] => {
                add("keytype", &only.kind);
                add("publicKey", &only.key);
            }
            several => add("publicKeys", &public_keys::to_json(several)),
        }
        Ok(url)
    }
}

fn plain_url(scheme: &str, path: Vec<Vec<u8>>, query: BTreeMap<Vec<u8>, Vec<u8>>) -> Url {
    Url { scheme: scheme.to_owned(), authority: None, path, query, fragment: Vec::new() }
}

/// The attributes of what a URL names, if it is of that kind.
fn attrs_of_url(
    scheme: Scheme,
    url: &Url,
    tree: bool,
    context: &mut ParseContext<'_>,
) -> FlakeRefResult<Option<Attrs>> {
    let mut attrs = Attrs::from([("type".to_owned(), Attr::str(scheme.name()))]);
    match scheme {
        Scheme::File | Scheme::Tarball => {
            if !is_download(scheme, url, tree) {
                return Ok(None);
            }
            download_attrs(scheme, url, &mut attrs);
            Ok(Some(attrs))
        }
        Scheme::Git => {
            if url.scheme != "git" && split_scheme(&url.scheme).0 != Some("git") {
                return Ok(None);
            }
            let mut rest = url.clone();
            rest.query.clear();
            for (name, value) in &url.query {
                let value = match &name[..] {
                    b"rev" | b"ref" | b"keytype" | b"publicKey" | b"publicKeys" => Attr::Str(value.clone()),
                    b"shallow" | b"submodules" | b"lfs" | b"exportIgnore" | b"allRefs" | b"verifyCommit" => {
                        Attr::Bool(value == b"1")
                    }
                    _ => {
                        rest.query.insert(name.clone(), value.clone());
                        continue;
                    }
                };
                attrs.insert(lossy(name), value);
            }
            attrs.insert("url".to_owned(), Attr::str(rest.to_string()));
            check_attrs(scheme, attrs, context).map(Some)
        }
        Scheme::Mercurial => {
            let Some(transport) = url.scheme.strip_prefix("hg+") else { return Ok(None) };
            if !matches!(transport, "http" | "https" | "ssh" | "file") {
                return Ok(None);
            }
            let mut rest = url.clone();
            rest.scheme = transport.to_owned();
            rest.query.clear();
            for (name, value) in &url.query {
                match &name[..] {
                    b"rev" | b"ref" => attrs.insert(lossy(name), Attr::Str(value.clone())).map_or((), drop),
                    _ => rest.query.insert(name.clone(), value.clone()).map_or((), drop),
                }
            }
            attrs.insert("url".to_owned(), Attr::str(rest.to_string()));
            check_attrs(scheme, attrs, context).map(Some)
        }
        Scheme::GitHub | Scheme::GitLab | Scheme::SourceHut => {
            if url.scheme != scheme.name() {
                return Ok(None);
            }
            archive_attrs(url, &mut attrs)?;
            check_attrs(scheme, attrs, context).map(Some)
        }
        Scheme::Indirect if url.scheme == "flake" => indirect_attrs(url, attrs).map(Some),
        Scheme::Path if url.scheme == "path" => path_attrs(url, attrs).map(Some),
        Scheme::Indirect | Scheme::Path => Ok(None),
    }
}

fn is_download(scheme: Scheme, url: &Url, tree: bool) -> bool {
    let (application, transport) = split_scheme(&url.scheme);
    if !matches!(transport, "file" | "http" | "https") {
        return false;
    }
    const ARCHIVES: [&[u8]; 7] =
        [b".zip", b".tar", b".tgz", b".tar.gz", b".tar.xz", b".tar.bz2", b".tar.zst"];
    let is_archive = url.path.last().is_some_and(|name| ARCHIVES.iter().any(|end| name.ends_with(end)));
    match application {
        Some(application) => application == scheme.name(),
        None => (tree || is_archive) == (scheme == Scheme::Tarball),
    }
}

fn download_attrs(scheme: Scheme, url: &Url, attrs: &mut Attrs) {
    let mut rest = url.clone();
    rest.scheme = split_scheme(&url.scheme).1.to_owned();
    for name in ["narHash", "rev"] {
        if let Some(value) = url.query.get(name.as_bytes()) {
            attrs.insert(name.to_owned(), Attr::Str(value.clone()));
        }
    }
    for name in ["revCount", "lastModified"] {
        if let Some(value) = url.query.get(name.as_bytes()).and_then(|value| number(value)) {
            attrs.insert(name.to_owned(), Attr::Int(value));
        }
    }
    // What is meant for Nix is not sent to the server.
    rest.query.retain(|name, _| !scheme.attributes().iter().any(|own| own.as_bytes() == &name[..]));
    attrs.insert("url".to_owned(), Attr::str(rest.to_string()));
}

fn segments(url: &Url) -> Vec<&[u8]> {
    url.path.iter().map(|part| &part[..]).filter(|part| !part.is_empty()).collect()
}

fn archive_attrs(url: &Url, attrs: &mut Attrs) -> FlakeRefResult<()> {
    let path = segments(url);
    let [owner, repo, version @ ..] = &path[..] else {
        return Err(FlakeRefError::bad_url(format!("URL '{url}' is invalid")));
    };
    let (mut rev, mut name) = (None, None);
    match version {
        [] => {}
        [commit] if is_commit(commit) => rev = Some(commit.to_vec()),
        parts => name = Some(parts.join(&b'/')),
    }
    for (key, value) in &url.query {
        match &key[..] {
            b"rev" if rev.is_some() => {
                return Err(FlakeRefError::bad_url(format!("URL '{url}' contains multiple commit hashes")));
            }
            b"ref" if name.is_some() => {
                return Err(FlakeRefError::bad_url(format!(
                    "URL '{url}' contains multiple branch/tag names"
                )));
            }
            b"rev" => rev = Some(value.clone()),
            b"ref" => name = Some(value.clone()),
            b"host" | b"narHash" => {
                attrs.insert(lossy(key), Attr::Str(value.clone()));
            }
            _ => {}
        }
    }
    attrs.insert("owner".to_owned(), Attr::str(*owner));
    attrs.insert("repo".to_owned(), Attr::str(*repo));
    attrs.extend(rev.map(|rev| ("rev".to_owned(), Attr::Str(rev))));
    attrs.extend(name.map(|name| ("ref".to_owned(), Attr::Str(name))));
    Ok(())
}

fn indirect_attrs(url: &Url, mut attrs: Attrs) -> FlakeRefResult<Attrs> {
    let bad = |what: &[u8], kind: &str| {
        FlakeRefError::bad_url(format!("in flake URL '{url}', '{}' is not a {kind}", lossy(what)))
    };
    let (id, name, rev) = match segments(url)[..] {
        [id] => (id, None, None),
        [id, rev] if is_commit(rev) => (id, None, Some(rev)),
        [id, name] if is_legal_ref_name(name) => (id, Some(name), None),
        [_, other] => return Err(bad(other, "commit hash or branch/tag name")),
        [_, name, _] if !is_legal_ref_name(name) => return Err(bad(name, "branch/tag name")),
        [_, _, rev] if !is_commit(rev) => return Err(bad(rev, "commit hash")),
        [id, name, rev] => (id, Some(name), Some(rev)),
        _ => return Err(FlakeRefError::bad_url(format!("GitHub URL '{url}' is invalid"))),
    };
    if !is_flake_id(id) {
        return Err(FlakeRefError::bad_url(format!("'{}' is not a valid flake ID", lossy(id))));
    }
    attrs.insert("id".to_owned(), Attr::str(id));
    if let Some(rev) = rev {
        attrs.insert("rev".to_owned(), Attr::str(commit(rev)?.to_base(HashFormat::Base16)));
    }
    if let Some(name) = name {
        attrs.insert("ref".to_owned(), Attr::str(name));
    }
    Ok(attrs)
}

fn path_attrs(url: &Url, mut attrs: Attrs) -> FlakeRefResult<Attrs> {
    if let Some(authority) = url.authority.as_ref().filter(|a| !a.host.is_empty()) {
        return Err(FlakeRefError::new(format!(
            "path URL '{url}' should not have an authority ('{authority}')"
        )));
    }
    attrs.insert("path".to_owned(), Attr::Str(url.file_path()?));
    for (name, value) in &url.query {
        let shown = lossy(name);
        let attr = match &name[..] {
            b"rev" | b"narHash" => Attr::Str(value.clone()),
            b"revCount" | b"lastModified" => match number(value) {
                Some(n) => Attr::Int(n),
                None => {
                    return Err(FlakeRefError::new(format!(
                        "path URL '{url}' has invalid parameter '{shown}'"
                    )));
                }
            },
            _ => {
                return Err(FlakeRefError::new(format!(
                    "path URL '{url}' has unsupported parameter '{shown}'"
                )));
            }
        };
        attrs.insert(shown, attr);
    }
    Ok(attrs)
}

/// What a kind demands of its attributes.
fn check_attrs(scheme: Scheme, mut attrs: Attrs, context: &ParseContext<'_>) -> FlakeRefResult<Attrs> {
    match scheme {
        Scheme::File | Scheme::Tarball => {}
        Scheme::Path => {
            required_str(&attrs, "path")?;
        }
        Scheme::Indirect => {
            let id = required_str(&attrs, "id")?;
            if !is_flake_id(id) {
                return Err(FlakeRefError::bad_url(format!("'{}' is not a valid flake ID", lossy(id))));
            }
        }
        Scheme::GitHub | Scheme::GitLab | Scheme::SourceHut => check_archive(&attrs)?,
        Scheme::Mercurial => {
            Url::parse(required_str(&attrs, "url")?, &mut Vec::new())?;
            if let Some(name) = optional_str(&attrs, "ref")?.filter(|name| !is_ref_like(name)) {
                let name = lossy(name);
                return Err(FlakeRefError::bad_url(format!("invalid Mercurial branch/tag name '{name}'")));
            }
        }
        Scheme::Git => {
            let signed = ["verifyCommit", "keytype", "publicKey", "publicKeys"];
            if signed.iter().any(|name| attrs.contains_key(*name)) {
                context.require("verified-fetches")?;
            }
            optional_bool(&attrs, "verifyCommit")?;
            if let Some(name) = optional_str(&attrs, "ref")?.filter(|name| !is_legal_ref_name(name)) {
                let name = lossy(name);
                return Err(FlakeRefError::bad_url(format!("invalid Git branch/tag name '{name}'")));
            }
            let url = fix_git_url(required_str(&attrs, "url")?)?;
            attrs.insert("url".to_owned(), Attr::str(url.to_string()));
            for name in ["shallow", "submodules", "allRefs"] {
                optional_bool(&attrs, name)?;
            }
        }
    }
    Ok(attrs)
}

fn check_archive(attrs: &Attrs) -> FlakeRefResult<()> {
    required_str(attrs, "owner")?;
    required_str(attrs, "repo")?;
    let (name, rev) = (optional_str(attrs, "ref")?, optional_str(attrs, "rev")?);
    if let (Some(name), Some(rev)) = (name, rev) {
        return Err(FlakeRefError::bad_url(format!(
            "input {} contains both a commit hash ('{}') and a branch/tag name ('{}')",
            json(attrs),
            lossy(rev),
            lossy(name)
        )));
    }
    if let Some(rev) = rev {
        commit(rev)?;
    }
    if name.is_some_and(|name| !is_legal_ref_name(name)) {
        return Err(FlakeRefError::bad_url(format!(
            "input {} contains an invalid branch/tag name",
            json(attrs)
        )));
    }
    let is_host = |host: &[u8]| host.iter().all(|c| c.is_ascii_alphanumeric() || b".-".contains(c));
    if optional_str(attrs, "host")?.is_some_and(|host| !is_host(host)) {
        return Err(FlakeRefError::bad_url(format!(
            "input {} contains an invalid instance host",
            json(attrs)
        )));
    }
    Ok(())
}

/// What git takes as the address of a repository, as a URL: `user@host:path` and paths too.
fn fix_git_url(text: &[u8]) -> FlakeRefResult<Url> {
    let mut text = text.to_vec();
    if !text.starts_with(b"/") {
        // The last `@` before which there is no slash, and the last colon after it.
        let user = text.iter().position(|c| *c == b'/').unwrap_or(text.len());
        let at = text[..user].iter().rposition(|c| *c == b'@');
        let colon = at.and_then(|at| text[at..].iter().rposition(|c| *c == b':').map(|n| at + n));
        if let (Some(_), Some(colon)) = (at, colon) {
            text = [b"ssh://", &text[..colon], b"/", &text[colon + 1..]].concat();
        }
    }
    let is_url = text.starts_with(b"file:")
        || text.starts_with(b"git+file:")
        || text.windows(3).any(|window| window == b"://");
    if !is_url {
        let path: Vec<Vec<u8>> = text.split(|c| *c == b'/').map(<[u8]>::to_vec).collect();
        if path.first().is_some_and(|first| first.contains(&b':')) {
            return Err(FlakeRefError::bad_url(format!(
                "SCP-like URL '{}' is not supported; use SSH URL syntax instead (ssh://...)",
                lossy(&text)
            )));
        }
        let mut url = plain_url("file", path, BTreeMap::new());
        url.authority = text.starts_with(b"/").then(Authority::default);
        return Ok(url);
    }
    let mut url = Url::parse(&text, &mut Vec::new())?;
    if let (Some("git"), transport) = split_scheme(&url.scheme) {
        url.scheme = transport.to_owned();
    }
    Ok(url)
}
