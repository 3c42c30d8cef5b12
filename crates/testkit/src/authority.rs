//! A certificate authority that nobody else knows, for receivers that speak TLS and want certificates.

use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};

/// A certificate and its private key, as PEM.
#[derive(Clone)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new one. Its name shows up in certificates.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Its certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for names, or addresses.
    pub fn issue(&self, names: &[&str]) -> Result<Identity> {
        self.sign(&params(names)?)
    }

    /// A certificate as [`Authority::issue`] gives, whose time is long over.
    pub fn issue_expired(&self, names: &[&str]) -> Result<Identity> {
        let mut params = params(names)?;
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.0)?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// A server on the loopback address with these versions of TLS. It serves only those who show a certificate of
    /// `clients`, where that is given.
    pub fn server(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        clients: Option<&Self>,
    ) -> Result<Arc<ServerConfig>> {
        self.issue(&["127.0.0.1", "localhost"])?.server(versions, clients)
    }
}

impl Identity {
    /// A certificate that no authority has signed but its own key, for names or addresses. As those of
    /// `openssl req -x509` it says that it is an authority's.
    pub fn self_signed(names: &[&str]) -> Result<Self> {
        let (key, mut params) = (KeyPair::generate()?, params(names)?);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key)?;
        Ok(Self { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// A server that shows this certificate, as [`Authority::server`] else.
    pub fn server(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        clients: Option<&Authority>,
    ) -> Result<Arc<ServerConfig>> {
        let chain = vec![CertificateDer::from_pem_slice(self.certificate.as_bytes())?];
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .context("the versions of TLS")?;
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients.0.der().clone())?;
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build()?)
            }
        };
        Ok(Arc::new(builder.with_single_cert(chain, key)?))
    }
}

fn params(names: &[&str]) -> Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    Ok(CertificateParams::new(names)?)
}
