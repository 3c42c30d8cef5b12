//! Bulk replay as a durable job (PROTOCOLS D5), as both doors need it: a customer makes and steers one, the system
//! works on it.
//!
//! A job has one row for each destination that it replays to. That row holds how far it is, and its lock is the claim:
//! one transaction locks it, looks at the next page of events, schedules what matches and moves the row on. So a pair is
//! scheduled once in a job, whoever works on it and whenever they die.

pub(crate) mod candidates;
pub(crate) mod create;
pub(crate) mod step;
pub(crate) mod withdraw;

/// What stays unsent of a job, for each destination, before it schedules more: the schedule is not flooded.
pub(crate) const MOST_WAITING: i64 = 10_000;
