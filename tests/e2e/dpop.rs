//! DPoP (RFC 9449) from outside: the negative module of the OpenID conformance suite call by call,
//! schemes and challenges, nonces, and proofs that are used twice.

use std::sync::OnceLock;

use crate::lab::client::{Answer, Request};
use crate::lab::h2;
use crate::lab::jose::{Proof, SigningKey, sign, thumbprint};
use crate::support::stage::{Playing, assert_refused};

const URL: &str = "https://api.bank.test";

fn playing() -> &'static Playing {
    static PLAYING: OnceLock<Playing> = OnceLock::new();
    PLAYING.get_or_init(|| {
        Playing::new(|_, config| {
            config
                .route(
                    "nonce",
                    "/nonce/**",
                    "policy = { scopes = [\"accounts\"], dpop = { nonce = \"required\" } }",
                )
                .route(
                    "either",
                    "/either/**",
                    "policy = { scopes = [\"accounts\"], dpop = { nonce = \"accepted\" } }",
                )
                .route(
                    "mtls",
                    "/mtls/**",
                    "policy = { binding = [\"mtls\"], scopes = [\"accounts\"] }",
                )
        })
    })
}

/// A client of DPoP: a key, and a token that is bound to it.
struct Party {
    key: SigningKey,
    token: String,
}

impl Party {
    fn new(alg: &'static str) -> Self {
        let key = SigningKey::new("dpop", alg);
        let draft = playing().stage.draft();
        let draft = draft.claim("cnf", serde_json::json!({"jkt": thumbprint(&key)}));
        let token = playing().stage.issuer.sign(&draft);
        Self { key, token }
    }

    fn proof(&self, method: &str, path: &str) -> Proof {
        Proof::new(&self.key, method, &format!("{URL}{path}"), &self.token)
    }

    /// A request without a proof.
    fn request(&self, path: &str) -> Request {
        Request::get(path).field("Authorization", &format!("DPoP {}", self.token))
    }
}

fn call(request: &Request) -> Answer {
    playing().anonymous().call(request).unwrap()
}

