//! Client certificates that a proxy in front passes on.

use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::lab::client::{Client, Request};
use crate::lab::h2::Http2;
use crate::lab::pki::{Identity, Shape, pem_of};
use crate::support::stage::{Playing, assert_refused};
use crate::support::{Config, Gate, Stage};

/// Where the proxies connect from. Everybody else comes from 127.0.0.1.
const PROXY: &str = "127.0.0.2";

const BEHIND: &str = r#"behind = { proxies = ["127.0.0.2/32"], certificate = "FORM", proxy_certificate = { ca = ["pki/dmz-ca.pem"], san = ["lb.bank.test"] } }
"#;

/// Another listener, which takes another form.
fn listener(name: &str, form: &str) -> String {
    let behind = BEHIND.replace("FORM", form);
    format!(
        r#"
[listener.{name}]
address = "127.0.0.1:0"
public_url = "https://{name}.bank.test"
disclose_reasons = true
{behind}
[listener.{name}.tls]
certificate = "pki/server.pem"
private_key = "pki/server-key.pem"
client_ca = ["pki/clients-ca.pem"]
client_crl = ["pki/clients.crl.pem"]
"#
    )
}

const ROUTES: &str = r#"
[[route]]
name = "accounts"
listener = ["bank", "envoy", "nginx", "addressed"]
path = "/accounts/**"
methods = ["GET"]
upstream = "core"
policy = { scopes = ["accounts"] }
"#;

fn configure(stage: &Stage, mut config: Config) -> Config {
    let names = ["api", "envoy", "nginx", "addressed"].map(|name| format!("{name}.bank.test"));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    stage
        .pki
        .server("server", &names, crate::lab::pki::KeyKind::Ec);
    config.bank.push_str(&BEHIND.replace("FORM", "client-cert"));
    config.usual_routes = false;
    config.more.push_str(&listener("envoy", "xfcc"));
    config.more.push_str(&listener("nginx", "nginx"));
    let addressed = listener("addressed", "client-cert");
    let certificate = addressed.find(", proxy_certificate").unwrap();
    let line = addressed[certificate..].find('\n').unwrap() + certificate;
    config.more.push_str(&addressed[..certificate]);
    config.more.push_str(" }");
    config.more.push_str(&addressed[line..]);
    config.more.push_str(ROUTES);
    config
}

fn playing() -> &'static Playing {
    static PLAYING: OnceLock<Playing> = OnceLock::new();
    PLAYING.get_or_init(|| Playing::new(configure))
}

/// A proxy with a good certificate, at listener `bank`.
fn proxy(stage: &Stage, gate: &Gate) -> Client {
    let identity = stage.pki.proxy("lb", &["LB.bank.test", "lb2.bank.test"]);
    stage.anonymous(gate).with(&identity).from(PROXY)
}

fn ours() -> Client {
    static OURS: OnceLock<Client> = OnceLock::new();
    OURS.get_or_init(|| proxy(&playing().stage, &playing().gate))
        .clone()
}

fn sequence(der: &[u8]) -> String {
    format!(":{}:", STANDARD.encode(der))
}

/// Everything but what RFC 3986 leaves alone.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

fn get() -> Request {
    Request::get("/accounts/1").token(&playing().token())
}

/// A request of this client through a proxy.
fn of(identity: &Identity, request: Request) -> Request {
    request.field("Client-Cert", &sequence(&identity.chain[0]))
}

