//! Kinds of stores and of inputs with what can be set of them: `nix help-stores`, and the members `stores` and `fetchers` of
//! `nix __dump-cli`.

use super::render::{COLUMN, WIDTH, wrap};
use crate::error::CliError;
use firn_core::flake_ref::Scheme;
use firn_settings::Settings;
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// A kind of stores.
pub struct StoreDoc {
    /// As the reference names it.
    title: &'static str,
    schemes: &'static [&'static str],
    /// How it is written, and what that is.
    forms: &'static [(&'static str, &'static str)],
    feature: Option<&'static str>,
    parameters: &'static [&'static [Parameter]],
}

/// What can be set behind the question mark of a store's URI.
struct Parameter {
    name: &'static str,
    default: Fallback,
    text: &'static str,
    aliases: &'static [&'static str],
    feature: Option<&'static str>,
}

/// What a parameter is where nothing is said.
enum Fallback {
    None,
    Flag(bool),
    Number(i64),
    Text(&'static str),
    Words(&'static [&'static str]),
    StoreDir,
    StateDir,
    LogDir,
    SystemFeatures,
}

const fn is(name: &'static str, default: Fallback, text: &'static str) -> Parameter {
    Parameter { name, default, text, aliases: &[], feature: None }
}

/// One that an experimental feature brings.
const fn with(feature: &'static str, of: Parameter) -> Parameter {
    Parameter { feature: Some(feature), ..of }
}

const ANY: &[Parameter] = &[
    is("path-info-cache-size", Fallback::Number(65536), "how many answers about paths are kept in memory"),
    is("priority", Fallback::Number(0), "as a substituter: stores with lower numbers are asked first"),
    is("store", Fallback::StoreDir, "the store directory, with which paths begin"),
    is("system-features", Fallback::SystemFeatures, "what builds in this store may require"),
    is("trusted", Fallback::Flag(false), "as a substituter: take paths that no trusted key has signed"),
    is("want-mass-query", Fallback::Flag(false), "as a substituter: may be asked for many paths at once"),
];

const FILES: &[Parameter] = &[
    is("root", Fallback::None, "folder below which all other folders lie"),
    is("state", Fallback::StateDir, "folder of the database, profiles and roots"),
    is("log", Fallback::LogDir, "folder of build logs"),
    is("real", Fallback::StoreDir, "where the files of the store directory really are"),
];

const LOCAL: &[Parameter] = &[
    is("build-dir", Fallback::None, "folder for the temporary folders of builds"),
    is("read-only", Fallback::Flag(false), "open the database without locks and never write to it"),
    is("require-sigs", Fallback::Flag(true), "take copies only with the signature of a trusted key"),
    with(
        "local-overlay-store",
        is(
            "ignore-gc-delete-failure",
            Fallback::Flag(false),
            "what the garbage collector cannot delete is a warning, not an error",
        ),
    ),
    with(
        "local-overlay-store",
        is(
            "use-roots-daemon",
            Fallback::Flag(false),
            "ask the daemon of 'nix store roots-daemon' which files are in use",
        ),
    ),
];

const OVERLAY: &[Parameter] = &[
    is("lower-store", Fallback::Text(""), "URI of the store below"),
    is("upper-layer", Fallback::Text(""), "folder of the overlay's upper layer"),
    is("check-mount", Fallback::Flag(true), "look whether the overlay is mounted as these say"),
    is(
        "remount-hook",
        Fallback::Text(""),
        "program that mounts the overlay anew, after files below it were deleted",
    ),
];

const CONNECTIONS: &[Parameter] =
    &[is("max-connections", Fallback::Number(1), "how many connections there may be at once")];

const DAEMON: &[Parameter] = &[is(
    "max-connection-age",
    Fallback::Number(u32::MAX as i64),
    "seconds after which a connection is not used again",
)];

const SSH: &[Parameter] = &[
    is("ssh-key", Fallback::Text(""), "file of the private key to log in with"),
    is("base64-ssh-public-host-key", Fallback::Text(""), "public key that the host must have"),
    is("compress", Fallback::Flag(false), "have ssh compress what is sent"),
    is("remote-store", Fallback::Text(""), "URI of the store to use on the other machine"),
];

const SERVE: &[Parameter] = &[
    is("remote-program", Fallback::Words(&["nix-store"]), "program to run on the other machine"),
    is("log-fd", Fallback::Number(-1), "open file that ssh's messages go to"),
];

const REMOTE_DAEMON: &[Parameter] =
    &[is("remote-program", Fallback::Words(&["nix-daemon"]), "program to run on the other machine")];

