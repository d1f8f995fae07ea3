use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

const FACTS: Facts<'_> = Facts {
    interaction_id: "93bac548-d2de-4546-b106-880a5018460d",
    time: "2026-11-22T08:15:30Z",
};

fn codes(codes: &[(&str, &str)], without_body: &[&str]) -> Result<Codes, Fault> {
    let codes = codes
        .iter()
        .map(|(key, code)| ((*key).into(), (*code).into()));
    let without_body = without_body.iter().map(|name| (*name).into());
    Codes::new(codes.collect(), without_body.collect())
}

fn format(template: &str, codes: Codes) -> Format {
    Format {
        content_type: HeaderValue::from_static("application/json"),
        template: Template::parse(template).unwrap(),
        codes,
    }
}

fn said(format: &Format, reason: Reason) -> Value {
    serde_json::from_str(&format.body(reason, &FACTS, false).unwrap()).unwrap()
}

// ERR-06
#[test]
fn the_markets_have_their_own_shapes() {
    let uk = format(
        r#"{ "Code": "{status} {status_text}", "Id": "{interaction_id}", "Message": "{description}",
             "Errors": [ { "ErrorCode": "{code}", "Message": "{description}" } ] }"#,
        codes(
            &[
                ("default", "UK.OBIE.UnexpectedError"),
                ("header_required", "UK.OBIE.Header.Missing"),
            ],
            &[],
        )
        .unwrap(),
    );
    assert_eq!(
        uk.body(Reason::HeaderRequired, &FACTS, false).unwrap(),
        concat!(
            r#"{"Code":"400 Bad Request","Id":"93bac548-d2de-4546-b106-880a5018460d","#,
            r#""Message":"A required header field is missing.","Errors":[{"ErrorCode":"UK.OBIE.Header.Missing","#,
            r#""Message":"A required header field is missing."}]}"#,
            "\n"
        )
    );
    let brazil = format(
        r#"{"errors":[{"code":"{code}","title":"{status_text}","detail":"{description}"}],"meta":{"requestDateTime":"{time}"}}"#,
        codes(&[("default", "ERRO"), ("403", "NAO_AUTORIZADO")], &[]).unwrap(),
    );
    assert_eq!(
        said(&brazil, Reason::ScopeInsufficient),
        json!({
            "errors": [{"code": "NAO_AUTORIZADO", "title": "Forbidden", "detail": "The access token lacks a required scope."}],
            "meta": {"requestDateTime": "2026-11-22T08:15:30Z"},
        })
    );
    let australia = format(
        r#"{"errors":[{"code":"{code}","title":"{status_text}","detail":"{description}"}]}"#,
        codes(
            &[(
                "default",
                "urn:au-cds:error:cds-all:GeneralError/Unexpected",
            )],
            &[],
        )
        .unwrap(),
    );
    assert_eq!(
        said(&australia, Reason::KeysUnavailable)["errors"][0]["title"],
        "Service Unavailable"
    );
    let berlin = format(
        r#"{"tppMessages":[{"category":"ERROR","code":"{code}","text":"{description}"}]}"#,
        codes(
            &[
                ("default", "INTERNAL_SERVER_ERROR"),
                ("401", "TOKEN_INVALID"),
                ("token_missing", "TOKEN_UNKNOWN"),
            ],
            &[],
        )
        .unwrap(),
    );
    for (reason, code) in [
        (Reason::TokenExpired, "TOKEN_INVALID"),
        (Reason::TokenMissing, "TOKEN_UNKNOWN"),
        (Reason::Internal, "INTERNAL_SERVER_ERROR"),
    ] {
        assert_eq!(said(&berlin, reason)["tppMessages"][0]["code"], code);
    }
    let problem = format(
        r#"{"type":"about:blank","title":"{status_text}","status":"{status_number}","detail":"{description}","of":"{error}"}"#,
        Codes::default(),
    );
    let loop_detected = said(&problem, Reason::LoopDetected);
    assert_eq!(loop_detected["status"], 508, "a number");
    assert_eq!(loop_detected["title"], "Loop Detected");
    assert_eq!(loop_detected["of"], "server_error");
}

