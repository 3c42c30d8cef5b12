//! Signatures of access tokens by ring, as everything else here. Only what has a public key: there is no HMAC, so that no
//! token can make a secret of one.

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, new_error};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use ring::signature::{self as by_ring, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm};
use signature::Verifier;

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(new_error(ErrorKind::UnsupportedAlgorithm)),
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Has tokens of this process verified by ring. May be called again.
pub(super) fn install() {
    // An error means that it is installed already: nothing else here installs one.
    let _ = PROVIDER.install_default();
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the library's signature")]
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    let asymmetric = key.family() != AlgorithmFamily::Hmac && key.family().algorithms().contains(algorithm);
    if asymmetric && (rsa(*algorithm).is_some() || other(*algorithm).is_some()) {
        return Ok(Box::new(ByRing { algorithm: *algorithm, key: key.clone() }));
    }
    Err(new_error(ErrorKind::InvalidAlgorithm))
}

/// A public key and how it is used.
struct ByRing {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl Verifier<Vec<u8>> for ByRing {
    fn verify(&self, message: &[u8], proof: &Vec<u8>) -> Result<(), signature::Error> {
        let verified = match self.key.kind() {
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                let parameters = rsa(self.algorithm).ok_or_else(signature::Error::new)?;
                RsaPublicKeyComponents { n, e }.verify(parameters, message, proof)
            }
            DecodingKeyKind::SecretOrDer(bytes) => {
                let algorithm = other(self.algorithm).ok_or_else(signature::Error::new)?;
                by_ring::UnparsedPublicKey::new(algorithm, bytes).verify(message, proof)
            }
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for ByRing {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

/// RSA of at least 2048 bits (RFC 7518, sections 3.3 and 3.5).
fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::RS256 => &by_ring::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::RS384 => &by_ring::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &by_ring::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::PS256 => &by_ring::RSA_PSS_2048_8192_SHA256,
        Algorithm::PS384 => &by_ring::RSA_PSS_2048_8192_SHA384,
        Algorithm::PS512 => &by_ring::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

/// Elliptic curves (RFC 7518, section 3.4; RFC 8037, section 3.1).
fn other(algorithm: Algorithm) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match algorithm {
        Algorithm::ES256 => &by_ring::ECDSA_P256_SHA256_FIXED,
        Algorithm::ES384 => &by_ring::ECDSA_P384_SHA384_FIXED,
        Algorithm::EdDSA => &by_ring::ED25519,
        _ => return None,
    })
}
