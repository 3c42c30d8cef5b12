//! What a destination wants of TLS beyond the ordinary: certificate authorities of its own, a certificate of ours, no
//! old version.
//!
//! A destination's own authorities take the place of the system's: who names one wants that one, and a public
//! authority could else speak for a name that it has no business with.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{Error as PemError, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

/// Longer than what anybody needs of one of the three.
const PEM_LIMIT: usize = 64 * 1024;
/// Certificates in one of the two lists.
const CERTIFICATES_LIMIT: usize = 32;

/// The oldest version of TLS that is spoken with a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[default]
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl TlsVersion {
    /// `1.2` or `1.3`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "1.2" => Some(Self::Tls12),
            "1.3" => Some(Self::Tls13),
            _ => None,
        }
    }
}

/// The TLS of one destination, checked. Two profiles of the same content share their connections.
#[derive(Clone)]
pub struct TlsProfile {
    pub(crate) fingerprint: Fingerprint,
    /// `None`: the system's.
    pub(crate) authorities: Option<Authorities>,
    pub(crate) identity: Option<Arc<CertifiedKey>>,
    pub(crate) minimum: TlsVersion,
}

/// Whose certificates a destination is believed.
#[derive(Clone)]
pub(crate) struct Authorities {
    pub(crate) roots: Arc<RootCertStore>,
    /// What the roots were made of.
    pub(crate) named: Arc<[CertificateDer<'static>]>,
}

/// Tells profiles apart. It is made of a private key among others, and is not to be shown.
pub(crate) type Fingerprint = [u8; 32];

/// Why a profile is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct InvalidTls {
    /// Which part: `ca_certificates`, `client_certificate`, `client_key` or `minimum_version`.
    pub field: &'static str,
    /// For a person to read; holds nothing of a key.
    pub reason: String,
}

impl TlsProfile {
    /// Checks what a destination's owner has given, each as PEM: certificates of authorities instead of the system's, or
    /// the server's own (up to 32), our certificate with those between it and its authority (up to 32, ours first), its private key
    /// (unencrypted PKCS #8, PKCS #1 or SEC 1), and the oldest version of TLS, `1.2` (the default) or `1.3`.
    pub fn parse(
        ca_pem: Option<&str>,
        cert_pem: Option<&str>,
        key_pem: Option<&str>,
        minimum_version: Option<&str>,
    ) -> Result<Self, InvalidTls> {
        let authorities = ca_pem.map(authorities).transpose()?;
        let identity = match (cert_pem, key_pem) {
            (Some(certificate), Some(key)) => Some(Arc::new(identity(certificate, key)?)),
            (None, None) => None,
            (Some(_), None) => return Err(invalid("client_key", "a client certificate needs its key")),
            (None, Some(_)) => {
                return Err(invalid("client_certificate", "a client key needs its certificate"));
            }
        };
        let minimum = match minimum_version {
            None => TlsVersion::default(),
            Some(text) => {
                TlsVersion::parse(text).ok_or_else(|| invalid("minimum_version", "choose 1.2 or 1.3"))?
            }
        };
        let fingerprint = fingerprint(&[ca_pem, cert_pem, key_pem, minimum_version]);
        Ok(Self { fingerprint, authorities, identity, minimum })
    }
}

impl fmt::Debug for TlsProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsProfile")
            .field("own_authorities", &self.authorities.as_ref().map_or(0, |own| own.named.len()))
            .field("client_certificate", &self.identity.is_some())
            .field("minimum", &self.minimum)
            .finish_non_exhaustive()
    }
}

fn invalid(field: &'static str, reason: impl Into<String>) -> InvalidTls {
    InvalidTls { field, reason: reason.into() }
}

fn authorities(pem: &str) -> Result<Authorities, InvalidTls> {
    const FIELD: &str = "ca_certificates";
    let mut roots = RootCertStore::empty();
    let named = certificates(FIELD, pem)?;
    for (at, certificate) in named.iter().enumerate() {
        let unusable = |_| invalid(FIELD, format!("certificate {} is not one of an authority", at + 1));
        roots.add(certificate.clone()).map_err(unusable)?;
    }
    Ok(Authorities { roots: Arc::new(roots), named: named.into() })
}

fn certificates(field: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, InvalidTls> {
    within_limit(field, pem)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.map_err(|error| malformed(field, &error))?;
    match found.len() {
        0 => Err(invalid(field, "there is no `-----BEGIN CERTIFICATE-----` in it")),
        1..=CERTIFICATES_LIMIT => Ok(found),
        _ => Err(invalid(field, format!("at most {CERTIFICATES_LIMIT} certificates"))),
    }
}

fn identity(certificate: &str, key: &str) -> Result<CertifiedKey, InvalidTls> {
    const FIELD: &str = "client_key";
    let chain = certificates("client_certificate", certificate)?;
    within_limit(FIELD, key)?;
    if key.contains("ENCRYPTED") {
        return Err(invalid(FIELD, "the key is encrypted: give it decrypted, it is stored sealed"));
    }
    let key = match PrivateKeyDer::from_pem_slice(key.as_bytes()) {
        Ok(key) => key,
        Err(PemError::NoItemsFound) => {
            return Err(invalid(FIELD, "there is no `-----BEGIN PRIVATE KEY-----` in it"));
        }
        Err(error) => return Err(malformed(FIELD, &error)),
    };
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => invalid(FIELD, "it is not the key of the client certificate"),
        rustls::Error::InvalidCertificate(_) => {
            invalid("client_certificate", "the first certificate can't be read")
        }
        _ => invalid(FIELD, "it is no RSA (2048 to 4096 bits), ECDSA (P-256, P-384) or Ed25519 key"),
    })
}

fn within_limit(field: &'static str, pem: &str) -> Result<(), InvalidTls> {
    if pem.len() > PEM_LIMIT {
        return Err(invalid(field, format!("at most {PEM_LIMIT} bytes")));
    }
    Ok(())
}

/// The library's own words may repeat what it read.
fn malformed(field: &'static str, error: &PemError) -> InvalidTls {
    let reason = match error {
        PemError::MissingSectionEnd { .. } => "a section has no `-----END …-----` line",
        PemError::IllegalSectionStart { .. } => "a section has a malformed `-----BEGIN …-----` line",
        _ => "it is not well-formed PEM",
    };
    invalid(field, reason)
}

fn fingerprint(parts: &[Option<&str>]) -> Fingerprint {
    let mut hash = Sha256::new();
    for part in parts {
        // With its length and whether it is there, so that no two lists read alike.
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        hash.update(length.to_be_bytes());
        hash.update(part.unwrap_or_default());
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests;