/// As the suite calls: a nonce that is asked for is taken and the call made once more.
fn with_nonces(
    party: &Party,
    path: &str,
    make: &dyn Fn(Proof) -> (String, &'static str),
) -> Answer {
    let mut nonce: Option<String> = None;
    for _ in 0..2 {
        let mut proof = party.proof("GET", path);
        if let Some(nonce) = &nonce {
            proof = proof.claim("nonce", nonce.as_str());
        }
        let (proof, field) = make(proof);
        let answer = call(&party.request(path).field(field, &proof));
        let asked = answer
            .challenge()
            .is_some_and(|line| line.starts_with("DPoP ") && line.contains("use_dpop_nonce"));
        if !asked {
            return answer;
        }
        // DPOP-27: exactly one, which `field` asserts.
        nonce = Some(answer.field("dpop-nonce").expect("a nonce").to_owned());
    }
    panic!("the first nonce that was given was not taken");
}

#[test]
#[rustfmt::skip]
fn fapi2_security_profile_final_dpop_negative_tests() {
    // DPOP-01 to DPOP-10, DPOP-14, DPOP-16 to DPOP-18, DPOP-30, DPOP-33
    let (party, other) = (Party::new("ES256"), SigningKey::new("other", "ES256"));
    let rsa = SigningKey::new("rsa", "PS256");
    let sound = |proof: Proof| proof.sign(&party.key);
    type Make<'a> = Box<dyn Fn(Proof) -> (String, &'static str) + 'a>;
    let one = |change: fn(Proof) -> Proof| -> Make<'_> { Box::new(move |proof| (sound(change(proof)), "DPoP")) };
    let calls: Vec<(&str, Make<'_>, &str)> = vec![
        ("header name in capitals", Box::new(|proof| (sound(proof), "DPOP")), "ok"),
        ("two proofs in the header", Box::new(|proof| { let one = sound(proof); (format!("{one}, {one}"), "DPoP") }), "proof_repeated"),
        ("proof without signature part", Box::new(|proof| (sound(proof).rsplit_once('.').unwrap().0.to_owned(), "DPoP")), "proof_malformed"),
        ("missing typ", one(|proof| proof.without("typ")), "proof_malformed"),
        ("missing alg", Box::new(|proof| (sound(proof.without("alg")), "DPoP")), "proof_malformed"),
        ("missing jwk", one(|proof| proof.without("jwk")), "proof_malformed"),
        ("missing jti", one(|proof| proof.without("jti")), "proof_malformed"),
        ("missing htm", one(|proof| proof.without("htm")), "proof_malformed"),
        ("missing htu", one(|proof| proof.without("htu")), "proof_malformed"),
        ("missing iat", one(|proof| proof.without("iat")), "proof_malformed"),
        ("missing ath", one(|proof| proof.without("ath")), "proof_malformed"),
        ("typ with a suffix", one(|proof| proof.header("typ", "dpop+jwtx")), "proof_malformed"),
        ("alg RS256", Box::new(|proof| { let jwk = Proof::new(&rsa, "GET", "", "").header["jwk"].clone(); (proof.header("alg", "RS256").header("jwk", jwk).sign(&rsa), "DPoP") }), "proof_algorithm_forbidden"),
        ("alg none", one(|proof| proof.header("alg", "none")), "proof_algorithm_forbidden"),
        ("altered signature", Box::new(|proof| { let text = sound(proof); let at = text.len() - 10; let other = if &text[at..=at] == "A" { "B" } else { "A" }; (format!("{}{other}{}", &text[..at], &text[at + 1..]), "DPoP") }), "proof_signature_invalid"),
        ("private key in jwk", Box::new(|proof| { let mut jwk = proof.header["jwk"].clone(); jwk["d"] = "AAAA".into(); (sound(proof.header("jwk", jwk)), "DPoP") }), "proof_key_invalid"),
        ("htm PUT", one(|proof| proof.claim("htm", "PUT")), "proof_method_mismatch"),
        ("htu with query and fragment", Box::new(|proof| { let htu = format!("{}?a=b#c", proof.claims["htu"].as_str().unwrap()); (sound(proof.claim("htu", htu)), "DPoP") }), "ok"),
        ("htu of another URL", one(|proof| proof.claim("htu", "https://api.bank.test/elsewhere")), "proof_target_mismatch"),
        ("iat one hour ahead", one(|proof| proof.claim("iat", crate::lab::now() + 3600)), "proof_not_yet_valid"),
        ("iat one hour behind", one(|proof| proof.claim("iat", crate::lab::now() - 3600)), "proof_expired"),
        ("iat ten seconds behind", one(|proof| proof.claim("iat", crate::lab::now() - 10)), "ok"),
        ("iat eight seconds ahead", one(|proof| proof.claim("iat", crate::lab::now() + 8)), "ok"),
        ("wrong ath", one(|proof| proof.claim("ath", "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo")), "proof_token_mismatch"),
        ("signed by another key", Box::new(|proof| (proof.sign(&other), "DPoP")), "proof_signature_invalid"),
        ("another key, proven", Box::new(|proof| { let jwk = Proof::new(&other, "GET", "", "").header["jwk"].clone(); (proof.header("jwk", jwk).sign(&other), "DPoP") }), "binding_mismatch"),
        ("unknown header and claim", one(|proof| proof.header("x", 1).claim("y", "z")), "ok"),
        ("nbf now and exp in five minutes", one(|proof| proof.claim("nbf", crate::lab::now()).claim("exp", crate::lab::now() + 300)), "ok"),
        ("capitals in htu", Box::new(|proof| { let htu = proof.claims["htu"].as_str().unwrap().replace("https://api.bank.test", "HTTPS://API.BANK.TEST"); (sound(proof.claim("htu", htu)), "DPoP") }), "ok"),
        ("the default port in htu", Box::new(|proof| { let htu = proof.claims["htu"].as_str().unwrap().replace(".test/", ".test:443/"); (sound(proof.claim("htu", htu)), "DPoP") }), "ok"),
        ("over-long jti", Box::new(|proof| (sound(proof.claim("jti", "j".repeat(4096))), "DPoP")), "proof_too_large"),
        ("no JWT", Box::new(|_| ("garbage".to_owned(), "DPoP")), "proof_malformed"),
        ("good proof at the end", one(|proof| proof), "ok"),
    ];
    for (name, make, expected) in &calls {
        for path in ["/accounts/1", "/nonce/1"] {
            let answer = with_nonces(&party, path, make);
            if *expected == "ok" {
                assert_eq!(answer.status, 200, "{name} at {path}: {}", answer.reason());
                continue;
            }
            assert_refused(&answer, 401, expected);
            let error = if *expected == "binding_mismatch" { "invalid_token" } else { "invalid_dpop_proof" };
            let challenge = answer.challenge().unwrap();
            assert!(challenge.starts_with("DPoP "), "DPOP-32, {name}: {challenge}");
            assert!(challenge.contains(&format!("error=\"{error}\"")), "DPOP-38, {name}: {challenge}");
            assert!(challenge.contains("algs=\"PS256 ES256 EdDSA Ed25519\""), "DPOP-31, {name}");
        }
    }
}