#[test]
fn the_certificate_that_a_named_proxy_passes_on_is_the_clients() {
    // MTLS-15, FWD-01; RFC 9440 s2
    let (stage, gate) = (&playing().stage, &playing().gate);
    let pem = pem_of(&stage.a.chain[0]);
    let xfcc = format!(
        "Hash=00;Cert=\"{}\",By=spiffe://bank/lb;Hash=11;Cert=\"{}\";Subject=\"CN=x\"",
        escaped(&pem_of(&stage.b.chain[0])),
        escaped(&pem),
    );
    for (name, field, value) in [
        ("api", "Client-Cert", sequence(&stage.a.chain[0])),
        ("envoy", "X-Forwarded-Client-Cert", xfcc),
        ("nginx", "X-SSL-Client-Cert", escaped(&pem)),
        ("addressed", "Client-Cert", sequence(&stage.a.chain[0])),
    ] {
        let case = format!("behind-{name}");
        let host = format!("{name}.bank.test");
        let request = get()
            .host(&host)
            .case(&case)
            .field(field, &value)
            .field("X-Forwarded-For", "203.0.113.66")
            .field("X-Forwarded-Host", "evil.test")
            .field("X-Forwarded-Proto", "http");
        let client = match name {
            "addressed" => ours().anonymous(),
            _ => ours(),
        };
        let answer = client.named(&host).call(&request).unwrap();
        assert_eq!(answer.status, 200, "{name}: {:?}", answer.json());
        let seen = stage.legacy.only(&case);
        let thumbprint = stage.a.thumbprint.as_str();
        assert_eq!(seen.field("x-auth-cert-thumbprint"), Some(thumbprint));
        for (name, value) in &seen.fields {
            let folded = name.to_ascii_lowercase();
            assert!(
                !folded.contains("client-cert") && !folded.contains("ssl"),
                "{name}: {value}"
            );
        }
        // DPOP-11, FWD-08: nothing else that it says of the request is believed.
        assert_eq!(seen.field("x-forwarded-for"), Some(PROXY));
        assert_eq!(seen.field("x-forwarded-host"), Some(host.as_str()));
        assert_eq!(seen.field("x-forwarded-proto"), Some("https"));
        let id = answer.field("x-fapi-interaction-id").unwrap();
        let line = gate.log("interaction_id", id);
        assert!(line.to_string().contains(thumbprint), "{line}");
        assert!(
            line["remote"].as_str().unwrap().starts_with(PROXY),
            "{line}"
        );
    }
}

#[test]
fn a_header_from_anybody_else_is_nothing() {
    // MTLS-15, FWD-01: a certificate is no secret, and a spoofed header must not be one's key.
    let stage = &playing().stage;
    let spoofed = |case: &str| {
        of(&stage.a, get())
            .field(
                "X-Forwarded-Client-Cert",
                &format!("Cert=\"{}\"", escaped(&pem_of(&stage.a.chain[0]))),
            )
            .field("X-SSL-Client-Cert", &escaped(&pem_of(&stage.a.chain[0])))
            .case(case)
    };
    for (name, host) in [
        ("api", "api.bank.test"),
        ("envoy", "envoy.bank.test"),
        ("nginx", "nginx.bank.test"),
    ] {
        let case = format!("spoofed-{name}");
        let request = spoofed(&case).host(host);
        let anonymous = playing().anonymous().named(host);
        assert_refused(
            &anonymous.call(&request).unwrap(),
            401,
            "certificate_required",
        );
        let of_b = anonymous.clone().with(&stage.b);
        assert_refused(&of_b.call(&request).unwrap(), 401, "binding_mismatch");
        let http2 = Http2::open(&of_b).unwrap().call(&request).unwrap();
        assert_refused(&http2, 401, "binding_mismatch");
        assert_eq!(stage.legacy.seen(&case).len(), 0);
        // Who holds the key is served, and what it says of others goes no further.
        let case = format!("direct-{name}");
        let answer = anonymous.with(&stage.a).call(&spoofed(&case).host(host));
        assert_eq!(answer.unwrap().status, 200);
        let seen = stage.legacy.only(&case);
        assert!(
            seen.fields
                .iter()
                .all(|(name, _)| !name.to_ascii_lowercase().contains("client-cert"))
        );
    }
    // The proxy's certificate alone is good for nothing: it is of no client.
    let thief = playing()
        .anonymous()
        .with(&stage.pki.proxy("thief", &["lb.bank.test"]));
    assert!(thief.refusal().starts_with("received fatal alert"));
}

