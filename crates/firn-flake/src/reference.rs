//! References on the command line: paths are looked at, and lead to the flake and the repository around them.

use firn_core::flake_ref::{FlakeRef, FlakeRefError, Form, ParseContext};
use firn_core::url::{Authority, Url, decode_query, path_segments, percent_decode};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A reference, and what came after `#`.
pub type ParsedArgument = (FlakeRef, Vec<u8>);

/// What went wrong, without the system's number for it.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// Why text is no reference.
#[derive(Debug, Error)]
pub enum ReferenceError {
    #[error(transparent)]
    Form(#[from] FlakeRefError),
    #[error("getting status of \"{}\": {}", path.display(), reason(source))]
    Status { path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Other(String),
}

/// Where the parts of a path with a query and a fragment are.
struct Split<'a> {
    path: &'a [u8],
    query: &'a [u8],
    fragment: &'a [u8],
}

fn split(text: &[u8]) -> Split<'_> {
    let cut = |text: &'_ [u8], at: u8| text.iter().position(|c| *c == at);
    let (start, fragment) = match cut(text, b'#') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &b""[..]),
    };
    let (path, query) = match cut(start, b'?') {
        Some(at) => (&start[..at], &start[at + 1..]),
        None => (start, &b""[..]),
    };
    Split { path, query, fragment }
}

/// An absolute path without `.`, `..` and symlinks, as far as it exists.
fn absolute(base: &Path, path: &[u8]) -> PathBuf {
    let path = base.join(OsStr::from_bytes(path));
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => drop(out.pop()),
            std::path::Component::Normal(name) => {
                out.push(name);
                if let Ok(real) = out.canonicalize() {
                    out = real;
                }
            }
            _ => {}
        }
    }
    out
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

fn status(path: &Path) -> Result<std::fs::Metadata, ReferenceError> {
    path.symlink_metadata().map_err(|source| ReferenceError::Status { path: path.to_owned(), source })
}

fn has_flake(path: &Path) -> bool {
    path.join("flake.nix").symlink_metadata().is_ok()
}

/// Parses what a user wrote, relative to the folder `base`. With `allow_missing`, there need be no `flake.nix` yet.
/// `notices` gets what the user may want to know.
///
/// # Errors
/// Text that is no reference, and paths without a flake.
pub fn parse_argument(
    text: &[u8],
    base: &Path,
    allow_missing: bool,
    context: &mut ParseContext<'_>,
    notices: &mut Vec<String>,
) -> Result<ParsedArgument, ReferenceError> {
    if let Some(found) = FlakeRef::parse_id(text, context)? {
        return Ok(found);
    }
    let form = Form::default();
    let parsed = Url::parse_lenient(text, &mut context.warnings);
    if let Ok(mut url) = parsed {
        let is_path = matches!(url.scheme.as_str(), "path" | "git+file");
        if is_path
            && let Ok(path) = url.file_path()
            && !path.starts_with(b"/")
        {
            url.path = path_segments(bytes(&absolute_lexically(base, &path)));
        }
        match FlakeRef::from_url(url, &form, context) {
            Err(error) if error.is_bad_url() => {}
            result => return Ok(result?),
        }
    }
    path_argument(text, base, allow_missing, context, notices)
}

/// The same without looking at links.
fn absolute_lexically(base: &Path, path: &[u8]) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in base.join(OsStr::from_bytes(path)).components() {
        match part {
            std::path::Component::ParentDir => drop(out.pop()),
            std::path::Component::Normal(name) => out.push(name),
            _ => {}
        }
    }
    out
}

fn path_argument(
    text: &[u8],
    base: &Path,
    allow_missing: bool,
    context: &mut ParseContext<'_>,
    notices: &mut Vec<String>,
) -> Result<ParsedArgument, ReferenceError> {
    let parts = split(text);
    let query = decode_query(parts.query, &mut context.warnings).map_err(FlakeRefError::from)?;
    let fragment = percent_decode(parts.fragment).map_err(FlakeRefError::from)?;
    let mut path = absolute(base, parts.path);
    if !status(&path)?.is_dir() {
        if path.file_name() != Some(OsStr::new("flake.nix")) {
            let shown = path.display();
            let message = format!("path \"{shown}\" is not a flake (because it's not a directory)");
            return Err(ReferenceError::Other(message));
        }
        let parent = path.parent().unwrap_or(&path).to_owned();
        context.warnings.push(format!(
            "Path \"{}\" should point at the directory containing the 'flake.nix' file, not the file itself. \
             Pretending that you meant \"{}\"",
            path.display(),
            parent.display()
        ));
        path = parent;
    }
    if !allow_missing && !has_flake(&path) {
        notices.push(format!("path \"{}\" does not contain a 'flake.nix', searching up", path.display()));
        path = flake_above(path)?;
    }
    let (root, subdir) = match repository(&path) {
        Some(found) => found,
        None => {
            let authority = Some(Authority::default());
            let path = path_segments(bytes(&path));
            let url = Url { scheme: "path".to_owned(), authority, path, query, fragment };
            return Ok(FlakeRef::from_url(url, &Form::default(), context)?);
        }
    };
    let mut url = Url {
        scheme: "git+file".to_owned(),
        authority: Some(Authority::default()),
        path: path_segments(bytes(&root)),
        query,
        fragment,
    };
    if !subdir.is_empty() {
        if url.query.contains_key(&b"dir"[..]) {
            let shown = String::from_utf8_lossy(text);
            let message = format!("flake URL '{shown}' has an inconsistent 'dir' parameter");
            return Err(ReferenceError::Other(message));
        }
        url.query.insert(b"dir".to_vec(), subdir);
    }
    if root.join(".git/shallow").exists() {
        url.query.insert(b"shallow".to_vec(), b"1".to_vec());
    }
    Ok(FlakeRef::from_url(url, &Form::default(), context)?)
}

