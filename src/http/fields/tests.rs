use std::sync::Arc;
use std::time::Duration;

use http::Version;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::pdp::InteractionId;
use crate::pdp::authorization::{Endpoint, Guard, Profile, Server};
use crate::pdp::policy::{Access, Fact, ForwardRules};
use crate::pdp::route::tests::entry;

fn forward() -> ForwardRules {
    ForwardRules {
        authorization: false,
        host: None,
        strip: vec!["x-internal-*".into(), "X_Secret".into()],
        headers: vec![(HeaderName::from_static("x-auth-user"), Fact::RouteName)],
    }
}

fn rules() -> FieldRules {
    FieldRules::new(&forward(), vec![HeaderName::from_static("x-judged")])
}

fn map(lines: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    map
}

fn lines(map: &HeaderMap) -> Vec<(String, String)> {
    map.iter()
        .map(|(name, value)| {
            (
                name.as_str().to_owned(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect()
}

/// By name; those of one name in their order.
fn sorted(mut lines: Vec<(String, String)>) -> Vec<(String, String)> {
    lines.sort_by(|(one, _), (other, _)| one.cmp(other));
    lines
}

fn passed(lines_in: &[(&str, &str)]) -> Vec<(String, String)> {
    lines(&request_fields(&map(lines_in), &rules()))
}

#[test]
fn what_only_a_gate_may_say_never_passes() {
    // FWD-01, FWD-09, HTTP-17, the header-alias class
    for name in [
        "Authorization",
        "DPoP",
        "Client-Cert",
        "Client-Cert-Chain",
        "client_cert",
        "X-Client-Cert",
        "X-Client.Cert.Der",
        "X-Forwarded-For",
        "X_Forwarded_For",
        "x.forwarded.host",
        "X-Forwarded-Client-Cert",
        "x-forwarded",
        "Forwarded",
        "X-Real-IP",
        "x_real_ip",
        "X-SSL-Client-Verify",
        "SSL-Client-Cert",
        "SSL_CLIENT_S_DN",
        "X-Amzn-Mtls-Clientcert",
        "X-Original-URL",
        "x_original_uri",
        "X-Rewrite-URL",
        "x-envoy-original-path",
        "X-HTTP-Method-Override",
        "X_HTTP_Method",
        "x-method-override",
        "X-Auth-User",
        "X_Auth_User",
        "x.auth.user",
        "x~auth!user",
        "x-internal-tenant",
        "X_Internal_",
        "x-secret",
        "Connection",
        "Keep-Alive",
        "Proxy-Connection",
        "Proxy-Authorization",
        "Proxy",
        "Transfer-Encoding",
        "transfer_encoding",
        "Content-Length",
        "content_length",
        "Upgrade",
        "HTTP2-Settings",
        "Expect",
        "Host",
        "X-FAPI-Interaction-ID",
        "x_fapi_interaction_id",
    ] {
        assert_eq!(passed(&[(name, "7")]), [], "{name}");
    }
}

#[test]
fn everything_else_passes_as_it_came() {
    // HTTP-10, HTTP-11, FAPIH-09, FAPIH-10
    let sent = [
        ("accept", "a/b"),
        ("accept-encoding", "gzip"),
        ("x-a", "1"),
        ("x-a", "2"),
        ("content-type", "application/json"),
        ("content-digest", "sha-256=:x:"),
        ("x-fapi-auth-date", "Tue, 11 Sep 2012 19:43:31 GMT"),
        ("x-fapi-customer-ip-address", "2001:DB8::1"),
        ("x-auth", "not the one that is set"),
        ("x-internal", "shorter than the prefix"),
        ("x_other", "é"),
    ];
    let expected: Vec<_> = sent
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    assert_eq!(passed(&sent), expected);
}

#[test]
fn a_connection_line_removes_the_clients_own_fields_alone() {
    // HTTP-01
    assert_eq!(
        passed(&[
            ("connection", "close, X-Mine, cookie, X-JUDGED"),
            ("connection", "x-also,,"),
            ("x-mine", "1"),
            ("x-also", "1"),
            ("cookie", "a=b"),
            ("x-judged", "1"),
            ("x-kept", "1"),
        ]),
        [
            ("cookie".to_owned(), "a=b".to_owned()),
            ("x-judged".to_owned(), "1".to_owned()),
            ("x-kept".to_owned(), "1".to_owned()),
        ]
    );
}

#[test]
fn the_token_travels_on_where_the_route_says_so_and_the_proof_never() {
    // FWD-09
    let rules = FieldRules::new(
        &ForwardRules {
            authorization: true,
            ..forward()
        },
        Vec::new(),
    );
    let sent = map(&[
        ("authorization", "Bearer x"),
        ("dpop", "proof"),
        ("connection", "authorization"),
    ]);
    assert_eq!(
        lines(&request_fields(&sent, &rules)),
        [("authorization".to_owned(), "Bearer x".to_owned())]
    );
}

#[test]
fn cookie_crumbs_become_one_line() {
    // RFC 9113 s8.2.3
    assert_eq!(
        passed(&[("cookie", "a=1"), ("x-b", "2"), ("cookie", "c=3")]),
        [
            ("cookie".to_owned(), "a=1; c=3".to_owned()),
            ("x-b".to_owned(), "2".to_owned()),
        ]
    );
}

#[test]
fn trailers_are_filtered_like_headers() {
    // HTTP-18
    assert_eq!(
        passed(&[
            ("te", "gzip, trailers"),
            (
                "trailer",
                "x-sum, authorization, X_Auth_User, content-length"
            ),
        ]),
        [
            ("te".to_owned(), "trailers".to_owned()),
            ("trailer".to_owned(), "x-sum".to_owned()),
        ]
    );
    let trailers = map(&[
        ("x-sum", "1"),
        ("authorization", "Bearer x"),
        ("content-length", "3"),
        ("x-judged", "1"),
        ("x_auth_user", "root"),
        ("content_type", "a/b"),
        ("host", "evil"),
    ]);
    assert_eq!(
        lines(&request_trailers(&trailers, &rules())),
        [("x-sum".to_owned(), "1".to_owned())]
    );
    let answer = map(&[
        ("x-sum", "1"),
        ("set-cookie", "a"),
        ("x-fapi-interaction-id", "x"),
        ("transfer-encoding", "chunked"),
    ]);
    assert_eq!(
        lines(&response_trailers(&answer)),
        [("x-sum".to_owned(), "1".to_owned())]
    );
}

#[test]
fn a_field_of_the_next_hop_is_found_alone_and_among_others() {
    let line = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    for (sent, passes) in [
        (&[("te", "trailers")][..], line("te", "trailers")),
        (&[("te", "gzip")], vec![]),
        (&[("trailer", "x-sum")], line("trailer", "x-sum")),
        (&[("connection", "x-a")], vec![]),
        (&[("connection", "x-a"), ("x-a", "1")], vec![]),
        (&[("x-a", "1"), ("connection", "close")], line("x-a", "1")),
        // What is usual there names nothing.
        (
            &[("close", "1"), ("connection", "close")],
            line("close", "1"),
        ),
    ] {
        assert_eq!(passed(sent), passes, "{sent:?}");
    }
    let answer = response_fields(map(&[("trailer", "x-sum, content-length")]));
    assert_eq!(lines(&answer), line("trailer", "x-sum"));
}

fn received(client: &str, authority: &'static str, version: Version) -> Received<'static> {
    Received {
        client: client.parse().unwrap(),
        scheme: "https",
        authority,
        version,
        interaction_id: InteractionId::from_random([7; 16]),
        introduction: Box::leak(Box::default()),
    }
}

#[test]
fn forwarding_is_said_by_us() {
    // FWD-07, HTTP-02, FAPIH-06
    let table = [
        (
            "192.0.2.1",
            "api.bank.example",
            "for=192.0.2.1;proto=https;host=api.bank.example",
            "192.0.2.1",
        ),
        (
            "::ffff:192.0.2.1",
            "",
            "for=192.0.2.1;proto=https",
            "192.0.2.1",
        ),
        (
            "2001:db8::1",
            "a.example:8443",
            "for=\"[2001:db8::1]\";proto=https;host=\"a.example:8443\"",
            "2001:db8::1",
        ),
        (
            "192.0.2.1",
            "[::1]",
            "for=192.0.2.1;proto=https;host=\"[::1]\"",
            "192.0.2.1",
        ),
    ];
    let versions = [
        (Version::HTTP_2, "2 portcullis"),
        (Version::HTTP_11, "1.1 portcullis"),
        (Version::HTTP_10, "1.0 portcullis"),
    ];
    for ((client, authority, forwarded, plain), (version, ours)) in
        table.into_iter().zip(versions.into_iter().cycle())
    {
        let mut fields = map(&[("via", "1.1 other")]);
        identify(
            &mut fields,
            &received(client, authority, version),
            &HeaderValue::from_static("inner"),
            &[(
                HeaderName::from_static("x-auth-user"),
                HeaderValue::from_static("me"),
            )],
        );
        assert_eq!(fields["forwarded"], forwarded);
        assert_eq!(fields["x-forwarded-for"], plain);
        assert_eq!(fields["x-forwarded-proto"], "https");
        let host = fields.get("x-forwarded-host").map(|value| value.as_bytes());
        assert_eq!(host.unwrap_or_default(), authority.as_bytes());
        assert_eq!(host.is_none(), authority.is_empty());
        assert_eq!(fields["host"], "inner");
        assert_eq!(fields["x-auth-user"], "me");
        assert_eq!(fields["x-fapi-interaction-id"].len(), 36);
        let via: Vec<_> = fields.get_all("via").iter().collect();
        assert_eq!(via, ["1.1 other", ours]);
    }
}

/// What was written for one request of a connection stands for the next where nothing of it differs,
/// and for no other.
#[test]
fn each_request_of_a_connection_is_introduced_as_its_own() {
    // FWD-07
    let introduction = Introduction::default();
    let introduced = |client: &str, scheme: &'static str, authority: &'static str| {
        let mut fields = HeaderMap::new();
        let received = Received {
            scheme,
            introduction: &introduction,
            ..received(client, authority, Version::HTTP_11)
        };
        identify(
            &mut fields,
            &received,
            &HeaderValue::from_static("inner"),
            &[],
        );
        let line = format!("for={client};proto={scheme};host={authority}");
        assert_eq!(fields["forwarded"], line);
        assert_eq!(fields["x-forwarded-for"], client);
        assert_eq!(fields["x-forwarded-proto"], scheme);
        assert_eq!(fields["x-forwarded-host"], authority);
        assert_eq!(received.host().unwrap(), authority);
        fields["forwarded"].clone()
    };
    let first = introduced("192.0.2.1", "https", "a.example");
    let again = introduced("192.0.2.1", "https", "a.example");
    assert_eq!(first.as_bytes().as_ptr(), again.as_bytes().as_ptr());
    introduced("192.0.2.2", "https", "a.example");
    introduced("192.0.2.2", "http", "a.example");
    introduced("192.0.2.2", "http", "b.example");
    introduced("192.0.2.1", "https", "a.example");
}

#[test]
fn a_loop_is_seen() {
    // HTTP-19
    let round = "1.1 a, 2 Portcullis (x), 1.1 portcullis, 1.1 portcullis";
    assert!(routed_by_us(&map(&[
        ("via", round),
        ("via", "HTTP/1.1 portcullis"),
        ("via", "1.1 portcullis")
    ])));
    // An outer gate, an inner one and a sidecar are no loop.
    assert!(!routed_by_us(&map(&[("via", round)])));
    assert!(!routed_by_us(&map(&[(
        "via",
        "1.1 portcullis.example, 1.1 b (portcullis)"
    )])));
    assert!(!routed_by_us(&HeaderMap::new()));
}

#[test]
fn a_loop_begins_after_the_gates_that_somebody_builds() {
    // HTTP-19
    let through = |gates: usize| map(&[("via", vec!["1.1 portcullis"; gates].join(", ").as_str())]);
    assert!(!routed_by_us(&through(4)));
    assert!(routed_by_us(&through(5)));
}

/// HTTP-01: one name on its own, beside nothing that a Connection line often says.
#[test]
fn a_nomination_needs_no_company() {
    for usual in ["", "close, ", "keep-alive, "] {
        let line = format!("{usual}x-hop");
        assert_eq!(passed(&[("connection", &line), ("x-hop", "1")]), []);
        let answer = map(&[("connection", &line), ("x-hop", "1")]);
        assert_eq!(lines(&response_fields(answer.clone())), []);
    }
}

/// FWD-06: a pattern holds whatever it begins with.
#[test]
fn a_pattern_is_found_by_its_first_letter() {
    let firsts = ('a'..='z').chain('0'..='9').chain("-_.!~".chars());
    for first in firsts {
        let forward = ForwardRules {
            strip: vec![format!("{first}q-*").into()],
            ..forward()
        };
        let rules = FieldRules::new(&forward, Vec::new());
        let name = format!("{first}q-name");
        assert_eq!(
            lines(&request_fields(
                &map(&[(&name, "1"), ("kept", "1")]),
                &rules
            )),
            [("kept".to_owned(), "1".to_owned())],
            "{name}"
        );
    }
}

/// RFC 9110 s6.5.1: names in the list, and prefixes where it says so; nothing that only begins alike.
#[test]
fn a_trailer_is_known_by_its_whole_name() {
    for (name, never) in [
        ("te", true),
        ("te-x", false),
        ("t", false),
        ("dates", false),
        ("if-match", true),
        ("if-", true),
        ("if", false),
        ("iffy", false),
    ] {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        assert_eq!(not_in_trailers(&name), never, "{name}");
    }
}

/// RFC 9449 s5: a proof is for the authorization server behind, unless the operator says otherwise;
/// an API never sees one.
#[test]
fn a_proof_reaches_the_server_that_it_is_for() {
    let server = Access::Authorization(Arc::new(Guard {
        server: Arc::new(Server {
            name: "main".into(),
            issuer: "https://as.bank.example".into(),
            audience: Vec::new(),
            assertion_audience: Vec::new(),
            profile: Profile::Fapi2,
            algorithms: Vec::new(),
            max_object_age: Duration::ZERO,
            max_object_lifetime: Duration::ZERO,
            max_assertion_lifetime: Duration::ZERO,
            clock_skew: Duration::ZERO,
            request_uri_prefix: "urn:x:".into(),
        }),
        endpoint: Endpoint::Token,
        form_bytes: 1,
        vouched: false,
        encrypted: false,
    }));
    let (dpop, kept) = (("dpop", "e30.e30.AA"), ("dragon", "1"));
    // Whatever else never passes does not pass there either.
    let fields = [
        dpop,
        kept,
        ("x-forwarded-for", "192.0.2.1"),
        ("client-cert", ":AA==:"),
        ("x-auth-user", "root"),
    ];
    for (access, strip, expected) in [
        (server.clone(), None, vec![dpop, kept]),
        (server.clone(), Some("DPoP"), vec![kept]),
        (server.clone(), Some("dpo*"), vec![kept]),
        (server, Some("x-other"), vec![dpop, kept]),
        (Access::Open, None, vec![kept]),
    ] {
        let (_, route) = entry("/a", &[], |route| {
            route.access = access;
            route.forward = Arc::new(ForwardRules {
                strip: strip.into_iter().map(Box::from).collect(),
                ..forward()
            });
        });
        let rules = FieldRules::of(&route);
        assert_eq!(
            lines(&request_fields(&map(&fields), &rules)),
            expected
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect::<Vec<_>>(),
            "{strip:?}"
        );
    }
}

#[test]
fn the_upstream_may_have_a_host_of_its_own() {
    let of = |host: Option<&str>| {
        let forward = ForwardRules {
            host: host.map(Box::from),
            ..forward()
        };
        FieldRules::new(&forward, Vec::new()).host().cloned()
    };
    assert_eq!(of(Some("inner")).unwrap(), "inner");
    assert_eq!(of(None), None);
}

#[test]
fn answers_are_cleaned() {
    // HTTP-01, FAPIH-05, FWD-06
    let from = map(&[
        ("connection", "close, x-hop, content-type"),
        ("x-hop", "1"),
        ("content-type", "a/b"),
        ("content-length", "2"),
        ("content-length", "2"),
        ("keep-alive", "timeout=5"),
        ("proxy-authenticate", "Basic"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("alt-svc", "h3=\":443\""),
        ("x-fapi-interaction-id", "theirs"),
        ("client-cert", ":AA==:"),
        ("set-cookie", "a"),
        ("set-cookie", "b"),
        ("trailer", "x-sum, content-length"),
    ]);
    assert_eq!(
        sorted(lines(&response_fields(from))),
        [
            ("content-length", "2"),
            ("content-type", "a/b"),
            ("set-cookie", "a"),
            ("set-cookie", "b"),
            ("trailer", "x-sum"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
}

/// The plain form of the rule, to hold the quick one against.
fn must_go(name: &str) -> bool {
    let folded: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    HOP_BY_HOP
        .iter()
        .chain(ALWAYS)
        .copied()
        .chain(["authorization", "x-internal-*", "x-secret", "x-auth-user"])
        .any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => folded.starts_with(prefix),
            None => folded == pattern,
        })
}

fn names() -> impl Strategy<Value = String> {
    let known: Vec<String> = HOP_BY_HOP
        .iter()
        .chain(ALWAYS)
        .chain(&[
            "authorization",
            "x-internal-*",
            "x-secret",
            "x-auth-user",
            "accept",
            "x-foo",
        ])
        .map(|name| name.replace('*', "tail"))
        .collect();
    let separators = prop::collection::vec(
        prop::sample::select("-_.!#$%&'*+^`|~".chars().collect::<Vec<_>>()),
        0..6,
    );
    prop_oneof![
        (prop::sample::select(known), separators, any::<u32>()).prop_map(|(name, with, case)| {
            let mut with = with.into_iter().cycle();
            name.chars()
                .enumerate()
                .map(|(at, c)| match c {
                    '-' => with.next().unwrap_or('-'),
                    c if case >> (at % 32) & 1 == 1 => c.to_ascii_uppercase(),
                    c => c,
                })
                .collect()
        }),
        "[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,24}",
    ]
}

proptest! {
    /// Nothing whose folded name is in the removed set ever survives, and nothing else is lost
    /// unless `Connection` names it.
    #[test]
    fn nothing_of_the_removed_set_survives(
        sent in prop::collection::vec(names(), 0..20),
        nominated in prop::collection::vec(names(), 0..4),
    ) {
        let mut from = HeaderMap::new();
        for name in &sent {
            from.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("trailers"));
        }
        from.append("connection", HeaderValue::try_from(nominated.join(",")).unwrap());
        let to = request_fields(&from, &rules());
        for name in to.keys() {
            prop_assert!(
                !must_go(name.as_str()) || name == "te" || name == "trailer",
                "{name} survived"
            );
        }
        for name in from.keys() {
            let named = from.get_all("connection").iter().flat_map(elements)
                .any(|element| element.eq_ignore_ascii_case(name.as_str()));
            if !must_go(name.as_str()) && !named {
                prop_assert_eq!(from.get_all(name).iter().count(), to.get_all(name).iter().count());
            }
            if named && !NOT_NOMINATED.contains(name) && name != "te" && name != "trailer" && name != "x-judged" {
                prop_assert!(!to.contains_key(name), "{} was nominated", name);
            }
        }
    }
}
