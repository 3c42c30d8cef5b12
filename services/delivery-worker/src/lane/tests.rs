use proptest::prelude::*;
use ravenpost_core::delivery::Signal;
use ravenpost_core::limit::RateLimit;
use ravenpost_core::pacing::{Health, Limits};
use ravenpost_store::system::PaceSettings;
use uuid::Uuid;

use super::*;
use crate::gate::tests::{OPERATOR, at, pace};

fn event(number: u128) -> EventId {
    EventId(Uuid::from_u128(number))
}

fn events(numbers: impl IntoIterator<Item = u128>) -> Vec<EventId> {
    numbers.into_iter().map(event).collect()
}

fn lane_of(concurrency: u16, queue: usize, behind: bool) -> Lane {
    let limits = Limits { concurrency: Some(concurrency), rate: None };
    let settings = PaceSettings { limits, ..PaceSettings::default() };
    let pace = pace(settings, Health::default());
    Lane::new(Gate::new(OPERATOR, &pace, at(0)), pace.organization_id, queue, behind, at(0))
}

fn started(lane: &mut Lane) -> Vec<EventId> {
    std::iter::from_fn(|| lane.start_next(at(0))).collect()
}

#[test]
fn starts_queues_and_overflows_in_this_order() {
    let mut lane = lane_of(1, 2, false);
    assert_eq!(lane.room(at(0)), 3);
    let places: Vec<_> = (1..=4).map(|number| lane.arrive(event(number), at(0))).collect();
    assert_eq!(places, [true, true, true, false]);
    assert_eq!(started(&mut lane), events([1]));
    assert_eq!((lane.len(), lane.room(at(0))), (3, 0));
    lane.leave(at(0));
    assert_eq!(started(&mut lane), events([2]));
    assert_eq!(lane.fall_behind(), events([3]));
    lane.leave(at(0));
    assert!(lane.is_empty() && started(&mut lane).is_empty());
}

#[test]
fn what_arrives_queues_behind_what_is_due() {
    let mut lane = lane_of(9, 9, true);
    assert!(!lane.arrive(event(3), at(0)), "it goes into the schedule");
    lane.wait_for_record();
    assert!(lane.enter(event(1), at(0)), "a row enters");
    assert!(lane.catch_up(lane.is_clean()), "the row of the third one is not written yet");
    assert!(!lane.wants_rows(at(0)) && !lane.is_clean());
    assert!(lane.arrive(event(4), at(0)), "it waits in memory until that row has been found");
    lane.recorded();
    assert!(lane.wants_rows(at(0)) && lane.is_clean());
    assert!(lane.enter(event(3), at(0)));
    assert!(!lane.catch_up(true));
    assert!(lane.arrive(event(5), at(0)));
    assert_eq!(started(&mut lane), events([1, 3, 4, 5]));
}

#[test]
fn more_than_there_is_room_for_falls_behind_again() {
    let mut lane = lane_of(2, 2, true);
    lane.catch_up(false);
    let places: Vec<_> = (1..=3).map(|number| lane.arrive(event(number), at(0))).collect();
    assert_eq!(places, [true, true, false]);
    assert_eq!(lane.overflow(), events([1, 2]), "they come before the third one");
    assert!(!lane.arrive(event(4), at(0)));
}

#[test]
fn a_crowded_lane_holds_what_passes_in_a_second_until_it_has_caught_up() {
    let mut lane = lane_of(2, 2_000, false);
    assert!((0..1_000).all(|number| lane.arrive(event(number), at(0))));
    assert_eq!(started(&mut lane), events([0, 1]));
    assert!(lane.crowd() && !lane.crowd(), "it is news once");
    assert_eq!(lane.fall_behind().len(), 998);
    assert_eq!(lane.room(at(0)), 2, "as many as are under way");
    for _ in 0..2 {
        lane.leave(at(0));
    }
    for _ in 0..50 {
        lane.enter(event(1), at(0));
        assert!(lane.start_next(at(0)).is_some());
        lane.leave(at(0));
    }
    assert_eq!(lane.room(at(0)), 52, "as many as have passed");
    assert_eq!(lane.room(at(10_000)), 2, "it has become slow again");
    while lane.catch_up(lane.is_clean()) {}
    assert_eq!(lane.room(at(10_000)), 2_002);
}