#[test]
fn from_a_proxys_address_only_the_proxy_connects() {
    let (stage, gate) = (&playing().stage, &playing().gate);
    let unfit = || gate.metric("portcullis_handshakes_total", &["proxy_certificate_unfit"]);
    let from = |identity: &Identity| playing().anonymous().with(identity).from(PROXY);
    for (what, client) in [
        ("no certificate", playing().anonymous().from(PROXY)),
        ("a client's", from(&stage.a)),
        (
            "another name",
            from(&stage.pki.proxy("other", &["other.bank.test"])),
        ),
        ("no name", from(&stage.pki.proxy("nameless", &[]))),
        (
            "a stranger's",
            from(&stage.pki.client("stranger-lb", Shape::Stranger)),
        ),
    ] {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let before = unfit();
            let refusal = client.clone().only(version).refusal();
            assert!(
                refusal.starts_with("received fatal alert"),
                "{what}: {refusal}"
            );
            gate.until("the metric", || unfit() > before);
        }
    }
    gate.says("none of the names under proxy_certificate.san");
    // A session of a client's does not become a proxy's, nor the other way round.
    for (first, second) in [
        (playing().client().resuming(), PROXY),
        (ours().resuming(), "127.0.0.1"),
    ] {
        let request = of(&stage.a, get());
        assert_eq!(first.call(&request).unwrap().status, 200);
        assert!(
            first
                .from(second)
                .refusal()
                .starts_with("received fatal alert")
        );
    }
    // A proxy's own session goes on, and is a proxy's still.
    let resuming = ours().resuming();
    assert_eq!(resuming.call(&of(&stage.a, get())).unwrap().status, 200);
    let mut again = resuming.open().unwrap();
    assert_eq!(again.call(&of(&stage.a, get())).unwrap().status, 200);
    assert!(again.resumed());
    assert_refused(&again.call(&get()).unwrap(), 401, "certificate_required");
}

#[test]
fn what_a_proxy_passes_on_is_judged_like_a_clients_own() {
    // MTLS-06, MTLS-07, MTLS-08
    let stage = &playing().stage;
    let mut connection = ours().open().unwrap();
    for (shape, reason) in [
        (Shape::Expired, "certificate_expired"),
        (Shape::NotYet, "certificate_expired"),
        (Shape::Stranger, "certificate_untrusted"),
        (Shape::SelfSigned, "certificate_untrusted"),
        (Shape::ServerOnly, "certificate_untrusted"),
        (Shape::IntermediateMissing, "certificate_untrusted"),
    ] {
        let identity = stage.pki.client(&format!("behind-{shape:?}"), shape);
        let request = of(&identity, Request::get("/accounts/1"))
            .token(&stage.issuer.token(&identity))
            .case("behind-flawed");
        assert_refused(&connection.call(&request).unwrap(), 401, reason);
        // The proxy's connection has other clients.
        assert_eq!(connection.call(&of(&stage.a, get())).unwrap().status, 200);
    }
    // The proxy's own is no client's, whether passed on or not.
    let identity = stage.pki.proxy("lb", &["lb.bank.test"]);
    let bound = Request::get("/accounts/1").token(&stage.issuer.token(&identity));
    let mut of_proxy = playing()
        .anonymous()
        .with(&identity)
        .from(PROXY)
        .open()
        .unwrap();
    assert_refused(&of_proxy.call(&bound).unwrap(), 401, "certificate_required");
    let passed = of(&identity, bound);
    assert_refused(
        &of_proxy.call(&passed).unwrap(),
        401,
        "certificate_untrusted",
    );
    assert_refused(
        &connection.call(&of(&stage.b, get())).unwrap(),
        401,
        "binding_mismatch",
    );
    assert_eq!(stage.legacy.seen("behind-flawed").len(), 0);
}

