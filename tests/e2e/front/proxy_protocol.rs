//! PROXY protocol, version 2.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::lab::client::{Answer, Client, Request};
use crate::support::stage::Playing;

/// `bank` takes headers from here, `elsewhere` from somewhere else only.
fn playing() -> &'static Playing {
    static PLAYING: OnceLock<Playing> = OnceLock::new();
    PLAYING.get_or_init(|| {
        Playing::new(|_, mut config| {
            config
                .bank
                .push_str("proxy_protocol = { from = [\"127.0.0.1/32\"] }\n");
            config.limits = "handshake_timeout = \"1s\"\n".to_owned();
            config.more = r#"
[listener.elsewhere]
address = "127.0.0.3:0"
public_url = "https://other.bank.test"
proxy_protocol = { from = ["192.0.2.0/24", "2001:db8::/32"] }
[listener.elsewhere.tls]
certificate = "pki/server.pem"
private_key = "pki/server-key.pem"
client_ca = ["pki/clients-ca.pem"]
client_crl = ["pki/clients.crl.pem"]

[[route]]
name = "elsewhere"
listener = ["elsewhere"]
path = "/**"
methods = ["GET"]
upstream = "core"
open = true

[[route]]
name = "accounts"
listener = ["bank"]
path = "/accounts/**"
methods = ["GET"]
upstream = "core"
policy = { scopes = ["accounts"] }
"#
            .to_owned();
            config.usual_routes = false;
            config
        })
    })
}

/// A header of version 2.
fn header(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend([0x20 | command, family]);
    bytes.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
    bytes.extend(content);
    bytes
}

fn of(source: &str) -> Vec<u8> {
    let source: SocketAddr = source.parse().unwrap();
    let mut content = Vec::new();
    let family = match source {
        SocketAddr::V4(v4) => {
            content.extend(v4.ip().octets());
            content.extend([198, 51, 100, 1]);
            0x11
        }
        SocketAddr::V6(v6) => {
            content.extend(v6.ip().octets());
            content.extend([0; 16]);
            0x21
        }
    };
    content.extend(source.port().to_be_bytes());
    content.extend(443_u16.to_be_bytes());
    // PP2_TYPE_UNIQUE_ID.
    content.extend([5, 0, 2, b'i', b'd']);
    header(1, family, &content)
}

fn call(client: &Client, header: Vec<u8>, request: &Request) -> std::io::Result<Answer> {
    client
        .open_split(|hello| vec![header, hello])?
        .call(request)
}

fn get(case: &str) -> Request {
    Request::get("/accounts/1")
        .case(case)
        .token(&playing().token())
}

#[test]
fn the_client_is_who_the_load_balancer_says() {
    // FWD-08
    let (stage, gate) = (&playing().stage, &playing().gate);
    for (case, header, logged, forwarded) in [
        (
            "pp-v4",
            of("203.0.113.9:4711"),
            "203.0.113.9:4711",
            "203.0.113.9",
        ),
        (
            "pp-v6",
            of("[2001:db8::9]:4711"),
            "[2001:db8::9]:4711",
            "2001:db8::9",
        ),
    ] {
        let answer = call(&playing().client(), header, &get(case)).unwrap();
        assert_eq!(answer.status, 200, "{case}");
        let seen = stage.legacy.only(case);
        assert_eq!(seen.field("x-forwarded-for"), Some(forwarded));
        assert!(seen.field("forwarded").unwrap().contains(forwarded));
        let id = answer.field("x-fapi-interaction-id").unwrap();
        assert_eq!(gate.log("interaction_id", id)["remote"], logged);
    }
    // A load balancer that speaks for itself, or does not say for whom.
    for (case, header) in [
        ("pp-local", header(0, 0, b"")),
        ("pp-unspecified", header(1, 0, b"")),
    ] {
        let answer = call(&playing().client(), header, &get(case)).unwrap();
        assert_eq!(answer.status, 200, "{case}");
        let seen = stage.legacy.only(case);
        assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"));
    }
    // In pieces.
    let header = of("203.0.113.9:4711");
    let pieces = |hello: Vec<u8>| {
        let mut pieces: Vec<_> = header.iter().map(|byte| vec![*byte]).collect();
        pieces.push(hello);
        pieces
    };
    let answer = playing()
        .client()
        .open_split(pieces)
        .unwrap()
        .call(&get("pp-pieces"))
        .unwrap();
    assert_eq!(answer.status, 200);
}

