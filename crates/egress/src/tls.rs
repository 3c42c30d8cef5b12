//! TLS with destinations: rustls with ring, chosen here and not by a process-wide default.

mod named;
mod profile;

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use rustls::crypto::{CryptoProvider, ring};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};

use named::Named;
pub(crate) use named::is_an_authoritys;
use profile::Authorities;
pub(crate) use profile::Fingerprint;
pub use profile::{InvalidTls, TlsProfile, TlsVersion};

/// Configurations of destinations that have their own, and how long one is kept that nobody uses. Making one anew
/// costs little; what is lost is the resumption of sessions.
const OWN: u64 = 1_024;
const UNUSED: Duration = Duration::from_mins(10);

const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
const NEWEST: &[&SupportedProtocolVersion] = &[&version::TLS13];

/// Configurations of TLS, by profile.
pub(crate) struct Tls {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    ordinary: Arc<ClientConfig>,
    own: Cache<Fingerprint, Arc<ClientConfig>>,
}

impl Tls {
    /// Trusts the system's root certificates; `None` when there are none.
    pub(crate) fn new() -> Option<Result<Self, rustls::Error>> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "some root certificates can't be read");
        }
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return None;
        }
        Some(Self::trusting(roots))
    }

    /// Trusts these.
    pub(crate) fn trusting(roots: RootCertStore) -> Result<Self, rustls::Error> {
        let (provider, roots) = (Arc::new(ring::default_provider()), Arc::new(roots));
        let ordinary = configuration(&provider, &roots, None)?;
        let own = Cache::builder().max_capacity(OWN).time_to_idle(UNUSED).build();
        Ok(Self { provider, roots, ordinary, own })
    }

    /// The configuration for a destination.
    pub(crate) fn of(&self, profile: Option<&TlsProfile>) -> Result<Arc<ClientConfig>, rustls::Error> {
        let Some(profile) = profile else { return Ok(Arc::clone(&self.ordinary)) };
        if let Some(config) = self.own.get(&profile.fingerprint) {
            return Ok(config);
        }
        let config = configuration(&self.provider, &self.roots, Some(profile))?;
        self.own.insert(profile.fingerprint, Arc::clone(&config));
        Ok(config)
    }
}

fn configuration(
    provider: &Arc<CryptoProvider>,
    system: &Arc<RootCertStore>,
    profile: Option<&TlsProfile>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let versions = match profile.map(|profile| profile.minimum) {
        Some(TlsVersion::Tls13) => NEWEST,
        Some(TlsVersion::Tls12) | None => BOTH,
    };
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(provider)).with_protocol_versions(versions)?;
    let builder = match profile.and_then(|profile| profile.authorities.as_ref()) {
        None => builder.with_root_certificates(Arc::clone(system)),
        Some(Authorities { roots, named }) => {
            let verifier = Named::new(Arc::clone(roots), Arc::clone(named), Arc::clone(provider))?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    let mut config = match profile.and_then(|profile| profile.identity.as_ref()) {
        Some(identity) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(identity))))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
