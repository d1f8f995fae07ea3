use proptest::prelude::*;

use super::*;
use crate::pdp::head::tests::head;

const JWT: &str = "eyJhbGciOiJQUzI1NiJ9.e30.c2ln";

fn judged(target: &str, fields: &[&str]) -> Result<String, Reason> {
    let mut all = vec![("host", "a")];
    all.extend(fields.iter().map(|value| ("authorization", *value)));
    let head = head("GET", target, &all).expect("a good head");
    match credential(&head, 100, Schemes::BEARER) {
        Ok(credential) => Ok(credential.token.expose().to_owned()),
        Err(refusal) => Err(refusal.reason()),
    }
}

#[test]
fn one_bearer_token() {
    // PRES-01, PRES-02
    for scheme in ["Bearer ", "bearer ", "bEaReR ", "Bearer   ", " Bearer "] {
        assert_eq!(
            judged("/", &[&format!("{scheme}{JWT}")]),
            Ok(JWT.to_owned()),
            "{scheme:?}"
        );
    }
    assert_eq!(
        judged("/", &[&format!("Bearer {JWT}  ")]),
        Ok(JWT.to_owned())
    );
}

#[test]
fn everything_else_is_refused() {
    // PRES-02, PRES-05 to PRES-08, TOK-13
    use Reason::*;
    let cases: &[(&[&str], Reason)] = &[
        (&[], TokenMissing),
        (&[""], CredentialsMalformed),
        (&["Bearer"], CredentialsMalformed),
        (&["Bearer "], CredentialsMalformed),
        (&["Bearer a b"], CredentialsMalformed),
        (&["Bearer a.b.c d"], CredentialsMalformed),
        (&["Bearer\ta.b.c"], CredentialsMalformed),
        (&["Bearer \ta.b.c"], CredentialsMalformed),
        (&["Bearer !!!"], CredentialsMalformed),
        (&["Bearer \"a.b.c\""], CredentialsMalformed),
        (&["Bearer a.b.=c"], CredentialsMalformed),
        (&["Bearer ==="], CredentialsMalformed),
        (&["Bearer {\"payload\":\"\"}"], CredentialsMalformed),
        (&["Bearer a.b.\u{e9}"], CredentialsMalformed),
        (&["(Bearer) a.b.c"], CredentialsMalformed),
        (&["Bearer, a.b.c"], CredentialsMalformed),
        (&["Bearer a.b.c,"], CredentialsMalformed),
        (&["Basic dTpw"], SchemeUnsupported),
        (&["Basic"], SchemeUnsupported),
        (&["DPoP a.b.c"], SchemeUnsupported),
        (&["Digest username=\"a\", realm=\"b\""], SchemeUnsupported),
        (&["Bearer:a.b.c"], CredentialsMalformed),
        (&["Bearer a.b.c", "Bearer a.b.c"], TokenRepeated),
        (&["Bearer a.b.c", "DPoP a.b.c"], TokenRepeated),
        (&["Basic dTpw", "Bearer a.b.c"], TokenRepeated),
        (&["Bearer a.b.c, Bearer a.b.c"], TokenRepeated),
        (&["Bearer a.b.c,a.b.d"], TokenRepeated),
        (&["Basic dTpw, Bearer a.b.c"], TokenRepeated),
        (&["DPoP a.b.c, bearer a.b.c"], TokenRepeated),
        (&["Bearer a.b.c.d.e"], TokenMalformed),
        (&["Bearer a.b..d.e"], TokenMalformed),
    ];
    for (fields, expected) in cases {
        assert_eq!(judged("/", fields), Err(*expected), "{fields:?}");
    }
}

#[test]
fn what_has_not_the_outer_form_of_a_jwt_is_opaque() {
    // PRES-09
    for opaque in [
        "opaque", "a.b", "a.b.c.d", "a..c", ".b.c", "a.b.c=", "a.b.c+/", "...",
    ] {
        assert!(judged("/", &[&format!("Bearer {opaque}")]).is_ok());
        assert!(!looks_signed(&AccessToken::new(opaque)), "{opaque}");
    }
    // `alg: none` goes on as a JWT, to be refused by its name.
    for signed in [JWT, "a.b.c", "a.b."] {
        assert!(looks_signed(&AccessToken::new(signed)), "{signed}");
    }
}

#[test]
fn each_character_of_a_token_is_looked_at() {
    // PRES-07, TOK-13
    for octet in 0..=0x7f_u8 {
        let c = char::from(octet);
        let base64url = c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let token68 = base64url || matches!(c, '.' | '~' | '+' | '/');
        assert_eq!(is_token68(&format!("a{c}b")), token68, "{c:?}");
        let signed = format!("a{c}.b.c");
        assert_eq!(
            looks_signed(&AccessToken::new(&*signed)),
            base64url,
            "{c:?}"
        );
    }
}