const CACHE: &[Parameter] = &[
    is(
        "compression",
        Fallback::Text("xz"),
        "how archives are compressed: xz, bzip2, gzip, zstd, br, lz4, … or none",
    ),
    is(
        "compression-level",
        Fallback::Number(-1),
        "how hard to try, by the method's own numbers; -1 for its default",
    ),
    is("parallel-compression", Fallback::Flag(false), "compress on several threads (xz and zstd)"),
    is("write-nar-listing", Fallback::Flag(false), "write a list of each archive's files (HASH.ls)"),
    is("index-debug-info", Fallback::Flag(false), "write an index of debugging information by build ID"),
    is("secret-key", Fallback::Text(""), "file of the key to sign with"),
    is("secret-keys", Fallback::Text(""), "files of keys to sign with, between commas"),
    is("local-nar-cache", Fallback::None, "folder for archives that were fetched to look into them"),
];

const HTTP: &[Parameter] = &[
    is("narinfo-compression", Fallback::None, "how descriptions of paths (.narinfo) are compressed"),
    is("ls-compression", Fallback::None, "how lists of files (.ls) are compressed"),
    is("log-compression", Fallback::None, "how build logs are compressed"),
    is("tls-certificate", Fallback::None, "file of a client certificate (PEM)"),
    is("tls-private-key", Fallback::None, "file of its key (PEM)"),
];

const S3: &[Parameter] = &[
    is("profile", Fallback::Text("default"), "section of the AWS configuration files"),
    is("region", Fallback::Text("us-east-1"), "region of the bucket"),
    is("scheme", Fallback::Text("https"), "https or http"),
    is("endpoint", Fallback::Text(""), "host of a server that is not Amazon's"),
    is(
        "addressing-style",
        Fallback::Text("auto"),
        "where the bucket's name goes: path, virtual (before the host) or auto",
    ),
    is("storage-class", Fallback::None, "class of what is uploaded"),
    is("multipart-upload", Fallback::Flag(false), "upload large archives in parts"),
    Parameter {
        aliases: &["buffer-size"],
        ..is("multipart-chunk-size", Fallback::Number(5 << 20), "bytes of a part, 5 MiB to 5 GiB")
    },
    is(
        "multipart-threshold",
        Fallback::Number(100 << 20),
        "bytes from which on an archive is uploaded in parts",
    ),
];

const DUMMY: &[Parameter] = &[is("read-only", Fallback::Flag(true), "let writing fail")];

const STORES: &[StoreDoc] = &[
    StoreDoc {
        title: "Local Store",
        schemes: &["local"],
        forms: &[
            ("local, local?root=DIR", "the store of this machine, or one below a folder"),
            ("DIR", "the same as local?root=DIR, for paths with a slash"),
            ("auto", "the local store where this user can write it, else the daemon (default)"),
        ],
        feature: None,
        parameters: &[FILES, LOCAL, ANY],
    },
    StoreDoc {
        title: "Local Daemon Store",
        schemes: &["unix"],
        forms: &[("daemon, unix://PATH", "the store behind a daemon's socket")],
        feature: None,
        parameters: &[FILES, CONNECTIONS, DAEMON, ANY],
    },
    StoreDoc {
        title: "Experimental SSH Store",
        schemes: &["ssh-ng"],
        forms: &[(
            "ssh-ng://[USER@]HOST[:PORT]",
            "a store on another machine, through its daemon's protocol",
        )],
        feature: None,
        parameters: &[SSH, REMOTE_DAEMON, CONNECTIONS, DAEMON, ANY],
    },
    StoreDoc {
        title: "SSH Store",
        schemes: &["ssh"],
        forms: &[("ssh://[USER@]HOST[:PORT]", "the same through nix-store --serve")],
        feature: None,
        parameters: &[SSH, SERVE, CONNECTIONS, ANY],
    },
    StoreDoc {
        title: "Experimental SSH Store with filesystem mounted",
        schemes: &["mounted-ssh-ng"],
        forms: &[("mounted-ssh-ng://HOST", "ssh-ng where the store's files are also on this machine")],
        feature: Some("mounted-ssh-store"),
        parameters: &[FILES, SSH, REMOTE_DAEMON, CONNECTIONS, DAEMON, ANY],
    },
    StoreDoc {
        title: "HTTP Binary Cache Store",
        schemes: &["http", "https"],
        forms: &[("http://…, https://…", "a binary cache on a server")],
        feature: None,
        parameters: &[CACHE, HTTP, ANY],
    },
    StoreDoc {
        title: "Local Binary Cache Store",
        schemes: &["file"],
        forms: &[("file://DIR", "a binary cache in a folder")],
        feature: None,
        parameters: &[CACHE, ANY],
    },
    StoreDoc {
        title: "S3 Binary Cache Store",
        schemes: &["s3"],
        forms: &[("s3://BUCKET", "a binary cache in a bucket")],
        feature: None,
        parameters: &[S3, CACHE, HTTP, ANY],
    },
    StoreDoc {
        title: "Experimental Local Overlay Store",
        schemes: &["local-overlay"],
        forms: &[("local-overlay://", "a local store on top of another")],
        feature: Some("local-overlay-store"),
        parameters: &[OVERLAY, FILES, LOCAL, ANY],
    },
    StoreDoc {
        title: "Dummy Store",
        schemes: &["dummy"],
        forms: &[("dummy://", "a store in memory, for evaluation")],
        feature: None,
        parameters: &[DUMMY, ANY],
    },
];

