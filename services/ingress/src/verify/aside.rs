//! Where work is done that takes a thread for a while, so that those who serve everybody else stay free.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Runs work on threads of its own, as much at once as there are cores. What waits for its turn is bounded by the memory
/// budget: each piece holds its body.
pub struct Aside(Arc<Semaphore>);

impl Default for Aside {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from))))
    }
}

impl Aside {
    /// Does the work and gives its result. Who stops waiting for it does not stop it: its turn ends when it does.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let turn = Arc::clone(&self.0).acquire_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        done.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn on_another_thread_one_for_each_core_at_once() {
        let aside = Aside::default();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(std::sync::Mutex::new(held));
        let cores = aside.0.available_permits();
        let mut tasks = Vec::new();
        for _ in 0..cores {
            let held = Arc::clone(&held);
            let mut task = Box::pin(aside.run(move || {
                let _ = held.lock().map(|held| held.recv());
                thread::current().id()
            }));
            assert!(futures::poll!(&mut task).is_pending());
            tasks.push(task);
        }
        assert_eq!(aside.0.available_permits(), 0);
        // Whoever stops waiting frees no turn.
        drop(tasks.pop());
        assert_eq!(aside.0.available_permits(), 0);
        for _ in 0..cores {
            release.send(()).unwrap();
        }
        for task in tasks {
            assert_ne!(task.await, thread::current().id());
        }
        assert_ne!(aside.run(|| thread::current().id()).await, thread::current().id());
    }
}
