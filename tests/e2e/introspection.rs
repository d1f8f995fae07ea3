//! Opaque tokens, and JWTs that their issuer is asked about: the real binary against a real
//! authorization server, sound and not, and the door through which tokens are revoked at once.

use std::io::{Read as _, Write as _};
use std::sync::OnceLock;

use crate::lab::authserver::{Fault, active};
use crate::lab::client::{Answer, Client, Request};
use crate::lab::h2;
use crate::support::stage::{Playing, assert_refused};
use crate::support::{Config, Gate, Stage};

/// Asks with our certificate; `lines` are further keys.
fn introspecting(stage: &Stage, config: Config, lines: &str) -> Config {
    stage.pki.client("pep", crate::lab::pki::Shape::Good);
    let mut config = config;
    config.more.push_str(&format!(
        "\n[issuer.main.introspection]\nclient_id = \"pep\"\n\
         client_auth = {{ method = \"tls_client_auth\", certificate = \"pki/pep.pem\", key = \"pki/pep-key.pem\" }}\n{lines}"
    ));
    config
}

/// What is remembered is remembered for the whole of a test.
const LONG: &str = "cache = { active = \"10m\", inactive = \"1m\" }\n";

fn playing() -> &'static Playing {
    static PLAYING: OnceLock<Playing> = OnceLock::new();
    PLAYING.get_or_init(|| {
        Playing::new(|stage, config| {
            introspecting(stage, config, LONG)
                .route(
                    "asked",
                    "/asked/**",
                    "policy = { scopes = [\"accounts\"], introspection = \"always\" }",
                )
                .route(
                    "fresh",
                    "/fresh/**",
                    "policy = { scopes = [\"accounts\"], introspection = \"uncached\" }",
                )
        })
    })
}

fn ask(playing: &Playing, target: &str, token: &str) -> Answer {
    let request = Request::get(target).token(token);
    playing.client().call(&request).unwrap()
}

#[test]
fn an_opaque_token_passes_with_what_its_issuer_says() {
    // INT-01, INT-03, INT-04, FWD-01
    let playing = playing();
    let token = playing.stage.issuer.opaque(&playing.stage.draft());
    let case = "an opaque token";
    let answer = playing
        .client()
        .call(&Request::get("/accounts/1").token(&token).case(case))
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.reason());
    let seen = playing.stage.legacy.seen(case);
    assert_eq!(seen[0].field("x-auth-subject"), Some("customer-7"));
    assert_eq!(seen[0].field("x-auth-client-id"), Some("tpp-1"));
    assert!(seen[0].field("authorization").is_none());
    let id = answer.field("x-fapi-interaction-id").unwrap();
    let line = playing.gate.log("interaction_id", id);
    assert_eq!(
        (&line["issuer"], &line["client_id"]),
        (&"main".into(), &"tpp-1".into())
    );
    assert_eq!(line["introspection"], "asked");
    let again = ask(playing, "/accounts/1", &token);
    let id = again.field("x-fapi-interaction-id").unwrap();
    let line = playing.gate.log("interaction_id", id);
    assert_eq!(line["introspection"], "remembered");
    assert!(!playing.gate.stdout().contains(&token), "no token in a log");
    assert!(!playing.gate.stderr().contains(&token), "no token in a log");
}

#[test]
fn what_is_remembered_of_a_token_is_no_decision() {
    // MTLS-10, INT-07: another certificate and another route are judged anew
    let playing = playing();
    let token = playing.stage.issuer.opaque(&playing.stage.draft());
    assert_eq!(ask(playing, "/accounts/1", &token).status, 200);
    let request = Request::get("/accounts/1").token(&token);
    let other = playing.anonymous().with(&playing.stage.b);
    assert_refused(&other.call(&request).unwrap(), 401, "binding_mismatch");
    let nobody = playing.anonymous().call(&request).unwrap();
    assert_refused(&nobody, 401, "certificate_required");
    assert_eq!(ask(playing, "/accounts/1", &token).status, 200);
}

