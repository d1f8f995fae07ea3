//! Endpoints, `request_uri`, parameters outside, status: JAR-01, JAR-07, JAR-08, JAR-10, JAR-12.

use super::*;

use Reason::{
    FormMalformed, ParameterConflict, ParameterInvalid, RequestObjectMissing, RequestUriForbidden,
    RequestUriForeign, RequestUriMissing,
};

fn push(more: &[(&str, &str)]) -> Sent {
    let (object, assertion) = (
        object(&json!({}), &json!({})),
        assertion(&json!({}), &json!({})),
    );
    let mut pairs = vec![
        ("request", object.as_str()),
        ("client_assertion_type", KIND),
        ("client_assertion", &assertion),
    ];
    pairs.extend(more);
    Sent::par(&pairs)
}

#[test]
fn parameters_outside_the_object() {
    // JAR-10
    for equal in [
        &[("state", "s t")][..],
        &[("max_age", "60"), ("response_type", "code")],
        &[("client_id", "tpp")],
        &[("unknown", "")],
    ] {
        assert_eq!(push(equal).reason(), None, "{equal:?}");
    }
    for other in [
        ("state", "other"),
        ("max_age", "061"),
        ("prompt", "none"),
        ("redirect_uri", "https://evil.example/cb"),
        ("resource", "https://api.bank.example"),
    ] {
        assert_eq!(
            push(&[other]).reason(),
            Some(ParameterConflict),
            "{other:?}"
        );
    }
}

#[test]
fn one_parameter_is_compared_by_its_own_type() {
    // JAR-10; RFC 8707 s2 lets resource come more than once, which nobody can compare.
    let api = "https://api.bank.example";
    let judged = |inside: &Value, outside: &[(&str, &str)]| {
        let object = object(&json!({}), inside);
        let assertion = assertion(&json!({}), &json!({}));
        let mut pairs = vec![
            ("request", object.as_str()),
            ("client_assertion_type", KIND),
            ("client_assertion", &assertion),
        ];
        pairs.extend(outside);
        Sent::par(&pairs).reason()
    };
    let one = json!({"resource": api});
    assert_eq!(judged(&one, &[("resource", api)]), None);
    let twice = [("resource", api), ("resource", api)];
    assert_eq!(judged(&one, &twice), Some(ParameterConflict));
    let thrice = [&twice[..], &[("resource", api)]].concat();
    assert_eq!(judged(&one, &thrice), Some(ParameterConflict));
    let flag = json!({"flag": true});
    assert_eq!(judged(&flag, &[("flag", "true")]), None);
    assert_eq!(judged(&flag, &[("flag", "false")]), Some(ParameterConflict));
}

/// TOK-25: an id goes to logs and look-ups.
#[test]
fn an_id_of_a_client_is_short_and_printable() {
    let judged = |id: &str| Sent::token(&[("client_id", id)]).reason();
    let missing = Some(Reason::ClientAuthenticationMissing);
    assert_eq!(judged(&"i".repeat(256)), Some(Reason::ClientUnknown));
    assert_eq!(judged(&"i".repeat(257)), missing);
    assert_eq!(judged(&"i".repeat(258)), missing);
    // A form holds no control character; a claim may.
    let odd = "a\nb";
    let assertion = assertion(&json!({}), &json!({"iss": odd, "sub": odd}));
    assert_eq!(Sent::assertion(&assertion).reason(), missing);
}