/// The nearest folder above with a `flake.nix`, but none of another repository or file system.
fn flake_above(start: PathBuf) -> Result<PathBuf, ReferenceError> {
    let device = status(&start)?.dev();
    let mut path = start;
    loop {
        let shown = path.display();
        if path == Path::new("/") {
            return Err(ReferenceError::Other("could not find a flake.nix file".to_owned()));
        }
        if has_flake(&path) {
            return Ok(path);
        }
        if path.join(".git").exists() {
            return Err(ReferenceError::Other(format!(
                "path \"{shown}\" is not part of a flake (neither it nor its parent directories contain a \
                 'flake.nix' file)"
            )));
        }
        if status(&path)?.dev() != device {
            return Err(ReferenceError::Other(format!(
                "unable to find a flake before encountering filesystem boundary at \"{shown}\""
            )));
        }
        if !path.pop() {
            return Err(ReferenceError::Other("could not find a flake.nix file".to_owned()));
        }
    }
}

/// The Git repository that a folder is in, and the way from its root to the folder.
fn repository(path: &Path) -> Option<(PathBuf, Vec<u8>)> {
    let root = path
        .ancestors()
        .filter(|above| *above != Path::new("/"))
        .find(|above| above.join(".git").symlink_metadata().is_ok())?;
    let rest = path.strip_prefix(root).unwrap_or(Path::new(""));
    Some((root.to_owned(), bytes(rest).to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(base: &Path, text: &str, expected: Result<&str, &str>) {
        let mut context = ParseContext { has_feature: &|_| true, warnings: Vec::new() };
        let found = parse_argument(text.as_bytes(), base, false, &mut context, &mut Vec::new());
        let fill = |text: &str| text.replace("{}", &base.display().to_string());
        match (found, expected) {
            (Ok((reference, fragment)), Ok(expected)) => {
                let found = format!("{}#{}", reference.shown(), String::from_utf8_lossy(&fragment));
                assert_eq!(found, fill(expected), "{text}");
            }
            (Err(error), Err(expected)) => {
                let found = error.to_string();
                assert!(found.contains(&fill(expected)), "{text}: {found}");
            }
            (found, _) => panic!("{text}: {found:?}"),
        }
    }

    #[test]
    fn arguments() {
        let dir = tempfile::tempdir().expect("a folder");
        let base = dir.path().canonicalize().expect("a path");
        for folder in ["plain/below", "repo/.git", "repo/sub", "empty/.git"] {
            std::fs::create_dir_all(base.join(folder)).expect(folder);
        }
        for file in ["plain/flake.nix", "repo/flake.nix", "repo/sub/flake.nix", "file"] {
            std::fs::write(base.join(file), "").expect(file);
        }
        check(&base, "nixpkgs#a.b", Ok("flake:nixpkgs#a.b"));
        check(&base, "./plain#x", Ok("path:{}/plain#x"));
        check(&base, "./plain/below", Ok("path:{}/plain#"));
        check(&base, "./plain/flake.nix", Ok("path:{}/plain#"));
        check(&base, "path:plain", Ok("path:{}/plain#"));
        check(&base, "git+file:repo", Ok("git+file:{}/repo#"));
        check(&base, "./repo", Ok("git+file://{}/repo#"));
        check(&base, "./repo/sub#x", Ok("git+file://{}/repo?dir=sub#x"));
        check(&base, "./repo?ref=x", Ok("git+file://{}/repo?ref=x#"));
        check(&base, "./repo/sub?dir=y", Err("inconsistent 'dir' parameter"));
        check(&base, "./empty", Err("path \"{}/empty\" is not part of a flake"));
        check(&base, "./file", Err("path \"{}/file\" is not a flake (because it's not a directory)"));
        check(&base, "./nothing", Err("getting status of \"{}/nothing\""));
    }
}
