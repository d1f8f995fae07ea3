//! One line for each request, whatever became of it, and never a secret in any.

use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use crate::lab::client::Request;
use crate::lab::h2::Http2;
use crate::lab::uuid;
use crate::support::stage::Playing;
use crate::support::{Gate, Stage};

fn playing() -> &'static Playing {
    static PLAYING: OnceLock<Playing> = OnceLock::new();
    PLAYING.get_or_init(|| Playing::new(|_, config| config))
}

fn line_of(request: Request) -> Value {
    let id = uuid();
    let request = request.field("x-fapi-interaction-id", &id);
    drop(playing().client().call(&request));
    let line = playing().gate.log("interaction_id", &id);
    assert_eq!(playing().gate.logs("interaction_id", &id).len(), 1);
    line
}

#[test]
fn an_authorized_request_leaves_one_full_line() {
    // OPS-02, FAPIH-06
    let token = playing().token();
    let line = line_of(Request::post("/accounts/1?secret=query", "hello").token(&token));
    for (field, value) in [
        ("outcome", "authorized"),
        ("listener", "bank"),
        ("route", "accounts-write"),
        ("method", "POST"),
        ("path", "/accounts/1"),
        ("client_id", "tpp-1"),
        ("issuer", "main"),
    ] {
        assert_eq!(line[field], value, "{field} in {line}");
    }
    assert_eq!(line["status"], 200);
    assert_eq!(line["generation"], 1);
    let text = line.to_string();
    assert!(text.contains(&playing().stage.a.thumbprint), "{line}");
    assert!(!text.contains("secret"), "{line}");
    // Half of the digest: enough to find a token again, too little to be taken for one.
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    let half: String = digest.as_ref()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(line["token_sha256"], half, "{line}");
    assert_eq!(line["bytes_in"], 5, "{line}");
    assert!(line["bytes_out"].as_u64().unwrap() > 0, "{line}");
    let time = line["time"].as_str().unwrap();
    assert!(
        time.ends_with('Z') && time.contains('T'),
        "RFC 3339: {time}"
    );
}

