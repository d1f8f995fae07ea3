//! A disk that is full, and a queue that is.

use super::*;
use crate::support::stage::assert_refused;

/// Sets how large files of the gate may become, as a disk that is full would.
fn limit(gate: &Gate, bytes: &str) {
    let done = Command::new("prlimit")
        .arg(format!("--pid={}", gate.id()))
        .arg(format!("--fsize={bytes}:unlimited"))
        .status()
        .unwrap();
    assert!(done.success(), "prlimit");
}

/// Fills the disk: from now on nothing more can be written.
fn fill(audited: &Audited, gate: &Gate) {
    gate.until("a line", || {
        audited.log().metadata().is_ok_and(|meta| meta.len() > 0)
    });
    // A few bytes more, so that a line is torn in the middle.
    let size = audited.log().metadata().unwrap().len() + 100;
    limit(gate, &size.to_string());
}

#[test]
fn nothing_passes_while_the_disk_is_full() {
    // OPS-01
    let audited = Audited::new();
    let stage = &audited.stage;
    let config = stage.write(&audited.config("checkpoint_every = \"1s\""));
    let gate = Gate::start_ignoring_file_limits(&config);
    gate.until("readiness", || gate.admin("/readyz").status == 200);
    assert_eq!(audited.call(&gate, "/accounts/1").status, 200);
    fill(&audited, &gate);
    gate.until("the failure", || {
        gate.metric("portcullis_audit_healthy", &[]) < 0.5
    });
    let before = stage.legacy.count();
    for target in ["/accounts/1", "/public/1"] {
        let answer = audited.call(&gate, target);
        assert_refused(&answer, 503, "audit_unavailable");
        assert!(answer.field("retry-after").is_some());
    }
    // What is refused anyway stays refused for its own reason.
    let answer = stage
        .client(&gate)
        .call(&Request::get("/accounts/1"))
        .unwrap();
    assert_refused(&answer, 401, "token_missing");
    assert_eq!(stage.legacy.count(), before, "nothing reached the API");
    assert!(gate.metric("portcullis_audit_write_failures_total", &[]) >= 1.0);
    gate.says("the audit log cannot be written");
    let degraded = gate.admin("/readyz").json()["degraded"].to_string();
    assert!(degraded.contains("audit log"), "{degraded}");
    // Room again.
    limit(&gate, "unlimited");
    gate.until("recovery", || {
        gate.metric("portcullis_audit_healthy", &[]) > 0.5
    });
    assert_eq!(audited.call(&gate, "/accounts/1").status, 200);
    stop(gate);
    audited.assert_intact(&[]);
    let reasons: Vec<_> = audited
        .decisions()
        .iter()
        .map(|line| line["reason"].clone())
        .collect();
    let refused = reasons
        .iter()
        .filter(|reason| *reason == "audit_unavailable")
        .count();
    assert_eq!(refused, 2, "{reasons:?}");
    assert_eq!(
        reasons
            .iter()
            .filter(|reason| *reason == "token_missing")
            .count(),
        1
    );
}

#[test]
fn a_gate_that_cannot_write_its_last_lines_does_not_end_as_if_it_had() {
    let audited = Audited::new();
    let config = audited.stage.write(&audited.config(""));
    let mut gate = Gate::start_ignoring_file_limits(&config);
    gate.until("readiness", || gate.admin("/readyz").status == 200);
    fill(&audited, &gate);
    gate.signal("TERM");
    let status = gate
        .exit(std::time::Duration::from_secs(30))
        .expect("it ends");
    assert_eq!(status.code(), Some(70), "{}", gate.stderr());
    assert!(
        gate.stderr()
            .contains("the last lines of the audit log were not written")
    );
}

#[test]
fn with_continue_requests_pass_and_the_log_says_what_is_missing() {
    let audited = Audited::new();
    let stage = &audited.stage;
    let lines = "on_failure = \"continue\"\nqueue = 3\ncheckpoint_every = \"1s\"";
    let config = stage.write(&audited.config(lines));
    let gate = Gate::start_ignoring_file_limits(&config);
    gate.until("readiness", || gate.admin("/readyz").status == 200);
    fill(&audited, &gate);
    gate.until("the failure", || {
        gate.metric("portcullis_audit_healthy", &[]) < 0.5
    });
    for _ in 0..10 {
        assert_eq!(audited.call(&gate, "/accounts/1").status, 200);
    }
    let lost = gate.metric("portcullis_audit_lines_lost_total", &[]);
    assert!((lost - 7.0).abs() < 0.1, "{lost}");
    limit(&gate, "unlimited");
    gate.until("recovery", || {
        gate.metric("portcullis_audit_healthy", &[]) > 0.5
    });
    stop(gate);
    let said = audited.assert_intact(&[]);
    assert!(said.contains("7 lines found no room"), "{said}");
    assert_eq!(audited.decisions().len(), 3);
}

#[test]
fn a_full_queue_refuses() {
    let audited = Audited::new();
    let stage = &audited.stage;
    let gate = audited.start("queue = 1");
    let token = stage.token();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let client = stage.client(&gate);
            let request = Request::get("/accounts/1").token(&token);
            std::thread::spawn(move || {
                let mut connection = client.open().unwrap();
                let mut statuses = Vec::new();
                for _ in 0..25 {
                    let answer = connection.call(&request).unwrap();
                    if answer.status != 200 {
                        assert_eq!(
                            (answer.status, &*answer.reason()),
                            (503, "audit_unavailable")
                        );
                    }
                    statuses.push(answer.status);
                }
                statuses
            })
        })
        .collect();
    let statuses: Vec<u16> = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    let passed = statuses.iter().filter(|status| **status == 200).count();
    assert!(passed > 0 && passed < 200, "{passed} of 200 passed");
    assert_eq!(
        stage.legacy.count(),
        passed,
        "what passed reached the API and nothing else"
    );
    let lost = gate.metric("portcullis_audit_lines_lost_total", &[]);
    stop(gate);
    audited.assert_intact(&[]);
    let decisions = audited.decisions();
    let authorized = decisions
        .iter()
        .filter(|line| line["outcome"] == "authorized")
        .count();
    assert_eq!(authorized, passed, "each that passed has its line");
    #[expect(clippy::cast_precision_loss, reason = "two hundred")]
    let all = decisions.len() as f64 + lost;
    assert!((all - 200.0).abs() < 0.1, "{all}");
}

#[test]
fn a_log_that_is_none_is_not_written_to() {
    let audited = Audited::new();
    std::fs::write(audited.log(), "somebody's notes\n").unwrap();
    let config = audited.stage.write(&audited.config(""));
    let (status, said) = Gate::fail_to_start(&config);
    assert_eq!(status.code(), Some(70), "{said}");
    assert!(said.contains("is no audit log: move it away"), "{said}");
    assert_eq!(audited.text(), "somebody's notes\n");
}
