//! Decisions judged again by other rules, and what rules that are only tried would have refused.

use super::*;

#[test]
fn a_stricter_rule_is_tried_on_what_was_decided() {
    let audited = Audited::new();
    let stage = &audited.stage;
    let gate = audited.start("");
    let client = stage.client(&gate);
    let draft = |acr: &str| stage.draft().claim("acr", acr).claim("consent_id", "c-1");
    let strong = stage.issuer.sign(&draft("urn:bank:acr:sca"));
    let weak = stage
        .issuer
        .sign(&draft("urn:bank:acr:password").claim("client_id", "tpp-2"));
    let expired = stage.issuer.sign(&draft("urn:bank:acr:sca").expired());
    for (token, times) in [(&strong, 3), (&weak, 2), (&expired, 1)] {
        for _ in 0..times {
            drop(
                client
                    .call(&Request::get("/accounts/1").token(token))
                    .unwrap(),
            );
        }
    }
    drop(client.call(&Request::get("/public/1")).unwrap());
    stop(gate);
    let log = audited.log();
    let replay = |config: &Config| {
        let path = stage.write(config);
        let arguments = [Path::new("--json"), Path::new("--config"), &path, &log];
        let (code, text) = audited.audit("replay", &arguments);
        assert_eq!(code, Some(0), "{text}");
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let counts = |found: &Value| {
        let names = [
            "decisions",
            "same",
            "refused",
            "passed",
            "unknown",
            "other_reason",
        ];
        names.map(|name| found[name].as_u64().unwrap())
    };
    // The same rules: nothing changes.
    let found = replay(&audited.config(""));
    assert_eq!(counts(&found), [7, 7, 0, 0, 0, 0], "{found}");
    // A stronger authentication of the user.
    let with = |policy: &str| {
        let mut config = audited.config("");
        config.usual_routes = false;
        config
            .route(
                "accounts-read",
                "/accounts/**",
                &format!("policy = {policy}"),
            )
            .route("public", "/public/**", "open = true")
    };
    let found = replay(&with(
        "{ scopes = [\"accounts\"], acr = [\"urn:bank:acr:sca\"] }",
    ));
    assert_eq!(counts(&found), [7, 5, 2, 0, 0, 0], "{found}");
    let change = &found["changes"][0];
    assert_eq!(change["client"], "tpp-2");
    assert_eq!(change["why"], "authentication_too_weak");
    assert_eq!(change["requests"], 2);
    // A claim whose value no rule looked at; that it is there is known.
    let found = replay(&with("{ claims = { consent_id = { equals = \"c-1\" } } }"));
    assert_eq!(counts(&found), [7, 2, 0, 0, 5, 0], "{found}");
    assert_eq!(
        found["changes"][0]["why"],
        "claim consent_id was not recorded"
    );
    let found = replay(&with("{ claims = { consent_id = { present = true } } }"));
    assert_eq!(counts(&found), [7, 7, 0, 0, 0, 0], "{found}");
    // A looser one.
    let mut config = with("{ scopes = [\"accounts\"] }");
    config.issuer.insert("exp_leeway", "\"60s\"".to_owned());
    let looser = replay(&config);
    assert_eq!(
        looser["passed"].as_u64().unwrap() + looser["same"].as_u64().unwrap(),
        7,
        "{looser}"
    );
    // A route that is gone, and for people.
    let path = stage.write(&{
        let mut config = with("{ scopes = [\"accounts\"] }");
        config.more = config.more.replace("/public/**", "/elsewhere/**");
        config
    });
    let (code, text) = audited.audit("replay", &[Path::new("--config"), &path, &log]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("1 would be refused that passed"), "{text}");
    assert!(text.contains("route_not_found"), "{text}");
    // A configuration with problems.
    stage.write_text("[listener");
    assert_eq!(
        audited
            .audit("replay", &[Path::new("--config"), &path, &log])
            .0,
        Some(78)
    );
}

#[test]
fn what_shadow_policies_and_observed_routes_would_refuse_is_reported() {
    let audited = Audited::new();
    let stage = &audited.stage;
    let config = audited
        .config("")
        .route(
            "tried",
            "/tried",
            "policy = { scopes = [\"accounts\"] }\nshadow_policy = { scopes = [\"accounts\", \"more\"] }",
        )
        .route(
            "watched",
            "/watched",
            "policy = { scopes = [\"more\"] }\nobserve = { until = \"2099-01-31\" }",
        );
    let gate = stage.start(&config);
    for target in ["/tried", "/tried", "/watched"] {
        assert_eq!(audited.call(&gate, target).status, 200);
    }
    let nobody = stage.client(&gate).call(&Request::get("/watched")).unwrap();
    assert_eq!(nobody.status, 200);
    stop(gate);
    let log = audited.log();
    let (code, text) = audited.audit("report", &[Path::new("--json"), &log]);
    assert_eq!(code, Some(0), "{text}");
    let found: Value = serde_json::from_str(&text).unwrap();
    let rows: Vec<_> = found["would_be_refused"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap().to_owned();
            (
                [text("route"), text("rule"), text("client"), text("reason")],
                row["requests"].as_u64().unwrap(),
            )
        })
        .collect();
    let row = |words: [&str; 4], count: u64| (words.map(str::to_owned), count);
    assert_eq!(
        rows,
        [
            row(["tried", "shadow", "tpp-1", "scope_insufficient"], 2),
            row(["watched", "observe", "-", "token_missing"], 1),
            row(["watched", "observe", "tpp-1", "scope_insufficient"], 1),
        ]
    );
    assert_eq!(found["shadowed"], 2);
    assert_eq!(found["observed"], 2);
    let (_, text) = audited.audit("report", &[&log]);
    assert!(text.contains("would be refused for"), "{text}");
}