#[test]
fn refusals_say_which_and_what_kind() {
    let stage = &playing().stage;
    let expired = stage.issuer.sign(&stage.draft().expired());
    for (request, outcome, reason, status) in [
        (Request::get("/accounts/1"), "refused", "token_missing", 401),
        (
            Request::get("/accounts/1").token(&expired),
            "refused",
            "token_expired",
            401,
        ),
        (Request::get("/nowhere"), "refused", "route_not_found", 404),
        (
            Request::get("/accounts/1")
                .token(&playing().token())
                .host("other.bank.test"),
            "refused",
            "authority_mismatch",
            421,
        ),
    ] {
        let line = line_of(request);
        assert_eq!(line["outcome"], outcome, "{line}");
        assert_eq!(line["reason"], reason, "{line}");
        assert_eq!(line["status"], status, "{line}");
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_leaves_its_line() {
    let stage = &playing().stage;
    let token = playing().token();
    let id = uuid();
    let mut connection = playing().client().open().unwrap();
    let request = Request::get("/accounts/1")
        .token(&token)
        .case("leaves")
        .field("x-lab", "hold:leaves")
        .field("x-fapi-interaction-id", &id);
    connection.send(&request.bytes()).unwrap();
    stage.legacy.await_seen("leaves", |_| true);
    drop(connection);
    let line = playing()
        .gate
        .find_log("interaction_id", &id, Duration::from_secs(3));
    stage.legacy.release("leaves");
    let line = line.unwrap_or_else(|| playing().gate.log("interaction_id", &id));
    assert_eq!(line["outcome"], "aborted", "{line}");

    // Within the answer.
    let id = uuid();
    let mut connection = playing().client().open().unwrap();
    let request = Request::get("/accounts/1")
        .token(&token)
        .field("x-lab", "endless")
        .field("x-fapi-interaction-id", &id);
    connection.send(&request.bytes()).unwrap();
    assert_eq!(connection.head("GET").unwrap().0.status, 200);
    drop(connection);
    let line = playing().gate.log("interaction_id", &id);
    assert_eq!(line["outcome"], "aborted", "{line}");
    assert_eq!(line["status"], 200);
    // An HTTP/2 stream that is reset.
    let id = uuid();
    let mut connection = Http2::open(&playing().client()).unwrap();
    let request = Request::get("/accounts/1")
        .token(&token)
        .field("x-lab", "endless")
        .field("x-fapi-interaction-id", &id);
    let request = Http2::request(&request);
    connection.runtime.block_on(async {
        let response = connection.sender.send_request(request).await.unwrap();
        drop(response);
        tokio::time::sleep(Duration::from_millis(50)).await;
    });
    let line = playing().gate.log("interaction_id", &id);
    assert_eq!(line["outcome"], "aborted", "{line}");
}

#[test]
fn bytes_that_never_became_a_request_leave_a_line_too() {
    let mut connection = playing().client().open().unwrap();
    connection.send(b"BROKEN\r\n\r\n").unwrap();
    let answer = connection.answer("GET").unwrap();
    let id = answer.field("x-fapi-interaction-id").unwrap().to_owned();
    let line = playing().gate.log("interaction_id", &id);
    assert_eq!(line["status"], 400);
    assert_eq!(line["outcome"], "refused");
}

#[test]
fn every_line_of_stdout_is_json_whatever_the_client_sends() {
    // Log injection
    let token = playing().token();
    for target in ["/accounts/%22%7D", "/accounts/a\u{e9}", "/accounts/1?x=\"}"] {
        drop(playing().client().call(&Request::get(target).token(&token)));
    }
    drop(line_of(Request::get("/accounts/last").token(&token)));
    for line in playing().gate.stdout().lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
}

#[test]
fn a_token_is_in_no_log_at_any_level() {
    // PRES-10; authorino#617, ai-gateway#2436, ATK-03
    let stage = Stage::new();
    let config = stage.write(&stage.config());
    let gate = Gate::start_with(&config, &["--log-level", "trace"]);
    gate.until("readiness", || gate.admin("/readyz").status == 200);
    let client = stage.client(&gate);
    let good = stage.token();
    let expired = stage.issuer.sign(&stage.draft().expired());
    let broken = format!("{}x.y.z", &good[..60]);
    let opaque = "canaryCANARYcanaryCANARY";
    for token in [good.as_str(), &expired, &broken, opaque] {
        drop(client.call(&Request::get("/accounts/1").token(token)));
        drop(client.call(&Request::get(&format!("/accounts/1?access_token={token}"))));
        drop(
            client.call(
                &Request::get("/accounts/1").field("authorization", &format!("Basic {token}")),
            ),
        );
        drop(client.call(&Request::post("/accounts/1", token).token(token)));
        drop(
            client.call(
                &Request::get("/accounts/1")
                    .token(token)
                    .field("x-lab", "close"),
            ),
        );
        drop(
            Http2::open(&client)
                .unwrap()
                .call(&Request::get("/accounts/1").token(token)),
        );
        let mut connection = client.open().unwrap();
        drop(
            connection.send(
                format!("GET / HTTP/1.1\r\nAuthorization : Bearer {token}\r\n\r\n").as_bytes(),
            ),
        );
        drop(connection.answer("GET"));
    }
    let last = uuid();
    drop(client.call(&Request::get("/accounts/1").field("x-fapi-interaction-id", &last)));
    gate.log("interaction_id", &last);
    let everything = gate.stdout() + &gate.stderr();
    for token in [&good, &expired, &broken] {
        for part in token.split('.').filter(|part| part.len() > 20) {
            assert!(
                !everything.contains(&part[part.len() - 20..]),
                "part of a token is in a log"
            );
        }
    }
    assert!(!everything.contains(opaque));
}

#[test]
fn there_is_a_format_for_people() {
    let stage = Stage::new();
    let config = stage.write(&stage.config());
    let gate = Gate::start_with(&config, &["--log-format", "text"]);
    gate.until("readiness", || gate.admin("/readyz").status == 200);
    let answer = stage
        .client(&gate)
        .call(&Request::get("/accounts/1"))
        .unwrap();
    assert_eq!(answer.status, 401);
    gate.until("a line", || gate.stdout().contains("token_missing"));
    assert!(serde_json::from_str::<Value>(gate.stdout().lines().next().unwrap()).is_err());
}

#[test]
fn lines_of_one_connection_say_each_what_its_own_request_was() {
    // OPS-02: what the line before said of who asks is said again only where all of it is the same.
    let stage = &playing().stage;
    let token = playing().token();
    let other = stage.draft().claim("client_id", "tpp-2");
    let other = stage.issuer.sign(&other);
    let requests = [
        Request::get("/accounts/1").token(&token),
        Request::get("/accounts/2").token(&token),
        Request::get("/accounts/2"),
        Request::get("/accounts/1").token(&other),
        Request::get("/accounts/1").token(&other),
        Request::post("/accounts/1", "hello").token(&other),
        Request::get("/public/1"),
        Request::get("/nowhere"),
        Request::get("/accounts/1").token(&token),
        Request::get("/accounts/1").token(&token),
    ];
    let mut connection = playing().client().open().unwrap();
    for request in requests {
        let alone = line_of(request.clone());
        let id = uuid();
        let numbered = request.field("x-fapi-interaction-id", &id);
        drop(connection.call(&numbered).unwrap());
        let line = playing().gate.log("interaction_id", &id);
        let who = |line: &Value| {
            let mut line = line.as_object().unwrap().clone();
            line.retain(|name, _| {
                let own = ["time", "interaction_id", "remote"];
                !name.ends_with("_us") && !own.contains(&&**name)
            });
            line
        };
        assert_eq!(who(&line), who(&alone));
    }
}
