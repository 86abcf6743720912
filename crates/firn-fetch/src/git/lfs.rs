//! Large files (Git LFS): a commit has pointers to them, a server has the files.
//!
//! Source: the specification of Git LFS (pointers, server discovery, batch requests, authentication through SSH).

use super::command::{Git, os};
use crate::Fetcher;
use crate::error::{FetchError, FetchResult};
use firn_core::{HashAlgo, HashFormat, Hasher};
use firn_http::auth::percent_decode;
use firn_http::error::ErrorKind;
use firn_http::request::{Method, Request, Upload};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Pointers are shorter.
const LONGEST_POINTER: u64 = 1024;
/// Files that one request asks for; servers need not answer for more.
const BATCH: usize = 100;
/// Largest answer to such a request, in bytes.
const LONGEST_ANSWER: usize = 16 << 20;
const MEDIA_TYPE: &str = "application/vnd.git-lfs+json";

/// What a commit has in place of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Pointer {
    /// SHA-256 of the file, in base 16.
    oid: String,
    size: u64,
}

impl Pointer {
    fn parse(text: &[u8]) -> Option<Pointer> {
        let text = std::str::from_utf8(text).ok()?;
        if !text.starts_with("version https://git-lfs.github.com/spec/v1") {
            return None;
        }
        let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
        let (oid, size) = (line("oid sha256:")?, line("size ")?);
        let good = oid.len() == 64 && oid.bytes().all(|byte| byte.is_ascii_hexdigit());
        let digits = size.bytes().all(|byte| byte.is_ascii_digit());
        (good && digits).then_some(())?;
        Some(Pointer { oid: oid.to_owned(), size: size.parse().ok()? })
    }

    /// Below a folder of objects, as `git-lfs` lays it out.
    fn place_in(&self, objects: &Path) -> PathBuf {
        objects.join(&self.oid[..2]).join(&self.oid[2..4]).join(&self.oid)
    }
}

fn fail<T>(text: impl Into<String>) -> FetchResult<T> {
    Err(FetchError::Other(text.into()))
}

/// Copies what a pointer means. `Err` of the result: why it is something else.
fn copy_checked(
    pointer: &Pointer,
    from: &mut File,
    to: &mut dyn Write,
) -> std::io::Result<Result<(), String>> {
    let mut both = Hashed { hasher: Hasher::new(HashAlgo::Sha256), to };
    let size = std::io::copy(from, &mut both)?;
    let found = both.hasher.finish().to_base(HashFormat::Base16);
    Ok(if size != pointer.size {
        Err(format!("size mismatch: expected {} but got {size}", pointer.size))
    } else if found != pointer.oid {
        Err(format!("hash mismatch: expected sha256:{} but got sha256:{found}", pointer.oid))
    } else {
        Ok(())
    })
}

/// Hashes what it passes on.
struct Hashed<'a> {
    hasher: Hasher,
    to: &'a mut dyn Write,
}

