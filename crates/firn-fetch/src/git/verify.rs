//! Signatures of commits, checked by `git` and OpenSSH against the keys that an input names.

use super::command::Git;
use crate::Fetcher;
use crate::error::{FetchError, FetchResult};
use crate::tree::flag;
use firn_core::flake_ref::{Attrs, PublicKey, public_keys};
use firn_core::{Hash, HashAlgo, HashFormat, base};
use firn_store::activity::Verbosity;
use std::ffi::{OsStr, OsString};
use std::io::Write;

/// Kinds of keys, and what OpenSSH calls them. Curves have names of their own.
const KINDS: [(&str, &str); 6] = [
    ("ssh-dsa", "ssh-dss"),
    ("ssh-ecdsa", "ecdsa-sha2-nistp256"),
    ("ssh-ecdsa-sk", "sk-ecdsa-sha2-nistp256@openssh.com"),
    ("ssh-ed25519", "ssh-ed25519"),
    ("ssh-ed25519-sk", "sk-ssh-ed25519@openssh.com"),
    ("ssh-rsa", "ssh-rsa"),
];

/// The programs that check signatures. A repository's own configuration may not name others: they would be run, and
/// be believed.
const PROGRAMS: [&str; 4] =
    ["gpg.ssh.program=ssh-keygen", "gpg.program=gpg", "gpg.openpgp.program=gpg", "gpg.x509.program=gpgsm"];

/// Whose signatures are asked for.
pub(super) struct Signers {
    keys: Vec<PublicKey>,
}

impl Signers {
    /// Nothing where no signature is wanted.
    pub fn of(attrs: &Attrs) -> FetchResult<Option<Signers>> {
        let keys = public_keys(attrs).map_err(|e| FetchError::Other(e.message))?;
        let wanted = match attrs.contains_key("verifyCommit") {
            true => flag(attrs, "verifyCommit"),
            false => !keys.is_empty(),
        };
        Ok(wanted.then_some(Signers { keys }))
    }

    /// The file that names them to OpenSSH, in which every key may sign as anybody, and their fingerprints as it prints
    /// them.
    fn allowed(&self) -> FetchResult<(String, Vec<String>)> {
        let (mut text, mut fingerprints) = (String::new(), Vec::new());
        for PublicKey { kind, key } in &self.keys {
            let Some((_, name)) = KINDS.iter().find(|(known, _)| known == kind) else {
                let known: Vec<String> = KINDS.iter().map(|(kind, _)| format!("  {kind}\n")).collect();
                return Err(FetchError::Other(format!(
                    "Invalid SSH key type '{kind}' in publicKeys.\nPlease use one of:\n{}",
                    known.concat()
                )));
            };
            let key = key.trim();
            // The key stands in a file of lines, and must not be several of them.
            let bytes = base::base64_decode(key.as_bytes()).ok().filter(|_| !key.contains('\n'));
            let bytes = bytes.ok_or_else(|| {
                FetchError::Other(format!("public key '{key}' used for git signature is not base 64"))
            })?;
            let name = match (kind.as_str(), own_name(&bytes)) {
                ("ssh-ecdsa", Some(curve)) if curve.starts_with("ecdsa-sha2-") => curve,
                _ => name,
            };
            text.push_str(&format!("* {name} {key}\n"));
            let hash = Hash::of(HashAlgo::Sha256, &bytes).to_base(HashFormat::Base64);
            fingerprints.push(hash.trim_end_matches('=').to_owned());
        }
        Ok((text, fingerprints))
    }
}

/// The name at the beginning of a key (RFC 4253, section 6.6).
fn own_name(key: &[u8]) -> Option<&str> {
    let (length, rest) = key.split_first_chunk::<4>()?;
    let name = std::str::from_utf8(rest.get(..u32::from_be_bytes(*length) as usize)?).ok()?;
    name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-@.".contains(&c)).then_some(name)
}