#[test]
fn a_lane_that_is_met_with_a_backlog_takes_no_more_memory_than_it_has_use_for() {
    let mut lane = lane_of(2, 2_000, true);
    assert_eq!(lane.room(at(0)), 2, "nobody knows how slow it is");
    while lane.catch_up(lane.is_clean()) {}
    assert_eq!(lane.room(at(0)), 2_002);
}

#[test]
fn nothing_waits_in_memory_while_the_gate_is_shut() {
    let mut lane = lane_of(4, 8, false);
    assert!((1..=3).all(|number| lane.arrive(event(number), at(0))));
    lane.gate.hear(Signal::Slow { until: Some(at(1_000)) }, at(0));
    assert!(lane.is_shut(at(0)) && lane.start_next(at(0)).is_none());
    assert_eq!(lane.fall_behind(), events([1, 2, 3]));
    assert!(!lane.arrive(event(4), at(0)) && !lane.enter(event(1), at(0)));
    assert!(!lane.wants_rows(at(999)) && lane.wants_rows(at(1_000)));
    lane.catch_up(false);
    assert!(!lane.arrive(event(5), at(999)));
}

#[test]
fn one_probe_at_a_time_and_nothing_behind_it() {
    let mut lane = lane_of(4, 8, false);
    for _ in 0..3 {
        lane.gate.hear(Signal::Fails, at(0));
    }
    assert_eq!((lane.room(at(4_999)), lane.room(at(5_000))), (0, 1));
    assert!(lane.enter(event(1), at(5_000)) && !lane.enter(event(2), at(5_000)));
    assert_eq!(lane.start_next(at(5_000)), Some(event(1)));
    assert!(!lane.enter(event(2), at(5_000)));
    lane.leave(at(5_000));
    lane.gate.hear(Signal::Accepts, at(5_000));
    // Two at once, as it has accepted one, and what may wait.
    assert_eq!(lane.room(at(5_000)), 2 + 8);
}

#[test]
fn a_lane_that_waits_for_its_rate_says_when_it_is_to_be_looked_at() {
    let rate = RateLimit { per_second: 2, burst: 1 };
    let limits = Limits { concurrency: None, rate: Some(rate) };
    let pace = pace(PaceSettings { limits, ..PaceSettings::default() }, Health::default());
    let mut lane = Lane::new(Gate::new(OPERATOR, &pace, at(0)), pace.organization_id, 8, false, at(0));
    assert_eq!(lane.room(at(0)), 1, "what passes in half a second");
    assert!(lane.arrive(event(1), at(0)));
    assert_eq!(started(&mut lane), events([1]));
    assert!(lane.arrive(event(2), at(0)) && !lane.arrive(event(3), at(0)));
    assert!(started(&mut lane).is_empty());
    let wake = lane.wake(at(0)).unwrap();
    assert!(wake > at(500) && wake < at(501));
    assert_eq!(lane.wake(at(1)), None, "that is known");
    assert_eq!(lane.start_next(wake), Some(event(2)));
    assert_eq!(lane.wake(wake), None, "nothing waits");
}

#[test]
fn rows_are_read_on_from_the_last_one_unless_some_have_come_before_it() {
    let mut lane = lane_of(4, 8, true);
    let row = |due: i64, number| Some((at(due), event(number)));
    assert_eq!(lane.begin_reading(99, at(100)), (None, 4 + 1), "as many as may be under way");
    assert!(lane.end_reading(row(50, 1)));
    assert_eq!(lane.begin_reading(99, at(200)).0, row(50, 1));
    lane.expect(at(201));
    assert!(lane.end_reading(row(150, 2)), "what is due only later was not looked for");
    lane.begin_reading(99, at(300));
    lane.expect(at(260));
    assert!(!lane.end_reading(row(250, 3)), "it was not seen");
    assert_eq!(lane.begin_reading(99, at(300)).0, row(250, 3), "but it is ahead");
    lane.expect(at(240));
    assert!(!lane.end_reading(row(290, 4)));
    lane.know();
    assert_eq!(lane.begin_reading(99, at(300)), (None, 4 + 1 + 1), "what is known is read past");
    assert!(lane.end_reading(row(290, 4)));
    lane.read_again();
    assert_eq!(lane.begin_reading(5, at(300)), (None, 5 + 1), "some were left where they are");
    assert!(lane.end_reading(row(290, 4)));
    lane.expect_unless_known(at(10), at(30_299));
    assert_eq!(lane.begin_reading(99, at(30_299)).0, row(290, 4), "it is known, as far as one can tell");
    lane.expect_unless_known(at(10), at(30_300));
    lane.end_reading(None);
    assert_eq!(lane.begin_reading(99, at(30_300)).0, None, "but from time to time one looks");
}

