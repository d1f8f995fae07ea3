//! What is requested is what was approved: policies that are about the body.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::lab::client::Request;
use crate::lab::h2::Http2;
use crate::support::stage::{Playing, assert_refused};
use serde_json::{Value, json};

const LINKED: &str = r#"
scopes = ["accounts"]
[dynamic_linking]
type = "payment_initiation"
body_bytes = "2KiB"
amounts = { "/instructedAmount/amount" = "/instructedAmount/amount" }
values = { "/instructedAmount/currency" = "/instructedAmount/currency", "/creditorAccount/iban" = "/creditorAccount/iban" }
"#;

const SMALL: &str = r#"
scopes = ["accounts"]
acr_ranks = ["pwd", "sca", "qes"]
[[step_up]]
methods = ["POST"]
acr_at_least = "sca"
max_age = "5m"
amount = { at = "/amount", above = "30.00", currency = "EUR", currency_at = "/currency" }
"#;

fn playing() -> &'static Playing {
    static PLAYING: OnceLock<Playing> = OnceLock::new();
    PLAYING.get_or_init(|| {
        Playing::new(|stage, mut config| {
            std::fs::create_dir_all(stage.path("policies")).unwrap();
            std::fs::write(stage.path("policies/linked.toml"), LINKED).unwrap();
            std::fs::write(stage.path("policies/small.toml"), SMALL).unwrap();
            config.top.push_str("policies = \"policies\"\n");
            config
                .route("pay", "/pay/**", "policy = \"linked\"")
                .route(
                    "trial",
                    "/trial/**",
                    "observe = { until = \"2999-12-31\" }\npolicy = \"linked\"",
                )
                .route("small", "/small/**", "policy = \"small\"")
                .route(
                    "slow",
                    "/slow/**",
                    "limits = { body_timeout = \"1s\" }\npolicy = \"linked\"",
                )
        })
    })
}

fn approved(amount: &Value) -> String {
    let entry = json!({
        "type": "payment_initiation",
        "instructedAmount": { "amount": amount, "currency": "EUR" },
        "creditorAccount": { "iban": "DE02A" },
    });
    let draft = playing().stage.draft();
    let issuer = &playing().stage.issuer;
    issuer.sign(&draft.claim("authorization_details", json!([entry])))
}

fn payment(amount: &str, currency: &str, iban: &str) -> String {
    // Blanks, order and escapes of its own: what arrives must be these bytes.
    format!(
        "{{ \"creditorAccount\" : {{\"iban\":\"{iban}\"}},\r\n\t\"instructedAmount\":{{\"currency\":\"{currency}\",\"amount\":{amount}}}, \"x\":\"\\u00e9\"}}  "
    )
}

fn pay(path: &str, body: &str) -> Request {
    Request::post(path, body)
        .token(&approved(&json!("100.00")))
        .field("Content-Type", "application/json")
}

#[test]
fn what_differs_from_what_was_approved_is_refused_before_the_api_sees_a_byte() {
    // AUTHZ-10
    for (case, reason, status, body) in [
        (
            "a cent more",
            "not_as_approved",
            403,
            payment("\"100.01\"", "EUR", "DE02A"),
        ),
        (
            "to B",
            "not_as_approved",
            403,
            payment("\"100.00\"", "EUR", "DE02B"),
        ),
        (
            "in dollars",
            "not_as_approved",
            403,
            payment("\"100.00\"", "USD", "DE02A"),
        ),
        (
            "keys twice",
            "body_unfit",
            400,
            payment("\"100.00\",\"amount\":\"900.00\"", "EUR", "DE02A"),
        ),
        (
            "huge",
            "not_as_approved",
            403,
            payment(&"9".repeat(300), "EUR", "DE02A"),
        ),
        (
            "exponent",
            "body_unfit",
            400,
            payment("1e400", "EUR", "DE02A"),
        ),
        (
            "too long",
            "body_too_large",
            413,
            payment(&" ".repeat(3000), "EUR", "DE02A"),
        ),
    ] {
        let request = pay("/pay/1", &body).case(case);
        let answer = playing().client().call(&request).unwrap();
        assert_refused(&answer, status, reason);
        let text = String::from_utf8_lossy(&answer.body);
        assert!(!text.contains("DE02") && !text.contains("100.0"), "{text}");
        assert!(playing().stage.legacy.seen(case).is_empty(), "{case}");
        let id = answer.field("x-fapi-interaction-id").unwrap();
        let line = playing().gate.log("interaction_id", id).to_string();
        assert!(!line.contains("DE02") && !line.contains("900.00"), "{line}");
        let mut connection = Http2::open(&playing().client()).unwrap();
        assert_refused(&connection.call(&request).unwrap(), status, reason);
        assert!(playing().stage.legacy.seen(case).is_empty(), "{case}");
    }
}

