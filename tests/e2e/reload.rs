//! The life of the process: reloads that lose nothing, endings that finish what was begun.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::lab::client::Request;
use crate::lab::h2::Http2;
use crate::lab::pki::KeyKind;
use crate::support::stage::assert_refused;
use crate::support::{Gate, Stage};

#[test]
fn ten_thousand_requests_over_twenty_reloads_lose_none() {
    // TLS-16, CFG-05
    const REQUESTS: usize = 10_000;
    let stage = Stage::new();
    let config = stage.config();
    let gate = stage.start(&config);
    let token = stage.token();
    let left = AtomicUsize::new(REQUESTS);
    let done = AtomicBool::new(false);
    let take = || {
        left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            left.checked_sub(1)
        })
        .is_ok()
    };
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|caller| {
                let (stage, gate, token, take) = (&stage, &gate, &token, &take);
                scope.spawn(move || {
                    let client = stage.client(gate).resuming();
                    let request = Request::get("/accounts/1").token(token);
                    if caller == 0 {
                        let mut connection = Http2::open(&client).unwrap();
                        while take() {
                            assert_eq!(connection.call(&request).unwrap().status, 200);
                        }
                        return;
                    }
                    let mut connection = client.open().unwrap();
                    let mut calls = 0;
                    while take() {
                        let answer = connection.call(&request).unwrap();
                        assert_eq!(answer.status, 200, "{}", answer.reason());
                        calls += 1;
                        if calls % 500 == 0 {
                            connection = client.open().unwrap();
                        }
                    }
                })
            })
            .collect();
        let reloads = scope.spawn(|| {
            let mut reloads = 0;
            while reloads < 20 || !done.load(Ordering::SeqCst) {
                let mut config = config.clone();
                config.limits = format!("streams = {}\n", 100 + reloads % 7);
                // Routes, keys and trust too, by turns.
                if reloads % 3 == 0 {
                    config = config.route("extra", "/extra/**", "open = true");
                }
                if reloads % 5 == 0 {
                    stage.pki.write_crl();
                }
                stage.write(&config);
                gate.reload();
                reloads += 1;
                if reloads >= 200 {
                    break;
                }
            }
            reloads
        });
        for caller in callers {
            caller.join().unwrap();
        }
        done.store(true, Ordering::SeqCst);
        assert!(reloads.join().unwrap() >= 20);
    });
    assert_eq!(left.load(Ordering::SeqCst), 0);
}

#[test]
fn a_bad_file_leaves_the_old_configuration_running() {
    // CFG-05
    let stage = Stage::new();
    let gate = stage.start(&stage.config());
    let request = Request::get("/accounts/1").token(&stage.token());
    let generation = gate.generation();
    let good = stage.config().render();
    for (bad, said) in [
        ("this is no TOML".to_owned(), "portcullis.toml"),
        (good.replace("[upstream.core]", "[upstream.other]"), "core"),
        (
            format!(
                "{good}\n[[route]]\nname = \"nothing\"\npath = \"/nothing\"\nmethods = [\"GET\"]\nupstream = \"core\"\n"
            ),
            "nothing",
        ),
        (
            good.replace("pki/clients-ca.pem", "pki/no-such.pem"),
            "no-such.pem",
        ),
        (good.replace("public_url", "pubic_url"), "pubic_url"),
    ] {
        stage.write_text(&bad);
        gate.signal("HUP");
        gate.says(said);
        gate.until("the error in /status", || {
            gate.status().to_string().contains(said)
        });
        assert_eq!(gate.generation(), generation);
        assert_eq!(stage.client(&gate).call(&request).unwrap().status, 200);
    }
    stage.write(&stage.config().route("new", "/new", "open = true"));
    gate.reload();
    assert_eq!(
        stage
            .anonymous(&gate)
            .call(&Request::get("/new"))
            .unwrap()
            .status,
        200
    );
}

#[test]
fn a_policy_takes_effect_at_the_next_request_of_an_open_connection() {
    let stage = Stage::new();
    let gate = stage.start(&stage.config());
    let request = Request::get("/accounts/1").token(&stage.token());
    let mut connection = stage.client(&gate).open().unwrap();
    assert_eq!(connection.call(&request).unwrap().status, 200);
    let text = stage.config().render();
    stage.write_text(&text.replace("{ scopes = [\"accounts\"] }", "{ scopes = [\"admin\"] }"));
    gate.reload();
    assert_refused(
        &connection.call(&request).unwrap(),
        403,
        "scope_insufficient",
    );
}