/// What is wrong with a parameter.
pub enum Wrong {
    /// Stores of this kind have none of this name.
    Unknown,
    Value(CliError),
}

/// Looks at a parameter of a store of a kind that is named by its scheme.
pub fn check_parameter(scheme: &str, name: &str, value: &str) -> Result<(), Wrong> {
    let store = STORES.iter().find(|store| store.schemes.contains(&scheme));
    let mut parameters = store.into_iter().flat_map(StoreDoc::parameters);
    let parameter = parameters.find(|parameter| parameter.name == name || parameter.aliases.contains(&name));
    match parameter.ok_or(Wrong::Unknown)?.default {
        Fallback::Flag(_) => crate::stores::boolean(name, value).map(drop).map_err(Wrong::Value),
        Fallback::Number(_) => crate::stores::integer(name, value).map(drop).map_err(Wrong::Value),
        _ => Ok(()),
    }
}

impl StoreDoc {
    fn parameters(&self) -> impl Iterator<Item = &'static Parameter> {
        self.parameters.iter().copied().flatten()
    }
}

impl Fallback {
    fn value(&self, settings: &Settings) -> Value {
        match self {
            Fallback::None => Value::Null,
            Fallback::Flag(flag) => json!(flag),
            Fallback::Number(number) => json!(number),
            Fallback::Text(text) => json!(text),
            Fallback::Words(words) => json!(words),
            Fallback::StoreDir => json!(settings.dirs.store),
            Fallback::StateDir => json!(settings.dirs.state),
            Fallback::LogDir => json!(settings.dirs.log),
            Fallback::SystemFeatures => json!(settings.system_features),
        }
    }

    /// As it is written in a URI; nothing where that would be nothing.
    fn shown(&self) -> Option<String> {
        match self {
            Fallback::None | Fallback::Text("") | Fallback::SystemFeatures => None,
            Fallback::StoreDir | Fallback::StateDir | Fallback::LogDir => None,
            Fallback::Flag(flag) => Some(flag.to_string()),
            Fallback::Number(number) => Some(number.to_string()),
            Fallback::Text(text) => Some((*text).to_owned()),
            Fallback::Words(words) => Some(words.join(" ")),
        }
    }
}

/// The text of `nix help-stores`.
pub fn stores_text() -> String {
    let mut out = String::from(
        "Stores are named by URIs, with settings behind a question mark: local?root=/mnt&require-sigs=false\n\n",
    );
    for store in STORES {
        for (form, text) in store.forms {
            let experimental = store.feature.map_or("", |_| " (experimental)");
            let _ = writeln!(out, "  {form:<width$}{text}{experimental}", width = COLUMN - 2);
        }
    }
    for store in STORES {
        let _ = writeln!(out, "\n{}:", store.schemes.join(", "));
        parameters_text(
            &mut out,
            store.parameters().filter(|own| !ANY.iter().any(|any| any.name == own.name)),
        );
    }
    out.push_str("\nAll of them:\n");
    parameters_text(&mut out, ANY.iter());
    out
}

fn parameters_text<'a>(out: &mut String, parameters: impl Iterator<Item = &'a Parameter>) {
    let mut parameters: Vec<&Parameter> = parameters.collect();
    parameters.sort_by_key(|parameter| parameter.name);
    for parameter in parameters {
        let default = parameter.default.shown().map_or(String::new(), |shown| format!(" (default: {shown})"));
        let experimental = parameter.feature.map_or("", |_| " (experimental)");
        let text = format!("{}{experimental}{default}", parameter.text);
        let mut head = parameter.name;
        for line in wrap(&text, WIDTH - COLUMN) {
            let _ = writeln!(out, "  {head:<width$}{line}", width = COLUMN - 2);
            head = "";
        }
    }
}