#[test]
fn a_header_that_cannot_be_read_is_refused() {
    let stage = &playing().stage;
    let mut connection = ours().open().unwrap();
    let a = sequence(&stage.a.chain[0]);
    let twice = get().field("Client-Cert", &a).field("client-cert", &a);
    assert_refused(&connection.call(&twice).unwrap(), 400, "field_repeated");
    let orphan = get().field("Client-Cert-Chain", &a);
    assert_refused(
        &connection.call(&orphan).unwrap(),
        400,
        "client_cert_malformed",
    );
    let huge = sequence(&[0x30; 15_000]);
    for garbage in [
        "",
        "::",
        "garbage",
        &a[1..],
        ":bm90IGEgY2VydGlmaWNhdGU=:",
        &huge,
        &escaped(&pem_of(&stage.a.chain[0])),
    ] {
        let request = get().field("Client-Cert", garbage).case("behind-garbage");
        let answer = connection.call(&request).unwrap();
        assert_refused(&answer, 400, "client_cert_malformed");
        let http2 = Http2::open(&ours()).unwrap().call(&request).unwrap();
        assert_refused(&http2, 400, "client_cert_malformed");
    }
    let bytes = [&stage.a.chain[0][..], b"more"].concat();
    let trailing = get().field("Client-Cert", &sequence(&bytes));
    assert_refused(
        &connection.call(&trailing).unwrap(),
        400,
        "client_cert_malformed",
    );
    // The header of another form is not looked at.
    let other = get().field("X-SSL-Client-Cert", &escaped(&pem_of(&stage.a.chain[0])));
    assert_refused(
        &connection.call(&other).unwrap(),
        401,
        "certificate_required",
    );
    assert_eq!(connection.call(&of(&stage.a, get())).unwrap().status, 200);
    assert_eq!(stage.legacy.seen("behind-garbage").len(), 0);
}

#[test]
fn nothing_of_one_client_is_left_for_the_next() {
    // MTLS-16
    let stage = &playing().stage;
    let token = |identity: &Identity| stage.issuer.token(identity);
    let (of_a, of_b) = (token(&stage.a), token(&stage.b));
    let cases = |n: usize| {
        let request = Request::get("/accounts/1").case("interleaved");
        match n % 5 {
            0 => (of(&stage.a, request.token(&of_a)), 200, Some(&stage.a)),
            1 => (of(&stage.b, request.token(&of_b)), 200, Some(&stage.b)),
            2 => (request.token(&of_a), 401, None),
            3 => (of(&stage.b, request.token(&of_a)), 401, None),
            _ => (of(&stage.a, request.token(&of_b)), 401, None),
        }
    };
    let mut connection = ours().open().unwrap();
    for n in 0..40 {
        let (request, status, _) = cases(n * 3);
        assert_eq!(connection.call(&request).unwrap().status, status, "{n}");
    }
    let requests: Vec<_> = (0..60)
        .map(|n| {
            let (request, status, whose) = cases(n * 7);
            (request.field("X-Number", &n.to_string()), status, whose)
        })
        .collect();
    let sent: Vec<_> = requests
        .iter()
        .map(|(request, _, _)| request.clone())
        .collect();
    let answers = Http2::open(&ours()).unwrap().call_all(&sent);
    for ((_, status, _), answer) in requests.iter().zip(answers) {
        assert_eq!(answer.unwrap().status, *status);
    }
    for seen in stage.legacy.seen("interleaved") {
        let Some(number) = seen.field("x-number") else {
            continue;
        };
        let (_, _, whose) = &requests[number.parse::<usize>().unwrap()];
        assert_eq!(
            seen.field("x-auth-cert-thumbprint"),
            Some(whose.unwrap().thumbprint.as_str())
        );
    }
}

