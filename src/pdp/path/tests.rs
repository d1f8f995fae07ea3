use proptest::prelude::*;

use super::*;

fn plain() -> Shape {
    Shape::default()
}

fn soft(change: impl FnOnce(&mut Shape)) -> Shape {
    let mut shape = plain();
    change(&mut shape);
    shape
}

#[test]
fn ordinary_paths_are_plain() {
    for path in [
        "/",
        "/accounts",
        "/accounts/",
        "/accounts/a%20b",
        "/accounts/%E2%82%AC",
        "/accounts/%e2%82%ac",
        "/accounts/a:b@c!$&'()*+,=",
        "/accounts/a.b..c/...",
        "/accounts/.well-known/~me",
        "/accounts/..a/a..",
        "/accounts/%7B%22a%22%7D%5B%5D%7C%5E%60%3C%3E",
        "/accounts/%3A%40%21%24%26%27%28%29%2A%2B%2C%3D",
        "/accounts/%ef%bc%8e%ef%bc%8e/admin",
    ] {
        assert_eq!(inspect(path), Ok(plain()), "{path}");
    }
}

#[test]
fn what_a_route_may_open_is_told() {
    // AUTHZ-05
    let cases = [
        ("/a%2Fb", soft(|s| s.ambiguities.encoded_slash = true)),
        ("/a%2fb", soft(|s| s.ambiguities.encoded_slash = true)),
        ("/100%25", soft(|s| s.ambiguities.encoded_percent = true)),
        ("/%2576ault", soft(|s| s.ambiguities.encoded_percent = true)),
        ("/a;v=1", soft(|s| s.ambiguities.semicolon = true)),
        ("/a%3Bv=1", soft(|s| s.ambiguities.semicolon = true)),
        ("/a%3bv=1", soft(|s| s.ambiguities.semicolon = true)),
        ("//a", soft(|s| s.ambiguities.double_slash = true)),
        ("/a//", soft(|s| s.ambiguities.double_slash = true)),
        ("/a%3Fb", soft(|s| s.delimiter = true)),
        ("/a%23b", soft(|s| s.delimiter = true)),
    ];
    for (path, expected) in cases {
        assert_eq!(inspect(path), Ok(expected), "{path}");
    }
}

#[test]
fn no_route_opens_these() {
    // AUTHZ-05; field: Envoy CVE-2019-9901, CVE-2021-29492, Istio CVE-2021-31920 and CVE-2021-39156,
    // Oathkeeper GHSA-p224-6x5r-fjpm, Kong CVE-2021-27306, APISIX CVE-2021-43557.
    use Flaw::*;
    let cases = [
        ("", Relative),
        ("admin", Relative),
        ("*", Relative),
        ("/accounts/../admin", DotSegment),
        ("/accounts/..", DotSegment),
        ("/..", DotSegment),
        ("/.", DotSegment),
        ("/./admin", DotSegment),
        ("/accounts//..//admin", DotSegment),
        ("/accounts/..;/admin", DotSegment),
        ("/accounts/..;a=b/admin", DotSegment),
        ("/accounts/.;/admin", DotSegment),
        ("/accounts/..%3b/admin", DotSegment),
        ("/accounts/..%3Ba/admin", DotSegment),
        ("/accounts/..%2fadmin", DotSegment),
        ("/accounts/x%2F..%2Fadmin", DotSegment),
        ("/accounts/..%3Fx", DotSegment),
        ("/accounts/..%23x", DotSegment),
        ("/accounts/..%20/admin", DotSegment),
        ("/accounts/%20../admin", DotSegment),
        ("/accounts/..%c2%a0/admin", DotSegment),
        ("/accounts/..%ef%bb%bf/admin", DotSegment),
        ("/accounts/%2e%2e/admin", Unreserved(b'.')),
        ("/accounts/%2E./admin", Unreserved(b'.')),
        ("/accounts/.%2e/admin", Unreserved(b'.')),
        ("/%61dmin", Unreserved(b'a')),
        ("/%7Euser", Unreserved(b'~')),
        ("/%2d%5f", Unreserved(b'-')),
        ("/accounts/%252e%252e/admin", DotSegment),
        ("/accounts/%25252e%25252e/admin", DotSegment),
        ("/accounts/.%252e/admin", DotSegment),
        ("/accounts/..%252fadmin", DotSegment),
        ("/accounts/..%253badmin", DotSegment),
        ("/accounts/%255c", Backslash),
        ("/accounts/%2500", Control),
        ("/accounts/%25c0%25ae", Utf8),
        ("/a%252525252525", Nesting),
        ("/accounts\\..\\admin", Backslash),
        ("/accounts%5c..%5Cadmin", Backslash),
        ("/accounts/%00", Control),
        ("/accounts/%0d%0a", Control),
        ("/admin%09/x", Control),
        ("/accounts/%7f", Control),
        ("/accounts/%c2%85", Control),
        ("/accounts/\t", Control),
        ("/accounts/\0", Control),
        ("/accounts/\u{7f}", Control),
        ("/accounts/a b", Character(b' ')),
        ("/accounts/\u{20ac}", Character(0xe2)),
        ("/accounts/<", Character(b'<')),
        ("/accounts/\"", Character(b'"')),
        ("/accounts/{id}", Character(b'{')),
        ("/accounts/a|b", Character(b'|')),
        ("/accounts/a^b", Character(b'^')),
        ("/accounts/[1]", Character(b'[')),
        ("/accounts/a?b", Character(b'?')),
        ("/accounts/a#b", Character(b'#')),
        ("/accounts/%", Escape),
        ("/accounts/%2", Escape),
        ("/accounts/%/../admin", Escape),
        ("/accounts/%zz/../admin", Escape),
        ("/accounts/%u002e", Escape),
        ("/accounts/%+1", Escape),
        ("/accounts/%c0%ae%c0%ae/admin", Utf8),
        ("/accounts/%c1%9c", Utf8),
        ("/accounts/%e0%80%af", Utf8),
        ("/accounts/%ed%a0%80", Utf8),
        ("/accounts/%f4%90%80%80", Utf8),
        ("/accounts/%e9", Utf8),
        ("/accounts/%ff", Utf8),
    ];
    for (path, expected) in cases {
        assert_eq!(inspect(path), Err(expected), "{path}");
        assert!(!expected.to_string().is_empty());
    }
}

