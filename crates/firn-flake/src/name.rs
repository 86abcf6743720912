//! What a package of a flake is called in a profile.

use firn_core::url::Url;

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-'))
}

/// The last of several attributes, if it says something.
fn of_fragment(fragment: &str) -> Option<String> {
    let attributes = fragment.split('^').next().unwrap_or_default();
    let (before, last) =
        attributes.rsplit_once('.').map_or(("", attributes), |(before, last)| (before, last));
    let is_path = before.is_empty() || before.split('.').all(is_word);
    (is_path && is_word(last) && last != "default" && before != "defaultPackage").then(|| last.to_owned())
}

/// The name in the last segment of a path that is a word.
fn last_segment(path: &str) -> Option<String> {
    let (_, last) = path.rsplit_once('/')?;
    is_word(last).then(|| last.to_owned())
}

/// A short name for what a URL with a fragment names; nothing if it has none.
pub fn name_of_url(url: &Url) -> Option<String> {
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if let Some(dir) = url.query.get(&b"dir"[..]) {
        return Some(lossy(dir));
    }
    if let Some(name) = of_fragment(&lossy(&url.fragment)) {
        return Some(name);
    }
    let parts: Vec<String> = url.path.iter().map(|part| lossy(part)).collect();
    if matches!(url.scheme.as_str(), "github" | "gitlab" | "sourcehut")
        && let [owner, repo, ..] = &parts[..]
        && is_word(owner)
        && is_word(repo)
    {
        return Some(repo.clone());
    }
    last_segment(&parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |text: &str, expected: Option<&str>| {
            let url = Url::parse_lenient(text.as_bytes(), &mut Vec::new()).expect(text);
            assert_eq!(name_of_url(&url).as_deref(), expected, "{text}");
        };
        check("path:/home/user/project", Some("project"));
        check("path:/home/user/project#packages.x86_64-linux.default", Some("project"));
        check("path:/home/user/project#packages.x86_64-linux.Hello", Some("Hello"));
        check("path:/home/user/project#nonStandardAttr.mylaptop", Some("mylaptop"));
        check("github:edolstra/nix-warez?dir=blender", Some("blender"));
        check("github:NixOS/nixpkgs", Some("nixpkgs"));
        check("github:NixOS/nixpkgs#packages.x86_64-linux.hello^dev", Some("hello"));
        check("git+file:///a/b", Some("b"));
        check("git+https://h/x.git", None);
        check("flake:nixpkgs", None);
        check("flake:nixpkgs#hello", Some("hello"));
    }
}