/// Whether what `git verify-commit` said is that one of the keys signed. That it ended well is not enough: it may have
/// found another signature that the user trusts.
fn is_signed(said: &str, fingerprints: &[String]) -> bool {
    said.lines().any(|line| {
        let signer = line.strip_prefix("Good \"git\" signature for * with ");
        let found = signer.and_then(|rest| rest.rsplit_once(" key SHA256:"));
        found.is_some_and(|(_, found)| fingerprints.iter().any(|wanted| wanted == found.trim_end()))
    })
}

impl Fetcher {
    /// Checks that the commit was signed by one of the keys that the input names, if it asks for that.
    pub(super) fn check_signature(&self, git: &Git, rev: &str, signers: Option<&Signers>) -> FetchResult<()> {
        let Some(signers) = signers else { return Ok(()) };
        let (allowed, fingerprints) = signers.allowed()?;
        let place = std::env::temp_dir();
        let mut file = tempfile::NamedTempFile::new_in(&place)
            .map_err(FetchError::io("creating temporary file in", &place))?;
        file.write_all(allowed.as_bytes()).map_err(FetchError::io("writing", file.path()))?;
        let mut allowed_signers = OsString::from("gpg.ssh.allowedSignersFile=");
        allowed_signers.push(file.path());
        let mut args = vec![OsStr::new("-c"), &allowed_signers];
        args.extend(PROGRAMS.iter().flat_map(|program| [OsStr::new("-c"), OsStr::new(program)]));
        args.extend([OsStr::new("verify-commit"), OsStr::new(rev)]);
        let output = git.output(&args)?;
        let said =
            [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
        if !output.status.success() || !is_signed(&said, &fingerprints) {
            return Err(FetchError::Other(format!(
                "Commit signature verification on commit {rev} failed: {}",
                said.trim_end()
            )));
        }
        let text = format!("Signature verification on commit {rev} succeeded.");
        self.inner.logger.log(Verbosity::Talkative, text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(kind: &str, key: &str) -> Result<(String, Vec<String>), String> {
        let keys = vec![PublicKey { kind: kind.into(), key: key.into() }];
        Signers { keys }.allowed().map_err(|e| e.to_string())
    }

    #[test]
    fn what_openssh_is_given() {
        assert_eq!(allowed("ssh-rsa", "AAAA").unwrap().0, "* ssh-rsa AAAA\n");
        assert_eq!(allowed("ssh-ed25519-sk", "AAAA").unwrap().0, "* sk-ssh-ed25519@openssh.com AAAA\n");
        let curve = base::base64_encode(b"\0\0\0\x13ecdsa-sha2-nistp521\0");
        assert_eq!(allowed("ssh-ecdsa", &curve).unwrap().0, format!("* ecdsa-sha2-nistp521 {curve}\n"));
        let error = allowed("rsa", "AAAA").unwrap_err();
        let expected = "Invalid SSH key type 'rsa' in publicKeys.\nPlease use one of:\n  ssh-dsa\n";
        assert!(error.starts_with(expected), "{error}");
        let empty = allowed("ssh-rsa", "").unwrap().1;
        assert_eq!(empty, ["47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"]);
    }

    #[test]
    fn a_key_is_one_word_of_base_64() {
        for key in ["AAAA\n* ssh-rsa BBBB", "AAAA\nBBBB", "AA AA", "?"] {
            assert!(allowed("ssh-rsa", key).unwrap_err().ends_with("is not base 64"), "{key}");
        }
    }

    #[test]
    fn only_the_keys_that_were_named_count() {
        let wanted = ["AbC+/x".to_owned(), "second".to_owned()];
        let good = |fingerprint: &str| {
            format!("Good \"git\" signature for * with ED25519 key SHA256:{fingerprint}\n")
        };
        assert!(is_signed(&good("AbC+/x"), &wanted));
        assert!(is_signed(&format!("warning: something\n{}", good("second")), &wanted));
        assert!(!is_signed(&good("other"), &wanted));
        assert!(!is_signed(&good("AbC"), &wanted));
        assert!(!is_signed(&good("AbC+/x"), &[]));
        assert!(!is_signed("gpg: Good signature from \"somebody\"", &wanted));
    }
}