#[test]
fn what_was_approved_is_sent_on_byte_for_byte() {
    // AUTHZ-13, JAR-17 in spirit
    let body = payment("100.0", "EUR", "DE02A");
    let request = pay("/pay/1", &body).case("approved");
    let answer = playing().client().call(&request).unwrap();
    assert_eq!(answer.status, 200, "{:?}", answer.reason());
    assert_eq!(
        playing().stage.legacy.only("approved").body,
        body.as_bytes()
    );

    let mut connection = Http2::open(&playing().client()).unwrap();
    let request = pay("/pay/1", &body).case("approved h2");
    assert_eq!(connection.call(&request).unwrap().status, 200);
    assert_eq!(
        playing().stage.legacy.only("approved h2").body,
        body.as_bytes()
    );

    // In pieces, with trailers, on a connection that stays.
    let mut connection = playing().client().open().unwrap();
    for case in ["pieces one", "pieces two"] {
        let head = pay("/pay/1", "").case(case).head_text();
        let mut text = format!("{head}Transfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n");
        for piece in body.as_bytes().chunks(7) {
            let piece = String::from_utf8_lossy(piece);
            text.push_str(&format!("{:x}\r\n{piece}\r\n", piece.len()));
        }
        text.push_str("0\r\nx-sum: 1\r\n\r\n");
        connection.send(text.as_bytes()).unwrap();
        assert_eq!(connection.answer("POST").unwrap().status, 200);
        let seen = playing().stage.legacy.only(case);
        assert_eq!(seen.body, body.as_bytes());
        assert_eq!(seen.trailers, [("x-sum".to_owned(), "1".to_owned())]);
    }
    // One that was refused after its whole body leaves the connection as it was.
    let wrong = pay("/pay/1", &payment("1", "EUR", "DE02A"));
    for _ in 0..2 {
        assert_refused(&connection.call(&wrong).unwrap(), 403, "not_as_approved");
    }
}

#[test]
fn a_body_is_asked_for_once_the_rest_is_good() {
    let body = payment("100", "EUR", "DE02A");
    let mut connection = playing().client().open().unwrap();
    let expecting = |token: &str| {
        let request = Request::post("/pay/1", "")
            .token(token)
            .field("Content-Type", "application/json")
            .field("Expect", "100-continue");
        format!(
            "{}Content-Length: {}\r\n\r\n",
            request.head_text(),
            body.len()
        )
    };
    connection
        .send(expecting(&approved(&json!(100))).as_bytes())
        .unwrap();
    let interim = connection.reader().head().unwrap().unwrap();
    assert!(
        interim.start.starts_with("HTTP/1.1 100"),
        "{}",
        interim.start
    );
    connection.send(body.as_bytes()).unwrap();
    assert_eq!(connection.answer("POST").unwrap().status, 200);

    let expired = playing()
        .stage
        .issuer
        .sign(&playing().stage.draft().expired());
    let mut connection = playing().client().open().unwrap();
    connection.send(expecting(&expired).as_bytes()).unwrap();
    let answer = connection.answer("POST").unwrap();
    assert_refused(&answer, 401, "token_expired");
    assert!(answer.interim.is_empty());
}

#[test]
fn a_body_that_stops_coming_before_the_decision_is_408() {
    let started = Instant::now();
    let mut connection = playing().client().open().unwrap();
    let head = pay("/slow/1", "").case("stops").head_text();
    connection
        .send(format!("{head}Content-Length: 100\r\n\r\nhalf").as_bytes())
        .unwrap();
    let answer = connection.answer("POST").unwrap();
    assert_refused(&answer, 408, "request_too_slow");
    assert!(started.elapsed() > Duration::from_millis(800));
    assert!(connection.closes(Duration::from_secs(2)));
    assert!(playing().stage.legacy.seen("stops").is_empty());
}

#[test]
fn an_observed_route_passes_what_it_could_not_read() {
    for (case, reason, body) in [
        (
            "trial differs",
            "not_as_approved",
            payment("1", "EUR", "DE02A"),
        ),
        ("trial garbage", "body_unfit", "{{".to_owned()),
        (
            "trial long",
            "body_too_large",
            payment(&" ".repeat(200_000), "EUR", "DE02A"),
        ),
    ] {
        let answer = playing()
            .client()
            .call(&pay("/trial/1", &body).case(case))
            .unwrap();
        assert_eq!(answer.status, 200, "{case}");
        assert_eq!(
            playing().stage.legacy.only(case).body,
            body.as_bytes(),
            "{case}"
        );
        let id = answer.field("x-fapi-interaction-id").unwrap();
        let line = playing().gate.log("interaction_id", id);
        assert_eq!(
            (&line["outcome"], &line["reason"]),
            (&json!("observed"), &json!(reason))
        );
    }
}

#[test]
fn a_small_amount_needs_less() {
    // STEP-06
    let request = |amount: &str, currency: &str| {
        let body = json!({ "amount": amount, "currency": currency }).to_string();
        pay("/small/1", &body)
    };
    let call = |request: Request| playing().client().call(&request).unwrap();
    assert_eq!(call(request("30", "EUR")).status, 200);
    for (amount, currency) in [("30.01", "EUR"), ("30.00", "GBP")] {
        let answer = call(request(amount, currency));
        assert_refused(&answer, 401, "authentication_too_weak");
        let challenge = answer.challenge().unwrap();
        assert!(challenge.contains("acr_values=\"sca qes\""), "{challenge}");
        assert!(challenge.contains("max_age=300") || challenge.contains("max_age=\"300\""));
    }
    let strong = playing().stage.draft();
    let strong = strong
        .claim("acr", "qes")
        .claim("auth_time", crate::lab::now() - 5);
    let token = playing().stage.issuer.sign(&strong);
    let body = json!({ "amount": 4000, "currency": "EUR" }).to_string();
    let request = Request::post("/small/1", body)
        .token(&token)
        .field("Content-Type", "application/json");
    assert_eq!(call(request).status, 200);
    assert_eq!(
        call(Request::get("/small/1").token(&playing().token())).status,
        200
    );
}
