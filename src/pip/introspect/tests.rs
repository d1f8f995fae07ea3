//! The plane against a server that misbehaves.

mod server;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use tokio::sync::Notify;

use self::server::{Does, Server, response};
use super::*;
use crate::pdp::{Answer, Ask};
use crate::pip::jwks::tests::{peer, settings as issuer_settings};
use crate::pip::{KeySource, Pip};
use crate::telemetry::Metrics;

const NOW: UnixTime = UnixTime::from_secs(1_000_000);

/// An active answer that ends so many seconds from the real time.
fn active() -> String {
    let exp = crate::clock::now().as_secs() + 300;
    serde_json::json!({"active": true, "exp": exp, "aud": "api", "client_id": "tpp-1", "sub": "u-1"})
        .to_string()
}

fn settings(server: &Server) -> super::super::Settings {
    // Port 1 of this machine is closed: no keys come.
    let mut settings = issuer_settings(KeySource::Uri("http://127.0.0.1:1/jwks".into()));
    let issuer = Arc::get_mut(&mut settings.issuer).unwrap();
    issuer.client_id_claims = vec!["client_id".into()];
    issuer.scope_claims = vec!["scope".into()];
    settings.introspection = Some(Settings {
        endpoint: Endpoint::At(format!("http://{}/i", server.at).into()),
        client_id: "pep".into(),
        authentication: ClientAuthentication::MutualTls,
        tls: settings.tls.clone(),
        signed: false,
        active_for: Duration::from_secs(5),
        inactive_for: Duration::from_secs(1),
        timeout: Duration::from_secs(20),
        breaker: BreakerRule {
            failures: 5,
            open_for: Duration::from_secs(300),
        },
    });
    settings
}

fn pip(of: Vec<super::super::Settings>) -> (Arc<Pip>, Arc<Metrics>) {
    let metrics = Metrics::new(NOW);
    let handle = tokio::runtime::Handle::current();
    let pip = Pip::new(Arc::clone(&metrics), handle.clone());
    pip.replace(of, &handle);
    (pip, metrics)
}

fn question(issuer: &Arc<Issuer>, token: &str) -> Ask {
    Ask::Introspect {
        issuer: Arc::clone(issuer),
        token: AccessToken::new(token),
        remembered: true,
    }
}

/// Waits until something is so, and not for ever.
async fn until(mut so: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(30), "it did not come");
        tokio::task::yield_now().await;
    }
}

