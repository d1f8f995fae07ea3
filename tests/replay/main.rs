//! The shared replay store against real servers, started here on loopback: raced for, killed,
//! paused, failed over. Where neither valkey-server nor redis-server is installed, nothing is run,
//! and the tests say so.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test; if it breaks, it has failed"
)]

#[allow(dead_code, reason = "tests/e2e uses the rest")]
mod servers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use portcullis::clock;
use portcullis::outbound::Tls;
use portcullis::pdp::UnixTime;
use portcullis::replay::{
    Address, Breaker, BreakerState, Key, Replay, Rule, Settings, Shared, Store, Unavailable, Use,
    Why,
};
use portcullis::telemetry::Metrics;
use tokio::runtime::{Handle, Runtime};

use servers::{Server, Set};

/// Longest that a proof of these tests is acceptable: short, since after a loss of the store it is
/// waited for.
const WINDOW: Duration = Duration::from_secs(2);

fn settings(url: &str) -> Shared {
    settings_with(url, None)
}

fn settings_with(url: &str, tls: Option<Tls>) -> Shared {
    let mut shared = Shared::new(Address::parse(url).unwrap(), tls).unwrap();
    shared.breaker = Breaker {
        failures: 3,
        open_for: Duration::from_millis(200),
    };
    // Two cores shared with everything else: what is bounded here is not the server's speed.
    shared.timeout = Duration::from_millis(500);
    shared
}

