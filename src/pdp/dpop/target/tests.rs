use super::*;
use proptest::prelude::*;

fn origins() -> Origins {
    Origins::new(&["https://api.bank.example", "https://api2.bank.example:8443"]).unwrap()
}

fn named(htu: &str, path: &str) -> Result<(), &'static str> {
    Target {
        origins: &origins(),
        path,
    }
    .is_named_by(htu)
}

#[test]
fn spellings_of_one_target() {
    // DPOP-09, DPOP-10
    for (htu, path) in [
        ("https://api.bank.example/a", "/a"),
        ("https://api.bank.example/a?x#y", "/a"),
        ("https://api.bank.example/a#y?x", "/a"),
        ("https://api.bank.example/a?x=/../b", "/a"),
        ("HTTPS://API.BANK.EXAMPLE/a", "/a"),
        ("https://api.bank.example:443/a", "/a"),
        ("https://api.bank.example:/a", "/a"),
        (
            "HTTPS://API.EXAMPLE:443/a"
                .replace("EXAMPLE", "bank.EXAMPLE")
                .as_str(),
            "/a",
        ),
        ("https://api2.bank.example:8443/a", "/a"),
        ("https://api.bank.example", "/"),
        ("https://api.bank.example/", "/"),
        ("https://api.bank.example?x", "/"),
        ("https://api.bank.example#x", "/"),
        ("https://api.bank.example/%61%2Db", "/a-b"),
        ("https://api.bank.example/a-b", "/%61%2Db"),
        ("https://api.bank.example/%c3%bc", "/%C3%BC"),
        ("https://api.bank.example/%C3%BC", "/%c3%bc"),
        ("https://api.bank.example/x/../a", "/a"),
        ("https://api.bank.example/x/%2e%2E/./a", "/a"),
        ("https://api.bank.example/../a", "/a"),
        ("https://api.bank.example/a/.", "/a/"),
        ("https://api.bank.example/a/b/..", "/a/"),
        (
            "https://api.bank.example/a;v=1,2:@!$&'()*+=~",
            "/a;v=1,2:@!$&'()*+=~",
        ),
        ("https://api.bank.example//a", "//a"),
        ("https://api.bank.example/a%2Fb", "/a%2fb"),
    ] {
        assert_eq!(named(htu, path), Ok(()), "{htu} {path}");
    }
}

#[test]
fn other_targets() {
    // DPOP-09, DPOP-11
    for (htu, path) in [
        ("https://api.bank.example/b", "/a"),
        ("https://api.bank.example/A", "/a"),
        ("https://api.bank.example/a/", "/a"),
        ("https://api.bank.example/a", "/a/"),
        ("https://api.bank.example//a", "/a"),
        ("https://api.bank.example/a%2Fb", "/a/b"),
        ("https://api.bank.example/a%3Bb", "/a;b"),
        ("https://api.bank.example/a%3Fb", "/a"),
        ("https://api.bank.example/a%2561", "/aa"),
        ("https://api.bank.example:8443/a", "/a"),
        ("https://api2.bank.example/a", "/a"),
        ("https://api3.bank.example/a", "/a"),
        ("https://bank.example/a", "/a"),
        ("https://api.bank.example.evil.example/a", "/a"),
        ("http://api.bank.example/a", "/a"),
        ("http://api.bank.example:443/a", "/a"),
        ("https://user@api.bank.example/a", "/a"),
        ("https://api.bank.example@evil.example/a", "/a"),
        ("https://evil.example\\@api.bank.example/a", "/a"),
        ("https://api.bank.example\\a", "/a"),
        ("https://api.bank.example../a", "/a"),
        ("https:///api.bank.example/a", "/a"),
        ("https:api.bank.example/a", "/a"),
        ("//api.bank.example/a", "/a"),
        ("/a", "/a"),
        ("", "/a"),
        (" https://api.bank.example/a", "/a"),
        ("https://api.bank.example/a ", "/a"),
        ("https://api.bank.example/a\n", "/a"),
        ("https://api.bank.example/%", "/%"),
        ("https://api.bank.example/%4", "/%4"),
        ("https://api.bank.example/%zz", "/%zz"),
        ("https://api.bank.example/\u{fc}", "/%C3%BC"),
        ("https://api.bank.example/\u{fc}", "/\u{fc}"),
        ("https://api.bank.example/a b", "/a b"),
        ("https://api.bank.example/{id}", "/{id}"),
        ("https://api.bank.example/*", "*"),
        ("https://api.bank.example", ""),
    ] {
        assert!(named(htu, path).is_err(), "{htu} {path}");
    }
}

#[test]
fn why_quotes_nothing() {
    for htu in [
        "https://secret.example/",
        "https://api.bank.example/secret",
        "secret",
    ] {
        let why = named(htu, "/a").unwrap_err();
        assert!(!why.contains("secret"), "{why}");
    }
}

#[test]
fn the_path_is_that_of_the_client() {
    // DPOP-12: the caller passes the path before any rewrite; one after it is another target.
    assert!(named("https://api.bank.example/svc2/x", "/svc2/x").is_ok());
    assert!(named("https://api.bank.example/x", "/svc2/x").is_err());
}

