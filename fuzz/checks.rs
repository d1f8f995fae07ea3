//! What must hold for any bytes. Shared by the fuzz targets and by `tests/corpus.rs`.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::{Bytes, BytesMut};
use portcullis::listener::proxy_protocol::{self, Header};
use portcullis::pdp::authorization::{Clients, Endpoint, Form, Guard, Profile, Server};
use portcullis::pdp::client_cert::{self, CHAIN, presented};
use portcullis::pdp::dpop::{
    Expected, NonceKeys, NonceRule, Origins, PROOF_BYTES, Proof, ReplayRule, Rules, Target,
    TargetUri, single,
};
use portcullis::pdp::introspection::{Introspected, Question, SignedAnswer};
use portcullis::pdp::keys::KeySet;
use portcullis::pdp::policy::{
    Access, Algorithm, ForwardRules, MethodSet, Route, RouteLimits, UpstreamName,
};
use portcullis::pdp::token::KeyGeneration;
use portcullis::pdp::{
    AccessToken, Ambiguities, Answer, Ask, Inbound, InteractionId, Issuer, IssuerId, Pattern, Peer,
    RequestHead, RouteTable, Snapshot, Step, TokenDigest, Trail, UnixTime, begin, credential,
    route,
};
use portcullis::refusal::Schemes;
use portcullis::upstream::http1::chunked::{Chunked, Piece};
use portcullis::upstream::http1::head::{self, Extent, Head};

/// A request line and header lines, as a client might send them.
pub fn request(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let Some((method, target)) = lines
        .next()
        .and_then(|line| std::str::from_utf8(line).ok()?.split_once(' '))
    else {
        return;
    };
    let mut builder = http::Request::builder().method(method).uri(target);
    for line in lines {
        let mut halves = line.splitn(2, |byte| *byte == b':');
        if let (Some(name), Some(value)) = (halves.next(), halves.next()) {
            builder = builder.header(name, value.trim_ascii());
        }
    }
    let Ok(request) = builder.body(()) else {
        return;
    };
    let sent = request.uri().clone();
    let (parts, ()) = request.into_parts();
    let Ok(head) = RequestHead::new(parts, InteractionId::from_random([0; 16])) else {
        return;
    };
    let path = head.path().to_owned();
    assert_eq!(path, sent.path(), "the path changed");
    assert_eq!(head.query(), sent.query(), "the query changed");
    for decodes in 0..7 {
        assert!(
            !climbs(&path, decodes),
            "{path} climbs, decoded {decodes} times"
        );
    }
    let both = Schemes {
        bearer: true,
        dpop: true,
    };
    if let Ok(credential) = credential(&head, 4096, both) {
        let token = credential.token;
        let mut fields = head.headers().get_all(http::header::AUTHORIZATION).iter();
        let field = fields.next().and_then(|field| field.to_str().ok());
        assert!(field.is_some_and(|field| field.trim().ends_with(token.expose())));
        assert!(fields.next().is_none(), "one of several tokens was taken");
    }
    for opened in [false, true] {
        let snapshot = Arc::new(snapshot(opened));
        let inbound = Inbound {
            head: RequestHead::new(again(&sent, &head), InteractionId::from_random([0; 16]))
                .expect("an accepted request is accepted again"),
            peer: Arc::new(Peer {
                remote: ([192, 0, 2, 1], 1).into(),
                local: ([192, 0, 2, 2], 443).into(),
                listener: "bank".into(),
                certificate: None,
            }),
            standing: None,
            body: (),
        };
        let mut trail = Trail::default();
        if route(inbound, &snapshot, &mut trail).is_ok() {
            let chosen = trail.route.expect("the trail names the route");
            for decodes in 0..6 {
                let seen = served(&path, decodes);
                let under = |base: &[&str]| {
                    seen.len() >= base.len() && seen.iter().zip(base).all(|(s, b)| s == b)
                };
                let stays = match &*chosen.name {
                    "vault" => under(&["accounts", "vault"]),
                    "accounts" => under(&["accounts"]) && !under(&["accounts", "vault"]),
                    _ => under(&["public"]),
                };
                assert!(stays, "{path} of {} is served as {seen:?}", chosen.name);
            }
        }
    }
}