async fn ask(pip: &Pip, ask: &Ask) -> Result<Arc<Introspected>, Unavailable> {
    let client = peer("192.0.2.1:1");
    match pip.answer(ask, &client, crate::clock::now()).await? {
        Answer::Introspected(said, _) => Ok(said),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_first_uses_of_a_token_make_one_call() {
    // INT-09
    let gate = Arc::new(Notify::new());
    let server = Server::start(Does::Gate(active(), Arc::clone(&gate))).await;
    let of = settings(&server);
    let issuer = Arc::clone(&of.issuer);
    let (pip, metrics) = pip(vec![of]);
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let (pip, issuer) = (Arc::clone(&pip), Arc::clone(&issuer));
        waiting.spawn(async move { ask(&pip, &question(&issuer, "one")).await });
    }
    let counts = metrics.introspection("main");
    until(|| counts.misses.value() >= 1000 && counts.waits.value() >= 999).await;
    gate.notify_one();
    while let Some(said) = waiting.join_next().await {
        assert!(said.unwrap().unwrap().expires().is_some());
    }
    assert_eq!(server.calls(), 1);
    // And from then on it is remembered.
    ask(&pip, &question(&issuer, "one")).await.unwrap();
    assert_eq!((server.calls(), counts.hits.value()), (1, 1));
    assert_eq!(counts.in_flight.value(), 0, "nothing is left over");
}

#[tokio::test]
async fn a_client_that_leaves_takes_nobody_along() {
    let gate = Arc::new(Notify::new());
    let server = Server::start(Does::Gate(active(), Arc::clone(&gate))).await;
    let of = settings(&server);
    let issuer = Arc::clone(&of.issuer);
    let (pip, metrics) = pip(vec![of]);
    let first = {
        let (pip, issuer) = (Arc::clone(&pip), Arc::clone(&issuer));
        tokio::spawn(async move { ask(&pip, &question(&issuer, "one")).await })
    };
    until(|| server.calls() != 0).await;
    let second = {
        let (pip, issuer) = (Arc::clone(&pip), Arc::clone(&issuer));
        tokio::spawn(async move { ask(&pip, &question(&issuer, "one")).await })
    };
    until(|| metrics.introspection("main").waits.value() != 0).await;
    first.abort();
    gate.notify_one();
    assert!(second.await.unwrap().is_ok());
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn a_call_that_dies_is_made_again_and_then_given_up() {
    let server = Server::start(Does::Json(active())).await;
    let of = settings(&server);
    let issuer = Arc::clone(&of.issuer);
    let dead = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let metrics = Metrics::new(NOW);
    let pip = Pip::new(Arc::clone(&metrics), dead.handle().clone());
    pip.replace(vec![of], &tokio::runtime::Handle::current());
    dead.shutdown_background();
    let failed = ask(&pip, &question(&issuer, "one")).await.unwrap_err();
    assert_eq!(failed.reason, Reason::IntrospectionUnavailable);
    assert_eq!(metrics.introspection("main").in_flight.value(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_made_up_tokens_stays_within_its_bounds() {
    // INT-08, INT-13: 50,000 tokens of one client, while another one is served
    let gate = Arc::new(Notify::new());
    let server = Server::start(Does::Gate(r#"{"active":false}"#.to_owned(), gate)).await;
    let mut of = settings(&server);
    of.introspection.as_mut().unwrap().timeout = Duration::from_secs(2);
    let issuer = Arc::clone(&of.issuer);
    let (pip, metrics) = pip(vec![of]);
    let mut flood = tokio::task::JoinSet::new();
    for number in 0..50_000 {
        let (pip, issuer) = (Arc::clone(&pip), Arc::clone(&issuer));
        flood.spawn(async move { ask(&pip, &question(&issuer, &format!("g-{number}"))).await });
    }
    let counts = metrics.introspection("main");
    until(|| counts.misses.value() >= 50_000).await;
    let held = counts.in_flight.value();
    assert!(held <= 512, "half of the places and no more: {held}");
    // Another client still finds a place.
    let other = peer("198.51.100.1:1");
    let honest = question(&issuer, "honest");
    let honest = pip.answer(&honest, &other, crate::clock::now());
    tokio::pin!(honest);
    assert!(
        futures_util::poll!(&mut honest).is_pending(),
        "it waits for its turn, where the flood is told to come back"
    );
    until(|| server.calls() >= CALLS).await;
    assert_eq!(server.most_open.load(SeqCst), CALLS, "calls at once");
    let mut busy = 0;
    while let Some(end) = flood.join_next().await {
        let refused = end.unwrap().unwrap_err();
        assert_eq!(refused.reason, Reason::IntrospectionUnavailable);
        busy += usize::from(refused.detail.contains("too many"));
    }
    assert!(busy >= 49_000, "{busy}");
    let (active, refused) = pip.introspection.answers.len();
    assert!(active == 0 && refused <= 512, "{active} {refused}");
}

#[tokio::test]
async fn connections_are_kept_and_one_that_was_closed_costs_a_try() {
    let server = Server::start(Does::Json(active())).await;
    let of = settings(&server);
    let issuer = Arc::clone(&of.issuer);
    let (pip, metrics) = pip(vec![of]);
    for number in 0..20 {
        ask(&pip, &question(&issuer, &format!("t-{number}")))
            .await
            .unwrap();
    }
    assert_eq!(server.connections.load(SeqCst), 1);
    // A server that closes after each answer, without a word about it.
    let closing = response(200, "application/json", &active());
    server.now_does(Does::Raw(closing));
    for number in 20..30 {
        ask(&pip, &question(&issuer, &format!("t-{number}")))
            .await
            .unwrap();
    }
    let text = metrics.render(NOW);
    let line = "portcullis_introspection_calls_total{issuer=\"main\",result=\"active\"} 30";
    assert!(text.contains(line), "{text}");
    let none = "portcullis_introspection_calls_total{issuer=\"main\",result=\"unreachable\"}";
    assert!(!text.contains(none), "{text}");
}

#[tokio::test]
async fn whatever_a_server_does_wrong_is_no_word_about_the_token() {
    // INT-06, INT-16: 503 and never 401
    let long = format!(
        "{{\"active\":true,\"a\":\"{}\"}}",
        "a".repeat(10 * 1024 * 1024)
    );
    let truncated =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"
            .to_vec();
    let cases: Vec<(&str, Vec<u8>, Reason)> = vec![
        (
            "500",
            response(500, "application/json", "{}"),
            Reason::IntrospectionUnavailable,
        ),
        (
            "204",
            b"HTTP/1.1 204 X\r\n\r\n".to_vec(),
            Reason::IntrospectionUnavailable,
        ),
        (
            "401",
            response(401, "application/json", "{}"),
            Reason::IntrospectionUnavailable,
        ),
        (
            "400",
            response(400, "text/html", "no"),
            Reason::IntrospectionUnavailable,
        ),
        (
            "HTML",
            response(200, "text/html", "<html>"),
            Reason::IntrospectionUnfit,
        ),
        (
            "HTML that says JSON",
            response(200, "application/json", "<html>"),
            Reason::IntrospectionUnfit,
        ),
        (
            "10 MB",
            response(200, "application/json", &long),
            Reason::IntrospectionUnfit,
        ),
        ("truncated", truncated, Reason::IntrospectionUnavailable),
        ("nothing", Vec::new(), Reason::IntrospectionUnavailable),
        (
            "no HTTP",
            b"SSH-2.0\r\n\r\n".to_vec(),
            Reason::IntrospectionUnavailable,
        ),
        (
            "redirect",
            b"HTTP/1.1 302 X\r\nlocation: http://127.0.0.1/\r\n\r\n".to_vec(),
            Reason::IntrospectionUnavailable,
        ),
    ];
    for (name, bytes, reason) in cases {
        let server = Server::start(Does::Raw(bytes)).await;
        let of = settings(&server);
        let issuer = Arc::clone(&of.issuer);
        let (pip, _) = pip(vec![of]);
        let failed = ask(&pip, &question(&issuer, "one")).await.unwrap_err();
        assert_eq!(failed.reason, reason, "{name}: {}", failed.detail);
        assert!(server.calls() <= 2, "{name}: {} calls", server.calls());
        // As soon as it is well again, so are we.
        server.now_does(Does::Json(active()));
        assert!(ask(&pip, &question(&issuer, "one")).await.is_ok(), "{name}");
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_waited_for_no_longer_than_written() {
    let server = Server::start(Does::Hang).await;
    let mut of = settings(&server);
    of.introspection.as_mut().unwrap().timeout = Duration::from_millis(200);
    let issuer = Arc::clone(&of.issuer);
    let (pip, _) = pip(vec![of]);
    let failed = ask(&pip, &question(&issuer, "one")).await.unwrap_err();
    assert_eq!(failed.reason, Reason::IntrospectionUnavailable);
    assert!(
        failed.detail.contains("no answer in 200ms"),
        "{}",
        failed.detail
    );
}

#[tokio::test]
async fn a_server_that_fails_is_left_alone_and_clients_are_told_when_to_come_back() {
    let server = Server::start(Does::Raw(response(500, "text/plain", ""))).await;
    let of = settings(&server);
    let issuer = Arc::clone(&of.issuer);
    let (pip, metrics) = pip(vec![of]);
    for number in 0..50 {
        let token = format!("t-{number}");
        let failed = ask(&pip, &question(&issuer, &token)).await.unwrap_err();
        if number >= 5 {
            let wait = failed.retry_after.unwrap().as_secs();
            assert!((290..=360).contains(&wait), "{wait}");
        }
    }
    assert_eq!(server.calls(), 5, "the failures that open it");
    let status = pip.status(NOW);
    let how = status[0].introspection.clone().unwrap();
    assert_eq!(how.breaker, BreakerState::Open);
    assert!(how.last_error.unwrap().contains("500"));
    let text = metrics.render(NOW);
    assert!(
        text.contains("portcullis_introspection_breaker{issuer=\"main\"} 2"),
        "{text}"
    );
}

#[tokio::test]
async fn an_issuer_that_hangs_does_not_slow_another() {
    let (hanging, well) = (
        Server::start(Does::Hang).await,
        Server::start(Does::Json(active())).await,
    );
    let (one, mut two) = (settings(&hanging), settings(&well));
    let issuer = Arc::get_mut(&mut two.issuer).unwrap();
    (issuer.id, issuer.name) = (crate::pdp::IssuerId(2), "other".into());
    let (first, second) = (Arc::clone(&one.issuer), Arc::clone(&two.issuer));
    let (pip, metrics) = pip(vec![one, two]);
    let mut waiting = tokio::task::JoinSet::new();
    for number in 0..400 {
        let (pip, issuer) = (Arc::clone(&pip), Arc::clone(&first));
        waiting.spawn(async move { ask(&pip, &question(&issuer, &format!("h-{number}"))).await });
    }
    until(|| metrics.introspection("main").in_flight.value() >= 400).await;
    for number in 0..200 {
        ask(&pip, &question(&second, &format!("t-{number}")))
            .await
            .unwrap();
    }
    assert_eq!(
        metrics.introspection("main").in_flight.value(),
        400,
        "they still wait"
    );
}

#[tokio::test]
async fn a_rejected_token_is_told_from_a_rejected_client() {
    let server = Server::start(Does::Rejects("token=odd")).await;
    let of = settings(&server);
    let issuer = Arc::clone(&of.issuer);
    let (gate, _) = pip(vec![of]);
    let said = ask(&gate, &question(&issuer, "odd")).await.unwrap();
    assert!(said.expires().is_none(), "refused by the issuer");
    assert_eq!(
        server.calls(),
        2,
        "once more, with a token of our own making"
    );
    ask(&gate, &question(&issuer, "odd-too")).await.unwrap();
    assert_eq!(
        server.calls(),
        3,
        "by now it is known that our way of asking is right"
    );
    // One that rejects all that we ask says nothing about tokens.
    server.now_does(Does::Rejects("token="));
    let of = settings(&server);
    let (gate, _) = pip(vec![of]);
    let failed = ask(&gate, &question(&issuer, "odd")).await.unwrap_err();
    assert_eq!(failed.reason, Reason::IntrospectionUnavailable);
}

#[tokio::test]
async fn a_server_in_trouble_is_not_hidden_by_a_rejected_token() {
    let server = Server::start(Does::RejectsOrFails("token=odd")).await;
    let of = settings(&server);
    let issuer = Arc::clone(&of.issuer);
    let (gate, metrics) = pip(vec![of]);
    for _ in 0..3 {
        let failed = ask(&gate, &question(&issuer, "odd")).await.unwrap_err();
        assert_eq!(failed.reason, Reason::IntrospectionUnavailable);
    }
    let text = metrics.render(NOW);
    let open = "portcullis_introspection_breaker{issuer=\"main\"} 2";
    assert!(text.contains(open), "{text}");
}

#[tokio::test]
async fn what_is_not_to_be_remembered_is_asked_each_time() {
    let server = Server::start(Does::Json(active())).await;
    let of = settings(&server);
    let issuer = Arc::clone(&of.issuer);
    let (pip, _) = pip(vec![of]);
    let remembered = question(&issuer, "one");
    let Ask::Introspect { issuer, token, .. } = remembered.clone() else {
        panic!();
    };
    let uncached = Ask::Introspect {
        issuer: Arc::clone(&issuer),
        token,
        remembered: false,
    };
    ask(&pip, &remembered).await.unwrap();
    for calls in 2..5 {
        ask(&pip, &uncached).await.unwrap();
        assert_eq!(server.calls(), calls);
    }
    // And what it finds is not hidden from those who take remembered answers.
    server.now_does(Does::Json(r#"{"active":false}"#.to_owned()));
    assert!(ask(&pip, &uncached).await.unwrap().expires().is_none());
    assert!(ask(&pip, &remembered).await.unwrap().expires().is_none());
    assert_eq!(server.calls(), 5);
}

#[tokio::test]
async fn answers_are_dropped_on_request_also_those_on_their_way() {
    let gate = Arc::new(Notify::new());
    let server = Server::start(Does::Json(active())).await;
    let of = settings(&server);
    let issuer = Arc::clone(&of.issuer);
    let (pip, _) = pip(vec![of]);
    let token = AccessToken::new("one").digest();
    let kinds = [
        Revoked::Token(token),
        Revoked::Client("tpp-1".into()),
        Revoked::Subject("u-1".into()),
        Revoked::All,
    ];
    for (calls, what) in (1..).zip(&kinds) {
        ask(&pip, &question(&issuer, "one")).await.unwrap();
        assert_eq!(server.calls(), calls);
        assert_eq!(pip.revoke(Some("other"), what), 0, "of another issuer");
        assert_eq!(pip.revoke(Some("main"), what), 1, "{what:?}");
    }
    ask(&pip, &question(&issuer, "one")).await.unwrap();
    let others = [
        Revoked::Token(TokenDigest([1; 32])),
        Revoked::Client("u-1".into()),
        Revoked::Subject("tpp-1".into()),
    ];
    for what in others {
        assert_eq!(pip.revoke(None, &what), 0, "{what:?}");
    }
    // One that was asked for before tells of the time before.
    server.now_does(Does::Gate(active(), Arc::clone(&gate)));
    let late = {
        let (pip, issuer) = (Arc::clone(&pip), Arc::clone(&issuer));
        tokio::spawn(async move { ask(&pip, &question(&issuer, "two")).await })
    };
    until(|| server.calls() >= 6).await;
    pip.revoke(None, &Revoked::All);
    gate.notify_one();
    late.await.unwrap().unwrap();
    server.now_does(Does::Json(active()));
    ask(&pip, &question(&issuer, "two")).await.unwrap();
    assert_eq!(server.calls(), 7, "asked again");
    assert_eq!(server.open.load(SeqCst), 0);
}