/// A client that was not asked for, and more of a body than was asked for, are bugs of ours.
#[test]
fn an_answer_to_another_question() {
    let sent = Sent::object(&object(&json!({}), &json!({})));
    let now = UnixTime::from_secs(NOW);
    let begun = || {
        let Ok(Step::Ask(pending)) = begin(sent.routed(), &sent.guard()).map(Step::from) else {
            panic!("no question");
        };
        pending
    };
    let internal = |step: Result<Step<String>, Refusal>| matches!(step, Err(refusal) if refusal.reason() == Reason::Internal);
    let long = Bytes::from(vec![b'a'; 64 * 1024 + 1]);
    let mut trail = Trail::default();
    assert!(
        begun().body_mut().is_some(),
        "the shell reads it from there"
    );
    let step = begun().resume(Answer::Body(long), now, &mut trail);
    assert!(internal(step));
    let named = |changes: &Value| {
        let registry = json!({"clients": [entry(changes)]}).to_string();
        let (clients, _) = Clients::parse(registry.as_bytes(), &|_| Ok(())).unwrap();
        clients.all().next().cloned()
    };
    for changes in [
        json!({"client_id": "other"}),
        json!({"issuer": "https://other.example"}),
    ] {
        let body = Answer::Body(Bytes::from(sent.body.clone()));
        let Ok(Step::Ask(pending)) = begun().resume(body, now, &mut trail) else {
            panic!("no question");
        };
        assert!(matches!(pending.ask(), Ask::Client { .. }));
        let answer = Answer::Client(named(&changes));
        assert!(
            internal(pending.resume(answer, now, &mut trail)),
            "{changes}"
        );
    }
}

#[test]
fn the_push_itself() {
    // JAR-01
    let plain = [
        ("client_id", "tpp"),
        ("response_type", "code"),
        ("client_assertion_type", KIND),
    ];
    let assertion = assertion(&json!({}), &json!({}));
    let plain = [&plain[..], &[("client_assertion", assertion.as_str())]].concat();
    assert_eq!(Sent::par(&plain).reason(), Some(RequestObjectMissing));
    // JAR-08
    for uri in ["urn:ietf:params:oauth:request_uri:x", ""] {
        let sent = push(&[("request_uri", uri)]);
        assert_eq!(sent.reason(), Some(RequestUriForbidden), "{uri:?}");
    }
    // JAR-07
    let other = push(&[("client_id", "other")]);
    assert_eq!(other.reason(), Some(Reason::ClientUnknown));
    let asked = push(&[]).walk().unwrap();
    assert_eq!(asked, ["body", "client", "first use"]);
}

#[test]
fn a_form_and_nothing_else() {
    let with = |headers: &[(&'static str, &'static str)]| Sent {
        headers: headers.to_vec(),
        ..push(&[])
    };
    const TYPE: &str = "application/x-www-form-urlencoded";
    assert_eq!(
        with(&[(
            "content-type",
            "application/x-www-form-urlencoded; charset=UTF-8"
        )])
        .reason(),
        None
    );
    for headers in [
        &[][..],
        &[("content-type", "application/json")],
        &[("content-type", "multipart/form-data; boundary=x")],
        &[(
            "content-type",
            "application/x-www-form-urlencoded; charset=utf-16",
        )],
        &[("content-type", TYPE), ("content-encoding", "gzip")],
    ] {
        assert_eq!(with(headers).reason(), Some(FormMalformed), "{headers:?}");
    }
    let queried = Sent {
        query: "client_id=tpp".to_owned(),
        ..push(&[])
    };
    assert_eq!(queried.reason(), Some(FormMalformed));
    let mut twice = push(&[]);
    twice.body.push_str("&request=x");
    assert_eq!(twice.reason(), Some(FormMalformed));
}

#[test]
fn the_front_channel_of_fapi2_takes_what_was_pushed_alone() {
    // JAR-12, JAR-14
    let uri = format!("{URN}abc");
    let object = object(&json!({}), &json!({}));
    let judged = |pairs: &[(&str, &str)]| Sent::authorize(Profile::Fapi2, pairs).reason();
    let good = [("client_id", "tpp"), ("request_uri", uri.as_str())];
    assert_eq!(judged(&good), None);
    let parameters = [
        ("client_id", "tpp"),
        ("response_type", "code"),
        ("redirect_uri", CALLBACK),
    ];
    for (what, pairs, reason) in [
        ("parameters", &parameters[..], RequestUriMissing),
        (
            "an object",
            &[("client_id", "tpp"), ("request", &object)],
            RequestUriMissing,
        ),
        (
            "both",
            &[good[0], good[1], ("request", &object)],
            RequestUriForbidden,
        ),
        (
            "another's",
            &[good[0], ("request_uri", "https://tpp.example/r")],
            RequestUriForeign,
        ),
        (
            "nothing after the prefix",
            &[good[0], ("request_uri", URN)],
            RequestUriForeign,
        ),
        (
            "more beside",
            &[good[0], good[1], ("state", "x")],
            ParameterConflict,
        ),
        ("no client", &[good[1]], ParameterInvalid),
        (
            "an unknown client",
            &[("client_id", "x"), good[1]],
            Reason::AuthorizeClientUnknown,
        ),
    ] {
        assert_eq!(judged(pairs), Some(reason), "{what}");
    }
    let posted = Sent {
        endpoint: Endpoint::Authorize,
        ..Sent::par(&good)
    };
    assert_eq!(posted.reason(), None);
    let long = format!("{URN}{}", "a".repeat(600));
    assert_eq!(
        judged(&[good[0], ("request_uri", &long)]),
        Some(RequestUriForeign)
    );
}