/// A pattern, and on the second line a path.
pub fn pattern(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (pattern, path) = text.split_once('\n').unwrap_or((text, "/"));
    let Ok(parsed) = Pattern::parse(pattern) else {
        return;
    };
    assert_eq!(parsed.as_str(), pattern);
    let table = RouteTable::build(
        "bank".into(),
        &["a".into()],
        &[],
        1,
        vec![(parsed, some_route("one", false))],
    );
    let snapshot = Arc::new(Snapshot {
        nonces: None,
        generation: 1,
        tables: vec![table.expect("one route cannot tie")],
        issuers: Vec::new(),
    });
    let literal = !pattern.contains(['{', '*']);
    for target in [path, pattern] {
        let Ok(request) = http::Request::builder()
            .uri(target)
            .header("host", "a")
            .body(())
        else {
            continue;
        };
        let whole = request.uri().path() == target;
        let (parts, ()) = request.into_parts();
        let Ok(head) = RequestHead::new(parts, InteractionId::from_random([0; 16])) else {
            continue;
        };
        let inbound = Inbound {
            head,
            peer: Arc::new(Peer {
                remote: ([192, 0, 2, 1], 1).into(),
                local: ([192, 0, 2, 2], 443).into(),
                listener: "bank".into(),
                certificate: None,
            }),
            standing: None,
            body: (),
        };
        let found = route(inbound, &snapshot, &mut Trail::default());
        if literal && whole && target == pattern {
            assert!(found.is_ok(), "{pattern} does not match itself");
        }
    }
}

/// A proof; or its header and its claims as JSON, a line each, and perhaps its signature, which are
/// then put together.
pub fn proof(data: &[u8]) {
    let mut lines = data.splitn(3, |byte| *byte == b'\n');
    let mut part = || URL_SAFE_NO_PAD.encode(lines.next().unwrap_or_default());
    let joined = [part(), part(), part()].join(".");
    for value in [data, joined.as_bytes()] {
        if let Ok(Some(one)) = single([value].into_iter()) {
            one_proof(one);
        }
    }
}

/// What a proof must be of, and when: the example of RFC 9449 s7.1.
fn one_proof(value: &[u8]) {
    const NOW: u64 = 1_562_262_618;
    let origins = Origins::new(&["https://resource.example.org"]).expect("an origin");
    let nonces = NonceKeys::new(&[7; 32], None, Duration::from_secs(120)).expect("a good key");
    let rules = Rules {
        age: Duration::from_secs(60),
        ahead: Duration::from_secs(10),
        nonce: NonceRule::Accepted,
        replay_unavailable: ReplayRule::Refuse,
        algorithms: vec![Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa],
    };
    let Ok(proof) = Proof::read(value, &rules.algorithms) else {
        return;
    };
    assert!(value.len() <= PROOF_BYTES);
    let again = Proof::read_after(value, &rules.algorithms, Some(proof.header()));
    let again = again.expect("its own header is as good as unread");
    assert!(Arc::ptr_eq(again.header(), proof.header()));
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    assert!(value.iter().all(plain), "a byte of no JWS was taken");
    let fits = |method: &str, path: &str, access_token: &str, now: u64| {
        let target = Target {
            origins: &origins,
            path,
        };
        let expected = Expected {
            method,
            target,
            access_token: AccessToken::new(access_token).digest(),
            rules: &rules,
        };
        let now = UnixTime::from_secs(now);
        proof.fits(&expected, Some(&nonces), now).is_ok()
    };
    let (path, token) = (
        "/protectedresource",
        "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU",
    );
    if fits("GET", path, token, NOW) {
        assert!(!fits("get", path, token, NOW) && !fits("POST", path, token, NOW));
        assert!(!fits("GET", "/", token, NOW) && !fits("GET", "/protectedresource/", token, NOW));
        assert!(!fits("GET", path, "", NOW) && !fits("GET", path, "a.b.c", NOW));
        assert!(!fits("GET", path, token, NOW - 3600) && !fits("GET", path, token, NOW + 3600));
    }
    let Ok(proven) = proof.verify() else {
        return;
    };
    assert!(
        proven.until(&rules) >= UnixTime::from_secs(60),
        "forgotten before it ends"
    );
    let dot = value.iter().rposition(|byte| *byte == b'.');
    let (signed, signature) = value.split_at(dot.expect("a JWS has dots") + 1);
    let mut altered = URL_SAFE_NO_PAD.decode(signature).expect("it was read");
    for byte in &mut altered {
        *byte ^= 1;
    }
    let altered = [signed, URL_SAFE_NO_PAD.encode(altered).as_bytes()].concat();
    let altered = Proof::read(&altered, &rules.algorithms).expect("the form is as it was");
    assert!(altered.verify().is_err(), "another signature is good too");
}

