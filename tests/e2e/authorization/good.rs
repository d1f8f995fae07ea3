//! What must pass, and that it arrives as it was sent (JAR-17).

use serde_json::json;

use super::*;
use crate::lab::h2::Http2;
use crate::lab::jose::Proof;

/// Sends it, and sees that exactly it arrived.
#[track_caller]
fn arrives(name: &str, request: Request) -> lab::legacy::Seen {
    let sent = request.case(name);
    let answer = call(&sent);
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, 200, "{name}: {body}");
    assert_eq!(answer.field("cache-control"), Some("no-store"), "{name}");
    let seen = playing().stage.legacy.only(name);
    assert_eq!((&seen.method, &seen.target), (&sent.method, &sent.target));
    assert_eq!(
        seen.body,
        sent.body.unwrap_or_default(),
        "{name}: byte for byte"
    );
    assert!(
        seen.complete && seen.flaws.is_empty(),
        "{name}: {:?}",
        seen.flaws
    );
    seen
}

#[test]
fn the_walk_of_a_sound_client() {
    arrives(
        "push",
        push(
            &object().sign(&keys().es),
            &[("client_id", "tpp"), ("state", "s t")],
        ),
    );
    let uri = format!("{URN}6esc_11ACC5bwc014ltc14eY22c");
    let pairs = [("client_id", "tpp"), ("request_uri", uri.as_str())];
    arrives("authorize", get("/main/authorize", &pairs));
    arrives("authorize by POST", post("/main/authorize", &pairs));
    arrives("token", redeem(&assertion().sign(&keys().es)));
    let log = playing().gate.log("route", "main-token");
    assert_eq!(log["client_id"], "tpp", "{log}");
    assert_eq!(log["organisation"], "TPP Ltd", "{log}");
    assert!(log.get("policy").is_none(), "{log}");
}

#[test]
fn the_three_that_must_pass() {
    // JAR-06, JAR-04, JAR-11
    let now = lab::now();
    let sign = |object: Draft| push(&object.sign(&keys().es), &[]);
    arrives(
        "nbf 8 s ahead",
        sign(object().claim("nbf", now + 8).claim("iat", now + 8)),
    );
    let many = json!(["https://other.test", ISSUER]);
    arrives(
        "an aud array with the issuer in it",
        sign(object().claim("aud", many)),
    );
    arrives("no typ", sign(object().without_header("typ")));
}

#[test]
fn no_script_of_another_origin_reads_the_authorization_endpoint() {
    // TLS-20
    let uri = format!("{URN}abc");
    let pairs = [("client_id", "tpp"), ("request_uri", uri.as_str())];
    let raw = "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\naccess-control-allow-credentials: true\r\nContent-Length: 2\r\n\r\nok";
    let lab = format!("raw:{}", lab::base64url(raw.as_bytes()));
    let answer = call(
        &get("/main/authorize", &pairs)
            .field("X-Lab", &lab)
            .field("Origin", "https://evil.test"),
    );
    assert_eq!(answer.status, 200);
    assert!(answer.field("access-control-allow-origin").is_none());
    assert!(answer.field("access-control-allow-credentials").is_none());
    let asks = Request::new("OPTIONS", "/main/authorize").field("Origin", "https://evil.test");
    let asks = call(&asks.field("Access-Control-Request-Method", "GET"));
    assert_eq!(asks.status, 405);
    assert!(asks.field("access-control-allow-origin").is_none());
    // What scripts may ask of other endpoints is the server's affair.
    let token = redeem(&assertion().sign(&keys().ps)).field("X-Lab", &lab);
    assert_eq!(call(&token).field("access-control-allow-origin"), Some("*"));
}

#[test]
fn the_old_profile_takes_objects_at_the_front() {
    let object = object().claim("response_mode", "jwt").sign(&keys().ps);
    let pairs = [
        ("client_id", "tpp"),
        ("request", object.as_str()),
        ("scope", "accounts"),
    ];
    arrives("an object at the front", get("/old/authorize", &pairs));
}