#[test]
fn a_long_token_is_refused_unread() {
    // TOK-26
    let long = |bytes: usize| format!("Bearer a.b.{}", "c".repeat(bytes - 4));
    assert!(judged("/", &[&long(100)]).is_ok());
    assert_eq!(judged("/", &[&long(101)]), Err(Reason::TokenTooLarge));
    assert_eq!(
        judged("/", &[&format!("Bearer {}", "!".repeat(101))]),
        Err(Reason::TokenTooLarge)
    );
}

#[test]
fn no_token_in_the_query() {
    // PRES-03, RFC 6750 s2.3
    let bearer = format!("Bearer {JWT}");
    for query in [
        "access_token=x",
        "access_token",
        "access_token=",
        "a=b&access_token=x",
        "a=b;access_token=x",
        "&&access_token=x",
        "access%5ftoken=x",
        "access%5Ftoken=x",
        "%61ccess_token=x",
        "Access_Token=x",
        "access_token[]=x",
        "access_token%5B0%5D=x",
        "%20access_token=x",
        "+access_token=x",
        "access_token+=x",
        "access_token%00=x",
    ] {
        let target = format!("/?{query}");
        assert_eq!(judged(&target, &[]), Err(Reason::TokenInQuery), "{query}");
        assert_eq!(
            judged(&target, &[&bearer]),
            Err(Reason::TokenInQuery),
            "{query}"
        );
    }
    for query in [
        "",
        "a=access_token",
        "access_tokens=1",
        "my_access_token=1",
        "access-token=1",
        "%",
    ] {
        assert!(judged(&format!("/?{query}"), &[&bearer]).is_ok(), "{query}");
    }
}

#[test]
fn forms_and_cookies_are_not_looked_at() {
    // PRES-04, PRES-11
    let cookie = [
        ("host", "a"),
        ("cookie", "access_token=a.b.c"),
        ("access_token", "a.b.c"),
    ];
    let head = head("GET", "/", &cookie).unwrap();
    assert_eq!(
        credential(&head, 100, Schemes::BEARER)
            .unwrap_err()
            .reason(),
        Reason::TokenMissing
    );
}

#[test]
fn no_refusal_repeats_the_token() {
    // PRES-10
    let secret = "s3cr3tMaterial";
    for field in [
        format!("Bearer {secret}.a.b.c.d"),
        format!("Bearer {secret} x"),
        secret.to_owned(),
        format!("Basic {secret}"),
        format!("Bearer a.b.{}", secret.repeat(20)),
    ] {
        let head = head("GET", "/", &[("host", "a"), ("authorization", &field)]).unwrap();
        let refusal = credential(&head, 100, Schemes::BEARER).unwrap_err();
        assert!(!format!("{refusal:?}").contains(secret));
    }
}

#[test]
fn challenges_name_the_error_only_where_a_bearer_token_came() {
    // PRES-06, PRES-08, RFC 6750 s3.1
    let lines = |fields: &[(&str, &str)]| -> Vec<String> {
        let mut all = vec![("host", "a")];
        all.extend(fields);
        let head = head("GET", "/", &all).unwrap();
        crate::refusal::challenges(&credential(&head, 100, Schemes::BEARER).unwrap_err()).collect()
    };
    assert_eq!(lines(&[]), ["Bearer"]);
    assert_eq!(lines(&[("authorization", "Basic x")]), ["Bearer"]);
    assert_eq!(
        lines(&[("authorization", "Bearer")]),
        ["Bearer error=\"invalid_request\""]
    );
    assert_eq!(
        lines(&[("authorization", "Bearer a.b.c.d.e")]),
        ["Bearer error=\"invalid_token\""]
    );
}

const BOTH: Schemes = Schemes {
    bearer: true,
    dpop: true,
};

/// What is said of a field where another is known: the token or the reason, and whether it was read.
fn after(
    field: &str,
    (longest, schemes): (usize, Schemes),
    known: Option<&Arc<Presented>>,
) -> (Result<(Scheme, String), Reason>, bool) {
    let head = head("GET", "/", &[("host", "a"), ("authorization", field)]).expect("a good head");
    match presented(&head, longest, schemes, known) {
        Ok(found) => {
            let Credential { scheme, token } = found.credential();
            assert_eq!(found.looks_signed(), looks_signed(token));
            assert_eq!(token.digest(), AccessToken::new(token.expose()).digest());
            let read = known.is_none_or(|known| !Arc::ptr_eq(known, &found));
            (Ok((*scheme, token.expose().to_owned())), read)
        }
        Err(refusal) => (Err(refusal.reason()), true),
    }
}