/// `htu` of a proof, and on the second line the path of a request to `https://a`.
pub fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (htu, path) = text.split_once('\n').unwrap_or((text, "/"));
    let origins = Origins::new(&["https://a"]).expect("an origin");
    let named = |path: &str| {
        let target = Target {
            origins: &origins,
            path,
        };
        target.is_named_by(htu).is_ok()
    };
    let Some(uri) = TargetUri::parse(htu) else {
        assert!(!named(path), "{htu} is no URI and names {path}");
        return;
    };
    let normal = uri.to_string();
    assert_eq!(
        TargetUri::parse(&normal),
        Some(uri),
        "{normal} is not normal"
    );
    assert!(normal.is_ascii() && !normal.contains(['?', '#', ' ', '\\']));
    let segments = normal.split('/').skip(3);
    assert!(segments.clone().count() > 0, "{normal} has no path");
    assert!(
        !segments
            .clone()
            .any(|segment| matches!(segment, "." | ".."))
    );
    if !named(path) {
        return;
    }
    let (_, sent) = htu.split_once("://").expect("a URI has an authority");
    let sent = sent.split(['?', '#']).next().unwrap_or(sent);
    let host = sent.split('/').next().unwrap_or(sent).to_ascii_lowercase();
    let ours = ["a", "a.", "a:", "a.:", "a:443", "a.:443"];
    assert!(ours.contains(&&*host), "{htu} is not of https://a");
    // An encoded slash is no end of a segment, which this plain reading would take it for.
    if !text.to_ascii_lowercase().contains("%2f") {
        let claimed = sent.find('/').and_then(|at| sent.get(at..));
        let (claimed, path) = (decoded(claimed.unwrap_or("/"), 1), decoded(path, 1));
        assert_eq!(resolved(&claimed), resolved(&path), "{htu} and {path}");
    }
    let segments: Vec<_> = segments.collect();
    assert!(named(&format!("/{}", segments.join("/"))));
}

/// An introspection answer: one that permits anything says `active`, `exp`, `aud` and `client_id`,
/// as another reader of JSON sees them; and nothing is signed where there are no keys.
pub fn introspection(data: &[u8]) {
    let issuer = issuer();
    let digest = TokenDigest([7; 32]);
    if let Ok(said) = Introspected::read(data, &issuer, digest) {
        assert_eq!((said.issuer(), said.digest()), (issuer.id, digest));
        let Some(expires) = said.expires() else {
            assert!(!said.is_of_client("c") && !said.is_of_subject("s"));
            return;
        };
        let seen: serde_json::Value = serde_json::from_slice(data).expect("it was read");
        assert_eq!(seen["active"], true);
        let exp = seen["exp"].as_f64().expect("exp is a number");
        assert!(expires.as_secs() as f64 <= exp, "it does not outlive exp");
        assert!(
            seen["client_id"]
                .as_str()
                .is_some_and(|id| said.is_of_client(id))
        );
        assert!(seen["aud"].is_string() || seen["aud"].is_array());
        assert!(seen["iss"].is_null() || seen["iss"] == *issuer.issuer);
        assert!(seen["cnf"].is_null() || seen["cnf"].is_object());
    }
    if let Ok(signed) = SignedAnswer::parse(data, &issuer) {
        let none = br#"{"keys":[]}"#;
        let question = Question {
            issuer: &issuer,
            client_id: "pep",
            digest,
            now: UnixTime::from_secs(1),
        };
        if let Ok((keys, _)) = KeySet::parse(none, KeyGeneration(1), &issuer.algorithms) {
            assert!(signed.verify(&keys, question).is_err());
        }
    }
}

