//! TLS with destinations.

mod profile;

pub use profile::{InvalidTls, TlsProfile, TlsVersion};
