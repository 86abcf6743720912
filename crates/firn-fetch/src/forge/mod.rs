//! Archives of commits from forges: GitHub, GitLab, SourceHut.

mod answers;

use crate::Fetcher;
use crate::cache::Attrs;
use crate::error::{FetchError, FetchResult};
use crate::tarball::{Tarball, tarball};
use crate::tree::{Tree, shown, text};
use firn_core::flake_ref::{Attr, Input, Scheme, is_commit};
use firn_store::activity::Verbosity;
use std::collections::BTreeMap;

/// The domain of entries for commits.
const DOMAIN: &str = "firn-forge";

type Headers = Vec<(String, String)>;

/// A place for code, and what of it is wanted.
struct Forge<'a> {
    scheme: Scheme,
    host: String,
    owner: String,
    repo: String,
    fetcher: &'a Fetcher,
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

fn fail<T>(message: impl Into<String>) -> FetchResult<T> {
    Err(FetchError::Other(message.into()))
}

/// One segment of a path of a URL.
fn encoded(part: &str) -> String {
    let mut out = String::new();
    for byte in part.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A path of several segments.
fn encoded_path(path: &str) -> String {
    path.split('/').map(encoded).collect::<Vec<_>>().join("/")
}

/// The token for a place: of all that are for its host, or for a path below that, the one that says most.
fn token<'a>(tokens: &'a BTreeMap<String, String>, place: &str) -> Option<&'a str> {
    let fits = |key: &str| match place.strip_prefix(key) {
        Some(rest) => !key.is_empty() && (rest.is_empty() || rest.starts_with('/')),
        None => false,
    };
    let best = tokens.iter().filter(|(key, _)| fits(key)).max_by_key(|(key, _)| key.len());
    best.map(|(_, token)| token.as_str())
}

impl Forge<'_> {
    /// Where a host is asked.
    fn base(&self, host: &str) -> String {
        match &self.fetcher.inner.options.forge_base {
            Some(base) => format!("{base}/{host}"),
            None => format!("https://{host}"),
        }
    }

    fn headers(&self) -> Headers {
        let place = format!("{}/{}/{}", self.host, self.owner, self.repo);
        let Some(token) = token(&self.fetcher.inner.options.access_tokens, &place) else {
            return Headers::new();
        };
        let header = |name: &str, value: String| vec![(name.to_owned(), value)];
        match self.scheme {
            Scheme::GitHub => header("Authorization", format!("token {token}")),
            Scheme::SourceHut => header("Authorization", format!("Bearer {token}")),
            _ => match token.split_once(':') {
                Some(("OAuth2", token)) => header("Authorization", format!("Bearer {token}")),
                Some(("PAT", token)) => header("Private-token", token.to_owned()),
                Some((name, value)) => {
                    self.fetcher.inner.logger.warn(&format!("Unrecognized GitLab token type {name}"));
                    header(name, value.to_owned())
                }
                None => {
                    self.fetcher
                        .inner
                        .logger
                        .warn("the access token for GitLab has no type (`PAT:` or `OAuth2:`)");
                    Headers::new()
                }
            },
        }
    }

    /// The start of URLs for what a program asks, and for what anybody may have.
    fn is_hub(&self) -> bool {
        self.scheme == Scheme::GitHub && self.host == "github.com"
    }

    /// Where the archive of a commit is.
    fn archive(&self, rev: &str) -> String {
        let (owner, repo) = (encoded(&self.owner), encoded(&self.repo));
        match self.scheme {
            // Those who have no token of their own are soon told to wait by the interface for programs.
            Scheme::GitHub if self.is_hub() && self.headers().is_empty() => {
                format!("{}/{owner}/{repo}/archive/{rev}.tar.gz", self.base(&self.host))
            }
            Scheme::GitHub => format!("{}/repos/{owner}/{repo}/tarball/{rev}", self.api()),
            Scheme::GitLab => format!(
                "{}/api/v4/projects/{owner}%2F{repo}/repository/archive.tar.gz?sha={rev}",
                self.base(&self.host)
            ),
            _ => format!("{}/{}/{repo}/archive/{rev}.tar.gz", self.base(&self.host), self.owner),
        }
    }

    fn api(&self) -> String {
        match self.is_hub() {
            true => self.base("api.github.com"),
            false => format!("{}/api/v3", self.base(&self.host)),
        }
    }

    async fn ask(&self, url: &str) -> FetchResult<Vec<u8>> {
        let file = self.fetcher.download_file(url, "source", &self.headers()).await?;
        self.fetcher.read_stored(&file.store_path).await
    }

    /// The commit of a branch or tag.
    async fn commit_of(&self, name: &str, input: &Input) -> FetchResult<String> {
        let (owner, repo) = (encoded(&self.owner), encoded(&self.repo));
        let found = match self.scheme {
            Scheme::GitHub => {
                let url = format!("{}/repos/{owner}/{repo}/commits/{}", self.api(), encoded_path(name));
                answers::hub(&self.ask(&url).await?)
            }
            Scheme::GitLab => {
                let name = encoded(name);
                let url = format!(
                    "{}/api/v4/projects/{owner}%2F{repo}/repository/commits?ref_name={name}",
                    self.base(&self.host)
                );
                answers::lab(&self.ask(&url).await?)
            }
            _ => {
                let start = format!("{}/{}/{repo}", self.base(&self.host), self.owner);
                let wanted = match name {
                    "HEAD" => {
                        let head = self.ask(&format!("{start}/HEAD")).await?;
                        let target = answers::head(&head);
                        vec![target.ok_or_else(|| {
                            FetchError::Other(format!(
                                "in '{}', couldn't resolve HEAD ref '{name}'",
                                shown(input)
                            ))
                        })?]
                    }
                    name => vec![format!("refs/heads/{name}"), format!("refs/tags/{name}")],
                };
                let listing = self.ask(&format!("{start}/info/refs")).await?;
                let found = answers::reference(&listing, &wanted);
                found.ok_or_else(|| format!("in '{}', couldn't find ref '{name}'", shown(input)))
            }
        };
        let rev = found.map_err(FetchError::Other)?;
        match is_commit(rev.as_bytes()) {
            true => Ok(rev.to_ascii_lowercase()),
            false => {
                fail(format!("the forge of '{}' answered with '{rev}', which is no commit", shown(input)))
            }
        }
    }
}

