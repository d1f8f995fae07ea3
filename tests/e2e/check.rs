//! `check --online`: whether those whom the file names answer as it needs them to.

use std::process::Command;

use crate::lab::authserver::Fault;
use crate::lab::pki::Shape;
use crate::support::Stage;

fn check(stage: &Stage) -> (Option<i32>, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["check", "--online", "--config"])
        .arg(stage.path("portcullis.toml"))
        .output()
        .unwrap();
    (done.status.code(), String::from_utf8(done.stderr).unwrap())
}

#[test]
fn neighbours_are_tried_and_each_says_what_is_wrong() {
    let stage = Stage::new();
    stage.pki.client("pep", Shape::Good);
    let mut config = stage.config();
    config.more.push_str(
        "\n[issuer.main.introspection]\nclient_id = \"pep\"\n\
         client_auth = { method = \"tls_client_auth\", certificate = \"pki/pep.pem\", key = \"pki/pep-key.pem\" }\n",
    );
    stage.write(&config);
    let (code, said) = check(&stage);
    assert_eq!(code, Some(0), "{said}");
    for line in [
        "ok: issuer main: keys: keys ",
        "ok: issuer main: introspection: it answers us",
        &format!(
            "ok: upstream core: {}: it takes connections",
            stage.legacy.address
        ),
    ] {
        assert!(said.contains(line), "no {line:?} in\n{said}");
    }
    stage.issuer.fail("jwks", Fault::Garbage);
    stage.issuer.fail("introspection", Fault::Status(401));
    config
        .upstream
        .insert("servers", "[\"http://127.0.0.1:1\"]".to_owned());
    stage.write(&config);
    let (code, said) = check(&stage);
    assert_eq!(code, Some(78), "{said}");
    for line in [
        "failed: issuer main: keys: ",
        "failed: issuer main: introspection: issuer main: it answered 401",
        "failed: upstream core: 127.0.0.1:1: no connection",
    ] {
        assert!(said.contains(line), "no {line:?} in\n{said}");
    }
    // A file that is wrong is not tried.
    stage.write_text("[listener");
    let before = stage.issuer.count("discovery");
    assert_eq!(check(&stage).0, Some(78));
    assert_eq!(stage.issuer.count("discovery"), before);
}