/// All kinds of stores, in the layout of the reference.
pub fn stores_json(settings: &Settings) -> Value {
    let parameter = |parameter: &Parameter| {
        let value = parameter.default.value(settings);
        let entry = json!({
            "aliases": parameter.aliases,
            "defaultValue": value,
            "description": parameter.text,
            // What a machine has is none of the documentation.
            "documentDefault": !matches!(parameter.default, Fallback::SystemFeatures),
            "experimentalFeature": parameter.feature,
            "value": value,
        });
        (parameter.name.to_owned(), entry)
    };
    let store = |store: &StoreDoc| {
        let forms: Vec<String> = store.forms.iter().map(|(form, text)| format!("`{form}`: {text}")).collect();
        let entry = json!({
            "doc": forms.join("\n"),
            "experimentalFeature": store.feature,
            "settings": Value::Object(store.parameters().map(parameter).collect()),
            "uri-schemes": store.schemes,
        });
        (store.title.to_owned(), entry)
    };
    Value::Object(STORES.iter().map(store).collect())
}

/// All kinds of inputs and their attributes, in the layout of the reference.
pub fn fetchers_json() -> Value {
    let scheme = |scheme: Scheme| {
        let attribute = |name: &&str| {
            let (kind, required) = kind_of_attribute(scheme, name);
            let entry = json!({ "doc": text_of_attribute(name), "required": required, "type": kind });
            ((*name).to_owned(), entry)
        };
        let attrs: Map<String, Value> = scheme.attributes().iter().map(attribute).collect();
        let entry = json!({ "allowedAttrs": attrs, "description": text_of_scheme(scheme) });
        (scheme.name().to_owned(), entry)
    };
    Value::Object(Scheme::all().into_iter().map(scheme).collect())
}

/// The type of an attribute, and whether the reference says that there must be one. That it says of all but some of Git's.
fn kind_of_attribute(scheme: Scheme, name: &str) -> (&'static str, bool) {
    match (scheme, name) {
        (Scheme::Git, "allRefs" | "lfs" | "shallow" | "submodules") => ("Bool", false),
        (Scheme::Git, "lastModified" | "revCount") => ("Integer", false),
        (Scheme::Git, "ref" | "rev") => ("String", false),
        _ => ("String", true),
    }
}

fn text_of_scheme(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::File => "A file at a URL.",
        Scheme::Git => "The files of a Git repository.",
        Scheme::GitHub => "The files of a repository on GitHub, by its archives.",
        Scheme::GitLab => "The files of a repository on a GitLab server, by its archives.",
        Scheme::Indirect => "What a registry of flakes has under a name.",
        Scheme::Mercurial => "The files of a Mercurial repository.",
        Scheme::Path => "A folder of this machine.",
        Scheme::SourceHut => "The files of a repository on SourceHut, by its archives.",
        Scheme::Tarball => "The files of an archive at a URL.",
    }
}

fn text_of_attribute(name: &str) -> &'static str {
    match name {
        "allRefs" => "Fetch all branches and tags, so that `rev` may be on any of them.",
        "dirtyRev" => "The commit that a tree with changes is based on.",
        "dirtyShortRev" => "The same, abbreviated.",
        "exportIgnore" => "Leave out files that `.gitattributes` marks `export-ignore`.",
        "host" => "The server, where it is not the usual one.",
        "id" => "A name in the registries.",
        "keytype" => "The type of `publicKey`.",
        "lastModified" => "When it was changed last, in seconds since 1970.",
        "lfs" => "Fetch files that Git LFS keeps elsewhere.",
        "name" => "The name of the store path.",
        "narHash" => "The hash that the files must have, as one archive.",
        "owner" => "Who has the repository.",
        "path" => "The folder.",
        "publicKey" => "The key that must have signed the commit.",
        "publicKeys" => "The keys of which one must have signed the commit.",
        "ref" => "A branch or a tag.",
        "repo" => "The repository's name.",
        "rev" => "A commit, by its hash.",
        "revCount" => "How many commits lead to this one, itself among them.",
        "shallow" => "Fetch the commit without those before it.",
        "submodules" => "Fetch submodules too.",
        "treeHash" => "The hash of the commit's tree.",
        "unpack" => "Whether it is an archive to be unpacked.",
        "url" => "Where it is.",
        "verifyCommit" => "Require that the commit is signed.",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_described() {
        for scheme in Scheme::all() {
            for name in scheme.attributes() {
                assert!(!text_of_attribute(name).is_empty(), "{name}");
            }
        }
        for store in STORES {
            let mut names: Vec<_> = store.parameters().map(|parameter| parameter.name).collect();
            names.sort_unstable();
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{}: {names:?}", store.title);
        }
    }
}
