use super::*;

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn patterns_that_can_be_written() {
    for text in [
        "/",
        "/**",
        "/accounts",
        "/accounts/",
        "/accounts/**",
        "/accounts/{id}",
        "/accounts/{id}/balances/{balance_id}/**",
        "/a/{id}/",
        "/accounts:batch",
        "/a.b/~me/$batch/x,y=z@w",
        "/caf%C3%A9/%20",
        "/.well-known/x",
        "/...",
    ] {
        assert_eq!(pattern(text).as_str(), text);
    }
}

#[test]
fn patterns_that_cannot() {
    use PatternError::*;
    let cases = [
        ("", Relative),
        ("accounts", Relative),
        ("https://a/accounts", Relative),
        ("/a?b", Query),
        ("/a#b", Query),
        ("//", EmptySegment),
        ("/a//b", EmptySegment),
        ("/a//**", EmptySegment),
        ("/a/../b", DotSegment),
        ("/.", DotSegment),
        ("/a/*", Star("*".into())),
        ("/a/**/b", Star("**".into())),
        ("/a/***", Star("***".into())),
        ("/a/b**", Star("b**".into())),
        ("/a/**/", Star("**".into())),
        ("/a/{id", Brace("{id".into())),
        ("/a/id}", Brace("id}".into())),
        ("/a/{}", Brace("{}".into())),
        ("/a/x{id}", Brace("x{id}".into())),
        ("/a/{id}.json", Brace("{id}.json".into())),
        ("/a/{{id}}", Brace("{{id}}".into())),
        ("/a/{i d}", Brace("{i d}".into())),
        ("/a/{id}/{id}", NameRepeated("id".into())),
        ("/a%2Fb", Ambiguous("a%2Fb".into())),
        ("/a%25", Ambiguous("a%25".into())),
        ("/a;b", Ambiguous("a;b".into())),
        ("/a%3F", Ambiguous("a%3F".into())),
        ("/a%23b", Ambiguous("a%23b".into())),
        ("/a%3bb", Ambiguous("a%3bb".into())),
    ];
    for (text, expected) in cases {
        let found = Pattern::parse(text).map(|p| p.to_string());
        assert_eq!(found, Err(expected), "{text}");
    }
    for text in [
        "/%61",
        "/a b",
        "/a\\b",
        "/a/%2e%2e",
        "/caf\u{e9}",
        "/%",
        "/%00",
        "/..;",
        "/%c0%ae",
    ] {
        let found = Pattern::parse(text);
        assert!(matches!(found, Err(Unreachable(_))), "{text}: {found:?}");
    }
    assert_eq!(
        Pattern::parse(&"/a".repeat(65)).map(|p| p.to_string()),
        Err(TooLong)
    );
    assert!(Pattern::parse(&"/a".repeat(64)).is_ok());
}

#[test]
fn equal_up_to_names_and_escapes() {
    let same = |a, b| pattern(a).same_paths(&pattern(b));
    assert!(same("/a/{id}", "/a/{name}"));
    assert!(same("/caf%C3%A9", "/caf%c3%a9"));
    assert!(same("/a:b", "/a%3Ab"));
    assert!(!same("/a/{id}", "/a/b"));
    assert!(!same("/a", "/a/"));
    assert!(!same("/a", "/a/**"));
    assert!(!same("/a", "/A"));
}

#[test]
fn the_more_specific_one_comes_first() {
    use Ordering::*;
    let cases = [
        ("/a", "/a", Some(Equal)),
        ("/a/{x}", "/a/{y}", Some(Equal)),
        ("/a/b", "/a/{x}", Some(Greater)),
        ("/a/b", "/a/**", Some(Greater)),
        ("/a/{x}", "/a/**", Some(Greater)),
        ("/a/**", "/**", Some(Greater)),
        ("/a", "/a/**", Some(Greater)),
        ("/a/", "/a/**", Some(Greater)),
        ("/{x}/b", "/a/{y}", Some(Less)),
        ("/a/{y}/**", "/{x}/b", Some(Greater)),
        ("/{x}/**", "/a/b", Some(Less)),
        ("/a", "/a/", None),
        ("/a", "/b", None),
        ("/a/b", "/a", None),
        ("/a/{x}", "/a", None),
        ("/a/b/**", "/a/c/**", None),
        ("/a/b/**", "/a", None),
        ("/A", "/a", None),
    ];
    for (a, b, expected) in cases {
        assert_eq!(
            pattern(a).precedence(&pattern(b), false),
            expected,
            "{a} {b}"
        );
        let turned = pattern(b).precedence(&pattern(a), false);
        assert_eq!(turned, expected.map(Ordering::reverse), "{b} {a}");
    }
    assert_eq!(pattern("/A").precedence(&pattern("/a"), true), Some(Equal));
}

#[test]
fn a_pattern_is_printed_as_it_was_written() {
    for text in ["/", "/a/{id}/b", "/a/**"] {
        assert_eq!(Pattern::parse(text).unwrap().to_string(), text);
    }
}