impl Fetcher {
    /// A commit of a repository of a forge.
    pub(crate) async fn fetch_forge(&self, input: &Input) -> FetchResult<Tree> {
        let string = |name: &str| text(&input.attrs, name).map(lossy);
        let scheme = input.scheme.unwrap_or(Scheme::GitHub);
        let default = match scheme {
            Scheme::GitHub => "github.com",
            Scheme::GitLab => "gitlab.com",
            _ => "git.sr.ht",
        };
        let forge = Forge {
            scheme,
            host: string("host").unwrap_or_else(|| default.to_owned()),
            owner: string("owner").unwrap_or_default(),
            repo: string("repo").unwrap_or_default(),
            fetcher: self,
        };
        let rev = match string("rev") {
            Some(rev) => rev,
            None => {
                let name = string("ref").unwrap_or_else(|| "HEAD".to_owned());
                let rev = forge.commit_of(&name, input).await?;
                let said = format!("HEAD revision for '{}' is {rev}", shown(input));
                self.inner.logger.log(Verbosity::Debug, said.as_bytes());
                rev
            }
        };
        let tarball = self.forge_tarball(&forge, &rev).await?;
        let mut attrs = input.attrs.clone();
        attrs.remove("ref");
        attrs.insert("rev".to_owned(), Attr::str(rev));
        attrs.insert("lastModified".to_owned(), Attr::Int(tarball.last_modified.unsigned_abs()));
        Ok(Tree { store_path: tarball.store_path, attrs })
    }

    /// The tree of a commit. It is the same for ever and in all repositories of a forge, wherever it is downloaded.
    async fn forge_tarball(&self, forge: &Forge<'_>, rev: &str) -> FetchResult<Tarball> {
        let key = self.key(&format!("{:?}:{}:{rev}", forge.scheme, forge.host), "source");
        if let Some((entry, path)) = self.lookup(DOMAIN, &key).await? {
            return Ok(tarball(&entry, &path));
        }
        let found = self.download_tarball(&forge.archive(rev), "source", &forge.headers()).await?;
        let mut value = Attrs::new();
        value.insert("lastModified".into(), found.last_modified.into());
        value.insert("storePath".into(), found.store_path.base_name().into());
        self.upsert(DOMAIN, &key, &value)?;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let tokens: BTreeMap<String, String> =
            [("github.com", "a"), ("github.com/x", "b"), ("gitlab.com/x/y", "c")]
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect();
        let check =
            |place: &str, expected: Option<&str>| assert_eq!(token(&tokens, place), expected, "{place}");
        check("github.com/z/y", Some("a"));
        check("github.com/x/y", Some("b"));
        check("github.com/xx/y", Some("a"));
        check("gitlab.com/x/y", Some("c"));
        check("gitlab.com/x/z", None);
        check("github.com.evil.org/x/y", None);
    }

    #[test]
    fn segments() {
        assert_eq!(encoded("a b/c"), "a%20b%2Fc");
        assert_eq!(encoded_path("feature/x y"), "feature/x%20y");
    }
}