fn start(shared: Shared) -> (Arc<Replay>, Arc<Metrics>) {
    let metrics = Metrics::new(clock::now());
    let settings = Settings {
        store: Store::Shared(Box::new(shared)),
        entries: 100_000,
        window: WINDOW,
        ahead: Duration::ZERO,
    };
    let replay = Replay::start(settings, &Handle::current(), Arc::clone(metrics.replay()));
    (replay, metrics)
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn key() -> Key {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut key = [7; 32];
    let bytes = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    key[..4].copy_from_slice(&bytes);
    key
}

/// A proof made now, and the time.
fn fresh() -> (UnixTime, UnixTime) {
    let now = clock::now();
    (now.later(WINDOW), now)
}

async fn use_once(replay: &Replay, key: Key, rule: Rule) -> Result<Use, Unavailable> {
    let (until, now) = fresh();
    replay.first_use(key, until, now, rule).await
}

/// Tries fresh keys until one is first; how long that took. Not even one may be anything but
/// first or unavailable meanwhile.
async fn serves(replay: &Replay, within: Duration) -> Duration {
    let began = Instant::now();
    loop {
        match use_once(replay, key(), Rule::Refuse).await {
            Ok(answer) => {
                assert_eq!(answer, Use::First);
                return began.elapsed();
            }
            Err(error) => assert!(began.elapsed() < within, "{error:?} {:?}", replay.status()),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const SOON: Duration = Duration::from_secs(30);

// DPOP-22, DPOP-24, DPOP-40
#[test]
fn of_a_thousand_at_once_over_two_replicas_one_is_first() {
    let Some(set) = Set::new() else { return };
    let server = set.server(&[]);
    runtime().block_on(async {
        let mut shared = settings(&server.url());
        // A thousand at once on two cores: no answer may be lost to the clock.
        shared.timeout = SOON;
        let (one, _one) = start(shared.clone());
        let (two, _two) = start(shared);
        serves(&one, SOON).await;
        serves(&two, SOON).await;
        for _ in 0..50 {
            let (key, times) = (key(), fresh());
            let uses = (0..1000).map(|at| {
                let replay = Arc::clone(if at % 2 == 0 { &one } else { &two });
                tokio::spawn(
                    async move { replay.first_use(key, times.0, times.1, Rule::Refuse).await },
                )
            });
            let uses: Vec<_> = uses.collect();
            let mut firsts = 0;
            for answer in uses {
                match answer.await.unwrap() {
                    Ok(Use::First) => firsts += 1,
                    Ok(Use::Repeated) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
            assert_eq!(firsts, 1);
        }
        let text = _one.render(clock::now());
        assert!(
            text.contains("portcullis_replay_store_reachable 1"),
            "{text}"
        );
        assert!(
            text.contains("portcullis_replay_uses_total{result=\"repeated\"}"),
            "{text}"
        );
    });
}

// DPOP-25
#[test]
fn a_server_that_is_killed_is_out_of_reach_until_it_is_back() {
    let Some(set) = Set::new() else { return };
    let mut server = set.server(&[]);
    runtime().block_on(async {
        let (replay, metrics) = start(settings(&server.url()));
        serves(&replay, SOON).await;
        let used = key();
        assert_eq!(use_once(&replay, used, Rule::Refuse).await, Ok(Use::First));
        let old = fresh();
        server.kill();
        while replay.status().breaker != BreakerState::Open {
            let began = Instant::now();
            let error = use_once(&replay, key(), Rule::Refuse).await;
            if let Err(error) = error {
                assert_eq!(error.why, Why::Unreachable);
                assert!(error.retry_after.is_some());
            }
            assert!(began.elapsed() < Duration::from_secs(2));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let error = use_once(&replay, key(), Rule::Refuse).await.unwrap_err();
        assert_eq!(error.why, Why::Unreachable);
        assert!(!replay.status().reachable && replay.status().last_error.is_some());
        let text = metrics.render(clock::now());
        assert!(
            text.contains("portcullis_replay_store_reachable 0"),
            "{text}"
        );
        // It stands in, and knows what this process used before.
        assert_eq!(
            use_once(&replay, used, Rule::Local).await,
            Ok(Use::Repeated)
        );
        let local = key();
        assert_eq!(use_once(&replay, local, Rule::Local).await, Ok(Use::First));
        assert_eq!(
            use_once(&replay, local, Rule::Local).await,
            Ok(Use::Repeated)
        );

        server.start_again();
        // It has lost all: what could have been used before is refused, here and where the uses
        // were never seen.
        let (other, _metrics) = start(settings(&server.url()));
        while !(replay.status().reachable && other.status().reachable) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for replay in [&replay, &other] {
            let error = replay
                .first_use(key(), old.0, old.1, Rule::Refuse)
                .await
                .unwrap_err();
            assert_eq!(error.why, Why::Uncertain, "{error:?}");
        }
        assert_eq!(
            use_once(&replay, used, Rule::Refuse).await,
            Ok(Use::Repeated)
        );
        assert_eq!(
            use_once(&replay, local, Rule::Refuse).await,
            Ok(Use::Repeated)
        );
        serves(&replay, SOON).await;
        serves(&other, SOON).await;
        assert_eq!(replay.status().breaker, BreakerState::Closed);
    });
}

#[test]
fn a_server_that_hangs_is_waited_for_no_longer_than_the_timeout() {
    let Some(set) = Set::new() else { return };
    let server = set.server(&[]);
    runtime().block_on(async {
        let mut shared = settings(&server.url());
        shared.timeout = Duration::from_millis(100);
        let (replay, _metrics) = start(shared);
        serves(&replay, SOON).await;
        server.pause();
        // What was sent may be written when it goes on: nobody may hear "first" of it, not even
        // where memory may stand in.
        let lost = key();
        let began = Instant::now();
        let error = use_once(&replay, lost, Rule::Local).await.unwrap_err();
        assert_eq!(error.why, Why::Unreachable);
        assert!(
            began.elapsed() >= Duration::from_millis(90),
            "{:?}",
            began.elapsed()
        );
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{:?}",
            began.elapsed()
        );
        while replay.status().breaker == BreakerState::Closed {
            assert!(use_once(&replay, key(), Rule::Refuse).await.is_err());
        }
        // With the breaker open nobody waits.
        let began = Instant::now();
        for _ in 0..100 {
            let error = use_once(&replay, key(), Rule::Refuse).await.unwrap_err();
            assert_eq!(error.why, Why::Unreachable);
        }
        assert!(
            began.elapsed() < Duration::from_millis(90),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(use_once(&replay, key(), Rule::Local).await, Ok(Use::First));
        server.go_on();
        serves(&replay, SOON).await;
        // It was written after all.
        let (other, _metrics) = start(settings(&server.url()));
        serves(&other, SOON).await;
        assert_ne!(use_once(&other, lost, Rule::Refuse).await, Ok(Use::First));
    });
}

#[test]
fn a_flush_is_a_loss() {
    let Some(set) = Set::new() else { return };
    let server = set.server(&[]);
    runtime().block_on(async {
        let (replay, _metrics) = start(settings(&server.url()));
        let (other, _metrics) = start(settings(&server.url()));
        serves(&replay, SOON).await;
        serves(&other, SOON).await;
        // Past what the server's start made uncertain, proofs of any age are judged.
        let oldest = async || {
            let now = clock::now();
            other.first_use(key(), now, now, Rule::Refuse).await
        };
        while oldest().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (used, times) = (key(), fresh());
        let first = replay.first_use(used, times.0, times.1, Rule::Refuse).await;
        assert_eq!(first, Ok(Use::First));
        server.cli(&["FLUSHALL"]);
        // Found at the next look, a second later at most.
        while oldest().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let again = other.first_use(used, times.0, times.1, Rule::Refuse).await;
        assert_eq!(again.unwrap_err().why, Why::Uncertain);
        serves(&other, SOON).await;
    });
}

#[test]
fn tls_password_and_database_are_used() {
    let Some(set) = Set::new() else { return };
    if !set.has_tls() {
        eprintln!("replay: TLS NOT RUN (the server was built without it)");
        return;
    }
    let pki = servers::Pki::new(&set);
    let server = set.server(&pki.arguments("s3cret"));
    runtime().block_on(async {
        let open = |url: &str, tls| start(settings_with(url, Some(tls)));
        let url = format!("rediss://:s3cret@localhost:{}/3", server.port());
        let (replay, _metrics) = open(&url, pki.trusted());
        serves(&replay, SOON).await;
        assert_eq!(
            server
                .cli(&["-n", "3", "EXISTS", "portcullis:replay:primary"])
                .trim(),
            "1"
        );
        assert!(!format!("{replay:?} {:?}", replay.status()).contains("s3cret"));

        let wrong = format!("rediss://:wr0ng@localhost:{}/3", server.port());
        for (url, tls, says) in [
            (&wrong, pki.trusted(), "authentication failed"),
            (&url, servers::Pki::new(&set).trusted(), "TLS"),
        ] {
            let (replay, _metrics) = open(url, tls);
            while replay.status().breaker != BreakerState::Open {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let error = use_once(&replay, key(), Rule::Refuse).await.unwrap_err();
            assert_eq!(error.why, Why::Unreachable);
            assert!(error.detail.contains(says), "{error:?}");
            assert!(!format!("{error:?}").contains("wr0ng"));
        }
    });
}

/// Uses keys while the store fails over, each of them twice, by two replicas.
#[test]
fn no_key_is_accepted_twice_over_a_failover() {
    let Some(set) = Set::new() else { return };
    let mut primary = set.server(&[]);
    let replica = set.server(&[]);
    replica.follow(&primary);
    runtime().block_on(async {
        let url = format!(
            "redis://127.0.0.1:{},127.0.0.1:{}",
            primary.port(),
            replica.port()
        );
        let (one, _one) = start(settings(&url));
        let (two, _two) = start(settings(&url));
        serves(&one, SOON).await;
        serves(&two, SOON).await;
        // Writes that never reach the replica: it hangs until the primary is dead.
        let reached = key();
        assert_eq!(use_once(&one, reached, Rule::Refuse).await, Ok(Use::First));
        replica.pause();
        let mut used = Vec::new();
        for _ in 0..50 {
            let (key, times) = (key(), fresh());
            if one.first_use(key, times.0, times.1, Rule::Refuse).await == Ok(Use::First) {
                used.push((key, times));
            }
        }
        assert!(used.len() > 40, "{}", used.len());
        primary.kill();
        replica.go_on();
        replica.promote();
        let mut lost = 0;
        loop {
            let now = clock::now();
            for (key, (until, _)) in &used {
                if now <= *until {
                    let again = two.first_use(*key, *until, now, Rule::Refuse).await;
                    assert_ne!(again, Ok(Use::First), "accepted twice");
                    let uncertain = matches!(
                        again,
                        Err(Unavailable {
                            why: Why::Uncertain,
                            ..
                        })
                    );
                    lost += u32::from(uncertain);
                }
            }
            let done = used.iter().all(|(_, (until, _))| now > *until);
            if done && two.status().reachable {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        eprintln!("replay: {lost} uses were refused since the new primary did not hold them");
        serves(&one, SOON).await;
        serves(&two, SOON).await;

        // The old one comes back as it was: two primaries, and nobody chooses.
        primary.start_again();
        while one.status().reachable || two.status().reachable {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let error = use_once(&one, key(), Rule::Refuse).await.unwrap_err();
        assert!(error.detail.contains("both say"), "{error:?}");
        primary.follow(&replica);
        serves(&one, SOON).await;
        serves(&two, SOON).await;
    });
}

/// Under load: proofs used again and again by two replicas, while the primary is killed and its
/// replica promoted.
#[test]
fn under_load_no_key_is_accepted_twice_over_a_failover() {
    let Some(set) = Set::new() else { return };
    let mut primary = set.server(&[]);
    let replica = set.server(&[]);
    replica.follow(&primary);
    runtime().block_on(async {
        let url = format!(
            "redis://127.0.0.1:{},127.0.0.1:{}",
            primary.port(),
            replica.port()
        );
        let (one, _one) = start(settings(&url));
        let (two, _two) = start(settings(&url));
        serves(&one, SOON).await;
        serves(&two, SOON).await;
        let done = Arc::new(AtomicBool::new(false));
        let load = (0..16).map(|at| {
            let pair = [Arc::clone(&one), Arc::clone(&two)];
            let done = Arc::clone(&done);
            tokio::spawn(async move {
                let (mut accepted, mut refused) = (0, 0);
                while !done.load(Ordering::Relaxed) {
                    let (key, (until, _)) = (key(), fresh());
                    let mut firsts = 0;
                    let mut turn = at;
                    while clock::now() <= until {
                        let replay = &pair[turn % 2];
                        match replay
                            .first_use(key, until, clock::now(), Rule::Refuse)
                            .await
                        {
                            Ok(Use::First) => firsts += 1,
                            Ok(Use::Repeated) => {}
                            Err(_) => refused += 1,
                        }
                        turn += 1;
                        tokio::time::sleep(Duration::from_millis(3)).await;
                    }
                    assert!(firsts <= 1, "accepted {firsts} times");
                    accepted += firsts;
                }
                (accepted, refused)
            })
        });
        let load: Vec<_> = load.collect();
        tokio::time::sleep(Duration::from_secs(3)).await;
        primary.kill();
        replica.promote();
        serves(&one, SOON).await;
        serves(&two, SOON).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        done.store(true, Ordering::Relaxed);
        let (mut accepted, mut refused) = (0, 0);
        for task in load {
            let (more, less) = task.await.unwrap();
            accepted += more;
            refused += less;
        }
        eprintln!("replay: {accepted} accepted, {refused} refused while it could not be known");
        assert!(accepted > 16 && refused > 0);
    });
}

#[test]
fn a_use_that_no_replica_confirmed_does_not_count() {
    let Some(set) = Set::new() else { return };
    let primary = set.server(&[]);
    let replica = set.server(&[]);
    replica.follow(&primary);
    runtime().block_on(async {
        let mut shared = settings(&primary.url());
        shared.confirmed_by = 1;
        let (replay, _metrics) = start(shared);
        serves(&replay, SOON).await;
        replica.pause();
        let error = use_once(&replay, key(), Rule::Refuse).await.unwrap_err();
        assert!(error.detail.contains("confirmed"), "{error:?}");
        replica.go_on();
        serves(&replay, SOON).await;
    });
}

#[test]
fn sentinels_name_the_primary() {
    let Some(set) = Set::new() else { return };
    let mut primary = set.server(&[]);
    let replica = set.server(&[]);
    replica.follow(&primary);
    let sentinel = set.sentinel(&primary);
    runtime().block_on(async {
        let url = format!("redis+sentinel://127.0.0.1:{}/main/0", sentinel.port());
        let (replay, _metrics) = start(settings(&url));
        serves(&replay, SOON).await;
        primary.kill();
        serves(&replay, Duration::from_secs(60)).await;
        assert!(replica.cli(&["DBSIZE"]).trim() != "0");

        let unknown = format!("redis+sentinel://127.0.0.1:{}/other", sentinel.port());
        let (replay, _metrics) = start(settings(&unknown));
        while replay.status().breaker != BreakerState::Open {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let error = replay.status().last_error.unwrap();
        assert!(error.contains("no service 'other'"), "{error}");
    });
}

#[test]
fn a_cluster_is_asked_by_slot_and_a_moved_slot_is_followed() {
    let Some(set) = Set::new() else { return };
    let nodes: Vec<Server> = (0..2)
        .map(|_| set.server(&["--cluster-enabled", "yes"]))
        .collect();
    let (one, two) = (&nodes[0], &nodes[1]);
    one.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "8191"]);
    two.cli(&["CLUSTER", "ADDSLOTSRANGE", "8192", "16383"]);
    one.cli(&["CLUSTER", "SET-CONFIG-EPOCH", "1"]);
    two.cli(&["CLUSTER", "SET-CONFIG-EPOCH", "2"]);
    one.cli(&["CLUSTER", "MEET", "127.0.0.1", &two.port().to_string()]);
    for node in &nodes {
        node.until(&["CLUSTER", "INFO"], "cluster_state:ok");
        node.until(&["CLUSTER", "INFO"], "cluster_known_nodes:2");
    }
    runtime().block_on(async {
        let url = format!("redis+cluster://127.0.0.1:{}", one.port());
        let (replay, _metrics) = start(settings(&url));
        serves(&replay, SOON).await;
        let (until, now) = fresh();
        let until = until.later(Duration::from_secs(600));
        let mut keys = Vec::new();
        for _ in 0..100 {
            let key = key();
            assert_eq!(
                replay.first_use(key, until, now, Rule::Refuse).await,
                Ok(Use::First)
            );
            keys.push(key);
        }
        assert!(one.cli(&["DBSIZE"]).trim() != "0" && two.cli(&["DBSIZE"]).trim() != "0");
        let (other, _metrics) = start(settings(&url));
        serves(&other, SOON).await;
        for key in keys {
            assert_eq!(
                other.first_use(key, until, now, Rule::Refuse).await,
                Ok(Use::Repeated)
            );
        }
        // A quarter of the slots goes to the other node, behind the gate's back.
        for node in &nodes {
            node.cli(&["CLUSTER", "DELSLOTSRANGE", "0", "4095"]);
        }
        two.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "4095"]);
        two.cli(&["CLUSTER", "BUMPEPOCH"]);
        for node in &nodes {
            node.until(&["CLUSTER", "INFO"], "cluster_slots_assigned:16384");
            node.until(&["CLUSTER", "INFO"], "cluster_state:ok");
        }
        for _ in 0..200 {
            let again = use_once(&replay, key(), Rule::Refuse).await;
            assert!(matches!(again, Ok(Use::First)), "{again:?}");
        }
    });
}