#[test]
fn origins_are_origins() {
    for good in [
        "https://a",
        "https://a/",
        "HTTPS://A.:443",
        "https://[::1]:8443",
    ] {
        assert!(Origins::new(&[good]).is_ok(), "{good}");
    }
    for bad in [
        "a",
        "http://a",
        "https://",
        "https://a/b",
        "https://a?",
        "https://a/#x",
        "https://u@a",
        "https://a:0",
        "https://a..",
    ] {
        let error = Origins::new(&["https://a", bad]).unwrap_err();
        assert!(
            error.contains(bad) && error.contains("write https://"),
            "{error}"
        );
    }
    assert!(Origins::new::<&str>(&[]).is_err());
}

#[test]
fn the_normal_form_in_text() {
    // DPOP-10
    for (uri, expected) in [
        ("HTTPS://A.Example.:443?x", "https://a.example/"),
        (
            "https://a:8443/%7e/%c3%bc%2f/./x/..#y",
            "https://a:8443/~/%C3%BC%2F/",
        ),
        ("https://[0:0::1]:/a//b;c", "https://[::1]/a//b;c"),
    ] {
        let found = TargetUri::parse(uri).map(|uri| uri.to_string());
        assert_eq!(found.as_deref(), Some(expected), "{uri}");
    }
}

#[test]
fn dot_segments_as_in_rfc_3986() {
    // RFC 3986 s5.2.4 and s5.4, merged with a base of /b/c/
    for (path, expected) in [
        ("/a/b/c/./../../g", "/a/g"),
        ("/b/c/../g", "/b/g"),
        ("/b/c/..", "/b/"),
        ("/b/c/../", "/b/"),
        ("/b/c/../..", "/"),
        ("/b/c/../../", "/"),
        ("/b/c/../../../g", "/g"),
        ("/./g", "/g"),
        ("/b/c/g.", "/b/c/g."),
        ("/b/c/.g", "/b/c/.g"),
        ("/b/c/g..", "/b/c/g.."),
        ("/b/c/..g", "/b/c/..g"),
        ("/b/c/./g/.", "/b/c/g/"),
        ("/b/c/g/./h", "/b/c/g/h"),
        ("/b/c/g/../h", "/b/c/h"),
        ("/b/c/g;x=1/./y", "/b/c/g;x=1/y"),
        ("/b/c/g;x=1/../y", "/b/c/y"),
        ("/a//..", "/a/"),
        ("//..", "/"),
        ("/.", "/"),
        ("/..", "/"),
        ("/", "/"),
    ] {
        assert_eq!(without_dot_segments(path), expected, "{path}");
    }
}

#[test]
fn the_common_spelling_needs_no_normalising() {
    let spelled = |htu: &str, path: &str| {
        let origins = origins();
        let target = Target {
            origins: &origins,
            path,
        };
        target.is_spelled(htu)
    };
    for (htu, path) in [
        ("https://api.bank.example/a/b", "/a/b"),
        ("https://api2.bank.example:8443/~a_b-1//", "/~a_b-1//"),
        ("https://api.bank.example/", "/"),
    ] {
        assert!(spelled(htu, path), "{htu} {path}");
    }
    // Right or wrong, these are looked at closely.
    for (htu, path) in [
        ("https://api.bank.example", "/"),
        ("https://api.bank.example", ""),
        ("https://api.bank.examplea", "a"),
        ("https://api.bank.example:8443/a", "/a"),
        ("https://api.bank.example/a/../b", "/a/../b"),
        ("https://api.bank.example/a.b", "/a.b"),
        ("https://api.bank.example/%61", "/%61"),
        ("https://api.bank.example/a?b", "/a?b"),
        ("https://api.bank.example/a", "/b"),
        ("http://api.bank.example/a", "/a"),
    ] {
        assert!(!spelled(htu, path), "{htu} {path}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(htu: String, path: String) {
        prop_assert!(named(&htu, &path).is_err());
        if named(&format!("https://api.bank.example{htu}"), &path).is_ok() {
            prop_assert!(path.starts_with('/'));
        }
    }

    #[test]
    fn the_normal_form_is_one(uri in "[hH]ttps://[aA]\\.(b|B)(:443|:1)?(/(%2[eEfF]|%4[1a]|%c3|\\.|\\.\\.|[a-cA~;]){0,3}){0,5}(\\?x)?") {
        let first = TargetUri::parse(&uri).unwrap();
        let text = first.to_string();
        let again = TargetUri::parse(&text);
        prop_assert_eq!(again.as_ref(), Some(&first));
        prop_assert_eq!(again.unwrap().to_string(), text);
    }

    #[test]
    fn a_plain_path_names_itself_alone(path in "(/[a-z]{0,3}){1,4}", other in "(/[a-z]{0,3}){1,4}") {
        let htu = format!("https://api.bank.example{path}");
        prop_assert_eq!(named(&htu, &path), Ok(()));
        prop_assert_eq!(named(&htu, &other).is_ok(), path == other);
    }

    #[test]
    fn what_needs_no_normalising_is_what_normalising_finds(
        origin in "https://(api|api2)\\.bank\\.example(:443|:8443)?",
        path in "(/[a-z.~%41]{0,3}){0,3}/?",
        other in "(/[a-z.~%41]{0,3}){0,3}/?",
        same: bool,
    ) {
        let origins = origins();
        let htu = format!("{origin}{path}");
        let target = Target { origins: &origins, path: if same { &path } else { &other } };
        if target.is_spelled(&htu) {
            let uri = TargetUri::parse(&htu).unwrap();
            prop_assert!(origins.0.iter().any(|origin| origin.authority == uri.authority));
            prop_assert_eq!(normal_path(target.path), Some(uri.path));
        }
    }
}
