//! Where a token may stand, and how.

use super::{get, playing};
use crate::lab::client::Request;
use crate::support::stage::assert_refused;

#[test]
fn the_scheme_is_compared_without_case_and_may_stand_off() {
    // PRES-01, PRES-02
    let token = playing().token();
    for value in [
        format!("Bearer {token}"),
        format!("bEaReR {token}"),
        format!("BEARER   {token}"),
    ] {
        let request = get().field("Authorization", &value);
        assert_eq!(
            playing().client().call(&request).unwrap().status,
            200,
            "{value}"
        );
    }
    let request = get().field("aUTHORIZATION", &format!("Bearer {token}"));
    assert_eq!(playing().client().call(&request).unwrap().status, 200);
}

#[test]
#[rustfmt::skip]
fn credentials_that_are_missing_broken_or_too_many() {
    // PRES-03 to PRES-08, PRES-11
    let token = playing().token();
    let bearer = format!("Bearer {token}");
    let in_query = format!("/accounts/1?access_token={token}");
    let hidden = format!("/accounts/1?a=b&access%5Ftoken={token}");
    let form = format!("access_token={token}");
    let cases = [
        ("no credentials", get(), 401, "token_missing", ""),
        ("in the query", Request::get(&in_query), 400, "token_in_query", "invalid_request"),
        ("in the query, hidden", Request::get(&hidden), 400, "token_in_query", "invalid_request"),
        ("in the query and the header", Request::get(&in_query).token(&token), 400, "token_in_query", "invalid_request"),
        ("in a form", Request::post("/accounts/1", form).field("Content-Type", "application/x-www-form-urlencoded"), 401, "token_missing", ""),
        ("in a cookie", get().field("Cookie", &format!("access_token={token}")), 401, "token_missing", ""),
        ("Basic", get().field("Authorization", "Basic dXNlcjpwYXNz"), 401, "scheme_unsupported", ""),
        ("twice", get().token(&token).token(&token), 400, "token_repeated", "invalid_request"),
        ("two schemes", get().token(&token).field("Authorization", &format!("DPoP {token}")), 400, "token_repeated", "invalid_request"),
        ("no token after the scheme", get().field("Authorization", "Bearer"), 400, "credentials_malformed", "invalid_request"),
        ("two words", get().field("Authorization", &format!("{bearer} b")), 400, "credentials_malformed", "invalid_request"),
        ("no token68", get().field("Authorization", "Bearer !!!"), 400, "credentials_malformed", "invalid_request"),
        ("a list", get().field("Authorization", &format!("{bearer}, {bearer}")), 400, "token_repeated", "invalid_request"),
        ("a JSON serialisation", get().field("Authorization", "Bearer {\"payload\":\"e30\"}"), 400, "credentials_malformed", "invalid_request"),
        ("empty", get().field("Authorization", ""), 400, "credentials_malformed", "invalid_request"),
    ];
    for (name, request, status, reason, error) in cases {
        let case = format!("pres {name}");
        let answer = playing().client().call(&request.case(&case)).unwrap();
        assert_refused(&answer, status, reason);
        let challenges = answer.all("www-authenticate");
        if error.is_empty() {
            assert!(
                !challenges.iter().any(|c| c.contains("error")),
                "{name}: {challenges:?}"
            );
        } else {
            let wanted = format!("error=\"{error}\"");
            assert!(
                challenges.iter().any(|c| c.contains(&wanted)),
                "{name}: {challenges:?}"
            );
        }
        assert!(playing().stage.legacy.seen(&case).is_empty(), "{name}");
    }
}