#[test]
fn every_algorithm_and_both_protocols() {
    // DPOP-05, DPOP-37
    for alg in ["ES256", "PS256", "EdDSA"] {
        let party = Party::new(alg);
        let proof = |path| party.proof("GET", path).sign(&party.key);
        let request = party
            .request("/accounts/1")
            .field("DPoP", &proof("/accounts/1"));
        assert_eq!(call(&request).status, 200, "{alg}");
        let client = playing().anonymous().alpn(&["h2"]);
        let mut connection = h2::Http2::open(&client).unwrap();
        let request = party
            .request("/accounts/2?x=y")
            .field("DPoP", &proof("/accounts/2"));
        assert_eq!(connection.call(&request).unwrap().status, 200, "{alg}");
        let request = party
            .request("/accounts/3")
            .field("DPoP", &proof("/accounts/2"));
        let answer = connection.call(&request).unwrap();
        assert_refused(&answer, 401, "proof_target_mismatch");
    }
}

#[test]
fn the_scheme_does_not_decide_what_must_be_proven() {
    // DPOP-18 to DPOP-21, MTLS-11, contract section 2, ATK-01
    let party = Party::new("ES256");
    let proof = || party.proof("GET", "/accounts/1").sign(&party.key);
    let answer = call(&party.request("/accounts/1"));
    assert_refused(&answer, 401, "proof_missing");
    assert!(
        answer
            .challenge()
            .unwrap()
            .starts_with("DPoP error=\"invalid_dpop_proof\"")
    );
    // A bound token is no bearer token, with a proof or without, with a certificate or without.
    for request in [
        Request::get("/accounts/1").token(&party.token),
        Request::get("/accounts/1")
            .token(&party.token)
            .field("DPoP", &proof()),
    ] {
        for client in [playing().anonymous(), playing().client()] {
            let answer = client.call(&request).unwrap();
            assert_refused(&answer, 401, "binding_mismatch");
            let lines = answer.challenges();
            assert_eq!(
                lines,
                [
                    "Bearer error=\"invalid_token\"",
                    "DPoP algs=\"PS256 ES256 EdDSA Ed25519\""
                ]
            );
        }
    }
    // A token that is bound to a certificate needs it, whatever proof comes with it.
    let token = playing().token();
    let proof = Proof::new(&party.key, "GET", &format!("{URL}/accounts/1"), &token);
    let request = Request::get("/accounts/1")
        .field("Authorization", &format!("DPoP {token}"))
        .field("DPoP", &proof.sign(&party.key));
    let answer = playing().client().call(&request).unwrap();
    assert_refused(&answer, 401, "binding_missing");
    // One that is bound to both needs both.
    let cnf = serde_json::json!({"jkt": thumbprint(&party.key), "x5t#S256": playing().stage.a.thumbprint});
    let draft = playing().stage.draft().claim("cnf", cnf);
    let both = Party {
        token: playing().stage.issuer.sign(&draft),
        key: party.key,
    };
    let request = || {
        let proof = both.proof("GET", "/accounts/1").sign(&both.key);
        both.request("/accounts/1").field("DPoP", &proof)
    };
    assert_eq!(playing().client().call(&request()).unwrap().status, 200);
    assert_refused(&call(&request()), 401, "certificate_required");
    let b = playing().anonymous().with(&playing().stage.b);
    assert_refused(&b.call(&request()).unwrap(), 401, "binding_mismatch");
    // Where the policy takes no DPoP the scheme is not offered.
    let answer = call(&both.request("/mtls/1"));
    assert_refused(&answer, 401, "scheme_unsupported");
    assert_eq!(answer.challenges(), ["Bearer"]);
}