#[test]
fn what_is_no_header_of_version_2_ends_the_connection() {
    let gate = &playing().gate;
    let before = || gate.metric("portcullis_handshakes_total", &["proxy_header_invalid"]);
    let good = of("203.0.113.9:4711");
    let mut wrong_signature = good.clone();
    wrong_signature[3] = b'x';
    let mut wrong_version = good.clone();
    wrong_version[12] = 0x11;
    let mut no_addresses = good;
    no_addresses.truncate(16);
    no_addresses[14..16].copy_from_slice(&[0, 0]);
    for (what, header) in [
        (
            "version 1",
            b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n".to_vec(),
        ),
        ("version 1", b"PROXY UNKNOWN\r\n".to_vec()),
        ("no PROXY protocol header", Vec::new()),
        ("no PROXY protocol header", wrong_signature),
        ("version 1, not 2", wrong_version),
        ("too short", no_addresses),
        ("family 0x12", header(1, 0x12, &[0; 12])),
        ("at most 536", header(1, 0x11, &[0; 600])),
    ] {
        let count = before();
        let error = call(&playing().client(), header, &get("pp-wrong"));
        assert!(error.is_err(), "{what}");
        gate.until("the metric", || before() > count);
        gate.says(what);
    }
    assert_eq!(playing().stage.legacy.seen("pp-wrong").len(), 0);
}

#[test]
fn a_header_has_no_more_time_than_the_handshake() {
    let gate = &playing().gate;
    let began = Instant::now();
    let mut socket = TcpStream::connect(gate.address("bank")).unwrap();
    let header = of("203.0.113.9:4711");
    socket.write_all(&header[..20]).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    assert!(matches!(socket.read(&mut [0; 1]), Ok(0) | Err(_)));
    assert!(began.elapsed() >= Duration::from_millis(900));
    gate.says("no whole PROXY protocol header came");
    // What the header took is not given again to the ClientHello.
    let began = Instant::now();
    let mut socket = TcpStream::connect(gate.address("bank")).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    socket.write_all(&header).unwrap();
    assert!(matches!(socket.read(&mut [0; 1]), Ok(0) | Err(_)));
    assert!(began.elapsed() < Duration::from_secs(10));
    // A header that ends in the middle.
    let mut socket = TcpStream::connect(gate.address("bank")).unwrap();
    socket.write_all(&header[..20]).unwrap();
    socket.shutdown(std::net::Shutdown::Write).unwrap();
    gate.says("ended within the PROXY protocol header");
}

#[test]
fn from_anybody_else_the_connection_is_refused_with_a_header_and_without() {
    // FWD-08
    let gate = &playing().gate;
    let client = playing()
        .client()
        .at(gate.address("elsewhere"))
        .named("other.bank.test");
    let request = Request::get("/")
        .host("other.bank.test")
        .case("pp-unlisted");
    for header in [of("203.0.113.9:4711"), of("192.0.2.1:4711"), Vec::new()] {
        let refused = || gate.metric("portcullis_handshakes_total", &["proxy_source_unlisted"]);
        let before = refused();
        assert!(call(&client, header, &request).is_err());
        gate.until("the metric", || refused() > before);
    }
    gate.says("127.0.0.1 is not in proxy_protocol.from");
    assert_eq!(playing().stage.legacy.seen("pp-unlisted").len(), 0);
}
