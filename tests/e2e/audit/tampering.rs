//! What a line holds, and that whatever is done to the file shows.

use std::time::Duration;

use super::*;
use crate::lab::uuid;

#[test]
fn a_line_holds_what_the_decision_used_and_no_secret() {
    // OPS-02
    let audited = Audited::new();
    let stage = &audited.stage;
    let gate = audited.start("");
    let (client, token) = (stage.client(&gate), stage.token());
    let id = uuid();
    let good = Request::post("/accounts/1?q=queryMARKER", "bodyMARKER")
        .token(&token)
        .field("x-some-header", "headerMARKER")
        .field("x-fapi-interaction-id", &id);
    assert_eq!(client.call(&good).unwrap().status, 200);
    let poor = stage.issuer.sign(&stage.draft().claim("scope", "other"));
    let expired = stage.issuer.sign(&stage.draft().expired());
    let forged = format!("{}AAAA", &token[..token.len() - 4]);
    for (target, token, status) in [
        ("/accounts/1", None, 401),
        ("/accounts/1", Some(&poor), 403),
        ("/accounts/1", Some(&expired), 401),
        ("/accounts/1", Some(&forged), 401),
        ("/nowhere", Some(&token), 404),
        ("/accounts/a%2e%2e", Some(&token), 400),
        ("/public/1", None, 200),
        // What we say of ourselves (RFC 9728) is no decision, and leaves no line.
        ("/.well-known/oauth-protected-resource", None, 200),
    ] {
        let mut request = Request::get(target);
        if let Some(token) = token {
            request = request.token(token);
        }
        let answer = client.call(&request).unwrap();
        assert_eq!(answer.status, status, "{target}: {}", answer.reason());
    }
    let in_path = format!("/nowhere/{token}");
    assert_eq!(client.call(&Request::get(&in_path)).unwrap().status, 404);
    let stdout = stop(gate);
    audited.assert_intact(&[]);
    let lines = audited.decisions();
    let seen: Vec<_> = lines
        .iter()
        .map(|line| {
            (
                line["outcome"].as_str().unwrap(),
                line["reason"].as_str().unwrap_or("-"),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("authorized", "-"),
            ("refused", "token_missing"),
            ("refused", "scope_insufficient"),
            ("refused", "token_expired"),
            ("refused", "signature_invalid"),
            ("refused", "route_not_found"),
            ("refused", "target_ambiguous"),
            ("authorized", "-"),
            ("refused", "route_not_found"),
        ]
    );
    let line = &lines[0];
    for (pointer, value) in [
        ("/id", &*id),
        ("/route", "accounts-write"),
        ("/client", "tpp-1"),
        ("/issuer", "main"),
        ("/facts/request/method", "POST"),
        ("/facts/request/host", "api.bank.test"),
        ("/facts/request/path", "/accounts/1"),
        ("/facts/peer/listener", "bank"),
        ("/facts/peer/standing", "trusted"),
        ("/facts/peer/certificate/thumbprint", &stage.a.thumbprint),
        ("/facts/token/claims/cnf/x5t#S256", &stage.a.thumbprint),
        ("/facts/jose/alg", "ES256"),
    ] {
        let found = line.pointer(pointer);
        assert_eq!(
            found.and_then(Value::as_str),
            Some(value),
            "{pointer} in {line}"
        );
    }
    assert_eq!(line["generation"], 1);
    assert!(line["facts"]["token"]["claims"]["exp"].is_u64(), "{line}");
    let names = line["facts"]["request"]["headers"].as_array().unwrap();
    assert!(names.iter().any(|name| name == "x-some-header"), "{line}");
    assert_eq!(lines[2]["status"], 403);
    // The same subject has the same digest, and nobody can read whose.
    let subject = |line: &Value| line["facts"]["token"]["claims"]["sub"].clone();
    assert_eq!(subject(line), subject(&lines[2]));
    assert!(
        subject(line).as_str().unwrap().starts_with("hmac:"),
        "{line}"
    );
    let text = audited.text();
    for secret in ["bodyMARKER", "headerMARKER", "queryMARKER", "user-1"] {
        assert!(!text.contains(secret), "{secret}");
    }
    for token in [&token, &poor, &expired, &forged] {
        for part in token.split('.').skip(1) {
            assert!(!text.contains(&part[part.len() - 20..]), "part of a token");
        }
    }
    // Checkpoints go to standard output too.
    let announced = stdout.lines().filter(|line| line.contains("\"signature\""));
    let announced: Vec<_> = announced.collect();
    assert!(announced.len() >= 2, "{stdout}");
    for line in announced {
        assert!(text.contains(line), "{line}");
    }
}

#[test]
fn whatever_is_done_to_the_file_shows() {
    let audited = Audited::new();
    let gate = audited.start("");
    for at in 0..10 {
        assert_eq!(audited.call(&gate, &format!("/accounts/{at}")).status, 200);
    }
    let stdout = audited.stage.path("stdout.log");
    std::fs::write(&stdout, stop(gate)).unwrap();
    let kept = ["--checkpoint", stdout.to_str().unwrap()];
    let said = audited.assert_intact(&kept);
    assert!(said.contains("10 decisions"), "{said}");
    let whole = std::fs::read_to_string(audited.log()).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let broken = |lines: &[&str], further: &[&str], what: &str| {
        std::fs::write(audited.log(), lines.join("\n") + "\n").unwrap();
        let (code, said) = audited.verify(further);
        assert_eq!(code, Some(1), "{what}: {said}");
        assert!(said.contains(what), "{what}: {said}");
        assert!(said.contains("NOT intact"), "{said}");
    };
    let edited = lines[5].replace("tpp-1", "tpp-2");
    assert_ne!(edited, lines[5]);
    let mut changed = lines.clone();
    changed[5] = &edited;
    broken(&changed, &[], "jsonl:6: line number 6 was edited");
    let mut changed = lines.clone();
    changed.remove(5);
    broken(
        &changed,
        &[],
        "jsonl:6: line number 6 is missing before this one: removed",
    );
    let mut changed = lines.clone();
    changed.swap(5, 6);
    broken(
        &changed,
        &[],
        "line number 6 stands in the wrong place: moved",
    );
    let mut changed = lines.clone();
    changed.insert(8, lines[5]);
    broken(&changed, &[], "there is a second line with number 6");
    broken(&lines[2..], &[], "what stood before it was cut off");
    // The end, by what standard output was told; by the line alone as well.
    broken(&lines[..8], &kept, "the end was cut off: line number 12");
    broken(
        &lines[..8],
        &["--checkpoint", lines[11]],
        "the end was cut off: line number 12",
    );
    std::fs::write(audited.log(), &whole[..whole.len() - 5]).unwrap();
    let (code, said) = audited.verify(&[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("this line has no end"), "{said}");
    // Made anew, keys and all.
    std::fs::remove_file(audited.log()).unwrap();
    let gate = audited.start("");
    assert_eq!(audited.call(&gate, "/accounts/1").status, 200);
    stop(gate);
    audited.assert_intact(&[]);
    let (code, said) = audited.verify(&kept);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the chain was made anew"), "{said}");
    // Arguments that are none.
    std::fs::write(&stdout, "nothing\n").unwrap();
    assert_eq!(audited.verify(&kept).0, Some(78));
    assert_eq!(audited.verify(&["--checkpoint", "{}"]).0, Some(78));
    assert_eq!(audited.verify(&["--key", "none"]).0, Some(78));
    assert_eq!(audited.verify(&["no-such-file"]).0, Some(78));
}

#[test]
fn a_killed_process_leaves_a_log_that_goes_on() {
    let audited = Audited::new();
    let mut gate = audited.start("");
    for _ in 0..5 {
        assert_eq!(audited.call(&gate, "/accounts/1").status, 200);
    }
    gate.until("five lines", || audited.decisions().len() == 5);
    gate.signal("KILL");
    assert!(gate.exit(Duration::from_secs(20)).is_some());
    // A line that was being written.
    let mut text = std::fs::read_to_string(audited.log()).unwrap();
    let until = text.len() - 40;
    text.truncate(until);
    std::fs::write(audited.log(), &text).unwrap();
    let gate = audited.start("");
    assert_eq!(audited.call(&gate, "/accounts/1").status, 200);
    stop(gate);
    let after = std::fs::read_to_string(audited.log()).unwrap();
    assert!(after.starts_with(&text), "nothing is rewritten");
    let said = audited.assert_intact(&[]);
    assert!(
        said.contains("the beginning of a line that was being written"),
        "{said}"
    );
    assert!(said.contains("had not stopped in order"), "{said}");
}

#[test]
fn the_chain_goes_on_over_reloads_and_checkpoints_come_by_time() {
    let audited = Audited::new();
    let lines = "checkpoint_every = \"1s\"";
    let gate = audited.start(lines);
    assert_eq!(audited.call(&gate, "/accounts/1").status, 200);
    audited.stage.write(&audited.config(lines).route(
        "more",
        "/more",
        "policy = { scopes = [\"accounts\"] }",
    ));
    gate.reload();
    assert!(!gate.stderr().contains("audit changed"));
    assert_eq!(audited.call(&gate, "/more").status, 200);
    let signed = || {
        audited
            .lines()
            .iter()
            .filter(|line| line["kind"] == "checkpoint")
            .count()
    };
    gate.until("two checkpoints", || signed() >= 2);
    let age = gate.metric("portcullis_audit_checkpoint_age_seconds", &[]);
    assert!(age < 30.0, "{age}");
    assert!(gate.metric("portcullis_audit_lines_total", &[]) >= 5.0);
    assert!((gate.metric("portcullis_audit_healthy", &[]) - 1.0).abs() < 0.1);
    // What needs a restart is said.
    audited.stage.write(&audited.config("queue = 5"));
    gate.reload();
    gate.says("audit changed in the configuration: that needs a restart");
    stop(gate);
    audited.assert_intact(&[]);
    let generations: Vec<_> = audited
        .decisions()
        .iter()
        .map(|line| line["generation"].clone())
        .collect();
    assert_eq!(generations, [1, 2]);
}

#[test]
fn files_are_rotated_under_load_and_hang_together() {
    let audited = Audited::new();
    let gate = audited.start("sync = \"write\"\nrotate = { size = \"1MiB\" }");
    let token = audited.stage.token();
    // Long paths make long lines.
    let target = format!("/accounts/{}", "x".repeat(3000));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let client = audited.stage.client(&gate);
            let request = Request::get(&target).token(&token);
            std::thread::spawn(move || {
                let mut connection = client.open().unwrap();
                for _ in 0..200 {
                    assert_eq!(connection.call(&request).unwrap().status, 200);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    stop(gate);
    assert!(audited.files().len() >= 3, "{:?}", audited.files());
    let said = audited.assert_intact(&["--from-start"]);
    assert!(said.contains("800 decisions"), "{said}");
    // One file is gone.
    std::fs::remove_file(&audited.files()[1]).unwrap();
    let (code, said) = audited.verify(&[]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("are missing before this one: removed"),
        "{said}"
    );
}
