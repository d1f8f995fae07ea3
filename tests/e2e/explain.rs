//! `explain`: a decision made offline is the one that the gate makes, and says what it looked at.

use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::lab::client::Request;
use crate::lab::jose::{Draft, Proof, SigningKey, thumbprint};
use crate::lab::now;
use crate::lab::pki::{Identity, Shape};
use crate::support::Stage;
use crate::support::stage::Playing;

fn playing() -> &'static Playing {
    static PLAYING: OnceLock<Playing> = OnceLock::new();
    PLAYING.get_or_init(|| {
        Playing::new(|stage, config| {
            let jwks = stage.issuer.jwks().to_string();
            std::fs::write(stage.path("jwks.json"), jwks).unwrap();
            config
                .route(
                    "sca",
                    "/sca",
                    "policy = { acr = [\"sca\"], max_age = \"5m\" }",
                )
                .route(
                    "headed",
                    "/headed",
                    "policy = { require_headers = [\"x-fapi-auth-date\"] }",
                )
                .route(
                    "pisp",
                    "/pisp",
                    "policy = { certificate = { psd2_role = \"PSP_PI\" } }",
                )
                .route(
                    "trial",
                    "/trial",
                    "policy = { scopes = [\"x\"] }\nobserve = { until = \"2999-12-31\" }",
                )
        })
    })
}

fn explain(stage: &Stage, arguments: &[&str]) -> (i32, String, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["explain", "--config"])
        .arg(stage.path("portcullis.toml"))
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        done.status.code().unwrap(),
        text(done.stdout),
        text(done.stderr),
    )
}

struct Case<'a> {
    name: &'a str,
    path: &'a str,
    token: Option<String>,
    certificate: Option<&'a Identity>,
    proof: Option<String>,
}

#[test]
fn it_decides_as_the_gate_does() {
    let Playing { stage, .. } = playing();
    let draft = || stage.draft();
    let sign = |draft: &Draft| Some(stage.issuer.sign(draft));
    let key = SigningKey::new("dpop", "ES256");
    let bound = sign(&draft().claim("cnf", json!({ "jkt": thumbprint(&key) })));
    let proof = |path: &str| {
        let url = format!("https://api.bank.test{path}");
        Some(Proof::new(&key, "GET", &url, bound.as_deref().unwrap()).sign(&key))
    };
    let plain = |name, path, token| Case {
        name,
        path,
        token,
        certificate: Some(&stage.a),
        proof: None,
    };
    let piped = stage.pki.client("pisp", Shape::Psd2PaymentInitiation);
    let good = || sign(&draft());
    let mut cases = vec![
        plain("good", "/accounts/1", good()),
        plain("no route", "/nowhere", good()),
        plain("no token", "/accounts/1", None),
        plain("expired", "/accounts/1", sign(&draft().expired())),
        plain("audience", "/accounts/1", sign(&draft().claim("aud", "x"))),
        plain(
            "issuer",
            "/accounts/1",
            sign(&draft().claim("iss", "https://x.test")),
        ),
        plain("type", "/accounts/1", sign(&draft().header("typ", "JWT"))),
        plain("scope", "/accounts/1", sign(&draft().claim("scope", "x"))),
        plain("garbage", "/accounts/1", Some("garbage".to_owned())),
        plain("weak", "/sca", good()),
        plain(
            "strong",
            "/sca",
            sign(&draft().claim("acr", "sca").claim("auth_time", now())),
        ),
        plain("header", "/headed", good()),
        plain("role", "/pisp", good()),
        plain("open", "/public/x", None),
        plain("dots", "/accounts/%2e%2e/x", good()),
        plain("observed", "/trial", good()),
        Case {
            certificate: Some(&stage.b),
            ..plain("another's certificate", "/accounts/1", good())
        },
        Case {
            certificate: None,
            ..plain("no certificate", "/accounts/1", good())
        },
        Case {
            certificate: Some(&piped),
            ..plain(
                "with the role",
                "/pisp",
                sign(&draft().bound_to(&piped.thumbprint)),
            )
        },
        Case {
            proof: proof("/accounts/1"),
            ..plain("proof", "/accounts/1", bound.clone())
        },
        Case {
            proof: proof("/accounts/2"),
            ..plain("other path", "/accounts/1", bound.clone())
        },
        Case {
            proof: proof("/accounts/1"),
            ..plain("unbound key", "/accounts/1", good())
        },
    ];
    cases.push(plain("bound, as bearer", "/accounts/1", bound.clone()));
    for case in &cases {
        let mut request = Request::get(case.path);
        let url = format!("https://api.bank.test{}", case.path);
        let keys = stage.path("jwks.json").display().to_string();
        let mut arguments = vec!["--json", "--url", &url, "--keys", &keys];
        let (token_file, proof_file) = (stage.path("token"), stage.path("proof"));
        let (token_file, proof_file) = (
            token_file.display().to_string(),
            proof_file.display().to_string(),
        );
        if let Some(token) = &case.token {
            let scheme = if case.proof.is_some() {
                "DPoP"
            } else {
                "Bearer"
            };
            request = request.field("Authorization", &format!("{scheme} {token}"));
            std::fs::write(&token_file, format!("{token}\n")).unwrap();
            arguments.extend(["--token-file", &token_file]);
        }
        if let Some(proof) = &case.proof {
            request = request.field("DPoP", proof);
            std::fs::write(&proof_file, proof).unwrap();
            arguments.extend(["--proof-file", &proof_file]);
        }
        let pem = case
            .certificate
            .map(|of| of.certificate.display().to_string());
        let client = match case.certificate {
            Some(identity) => playing().anonymous().with(identity),
            None => playing().anonymous(),
        };
        if let Some(pem) = &pem {
            arguments.extend(["--certificate", pem]);
        }
        let (code, said, errors) = explain(stage, &arguments);
        let answer = client.call(&request).unwrap();
        let said: Value =
            serde_json::from_str(&said).unwrap_or_else(|_| panic!("{}: {errors}", case.name));
        let decision = &said["decision"];
        if answer.status == 200 {
            assert_eq!(code, 0, "{}: {decision:#}", case.name);
            let id = answer.field("x-fapi-interaction-id").unwrap();
            let line = playing().gate.log("interaction_id", id);
            assert_eq!(decision["outcome"], line["outcome"], "{}", case.name);
            assert_eq!(decision["reason"], line["reason"], "{}", case.name);
        } else {
            assert_eq!(code, 1, "{}", case.name);
            assert_eq!(decision["reason"], answer.reason(), "{}", case.name);
            assert_eq!(decision["status"], answer.status, "{}", case.name);
            let challenges = decision["challenges"].as_array().unwrap();
            let challenges: Vec<&str> =
                challenges.iter().map(|one| one.as_str().unwrap()).collect();
            assert_eq!(challenges, answer.all("www-authenticate"), "{}", case.name);
            let failed = said["steps"].as_array().unwrap().last().unwrap();
            assert_eq!(failed["outcome"], "refused", "{}", case.name);
        }
        let text = said.to_string();
        for secret in [&case.token, &case.proof].into_iter().flatten() {
            assert!(
                secret.len() < 20 || !text.contains(secret),
                "{}: a secret is shown",
                case.name
            );
            let signature = secret.rsplit('.').next().unwrap();
            assert!(
                signature.len() < 20 || !text.contains(signature),
                "{}",
                case.name
            );
        }
    }
}