#[test]
fn a_proof_never_travels_on() {
    // FWD-02
    let party = Party::new("ES256");
    let proof = party.proof("GET", "/accounts/1").sign(&party.key);
    let request = party
        .request("/accounts/1")
        .field("DPoP", &proof)
        .case("a proof");
    assert_eq!(call(&request).status, 200);
    let seen = playing().stage.legacy.seen("a proof");
    assert!(seen[0].field("dpop").is_none() && seen[0].field("authorization").is_none());
    let logs = playing().gate.stdout() + &playing().gate.stderr();
    assert!(
        !logs.contains(&proof) && !logs.contains(&party.token),
        "no proof in a log"
    );
}

#[test]
fn nonces_are_given_with_every_answer_of_a_route_that_wants_them() {
    // DPOP-27, DPOP-29
    let party = Party::new("ES256");
    let nonce = |answer: &Answer| answer.field("dpop-nonce").map(str::to_owned);
    let none = call(&Request::get("/nonce/1"));
    assert_refused(&none, 401, "token_missing");
    let first = nonce(&none).expect("a nonce");
    assert!(
        first
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)),
        "{first}"
    );
    let proof = |nonce: &str, path: &str| {
        let proof = party.proof("GET", path).claim("nonce", nonce);
        party.request(path).field("DPoP", &proof.sign(&party.key))
    };
    let answer = call(&proof(&first, "/nonce/1"));
    assert_eq!(answer.status, 200, "{}", answer.reason());
    assert!(nonce(&answer).is_some());
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    for (path, wrong) in [("/nonce/1", "invented"), ("/either/1", "invented")] {
        let answer = call(&proof(wrong, path));
        assert_refused(&answer, 401, "nonce_invalid");
        assert!(
            answer
                .challenge()
                .unwrap()
                .contains("error=\"use_dpop_nonce\"")
        );
        assert!(nonce(&answer).is_some());
    }
    let without = || party.proof("GET", "/either/1").sign(&party.key);
    let answer = call(&party.request("/either/1").field("DPoP", &without()));
    assert_eq!(answer.status, 200);
    assert!(nonce(&answer).is_some());
    let answer = call(&proof("invented", "/accounts/1"));
    assert_eq!(answer.status, 200, "none is looked at where none is wanted");
    assert!(nonce(&answer).is_none());
}

