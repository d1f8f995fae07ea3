//! Transport: versions, names, certificates, resumption, and trust that ends when its evidence
//! does.

mod certificates;
mod handshake;
mod trust;

use crate::lab::client::{Client, Request};
use crate::lab::pki::KeyKind;
use crate::support::stage::Playing;
use crate::support::{Gate, Stage};
use std::sync::OnceLock;

/// Beside `bank`, all on one address: the server name alone chooses.
const LISTENERS: &str = r#"
[listener.fapi1]
address = "127.0.0.1:0"
public_url = "https://fapi1.bank.test"
[listener.fapi1.tls]
certificate = "pki/rsa.pem"
private_key = "pki/rsa-key.pem"
profile = "fapi1"
client_ca = ["pki/clients-ca.pem"]
client_crl = ["pki/clients.crl.pem"]

[listener.any]
address = "127.0.0.1:0"
public_url = "https://any.bank.test"
default = true
disclose_reasons = true
[listener.any.tls]
certificate = "pki/server.pem"
private_key = "pki/server-key.pem"
client_trust = "any"
resumption = false

[listener.required]
address = "127.0.0.1:0"
public_url = "https://required.bank.test"
[listener.required.tls]
certificate = "pki/server.pem"
private_key = "pki/server-key.pem"
client_certificate = "required"
client_ca = ["pki/clients-ca.pem", "pki/issuing-ca.pem"]
client_crl = ["pki/clients.crl.pem", "pki/issuing.crl.pem"]

[listener.stale]
address = "127.0.0.1:0"
public_url = "https://stale.bank.test"
[listener.stale.tls]
certificate = "pki/server.pem"
private_key = "pki/server-key.pem"
client_ca = ["pki/clients-ca.pem"]
client_crl = ["pki/stale.crl.pem"]

[[route]]
name = "everywhere"
listener = ["bank", "fapi1", "any", "required", "stale"]
path = "/accounts/**"
methods = ["GET"]
upstream = "core"
policy = { scopes = ["accounts"] }
"#;

fn playing() -> &'static Playing {
    static PLAYING: OnceLock<Playing> = OnceLock::new();
    PLAYING.get_or_init(|| {
        Playing::new(|stage, mut config| {
            let names = ["api", "any", "required", "stale"].map(|name| format!("{name}.bank.test"));
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            stage.pki.server("server", &names, KeyKind::Ec);
            stage.pki.server("rsa", &["fapi1.bank.test"], KeyKind::Rsa);
            stage.pki.write_expired_crl("stale.crl.pem");
            config.usual_routes = false;
            config.more.push_str(LISTENERS);
            config
        })
    })
}

fn at(listener: &str) -> Client {
    playing()
        .anonymous()
        .named(&format!("{listener}.bank.test"))
}

fn get_at(listener: &str) -> Request {
    get().host(&format!("{listener}.bank.test"))
}

fn get() -> Request {
    Request::get("/accounts/1").token(&playing().token())
}

/// A stage of its own for what changes the trust of everybody.
fn own() -> (Stage, Gate) {
    let stage = Stage::new();
    let gate = stage.start(&stage.config());
    (stage, gate)
}