#[test]
fn readings_cover_decoding_cutting_and_merging() {
    let readings = |path| -> Vec<String> {
        let all = careless(path).unwrap();
        all.into_iter().map(|(reading, _)| reading).collect()
    };
    assert_eq!(readings("/a"), ["/a"]);
    for (path, expected) in [
        ("/a%2fb", "/a/b"),
        ("/a;v/b", "/a/b"),
        ("/a%3bv/b", "/a/b"),
        ("/a//b", "/a/b"),
        ("/a/;/b", "/a/b"),
        ("/a%252fb", "/a/b"),
        ("/a%3fb", "/a"),
        ("/a%2523b", "/a"),
    ] {
        let found = readings(path);
        assert!(found.iter().any(|r| r == expected), "{path}: {found:?}");
    }
    // Each change with and without each other, whatever the order they are listed in.
    let mut all = readings("/a;v//b%3fc");
    all.sort();
    let mut expected: Vec<String> = ["/a;v//b", "/a;v/b", "/a//b", "/a/b"]
        .iter()
        .flat_map(|path| ["", "?c", "%3fc"].map(|end| format!("{path}{end}")))
        .collect();
    expected.sort();
    assert_eq!(all, expected);
}

/// Texts made of what paths are attacked with.
pub(crate) fn hostile_path() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => Just("/".to_owned()),
        4 => "[a-cA-C]{1,3}",
        2 => prop::sample::select(vec!["accounts", "vault", "admin", "public", "x"]).prop_map(str::to_owned),
        2 => prop::sample::select(vec![".", "..", "...", ";", "\\", "//", "/../", "..;", "%", " "]).prop_map(str::to_owned),
        3 => prop::sample::select(vec!["%2e", "%2F", "%2f", "%5c", "%25", "%3b", "%3f", "%23", "%20", "%00", "%61", "%76", "%c2%a0", "%c0%ae", "%e2%82%ac", "%ef%bc%8e"]).prop_map(str::to_owned),
        2 => prop::sample::select(vec!["252e", "252f", "255c", "2e", "2f", "3b", "5c", "25"]).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

/// What a careless server makes of a path: decoded so many times, backslashes turned, parameters
/// and what follows NUL cut, blanks and long dots trimmed, dot segments followed.
pub(crate) fn careless_server(path: &str, decodes: usize) -> Vec<String> {
    let mut text = path.to_owned();
    for _ in 0..decodes {
        let bytes: Vec<u8> = decoded(&text).collect();
        text = String::from_utf8_lossy(&bytes).into_owned();
    }
    let text = text.replace('\\', "/");
    let text = text.split('\0').next().unwrap_or_default();
    let mut out: Vec<String> = Vec::new();
    for segment in text.split('/') {
        let segment = segment.split(';').next().unwrap_or_default().trim();
        let segment = if segment.ends_with("...") {
            segment.trim_end_matches('.')
        } else {
            segment
        };
        match segment {
            "" | "." => {}
            ".." => drop(out.pop()),
            _ => out.push(segment.to_owned()),
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics(text in ".*") {
        let shape = inspect(&text);
        let readings = careless(&text);
        prop_assert!(shape.is_err() || readings.is_ok());
    }

    /// However often a server decodes, an accepted path never leads upwards: every segment that it
    /// sees stands there in the path, in the same order, and the first ones are never left.
    #[test]
    fn an_accepted_path_only_goes_down(path in hostile_path(), decodes in 0_usize..6) {
        if inspect(&path).is_ok() {
            let mut text = path.clone();
            for _ in 0..decodes {
                let bytes: Vec<u8> = decoded(&text).collect();
                text = String::from_utf8(bytes).expect("accepted paths decode to UTF-8");
            }
            prop_assert!(!text.contains(['\\', '\0']));
            let ups = text.split('/').filter(|s| {
                matches!(s.split([';', '?', '#']).next().unwrap_or_default().trim(), "." | "..")
            });
            prop_assert_eq!(ups.count(), 0, "{} read as {}", path, text);
        }
    }

    /// A plain path has the same segments for whoever decodes once and for whoever decodes twice.
    #[test]
    fn a_plain_path_has_one_reading(path in hostile_path()) {
        if inspect(&path).is_ok_and(Shape::is_plain) {
            let sent: Vec<String> = path.split('/').map(|s| String::from_utf8(decoded(s).collect()).unwrap()).collect();
            let once = String::from_utf8(decoded(&path).collect()).unwrap();
            prop_assert_eq!(&sent, &once.split('/').map(str::to_owned).collect::<Vec<_>>());
            let twice = String::from_utf8(decoded(&once).collect()).unwrap();
            prop_assert_eq!(once, twice);
        }
    }
}