/// A key set: what is kept of it can be found, and no private or symmetric key is.
pub fn jwks(data: &[u8]) {
    let issuer = issuer();
    let Ok((keys, _)) = KeySet::parse(data, KeyGeneration(1), &issuer.algorithms) else {
        return;
    };
    let again = KeySet::parse(data, KeyGeneration(2), &issuer.algorithms);
    assert!(again.is_ok_and(|(again, _)| again.same_keys(&keys)));
    let seen: serde_json::Value = serde_json::from_slice(data).expect("it was read");
    for id in keys.key_ids() {
        let with_it = seen["keys"].as_array().into_iter().flatten();
        let mut with_it = with_it.filter(|key| key["kid"] == id);
        assert!(with_it.any(|key| {
            ["d", "k", "p", "q"]
                .iter()
                .all(|secret| key.get(secret).is_none())
        }));
    }
}

/// Header lines, as a proxy in front might send them.
pub fn client_cert(data: &[u8]) {
    let mut headers = http::HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        let mut halves = line.splitn(2, |byte| *byte == b':');
        if let (Some(name), Some(value)) = (halves.next(), halves.next())
            && let Ok(name) = http::HeaderName::from_bytes(name)
            && let Ok(value) = http::HeaderValue::from_bytes(value.trim_ascii())
        {
            headers.append(name, value);
        }
    }
    for form in [
        client_cert::Form::ClientCert,
        client_cert::Form::Xfcc,
        client_cert::Form::Nginx,
    ] {
        let (name, beside) = form.fields();
        let values: Vec<_> = headers.get_all(&name).iter().collect();
        match presented(form, &headers) {
            Ok(None) => {
                assert!(values.is_empty(), "a header was stepped over");
                assert!(beside.is_none_or(|beside| !headers.contains_key(beside)));
            }
            Ok(Some(told)) => {
                assert_eq!(values.len(), 1, "one of several was taken");
                assert!(!told.leaf.is_empty() && told.intermediates.len() < CHAIN);
                // Another reader finds the same octets in it.
                let text = STANDARD.encode(&told.leaf);
                let value = unescaped(values[0].as_bytes());
                assert!(value.contains(&text), "{value} does not hold {text}");
                if form == client_cert::Form::ClientCert {
                    assert_eq!(value, format!(":{text}:"));
                }
            }
            Err(_) => assert!(
                !values.is_empty() || beside.is_some_and(|beside| headers.contains_key(beside))
            ),
        }
    }
    // Whatever a client says before: what our proxy appends is what counts, or nothing.
    let (name, _) = client_cert::Form::Xfcc.fields();
    if let Some(said) = headers.get(&name) {
        let ours = b",Hash=00;Cert=\"-----BEGIN%20CERTIFICATE-----%0Ab3Vycw==%0A-----END%20CERTIFICATE-----%0A\"";
        let value = [said.as_bytes(), ours].concat();
        let mut appended = http::HeaderMap::new();
        appended.insert(
            name,
            http::HeaderValue::from_bytes(&value).expect("the parts are values"),
        );
        if let Ok(told) = presented(client_cert::Form::Xfcc, &appended) {
            assert_eq!(told.expect("a header is there").leaf, b"ours");
        }
    }
}

/// Percent-decoded, without line ends; for comparisons alone.
fn unescaped(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value).into_owned();
    let text = String::from_utf8_lossy(&percent(&text)).into_owned();
    // A quoted string may escape any of its characters.
    text.replace(['\r', '\n', '\\'], "")
}

