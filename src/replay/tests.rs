//! What follows from each answer of a server, from one that says what the test wants.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::clock;
use crate::telemetry::Metrics;

const INFO: &str = "run_id:a\r\nrole:master\r\nmaster_replid2:0000\r\nuptime_in_seconds:9999\r\n";

/// A server on loopback. `answer` makes the reply to a use from its words; `None` closes.
struct Fake {
    url: String,
    uses: Arc<Mutex<Vec<Vec<String>>>>,
}

type Answer = Arc<dyn Fn() -> Option<&'static str> + Send + Sync>;

impl Fake {
    async fn new(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let uses = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&uses);
        let marker = Arc::new(Mutex::new(String::new()));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let marker = Arc::clone(&marker);
                tokio::spawn(speak(
                    stream,
                    Arc::clone(&answer),
                    Arc::clone(&seen),
                    marker,
                ));
            }
        });
        Self { url, uses }
    }

    fn uses(&self) -> usize {
        self.uses.lock().unwrap().len()
    }
}

async fn speak(
    stream: TcpStream,
    answer: Answer,
    seen: Arc<Mutex<Vec<Vec<String>>>>,
    marker: Arc<Mutex<String>>,
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let words = read(&mut stream).await?;
        let text: Vec<&str> = words.iter().map(String::as_str).collect();
        let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
        let reply = match text.as_slice() {
            ["INFO"] => bulk(INFO),
            ["GET", _] => match &*marker.lock().unwrap() {
                none if none.is_empty() => "$-1\r\n".to_owned(),
                marker => bulk(marker),
            },
            ["SET", "portcullis:replay:primary", value] => {
                (*value).clone_into(&mut marker.lock().unwrap());
                "+OK\r\n".to_owned()
            }
            ["SET", "portcullis:replay:probe", ..] => "+OK\r\n".to_owned(),
            _ => {
                seen.lock().unwrap().push(words);
                answer()?.to_owned()
            }
        };
        stream.write_all(reply.as_bytes()).await.ok()?;
    }
}

/// An array of bulk strings.
async fn read(stream: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let mut words = Vec::new();
    for _ in 0..number(stream, '*').await? {
        let mut word = vec![0; number(stream, '$').await? + 2];
        stream.read_exact(&mut word).await.ok()?;
        word.truncate(word.len() - 2);
        words.push(String::from_utf8(word).unwrap());
    }
    Some(words)
}

async fn number(stream: &mut BufReader<TcpStream>, kind: char) -> Option<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.strip_prefix(kind)?.trim().parse().ok()
}

fn open(url: &str) -> (Arc<Replay>, Arc<Metrics>) {
    let metrics = Metrics::new(clock::now());
    let mut shared = Shared::new(Address::parse(url).unwrap(), None).unwrap();
    shared.timeout = Duration::from_secs(20);
    let settings = Settings {
        store: Store::Shared(Box::new(shared)),
        entries: 3,
        window: Duration::from_secs(70),
        ahead: Duration::from_secs(10),
    };
    let replay = Replay::start(settings, &Handle::current(), Arc::clone(metrics.replay()));
    (replay, metrics)
}

async fn connected(fake: &Fake) -> (Arc<Replay>, Arc<Metrics>) {
    let (replay, metrics) = open(&fake.url);
    while !replay.status().reachable {
        tokio::task::yield_now().await;
    }
    (replay, metrics)
}

async fn once(replay: &Replay, of: u8, rule: Rule) -> Result<Use, Why> {
    let now = clock::now();
    let until = now.later(Duration::from_secs(60));
    let answer = replay.first_use([of; 32], until, now, rule).await;
    answer.map_err(|error| error.why)
}

// DPOP-22: the one command of a use.
#[tokio::test]
async fn a_use_is_one_command_that_tests_and_sets() {
    let fake = Fake::new(Arc::new(|| Some("+OK\r\n"))).await;
    let (replay, _metrics) = connected(&fake).await;
    assert_eq!(once(&replay, 1, Rule::Refuse).await, Ok(Use::First));
    let uses = fake.uses.lock().unwrap().clone();
    let [set] = uses.as_slice() else {
        panic!("{uses:?}")
    };
    let key = "portcullis:replay:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";
    assert_eq!(set.as_slice(), ["SET", key, "1", "NX", "PX", "66000"]);
    // What this process knows is not asked again.
    assert_eq!(once(&replay, 1, Rule::Refuse).await, Ok(Use::Repeated));
    assert_eq!(fake.uses(), 1);
}