#[test]
fn another_authority_ends_the_trust_in_open_connections() {
    // MTLS-15, contract section 2: trust does not outlive its evidence
    let stage = Stage::new();
    let gate = stage.start(&stage.config());
    let request = Request::get("/accounts/1").token(&stage.token());
    let mut open = stage.client(&gate).open().unwrap();
    assert_eq!(open.call(&request).unwrap().status, 200);
    let mut config = stage.config();
    config
        .tls
        .insert("client_ca", "[\"pki/server-ca.pem\"]".to_owned());
    config.tls.remove("client_crl");
    config.tls.insert("revocation", "\"none\"".to_owned());
    stage.write(&config);
    gate.reload();
    let answer = open.call(&request).unwrap();
    assert_refused(&answer, 401, "certificate_untrusted");
    assert_eq!(answer.field("connection"), Some("close"));
    assert!(open.closes(Duration::from_secs(10)));
}

#[test]
fn the_server_certificate_is_swapped_for_new_connections_only() {
    // TLS-16
    let stage = Stage::new();
    let gate = stage.start(&stage.config());
    let request = Request::get("/accounts/1").token(&stage.token());
    let certificate = |connection: &mut crate::lab::client::Connection| {
        connection.session().peer_certificates().unwrap()[0].clone()
    };
    let mut old = stage.client(&gate).open().unwrap();
    let before = certificate(&mut old);
    stage.pki.server(
        "server",
        &["api.bank.test", "api2.bank.test", "other.bank.test"],
        KeyKind::Ec,
    );
    gate.reload();
    let mut new = stage.client(&gate).open().unwrap();
    assert_ne!(certificate(&mut new), before);
    assert_eq!(new.call(&request).unwrap().status, 200);
    assert_eq!(old.call(&request).unwrap().status, 200);
    // A key that does not fit its certificate is not taken.
    stage.pki.server("half", &["api.bank.test"], KeyKind::Ec);
    std::fs::copy(
        stage.path("pki/half-key.pem"),
        stage.path("pki/server-key.pem"),
    )
    .unwrap();
    gate.signal("HUP");
    gate.until("the error in /status", || {
        gate.status().to_string().contains("server-key.pem")
    });
    assert_eq!(stage.client(&gate).call(&request).unwrap().status, 200);
}

#[test]
fn changed_files_are_noticed_without_a_signal() {
    let stage = Stage::new();
    let text = stage
        .config()
        .render()
        .replace("watch = \"off\"", "watch = \"1s\"");
    let gate = Gate::start(&stage.write_text(&text));
    gate.until("readiness", || gate.admin("/readyz").status == 200);
    let generation = gate.generation();
    stage.pki.revoke(&stage.a);
    gate.until("a reload", || gate.generation() > generation);
    assert_eq!(
        stage.client(&gate).refusal(),
        "received fatal alert: CertificateRevoked"
    );
}

#[test]
fn a_listener_may_come_and_go() {
    let stage = Stage::new();
    let gate = stage.start(&stage.config());
    let mut config = stage.config();
    config
        .tls
        .insert("client_certificate", "\"optional\"".to_owned());
    config.more.push_str(
        "[listener.second]\naddress = \"127.0.0.1:0\"\npublic_url = \"https://api2.bank.test\"\n\
         [listener.second.tls]\ncertificate = \"pki/server.pem\"\nprivate_key = \"pki/server-key.pem\"\n\
         client_ca = [\"pki/clients-ca.pem\"]\nclient_crl = [\"pki/clients.crl.pem\"]\n\
         [[route]]\nname = \"two\"\nlistener = [\"second\"]\npath = \"/two\"\nmethods = [\"GET\"]\nupstream = \"core\"\nopen = true\n",
    );
    // With two listeners each route says where it belongs.
    let text = config.render().replace(
        "[[route]]\nname     =",
        "[[route]]\nlistener = [\"bank\"]\nname     =",
    );
    stage.write_text(&text);
    gate.reload();
    let request = Request::get("/accounts/1").token(&stage.token());
    assert_eq!(stage.client(&gate).call(&request).unwrap().status, 200);
    stage.write(&stage.config());
    gate.reload();
    assert_eq!(stage.client(&gate).call(&request).unwrap().status, 200);
}