#[test]
fn it_says_what_the_api_would_get_and_when_it_would_not() {
    let stage = &playing().stage;
    let token = stage.path("upstream-token").display().to_string();
    std::fs::write(&token, stage.token()).unwrap();
    let pem = stage.a.certificate.display().to_string();
    let keys = format!("main={}", stage.path("jwks.json").display());
    let with = |more: &[&str]| {
        let mut arguments = vec![
            "--url",
            "https://api.bank.test/accounts/1?a=1",
            "--token-file",
            &token,
        ];
        arguments.extend(["--certificate", &pem, "--keys", &keys]);
        arguments.extend(more);
        explain(stage, &arguments)
    };
    let (code, said, _) = with(&[
        "--header",
        "X-Auth-Subject: forged",
        "--header",
        "X-Kept: yes",
    ]);
    assert_eq!(code, 0, "{said}");
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    for line in [
        "authorized",
        "x-kept: yes",
        "x-auth-subject: u-1",
        "host: api.bank.test",
    ] {
        let subject = line.starts_with("x-auth-subject: ");
        let there = lines.iter().any(|one| {
            *one == line
                || subject && one.starts_with("x-auth-subject: ") && !one.contains("forged")
        });
        assert!(there, "no {line:?} in\n{said}");
    }
    assert!(
        !said.contains("forged") && !lines.iter().any(|one| one.starts_with("authorization")),
        "{said}"
    );

    // At another time.
    let (code, said, _) = with(&["--at", "2040-01-01T00:00:00Z"]);
    assert_eq!(code, 1);
    assert!(said.contains("certificate_expired"), "{said}");
    // Without keys it cannot be known, and is no fault of the token.
    let arguments = [
        "--url",
        "https://api.bank.test/accounts/1",
        "--token-file",
        &token,
        "--certificate",
        &pem,
    ];
    let (code, said, _) = explain(stage, &arguments);
    assert_eq!(code, 1);
    assert!(
        said.contains("refused: keys_unavailable (503)") && said.contains("--keys main="),
        "{said}"
    );
    for (bad, why) in [
        (&["--at", "noon"][..], "--at"),
        (&["--header", "nothing"], "--header"),
        (&["--listener", "none"], "there are bank"),
        (&["--body-file", "/nonexistent"], "--body-file /nonexistent"),
        (&["--method", "A B"], "--method"),
    ] {
        let (code, said, errors) = with(bad);
        assert_eq!((code, said.as_str()), (64, ""), "{bad:?}");
        assert!(errors.contains(why), "{errors}");
    }
    let (code, _, errors) = explain(stage, &["--url", "/accounts"]);
    assert_eq!(code, 64, "{errors}");
    let missing = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args([
            "explain",
            "--config",
            "/nonexistent.toml",
            "--url",
            "https://a/",
        ])
        .status()
        .unwrap();
    assert_eq!(missing.code(), Some(78));
}