#[test]
fn a_nonce_is_good_at_another_process_with_the_same_key() {
    // DPOP-26
    let stage = crate::support::Stage::new();
    std::fs::write(stage.path("nonce"), "0123456789abcdef0123456789abcdef\n").unwrap();
    let mut config = stage.config().route(
        "nonce",
        "/nonce/**",
        "policy = { scopes = [\"accounts\"], dpop = { nonce = \"required\" } }",
    );
    config
        .top
        .push_str("dpop = { nonce_key = { file = \"nonce\" } }\n");
    let (one, two) = (stage.start(&config), stage.start(&config));
    let key = SigningKey::new("dpop", "ES256");
    let draft = stage.draft();
    let draft = draft.claim("cnf", serde_json::json!({"jkt": thumbprint(&key)}));
    let token = stage.issuer.sign(&draft);
    let asked = stage
        .anonymous(&one)
        .call(&Request::get("/nonce/1"))
        .unwrap();
    let nonce = asked.field("dpop-nonce").unwrap();
    let proof = Proof::new(&key, "GET", &format!("{URL}/nonce/1"), &token).claim("nonce", nonce);
    let request = Request::get("/nonce/1")
        .field("Authorization", &format!("DPoP {token}"))
        .field("DPoP", &proof.sign(&key));
    assert_eq!(stage.anonymous(&two).call(&request).unwrap().status, 200);
    // Keys change places: what was given out under the old one is still good.
    std::fs::write(stage.path("nonce"), "fedcba9876543210fedcba9876543210\n").unwrap();
    std::fs::write(stage.path("old"), "0123456789abcdef0123456789abcdef\n").unwrap();
    config.top =
        "dpop = { nonce_key = { file = \"nonce\" }, nonce_key_previous = { file = \"old\" } }\n"
            .to_owned();
    stage.write(&config);
    one.reload();
    let proof = Proof::new(&key, "GET", &format!("{URL}/nonce/1"), &token).claim("nonce", nonce);
    let request = Request::get("/nonce/1")
        .field("Authorization", &format!("DPoP {token}"))
        .field("DPoP", &proof.sign(&key));
    assert_eq!(stage.anonymous(&one).call(&request).unwrap().status, 200);
}

#[test]
fn of_copies_of_a_proof_exactly_one_passes() {
    // DPOP-22, DPOP-40, ATK-03
    let party = Party::new("ES256");
    for round in 0..10 {
        let path = format!("/accounts/{round}");
        let proof = party.proof("GET", &path).sign(&party.key);
        let request = party.request(&path).field("DPoP", &proof);
        let passed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let client = playing().anonymous().alpn(&["h2"]);
                        let mut connection = h2::Http2::open(&client).unwrap();
                        let answers = connection.call_all(&vec![request.clone(); 25]);
                        answers
                            .into_iter()
                            .filter(|answer| {
                                let answer = answer.as_ref().unwrap();
                                if answer.status != 200 {
                                    assert_refused(answer, 401, "proof_replayed");
                                }
                                answer.status == 200
                            })
                            .count()
                    })
                })
                .collect();
            threads.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(passed, 1);
    }
    let metric = |result: &str| {
        playing()
            .gate
            .metric("portcullis_replay_uses_total", &[result])
    };
    assert!(metric("\"first\"") >= 10.0 && metric("\"repeated\"") >= 990.0);
}

#[test]
fn a_proof_that_fails_uses_nothing_up() {
    // DPOP-24, DPOP-40
    let (party, other) = (Party::new("ES256"), Party::new("ES256"));
    let path = "/accounts/1";
    let good = party.proof("GET", path).claim("jti", "the-same");
    let bad = format!("{}A", good.sign(&party.key));
    assert_eq!(call(&party.request(path).field("DPoP", &bad)).status, 401);
    let forged = good.sign(&other.key);
    assert_eq!(
        call(&party.request(path).field("DPoP", &forged)).status,
        401
    );
    // Another client's proof with the same jti is another proof.
    let theirs = other
        .proof("GET", path)
        .claim("jti", "the-same")
        .sign(&other.key);
    assert_eq!(
        call(&other.request(path).field("DPoP", &theirs)).status,
        200
    );
    // Nor does a request that its policy refuses.
    let draft = playing().stage.draft().claim("scope", "other");
    let draft = draft.claim("cnf", serde_json::json!({"jkt": thumbprint(&party.key)}));
    let poor = playing().stage.issuer.sign(&draft);
    let proof =
        Proof::new(&party.key, "GET", &format!("{URL}{path}"), &poor).claim("jti", "the-same");
    let request = Request::get(path)
        .field("Authorization", &format!("DPoP {poor}"))
        .field("DPoP", &proof.sign(&party.key));
    assert_refused(&call(&request), 403, "scope_insufficient");
    let good = good.sign(&party.key);
    assert_eq!(call(&party.request(path).field("DPoP", &good)).status, 200);
    assert_refused(
        &call(&party.request(path).field("DPoP", &good)),
        401,
        "proof_replayed",
    );
}

