//! Whether this process may be given work: named checks that others set and `/readyz` reads.
//!
//! Reading never asks a store, so a probe can't hang and can't add load; who notices first (a background probe or
//! the hot path itself) sets the check.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// All checks of a process. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Health {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    stopping: AtomicBool,
    checks: Mutex<BTreeMap<&'static str, Check>>,
}

/// One named condition of readiness. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Check {
    state: Arc<CheckState>,
}

#[derive(Debug)]
struct CheckState {
    name: &'static str,
    // Set apart from the message so that `ok` on a hot path takes no lock.
    passing: AtomicBool,
    error: Mutex<String>,
}

/// What `/readyz` answers.
#[derive(Debug, Serialize)]
pub struct Report {
    /// All checks pass and the process is not stopping.
    pub ready: bool,
    /// Stage one of the shutdown has begun.
    pub stopping: bool,
    /// Each check by name.
    pub checks: BTreeMap<&'static str, CheckReport>,
}

/// One check in a [`Report`].
#[derive(Debug, Serialize)]
pub struct CheckReport {
    /// It passes.
    pub ok: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Health {
    /// A check that fails until somebody says otherwise; the same name gives the same check.
    pub fn register(&self, name: &'static str) -> Check {
        lock(&self.shared.checks).entry(name).or_insert_with(|| Check::new(name)).clone()
    }

    /// Every check passes and the process is not stopping.
    pub fn is_ready(&self) -> bool {
        !self.shared.stopping.load(Ordering::Acquire) && lock(&self.shared.checks).values().all(Check::is_ok)
    }

    /// The state of every check.
    pub fn report(&self) -> Report {
        let stopping = self.shared.stopping.load(Ordering::Acquire);
        let checks: BTreeMap<_, _> =
            lock(&self.shared.checks).iter().map(|(name, check)| (*name, check.report())).collect();
        Report { ready: !stopping && checks.values().all(|check| check.ok), stopping, checks }
    }

    /// From now on the process is not ready, whatever its checks say.
    pub(crate) fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
    }
}

impl Check {
    fn new(name: &'static str) -> Self {
        let error = Mutex::new("not checked yet".to_owned());
        Self { state: Arc::new(CheckState { name, passing: AtomicBool::new(false), error }) }
    }

    /// It passes. Costs one atomic read while it did so before.
    pub fn ok(&self) {
        if !self.is_ok() {
            self.state.passing.store(true, Ordering::Release);
            tracing::info!(check = self.state.name, "check passes");
        }
    }

    /// It fails, and why. Logged when it passed before or fails for another reason.
    pub fn fail(&self, message: impl Into<String>) {
        let message = message.into();
        let mut error = lock(&self.state.error);
        if self.state.passing.swap(false, Ordering::AcqRel) || *error != message {
            tracing::warn!(check = self.state.name, error = %message, "check fails");
            *error = message;
        }
    }

    /// Whether it passes.
    pub fn is_ok(&self) -> bool {
        self.state.passing.load(Ordering::Acquire)
    }

    fn report(&self) -> CheckReport {
        let ok = self.is_ok();
        CheckReport { ok, error: (!ok).then(|| lock(&self.state.error).clone()) }
    }
}

/// A panic elsewhere can't leave these values half written, so a poisoned lock is taken all the same.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_all_checks_and_not_stopping() {
        let health = Health::default();
        assert!(health.is_ready());
        let postgres = health.register("postgres");
        health.register("s3").ok();
        assert!(!health.is_ready());
        postgres.ok();
        assert!(health.is_ready());
        postgres.fail("connection refused");
        insta::assert_snapshot!(
            serde_json::to_string(&health.report()).unwrap(),
            @r#"{"ready":false,"stopping":false,"checks":{"postgres":{"ok":false,"error":"connection refused"},"s3":{"ok":true}}}"#
        );
        health.register("postgres").ok();
        assert!(health.report().ready);
        health.stop();
        assert!(!health.is_ready());
    }
}
