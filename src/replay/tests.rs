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
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(speak(stream, Arc::clone(&answer), Arc::clone(&seen)));
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
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut marker = String::new();
    loop {
        let words = read(&mut stream).await?;
        let text: Vec<&str> = words.iter().map(String::as_str).collect();
        let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
        let reply = match text.as_slice() {
            ["INFO"] => bulk(INFO),
            ["GET", _] if marker.is_empty() => "$-1\r\n".to_owned(),
            ["GET", _] => bulk(&marker),
            ["SET", "portcullis:replay:primary", value] => {
                marker = (*value).to_owned();
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
