//! Outages, storms and rotations against a raw peer on loopback, which can send what no server
//! library would.

use super::*;
use crate::pdp::{Issuer, IssuerId};
use crate::pip::fetch;
use crate::telemetry::Metrics;
use std::sync::atomic::AtomicUsize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Keys with names only; an entry that is no string is left out with a warning.
#[derive(Debug)]
struct Names(Vec<String>, KeyGeneration);

impl Keys for Names {
    fn read(
        jwks: &[u8],
        generation: KeyGeneration,
        _: &[Algorithm],
    ) -> Result<(Self, Vec<String>), String> {
        let value: serde_json::Value =
            serde_json::from_slice(jwks).map_err(|error| error.to_string())?;
        let keys = value["keys"].as_array().ok_or("no keys")?;
        let names: Vec<String> = keys
            .iter()
            .filter_map(|key| key["kid"].as_str().map(str::to_owned))
            .collect();
        if names.is_empty() {
            return Err("no key can be used".to_owned());
        }
        let left_out = keys.len() - names.len();
        Ok((Self(names, generation), vec!["bad".to_owned(); left_out]))
    }
    fn knows(&self, key_id: Option<&str>, _: Algorithm) -> bool {
        self.0.iter().any(|name| Some(name.as_str()) == key_id)
    }
    fn generation(&self) -> KeyGeneration {
        self.1
    }
    fn same(&self, other: &Self) -> bool {
        self.0 == other.0
    }
    fn names(&self) -> Vec<String> {
        self.0.clone()
    }
}

/// What the peer does with a connection.
#[derive(Debug, Clone)]
enum Does {
    /// Sends this and closes.
    Send(Vec<u8>),
    /// Reads the request and says nothing.
    Hang,
    /// Says it when it is told to.
    Gate(Vec<u8>, Arc<Notify>),
}

fn ok(body: &str) -> Does {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    Does::Send(format!("{head}{body}").into_bytes())
}

fn bytes(does: Does) -> Vec<u8> {
    match does {
        Does::Send(bytes) | Does::Gate(bytes, _) => bytes,
        Does::Hang => Vec::new(),
    }
}

fn keys(names: &[&str]) -> Does {
    let keys: Vec<_> = names
        .iter()
        .map(|name| serde_json::json!({ "kid": name }))
        .collect();
    ok(&serde_json::json!({ "keys": keys }).to_string())
}

struct Server {
    at: std::net::SocketAddr,
    does: Arc<Mutex<Does>>,
    fetches: Arc<AtomicUsize>,
    _task: fetch::Aborted,
}

impl Server {
    async fn start(first: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, first)
    }

    fn on(listener: TcpListener, first: Does) -> Self {
        let at = listener.local_addr().unwrap();
        let does = Arc::new(Mutex::new(first));
        let fetches = Arc::new(AtomicUsize::new(0));
        let (shared, count) = (Arc::clone(&does), Arc::clone(&fetches));
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let does = shared.lock().unwrap().clone();
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\n") {
                        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    count.fetch_add(1, Relaxed);
                    match does {
                        Does::Send(bytes) => {
                            let _sent = stream.write_all(&bytes).await;
                        }
                        Does::Hang => std::future::pending().await,
                        Does::Gate(bytes, gate) => {
                            gate.notified().await;
                            let _sent = stream.write_all(&bytes).await;
                        }
                    }
                });
            }
        });
        Self {
            at,
            does,
            fetches,
            _task: fetch::Aborted(task.abort_handle()),
        }
    }

    fn now_does(&self, does: Does) {
        *self.does.lock().unwrap() = does;
    }

    fn count(&self) -> usize {
        self.fetches.load(Relaxed)
    }
}

fn no_roots() -> crate::outbound::Tls {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    crate::outbound::Tls {
        config: Arc::new(config),
        server_name: None,
    }
}

