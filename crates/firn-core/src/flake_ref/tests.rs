use super::*;
use proptest::prelude::*;

fn context() -> ParseContext<'static> {
    ParseContext { has_feature: &|name| name == "flakes", warnings: Vec::new() }
}

fn shown(text: &str) -> String {
    match FlakeRef::parse(text.as_bytes(), &mut context()) {
        Ok(reference) => json(&reference.to_attrs()),
        Err(error) => format!("error: {error}"),
    }
}

#[track_caller]
fn check(text: &str, attrs: &str, url: &str) {
    assert_eq!(shown(text), attrs, "{text}");
    if let Ok(reference) = FlakeRef::parse(text.as_bytes(), &mut context()) {
        assert_eq!(reference.to_url().expect("a URL"), url, "{text}");
    }
}

const REV: &str = "0123456789abcdef0123456789abcdef01234567";

#[test]
fn ids() {
    check("nixpkgs", r#"{"id":"nixpkgs","type":"indirect"}"#, "flake:nixpkgs");
    check(
        &format!("nixpkgs/x/{REV}"),
        &format!(r#"{{"id":"nixpkgs","ref":"x","rev":"{REV}","type":"indirect"}}"#),
        &format!("flake:nixpkgs/x/{REV}"),
    );
    check("flake:a//b", r#"{"id":"a","ref":"b","type":"indirect"}"#, "flake:a/b");
    check("nixpkgs/a/b", "error: in flake URL 'flake:nixpkgs/a/b', 'b' is not a commit hash", "");
    check("nixpkgs#x", "error: unexpected fragment 'x' in flake reference 'nixpkgs#x'", "");
    check("flake:1x", "error: flake reference 'flake:1x' is not an absolute path", "");
}

#[test]
fn forges() {
    check(
        "github:o/r/a/b?dir=lib",
        r#"{"dir":"lib","owner":"o","ref":"a/b","repo":"r","type":"github"}"#,
        "github:o/r/a%2Fb?dir=lib",
    );
    check(
        &format!("sourcehut:~o/r?rev={REV}&host=h.org&other=1"),
        &format!(r#"{{"host":"h.org","owner":"~o","repo":"r","rev":"{REV}","type":"sourcehut"}}"#),
        &format!("sourcehut:~o/r/{REV}?host=h.org"),
    );
    check("gitlab:g%2Fs/p", r#"{"owner":"g/s","repo":"p","type":"gitlab"}"#, "gitlab:g%2Fs/p");
    check("github:o", "error: flake reference 'github:o' is not an absolute path", "");
}

#[test]
fn downloads() {
    check("https://e.org/x", r#"{"type":"tarball","url":"https://e.org/x"}"#, "https://e.org/x");
    check("file+https://e.org/x", r#"{"type":"file","url":"https://e.org/x"}"#, "https://e.org/x");
    check(
        "https://e.org/x.tar?q=1&revCount=5&rev=a&lastModified=no",
        r#"{"rev":"a","revCount":5,"type":"tarball","url":"https://e.org/x.tar?q=1"}"#,
        "https://e.org/x.tar?q=1",
    );
}

#[test]
fn repositories() {
    check(
        "git+https://e.org/x?ref=main&shallow=1&submodules=0&foo=b&dir=d",
        r#"{"dir":"d","ref":"main","shallow":true,"submodules":false,"type":"git","url":"https://e.org/x?foo=b"}"#,
        "git+https://e.org/x?dir=d&foo=b&ref=main&shallow=1",
    );
    check("git+file:///a", r#"{"type":"git","url":"file:///a"}"#, "git+file:///a");
    check(
        "hg+https://e.org/x?ref=a",
        r#"{"ref":"a","type":"hg","url":"https://e.org/x"}"#,
        "hg+https://e.org/x?ref=a",
    );
    check(
        "file+git://e.org/x",
        "error: input 'file+git://e.org/x' is unsupported; did you mean 'git+file' instead of 'file+git'?",
        "",
    );
    check(
        "git+https://e.org/x?verifyCommit=1",
        "error: experimental Nix feature 'verified-fetches' is disabled; \
         add '--extra-experimental-features verified-fetches' to enable it",
        "",
    );
}

#[test]
fn paths() {
    check("/a/b?dir=x", r#"{"dir":"x","path":"/a/b","type":"path"}"#, "path:/a/b?dir=x");
    check("path:./a?revCount=3", r#"{"path":"./a","revCount":3,"type":"path"}"#, "path:./a?revCount=3");
    check("./a", "error: flake reference './a' is not an absolute path", "");
    check("path:/a?x=1", "error: path URL 'path:/a?x=1' has unsupported parameter 'x'", "");
    check("path://h/a", "error: path URL 'path://h/a' should not have an authority ('h')", "");
    check("svn+https://e.org", "error: input 'svn+https://e.org' is unsupported", "");
}

fn rendered(attrs: &[(&str, Attr)]) -> String {
    let attrs = attrs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    match FlakeRef::from_attrs(attrs, &mut context()).and_then(|reference| reference.to_url()) {
        Ok(url) => url,
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn attributes() {
    let git = |url: &str| rendered(&[("type", Attr::str("git")), ("url", Attr::str(url))]);
    assert_eq!(git("git@e.org:a/b"), "git+ssh://git@e.org/a/b");
    assert_eq!(git("/a/b"), "git+file:///a/b");
    assert_eq!(git("a/b"), "git+file:a/b");
    assert_eq!(
        git("e.org:a"),
        "error: SCP-like URL 'e.org:a' is not supported; use SSH URL syntax instead (ssh://...)"
    );
    let unknown = [("type", Attr::str("new")), ("x", Attr::Bool(true)), ("y", Attr::str("\"\n"))];
    assert_eq!(
        rendered(&unknown),
        r#"error: cannot show unsupported input '{"type":"new","x":true,"y":"\"\n"}'"#
    );
    assert_eq!(rendered(&[]), "error: 'type' attribute to specify input scheme is required but not provided");
    let path = [("type", Attr::str("path")), ("path", Attr::str("a b")), ("lastModified", Attr::Int(3))];
    assert_eq!(rendered(&path), "path:a%20b?lastModified=3");
    let wrong = [("type", Attr::str("path")), ("url", Attr::str("x"))];
    assert_eq!(rendered(&wrong), "error: input attribute 'url' not supported by scheme 'path'");
}

#[test]
fn names_of_branches() {
    for name in ["main", "a/b", "v1.0", "a@b", "-/x", "é"] {
        assert!(is_legal_ref_name(name.as_bytes()), "{name}");
    }
    for name in
        ["", "@", "-x", "a..b", "a b", ".a", "a/.b", "a//b", "a.lock", "a.", "a~b", "a@{b", "a\u{7f}", "a/"]
    {
        assert!(!is_legal_ref_name(name.as_bytes()), "{name}");
    }
}

proptest! {
    #[test]
    fn any_text(text in "[a-z0-9:/?#&=%+.@ \\[\\]~^-]{0,40}") {
        if let Ok(reference) = FlakeRef::parse(text.as_bytes(), &mut context()) {
            // What is printed means the same.
            if let Ok(url) = reference.to_url() {
                if let Ok(again) = FlakeRef::parse(url.as_bytes(), &mut context()) {
                    prop_assert_eq!(again.to_url().ok(), Some(url));
                }
            }
        }
    }

    #[test]
    fn any_bytes(text in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = FlakeRef::parse(&text, &mut context());
        let attrs = Attrs::from([("type".into(), Attr::str("git")), ("url".into(), Attr::Str(text))]);
        let _ = FlakeRef::from_attrs(attrs, &mut context()).and_then(|reference| reference.to_url());
    }
}
