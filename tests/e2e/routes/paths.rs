//! Which route: patterns, methods, paths that are none.

use super::{assert_judged, draft, playing};
use crate::lab::client::Request;
use crate::support::stage::assert_refused;

#[test]
fn what_no_route_names_is_not_found_with_or_without_a_token() {
    // AUTHZ-01, ERR-08
    for target in [
        "/",
        "/nowhere",
        "/accountsx",
        "/Accounts/1",
        "/one/a",
        "/one/a/detail/b",
    ] {
        let answer = playing().call(Request::get(target));
        assert_refused(&answer, 404, "route_not_found");
        let answer = playing().anonymous().call(&Request::get(target)).unwrap();
        assert_refused(&answer, 404, "route_not_found");
        assert!(answer.all("www-authenticate").is_empty());
    }
}

#[test]
fn a_method_that_the_best_pattern_lacks_is_405_and_never_a_wider_pattern_s() {
    // ERR-08, contract "Which route"
    let answer = playing().call(Request::post("/one/a/detail", ""));
    assert_refused(&answer, 405, "method_not_allowed");
    assert_eq!(answer.field("allow"), Some("GET"));
    let answer = playing().call(Request::get("/one/special/detail"));
    assert_refused(&answer, 405, "method_not_allowed");
    assert_eq!(answer.field("allow"), Some("POST"));
    let answer = playing().call(Request::new("PURGE", "/accounts/1"));
    assert_refused(&answer, 405, "method_not_allowed");
    let allow = answer.field("allow").unwrap();
    for method in ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"] {
        assert!(allow.split(", ").any(|m| m == method), "{allow}");
    }
    // HTTP-16: also where a route takes any method.
    let answer = playing().call(Request::new("TRACE", "/public/x"));
    assert_refused(&answer, 405, "method_not_allowed");
}

#[test]
fn the_most_specific_pattern_wins() {
    assert_judged("/accounts/1", &draft(), 200, "");
    assert_judged("/accounts", &draft(), 200, "");
    assert_judged("/accounts/vault/1", &draft(), 403, "scope_insufficient");
    assert_judged("/accounts/vault", &draft(), 403, "scope_insufficient");
    assert_judged("/accounts/vaults", &draft(), 200, "");
    assert_judged("/one/x/detail", &draft(), 200, "");
}

#[test]
fn an_open_route_asks_for_nothing_and_passes_on_no_identity() {
    let request = Request::get("/public/x")
        .case("open")
        .field("X-Auth-Subject", "me");
    assert_eq!(playing().anonymous().call(&request).unwrap().status, 200);
    let seen = playing().stage.legacy.only("open");
    assert_eq!(seen.field("x-auth-subject"), None);
}

#[test]
fn every_method_obeys_the_policy() {
    // AUTHZ-04, PRES-12
    for method in ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"] {
        let request = Request::new(method, "/accounts/1");
        let answer = playing().client().call(&request).unwrap();
        assert_eq!(answer.status, 401, "{method}");
        assert_eq!(playing().call(request).status, 200, "{method}");
    }
}

#[test]
fn paths_that_can_be_read_in_two_ways_are_refused() {
    // AUTHZ-05
    let tricks = [
        "/public/../accounts/1",
        "/public/./x",
        "/accounts/1/..",
        "/accounts/1/.",
        "/public/%2e%2e/accounts/1",
        "/public/%2E%2E/accounts/1",
        "/public/.%2e/x",
        "/public/..%2faccounts",
        "/public/a%2Fb",
        "/public/a%5Cb",
        "/public/a%5cb",
        "/public/a%00b",
        "/public/a%0ab",
        "/public/a%0d%0ab",
        "/public/a%7fb",
        "/public/%61bc",
        "/public/a%2db",
        "/public/%252e%252e/x",
        "/public/%25",
        "/public//x",
        "//public/x",
        "/public/x//",
        "/public/;a=b/x",
        "/public/..;/accounts/1",
        "/public/x%3bb",
        "/public/%",
        "/public/%2",
        "/public/%zz",
        "/public/%c0%ae%c0%ae/x",
        "/public/%u002e",
    ];
    for target in tricks {
        let request = Request::get(target).token(&playing().token()).case("trick");
        let answer = playing().client().call(&request).unwrap();
        if target == "/public/%c0%ae%c0%ae/x" {
            // Escapes that are no UTF-8 may pass, as they are, or not at all.
            assert!(matches!(answer.status, 200 | 400));
            continue;
        }
        assert_eq!(answer.status, 400, "{target}");
        let reason = answer.reason();
        assert!(
            matches!(reason.as_str(), "target_ambiguous" | "request_malformed"),
            "{target}: {reason}"
        );
    }
    for target in [
        "/public/a%20b?x=%2F..%2f;//",
        "/public/~user/%E4%BD%A0",
        "/public/a.b/...",
        "/public/",
    ] {
        let request = Request::get(target).case("same");
        assert_eq!(
            playing().anonymous().call(&request).unwrap().status,
            200,
            "{target}"
        );
        let seen = playing()
            .stage
            .legacy
            .await_seen("same", |seen| seen.target == target);
        assert_eq!(seen.target, target, "HTTP-09");
    }
}

#[test]
fn a_route_opens_what_it_names_and_never_dot_segments() {
    for target in ["/files/a%2Fb", "/files/a%25b", "/files/a;v=1", "/files//a"] {
        let answer = playing().call(Request::get(target).case("allowed"));
        assert_eq!(answer.status, 200, "{target}");
        playing()
            .stage
            .legacy
            .await_seen("allowed", |seen| seen.target == target);
    }
    for target in [
        "/files/../x",
        "/files/..%2Fx",
        "/files/%2e%2e/x",
        "/files/..;/x",
        "/files/a%5Cb",
        "/files/%252e%252e/x",
    ] {
        let answer = playing().call(Request::get(target));
        assert_eq!(answer.status, 400, "{target}: {}", answer.reason());
    }
}