pub(in crate::pip) fn settings(source: KeySource) -> Settings {
    Settings {
        issuer: Arc::new(Issuer {
            id: IssuerId(1),
            name: "main".into(),
            issuer: "https://as.example".into(),
            audience: Vec::new(),
            algorithms: vec![Algorithm::Es256],
            token_types: Vec::new(),
            clock_skew: Duration::ZERO,
            exp_leeway: Duration::ZERO,
            max_lifetime: Duration::from_secs(3600),
            client_id_claims: Vec::new(),
            scope_claims: Vec::new(),
            introspection: None,
        }),
        source,
        tls: no_roots(),
        proxy: None,
        hosts: Vec::new(),
        timeout: Duration::from_secs(2),
        refresh_cooldown: Duration::from_secs(5),
        refresh_every: Duration::from_secs(300),
        keep_last_good_for: Duration::from_secs(24 * 3600),
        snapshot: None,
        required: true,
        introspection: None,
    }
}

fn uri(server: &Server) -> Settings {
    settings(KeySource::Uri(format!("http://{}/jwks", server.at).into()))
}

fn plane(settings: Settings) -> Arc<Plane<Names>> {
    let metrics = Metrics::new(UnixTime::from_secs(0)).issuer("main");
    let control = tokio::runtime::Handle::current();
    Plane::new(settings, control, Arc::new(AtomicU64::new(1)), metrics)
}

pub(in crate::pip) fn peer(remote: &str) -> Peer {
    Peer {
        remote: remote.parse().unwrap(),
        local: "127.0.0.1:443".parse().unwrap(),
        listener: "bank".into(),
        certificate: None,
    }
}

async fn ask(plane: &Arc<Plane<Names>>, name: &str) -> Result<bool, Unavailable> {
    let client = peer("192.0.2.1:1");
    let keys = plane.keys(Some(name), Algorithm::Es256, &client).await?;
    Ok(keys.knows(Some(name), Algorithm::Es256))
}

/// Time passes for the plane without anybody waiting: its pauses, not the peer's.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Waits for what other tasks and threads bring about; a test that waits in vain fails.
async fn until(mut done: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(20), "waited in vain");
        tokio::task::yield_now().await;
    }
}

fn answer(status: &str, body: &[u8]) -> Does {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    Does::Send([head.as_bytes(), body].concat())
}

