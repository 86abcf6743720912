//! Ed25519 keys and signatures in the form `name:base64`.

use crate::base;
use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use std::sync::OnceLock;
use thiserror::Error;

/// Why a text is not a key or signature.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum KeyError {
    #[error("key is corrupt: it is not of the form 'name:base64'")]
    Form,
    #[error("key '{0}' is not valid base-64")]
    Base64(String),
    #[error("{kind} key '{name}' is not valid")]
    Invalid { kind: &'static str, name: String },
}

fn split(text: &str) -> Result<(&str, Vec<u8>), KeyError> {
    let (name, data) = text.trim_end().split_once(':').ok_or(KeyError::Form)?;
    if name.is_empty() || data.is_empty() {
        return Err(KeyError::Form);
    }
    Ok((name, base::base64_decode(data.as_bytes()).map_err(|_| KeyError::Base64(name.to_owned()))?))
}

/// A signing key with its name.
pub struct SecretKey {
    name: String,
    key: SigningKey,
}

impl SecretKey {
    /// Parses `name:base64` of the 64 bytes seed and public key.
    pub fn parse(text: &str) -> Result<SecretKey, KeyError> {
        let (name, data) = split(text)?;
        let bad = || KeyError::Invalid { kind: "secret", name: name.to_owned() };
        let pair: [u8; 64] = data.try_into().map_err(|_| bad())?;
        let key = SigningKey::from_keypair_bytes(&pair).map_err(|_| bad())?;
        Ok(SecretKey { name: name.to_owned(), key })
    }

    /// A key from 32 random bytes of the caller's.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> SecretKey {
        SecretKey { name: name.to_owned(), key: SigningKey::from_bytes(seed) }
    }

    pub fn render(&self) -> String {
        format!("{}:{}", self.name, base::base64_encode(&self.key.to_keypair_bytes()))
    }

    pub fn public(&self) -> PublicKey {
        PublicKey {
            name: self.name.clone(),
            bytes: self.key.verifying_key().to_bytes(),
            key: OnceLock::new(),
        }
    }

    /// `name:base64` signature over `data`.
    pub fn sign(&self, data: &[u8]) -> String {
        format!("{}:{}", self.name, base::base64_encode(&self.key.sign(data).to_bytes()))
    }
}

/// A verification key with its name.
#[derive(Clone, Debug)]
pub struct PublicKey {
    name: String,
    bytes: [u8; 32],
    /// The point that the bytes stand for, if they stand for one. Most programs have keys and verify nothing, so it is
    /// only looked for when it is needed.
    key: OnceLock<Option<VerifyingKey>>,
}

impl PublicKey {
    /// Parses `name:base64` of 32 bytes. Bytes that are no key verify nothing.
    pub fn parse(text: &str) -> Result<PublicKey, KeyError> {
        let (name, data) = split(text)?;
        let bad = || KeyError::Invalid { kind: "public", name: name.to_owned() };
        let bytes: [u8; 32] = data.try_into().map_err(|_| bad())?;
        Ok(PublicKey { name: name.to_owned(), bytes, key: OnceLock::new() })
    }

    fn key(&self) -> Option<&VerifyingKey> {
        self.key.get_or_init(|| VerifyingKey::from_bytes(&self.bytes).ok()).as_ref()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn render(&self) -> String {
        format!("{}:{}", self.name, base::base64_encode(&self.bytes))
    }

    /// Whether `signature` (`name:base64`) is this key's over `data`.
    pub fn verifies(&self, data: &[u8], signature: &str) -> bool {
        let Ok((name, bytes)) = split(signature) else { return false };
        name == self.name
            && <[u8; 64]>::try_from(bytes).is_ok_and(|b| {
                self.key().is_some_and(|key| key.verify(data, &Signature::from_bytes(&b)).is_ok())
            })
    }
}
