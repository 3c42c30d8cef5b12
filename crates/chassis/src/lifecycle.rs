//! How a process lives and ends.
//!
//! ```text
//! running ──signal, or a task that ends──▶ unready ──delay──▶ stopping (take nothing new, finish)
//!                                                                 ├── all tasks done ──▶ exit
//!                                                                 ├── grace is over ──▶ cut ──▶ exit 1
//!                                                                 └── second signal ──▶ exit 1 at once
//! ```
//!
//! A service hangs its tasks on the [`Context`]. Order among them at the end comes from ownership, not from here: a
//! task that serves others ends when their channels close, so it outlives them by itself.

mod context;
mod signals;
mod supervisor;

pub use context::Context;
pub(crate) use context::STARTED;
pub(crate) use signals::signals;
pub(crate) use supervisor::{Outcome, Supervisor};

#[cfg(test)]
mod tests;
