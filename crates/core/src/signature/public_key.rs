//! Signatures by a private key. The primitives are ring's, the reading of keys and certificates is webpki's: both are
//! in every binary for TLS already (docs/decisions/0012).

use base64::Engine as _;
use ring::signature::{ED25519, RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm,
    SubjectPublicKeyInfoDer, alg_id,
};
use webpki::ring::{ECDSA_P256_SHA256, RSA_PKCS1_2048_8192_SHA256};
use webpki::{EndEntityCert, RawPublicKeyEntity};

use super::encoding::LENIENT;

/// A signature scheme with two keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublicKey {
    /// Ed25519 (RFC 8032); the key is its 32 bytes.
    Ed25519,
    /// ECDSA on P-256 with SHA-256, the signature in ASN.1; the key is a SubjectPublicKeyInfo.
    EcdsaP256Sha256,
    /// RSA PKCS#1 v1.5 with SHA-256; the key is a SubjectPublicKeyInfo.
    RsaSha256,
    /// RSA PKCS#1 v1.5 with SHA-1, for providers that have nothing better; the key is a SubjectPublicKeyInfo.
    RsaSha1,
}

/// Whether `signature` over `message` was made by the private half of `key`. A key that does not read signs nothing.
pub(super) fn verify(kind: PublicKey, key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let algorithm: &dyn SignatureVerificationAlgorithm = match kind {
        PublicKey::Ed25519 => {
            return UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok();
        }
        PublicKey::EcdsaP256Sha256 => ECDSA_P256_SHA256,
        PublicKey::RsaSha256 => RSA_PKCS1_2048_8192_SHA256,
        PublicKey::RsaSha1 => &RsaSha1,
    };
    let spki = SubjectPublicKeyInfoDer::from(key);
    RawPublicKeyEntity::try_from(&spki)
        .is_ok_and(|key| key.verify_signature(algorithm, message, signature).is_ok())
}

/// Whether bytes are a public key of this kind.
pub(super) fn is_key(kind: PublicKey, key: &[u8]) -> bool {
    match kind {
        PublicKey::Ed25519 => key.len() == 32,
        PublicKey::EcdsaP256Sha256 | PublicKey::RsaSha256 | PublicKey::RsaSha1 => {
            RawPublicKeyEntity::try_from(&SubjectPublicKeyInfoDer::from(key)).is_ok()
        }
    }
}

/// The DER of a SubjectPublicKeyInfo in base64 or PEM.
pub(super) fn der(key: &str) -> Option<Vec<u8>> {
    if key.contains("-----BEGIN") {
        return SubjectPublicKeyInfoDer::from_pem_slice(key.as_bytes()).ok().map(|der| der.to_vec());
    }
    LENIENT.decode(key.trim()).ok()
}

/// Hashes under an RSA signature by a certificate's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CertificateHash {
    Sha1,
    Sha256,
}

/// Whether `signature` (RSA PKCS#1 v1.5) was made by the key of the first certificate in `pem`; `None` when there is no
/// certificate that reads.
pub(super) fn verify_by_certificate(
    pem: &[u8],
    hash: CertificateHash,
    message: &[u8],
    signature: &[u8],
) -> Option<bool> {
    let certificate = CertificateDer::from_pem_slice(pem).ok()?;
    let certificate = EndEntityCert::try_from(&certificate).ok()?;
    let algorithm: &dyn SignatureVerificationAlgorithm = match hash {
        CertificateHash::Sha1 => &RsaSha1,
        CertificateHash::Sha256 => RSA_PKCS1_2048_8192_SHA256,
    };
    Some(certificate.verify_signature(algorithm, message, signature).is_ok())
}

/// RSA with SHA-1, which webpki leaves out for certificates: what AWS SNS signs with under `SignatureVersion` 1.
#[derive(Debug)]
struct RsaSha1;

impl SignatureVerificationAlgorithm for RsaSha1 {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, key)
            .verify(message, signature)
            .map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::RSA_ENCRYPTION
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        // sha1WithRSAEncryption (RFC 3279, section 2.2.1): 1.2.840.113549.1.1.5, parameters NULL.
        AlgorithmIdentifier::from_slice(&[
            0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05, 0x05, 0x00,
        ])
    }
}
