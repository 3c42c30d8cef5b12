//! Whether a peer has died, judged by one's own monotonic clock (PROTOCOLS I4).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ravenpost_core::ids::InstanceId;
use ravenpost_store::system::Peer;

/// What one process has seen of its peers.
pub(super) struct Peers {
    /// A heartbeat that stands for so long has stopped.
    adopt_after: Duration,
    seen: HashMap<InstanceId, Seen>,
    looked: Option<Instant>,
}

struct Seen {
    heartbeat: i64,
    since: Instant,
}

/// What a look at the peers tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// How many of them commit.
    pub(super) alive: u32,
    /// Those that nobody looks after any more.
    pub(super) left: Vec<Peer>,
}

impl Peers {
    pub(super) fn new(adopt_after: Duration) -> Self {
        Self { adopt_after, seen: HashMap::new(), looked: None }
    }

    /// Looks at the peers as they were after `asked` and before `now`, right after one's own heartbeat was written. A look
    /// that comes late starts all over: whoever could not beat itself, or was stopped, can't judge others.
    pub(super) fn look(&mut self, peers: &[Peer], asked: Instant, now: Instant) -> Look {
        let late = self.looked.is_some_and(|looked| now.duration_since(looked) > self.adopt_after / 2);
        if late {
            self.seen.clear();
        }
        self.looked = Some(now);
        self.seen.retain(|id, _| peers.iter().any(|peer| peer.id == *id));
        let mut look = Look::default();
        for peer in peers {
            let seen = self.seen.entry(peer.id).or_insert(Seen { heartbeat: peer.heartbeat, since: now });
            if seen.heartbeat != peer.heartbeat {
                *seen = Seen { heartbeat: peer.heartbeat, since: now };
            }
            let stands = asked.saturating_duration_since(seen.since);
            // What was left behind on purpose: the first who takes it moves its heartbeat.
            let waits = peer.adopted && peer.heartbeat == 0;
            if waits || stands >= self.adopt_after {
                look.left.push(*peer);
            } else if !peer.adopted {
                look.alive += 1;
            }
        }
        look
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(10);

    fn peer(heartbeat: i64, adopted: bool) -> Peer {
        let id = "0199e5a0-0000-7000-8000-000000000001".parse().unwrap();
        Peer { id, heartbeat, adopted }
    }

    /// Looks once a second; gives the second in which the peer counts as left, if ever.
    fn left_after(heartbeats: impl Fn(u64) -> Option<i64>, seconds: u64, adopted: bool) -> Option<u64> {
        let (mut peers, start) = (Peers::new(AFTER), Instant::now());
        (0..seconds).find(|second| {
            let Some(heartbeat) = heartbeats(*second) else { return false };
            let now = start + Duration::from_secs(*second);
            let look = peers.look(&[peer(heartbeat, adopted)], now, now);
            !look.left.is_empty()
        })
    }

    #[test]
    fn a_heartbeat_that_stands_has_stopped() {
        assert_eq!(left_after(|_| Some(7), 60, false), Some(10));
        assert_eq!(left_after(|second| Some(i64::try_from(second / 9).unwrap()), 60, false), None);
    }

    #[test]
    fn who_could_not_look_does_not_judge() {
        // Postgres is away from second 3 to 20: nobody beats, nobody looks.
        let away = |second| (!(3..20).contains(&second)).then_some(7);
        assert_eq!(left_after(away, 60, false), Some(30));
    }

    #[test]
    fn what_was_left_behind_is_taken_at_once() {
        assert_eq!(left_after(|_| Some(0), 60, true), Some(0));
        assert_eq!(left_after(|_| Some(4), 60, true), Some(10), "somebody had taken it, and has died");
    }

    #[test]
    fn who_commits_is_counted() {
        let mut peers = Peers::new(AFTER);
        let now = Instant::now();
        assert_eq!(peers.look(&[peer(1, false)], now, now).alive, 1);
        assert_eq!(peers.look(&[peer(2, true)], now, now).alive, 0);
    }
}