#[tokio::test]
async fn a_lost_reply_is_refused_under_either_rule_and_the_command_not_sent_again() {
    for rule in [Rule::Refuse, Rule::Local] {
        let fake = Fake::new(Arc::new(|| None)).await;
        let (replay, _metrics) = connected(&fake).await;
        assert_eq!(once(&replay, 1, rule).await, Err(Why::Unreachable));
        assert_eq!(fake.uses(), 1);
    }
}

// DPOP-25
#[tokio::test]
async fn a_server_that_refuses_has_written_nothing() {
    for reply in [
        "-READONLY You can't write against a read only replica.\r\n",
        "-OOM command not allowed\r\n",
        "-NOREPLICAS Not enough good replicas to write.\r\n",
        "-MOVED 7 127.0.0.1:1\r\n",
    ] {
        let fake = Fake::new(Arc::new(move || Some(reply))).await;
        let (replay, metrics) = connected(&fake).await;
        assert_eq!(
            once(&replay, 1, Rule::Refuse).await,
            Err(Why::Unreachable),
            "{reply}"
        );
        let (replay, _metrics) = (connected(&fake).await.0, metrics);
        assert_eq!(
            once(&replay, 1, Rule::Local).await,
            Ok(Use::First),
            "{reply}"
        );
        assert_eq!(
            once(&replay, 1, Rule::Local).await,
            Ok(Use::Repeated),
            "{reply}"
        );
    }
}

#[tokio::test]
async fn a_reply_of_another_kind_is_no_first_use() {
    for reply in ["$1\r\n1\r\n", ":1\r\n", "*0\r\n", "+FINE\r\n", "?\r\n"] {
        let fake = Fake::new(Arc::new(move || Some(reply))).await;
        for rule in [Rule::Refuse, Rule::Local] {
            let (replay, _metrics) = connected(&fake).await;
            assert_eq!(
                once(&replay, 1, rule).await,
                Err(Why::Unreachable),
                "{reply}"
            );
        }
    }
}

#[tokio::test]
async fn a_memory_that_is_full_does_not_hinder_the_shared_store_and_does_not_stand_in() {
    let fake = Fake::new(Arc::new(|| Some("+OK\r\n"))).await;
    let (replay, _metrics) = connected(&fake).await;
    for of in 0..5 {
        assert_eq!(once(&replay, of, Rule::Refuse).await, Ok(Use::First));
    }
    let (store, _) = replay.shared.as_ref().unwrap();
    store.route.store(None);
    // Of five uses it holds three: for the others it cannot answer.
    for of in 0..5 {
        let expected = if of < 3 {
            Ok(Use::Repeated)
        } else {
            Err(Why::Full)
        };
        assert_eq!(once(&replay, of, Rule::Local).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_server_nobody_waits() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let probes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&probes);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Relaxed);
        }
    });
    let (replay, metrics) = open(&format!("redis://:hunter2@{address}"));
    let began = tokio::time::Instant::now();
    assert_eq!(once(&replay, 1, Rule::Refuse).await, Err(Why::Unreachable));
    assert_eq!(once(&replay, 1, Rule::Local).await, Ok(Use::First));
    assert_eq!(once(&replay, 1, Rule::Local).await, Ok(Use::Repeated));
    assert_eq!(began.elapsed(), Duration::ZERO);
    while replay.status().breaker != BreakerState::Open {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let status = replay.status();
    assert!(!status.reachable && status.last_error.is_some());
    assert!(!format!("{status:?}{replay:?}").contains("hunter2"));
    // Probes, further and further apart.
    while began.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let probes = probes.load(Relaxed);
    assert!((7..=14).contains(&probes), "{probes}");
    let text = metrics.render(clock::now());
    assert!(
        text.contains("portcullis_replay_stood_in_total 1"),
        "{text}"
    );
}

