//! The ways to people.

mod email;

pub use email::{Email, SmtpSettings};
