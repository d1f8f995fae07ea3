//! Bounds: each ends in the answer, or the close, that it has a reason for.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::lab::client::Request;
use crate::lab::h2::Http2;
use crate::support::Stage;
use crate::support::stage::{Playing, assert_proper, assert_refused};

const SMALL: &str = r#"
streams = 5
header_bytes = "8KiB"
token_bytes = "4KiB"
body_bytes = "4KiB"
handshake_timeout = "1s"
header_timeout = "1s"
body_timeout = "3s"
idle_timeout = "2s"
request_timeout = "2s"
"#;

fn playing() -> &'static Playing {
    static PLAYING: OnceLock<Playing> = OnceLock::new();
    PLAYING.get_or_init(|| {
        Playing::new(|_, mut config| {
            config.limits.push_str(SMALL);
            config.route(
                "roomy",
                "/roomy/**",
                "policy = { scopes = [\"accounts\"] }\nlimits = { body_bytes = \"64KiB\", request_timeout = \"10s\" }",
            )
        })
    })
}

#[test]
fn a_head_that_is_too_large_is_431_on_both_protocols() {
    // HTTP-15, PRES-09
    let wide = "x".repeat(9 * 1024);
    let request = Request::get("/accounts/1")
        .token(&playing().token())
        .field("x-wide", &wide);
    let answer = playing().client().call(&request).unwrap();
    assert_refused(&answer, 431, "fields_too_large");
    let mut connection = Http2::open(&playing().client()).unwrap();
    let answer = connection.call(&request).unwrap();
    assert_eq!(answer.status, 431);
    assert_proper(&answer);
    let below = Request::get("/accounts/1")
        .token(&playing().token())
        .field("x-wide", &wide[..4000]);
    assert_eq!(playing().client().call(&below).unwrap().status, 200);
    assert_eq!(connection.call(&below).unwrap().status, 200);
}

#[test]
fn a_token_that_is_too_long_is_401_without_a_look_at_it() {
    // TOK-26
    let draft = playing().stage.draft().claim("note", "x".repeat(4000));
    let request = Request::get("/accounts/1").token(&playing().stage.issuer.sign(&draft));
    let answer = playing().client().call(&request).unwrap();
    assert_refused(&answer, 401, "token_too_large");
}

#[test]
fn a_body_that_is_too_large_is_413_declared_or_not() {
    // AUTHZ-13
    let token = playing().token();
    let declared = Request::post("/accounts/1", "x".repeat(5000))
        .token(&token)
        .case("declared");
    let answer = playing().client().call(&declared).unwrap();
    assert_refused(&answer, 413, "body_too_large");
    assert!(
        playing().stage.legacy.seen("declared").is_empty(),
        "known before it was forwarded"
    );
    let mut connection = playing().client().open().unwrap();
    let head = Request::post("/accounts/1", "")
        .token(&token)
        .case("chunked")
        .head_text();
    connection
        .send(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes())
        .unwrap();
    for _ in 0..20 {
        let piece = format!("1f4\r\n{}\r\n", "x".repeat(500));
        if connection.send(piece.as_bytes()).is_err() {
            break;
        }
    }
    let answer = connection.answer("POST").unwrap();
    assert_refused(&answer, 413, "body_too_large");
    assert!(
        playing()
            .stage
            .legacy
            .seen("chunked")
            .iter()
            .all(|seen| !seen.complete)
    );
    let mut connection = Http2::open(&playing().client()).unwrap();
    assert_refused(&connection.call(&declared).unwrap(), 413, "body_too_large");
    // A route may have a bound of its own.
    let roomy = Request::post("/roomy/1", "x".repeat(60_000)).token(&token);
    assert_eq!(playing().client().call(&roomy).unwrap().status, 200);
    assert_eq!(connection.call(&roomy).unwrap().status, 200);
    let exact = Request::post("/accounts/1", "x".repeat(4096)).token(&token);
    assert_eq!(playing().client().call(&exact).unwrap().status, 200);
}

#[test]
fn a_head_that_comes_slowly_is_cut_off() {
    // HTTP-15
    let started = Instant::now();
    let mut connection = playing().client().open().unwrap();
    connection
        .send(b"GET /accounts/1 HTTP/1.1\r\nHost: api.bank.test\r\n")
        .unwrap();
    // Dribbling does not help: the time is for the head as a whole.
    for _ in 0..30 {
        if connection.send(b"X-A: b\r\n").is_err() || connection.closes(Duration::from_millis(100))
        {
            break;
        }
        if !connection.reader().rest().is_empty() {
            break;
        }
    }
    if !connection.reader().rest().is_empty() {
        let answer = connection.answer("GET").unwrap();
        assert_refused(&answer, 408, "request_too_slow");
        assert!(connection.closes(Duration::from_secs(2)));
    }
    let took = started.elapsed();
    assert!(
        took > Duration::from_millis(800) && took < Duration::from_secs(8),
        "{took:?}"
    );
}

#[test]
fn a_body_that_stops_coming_is_408() {
    let started = Instant::now();
    let mut connection = playing().client().open().unwrap();
    let head = Request::post("/roomy/1", "")
        .token(&playing().token())
        .head_text();
    connection
        .send(format!("{head}Content-Length: 100\r\n\r\nhalf").as_bytes())
        .unwrap();
    let answer = connection.answer("POST").unwrap();
    assert_refused(&answer, 408, "request_too_slow");
    let took = started.elapsed();
    assert!(
        took > Duration::from_millis(800) && took < Duration::from_secs(9),
        "{took:?}"
    );
    assert!(connection.closes(Duration::from_secs(2)));
}