#[test]
fn a_second_try_at_the_api_uses_no_second_proof_up() {
    // DPOP-36, DPOP-39
    let party = Party::new("ES256");
    let request = |path: &str| {
        let proof = party.proof("GET", path).sign(&party.key);
        party.request(path).field("DPoP", &proof)
    };
    // Tried again is what went out on a connection that was there already.
    let mut tries = 0;
    for round in 0..50 {
        assert_eq!(call(&request(&format!("/accounts/{round}"))).status, 200);
        let path = format!("/accounts/lost-{round}");
        let answer = call(&request(&path).field("x-lab", "close-early"));
        assert!(
            answer.status == 502 || answer.status == 504,
            "{}",
            answer.status
        );
        assert!(answer.field("www-authenticate").is_none());
        assert!(answer.field("proxy-authenticate").is_none());
        let id = answer.field("x-fapi-interaction-id").unwrap();
        let line = playing().gate.log("interaction_id", id);
        // Missing where no connection could be had.
        tries = line["attempts"].as_u64().unwrap_or(0);
        if tries > 1 {
            break;
        }
    }
    assert!(tries > 1, "the gate tried but once");
}

#[test]
fn a_reload_forgets_no_proof() {
    let stage = crate::support::Stage::new();
    let config = stage.config();
    let gate = stage.start(&config);
    let key = SigningKey::new("dpop", "ES256");
    let draft = stage.draft();
    let draft = draft.claim("cnf", serde_json::json!({"jkt": thumbprint(&key)}));
    let token = stage.issuer.sign(&draft);
    let proof = Proof::new(&key, "GET", &format!("{URL}/accounts/1"), &token).sign(&key);
    let request = Request::get("/accounts/1")
        .field("Authorization", &format!("DPoP {token}"))
        .field("DPoP", &proof);
    assert_eq!(stage.anonymous(&gate).call(&request).unwrap().status, 200);
    gate.reload();
    let answer = stage.anonymous(&gate).call(&request).unwrap();
    assert_refused(&answer, 401, "proof_replayed");
}

#[test]
fn a_proof_is_for_the_path_that_the_client_called() {
    // DPOP-11, DPOP-12
    let stage = crate::support::Stage::new();
    let config = stage.config().route(
        "moved",
        "/svc2/**",
        "policy = { scopes = [\"accounts\"] }\nrewrite = { from = \"/svc2\", to = \"/v1\" }",
    );
    let gate = stage.start(&config);
    let key = SigningKey::new("dpop", "ES256");
    let draft = stage.draft();
    let draft = draft.claim("cnf", serde_json::json!({"jkt": thumbprint(&key)}));
    let token = stage.issuer.sign(&draft);
    let ask = |url: &str| {
        let proof = Proof::new(&key, "GET", url, &token).sign(&key);
        let request = Request::get("/svc2/x")
            .field("Authorization", &format!("DPoP {token}"))
            .field("X-Forwarded-Host", "evil.test")
            .field("X-Forwarded-Prefix", "/v1")
            .field("DPoP", &proof);
        stage.anonymous(&gate).call(&request).unwrap()
    };
    assert_eq!(ask("https://api.bank.test/svc2/x").status, 200);
    for wrong in [
        "https://api.bank.test/v1/x",
        "https://api.bank.test/x",
        "https://evil.test/svc2/x",
    ] {
        assert_refused(&ask(wrong), 401, "proof_target_mismatch");
    }
    // `sign` is what a client without a library would do.
    let header = serde_json::json!({"typ": "dpop+jwt", "alg": "ES256"}).to_string();
    let bare = sign(&key, &header, "{}");
    let request = Request::get("/svc2/x")
        .field("Authorization", &format!("DPoP {token}"))
        .field("DPoP", &bare);
    assert_refused(
        &stage.anonymous(&gate).call(&request).unwrap(),
        401,
        "proof_malformed",
    );
}