#[test]
fn trust_in_clients_and_proxies_ends_while_they_are_connected() {
    // TLS-17, contract section 2
    let stage = Stage::new();
    let config = configure(&stage, stage.config());
    let gate = stage.start(&config);
    let client = proxy(&stage, &gate);
    let of_a = of(&stage.a, Request::get("/accounts/1").token(&stage.token()));
    let token = stage.issuer.token(&stage.b);
    let of_b = of(&stage.b, Request::get("/accounts/1").token(&token));
    let mut http1 = client.open().unwrap();
    let mut http2 = Http2::open(&client).unwrap();
    assert_eq!(http1.call(&of_a).unwrap().status, 200);
    assert_eq!(http2.call(&of_a).unwrap().status, 200);
    stage.pki.revoke(&stage.a);
    gate.reload();
    for _ in 0..2 {
        assert_refused(&http1.call(&of_a).unwrap(), 401, "certificate_revoked");
        assert_refused(&http2.call(&of_a).unwrap(), 401, "certificate_revoked");
        // That is between the gate and one client.
        assert_eq!(http1.call(&of_b).unwrap().status, 200);
        assert_eq!(http2.call(&of_b).unwrap().status, 200);
    }
    stage.pki.forgive();
    gate.reload();
    assert_eq!(http1.call(&of_a).unwrap().status, 200);

    // Another form is read from the next request on.
    let mut other = config.clone();
    other.bank = other.bank.replace("\"client-cert\"", "\"nginx\"");
    stage.write(&other);
    gate.reload();
    assert_refused(&http1.call(&of_a).unwrap(), 401, "certificate_required");
    let nginx = Request::get("/accounts/1")
        .token(&stage.token())
        .field("X-SSL-Client-Cert", &escaped(&pem_of(&stage.a.chain[0])));
    assert_eq!(http1.call(&nginx).unwrap().status, 200);

    // The proxy is none any more: its connections end.
    let mut other = config.clone();
    other.bank = other.bank.replace("lb.bank.test", "lb9.bank.test");
    stage.write(&other);
    gate.reload();
    let answer = http1.call(&of_b).unwrap();
    assert_refused(&answer, 401, "certificate_untrusted");
    assert_eq!(answer.field("connection"), Some("close"));
    assert!(http1.closes(Duration::from_secs(20)));
    assert_refused(&http2.call(&of_b).unwrap(), 401, "certificate_untrusted");
    assert!(http2.closes(Duration::from_secs(20)));
    let mut other = config;
    other.bank = other.bank.replace("127.0.0.2/32", "127.0.0.9/32");
    stage.write(&other);
    gate.reload();
    // The address is nobody's: a client like others, to whom that certificate says nothing.
    assert!(client.refusal().starts_with("received fatal alert"));
    let anonymous = client.anonymous().call(&of_b).unwrap();
    assert_refused(&anonymous, 401, "certificate_required");
}

#[test]
fn an_intermediate_comes_along_and_required_is_meant() {
    // MTLS-01, MTLS-08
    let stage = Stage::new();
    let mut config = configure(&stage, stage.config());
    config
        .tls
        .insert("client_certificate", "\"required\"".to_owned());
    config
        .tls
        .insert("client_crl", "[\"pki/clients.crl.pem\"]".to_owned());
    config.tls.insert("crl_unknown", "\"accept\"".to_owned());
    config = config.route("open", "/open/**", "listener = [\"bank\"]\nopen = true");
    let gate = stage.start(&config);
    let identity = stage.pki.client("behind-chain", Shape::Intermediate);
    let mut connection = proxy(&stage, &gate).open().unwrap();
    let request = Request::get("/accounts/1").token(&stage.issuer.token(&identity));
    let alone = of(&identity, request);
    assert_refused(
        &connection.call(&alone).unwrap(),
        401,
        "certificate_untrusted",
    );
    let whole = alone.field("Client-Cert-Chain", &sequence(&identity.chain[1]));
    assert_eq!(connection.call(&whole).unwrap().status, 200);
    // What `required` means to a client of its own is a handshake that fails; here, each request.
    let open = Request::get("/open/x");
    assert_refused(
        &connection.call(&open).unwrap(),
        401,
        "certificate_required",
    );
    assert_eq!(connection.call(&of(&stage.a, open)).unwrap().status, 200);
    assert_eq!(
        stage.anonymous(&gate).refusal(),
        "received fatal alert: CertificateRequired"
    );
}
