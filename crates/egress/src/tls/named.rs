//! Whose certificates a destination with authorities of its own is believed: theirs, and the very ones that its owner has
//! named. Whoever makes a certificate for one host by `openssl req -x509` gets one that calls itself an authority's, which
//! webpki takes for no server's.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Verifies as webpki does, but for a named certificate that is an authority's.
#[derive(Debug)]
pub(super) struct Named {
    ordinary: Arc<WebPkiServerVerifier>,
    named: Arc<[CertificateDer<'static>]>,
}

impl Named {
    /// `roots` are made of the named ones, and there is at least one.
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        named: Arc<[CertificateDer<'static>]>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let ordinary = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
        Ok(Self { ordinary: ordinary.map_err(|error| Error::General(error.to_string()))?, named })
    }
}

/// Whether a certificate is refused for nothing but that it is an authority's. webpki has looked at its time by then.
pub(crate) fn is_an_authoritys(error: &CertificateError) -> bool {
    let CertificateError::Other(other) = error else { return false };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict =
            self.ordinary.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verdict {
            Err(Error::InvalidCertificate(error))
                if is_an_authoritys(&error) && self.named.iter().any(|named| named == end_entity) =>
            {
                // What webpki would have looked at next.
                rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.ordinary.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.ordinary.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.ordinary.supported_verify_schemes()
    }
}
