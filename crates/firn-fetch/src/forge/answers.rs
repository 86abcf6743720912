//! What forges answer when they are asked for a commit.

use serde_json::Value;

/// The commit in GitHub's answer.
pub fn hub(text: &[u8]) -> Result<String, String> {
    let value: Value = serde_json::from_slice(text).map_err(|error| format!("GitHub's answer: {error}"))?;
    let sha = value.get("sha").and_then(Value::as_str);
    sha.map(str::to_owned).ok_or_else(|| format!("Unexpected response received from GitHub: {value}"))
}

/// The newest commit in GitLab's answer.
pub fn lab(text: &[u8]) -> Result<String, String> {
    let value: Value = serde_json::from_slice(text).map_err(|error| format!("GitLab's answer: {error}"))?;
    match value.as_array().map(Vec::as_slice) {
        Some([]) => Err("No commits returned by GitLab API -- does the git ref really exist?".to_owned()),
        Some([first, ..]) if first.get("id").is_some_and(Value::is_string) => {
            Ok(first["id"].as_str().unwrap_or_default().to_owned())
        }
        _ => Err(format!("Unexpected response received from GitLab: {value}")),
    }
}

/// What the `HEAD` of a repository leads to.
pub fn head(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let target = text.lines().next()?.strip_prefix("ref:")?.split_whitespace().next()?;
    Some(target.to_owned())
}

/// The commit of the first of the references in a listing (`<commit> <reference>` on each line).
pub fn reference(text: &[u8], wanted: &[String]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (id, name) = (words.next()?, words.next()?);
        wanted.iter().any(|wanted| wanted == name).then(|| id.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good() {
        assert_eq!(hub(br#"{"sha":"abc","commit":{}}"#).as_deref(), Ok("abc"));
        assert_eq!(lab(br#"[{"id":"abc"},{"id":"old"}]"#).as_deref(), Ok("abc"));
        assert_eq!(head(b"ref: refs/heads/main\n").as_deref(), Some("refs/heads/main"));
        let listing = b"abc\trefs/heads/x\ndef\trefs/tags/v1\n";
        assert_eq!(reference(listing, &["refs/tags/v1".to_owned()]).as_deref(), Some("def"));
    }

    #[test]
    fn bad() {
        for text in [&b""[..], b"[]", b"{}", b"{\"sha\":1}", b"\xff", b"[1]", b"[{\"id\":null}]"] {
            assert!(hub(text).is_err());
            assert!(lab(text).is_err());
            assert!(head(text).is_none());
            assert!(reference(text, &["refs/heads/x".to_owned()]).is_none());
        }
    }
}
