//! What reaches the API and what comes back: headers, bodies, streams.

mod bodies;
mod headers;
mod servers;
mod upgrades;
mod upstreams;

use crate::lab::client::Request;
use crate::lab::h2::Http2Legacy;
use crate::lab::legacy::{Legacy, Seen};
use crate::lab::pki::{KeyKind, Shape};
use crate::support::stage::Playing;
use std::sync::OnceLock;

struct Forward {
    playing: Playing,
    secure: Legacy,
    http2: Http2Legacy,
}

fn forward() -> &'static Forward {
    static FORWARD: OnceLock<Forward> = OnceLock::new();
    FORWARD.get_or_init(|| {
        let mut others = None;
        let playing = Playing::new(|stage, mut config| {
            let core = stage.pki.server("core", &["core.bank.test"], KeyKind::Rsa);
            stage.pki.client("gate", Shape::Good);
            let secure = Legacy::start_tls(&stage.pki, &core);
            let http2 = Http2Legacy::start(Some(&core));
            for (name, port, protocol) in [
                ("secure", secure.address.port(), "http1"),
                ("http2", http2.address.port(), "http2"),
                ("wrong", secure.address.port(), "http1"),
            ] {
                let server_name = if name == "wrong" { "wrong.bank.test" } else { "core.bank.test" };
                config.more.push_str(&format!(
                    "[upstream.{name}]\nservers = [\"https://127.0.0.1:{port}\"]\nprotocol = \"{protocol}\"\n\
                     server_name = \"{server_name}\"\nca = [\"pki/server-ca.pem\"]\n\
                     certificate = \"pki/gate.pem\"\nprivate_key = \"pki/gate-key.pem\"\n"
                ));
            }
            others = Some((secure, http2));
            let policy = "policy = { scopes = [\"accounts\"] }";
            config
                .route("secure", "/secure/**", &format!("{policy}\nupstream = \"secure\""))
                .route("http2", "/http2/**", &format!("{policy}\nupstream = \"http2\""))
                .route("wrong", "/wrong/**", &format!("{policy}\nupstream = \"wrong\""))
                .route("rewritten", "/psd2/{version}/**", &format!("{policy}\nrewrite = {{ from = \"/psd2\", to = \"/legacy/api\" }}"))
                .route("ws", "/ws/**", &format!("{policy}\nmethods = [\"GET\"]\nwebsocket = true"))
                .route("own", "/own/**", &format!(
                    "{policy}\nforward = {{ authorization = true, host = \"core.internal\", headers = {{ x-cert = \"certificate.der\", x-subject-dn = \"certificate.subject\", x-route = \"route.name\", x-issuer = \"issuer.name\", x-consent = \"token.consent\" }} }}"
                ))
        });
        let (secure, http2) = others.unwrap();
        Forward { playing, secure, http2 }
    })
}

fn playing() -> &'static Playing {
    &forward().playing
}

fn legacy() -> &'static Legacy {
    &playing().stage.legacy
}

/// What the API saw of a request that passed.
fn sent(case: &str, request: Request) -> Seen {
    let answer = playing().call(request.case(case));
    assert_eq!(
        answer.status,
        200,
        "{case}: {}",
        String::from_utf8_lossy(&answer.body)
    );
    let seen = legacy().only(case);
    assert!(seen.flaws.is_empty(), "{case}: {:?}", seen.flaws);
    seen
}