#[test]
fn a_full_lane_is_fed_when_half_of_it_is_empty() {
    let mut lane = lane_of(2, 2, true);
    assert!((1..=4).all(|number| lane.enter(event(number), at(0))));
    assert_eq!(lane.starve(at(0)), None, "the end of another one tells");
    assert_eq!(started(&mut lane).len(), 2);
    lane.leave(at(0));
    assert!(!lane.is_fed(at(0)));
    lane.leave(at(0));
    assert!(lane.is_fed(at(0)) && !lane.is_fed(at(0)));
    lane.gate.hear(Signal::Slow { until: Some(at(1_000)) }, at(0));
    assert_eq!(lane.starve(at(0)), Some(at(1_000)), "its gate opens then");
}

#[test]
fn a_lane_is_forgotten_when_nothing_is_in_it() {
    let is_idle = |lane: Lane, now| lane.is_idle(TimeDelta::seconds(1), at(now));
    assert!(is_idle(lane_of(1, 1, false), 1_001) && !is_idle(lane_of(1, 1, false), 1_000));
    assert!(!is_idle(lane_of(1, 1, true), 1_001), "something is due");
    let mut lane = lane_of(1, 1, false);
    lane.wait_for_record();
    assert!(!is_idle(lane, 1_001), "something is being written");
}

/// A lane with a schedule beside it, as its owner moves them: rows are written a while after they were put there.
struct World {
    lane: Lane,
    next: u128,
    /// Written, oldest first, not under way.
    rows: VecDeque<EventId>,
    /// On their way.
    unwritten: VecDeque<EventId>,
    started: Vec<EventId>,
    /// A look into the schedule that has not come back: whether it was clean, and what it has seen.
    look: Option<(bool, Vec<EventId>, bool)>,
}

impl World {
    fn schedule(&mut self, events: Vec<EventId>) {
        for event in events {
            self.lane.wait_for_record();
            self.unwritten.push_back(event);
        }
    }

    fn step(&mut self, step: u8) {
        match step {
            0 | 1 => {
                let new = event(self.next);
                self.next += 1;
                if !self.lane.arrive(new, at(0)) {
                    let later = self.lane.overflow();
                    self.schedule(later);
                    self.schedule(vec![new]);
                }
            }
            2 => {
                for row in std::mem::take(&mut self.unwritten) {
                    self.rows.push_back(row);
                    self.lane.recorded();
                }
            }
            3 if self.look.is_none() && self.lane.wants_rows(at(0)) => {
                let most = self.lane.room(at(0));
                let seen: Vec<_> = self.rows.iter().take(most).copied().collect();
                self.look = Some((self.lane.is_clean(), seen, self.rows.len() <= most));
            }
            4 => {
                let Some((clean, seen, all)) = self.look.take() else { return };
                let entered = seen.iter().all(|row| {
                    let enters = self.lane.enter(*row, at(0));
                    if enters {
                        self.rows.retain(|other| other != row);
                    }
                    enters
                });
                if entered && all {
                    self.lane.catch_up(clean);
                } else {
                    let later = self.lane.overflow();
                    self.schedule(later);
                }
            }
            5 => {
                if !self.lane.is_empty() && self.lane.running > 0 {
                    self.lane.leave(at(0));
                }
            }
            _ => self.started.extend(self.lane.start_next(at(0))),
        }
    }
}

proptest! {
    /// However rows, messages and answers interleave: what arrived first starts first, nothing is lost, nothing starts
    /// twice, and the lane comes back to memory.
    #[test]
    fn events_keep_their_order(steps in prop::collection::vec(0_u8..8, 0..400)) {
        let lane = lane_of(2, 3, false);
        let mut world = World {
            lane,
            next: 0,
            rows: VecDeque::new(),
            unwritten: VecDeque::new(),
            started: Vec::new(),
            look: None,
        };
        for step in steps {
            world.step(step);
        }
        for _ in 0..1_000 {
            for step in [2, 3, 4, 6, 5] {
                world.step(step);
            }
        }
        prop_assert_eq!(&world.started, &events(0..world.next));
        prop_assert_eq!(world.lane.backlog, Backlog::None);
    }
}
