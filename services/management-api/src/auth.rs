//! Who is asking, and whether they may: from `Authorization` to a [`Caller`] with a right.

mod api_key;
mod caller;
mod identity;

pub use api_key::Keys;
pub use caller::{
    AlertsRead, AlertsWrite, AuditRead, Caller, EndpointsRead, EndpointsWrite, EventsRead, EventsReplay,
    Right,
};
pub(crate) use identity::Identity;