fn of_memory(entries: usize, age: u64) -> Settings {
    Settings {
        store: Store::Memory,
        entries,
        window: Duration::from_secs(age + 10),
        ahead: Duration::from_secs(10),
    }
}

/// A proof of this second, by rules under which it lives so long.
async fn aged(replay: &Replay, of: u8, made: u64, age: u64, now: u64) -> Result<Use, Why> {
    let (until, now) = (UnixTime::from_secs(made + age), UnixTime::from_secs(now));
    let answer = replay.first_use([of; 32], until, now, Rule::Refuse).await;
    answer.map_err(|error| error.why)
}

// DPOP-22, DPOP-25
#[tokio::test(start_paused = true)]
async fn what_was_used_stays_used_under_other_settings() {
    let (control, metrics) = (Handle::current(), Metrics::new(clock::now()));
    let first = Replay::start(of_memory(2, 60), &control, Arc::clone(metrics.replay()));
    let at = UnixTime::from_secs;
    assert_eq!(aged(&first, 1, 1000, 60, 1000).await, Ok(Use::First));
    let same = first.renew(of_memory(2, 60), &control, at(1000));
    assert!(Arc::ptr_eq(&first, &same), "a reload is no change");
    // More room, at once and without a doubt.
    assert_eq!(aged(&first, 2, 1000, 60, 1000).await, Ok(Use::First));
    assert_eq!(aged(&first, 3, 1000, 60, 1000).await, Err(Why::Full));
    let larger = first.renew(of_memory(9, 60), &control, at(1000));
    assert_eq!(aged(&larger, 3, 1000, 60, 1000).await, Ok(Use::First));
    assert_eq!(aged(&larger, 1, 1000, 60, 1000).await, Ok(Use::Repeated));
    assert_eq!(aged(&first, 3, 1000, 60, 1000).await, Ok(Use::Repeated));
    // A shorter life is no reason to doubt either.
    let shorter = larger.renew(of_memory(9, 20), &control, at(1001));
    assert_eq!(aged(&shorter, 4, 1001, 20, 1001).await, Ok(Use::First));
}

// DPOP-22
#[tokio::test(start_paused = true)]
async fn a_longer_life_wakes_no_proof_that_was_forgotten() {
    let (control, metrics) = (Handle::current(), Metrics::new(clock::now()));
    let first = Replay::start(of_memory(1, 60), &control, Arc::clone(metrics.replay()));
    assert_eq!(aged(&first, 1, 1000, 60, 1000).await, Ok(Use::First));
    tokio::time::advance(Duration::from_secs(70)).await;
    // Room for another: the first is forgotten.
    assert_eq!(aged(&first, 2, 1070, 60, 1070).await, Ok(Use::First));
    let longer = first.renew(of_memory(9, 300), &control, UnixTime::from_secs(1070));
    // By the new rules it is good again.
    assert_eq!(aged(&longer, 1, 1000, 300, 1071).await, Err(Why::Uncertain));
    // Ten seconds ahead and five of doubt, for new proofs; over another reload too.
    let other = longer.renew(of_memory(10, 300), &control, UnixTime::from_secs(1080));
    for replay in [&longer, &other] {
        assert_eq!(aged(replay, 3, 1085, 300, 1085).await, Err(Why::Uncertain));
    }
    assert_eq!(aged(&other, 3, 1086, 300, 1086).await, Ok(Use::First));
}

#[tokio::test]
async fn a_renewed_store_goes_on_where_it_was() {
    let fake = Fake::new(Arc::new(|| Some("+OK\r\n"))).await;
    let (first, _metrics) = connected(&fake).await;
    assert_eq!(once(&first, 1, Rule::Refuse).await, Ok(Use::First));
    let (store, _) = first.shared.as_ref().unwrap();
    let lost_at = store.lost_at();
    let mut settings = first.settings.clone();
    let Store::Shared(shared) = &mut settings.store else {
        panic!("shared")
    };
    shared.timeout = Duration::from_secs(9);
    settings.ahead = Duration::from_secs(3);
    settings.window = Duration::from_secs(63);
    let next = first.renew(settings.clone(), &Handle::current(), clock::now());
    // Not for a moment is it out of reach, and what was lost before could be further ahead.
    assert!(next.status().reachable && next.status().last_error.is_none());
    assert_eq!(next.shared.as_ref().unwrap().0.lost_at(), lost_at + 7);
    assert_eq!(once(&next, 1, Rule::Refuse).await, Ok(Use::Repeated));
    assert_eq!(once(&next, 2, Rule::Refuse).await, Ok(Use::First));
    // What only the others knew is refused where there are no others any more.
    settings.store = Store::Memory;
    let alone = next.renew(settings, &Handle::current(), clock::now());
    assert_eq!(once(&alone, 3, Rule::Local).await, Err(Why::Uncertain));
    assert!(alone.status().reachable && alone.status().shared.is_none());
}