#[test]
fn a_connection_without_requests_is_closed() {
    // HTTP-15
    let started = Instant::now();
    let mut connection = playing().client().open().unwrap();
    let request = Request::get("/accounts/1").token(&playing().token());
    assert_eq!(connection.call(&request).unwrap().status, 200);
    let mut http2 = Http2::open(&playing().client()).unwrap();
    assert_eq!(http2.call(&request).unwrap().status, 200);
    assert!(connection.closes(Duration::from_secs(6)));
    assert!(
        started.elapsed() > Duration::from_millis(1500),
        "{:?}",
        started.elapsed()
    );
    assert!(http2.closes(Duration::from_secs(6)));
}

#[test]
fn a_handshake_that_stalls_is_cut_off() {
    let started = Instant::now();
    let mut socket = std::net::TcpStream::connect(playing().gate.address("bank")).unwrap();
    std::io::Write::write_all(&mut socket, &[22, 3, 1, 2, 0]).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut rest = Vec::new();
    drop(std::io::Read::read_to_end(&mut socket, &mut rest));
    let took = started.elapsed();
    assert!(
        took > Duration::from_millis(800) && took < Duration::from_secs(8),
        "{took:?}"
    );
}

#[test]
fn a_request_that_takes_too_long_is_504() {
    let request = Request::get("/accounts/1").field("x-lab", "late:5000");
    let started = Instant::now();
    let answer = playing().call(request);
    assert_refused(&answer, 504, "upstream_timeout");
    assert!(started.elapsed() < Duration::from_millis(4800));
    // An answer that has begun may take its time.
    let answer = playing().call(Request::get("/accounts/1").field("x-lab", "drip:12:200"));
    assert_eq!(answer.body.len(), 12 * 12);
}

#[test]
fn streams_of_a_connection_are_bounded() {
    let mut connection = Http2::open(&playing().client()).unwrap();
    let token = playing().token();
    let requests: Vec<Request> = (0..20)
        .map(|n| {
            Request::get("/roomy/1")
                .token(&token)
                .case(&format!("stream {n}"))
                .field("x-lab", "late:200")
        })
        .collect();
    // Once it knows the settings the client keeps the bound: all are served in the end.
    assert_eq!(connection.call(&requests[0]).unwrap().status, 200);
    for answer in connection.call_all(&requests) {
        assert_eq!(answer.unwrap().status, 200);
    }
}

#[test]
fn connections_of_a_listener_are_bounded() {
    let stage = Stage::new();
    let mut config = stage.config();
    config.limits.push_str("connections = 3\n");
    let gate = stage.start(&config);
    let request = Request::get("/accounts/1").token(&stage.token());
    let mut open: Vec<_> = (0..3)
        .map(|_| stage.client(&gate).open().unwrap())
        .collect();
    for connection in &mut open {
        assert_eq!(connection.call(&request).unwrap().status, 200);
    }
    assert!(stage.client(&gate).call(&request).is_err());
    gate.until("the metric", || {
        gate.metric("portcullis_handshakes_total", &["connection_limit"]) >= 1.0
    });
    for connection in &mut open {
        assert_eq!(connection.call(&request).unwrap().status, 200);
    }
    drop(open);
    gate.until("room", || {
        stage
            .client(&gate)
            .call(&request)
            .is_ok_and(|answer| answer.status == 200)
    });
}

#[test]
fn connections_to_the_api_are_bounded_and_the_rest_is_told_so() {
    // ERR-09
    let stage = Stage::new();
    let mut config = stage.config();
    config.upstream.insert("max_connections", "2".to_owned());
    let gate = stage.start(&config);
    let token = stage.token();
    let held = |n: usize| {
        Request::get("/accounts/1")
            .token(&token)
            .case(&format!("held {n}"))
            .field("x-lab", "hold:full")
    };
    let mut open = Vec::new();
    for n in 0..2 {
        let mut connection = stage.client(&gate).open().unwrap();
        connection.send(&held(n).bytes()).unwrap();
        stage.legacy.await_seen(&format!("held {n}"), |_| true);
        open.push(connection);
    }
    let answer = stage
        .client(&gate)
        .call(&Request::get("/accounts/1").token(&token))
        .unwrap();
    assert_refused(&answer, 503, "overloaded");
    assert!(answer.field("retry-after").is_some());
    stage.legacy.release("full");
    for connection in &mut open {
        assert_eq!(connection.answer("GET").unwrap().status, 200);
    }
    assert_eq!(
        stage
            .client(&gate)
            .call(&Request::get("/accounts/1").token(&token))
            .unwrap()
            .status,
        200
    );
}

#[test]
fn an_api_out_of_reach_is_502_and_comes_back() {
    // ERR-09
    let stage = Stage::new();
    let mut config = stage.config();
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    config
        .upstream
        .insert("servers", format!("[\"http://{free}\"]"));
    let gate = stage.start(&config);
    let request = Request::get("/accounts/1").token(&stage.token());
    let answer = stage.client(&gate).call(&request).unwrap();
    assert_refused(&answer, 502, "upstream_unreachable");
    stage.write(&stage.config());
    gate.reload();
    assert_eq!(stage.client(&gate).call(&request).unwrap().status, 200);
}
