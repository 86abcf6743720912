//! Which servers are believed, and who we are to them.

use crate::request::TlsIdentity;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
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
    let trusted = match ca_file {
        Some(file) => CertificateDer::pem_file_iter(file)
            .and_then(|all| all.collect::<Result<Vec<_>, _>>())
            .map_err(|e| format!("Problem with the SSL CA cert '{}': {e}", file.display()))?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let builder = match roots.is_empty() {
        true => builder.with_root_certificates(roots),
        false => {
            let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|e| e.to_string())?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Verifier { inner, trusted }))
        }
    };
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

/// Believes authorities, and servers whose own certificate is among those that are trusted: such certificates are made by
/// hand, say of themselves that they are authorities, and are not taken from servers otherwise.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let error = match self.inner.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Ok(verified) => return Ok(verified),
            Err(error) => error,
        };
        // Its dates are looked at before this.
        let is_authority = format!("{error:?}").contains("CaUsedAsEndEntity");
        if !is_authority || !self.trusted.contains(certificate) {
            return Err(error);
        }
        verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
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