#[test]
fn fapi1_takes_objects_at_the_front_too() {
    let object = object(&json!({}), &json!({"response_mode": "jwt"}));
    let judged = |pairs: &[(&str, &str)]| Sent::authorize(Profile::Fapi1Advanced, pairs).reason();
    let good = [("client_id", "tpp"), ("request", object.as_str())];
    assert_eq!(judged(&good), None);
    assert_eq!(judged(&[good[0], good[1], ("scope", "accounts")]), None);
    assert_eq!(
        judged(&[good[0], good[1], ("scope", "payments")]),
        Some(ParameterConflict)
    );
    assert_eq!(
        judged(&[good[0], ("response_type", "code")]),
        Some(RequestObjectMissing)
    );
    assert_eq!(
        judged(&[("client_id", "other"), good[1]]),
        Some(Reason::AuthorizeClientUnknown)
    );
    let both = [good[0], good[1], ("request_uri", "urn:x")];
    assert_eq!(judged(&both), Some(RequestUriForbidden));
}

#[test]
fn a_client_that_is_not_active() {
    let inactive = json!({"status": "suspended"});
    let uri = format!("{URN}abc");
    for sent in [
        push(&[]),
        Sent::assertion(&assertion(&json!({}), &json!({}))),
        Sent::authorize(
            Profile::Fapi2,
            &[("client_id", "tpp"), ("request_uri", &uri)],
        ),
    ] {
        let sent = Sent {
            entry: entry(&inactive),
            ..sent
        };
        assert_eq!(sent.reason(), Some(Reason::ClientInactive));
    }
}

#[test]
fn keys_that_are_elsewhere_are_asked_for_when_they_are_wanted() {
    let elsewhere = json!({"jwks": null, "jwks_uri": "https://tpp.example/jwks"});
    let sent = Sent {
        entry: entry(&elsewhere),
        ..push(&[])
    };
    assert_eq!(
        sent.walk().unwrap(),
        ["body", "client", "keys", "first use"]
    );
    let uri = format!("{URN}abc");
    let sent = Sent {
        entry: entry(&elsewhere),
        ..Sent::authorize(
            Profile::Fapi2,
            &[("client_id", "tpp"), ("request_uri", &uri)],
        )
    };
    assert_eq!(sent.walk().unwrap(), ["body", "client"]);
}

#[test]
fn an_encrypted_object_passes_where_the_route_says_so() {
    // JAR-16
    let assertion = assertion(&json!({}), &json!({}));
    let with = |object: &str, more: &[(&str, &str)]| {
        let mut pairs = vec![
            ("request", object),
            ("client_assertion_type", KIND),
            ("client_assertion", &assertion),
        ];
        pairs.extend(more);
        Sent {
            encrypted: true,
            ..Sent::par(&pairs)
        }
    };
    let sent = |more| with("a.b.c.d.e", more);
    assert_eq!(sent(&[]).reason(), None);
    // What is neither signed nor encrypted is not let by as if it were.
    for neither in ["a", "a.b", "a.b.c", "a.b.c.d", "a.b.c.d.e.f"] {
        let reason = with(neither, &[]).reason();
        assert_eq!(reason, Some(Reason::RequestObjectMalformed), "{neither}");
    }
    assert_eq!(
        sent(&[("scope", "accounts")]).reason(),
        Some(ParameterConflict)
    );
}

#[test]
fn endpoints_have_the_words_of_the_configuration() {
    let words = [Endpoint::Par, Endpoint::Authorize, Endpoint::Token].map(Endpoint::name);
    assert_eq!(words, ["par", "authorize", "token"]);
}