/// A client assertion that could be used for so long, until this second.
async fn assertion(replay: &Replay, of: u8, until: u64, life: u64) -> Result<Use, Why> {
    let times = (UnixTime::from_secs(until), clock::now());
    let life = Duration::from_secs(life);
    let answer = replay.first_use_of([of; 32], times, life, Rule::Refuse);
    answer.await.map_err(|error| error.why)
}

// DPOP-22, DPOP-25, JAR-15: what may have been used before the loss is refused for as long as it
// could have been accepted, which for an assertion is longer than for a proof.
#[tokio::test]
async fn after_a_loss_an_assertion_is_in_doubt_for_its_own_life() {
    const WINDOW: u64 = 70;
    const LIFE: u64 = 300;
    let fake = Fake::new(Arc::new(|| Some("+OK\r\n"))).await;
    let (replay, _metrics) = connected(&fake).await;
    let (store, _) = replay.shared.as_ref().unwrap();
    store.lost(clock::now().as_secs());
    let lost_at = store.lost_at() + shared::CLOCKS_DIFFER;
    // Of what lives no longer than a proof, the first that began after the loss is sure.
    for life in [30, WINDOW] {
        let doubtful = assertion(&replay, 1, lost_at + WINDOW, life).await;
        assert_eq!(doubtful, Err(Why::Uncertain), "{life}");
    }
    let sure = assertion(&replay, 1, lost_at + WINDOW + 1, WINDOW).await;
    assert_eq!(sure, Ok(Use::First));
    // The same end, of one that could have been used before.
    for until in [lost_at + WINDOW + 1, lost_at + LIFE] {
        let doubtful = assertion(&replay, 2, until, LIFE).await;
        assert_eq!(doubtful, Err(Why::Uncertain), "{until}");
    }
    let sure = assertion(&replay, 2, lost_at + LIFE + 1, LIFE).await;
    assert_eq!(sure, Ok(Use::First));
    let again = assertion(&replay, 2, lost_at + LIFE + 1, LIFE).await;
    assert_eq!(again, Ok(Use::Repeated));
}

// The same where the settings changed instead.
#[tokio::test(start_paused = true)]
async fn under_other_settings_an_assertion_is_in_doubt_for_its_own_life() {
    let (control, metrics) = (Handle::current(), Metrics::new(clock::now()));
    let first = Replay::start(of_memory(9, 60), &control, Arc::clone(metrics.replay()));
    let now = clock::now().as_secs();
    let longer = first.renew(of_memory(9, 300), &control, UnixTime::from_secs(now));
    // The fence: five seconds of doubt, the longer age, and what may lie ahead.
    let fence = now + shared::CLOCKS_DIFFER + 300 + 10;
    assert_eq!(assertion(&longer, 1, fence + 1, 310).await, Ok(Use::First));
    // Ninety seconds longer than the window.
    let doubtful = assertion(&longer, 2, fence + 90, 400).await;
    assert_eq!(doubtful, Err(Why::Uncertain));
    assert_eq!(assertion(&longer, 2, fence + 91, 400).await, Ok(Use::First));
}

#[test]
fn tls_and_address_must_agree() {
    let tls = || Some(Tls::offline().unwrap());
    let made = |url, tls| Shared::new(Address::parse(url).unwrap(), tls);
    assert!(
        made("rediss://h", None)
            .unwrap_err()
            .contains("whom to trust")
    );
    assert!(made("redis://h", tls()).unwrap_err().contains("rediss://"));
    assert!(made("rediss://h", tls()).is_ok() && made("redis://h", None).is_ok());
}
