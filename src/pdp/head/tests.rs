use http::{HeaderValue, Request};

use super::*;

type Fields<'a> = &'a [(&'a str, &'a str)];

pub(crate) fn fresh() -> InteractionId {
    InteractionId::from_random([7; 16])
}

/// A head of HTTP/1.1 as hyper hands it over.
pub(crate) fn head(method: &str, target: &str, fields: Fields<'_>) -> Result<RequestHead, Refusal> {
    build(Version::HTTP_11, method, target, fields)
}

fn build(
    version: Version,
    method: &str,
    target: &str,
    fields: Fields<'_>,
) -> Result<RequestHead, Refusal> {
    let mut request = Request::builder()
        .version(version)
        .method(method)
        .uri(target);
    for (name, value) in fields {
        request = request.header(*name, value.as_bytes());
    }
    let (parts, ()) = request
        .body(())
        .expect("hyper would have refused it")
        .into_parts();
    RequestHead::new(parts, fresh())
}

fn reason(result: &Result<RequestHead, Refusal>) -> Option<Reason> {
    result.as_ref().err().map(Refusal::reason)
}

const MALFORMED: Option<Reason> = Some(Reason::RequestMalformed);

#[test]
fn http1_needs_one_good_host() {
    // HTTP-07
    let cases: [(Fields<'_>, Option<Reason>); 14] = [
        (&[("host", "api.bank.example")], None),
        (&[("host", "API.bank.example.:443")], None),
        (&[("host", "[::1]:8443")], None),
        (&[], MALFORMED),
        (&[("host", "")], MALFORMED),
        (&[("host", "a"), ("host", "a")], MALFORMED),
        (&[("host", "a"), ("host", "b")], MALFORMED),
        (&[("host", "a, b")], MALFORMED),
        (&[("host", "user@a")], MALFORMED),
        (&[("host", "user:pw@a")], MALFORMED),
        (&[("host", "a/b")], MALFORMED),
        (&[("host", "https://a")], MALFORMED),
        (&[("host", "a:http")], MALFORMED),
        (&[("host", "b\u{fc}cher.example")], MALFORMED),
    ];
    for (fields, expected) in cases {
        for version in [Version::HTTP_10, Version::HTTP_11] {
            let found = build(version, "GET", "/", fields);
            assert_eq!(reason(&found), expected, "{version:?} {fields:?}");
        }
    }
    let head = head("GET", "/", &[("host", "API.bank.example.:8443")]).unwrap();
    assert_eq!((head.host(), head.port()), ("api.bank.example", Some(8443)));
}

#[test]
fn an_absolute_target_agrees_with_host() {
    // HTTP-07, RFC 9112 s3.2.2
    let cases = [
        ("https://a/x", "a", None),
        ("https://A./x", "a:443", None),
        ("HTTPS://a/x", "a", None),
        ("https://a:8443/x", "a:8443", None),
        ("https://a:8443/x", "a", MALFORMED),
        ("http://evil.test/accounts/1", "a", MALFORMED),
        ("https://evil.test/accounts/1", "a", MALFORMED),
        ("http://a/x", "a", MALFORMED),
        ("ftp://a/x", "a", MALFORMED),
        ("https://u@a/x", "a", MALFORMED),
        ("https://u:p@a/x", "a", MALFORMED),
    ];
    for (target, host, expected) in cases {
        let found = head("GET", target, &[("host", host)]);
        assert_eq!(reason(&found), expected, "{target} {host}");
    }
    assert_eq!(reason(&head("GET", "https://a/x", &[])), MALFORMED);
    for (target, sent) in [
        ("https://a", "/"),
        ("https://a?x=1", "/?x=1"),
        ("https://a/?x=1", "/?x=1"),
        ("https://a/b/?", "/b/?"),
    ] {
        let head = head("GET", target, &[("host", "a")]).unwrap();
        assert_eq!(head.into_parts().path_and_query.as_str(), sent, "{target}");
    }
}

#[test]
fn http2_authority_and_host_agree() {
    // HTTP-08, RFC 9113 s8.3.1
    let cases: [(&str, Fields<'_>, Option<Reason>); 9] = [
        ("https://a/x", &[], None),
        ("https://a/x", &[("host", "A")], None),
        ("/x", &[("host", "a")], None),
        ("/x", &[], MALFORMED),
        ("https://a/x", &[("host", "b")], MALFORMED),
        ("https://a/x", &[("host", "a"), ("host", "a")], MALFORMED),
        ("https://u@a/x", &[], MALFORMED),
        ("ftp://a/x", &[], MALFORMED),
        ("http://a/x", &[], MALFORMED),
    ];
    for (target, fields, expected) in cases {
        let found = build(Version::HTTP_2, "GET", target, fields);
        assert_eq!(reason(&found), expected, "{target} {fields:?}");
    }
    let chunked = [("transfer-encoding", "chunked")];
    assert_eq!(
        reason(&build(Version::HTTP_2, "POST", "https://a/x", &chunked)),
        MALFORMED
    );
}

#[test]
fn the_body_ends_in_one_place() {
    // HTTP-03, HTTP-04, HTTP-05
    let cases: [(Fields<'_>, Option<Reason>); 17] = [
        (&[("transfer-encoding", "chunked")], None),
        (&[("transfer-encoding", "Chunked")], None),
        (&[("transfer-encoding", "gzip, chunked")], MALFORMED),
        (&[("transfer-encoding", "chunked, chunked")], MALFORMED),
        (&[("transfer-encoding", "chunked, identity")], MALFORMED),
        (&[("transfer-encoding", "xchunked")], MALFORMED),
        (&[("transfer-encoding", "identity")], MALFORMED),
        (&[("transfer-encoding", "")], MALFORMED),
        (
            &[
                ("transfer-encoding", "identity"),
                ("transfer-encoding", "chunked"),
            ],
            MALFORMED,
        ),
        (
            &[
                ("transfer-encoding", "chunked"),
                ("transfer-encoding", "chunked"),
            ],
            MALFORMED,
        ),
        (
            &[("transfer-encoding", "chunked"), ("content-length", "2")],
            MALFORMED,
        ),
        (&[("content-length", "0")], None),
        (&[("content-length", "18446744073709551615")], None),
        (&[("content-length", "02")], MALFORMED),
        (&[("content-length", "+2")], MALFORMED),
        (&[("content-length", "18446744073709551616")], MALFORMED),
        (
            &[("content-length", "2"), ("content-length", "2")],
            MALFORMED,
        ),
    ];
    for (fields, expected) in cases {
        let mut all = vec![("host", "a")];
        all.extend(fields);
        assert_eq!(reason(&head("POST", "/", &all)), expected, "{fields:?}");
    }
    let old = [("host", "a"), ("transfer-encoding", "chunked")];
    assert_eq!(
        reason(&build(Version::HTTP_10, "POST", "/", &old)),
        MALFORMED
    );
    for version in [Version::HTTP_09, Version::HTTP_3] {
        assert_eq!(
            reason(&build(version, "GET", "/", &[("host", "a")])),
            MALFORMED
        );
    }
}

#[test]
fn methods_that_have_no_path() {
    // HTTP-16
    let cases = [
        ("CONNECT", "a:22", "a:22", Some(Reason::MethodNotAllowed)),
        ("CONNECT", "a:22", "a", MALFORMED),
        ("OPTIONS", "*", "a", Some(Reason::RouteNotFound)),
        ("GET", "*", "a", MALFORMED),
        ("GET", "a", "a", MALFORMED),
        ("GET", "a:443", "a", MALFORMED),
        ("TRACE", "/x", "a", None),
        ("get", "/x", "a", None),
        ("X!#$", "/x", "a", None),
    ];
    for (method, target, host, expected) in cases {
        let found = head(method, target, &[("host", host)]);
        assert_eq!(reason(&found), expected, "{method} {target}");
    }
}

#[test]
fn the_target_is_kept_octet_for_octet() {
    // HTTP-09
    for target in [
        "/a%20b?x=%2F",
        "/accounts/a:b@c!$&'()*+,=",
        "/a%2Fb?",
        "/a?%zz&[]|{}&a=b?c/../d",
        "/%e2%82%ac?q=%",
        "/a?x=%00",
    ] {
        let head = head("GET", target, &[("host", "a")]).unwrap();
        let whole = match head.query() {
            Some(query) => format!("{}?{query}", head.path()),
            None => head.path().to_owned(),
        };
        assert_eq!(whole, target);
        assert_eq!(head.into_parts().path_and_query.as_str(), target);
    }
    assert!(
        head("GET", "/a%2Fb", &[("host", "a")])
            .unwrap()
            .ambiguities()
            .encoded_slash
    );
}

#[test]
fn targets_that_no_route_opens() {
    // AUTHZ-05, HTTP-15
    let ambiguous = Some(Reason::TargetAmbiguous);
    let long = |bytes: usize| {
        format!(
            "/{}?{}",
            "a".repeat(bytes / 2),
            "b".repeat(bytes - bytes / 2 - 2)
        )
    };
    assert_eq!(reason(&head("GET", "/a/../b", &[("host", "a")])), ambiguous);
    assert_eq!(reason(&head("GET", "/%61", &[("host", "a")])), ambiguous);
    assert_eq!(
        reason(&head("GET", "/a?\u{20ac}", &[("host", "a")])),
        MALFORMED
    );
    assert_eq!(
        reason(&head("GET", &long(TARGET_BYTES), &[("host", "a")])),
        None
    );
    assert_eq!(
        reason(&head("GET", &long(TARGET_BYTES + 1), &[("host", "a")])),
        Some(Reason::TargetTooLong)
    );
}

#[test]
fn a_fragment_is_neither_judged_nor_forwarded() {
    let head = head("GET", "/public#/../admin", &[("host", "a")]).unwrap();
    assert_eq!(head.into_parts().path_and_query.as_str(), "/public");
}

#[test]
fn one_content_type() {
    let twice = [
        ("host", "a"),
        ("content-type", "a/b"),
        ("content-type", "c/d"),
    ];
    assert_eq!(
        reason(&head("POST", "/", &twice)),
        Some(Reason::FieldRepeated)
    );
}

#[test]
fn the_interaction_id_is_the_clients_or_fresh() {
    // FAPI 1.0 Part 1 s6.2.1-11
    const ID: &str = "C770AEF3-6784-41f7-8e0e-ff5f97bddb3a";
    let name = "x-fapi-interaction-id";
    let (made, long) = (fresh(), ID.repeat(200));
    let made = made.as_str();
    let cases: [(Fields<'_>, &str); 6] = [
        (&[(name, ID)], ID),
        (&[], made),
        (&[(name, "")], made),
        (&[(name, "not-a-uuid")], made),
        (&[(name, ID), (name, ID)], made),
        (&[(name, &long)], made),
    ];
    for (fields, expected) in cases {
        let mut all = vec![("host", "a")];
        all.extend(fields);
        let head = head("GET", "/", &all).unwrap();
        assert_eq!(head.interaction_id().as_str(), expected, "{fields:?}");
    }
}

#[test]
fn the_version_is_the_clients() {
    for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
        let request = Request::builder()
            .version(version)
            .uri("https://api.bank.example/a")
            .header("host", "api.bank.example");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        assert_eq!(RequestHead::new(parts, fresh()).unwrap().version(), version);
    }
}

#[test]
fn what_is_there_is_told_from_what_is_not() {
    let mut fields = HeaderMap::new();
    fields.insert(header::HOST, HeaderValue::from_static("a"));
    fields.append(header::VIA, HeaderValue::from_static("1.1 b"));
    fields.append(header::VIA, HeaderValue::from_static("1.1 c"));
    let wanted = [&header::VIA, &header::TE, &header::HOST];
    assert_eq!(present(&fields, wanted), [true, false, true]);
    assert_eq!(present(&HeaderMap::new(), wanted), [false; 3]);
}