#[test]
fn an_answer_is_held_to_the_rules_of_a_jwt() {
    // INT-02, INT-03, INT-04, INT-05
    let playing = playing();
    let draft = || playing.stage.draft();
    for (reason, draft) in [
        ("token_inactive", draft().claim("ignored", 1)),
        ("token_expired", draft().expired()),
        (
            "audience_mismatch",
            draft().claim("aud", "https://other.test"),
        ),
        ("issuer_unknown", draft().claim("iss", "https://other.test")),
        ("claim_missing", draft().without("exp")),
        ("claim_missing", draft().without("client_id")),
        ("binding_missing", draft().without("cnf")),
        ("token_type_wrong", draft().claim("token_type", "N_A")),
    ] {
        let token = playing.stage.issuer.opaque(&draft);
        if reason == "token_inactive" {
            playing.stage.issuer.say(&token, None);
        }
        assert_refused(&ask(playing, "/accounts/1", &token), 401, reason);
    }
    let token = playing
        .stage
        .issuer
        .opaque(&draft().claim("scope", "other"));
    assert_refused(
        &ask(playing, "/accounts/1", &token),
        403,
        "scope_insufficient",
    );
}

#[test]
fn a_thousand_first_uses_at_once_over_both_protocols_make_one_call() {
    // INT-09
    let stage = Stage::new();
    let lines = format!("{LONG}timeout = \"30s\"\n");
    let config = introspecting(&stage, stage.config(), &lines);
    let gate = stage.start(&config);
    let token = stage.issuer.opaque(&stage.draft());
    let late = std::time::Duration::from_secs(4);
    stage.issuer.fail("introspection", Fault::Late(late));
    let request = Request::get("/accounts/1").token(&token);
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                let client = stage.client(&gate).alpn(&["h2"]);
                let mut connection = h2::Http2::open(&client).unwrap();
                let requests = vec![request.clone(); 95];
                for answer in connection.call_all(&requests) {
                    assert_eq!(answer.unwrap().status, 200);
                }
            });
        }
        for _ in 0..50 {
            scope.spawn(|| {
                let answer = stage.client(&gate).call(&request).unwrap();
                assert_eq!(answer.status, 200);
            });
        }
    });
    assert_eq!(stage.issuer.count("introspection"), 1);
    assert!(gate.metric("portcullis_introspection_waits_total", &["main"]) >= 1.0);
}

#[test]
fn a_server_in_trouble_is_503_and_no_word_about_the_token() {
    // INT-06, INT-12, INT-16, contract section 3
    let stage = Stage::new();
    let lines = "timeout = \"2s\"\ncache = { active = \"0s\", inactive = \"0s\" }\nbreaker = { failures = 1000 }\n";
    let config = introspecting(&stage, stage.config(), lines);
    let gate = stage.start(&config);
    let token = stage.issuer.opaque(&stage.draft());
    let request = Request::get("/accounts/1").token(&token).case("in trouble");
    for (fault, reason) in [
        (Fault::Status(500), "introspection_unavailable"),
        (Fault::Status(401), "introspection_unavailable"),
        (Fault::Status(404), "introspection_unavailable"),
        (Fault::Drop, "introspection_unavailable"),
        (Fault::Hang, "introspection_unavailable"),
        (Fault::Garbage, "introspection_unfit"),
        (Fault::Huge(10 << 20), "introspection_unfit"),
        (Fault::Text("[]".to_owned()), "introspection_unfit"),
    ] {
        stage.issuer.fail("introspection", fault.clone());
        let answer = stage.client(&gate).call(&request).unwrap();
        assert_refused(&answer, 503, reason);
        let wait: u64 = answer.field("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{fault:?}: {wait}");
        assert!(answer.field("www-authenticate").is_none(), "{fault:?}");
        assert!(stage.legacy.seen("in trouble").is_empty(), "{fault:?}");
        // JWTs need no introspection and are served meanwhile.
        let jwt = Request::get("/accounts/1").token(&stage.token());
        assert_eq!(stage.client(&gate).call(&jwt).unwrap().status, 200);
        stage.issuer.heal();
        let well = Request::get("/accounts/1").token(&token);
        assert_eq!(
            stage.client(&gate).call(&well).unwrap().status,
            200,
            "{fault:?}"
        );
    }
    assert!(gate.stderr().contains("introspection refuses us"), "INT-12");
}

