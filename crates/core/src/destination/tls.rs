//! What a destination wants of TLS, as its owner has written it. Whether it can be used `egress` says: certificates are
//! no matter of this crate.

use serde::{Deserialize, Serialize};

use crate::secret::Secret;
use crate::secret::write_only::{always, nothing};

/// TLS with one destination. The private key is written and never read: serialised, it is not there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TlsSettings)]
pub struct TlsSettings {
    /// The certificate authorities that the destination's certificate may come from, as PEM; those of the system unless
    /// given. A certificate that has signed itself is its own authority: give the certificate itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "-----BEGIN CERTIFICATE-----\n…")]
    pub ca_certificates: Option<String>,
    /// The certificate that we show (mTLS), as PEM, with those between it and its authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<String>,
    /// Its private key as PEM, not encrypted. Never shown again.
    #[serde(skip_serializing_if = "always", serialize_with = "nothing")]
    #[schema(value_type = Option<String>, format = Password, write_only)]
    pub client_key: Option<Secret>,
    /// The oldest version of TLS, `1.2` (unless given) or `1.3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "1.3")]
    pub minimum_version: Option<String>,
}

impl TlsSettings {
    /// As they are sealed: what is shown, and the key.
    pub fn to_secret(&self) -> Secret {
        let mut document = serde_json::to_value(self).expect("texts serialise");
        if let Some(key) = &self.client_key {
            document["client_key"] = key.reveal().into();
        }
        Secret::new(document.to_string())
    }

    /// The inverse of [`TlsSettings::to_secret`]; the error holds nothing of it.
    pub fn from_secret(secret: &Secret) -> Result<Self, &'static str> {
        serde_json::from_str(secret.reveal()).map_err(|_| "not TLS settings as they are stored")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_sealed_and_never_shown() {
        let settings = TlsSettings {
            ca_certificates: Some("authorities".to_owned()),
            client_certificate: Some("certificate".to_owned()),
            client_key: Some(Secret::new("hush")),
            minimum_version: Some("1.3".to_owned()),
        };
        assert_eq!(TlsSettings::from_secret(&settings.to_secret()).unwrap(), settings);
        let shown = format!("{} {settings:?}", serde_json::to_string(&settings).unwrap());
        assert!(!shown.contains("hush"), "{shown}");
        assert!(!TlsSettings::from_secret(&Secret::new("{hush}")).unwrap_err().contains("hush"));
        assert_eq!(TlsSettings::from_secret(&Secret::new("{}")).unwrap(), TlsSettings::default());
    }
}