fn percent(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let pair = text
            .get(at + 1..at + 3)
            .filter(|pair| pair.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match (bytes[at], pair) {
            (b'%', Some(pair)) => {
                out.push(u8::from_str_radix(pair, 16).expect("two digits"));
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// What comes first on a connection of a load balancer.
pub fn proxy_protocol(data: &[u8]) {
    let Ok(header) = proxy_protocol::parse(data) else {
        return;
    };
    assert!(data.starts_with(&proxy_protocol::SIGNATURE) && data.len() <= proxy_protocol::LARGEST);
    assert_eq!(data[12] >> 4, 2);
    assert_eq!(
        usize::from(data[14]) << 8 | usize::from(data[15]),
        data.len() - 16
    );
    // Neither less of it nor more is a header.
    assert!(proxy_protocol::parse(&data[..data.len() - 1]).is_err());
    assert!(proxy_protocol::parse(&[data, b"x"].concat()).is_err());
    if let Header::Client { source, .. } = header {
        let (address, ports) = match data[13] {
            0x11 => (data[16..20].to_vec(), 24),
            _ => (data[16..32].to_vec(), 48),
        };
        let told = match source.ip() {
            std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
            std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        assert_eq!(told, address);
        assert_eq!(source.port().to_be_bytes(), data[ports..ports + 2]);
    }
}

/// What a server sends: a byte for the method and how much comes at once, then the answer.
pub fn answer(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else {
        return;
    };
    let method = if how & 0x80 == 0 {
        http::Method::GET
    } else {
        http::Method::HEAD
    };
    let step = usize::from(how & 0x7f).max(1);
    let whole = head::end(bytes, 0);
    // It ends where it ends, however it comes.
    let mut seen = 0;
    let found = (0..=bytes.len())
        .step_by(step)
        .chain([bytes.len()])
        .find_map(|came| {
            let found = head::end(&bytes[..came], seen);
            seen = came;
            found
        });
    assert_eq!(found, whole);
    let Some(end) = whole else {
        return;
    };
    let Ok(head) = Head::parse(&Bytes::copy_from_slice(&bytes[..end]), &method) else {
        return;
    };
    let lengths = head.fields.get_all("content-length");
    let coded = head.fields.contains_key("transfer-encoding");
    assert!(!coded || lengths.iter().next().is_none());
    assert!(
        lengths
            .iter()
            .all(|line| line.as_bytes().iter().all(u8::is_ascii_digit))
    );
    match head.extent {
        Extent::Chunked => {
            let rest = &bytes[end..];
            let read = unchunked(rest, step);
            assert_eq!(read, unchunked(rest, rest.len().max(1)), "however it comes");
            if let Some((body, length)) = read {
                assert_eq!(plainly_unchunked(rest), Some((body, length)));
            }
        }
        Extent::Length(length) => {
            let declared = lengths
                .iter()
                .next()
                .map(|line| line.to_str().expect("digits").parse());
            assert!(length == 0 || declared == Some(Ok(length)));
        }
        Extent::Close => assert!(!coded && lengths.iter().next().is_none()),
    }
}

/// A chunked body that comes in pieces of so many bytes, and how many bytes it took; `None` where it
/// is none or not whole.
fn unchunked(bytes: &[u8], step: usize) -> Option<(Vec<u8>, usize)> {
    let (mut coding, mut body) = (Chunked::default(), Vec::new());
    let (mut input, mut came) = (BytesMut::new(), 0);
    loop {
        match coding.next(&mut input).ok()? {
            Piece::Data(data) => body.extend_from_slice(&data),
            Piece::Trailers(_) => {}
            Piece::End => return Some((body, came - input.len())),
            Piece::More if came == bytes.len() => return None,
            Piece::More => {
                let more = step.min(bytes.len() - came);
                input.extend_from_slice(&bytes[came..came + more]);
                came += more;
            }
        }
    }
}

/// The same by another reader, who wants everything to be there.
fn plainly_unchunked(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = bytes[at..].windows(2).position(|pair| pair == b"\r\n")?;
        let text = String::from_utf8_lossy(&bytes[at..at + line]);
        let digits = text.split(';').next()?.trim_end_matches([' ', '\t']);
        let size = usize::from_str_radix(digits, 16).ok()?;
        at += line + 2;
        if size == 0 {
            break;
        }
        body.extend_from_slice(bytes.get(at..at + size)?);
        at += size;
        assert_eq!(bytes.get(at..at + 2), Some(&b"\r\n"[..]));
        at += 2;
    }
    // Trailers, up to an empty line.
    loop {
        let line = bytes[at..].iter().position(|byte| *byte == b'\n')? + 1;
        at += line;
        if matches!(&bytes[at - line..at], b"\r\n" | b"\n") {
            return Some((body, at));
        }
    }
}

fn issuer() -> Issuer {
    Issuer {
        id: IssuerId(3),
        name: "main".into(),
        issuer: "https://as".into(),
        audience: vec!["https://a".into()],
        algorithms: vec![Algorithm::Es256, Algorithm::Ps256, Algorithm::EdDsa],
        token_types: vec!["application/at+jwt".into()],
        clock_skew: Duration::from_secs(10),
        exp_leeway: Duration::ZERO,
        max_lifetime: Duration::from_secs(3600),
        client_id_claims: vec!["client_id".into()],
        scope_claims: vec!["scope".into()],
        introspection: None,
    }
}

/// The segments of a path after its dot segments are gone.
fn resolved(path: &str) -> Vec<&str> {
    let mut kept = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
        if last && matches!(segment, "." | "..") {
            kept.push("");
        }
    }
    kept
}

fn again(sent: &http::Uri, head: &RequestHead) -> http::request::Parts {
    let mut request = http::Request::builder()
        .method(head.method().clone())
        .uri(sent.clone())
        .version(head.version())
        .body(())
        .expect("it was built before");
    *request.headers_mut() = head.headers().clone();
    request.into_parts().0
}

fn snapshot(opened: bool) -> Snapshot {
    let entries = [
        ("/public/**", "public", opened),
        ("/accounts/**", "accounts", opened),
        ("/accounts/vault/**", "vault", false),
    ];
    let entries = entries.map(|(pattern, name, opened)| {
        let pattern = Pattern::parse(pattern).expect("a good pattern");
        (pattern, some_route(name, opened))
    });
    let table = RouteTable::build("bank".into(), &["a".into()], &[], 4096, entries.into());
    Snapshot {
        nonces: None,
        generation: 1,
        tables: vec![table.expect("no two tie")],
        issuers: Vec::new(),
    }
}

fn some_route(name: &str, opened: bool) -> Arc<Route> {
    Arc::new(Route {
        index: 0,
        name: name.into(),
        methods: MethodSet::Any,
        access: Access::Open,
        upstream: UpstreamName(name.into()),
        path_allow: Ambiguities {
            encoded_slash: opened,
            encoded_percent: opened,
            semicolon: opened,
            double_slash: opened,
        },
        case_insensitive: false,
        websocket: false,
        rewrite: None,
        limits: RouteLimits::default(),
        forward: Arc::new(ForwardRules {
            authorization: false,
            host: None,
            strip: Vec::new(),
            headers: Vec::new(),
        }),
        shadow: None,
        observe_until: None,
    })
}

fn decoded(path: &str, times: usize) -> String {
    let mut bytes = path.as_bytes().to_vec();
    for _ in 0..times {
        let mut out = Vec::new();
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            let value = bytes
                .get(at + 1..at + 3)
                .filter(|digits| *byte == b'%' && digits.iter().all(u8::is_ascii_hexdigit))
                .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
            out.push(value.unwrap_or(*byte));
            at += if value.is_some() { 3 } else { 1 };
        }
        bytes = out;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether a server that decodes so many times sees a dot segment, a backslash or a NUL.
fn climbs(path: &str, decodes: usize) -> bool {
    let text = decoded(path, decodes);
    text.contains(['\\', '\0'])
        || text.split('/').any(|segment| {
            let name = segment.split([';', '?', '#']).next().unwrap_or(segment);
            matches!(name.trim(), "." | "..")
        })
}

/// The segments that a careless server sees: parameters cut, blanks and dots trimmed, slashes merged.
fn served(path: &str, decodes: usize) -> Vec<String> {
    let text = decoded(path, decodes);
    let segments = text.split('/').map(|segment| {
        let name = segment.split(';').next().unwrap_or(segment);
        name.trim().trim_end_matches('.').trim().to_owned()
    });
    segments.filter(|segment| !segment.is_empty()).collect()
}

/// A form: what is read of it, a plain reader reads as well, and each name once.
pub fn form(data: &[u8]) {
    let Ok(form) = Form::parse(data) else {
        return;
    };
    let text = std::str::from_utf8(data).expect("a form is ASCII");
    let plain = |text: &str| decoded(&text.replace('+', " "), 1);
    let mut seen = Vec::new();
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    let pairs: Vec<_> = pairs
        .map(|pair| pair.split_once('=').expect("each pair has a ="))
        .map(|(name, value)| (plain(name), plain(value)))
        .collect();
    for (name, value) in &pairs {
        let folded = name.to_ascii_lowercase().replace(['-', '.'], "_");
        assert!(
            !seen.contains(&folded) || folded == "resource",
            "{name} comes twice"
        );
        seen.push(folded);
        if name != "resource" {
            assert_eq!(form.value(name).unwrap_or_default(), value, "{name}");
        }
    }
    assert_eq!(form.names().count(), pairs.len());
}

/// A request before an authorization server; the first byte chooses the endpoint, the rest is the
/// form. Nobody here can sign or has a certificate, so nothing passes `/par` and `/token`, and
/// `/authorize` nothing but what the server itself gave.
pub fn authorization(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let endpoint = match first % 3 {
        0 => Endpoint::Par,
        1 => Endpoint::Token,
        _ => Endpoint::Authorize,
    };
    let registry = br#"{"clients":[
        {"client_id":"a","status":"active","redirect_uris":["https://a/cb"],"jwks":{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"1",
         "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}},
        {"client_id":"t","status":"active","token_endpoint_auth_method":"tls_client_auth","certificate":{"subject":"CN=t"}}]}"#;
    let (clients, warnings) = Clients::parse(registry, &|_| Ok(())).expect("a registry");
    assert!(warnings.is_empty(), "{warnings:?}");
    let now = UnixTime::from_secs(1_800_000_000);
    let snapshot = Arc::new(authorization_snapshot(endpoint));
    let request = http::Request::post("/as")
        .header("host", "a")
        .header("content-type", "application/x-www-form-urlencoded");
    let (parts, ()) = request.body(()).expect("a request").into_parts();
    let fresh = InteractionId::from_random([7; 16]);
    let head = RequestHead::new(parts, fresh).expect("a head");
    let inbound = Inbound {
        head,
        peer: Arc::new(Peer {
            remote: ([192, 0, 2, 1], 1).into(),
            local: ([192, 0, 2, 2], 443).into(),
            listener: "bank".into(),
            certificate: None,
        }),
        standing: None,
        body: (),
    };
    let mut trail = Trail::default();
    let routed = route(inbound, &snapshot, &mut trail).expect("the route");
    let mut step = begin(routed, now, &mut trail);
    let mut asked = 0;
    loop {
        let pending = match step {
            Err(_) => return,
            Ok(Step::Done(_)) => break,
            Ok(Step::Ask(pending)) => pending,
        };
        asked += 1;
        assert!(asked <= 4, "each kind of question once");
        let known = matches!(pending.ask(), Ask::Body { .. } | Ask::Client { .. });
        assert!(
            known,
            "nothing that nobody signed gets as far as {:?}",
            pending.ask()
        );
        let answer = match pending.ask() {
            Ask::Body { .. } => Answer::Body(rest.to_vec().into()),
            Ask::Client { server, client_id } => {
                Answer::Client(clients.find(&server.issuer, client_id).cloned())
            }
            _ => return,
        };
        step = pending.resume(answer, now, &mut trail);
    }
    assert_eq!(endpoint, Endpoint::Authorize, "nobody authenticated");
    let form = Form::parse(rest).expect("it was read");
    let names: Vec<_> = form.entries().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(matches!(form.value("client_id"), Some("a" | "t")));
    let uri = form.value("request_uri").expect("a request_uri");
    assert!(uri.starts_with("urn:given:") && uri.len() > 10);
}

fn authorization_snapshot(endpoint: Endpoint) -> Snapshot {
    let issuer: Box<str> = "https://as".into();
    let hour = Duration::from_secs(3600);
    let server = Server {
        name: "main".into(),
        issuer: issuer.clone(),
        audience: vec![issuer.clone()],
        assertion_audience: vec![issuer],
        profile: Profile::Fapi2,
        algorithms: vec![Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa],
        max_object_age: hour,
        max_object_lifetime: hour,
        max_assertion_lifetime: hour,
        clock_skew: Duration::from_secs(10),
        request_uri_prefix: "urn:given:".into(),
    };
    let guard = Guard {
        server: Arc::new(server),
        endpoint,
        form_bytes: 64 * 1024,
        vouched: true,
        encrypted: false,
    };
    let mut route = Arc::into_inner(some_route("as", false)).expect("nobody else has it");
    route.access = Access::Authorization(Arc::new(guard));
    let route = Arc::new(route);
    let pattern = Pattern::parse("/as").expect("a pattern");
    let table = RouteTable::build(
        "bank".into(),
        &["a".into()],
        &[],
        100,
        vec![(pattern, route)],
    );
    Snapshot {
        generation: 1,
        tables: vec![table.expect("one route")],
        issuers: Vec::new(),
        nonces: None,
    }
}

/// A configuration, with a PKI and a policy beside it.
pub fn config(data: &[u8]) {
    let now = UnixTime::from_secs(1_800_000_000);
    let load = |text: &[u8]| {
        let [certificate, key, authority] = pki();
        let files = [
            ("/etc/p/p.toml", text),
            ("/etc/p/server.pem", certificate),
            ("/etc/p/server-key.pem", key),
            ("/etc/p/ca.pem", authority),
            ("/etc/p/jwks.json", JWKS),
            ("/etc/p/secret", b"0123456789abcdef0123456789abcdef"),
            ("/etc/p/policies/own.toml", b"scopes = [\"a\"]\n"),
            ("/etc/p/routes.d/a.toml", ROUTES),
        ];
        portcullis::config::load_from(files, "/etc/p/p.toml", now)
    };
    match load(data) {
        Ok(checked) => {
            let printed = checked.print();
            let again = load(printed.as_bytes()).expect("what is printed loads");
            // Included routes stand in the text by then.
            let own = |text: &str| -> String {
                let lines = text.lines().filter(|line| !line.starts_with("# include"));
                lines.collect::<Vec<_>>().join("\n")
            };
            assert_eq!(
                own(&printed),
                own(&again.print()),
                "what is printed prints otherwise"
            );
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "refused for nothing");
            let lines = data.split(|byte| *byte == b'\n').count();
            for problem in problems {
                assert!(!problem.wrong.is_empty() && !problem.right.is_empty());
                let ours = problem.place.file == "/etc/p/p.toml";
                assert!(
                    !ours || problem.place.line <= lines,
                    "{problem}: there is no such line"
                );
                let said = problem.to_string();
                let silent = |c: char| c.is_control() && c != '\n';
                assert!(
                    !said.contains(silent),
                    "{said:?} would do something to a terminal"
                );
            }
        }
    }
}

const JWKS: &[u8] = br#"{"keys":[{"kty":"EC","crv":"P-256","kid":"a","use":"sig","alg":"ES256",
"x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

/// A server certificate, its key, and an authority, made anew.
fn pki() -> &'static [Vec<u8>; 3] {
    static PKI: std::sync::OnceLock<[Vec<u8>; 3]> = std::sync::OnceLock::new();
    PKI.get_or_init(|| {
        use rcgen::{
            BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
        };
        let made = |names: &[&str], ca: bool| {
            let key = KeyPair::generate().expect("a key");
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let mut params = CertificateParams::new(names).expect("names");
            params.not_before = date_time_ymd(2026, 1, 1);
            params.not_after = date_time_ymd(2036, 1, 1);
            if ca {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            }
            let certificate = params.self_signed(&key).expect("a certificate");
            (
                certificate.pem().into_bytes(),
                key.serialize_pem().into_bytes(),
            )
        };
        let (certificate, key) = made(&["api.bank.example", "localhost"], false);
        [certificate, key, made(&[], true).0]
    })
}

const ROUTES: &[u8] = b"[[route]]\nname = \"included\"\npath = \"/included\"\nmethods = [\"GET\"]\nupstream = \"core\"\nopen = true\n";
