//! An OpenID Connect issuer of a test's own: a discovery document, a key set and tokens, right ones and wrong ones. The
//! real Keycloak logs in in the end-to-end tests.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ravenpost_chassis::clock;
use ravenpost_chassis::random::bytes as random;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use uuid::Uuid;

pub(crate) const AUDIENCE: &str = "ravenpost-api";

/// A running issuer.
#[derive(Clone)]
pub(crate) struct Issuer {
    pub(crate) url: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// The last one signs.
    keys: Mutex<Vec<Arc<Key>>>,
    /// How often the key set was asked for.
    asked: AtomicUsize,
    away: AtomicBool,
}

/// A key pair and its id.
pub(crate) struct Key {
    pub(crate) id: String,
    pair: EcdsaKeyPair,
}

impl Key {
    pub(crate) fn new() -> Arc<Self> {
        let (algorithm, rng) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &rng).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &rng).unwrap();
        Arc::new(Self { id: Uuid::from_bytes(random()).to_string(), pair })
    }

    /// The public half (RFC 7517).
    pub(crate) fn public(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let encoded = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
        json!({ "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id,
            "x": encoded(&point[1..33]), "y": encoded(&point[33..]) })
    }

    /// Signs whatever is given.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    pub(crate) fn header(&self) -> Value {
        json!({ "alg": "ES256", "typ": "JWT", "kid": self.id })
    }
}

/// What is signed of a token.
pub(crate) fn message(header: &Value, claims: &Value) -> String {
    let encoded = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    format!("{}.{}", encoded(header), encoded(claims))
}

impl Issuer {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/realms/test", listener.local_addr().unwrap());
        let state = Arc::new(State::default());
        state.keys.lock().unwrap().push(Key::new());
        let issuer = Self { url: url.clone(), state };
        let (discovery, keys) = (issuer.clone(), issuer.clone());
        let routes = Router::new()
            .route("/realms/test/.well-known/openid-configuration", get(async move || discovery.discovery()))
            .route("/realms/test/keys", get(async move || keys.key_set()));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        issuer
    }

    fn discovery(&self) -> Result<String, StatusCode> {
        self.answer(&json!({ "issuer": self.url, "jwks_uri": format!("{}/keys", self.url) }))
    }

    fn key_set(&self) -> Result<String, StatusCode> {
        self.state.asked.fetch_add(1, Ordering::SeqCst);
        // A key of tomorrow hides none of today's.
        let mut keys = vec![json!({ "kty": "AKP", "kid": "of tomorrow" })];
        keys.extend(self.state.keys.lock().unwrap().iter().map(|key| key.public()));
        self.answer(&json!({ "keys": keys }))
    }

    fn answer(&self, body: &Value) -> Result<String, StatusCode> {
        if self.state.away.load(Ordering::SeqCst) {
            Err(StatusCode::BAD_GATEWAY)
        } else {
            Ok(body.to_string())
        }
    }

    /// From now on it can't be asked, or can again.
    pub(crate) fn away(&self, away: bool) {
        self.state.away.store(away, Ordering::SeqCst);
    }

    /// How often the key set was asked for.
    pub(crate) fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }

    /// Signs with a new key from now on, beside the former ones or instead of them.
    pub(crate) fn rotate(&self, beside: bool) {
        let mut keys = self.state.keys.lock().unwrap();
        if !beside {
            keys.clear();
        }
        keys.push(Key::new());
    }

    /// The key that signs.
    pub(crate) fn key(&self) -> Arc<Key> {
        Arc::clone(self.state.keys.lock().unwrap().last().unwrap())
    }

    /// What a right token says of a person with this subject; the address is `<subject>@example.com`.
    pub(crate) fn claims(&self, subject: &str) -> Value {
        let now = clock::now().timestamp();
        json!({ "iss": self.url, "aud": ["account", AUDIENCE], "sub": subject, "iat": now, "exp": now + 300,
            "email": format!("{subject}@example.com"), "email_verified": true, "name": subject })
    }

    /// A right token of that person.
    pub(crate) fn token(&self, subject: &str) -> String {
        self.token_with(&self.claims(subject))
    }

    /// These claims, rightly signed.
    pub(crate) fn token_with(&self, claims: &Value) -> String {
        let key = self.key();
        key.sign(&key.header(), claims)
    }
}
