//! What the operator runs by hand, or a deployment before the service.

pub mod audit;
pub mod bootstrap;
pub mod invite_owner;
pub mod migrate;
pub mod reconcile;
