//! What is believed of facts that come from elsewhere. Every fact from a substituter, an import or an untrusted client
//! is checked here, and nowhere else.

use crate::traits::Realisation;
use firn_core::signature::PublicKey;
use firn_core::{StoreDir, ValidPathInfo};

/// Whose word is taken.
#[derive(Debug, Clone, Default)]
pub struct TrustPolicy {
    /// The setting `require-sigs`.
    pub require_signatures: bool,
    /// The setting `trusted-public-keys`.
    pub keys: Vec<PublicKey>,
}

impl TrustPolicy {
    fn signs(&self, data: &[u8], signature: &str) -> bool {
        self.keys.iter().any(|key| key.verifies(data, signature))
    }

    /// Whether the facts of a path need not be taken on trust, or come from a trusted key.
    pub fn accepts_path(&self, dir: &StoreDir, info: &ValidPathInfo) -> bool {
        if !self.require_signatures || info.is_content_addressed(dir) {
            return true;
        }
        let fingerprint = info.fingerprint(dir);
        info.signatures.iter().any(|signature| self.signs(fingerprint.as_bytes(), signature))
    }

    /// Whether a realisation comes from a trusted key. That its path exists says nothing: the claim is that a certain
    /// derivation made it.
    pub fn accepts_realisation(&self, realisation: &Realisation) -> bool {
        if !self.require_signatures {
            return true;
        }
        let fingerprint = realisation.fingerprint();
        realisation.signatures.iter().any(|signature| self.signs(fingerprint.as_bytes(), signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firn_core::signature::SecretKey;
    use firn_core::{Hash, StorePath};

    #[test]
    fn only_trusted_keys_count() {
        let (good, bad) = (SecretKey::from_seed("k", &[1; 32]), SecretKey::from_seed("k", &[2; 32]));
        let policy = TrustPolicy { require_signatures: true, keys: vec![good.public()] };
        let dir = StoreDir::default();
        let path = StorePath::from_base_name(&format!("{}-x", "a".repeat(32))).unwrap();
        let mut info = ValidPathInfo::new(path.clone(), Hash::dummy(), 1);
        let fingerprint = info.fingerprint(&dir);
        assert!(!policy.accepts_path(&dir, &info));
        info.signatures = [bad.sign(fingerprint.as_bytes())].into();
        assert!(!policy.accepts_path(&dir, &info));
        info.signatures.insert(good.sign(fingerprint.as_bytes()));
        assert!(policy.accepts_path(&dir, &info));
        info.nar_size = 2;
        assert!(!policy.accepts_path(&dir, &info));

        let mut realisation = Realisation::new("sha256:00!out".into(), path);
        assert!(!policy.accepts_realisation(&realisation));
        realisation.signatures.insert(bad.sign(realisation.fingerprint().as_bytes()));
        assert!(!policy.accepts_realisation(&realisation));
        realisation.signatures.insert(good.sign(realisation.fingerprint().as_bytes()));
        assert!(policy.accepts_realisation(&realisation));
        realisation.id = "sha256:11!out".into();
        assert!(!policy.accepts_realisation(&realisation));
    }
}
