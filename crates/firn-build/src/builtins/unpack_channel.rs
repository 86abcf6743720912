//! `builtin:unpack-channel`: the one folder of an archive, under the channel's name.

use super::Context;
use std::fs;
use std::path::Path;

pub(super) fn run(context: &Context) -> Result<(), String> {
    unpack(context.attribute("src")?, context.attribute("channelName")?, context.output("out")?)
}

fn unpack(src: &str, name: &str, out: &Path) -> Result<(), String> {
    if name.is_empty() || name == "." || name == ".." || name.contains('/') {
        return Err(format!("channelName is not allowed to contain filesystem separators, got \"{name}\""));
    }
    firn_archive::unpack(Path::new(src), out).map_err(|e| e.to_string())?;
    let failed = |e: std::io::Error| format!("reading directory '{}': {e}", out.display());
    let entries = fs::read_dir(out).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let [entry] = &entries[..] else {
        let what = if entries.is_empty() { "is empty" } else { "contains more than one file" };
        return Err(format!("channel tarball '{src}' {what}"));
    };
    let target = out.join(name);
    fs::rename(entry.path(), &target)
        .map_err(|e| format!("failed to rename '{}' to '{}': {e}", entry.path().display(), target.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    /// Unpacks an archive of `files` under the name `channel`; answers with what is there.
    fn check(files: &[&str], channel: &str) -> Result<Vec<String>, String> {
        let tmp = tempfile::tempdir().unwrap();
        let tree = tmp.path().join("tree");
        for file in files {
            let file = tree.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "x").unwrap();
        }
        fs::create_dir_all(&tree).unwrap();
        let archive = tmp.path().join("archive.tar");
        #[expect(clippy::disallowed_methods, reason = "the tool that users pack channels with")]
        let packed = std::process::Command::new("sh")
            .arg("-c")
            .arg("cd \"$1\" && tar cf \"$2\" $(ls)")
            .arg("sh")
            .args([&tree, &archive])
            .status()
            .unwrap();
        assert!(packed.success());
        let out = tmp.path().join("out");
        super::unpack(archive.to_str().unwrap(), channel, &out)?;
        let mut found: Vec<String> = Vec::new();
        for entry in fs::read_dir(&out).unwrap() {
            found.push(entry.unwrap().file_name().into_string().unwrap());
        }
        found.sort();
        Ok(found)
    }

    #[test]
    fn archives() {
        assert_eq!(check(&["nixexprs/default.nix"], "channel").unwrap(), ["channel"]);
        assert!(check(&["a/x", "b/y"], "channel").unwrap_err().contains("contains more than one file"));
        for name in ["a/b", "..", ""] {
            assert!(check(&["a/x"], name).unwrap_err().contains("is not allowed to contain"), "{name}");
        }
    }
}
