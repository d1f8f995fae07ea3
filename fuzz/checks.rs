//! What must hold for any bytes. Shared by the fuzz targets and by `tests/corpus.rs`.

use std::sync::Arc;

use portcullis::pdp::policy::{Access, ForwardRules, MethodSet, Route, RouteLimits, UpstreamName};
use portcullis::pdp::{
    Ambiguities, Inbound, InteractionId, Pattern, Peer, RequestHead, RouteTable, Snapshot, Trail,
    credential, route,
};

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
    if let Ok(token) = credential(&head, 4096) {
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