// OBUK-11
#[test]
fn a_market_may_want_no_body() {
    let silent = codes(&[], &["401", "not_found"]).unwrap();
    let format = format(r#"{"error":"{error}"}"#, silent);
    for reason in [
        Reason::TokenMissing,
        Reason::TokenExpired,
        Reason::RouteNotFound,
    ] {
        assert_eq!(format.body(reason, &FACTS, true), None);
    }
    assert!(
        format
            .body(Reason::ScopeInsufficient, &FACTS, false)
            .is_some()
    );
}

#[test]
fn the_reason_stands_in_it_where_it_is_disclosed() {
    let format_of = |template| format(template, Codes::default());
    let body = |template| {
        format_of(template)
            .body(Reason::TokenExpired, &FACTS, true)
            .unwrap()
    };
    assert_eq!(
        body(r#" {"a" : [ "b" ] } "#),
        "{\"a\":[\"b\"],\"reason\":\"token_expired\"}\n"
    );
    assert_eq!(body(r#"{"reason":"no"}"#), "{\"reason\":\"no\"}\n");
}

// ERR-04: what our own body does not tell apart, the market's does not either.
#[test]
fn a_code_tells_no_more_than_our_own_body() {
    for told in [
        codes(&[("token_expired", "a"), ("default", "b")], &[]),
        codes(&[("token_expired", "a")], &[]),
        codes(&[], &["token_expired"]),
        codes(
            &[("keys_unavailable", "a"), ("replay_unavailable", "b")],
            &[],
        ),
    ] {
        let fault = told.unwrap_err();
        assert!(
            fault.wrong.starts_with("this would tell clients "),
            "{}",
            fault.wrong
        );
    }
    for fine in [
        codes(&[("token_missing", "a"), ("default", "b")], &[]),
        codes(
            &[
                ("upstream_unreachable", "a"),
                ("upstream_untrusted", "a"),
                ("default", "b"),
            ],
            &[],
        ),
        codes(
            &[
                ("invalid_token", "a"),
                ("invalid_request", "b"),
                ("503", "c"),
            ],
            &["403"],
        ),
    ] {
        assert!(fine.is_ok());
    }
}

#[test]
fn the_narrowest_name_counts() {
    let all = [
        ("default", "d"),
        ("401", "s"),
        ("invalid_token", "e"),
        ("token_missing", "r"),
    ];
    let codes = codes(&all, &[]).unwrap();
    for (reason, code) in [
        (Reason::TokenMissing, "r"),
        (Reason::TokenExpired, "e"),
        (Reason::ProofExpired, "s"),
        (Reason::RouteNotFound, "d"),
    ] {
        assert_eq!(codes.said(&reason.spec()), Said::Code(code));
    }
    assert_eq!(codes.without_code(), None);
}

#[test]
fn names_that_nothing_has_are_refused() {
    for name in ["token_expired", "invalid_dpop_proof", "431", "default"] {
        assert_eq!(Codes::selects(name), Ok(()), "{name}");
    }
    for name in ["", "200", "4xx", "Token_Expired", "token_exired"] {
        assert!(Codes::selects(name).is_err(), "{name}");
    }
}

#[test]
fn what_has_a_body_has_a_code_or_is_named() {
    let without_code = |known: &[(&str, &str)], silent: &[&str]| {
        let codes = codes(known, silent).unwrap();
        assert_eq!(codes.is_empty(), known.is_empty());
        codes.without_code()
    };
    assert_eq!(without_code(&[], &[]), Some(Reason::ALL[0]));
    assert_eq!(without_code(&[("default", "x")], &[]), None);
    assert_eq!(without_code(&[], &["default"]), None);
    let unauthorized = without_code(&[("401", "x")], &[]).unwrap();
    assert_ne!(unauthorized.spec().status.code(), 401);
    let all_but_one: Vec<(&str, &str)> = ["400", "401", "403"].map(|key| (key, "x")).into();
    let other = without_code(&all_but_one, &["404"]).unwrap();
    assert!(![400, 401, 403, 404].contains(&other.spec().status.code()));
}

#[test]
fn a_template_says_whether_it_has_a_code() {
    for (template, has) in [
        (r#"{"a":"{code}"}"#, true),
        (r#"{"a":"x {status} {code}","b":1}"#, true),
        (r#"{"code":"{error}"}"#, false),
        (r#"{"a":"code"}"#, false),
    ] {
        assert_eq!(
            Template::parse(template).unwrap().has_code(),
            has,
            "{template}"
        );
    }
}

#[test]
fn what_is_wrong_with_a_template_is_said() {
    for (template, wrong) in [
        ("", "this is not a JSON object"),
        ("[\"{error}\"]", "this is not a JSON object"),
        ("{\"a\":{status}}", "this is not a JSON object"),
        ("{\"a\":\"b\"} x", "this is not a JSON object"),
        ("{}", "this object says nothing"),
        ("{\"a\":\"{reason}\"}", "there is no placeholder {reason}"),
        ("{\"a\":\"{}\"}", "there is no placeholder {}"),
        ("{\"a\":\"{ error }\"}", "there is no placeholder { error }"),
        ("{\"a\":\"{error\"}", "a { has no }"),
        ("{\"a\":\"error}\"}", "a } stands alone"),
        (
            "{\"{error}\":\"a\"}",
            "the name of a member has a placeholder",
        ),
        (
            "{\"{status_number}\" : 1}",
            "{status_number} is not the whole",
        ),
        (
            "{\"a\":\"x{status_number}\"}",
            "{status_number} is not the whole",
        ),
        (
            "{\"a\":\"{status_number}x\"}",
            "{status_number} is not the whole",
        ),
    ] {
        let fault = Template::parse(template).expect_err(template);
        assert!(
            fault.wrong.starts_with(wrong),
            "{template}: {}",
            fault.wrong
        );
        assert!(!fault.right.is_empty());
    }
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(TEMPLATE_BYTES));
    assert_eq!(
        Template::parse(&long).unwrap_err().wrong,
        "this has 4104 bytes"
    );
    let most = long.replacen("xxxxxxxx", "", 1);
    assert_eq!(most.len(), TEMPLATE_BYTES);
    assert!(Template::parse(&most).is_ok());
    // What there is, for whoever wrote something else.
    for template in ["", "{\"a\":\"{reason}\"}"] {
        let right = Template::parse(template).unwrap_err().right;
        for (name, _) in Fact::ALL {
            assert!(right.contains(&format!("{{{name}}}")), "{name}: {right}");
        }
    }
    // Braces and quotes that are none.
    let template = r#"{"a\"\u007b":1,"b":"\u007b\\{error}\""}"#;
    let odd = format(template, Codes::default());
    assert_eq!(
        odd.body(Reason::RouteNotFound, &FACTS, false).unwrap(),
        "{\"a\\\"\\u007b\":1,\"b\":\"\\u007b\\\\not_found\\\"\"}\n"
    );
}

// No code leaves its string.
#[test]
fn values_are_escaped() {
    let odd = "\",\"admin\":\"\\\n\u{1}\u{85}é";
    let format = format(
        r#"{"a":"{code}"}"#,
        codes(&[("default", odd)], &[]).unwrap(),
    );
    assert_eq!(said(&format, Reason::Internal), json!({"a": odd}));
}

/// What may stand in a name, then what may stand in a value, and seldom what may not.
fn words(of: &'static [&'static str]) -> impl Strategy<Value = String> {
    const NEVER: &[&str] = &["{", "}", "{status_number}", "{reason}"];
    let word = prop_oneof![40 => prop::sample::select(of), 1 => prop::sample::select(NEVER)];
    prop::collection::vec(word, 0..6).prop_map(|words| words.concat())
}

const ODD: &[&str] = &["a", "\\\"", "\\\\", "\\u007b", " ", ":", "é", ",", "["];
const PLACED: &[&str] = &[
    "{code}",
    "{error}",
    "{description}",
    "{status}",
    "{status_text}",
    "{interaction_id}",
    "{time}",
    "\\\"",
    "\\\\",
    "\\u007d",
    ":",
];

/// A JSON object of strings with placeholders, quotes, escapes and blanks in them.
fn templates() -> impl Strategy<Value = String> {
    let blank = prop::sample::select(&["", " ", "\n\t"][..]);
    prop::collection::vec((words(ODD), blank, words(PLACED)), 1..5).prop_map(|members| {
        let member = |(index, (name, blank, value)): (usize, (String, &str, String))| {
            format!(
                "\"{index}{name}\"{blank}:{blank}[\"{value}\",null,\"{{status_number}}\"{blank},-1.5e3]{blank}"
            )
        };
        let members: Vec<_> = members.into_iter().enumerate().map(member).collect();
        format!("{{{}}}", members.join(","))
    })
}

proptest! {
    // Whatever is accepted makes JSON, of every reason, with any code.
    #[test]
    fn an_accepted_template_makes_json(template in templates(), code in "\\PC*|[\"\\\\\\x00-\\x1f]*") {
        if let Ok(template) = Template::parse(&template) {
            let format = Format {
                content_type: HeaderValue::from_static("application/json"),
                template,
                codes: codes(&[("default", &code)], &[]).unwrap(),
            };
            for reason in Reason::ALL {
                for disclose in [false, true] {
                    let body = format.body(*reason, &FACTS, disclose).unwrap();
                    let value: Result<Map<String, Value>, _> = serde_json::from_str(&body);
                    prop_assert!(value.is_ok(), "{body}");
                }
            }
        }
    }

    // No text makes it stumble.
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*|[{}\"\\\\:a-z ]*") {
        drop(Template::parse(&text));
    }
}
