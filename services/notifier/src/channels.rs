//! The ways to people.

mod email;

pub use email::{Email, EmailError, Mail, SmtpSettings, of_alert};
