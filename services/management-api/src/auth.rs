//! Who is asking, and whether they may: from `Authorization` to a [`Caller`] with a right.

mod api_key;
mod caller;

pub use api_key::Keys;
pub use caller::{
    AlertsRead, AlertsWrite, Caller, EndpointsRead, EndpointsWrite, EventsRead, EventsReplay, Right,
};