#[test]
fn the_same_field_is_read_once_and_no_other_is_taken_for_it() {
    let field = format!("Bearer {JWT}");
    let (before, long) = (Presented::for_tests(&field), JWT.len());
    let token = |token: &str| Ok((Scheme::Bearer, token.to_owned()));
    let after = |field: &str, rules| after(field, rules, Some(&before));
    assert_eq!(after(&field, (long, BOTH)), (token(JWT), false));
    assert_eq!(after(&field, (long, Schemes::BEARER)), (token(JWT), false));
    // Another token of the same length, by its first byte, its last one and one between.
    for other in [
        "fyJhbGciOiJQUzI1NiJ9.e30.c2ln",
        "eyJhbGciOiJQUzI1NiJ9.e30.c2lo",
        "eyJhbGciOiJQUzI1NiJ9.e31.c2ln",
    ] {
        assert_eq!(
            after(&format!("Bearer {other}"), (long, BOTH)),
            (token(other), true)
        );
    }
    // The same token, said otherwise; its beginning; and more than it.
    for other in [
        format!("bearer {JWT}"),
        format!("Bearer  {JWT}"),
        format!("Bearer {JWT} "),
    ] {
        assert_eq!(after(&other, (long, BOTH)), (token(JWT), true), "{other}");
    }
    let (short, _) = JWT.split_at(long - 1);
    assert_eq!(
        after(&format!("Bearer {short}"), (long, BOTH)),
        (token(short), true)
    );
    let more = format!("Bearer {JWT}.x");
    assert!(after(&more, (more.len(), BOTH)).1);
    // Another route: shorter tokens, another scheme.
    let too_large = Err(Reason::TokenTooLarge);
    assert_eq!(after(&field, (long - 1, BOTH)).0, too_large);
    let unsupported = Err(Reason::SchemeUnsupported);
    assert_eq!(
        after(
            &field,
            (
                long,
                Schemes {
                    bearer: false,
                    dpop: true
                }
            )
        )
        .0,
        unsupported
    );
    let of_dpop = format!("DPoP {JWT}");
    assert_eq!(
        after(&of_dpop, (long, BOTH)),
        (Ok((Scheme::Dpop, JWT.to_owned())), true)
    );
    assert_eq!(after(&of_dpop, (long, Schemes::BEARER)).0, unsupported);
}

#[test]
fn a_field_that_is_known_makes_no_second_one_good() {
    let field = format!("Bearer {JWT}");
    let before = Presented::for_tests(&field);
    for fields in [vec![], vec![&*field, &*field], vec![&*field, "Basic x"]] {
        let mut all = vec![("host", "a")];
        all.extend(fields.iter().map(|value| ("authorization", *value)));
        let head = head("GET", "/", &all).expect("a good head");
        let reason = if fields.is_empty() {
            Reason::TokenMissing
        } else {
            Reason::TokenRepeated
        };
        let refusal = presented(&head, 100, BOTH, Some(&before)).unwrap_err();
        assert_eq!(refusal.reason(), reason);
    }
    assert!(!format!("{before:?}").contains(JWT));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is known, the outcome is that of reading the field.
    #[test]
    fn what_is_known_changes_no_outcome(
        before in "(Bearer|DPoP) [a-c.]{1,6}",
        field in "(Bearer|DPoP|bearer) {0,2}[a-c.,]{0,6}",
        longest in 0_usize..8,
        bearer: bool,
        dpop: bool,
        same: bool,
    ) {
        let kept = head("GET", "/", &[("host", "a"), ("authorization", &before)])
            .ok()
            .and_then(|head| presented(&head, usize::MAX, BOTH, None).ok());
        let field = if same { &before } else { &field };
        let rules = (longest, Schemes { bearer, dpop });
        prop_assert_eq!(after(field, rules, kept.as_ref()).0, after(field, rules, None).0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes, a token that is taken stands in the field as it is, alone.
    #[test]
    fn a_taken_token_is_the_one_that_came(field in "[Bb]earer {0,2}[ -~]{0,40}|[ -~]{0,40}") {
        if let Ok(token) = judged("/", &[&field]) {
            prop_assert!(is_token68(&token));
            prop_assert_ne!(token.matches('.').count(), 4);
            let (scheme, rest) = field.trim().split_once(' ').unwrap();
            prop_assert!(scheme.eq_ignore_ascii_case("bearer"));
            prop_assert_eq!(rest.trim(), token);
        }
    }
}

proptest! {
    /// What is asked of many bytes at once says what a look at each says.
    #[test]
    fn the_form_of_a_token_is_what_its_parts_say(
        text in prop_oneof!["[A-Za-z0-9._~+/=-]{0,40}", "[a.]{0,9}", "[ -~]{0,12}", "\\PC{0,9}", "[a.]{250,600}"],
    ) {
        let base64url = |part: &str| {
            part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        let all: Vec<_> = text.split('.').collect();
        prop_assert_eq!(parts(&text), all.len());
        let signed = all.len() == 3
            && all.iter().all(|part| base64url(part))
            && !all[0].is_empty()
            && !all[1].is_empty();
        prop_assert_eq!(looks_signed(&AccessToken::new(text.as_str())), signed);
        let body = text.trim_end_matches('=');
        let token68 = !body.is_empty()
            && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte));
        prop_assert_eq!(is_token68(&text), token68);
    }
}
