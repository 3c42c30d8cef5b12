use rcgen::{CertificateParams, KeyPair};

use super::*;

/// A certificate and its key, both as PEM.
fn pair() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["client.example".to_owned()]).unwrap().self_signed(&key);
    (certificate.unwrap().pem(), key.serialize_pem())
}

fn refused(ca: Option<&str>, cert: Option<&str>, key: Option<&str>, version: Option<&str>) -> String {
    TlsProfile::parse(ca, cert, key, version).unwrap_err().to_string()
}

#[test]
fn what_is_well_formed_is_taken() {
    let (certificate, key) = pair();
    let profile = TlsProfile::parse(
        Some(&format!("Our authority\n{certificate}{certificate}")),
        Some(&certificate),
        Some(&key),
        Some("1.3"),
    )
    .unwrap();
    assert_eq!(profile.minimum, TlsVersion::Tls13);
    assert_eq!(
        format!("{profile:?}"),
        "TlsProfile { own_authorities: 2, client_certificate: true, minimum: Tls13, .. }"
    );
    let nothing = TlsProfile::parse(None, None, None, None).unwrap();
    assert!(nothing.authorities.is_none() && nothing.identity.is_none());
    assert_eq!(nothing.minimum, TlsVersion::Tls12);
}

#[test]
fn what_is_wrong_is_named() {
    let (certificate, key) = pair();
    let (_, other_key) = pair();
    let many = certificate.repeat(33);
    let huge = "x".repeat(PEM_LIMIT + 1);
    let cut = certificate.replace("-----END CERTIFICATE-----", "");
    let damaged = certificate.replacen("MII", "%%%", 1);
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let (cert, key) = (Some(certificate.as_str()), Some(key.as_str()));
    let no_certificate = "there is no `-----BEGIN CERTIFICATE-----` in it";
    for (refused, expected) in [
        (refused(Some(""), None, None, None), format!("ca_certificates: {no_certificate}")),
        (refused(key, None, None, None), format!("ca_certificates: {no_certificate}")),
        (refused(Some(&many), None, None, None), "ca_certificates: at most 32 certificates".to_owned()),
        (refused(Some(&huge), None, None, None), "ca_certificates: at most 65536 bytes".to_owned()),
        (
            refused(Some(&cut), None, None, None),
            "ca_certificates: a section has no `-----END …-----` line".to_owned(),
        ),
        (refused(Some(&damaged), None, None, None), "ca_certificates: it is not well-formed PEM".to_owned()),
        (refused(None, cert, None, None), "client_key: a client certificate needs its key".to_owned()),
        (refused(None, None, key, None), "client_certificate: a client key needs its certificate".to_owned()),
        (refused(None, key, key, None), format!("client_certificate: {no_certificate}")),
        (
            refused(None, cert, cert, None),
            "client_key: there is no `-----BEGIN PRIVATE KEY-----` in it".to_owned(),
        ),
        (
            refused(None, cert, Some(&other_key), None),
            "client_key: it is not the key of the client certificate".to_owned(),
        ),
        (
            refused(None, cert, Some(&encrypted), None),
            "client_key: the key is encrypted: give it decrypted, it is stored sealed".to_owned(),
        ),
        (refused(None, None, None, Some("1.1")), "minimum_version: choose 1.2 or 1.3".to_owned()),
    ] {
        assert_eq!(refused, expected);
    }
}

#[test]
fn der_that_is_no_certificate_is_refused() {
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(
        refused(Some(nonsense), None, None, None),
        "ca_certificates: certificate 1 is not one of an authority"
    );
    let (_, key) = pair();
    assert_eq!(
        refused(None, Some(nonsense), Some(&key), None),
        "client_certificate: the first certificate can't be read"
    );
}

#[test]
fn profiles_of_the_same_content_are_the_same() {
    let (certificate, _) = pair();
    let made = |ca, version| TlsProfile::parse(ca, None, None, version).unwrap().fingerprint;
    assert_eq!(made(Some(certificate.as_str()), None), made(Some(&certificate), None));
    let different =
        [made(None, None), made(None, Some("1.2")), made(None, Some("1.3")), made(Some(&certificate), None)];
    for (at, one) in different.iter().enumerate() {
        assert!(!different[at + 1..].contains(one));
    }
}