#[test]
fn bytes_that_another_writer_would_write_otherwise() {
    // JAR-17: escapes in either case, plus and %20, an order of its own, an empty parameter.
    let (object, assertion) = (object().sign(&keys().es), assertion().sign(&keys().ps));
    let body = format!(
        "state=s%20t&client_assertion={assertion}&unknown=&scope=%61ccounts&request={object}&client_assertion_type={}",
        KIND.replace(':', "%3A")
    );
    let request = Request::post("/main/par", body).field("Content-Type", FORM);
    arrives("odd escapes", request);
}

#[test]
fn a_proof_of_the_client_reaches_the_server_that_binds_the_token_to_it() {
    // RFC 9449 s5
    let url = "https://api.bank.test/main/token";
    let proof = Proof::new(&keys().es, "POST", url, "none")
        .without("ath")
        .sign(&keys().es);
    let request = redeem(&assertion().sign(&keys().ps)).field("DPoP", &proof);
    let seen = arrives("with a proof", request);
    assert_eq!(seen.field("dpop"), Some(proof.as_str()));
}

#[test]
fn an_encrypted_object_passes_where_the_route_says_so() {
    // JAR-16
    let request = Request {
        target: "/sealed/par".to_owned(),
        ..push("eyJ.a.b.c.d", &[])
    };
    arrives("encrypted", request);
}

#[test]
fn over_http2_and_in_pieces_it_is_the_same() {
    let body = push(&object().sign(&keys().es), &[]).body.unwrap();
    let request = Request::new("POST", "/main/par")
        .field("Content-Type", FORM)
        .case("in pieces");
    let mut connection = playing().anonymous().open().unwrap();
    let mut text = format!("{}Transfer-Encoding: chunked\r\n\r\n", request.head_text());
    for piece in body.chunks(7) {
        let piece = std::str::from_utf8(piece).unwrap();
        text.push_str(&format!("{:x}\r\n{piece}\r\n", piece.len()));
    }
    text.push_str("0\r\n\r\n");
    connection.send(text.as_bytes()).unwrap();
    assert_eq!(connection.answer("POST").unwrap().status, 200);
    assert_eq!(playing().stage.legacy.only("in pieces").body, body);

    let body = push(&object().sign(&keys().es), &[]).body.unwrap();
    let request = Request::post("/main/par", body.clone())
        .field("Content-Type", FORM)
        .case("over h2");
    let client = playing().anonymous().alpn(&["h2"]);
    let mut http2 = Http2::open(&client).unwrap();
    assert_eq!(http2.call(&request).unwrap().status, 200);
    assert_eq!(playing().stage.legacy.only("over h2").body, body);
}

#[test]
fn explain_decides_as_the_gate_does() {
    let stage = &playing().stage;
    let good = object().sign(&keys().es);
    let old = object().claim("exp", lab::now() - 1).sign(&keys().es);
    for (name, request, outcome) in [
        ("explained", push(&good, &[]), "authorized"),
        ("explained-old", push(&old, &[]), "request_object_untimely"),
        (
            "explained-other",
            push(&good, &[("state", "x")]),
            "parameter_conflict",
        ),
    ] {
        let body = stage.path(&format!("{name}.form"));
        std::fs::write(&body, request.body.as_deref().unwrap()).unwrap();
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["explain", "--json", "--method", "POST", "--config"])
            .arg(stage.path("portcullis.toml"))
            .args(["--url", "https://api.bank.test/main/par", "--header"])
            .arg(format!("content-type: {FORM}"))
            .arg("--body-file")
            .arg(&body)
            .output()
            .unwrap();
        let said = String::from_utf8(done.stdout).unwrap();
        let json: Value = serde_json::from_str(&said)
            .unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&done.stderr)));
        let decision = &json["decision"];
        let reason = decision["reason"].as_str().or(decision["outcome"].as_str());
        assert_eq!(reason, Some(outcome), "{said}");
        assert_eq!(done.status.code(), Some(i32::from(outcome != "authorized")));
        assert!(said.contains("TPP Ltd"), "{said}");
        assert!(!said.contains("eyJ"), "no assertion is shown: {said}");
        let answer = call(&request.case(name));
        assert_eq!(answer.status == 200, outcome == "authorized", "{name}");
    }
}