fn troubles() -> Vec<(&'static str, Does)> {
    // Good but for its size.
    let mut big = br#"{"keys":[{"kid":"a"},{"kid":"nobody"}]}"#.to_vec();
    big.resize(10 * 1024 * 1024, b' ');
    let chunked = [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n200000\r\n".as_slice(),
        &big[..0x20_0000],
        b"\r\n0\r\n\r\n",
    ];
    vec![
        ("drop", Does::Send(Vec::new())),
        ("500", answer("500 Internal Server Error", b"{}")),
        ("404 with keys", answer("404 Not Found", br#"{"keys":[{"kid":"evil"}]}"#)),
        ("204", Does::Send(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())),
        ("HTML", answer("200 OK", b"<html>maintenance</html>")),
        ("10 MB", answer("200 OK", &big)),
        ("endless chunks", Does::Send(chunked.concat())),
        (
            "truncated",
            Does::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{\"keys\":[{\"kid\":\"a\"}]}".to_vec()),
        ),
        ("empty set", ok(r#"{"keys":[]}"#)),
        ("one bad key", ok(r#"{"keys":[{"kid":7}]}"#)),
        ("no HTTP", Does::Send(b"220 smtp ready\r\n".to_vec())),
        ("endless head", Does::Send([b"HTTP/1.1 200 OK\r\na: ".as_slice(), &vec![b'b'; 200_000]].concat())),
        (
            "redirect",
            Does::Send(b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n".to_vec()),
        ),
    ]
}

#[tokio::test]
async fn whatever_the_server_answers_the_last_good_set_stays() {
    // KEY-04, KEY-06, KEY-07
    for (trouble, does) in troubles() {
        let server = Server::start(keys(&["a"])).await;
        let plane = plane(uri(&server));
        assert!(ask(&plane, "a").await.unwrap(), "{trouble}");
        server.now_does(does);
        pass(Duration::from_secs(5)).await;
        let error = ask(&plane, "nobody").await.unwrap_err();
        assert_eq!(error.reason, Reason::KeysUnavailable, "{trouble}");
        assert!(ask(&plane, "a").await.unwrap(), "{trouble}");
        assert!(
            error.retry_after.unwrap() >= Duration::from_secs(1),
            "{trouble}"
        );
        let status = plane.status(crate::clock::now());
        assert!(status.ready && status.degraded, "{trouble}");
        assert!(status.last_error.is_some());
        // The failure does not disable the cooldown either.
        let fetches = server.count();
        assert!(ask(&plane, "nobody").await.is_err());
        assert_eq!(server.count(), fetches, "{trouble}");
        // And it recovers.
        server.now_does(keys(&["a", "b"]));
        pass(Duration::from_secs(5)).await;
        assert!(ask(&plane, "b").await.unwrap(), "{trouble}");
        assert!(!plane.status(crate::clock::now()).degraded, "{trouble}");
    }
}

#[tokio::test]
async fn whatever_the_server_answers_at_the_start_it_is_503_and_recovers() {
    // KEY-07
    for (trouble, does) in troubles() {
        let server = Server::start(does).await;
        let plane = plane(uri(&server));
        assert!(ask(&plane, "a").await.is_err(), "{trouble}");
        assert!(!plane.status(crate::clock::now()).ready, "{trouble}");
        server.now_does(keys(&["a"]));
        pass(Duration::from_secs(5)).await;
        assert!(ask(&plane, "a").await.unwrap(), "{trouble}");
        assert!(plane.status(crate::clock::now()).ready, "{trouble}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_costs_its_timeout_once_a_cooldown() {
    // KEY-06
    let server = Server::start(Does::Hang).await;
    let plane = plane(uri(&server));
    let began = Instant::now();
    let error = ask(&plane, "a").await.unwrap_err();
    assert!(began.elapsed() >= Duration::from_secs(2) && began.elapsed() < Duration::from_secs(3));
    assert!(error.detail.contains("no answer in 2s"), "{}", error.detail);
    let again = Instant::now();
    let error = ask(&plane, "a").await.unwrap_err();
    assert!(again.elapsed().is_zero(), "at once");
    assert_eq!(error.retry_after, Some(Duration::from_secs(3)));
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn one_bad_key_does_not_spoil_the_others() {
    // field defect 9
    let server = Server::start(ok(r#"{"keys":[{"kid":7},{"kid":"a"}]}"#)).await;
    assert!(ask(&plane(uri(&server)), "a").await.unwrap());
}

#[tokio::test]
async fn a_thousand_that_wait_share_one_flight() {
    // KEY-03: on other runtimes, too, and though the first one leaves
    let gate = Arc::new(Notify::new());
    let bytes = bytes(keys(&["a"]));
    let server = Server::start(Does::Gate(bytes, Arc::clone(&gate))).await;
    let plane = plane(uri(&server));
    let leader = tokio::spawn({
        let plane = Arc::clone(&plane);
        async move { ask(&plane, "a").await.is_ok() }
    });
    until(|| server.count() != 0).await;
    leader.abort();
    assert!(leader.await.is_err());
    let waiting = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (plane, waiting) = (Arc::clone(&plane), Arc::clone(&waiting));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                runtime.unwrap().block_on(async {
                    let asks = (0..250).map(|_| async {
                        waiting.fetch_add(1, Relaxed);
                        ask(&plane, "a").await.unwrap_or(false)
                    });
                    let done = futures_util::future::join_all(asks).await;
                    done.into_iter().filter(|known| *known).count()
                })
            })
        })
        .collect();
    until(|| waiting.load(Relaxed) == 1000).await;
    gate.notify_one();
    let known = tokio::task::spawn_blocking(|| {
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum::<usize>()
    });
    assert_eq!(known.await.unwrap(), 1000);
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn a_storm_is_bounded_and_a_rotation_after_it_is_seen() {
    // KEY-03, kit rot-storm and rot-after-storm
    let server = Server::start(keys(&["a"])).await;
    let plane = plane(uri(&server));
    assert!(ask(&plane, "a").await.unwrap());
    pass(Duration::from_secs(5)).await;
    let storm = (0..200).map(|i| {
        let plane = &plane;
        async move { ask(plane, &format!("random {i}")).await }
    });
    for answer in futures_util::future::join_all(storm).await {
        assert!(!answer.unwrap(), "401, not 503");
    }
    assert_eq!(server.count(), 2);
    server.now_does(keys(&["a", "b"]));
    assert!(!ask(&plane, "b").await.unwrap(), "within the cooldown");
    assert!(ask(&plane, "a").await.unwrap(), "good keys are not hurt");
    pass(Duration::from_secs(5)).await;
    assert!(ask(&plane, "b").await.unwrap());
    assert_eq!(server.count(), 3);
}

#[tokio::test]
async fn keys_are_void_after_the_hard_limit() {
    // KEY-04
    let server = Server::start(keys(&["a"])).await;
    let plane = plane(uri(&server));
    assert!(ask(&plane, "a").await.unwrap());
    let generation = plane.good().unwrap().generation();
    server.now_does(answer("500 Internal Server Error", b""));
    pass(Duration::from_secs(24 * 3600 - 10)).await;
    assert!(ask(&plane, "a").await.unwrap());
    assert!(plane.stands(generation));
    pass(Duration::from_secs(10)).await;
    assert!(!plane.stands(generation), "remembered tokens end with them");
    assert_eq!(
        ask(&plane, "a").await.unwrap_err().reason,
        Reason::KeysUnavailable
    );
}

#[tokio::test]
async fn a_removed_key_ends_and_same_keys_go_on() {
    // KEY-05, TOK-24
    let server = Server::start(keys(&["a", "b"])).await;
    let plane = plane(uri(&server));
    assert!(ask(&plane, "a").await.unwrap());
    let first = plane.good().unwrap().generation();
    pass(Duration::from_secs(5)).await;
    assert!(!ask(&plane, "c").await.unwrap());
    assert!(
        plane.stands(first),
        "fetched again, the same: remembered tokens go on"
    );
    server.now_does(keys(&["b"]));
    pass(Duration::from_secs(5)).await;
    assert!(!ask(&plane, "c").await.unwrap());
    assert!(!plane.stands(first));
    assert!(!ask(&plane, "a").await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_background_fetches_without_being_asked() {
    // KEY-02
    let server = Server::start(keys(&["a"])).await;
    let plane = plane(uri(&server));
    let task = tokio::spawn(Arc::clone(&plane).keep_fresh());
    let mut ended = plane.ended.subscribe();
    ended.changed().await.unwrap();
    assert!(plane.has_keys());
    let began = Instant::now();
    server.now_does(keys(&["b"]));
    ended.changed().await.unwrap();
    assert!(
        began.elapsed() >= Duration::from_secs(239) && began.elapsed() <= Duration::from_secs(301)
    );
    assert_eq!(plane.good().unwrap().names(), ["b"]);
    server.now_does(answer("500 no", b""));
    for _ in 0..3 {
        ended.changed().await.unwrap();
    }
    server.now_does(keys(&["c"]));
    ended.changed().await.unwrap();
    assert_eq!(plane.good().unwrap().names(), ["c"]);
    task.abort();
}

#[tokio::test]
async fn a_flight_that_is_dropped_tells_those_who_wait() {
    let server = Server::start(Does::Hang).await;
    let other = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let plane: Arc<Plane<Names>> = Plane::new(
        uri(&server),
        other.handle().clone(),
        Arc::default(),
        Metrics::new(UnixTime::from_secs(0)).issuer("main"),
    );
    let waiter = tokio::spawn({
        let plane = Arc::clone(&plane);
        async move { ask(&plane, "a").await }
    });
    until(|| server.count() != 0).await;
    other.shutdown_background();
    assert!(waiter.await.unwrap().is_err());
    assert!(plane.schedule().due().is_some(), "it may be tried again");
}

#[test]
fn a_flight_that_cannot_start_locks_nobody_out() {
    // It used to end, and take the schedule's lock, while whoever started it held that lock.
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let gone = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        let control = gone.handle().clone();
        drop(gone);
        let settings = settings(KeySource::Uri("http://127.0.0.1:1/".into()));
        let metrics = Metrics::new(UnixTime::from_secs(0)).issuer("main");
        let plane: Arc<Plane<Names>> = Plane::new(settings, control, Arc::default(), metrics);
        let here = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        here.block_on(async {
            let mut ended = plane.ended.subscribe();
            let background = tokio::spawn(Arc::clone(&plane).keep_fresh());
            ended.changed().await.unwrap();
            background.abort();
            assert!(ask(&plane, "a").await.is_err());
        });
        done.send(()).unwrap();
    });
    finished.recv_timeout(Duration::from_secs(20)).unwrap();
}

#[tokio::test]
async fn a_snapshot_serves_a_cold_start_while_the_server_is_down() {
    // field defect 8
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jwks.json");
    let server = Server::start(keys(&["a"])).await;
    let with = |settings: Settings| Settings {
        snapshot: Some(path.clone()),
        ..settings
    };
    let first = plane(with(uri(&server)));
    assert!(!first.has_keys(), "no file yet");
    assert!(ask(&first, "a").await.unwrap());
    until(|| path.exists()).await;
    server.now_does(answer("500 no", b""));
    let second = plane(with(uri(&server)));
    assert!(second.has_keys());
    assert!(ask(&second, "a").await.unwrap());
    assert!(ask(&second, "b").await.is_err());
    server.now_does(keys(&["b"]));
    pass(Duration::from_secs(5)).await;
    assert!(
        ask(&second, "b").await.unwrap(),
        "recovers without a restart"
    );
    // By content: two writes can fall in one tick of the file system's clock.
    until(|| {
        std::fs::read_to_string(&path)
            .unwrap()
            .contains("\\\"b\\\"")
    })
    .await;
    let mut brief = with(uri(&server));
    brief.keep_last_good_for = Duration::ZERO;
    assert!(!plane(brief).has_keys(), "too old");
    std::fs::write(&path, "{}").unwrap();
    assert!(!plane(with(uri(&server))).has_keys(), "cannot be read");
}

#[tokio::test]
async fn a_file_needs_no_network() {
    // KEY-09
    let file = |text: &str| settings(KeySource::File("keys.json".into(), text.as_bytes().into()));
    let with = plane(file(r#"{"keys":[{"kid":"a"}]}"#));
    assert!(ask(&with, "a").await.unwrap());
    assert!(
        !ask(&with, "b").await.unwrap(),
        "401, it cannot be known better"
    );
    assert!(!with.status(crate::clock::now()).degraded);
    pass(Duration::from_secs(48 * 3600)).await;
    assert!(ask(&with, "a").await.unwrap(), "a file does not age");
    let without = plane(file("no keys"));
    assert!(ask(&without, "a").await.is_err());
    let error = without.status(crate::clock::now()).last_error.unwrap();
    assert!(error.starts_with("keys.json: "), "{error}");
}

/// TLS for `localhost`, and a client that trusts it.
fn tls() -> (tokio_rustls::TlsAcceptor, crate::outbound::Tls) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let der = made.cert.der().clone();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![der.clone()], key.into())
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(der).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = crate::outbound::Tls {
        config: Arc::new(client),
        server_name: None,
    };
    (Arc::new(server).into(), client)
}

/// An authorization server over TLS: metadata and keys by path; notes what it was asked for.
async fn authorization_server(
    issuer: Arc<Mutex<String>>,
) -> (
    u16,
    crate::outbound::Tls,
    Arc<Mutex<Vec<String>>>,
    fetch::Aborted,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (acceptor, client) = tls();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&asked);
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let body = if path == "/jwks" {
                r#"{"keys":[{"kid":"a"}]}"#.to_owned()
            } else {
                let issuer = issuer.lock().unwrap().clone();
                let jwks_uri = format!("https://localhost:{port}/jwks");
                serde_json::json!({ "issuer": issuer, "jwks_uri": jwks_uri }).to_string()
            };
            notes.lock().unwrap().push(path);
            let bytes = bytes(ok(&body));
            stream.write_all(&bytes).await.unwrap();
            let _closed = stream.shutdown().await;
        }
    });
    (port, client, asked, fetch::Aborted(task.abort_handle()))
}

fn discovered(port: u16, tls: &crate::outbound::Tls) -> Settings {
    let at = format!("https://localhost:{port}/.well-known/openid-configuration");
    let mut settings = settings(KeySource::Discovery(at.into()));
    settings.tls = tls.clone();
    settings.hosts = vec!["localhost".into()];
    settings
}

#[tokio::test]
async fn metadata_of_another_issuer_lead_to_no_keys() {
    // KEY-01
    let issuer = Arc::new(Mutex::new("https://evil.example".to_owned()));
    let (port, tls, asked, _task) = authorization_server(Arc::clone(&issuer)).await;
    let plane = plane(discovered(port, &tls));
    let error = ask(&plane, "a").await.unwrap_err();
    assert!(
        error.detail.contains("https://evil.example"),
        "{}",
        error.detail
    );
    assert!(
        error.detail.contains("https://as.example"),
        "{}",
        error.detail
    );
    assert!(!plane.status(crate::clock::now()).ready);
    assert!(!asked.lock().unwrap().iter().any(|path| path == "/jwks"));
    *issuer.lock().unwrap() = "https://as.example".to_owned();
    pass(Duration::from_secs(5)).await;
    assert!(ask(&plane, "a").await.unwrap());
    pass(Duration::from_secs(5)).await;
    assert!(!ask(&plane, "b").await.unwrap());
    let asked = asked.lock().unwrap().clone();
    let metadata = asked
        .iter()
        .filter(|path| path.starts_with("/.well-known"))
        .count();
    assert_eq!(
        (metadata, asked.len()),
        (2, 4),
        "what was learned is kept: {asked:?}"
    );
}

#[tokio::test]
async fn a_server_that_is_not_trusted_gives_no_keys() {
    // TLS-14
    let issuer = Arc::new(Mutex::new("https://as.example".to_owned()));
    let (port, _, asked, _task) = authorization_server(issuer).await;
    let plane = plane(discovered(port, &no_roots()));
    let error = ask(&plane, "a").await.unwrap_err();
    assert!(error.detail.contains("TLS"), "{}", error.detail);
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_proxy_is_asked_for_a_tunnel() {
    let issuer = Arc::new(Mutex::new("https://as.example".to_owned()));
    let (port, tls, _, _task) = authorization_server(issuer).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&lines);
    let refuse = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let refusing = Arc::clone(&refuse);
    let proxy = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut head).await.unwrap();
            }
            let head = String::from_utf8(head).unwrap();
            heard
                .lock()
                .unwrap()
                .push(head.lines().next().unwrap().to_owned());
            if refusing.load(Relaxed) {
                stream.write_all(b"HTTP/1.1 403 No\r\n\r\n").await.unwrap();
                continue;
            }
            stream
                .write_all(b"HTTP/1.1 200 Yes\r\nvia: p\r\n\r\n")
                .await
                .unwrap();
            let mut to = tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .unwrap();
            tokio::spawn(async move {
                let _done = tokio::io::copy_bidirectional(&mut stream, &mut to).await;
            });
        }
    });
    let _proxy = fetch::Aborted(proxy.abort_handle());
    let mut settings = discovered(port, &tls);
    settings.proxy = Some(format!("http://{at}").into());
    let plane = plane(settings);
    let error = ask(&plane, "a").await.unwrap_err();
    assert!(error.detail.contains("403"), "{}", error.detail);
    refuse.store(false, Relaxed);
    pass(Duration::from_secs(5)).await;
    assert!(ask(&plane, "a").await.unwrap());
    let lines = lines.lock().unwrap().clone();
    assert_eq!(lines, vec![format!("CONNECT localhost:{port} HTTP/1.1"); 3]);
}
