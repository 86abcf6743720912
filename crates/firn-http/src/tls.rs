//! Which servers are believed, and who we are to them.

use crate::request::TlsIdentity;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;

/// The configuration of TLS connections. Errors are the text for the user.
pub(crate) fn config(
    ca_file: Option<&Path>,
    identity: Option<&TlsIdentity>,
    http2: bool,
) -> Result<ClientConfig, String> {
    let mut config = trusting(ca_file, identity)?;
    // Servers speak HTTP/2 only with those who offer it while the connection is made.
    let protocols: &[&[u8]] = if http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

fn trusting(ca_file: Option<&Path>, identity: Option<&TlsIdentity>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(file) => {
            let certificates = CertificateDer::pem_file_iter(file)
                .and_then(|all| all.collect::<Result<Vec<_>, _>>())
                .map_err(|e| format!("Problem with the SSL CA cert '{}': {e}", file.display()))?;
            roots.add_parsable_certificates(certificates);
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots);
    let Some(identity) = identity else { return Ok(builder.with_no_client_auth()) };
    let certificate = &identity.certificate;
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(|all| all.collect::<Result<Vec<_>, _>>())
        .map_err(|e| format!("TLS client certificate '{}': {e}", certificate.display()))?;
    let key_file = identity.key.as_ref().unwrap_or(certificate);
    let key = PrivateKeyDer::from_pem_file(key_file)
        .map_err(|e| format!("TLS client key '{}': {e}", key_file.display()))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|e| format!("TLS client certificate '{}': {e}", certificate.display()))
}

/// A configuration that believes nobody.
pub(crate) fn without_authorities() -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}