impl Write for Hashed<'_> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let written = self.to.write(data)?;
        self.hasher.update(&data[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// Where files are asked for.
#[derive(Debug, PartialEq, Eq)]
struct Api {
    url: String,
    headers: Vec<(String, String)>,
    login: Option<(String, String)>,
}

/// A repository that is reached through SSH.
#[derive(Debug, PartialEq, Eq)]
struct SshPlace {
    destination: String,
    port: Option<String>,
    path: String,
}

impl SshPlace {
    /// `ssh://user@host:port/path`, or `user@host:path`.
    fn of(url: &str) -> Option<SshPlace> {
        let full = ["ssh://", "git+ssh://", "ssh+git://"].iter().find_map(|scheme| url.strip_prefix(scheme));
        let (destination, port, path) = match full {
            Some(rest) => {
                let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
                let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
                let port = host.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'));
                let destination = match port {
                    Some(port) => &authority[..authority.len() - port.len() - 1],
                    None => authority,
                };
                (destination.replace(['[', ']'], ""), port.map(str::to_owned), format!("/{path}"))
            }
            None if url.contains("://") => return None,
            None => {
                let (destination, path) = url.split_once(':').filter(|(host, _)| !host.contains('/'))?;
                (destination.to_owned(), None, format!("/{}", path.trim_start_matches('/')))
            }
        };
        Some(SshPlace { destination: percent_decode(&destination), port, path: percent_decode(&path) })
    }

    /// Asks the machine how files are asked for.
    fn authenticate(&self) -> FetchResult<Api> {
        let Self { destination, port, path } = self;
        let odd_port = port.as_ref().is_some_and(|port| !port.bytes().all(|byte| byte.is_ascii_digit()));
        if destination.is_empty() || destination.starts_with('-') || odd_port {
            return fail(format!("'{destination}' is no machine to ask for Git LFS files"));
        }
        let options = std::env::var("NIX_SSHOPTS").unwrap_or_default();
        let Some(options) = shlex::split(&options) else {
            return fail(format!("while splitting NIX_SSHOPTS '{options}': a quote is not closed"));
        };
        // The other side has a shell read it.
        let Ok(quoted) = shlex::try_quote(path) else {
            return fail("the path of a Git repository has null bytes");
        };
        let mut args: Vec<String> = options;
        args.extend(port.as_ref().map(|port| format!("-p{port}")));
        args.extend([destination.clone(), "--".to_owned(), "git-lfs-authenticate".to_owned()]);
        args.extend([quoted.into_owned(), "download".to_owned()]);
        let shown = format!("git-lfs-authenticate {path} download");
        let output = ssh_program()
            .args(&args)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(FetchError::io("starting", "ssh"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() || text.trim().is_empty() {
            return fail(format!("'{shown}' on '{destination}' failed ({})", output.status));
        }
        let bad = || FetchError::Other(format!("'{shown}' on '{destination}' answered '{}'", text.trim()));
        let answer: Value = serde_json::from_str(&text).map_err(|_| bad())?;
        let host = destination.rsplit_once('@').map_or(&destination[..], |(_, host)| host);
        let url = match answer.get("href") {
            Some(href) => href.as_str().ok_or_else(bad)?.trim_end_matches('/').to_owned(),
            None => endpoint(&format!("https://{host}{path}")),
        };
        Ok(Api { url, headers: headers(answer.get("header")), login: None })
    }
}

/// The program that reaches other machines, as the user has told `git`.
fn ssh_program() -> Command {
    let plain = |program: &OsStr| {
        #[expect(clippy::disallowed_methods, reason = "ssh itself knows the user's keys and machines")]
        Command::new(program)
    };
    if let Some(text) = std::env::var_os("GIT_SSH_COMMAND").filter(|text| !text.is_empty()) {
        let mut script = text;
        script.push(" \"$@\"");
        let mut command = plain(OsStr::new("sh"));
        command.arg("-c").arg(script).arg("ssh");
        return command;
    }
    plain(&std::env::var_os("GIT_SSH").unwrap_or_else(|| OsString::from("ssh")))
}

/// Members of a JSON object as headers.
fn headers(value: Option<&Value>) -> Vec<(String, String)> {
    let members = value.and_then(Value::as_object).into_iter().flatten();
    members.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

/// Where the server of a repository takes requests, if nothing else is said.
fn endpoint(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or(url).trim_end_matches('/');
    let suffix = if plain.ends_with(".git") { "" } else { ".git" };
    format!("{plain}{suffix}/info/lfs")
}

fn is_http(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

/// Finds the server of a repository that comes from `origin`.
fn api(git: &Git, rev: &str, origin: Option<&str>) -> FetchResult<Api> {
    let blob = format!("--blob={rev}:.lfsconfig");
    let named = match git.line(&["config", "--get", "lfs.url"])? {
        Some(url) if !url.is_empty() => Some(url),
        _ => git.line(&["config", &blob, "--get", "lfs.url"])?.filter(|url| !url.is_empty()),
    };
    let Some(url) = named.as_deref().or(origin) else {
        return fail(format!(
            "'{}' has Git LFS files, and no remote 'origin' to get them from",
            git.dir.display()
        ));
    };
    if is_http(url) {
        let url = if named.is_some() { url.trim_end_matches('/').to_owned() } else { endpoint(url) };
        return Ok(Api { url, headers: Vec::new(), login: None });
    }
    match SshPlace::of(url) {
        Some(place) => place.authenticate(),
        None => fail(format!("there is no Git LFS server at '{url}', and its files are not on this machine")),
    }
}

/// What the user's helpers of `git` know for a server. They are those of the user, not of a repository.
fn credentials(url: &str, outside: &Path) -> Option<(String, String)> {
    let (protocol, rest) = url.split_once("://")?;
    let (host, path) = rest.split_once('/')?;
    let git = Git { dir: outside.to_owned() };
    let mut child = git
        .command(&["credential", "fill"].map(OsStr::new))
        .env("GIT_CEILING_DIRECTORIES", outside.parent()?)
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let asked = format!("protocol={protocol}\nhost={host}\npath={path}\n\n");
    child.stdin.take()?.write_all(asked.as_bytes()).ok()?;
    let output = child.wait_with_output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
    Some((line("username=")?, line("password=")?))
}

/// A file that can be downloaded.
struct Action {
    pointer: Pointer,
    url: String,
    headers: Vec<(String, String)>,
}

/// What a server says of one of the files that it was asked for.
fn action(object: &Map<String, Value>, pointer: &Pointer) -> FetchResult<Action> {
    let bad = |what: &str| FetchError::Other(format!("the Git LFS server's answer {what}"));
    if let Some(error) = object.get("error") {
        let text = error.get("message").and_then(Value::as_str).unwrap_or("an error");
        let code = error.get("code").and_then(Value::as_u64).unwrap_or_default();
        return fail(format!("the Git LFS server says: {text} ({code})"));
    }
    let size = object.get("size").and_then(Value::as_u64).ok_or_else(|| bad("has no size"))?;
    if size != pointer.size {
        return fail(format!(
            "LFS server returned mismatched oid/size (got oid={} size={size}, expected oid={} size={})",
            pointer.oid, pointer.oid, pointer.size
        ));
    }
    let download = object.get("actions").and_then(|actions| actions.get("download"));
    let download = download.ok_or_else(|| bad("does not say how to download it"))?;
    let url = download.get("href").and_then(Value::as_str).ok_or_else(|| bad("has no URL"))?;
    if !is_http(url) {
        return fail(format!("the Git LFS server names '{url}', which is not HTTP"));
    }
    let headers = headers(download.get("header"));
    Ok(Action { pointer: pointer.clone(), url: url.to_owned(), headers })
}

/// How an error says which file it was.
fn smudging(path: &[u8], error: &FetchError) -> FetchError {
    FetchError::Other(format!("while smudging git-lfs file '/{}': {error}", String::from_utf8_lossy(path)))
}

impl Fetcher {
    /// Writes the files that `paths` below `to` are pointers to in their place. `origin` is where the repository comes from.
    pub(super) fn write_large(
        &self,
        git: &Git,
        rev: &str,
        origin: Option<&str>,
        to: &Path,
        paths: &[Vec<u8>],
    ) -> FetchResult<()> {
        let mut wanted: BTreeMap<Pointer, Vec<&[u8]>> = BTreeMap::new();
        for path in paths {
            let file = to.join(os(path));
            let mut text = Vec::new();
            let open = File::open(&file).map_err(FetchError::io("opening", &file))?;
            open.take(LONGEST_POINTER).read_to_end(&mut text).map_err(FetchError::io("reading", &file))?;
            let too_large = text.len() as u64 >= LONGEST_POINTER;
            match Pointer::parse(&text).filter(|_| !too_large) {
                Some(pointer) => wanted.entry(pointer).or_default().push(path),
                // An empty file is its own pointer.
                None if text.is_empty() => {}
                None => self.inner.logger.warn(&format!(
                    "encountered file '/{}' that should have been a git-lfs pointer, but is {}",
                    String::from_utf8_lossy(path),
                    if too_large { "too large" } else { "invalid" }
                )),
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let temporary;
        let kept = match &self.inner.cache_dir {
            Some(dir) => dir.join("git-lfs"),
            None => {
                temporary = tempfile::TempDir::new()
                    .map_err(FetchError::io("creating temporary directory in", std::env::temp_dir()))?;
                temporary.path().join("git-lfs")
            }
        };
        std::fs::create_dir_all(&kept).map_err(FetchError::io("creating directory", &kept))?;
        let mut folders = vec![kept.clone()];
        if let Some(common) = git.line(&["rev-parse", "--git-common-dir"])? {
            folders.push(git.dir.join(common).join("lfs/objects"));
        }
        if let Some(path) = origin.and_then(|origin| origin.strip_prefix("file://")) {
            let path = PathBuf::from(percent_decode(path));
            folders.extend([path.join("lfs/objects"), path.join(".git/lfs/objects")]);
        }
        let mut missing = Vec::new();
        for (pointer, paths) in &wanted {
            let places =
                folders.iter().map(|folder| pointer.place_in(folder)).filter(|place| place.is_file());
            let mut found = false;
            for place in places {
                found = put(&place, pointer, to, paths)?.is_ok();
                if found {
                    break;
                }
                if place.starts_with(&kept) {
                    let _ = std::fs::remove_file(&place);
                }
            }
            if !found {
                missing.push((pointer, paths[0]));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let handle = tokio::runtime::Handle::current();
        let mut api = api(git, rev, origin).map_err(|error| smudging(missing[0].1, &error))?;
        for batch in missing.chunks(BATCH) {
            handle.block_on(self.download_batch(&mut api, batch, &kept))?;
            for (pointer, path) in batch {
                if let Err(reason) = put(&pointer.place_in(&kept), pointer, to, &wanted[*pointer])? {
                    return Err(smudging(path, &FetchError::Other(reason)));
                }
            }
        }
        Ok(())
    }

    /// Downloads the files of one request into the folder of what is kept.
    async fn download_batch(
        &self,
        api: &mut Api,
        batch: &[(&Pointer, &[u8])],
        kept: &Path,
    ) -> FetchResult<()> {
        let objects = self.ask(api, batch, kept).await.map_err(|error| smudging(batch[0].1, &error))?;
        let mut downloads = tokio::task::JoinSet::new();
        for (pointer, path) in batch {
            let object = objects.iter().filter_map(Value::as_object);
            let mut object =
                object.filter(|object| object.get("oid").and_then(Value::as_str) == Some(&pointer.oid));
            let action = match object.next() {
                Some(object) => action(object, pointer),
                None => fail("the Git LFS server says nothing of it"),
            };
            let action = action.map_err(|error| smudging(path, &error))?;
            let same_server = origin_of(&action.url) == origin_of(&api.url);
            let login = api.login.clone().filter(|_| same_server && action.headers.is_empty());
            let (this, kept, path) = (self.clone(), kept.to_owned(), path.to_vec());
            downloads.spawn(async move {
                this.download_large(action, login, &kept).await.map_err(|error| smudging(&path, &error))
            });
        }
        while let Some(done) = downloads.join_next().await {
            done.map_err(|error| FetchError::Other(error.to_string()))??;
        }
        Ok(())
    }

    /// What the server says of the files of a batch.
    async fn ask(&self, api: &mut Api, batch: &[(&Pointer, &[u8])], kept: &Path) -> FetchResult<Vec<Value>> {
        let objects: Vec<Value> =
            batch.iter().map(|(pointer, _)| json!({ "oid": pointer.oid, "size": pointer.size })).collect();
        let body = json!({
            "operation": "download", "transfers": ["basic"], "objects": objects, "hash_algo": "sha256",
        });
        let mut request = Request::new(Method::Post, format!("{}/objects/batch", api.url));
        request.headers = api.headers.clone();
        request.headers.push(("Accept".to_owned(), MEDIA_TYPE.to_owned()));
        request.mime_type = Some(MEDIA_TYPE.to_owned());
        request.body = Some(Upload::Bytes(body.to_string().into()));
        request.login = api.login.clone();
        let client = &self.inner.client;
        let answer = match client.fetch(request.clone(), LONGEST_ANSWER).await {
            Err(error)
                if error.kind == ErrorKind::Forbidden && api.login.is_none() && api.headers.is_empty() =>
            {
                let (url, outside) = (api.url.clone(), kept.to_owned());
                let known = tokio::task::spawn_blocking(move || credentials(&url, &outside)).await;
                let Some(login) = known.ok().flatten() else { return Err(error.into()) };
                api.login = Some(login.clone());
                request.login = Some(login);
                client.fetch(request, LONGEST_ANSWER).await
            }
            other => other,
        };
        let (_, text) = answer?;
        match serde_json::from_slice::<Value>(&text) {
            Ok(Value::Object(mut members)) => match members.remove("objects") {
                Some(Value::Array(objects)) => Ok(objects),
                _ => fail("response does not contain 'objects'"),
            },
            Ok(_) => fail("response does not contain 'objects'"),
            Err(error) => fail(format!("response did not parse as json: {error}")),
        }
    }

    async fn download_large(
        &self,
        action: Action,
        login: Option<(String, String)>,
        kept: &Path,
    ) -> FetchResult<()> {
        let Action { pointer, url, headers } = action;
        let mut request = Request::get(&url);
        request.headers = headers;
        request.login = login;
        let place = pointer.place_in(kept);
        let folder = place.parent().unwrap_or(kept).to_owned();
        std::fs::create_dir_all(&folder).map_err(FetchError::io("creating directory", &folder))?;
        let file = tempfile::NamedTempFile::new_in(&folder)
            .map_err(FetchError::io("creating temporary file in", &folder))?;
        let handle = file.reopen().map_err(FetchError::io("opening", file.path()))?;
        let mut sink = tokio::io::BufWriter::new(tokio::fs::File::from_std(handle));
        self.inner.client.download(request, &mut sink).await?;
        tokio::io::AsyncWriteExt::flush(&mut sink).await.map_err(FetchError::io("writing", file.path()))?;
        let checked = tokio::task::spawn_blocking(move || -> FetchResult<()> {
            let mut source = file.reopen().map_err(FetchError::io("opening", file.path()))?;
            copy_checked(&pointer, &mut source, &mut std::io::sink())
                .map_err(FetchError::io("reading", file.path()))?
                .map_err(|reason| FetchError::Other(format!("while fetching '{url}': {reason}")))?;
            let kept = file.persist(&place).map_err(|error| error.error);
            kept.map(drop).map_err(FetchError::io("writing", &place))
        });
        checked.await.map_err(|error| FetchError::Other(error.to_string()))?
    }
}

/// Scheme, machine and port of a URL.
fn origin_of(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    url[start..].find('/').map_or(url, |at| &url[..start + at])
}

/// Copies a file to where its pointers are below `to`. `Err` of the result: why it is not the right one.
fn put(from: &Path, pointer: &Pointer, to: &Path, paths: &[&[u8]]) -> FetchResult<Result<(), String>> {
    for path in paths {
        let place = to.join(os(path));
        let mut source = File::open(from).map_err(FetchError::io("opening", from))?;
        let mut target = File::options()
            .write(true)
            .truncate(true)
            .open(&place)
            .map_err(FetchError::io("opening", &place))?;
        let copied = copy_checked(pointer, &mut source, &mut target);
        if let Err(reason) = copied.map_err(FetchError::io("copying", from))? {
            return Ok(Err(reason));
        }
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OID: &str = "f5e02aa71e67f41d79023a128ca35bad86cf7b6656967bfe0884b3a3c4325eaf";

    #[test]
    fn pointers() {
        let text = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{OID}\nsize 12\n");
        assert_eq!(Pointer::parse(text.as_bytes()), Some(Pointer { oid: OID.to_owned(), size: 12 }));
        let more = text.replace("oid", "ext-0-foo sha256:00\noid");
        assert!(Pointer::parse(more.as_bytes()).is_some());
        for bad in [
            text.replace("spec/v1", "spec/v9"),
            text.replace("12", "-1"),
            text.replace("12", ""),
            text.replace("12", "99999999999999999999"),
            text.replace("f5e0", "f5g0"),
            text.replace("f5e0", "f5"),
            text.replace("size", "length"),
            String::new(),
            "version https://git-lfs.github.com/spec/v1".to_owned(),
        ] {
            assert_eq!(Pointer::parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(Pointer::parse(b"version \xff"), None);
    }

    #[test]
    fn servers() {
        assert_eq!(endpoint("https://h/a/b"), "https://h/a/b.git/info/lfs");
        assert_eq!(endpoint("https://h/a/b.git/?x=1"), "https://h/a/b.git/info/lfs");
        let place = |destination: &str, port: Option<&str>, path: &str| {
            let (port, path) = (port.map(str::to_owned), path.to_owned());
            Some(SshPlace { destination: destination.to_owned(), port, path })
        };
        assert_eq!(SshPlace::of("git@h:a/b.git"), place("git@h", None, "/a/b.git"));
        assert_eq!(SshPlace::of("ssh://git@h:22/a/b.git"), place("git@h", Some("22"), "/a/b.git"));
        assert_eq!(SshPlace::of("ssh://u@[::1]:22/a%20b"), place("u@::1", Some("22"), "/a b"));
        assert_eq!(SshPlace::of("ssh://u@[::1]/a"), place("u@::1", None, "/a"));
        assert_eq!(SshPlace::of("/a/b"), None);
        assert_eq!(SshPlace::of("file:///a:b"), None);
        for bad in ["ssh://-oProxyCommand=x/a", "ssh://h:x/a", "ssh:///a", "ssh://%2doProxyCommand=x/a"] {
            assert!(SshPlace::of(bad).expect("a place").authenticate().is_err(), "{bad}");
        }
    }

    #[test]
    fn answers() {
        let pointer = Pointer { oid: OID.to_owned(), size: 3 };
        let action = |object: Value| action(object.as_object().expect("an object"), &pointer);
        let href = |url: &str| json!({ "oid": OID, "size": 3, "actions": { "download": { "href": url } } });
        assert_eq!(action(href("https://h/x")).map(|action| action.url).ok(), Some("https://h/x".to_owned()));
        for (bad, said) in [
            (href("file:///etc/passwd"), "not HTTP"),
            (json!({ "size": 3 }), "does not say how to download it"),
            (json!({ "size": 4 }), "mismatched oid/size"),
            (json!({ "error": { "code": 404, "message": "gone" } }), "gone (404)"),
            (json!({ "size": 3, "actions": { "download": {} } }), "has no URL"),
        ] {
            let error = action(bad).map(|action| action.url).expect_err(said).to_string();
            assert!(error.contains(said), "{error}");
        }
        assert_eq!(origin_of("https://h:1/a/b"), "https://h:1");
    }
}