#[test]
fn a_server_that_keeps_failing_is_left_alone_until_it_is_back() {
    let stage = Stage::new();
    let lines = "cache = { active = \"0s\" }\nbreaker = { failures = 3, open_for = \"1s\" }\n";
    let config = introspecting(&stage, stage.config(), lines);
    let gate = stage.start(&config);
    let token = stage.issuer.opaque(&stage.draft());
    let request = Request::get("/accounts/1").token(&token);
    stage.issuer.fail("introspection", Fault::Status(500));
    for _ in 0..20 {
        let answer = stage.client(&gate).call(&request).unwrap();
        assert_refused(&answer, 503, "introspection_unavailable");
    }
    let calls = stage.issuer.count("introspection");
    assert!((3..=6).contains(&calls), "{calls}");
    let issuer = &gate.status()["issuers"][0];
    assert!(
        issuer["introspection"]["last_error"]
            .as_str()
            .unwrap()
            .contains("500")
    );
    stage.issuer.heal();
    gate.until("recovery", || {
        stage.client(&gate).call(&request).unwrap().status == 200
    });
    assert_eq!(
        gate.status()["issuers"][0]["introspection"]["breaker"],
        "closed"
    );
}

#[test]
fn a_jwt_passes_only_while_its_issuer_stands_by_it() {
    // INT-14
    let playing = playing();
    let draft = playing.stage.draft();
    let token = playing.stage.issuer.sign(&draft);
    assert_refused(&ask(playing, "/asked/1", &token), 401, "token_inactive");
    assert_eq!(
        ask(playing, "/accounts/1", &token).status,
        200,
        "where nobody asks"
    );
    let draft = draft.claim("jti", "another");
    let token = playing.stage.issuer.sign(&draft);
    playing.stage.issuer.say(&token, Some(&active(&draft)));
    assert_eq!(ask(playing, "/asked/1", &token).status, 200);
    assert_eq!(ask(playing, "/fresh/1", &token).status, 200);
    playing.stage.issuer.say(&token, None);
    assert_eq!(ask(playing, "/asked/1", &token).status, 200, "remembered");
    assert_refused(&ask(playing, "/fresh/1", &token), 401, "token_inactive");
    assert_refused(&ask(playing, "/asked/1", &token), 401, "token_inactive");
    // A JWT that is bad by itself is not asked about.
    let before = playing.stage.issuer.count("introspection");
    let bad = playing.stage.issuer.sign(&playing.stage.draft().expired());
    assert_refused(&ask(playing, "/fresh/1", &bad), 401, "token_expired");
    assert_eq!(playing.stage.issuer.count("introspection"), before);
}

#[test]
fn an_opaque_token_goes_to_the_issuer_of_its_route_and_to_no_other() {
    let stage = Stage::new();
    let other =
        crate::lab::authserver::AuthServer::start(&stage.pki, crate::support::stage::AUDIENCE);
    let mut config = introspecting(&stage, stage.config(), "");
    config.top.push_str("default_issuers = [\"main\"]\n");
    config.more.push_str(&format!(
        "\n[issuer.other]\nissuer = {:?}\naudience = [\"https://api.bank.test\"]\nca = [\"pki/server-ca.pem\"]\ndiscovery = {:?}\n",
        other.issuer,
        other.discovery(),
    ));
    let config = config.route(
        "other",
        "/other/**",
        "policy = { issuer = [\"other\"], scopes = [\"accounts\"] }",
    );
    let gate = stage.start(&config);
    let token = stage.issuer.opaque(&stage.draft());
    let ask = |target: &str| {
        stage
            .client(&gate)
            .call(&Request::get(target).token(&token))
            .unwrap()
    };
    assert_eq!(ask("/accounts/1").status, 200);
    let before = stage.issuer.count("introspection");
    assert_refused(&ask("/other/1"), 401, "token_malformed");
    assert_eq!(stage.issuer.count("introspection"), before);
    assert_eq!(other.count("introspection"), 0);
}

