use proptest::prelude::*;

use super::*;

const LIMIT: RateLimit = RateLimit { per_second: 10, burst: 20 };

fn meter(limits: &[(Scope, RateLimit, &Shared)], replicas: u32) -> Meter {
    let mut meter = Meter::default();
    for (scope, limit, bucket) in limits {
        meter.add(*scope, *limit, replicas, Arc::clone(bucket));
    }
    meter
}

fn taken(meter: &Meter, now: Instant) -> u32 {
    let mut taken = 0;
    while meter.take(now).is_ok() {
        taken += 1;
    }
    taken
}

fn after(start: Instant, milliseconds: u64) -> Instant {
    start + Duration::from_millis(milliseconds)
}

#[test]
fn a_burst_then_the_rate() {
    let (bucket, start) = (Arc::default(), Instant::now());
    let meter = meter(&[(Scope::Endpoint, LIMIT, &bucket)], 1);
    assert_eq!(taken(&meter, start), 20);
    let exceeded = meter.check(start).unwrap_err();
    assert_eq!((exceeded.scope, exceeded.wait.as_millis()), (Scope::Endpoint, 100));
    assert_eq!(
        meter.take(after(start, 99)),
        Err(Exceeded { wait: exceeded.wait.saturating_sub(Duration::from_millis(99)), ..exceeded })
    );
    assert_eq!(taken(&meter, start + exceeded.wait), 1, "who comes when told so is accepted");
    assert_eq!(taken(&meter, after(start, 1_150)), 10);
    assert_eq!(taken(&meter, after(start, 60_000)), 20, "no more than the burst is saved up");
}

#[test]
fn looking_takes_nothing_and_time_that_runs_back_gives_nothing() {
    let (bucket, start) = (Arc::default(), Instant::now());
    let meter = meter(&[(Scope::Endpoint, LIMIT, &bucket)], 1);
    for _ in 0..100 {
        assert_eq!(meter.check(start), Ok(()));
    }
    assert_eq!(taken(&meter, after(start, 1_000)), 20);
    assert_eq!(taken(&meter, start), 0);
    assert_eq!(taken(&meter, after(start, 1_000)), 0);
}

#[test]
fn replicas_share_a_rate_that_follows_their_number() {
    let start = Instant::now();
    let (first, second): (Shared, Shared) = Default::default();
    let of = |bucket, replicas| meter(&[(Scope::Endpoint, LIMIT, bucket)], replicas);
    // Alone, then with another one: each has half of rate and burst.
    assert_eq!(taken(&of(&first, 1), start), 20);
    assert_eq!(taken(&of(&first, 2), after(start, 1_000)), 5);
    assert_eq!(taken(&of(&second, 2), after(start, 1_000)), 10);
    let both = taken(&of(&first, 2), after(start, 2_000)) + taken(&of(&second, 2), after(start, 2_000));
    assert_eq!(both, 10, "the configured rate, over both");
    // What was saved up alone does not survive company.
    let saved: Shared = Arc::default();
    assert_eq!(of(&saved, 1).check(start), Ok(()));
    assert_eq!(taken(&of(&saved, 4), start), 5);
    // More replicas than the burst has tokens: each still accepts one now and then.
    let crowded: Shared = Arc::default();
    assert_eq!(taken(&of(&crowded, 100), start), 1);
    assert_eq!(taken(&of(&crowded, 100), after(start, 9_900)), 0);
    assert_eq!(taken(&of(&crowded, 100), after(start, 10_100)), 1);
    // Alone again.
    assert_eq!(taken(&of(&crowded, 1), after(start, 11_100)), 10);
}

#[test]
fn replicas_are_one_at_least() {
    let replicas = Replicas::default();
    let seen = replicas.clone();
    assert_eq!(seen.get(), 1);
    replicas.set(3);
    assert_eq!(seen.get(), 3);
    replicas.set(0);
    assert_eq!(seen.get(), 1);
}

#[test]
fn what_one_limit_refuses_the_other_does_not_pay_for() {
    let (endpoint, organization, start) = (Arc::default(), Arc::default(), Instant::now());
    let narrow = RateLimit { per_second: 1, burst: 3 };
    let both = meter(&[(Scope::Endpoint, LIMIT, &endpoint), (Scope::Organization, narrow, &organization)], 1);
    assert_eq!(taken(&both, start), 3);
    assert_eq!(both.take(start).unwrap_err().scope, Scope::Organization);
    let alone = meter(&[(Scope::Endpoint, LIMIT, &endpoint)], 1);
    assert_eq!(taken(&alone, start), 17);
    both.give_back();
    assert_eq!(taken(&both, start), 1, "an event that was not accepted after all");
}

#[test]
fn headers_say_what_is_left() {
    let (endpoint, organization, start) = (Arc::default(), Arc::default(), Instant::now());
    let steep = RateLimit { per_second: 100, burst: 50 };
    let meter = meter(&[(Scope::Endpoint, LIMIT, &endpoint), (Scope::Organization, steep, &organization)], 2);
    let headers = |now| {
        let mut headers = HeaderMap::new();
        meter.write_headers(now, &mut headers);
        ["ratelimit-policy", "ratelimit"].map(|name| headers[name].to_str().unwrap().to_owned())
    };
    let policy = r#""endpoint";q=20;w=2, "organization";q=100;w=1"#;
    assert_eq!(headers(start), [policy, r#""endpoint";r=10;t=0, "organization";r=25;t=0"#]);
    meter.take(start).unwrap();
    assert_eq!(headers(start), [policy, r#""endpoint";r=9;t=1, "organization";r=24;t=1"#]);
    taken(&meter, start);
    assert_eq!(headers(start), [policy, r#""endpoint";r=0;t=1, "organization";r=15;t=1"#]);
    let mut none = HeaderMap::new();
    Meter::default().write_headers(start, &mut none);
    assert!(none.is_empty());
}

proptest! {
    /// Whatever the order of things, a replica accepts no more in any time than its burst and what comes in it.
    #[test]
    fn never_more_than_burst_and_rate(
        per_second in 1_u32..1_000,
        burst in 1_u32..1_000,
        steps in proptest::collection::vec((0_u64..500, 0_u32..50, 1_u32..5, any::<bool>()), 1..60),
    ) {
        let (bucket, start) = (Shared::default(), Instant::now());
        let (mut now, mut accepted) = (start, 0_u32);
        for (milliseconds, attempts, replicas, fails) in steps {
            now += Duration::from_millis(milliseconds);
            let meter = meter(&[(Scope::Endpoint, RateLimit { per_second, burst }, &bucket)], replicas);
            for _ in 0..attempts {
                if meter.take(now).is_ok() {
                    if fails { meter.give_back() } else { accepted += 1 }
                }
            }
            let most = f64::from(burst) + (now - start).as_secs_f64() * f64::from(per_second);
            prop_assert!(f64::from(accepted) <= most + 1e-6, "{accepted} of {most}");
        }
    }
}