#[test]
fn a_drain_finishes_what_was_begun_and_exits_0() {
    // HTTP-24
    let stage = Stage::new();
    let mut gate = stage.start(&stage.config());
    let token = stage.token();
    let held = |case: &str| {
        Request::get("/accounts/1")
            .token(&token)
            .case(case)
            .field("x-lab", "hold:drain")
    };
    let mut http1 = stage.client(&gate).open().unwrap();
    http1.send(&held("drain 1").bytes()).unwrap();
    let http2 = Http2::open(&stage.client(&gate)).unwrap();
    let mut idle = stage.client(&gate).open().unwrap();
    assert_eq!(
        idle.call(&Request::get("/accounts/1").token(&token))
            .unwrap()
            .status,
        200
    );
    let request = Http2::request(&held("drain 2"));
    let pending = {
        let runtime = &http2.runtime;
        let mut sender = http2.sender.clone();
        let pending = runtime
            .spawn(async move { crate::lab::h2::read(sender.send_request(request).await?).await });
        runtime.block_on(async {
            while stage.legacy.seen("drain 2").is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        pending
    };
    stage.legacy.await_seen("drain 1", |_| true);
    gate.signal("TERM");
    gate.until("not being ready", || {
        std::net::TcpStream::connect(gate.address("admin")).is_err()
            || gate.admin("/readyz").status == 503
    });
    assert!(
        idle.closes(Duration::from_secs(10)),
        "an idle connection is closed"
    );
    stage.legacy.release("drain");
    let answer = http1.answer("GET").unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.field("connection"), Some("close"));
    let answer = http2.runtime.block_on(pending).unwrap().unwrap();
    assert_eq!(answer.status, 200);
    drop(http2);
    let status = gate.exit(Duration::from_secs(10)).expect("it ends");
    assert_eq!(status.code(), Some(0));
    assert_eq!(gate.logs("path", "/accounts/1").len(), 3, "no line is lost");
}

#[test]
fn a_drain_gives_up_after_its_time() {
    let stage = Stage::new();
    let mut config = stage.config();
    config.more.push_str("[drain]\ntimeout = \"1s\"\n");
    let mut gate = stage.start(&config);
    let mut connection = stage.client(&gate).open().unwrap();
    let request = Request::get("/accounts/1")
        .token(&stage.token())
        .case("late")
        .field("x-lab", "hold:never");
    connection.send(&request.bytes()).unwrap();
    stage.legacy.await_seen("late", |_| true);
    let started = Instant::now();
    gate.signal("INT");
    let status = gate.exit(Duration::from_secs(10)).expect("it ends");
    assert_eq!(status.code(), Some(0));
    assert!(
        started.elapsed() >= Duration::from_millis(900),
        "{:?}",
        started.elapsed()
    );
    let line = gate.log("path", "/accounts/1");
    assert_eq!(line["outcome"], "aborted", "{line}");
    stage.legacy.release("never");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let stage = Stage::new();
    let mut gate = stage.start(&stage.config());
    let mut connection = stage.client(&gate).open().unwrap();
    let request = Request::get("/accounts/1")
        .token(&stage.token())
        .case("stuck")
        .field("x-lab", "hold:stuck");
    connection.send(&request.bytes()).unwrap();
    stage.legacy.await_seen("stuck", |_| true);
    gate.signal("TERM");
    assert!(gate.exit(Duration::from_millis(300)).is_none());
    gate.signal("TERM");
    assert!(gate.exit(Duration::from_secs(3)).is_some());
    stage.legacy.release("stuck");
}

#[test]
fn a_configuration_that_is_wrong_does_not_start() {
    // CFG-01; exit codes of contract section 1
    let stage = Stage::new();
    let text = stage
        .config()
        .render()
        .replace("open     = true", "opne     = true");
    let (status, said) = Gate::fail_to_start(&stage.write_text(&text));
    assert_eq!(status.code(), Some(78), "{said}");
    assert!(
        said.contains("opne") && said.contains("portcullis.toml"),
        "{said}"
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let text = stage.config().render().replacen(
        "[listener.bank]\naddress = \"127.0.0.1:0\"",
        &format!("[listener.bank]\naddress = {address:?}"),
        1,
    );
    let (status, said) = Gate::fail_to_start(&stage.write_text(&text));
    assert_eq!(status.code(), Some(70), "{said}");
    assert!(said.contains(&address), "{said}");
}