fn post(gate: &Gate, secret: &str, body: &str) -> String {
    let mut socket = std::net::TcpStream::connect(gate.address("revocation")).unwrap();
    let length = body.len();
    write!(
        socket,
        "POST /revocations HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn tokens_are_revoked_at_once_by_who_may() {
    let stage = Stage::new();
    let mut config = introspecting(&stage, stage.config(), LONG);
    let secret = "0123456789abcdef0123456789abcdef";
    std::fs::write(stage.path("secret"), format!("{secret}\n")).unwrap();
    config
        .more
        .push_str("\n[revocation]\naddress = \"127.0.0.1:0\"\nsecret = { file = \"secret\" }\n");
    let gate = stage.start(&config);
    let draft = stage.draft();
    let token = stage.issuer.opaque(&draft);
    let request = Request::get("/accounts/1").token(&token);
    let ask = || stage.client(&gate).call(&request).unwrap();
    assert_eq!(ask().status, 200);
    stage.issuer.say(&token, None);
    assert_eq!(ask().status, 200, "still remembered");
    assert!(post(&gate, "wrong", "{\"all\":true}").starts_with("HTTP/1.1 401 "));
    assert_eq!(ask().status, 200, "a stranger is not heard");
    let answer = post(
        &gate,
        secret,
        "{\"client_id\":\"tpp-1\",\"issuer\":\"main\"}",
    );
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("{\"dropped\":1}"),
        "{answer}"
    );
    assert_refused(&ask(), 401, "token_inactive");
    gate.says("remembered answers were dropped");
    assert!(!gate.stderr().contains(secret));
    // Another secret after a reload.
    std::fs::write(stage.path("secret"), "fedcba9876543210fedcba9876543210").unwrap();
    gate.reload();
    assert!(post(&gate, secret, "{\"all\":true}").starts_with("HTTP/1.1 401 "));
}

#[test]
fn the_door_for_revocations_opens_to_certificates_that_are_trusted() {
    let stage = Stage::new();
    let mut config = introspecting(&stage, stage.config(), LONG);
    config.more.push_str(
        "\n[revocation]\naddress = \"127.0.0.1:0\"\n[revocation.tls]\ncertificate = \"pki/server.pem\"\n\
         private_key = \"pki/server-key.pem\"\nclient_ca = [\"pki/clients-ca.pem\"]\nclient_crl = [\"pki/clients.crl.pem\"]\n",
    );
    let gate = stage.start(&config);
    let at = |client: Client| client.at(gate.address("revocation"));
    let order = Request::post("/revocations", "{\"all\":true}");
    let mut open = at(stage.client(&gate)).open().unwrap();
    assert_eq!(open.call(&order).unwrap().status, 200);
    assert!(
        at(stage.anonymous(&gate)).call(&order).is_err(),
        "no certificate, no door"
    );
    // Trust does not outlive its evidence here either.
    stage.pki.revoke(&stage.a);
    gate.reload();
    assert_eq!(open.call(&order).unwrap().status, 401);
    assert!(at(stage.client(&gate)).call(&order).is_err());
}

#[test]
fn the_door_may_ask_for_a_secret_over_tls_alone() {
    let stage = Stage::new();
    let mut config = introspecting(&stage, stage.config(), LONG);
    std::fs::write(stage.path("secret"), "0123456789abcdef").unwrap();
    config.more.push_str(
        "\n[revocation]\naddress = \"127.0.0.1:0\"\nsecret = { file = \"secret\" }\n[revocation.tls]\n\
         certificate = \"pki/server.pem\"\nprivate_key = \"pki/server-key.pem\"\nclient_certificate = \"none\"\n",
    );
    let gate = stage.start(&config);
    let client = stage.anonymous(&gate).at(gate.address("revocation"));
    let order = Request::post("/revocations", "{\"all\":true}");
    assert_eq!(client.call(&order).unwrap().status, 401);
    let order = order.field("Authorization", "Bearer 0123456789abcdef");
    assert_eq!(client.call(&order).unwrap().status, 200);
}
