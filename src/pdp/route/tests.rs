use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::pdp::head::tests::head;
use crate::pdp::path::tests::{careless_server, hostile_path};
use crate::pdp::pattern::{End, Segment};
use crate::pdp::policy::{ForwardRules, MethodSet, RouteLimits, UpstreamName};
use crate::pdp::{PeerCertificate, Thumbprint, UnixTime};

/// A route in short: pattern, methods (empty for `"*"`), and what else differs.
pub(crate) fn entry(
    pattern: &str,
    methods: &[&str],
    change: impl FnOnce(&mut Route),
) -> (Pattern, Arc<Route>) {
    let methods = if methods.is_empty() {
        MethodSet::Any
    } else {
        let named = methods
            .iter()
            .map(|m| Method::from_bytes(m.as_bytes()).unwrap());
        MethodSet::These(named.collect())
    };
    let mut route = Route {
        index: 0,
        name: format!("{pattern} {methods:?}").into(),
        methods,
        access: Access::Open,
        // Upstreams differ unless a test says otherwise, so that no two routes are alike.
        upstream: UpstreamName(format!("{pattern} upstream").into()),
        path_allow: Ambiguities::default(),
        case_insensitive: false,
        websocket: false,
        rewrite: None,
        limits: RouteLimits::default(),
        forward: Arc::new(ForwardRules {
            authorization: false,
            host: None,
            strip: Vec::new(),
            headers: Vec::new(),
        }),
        shadow: None,
        observe_until: None,
    };
    change(&mut route);
    (Pattern::parse(pattern).unwrap(), Arc::new(route))
}

fn table(entries: Vec<(Pattern, Arc<Route>)>) -> RouteTable {
    try_table(entries).unwrap_or_else(|conflicts| panic!("{conflicts:?}"))
}

fn try_table(entries: Vec<(Pattern, Arc<Route>)>) -> Result<RouteTable, Vec<RouteConflict>> {
    let hosts = ["API.bank.example".into(), "[::1]".into()];
    RouteTable::build("bank".into(), &hosts, &[8443], 100, entries)
}

/// The upstream of the route that a request has, without the word, or why it has none.
fn find(table: &RouteTable, method: &str, target: &str) -> Result<String, Reason> {
    let head = head(method, target, &[("host", "api.bank.example")]).map_err(|r| r.reason())?;
    match table.find(&head) {
        Ok(route) => Ok(route.upstream.0.trim_end_matches(" upstream").to_owned()),
        Err(refusal) => Err(refusal.reason()),
    }
}

fn plain(entries: &[(&str, &[&str])]) -> RouteTable {
    let entries = entries.iter().map(|(p, m)| entry(p, m, |_| {}));
    table(entries.collect())
}

const AMBIGUOUS: Result<&str, Reason> = Err(Reason::TargetAmbiguous);
const NOWHERE: Result<&str, Reason> = Err(Reason::RouteNotFound);

fn check(table: &RouteTable, cases: &[(&str, Result<&str, Reason>)]) {
    for (target, expected) in cases {
        let found = find(table, "GET", target);
        assert_eq!(found, expected.map(str::to_owned), "{target}");
    }
}

#[test]
fn the_most_specific_pattern_is_chosen() {
    let table = plain(&[
        ("/accounts/**", &[]),
        ("/accounts/{id}/balances", &[]),
        ("/accounts/me/**", &[]),
        ("/accounts/vault", &[]),
        ("/{any}/x/y", &[]),
        ("/ping", &[]),
        ("/slash/", &[]),
        ("/", &[]),
    ]);
    check(
        &table,
        &[
            ("/", Ok("/")),
            ("/accounts", Ok("/accounts/**")),
            ("/accounts/", Ok("/accounts/**")),
            ("/accounts/1", Ok("/accounts/**")),
            ("/accounts/1/2/3/", Ok("/accounts/**")),
            ("/accounts/1/balances", Ok("/accounts/{id}/balances")),
            // A look back: no route under the literal, so the segment is any other.
            ("/accounts/vault/balances", Ok("/accounts/{id}/balances")),
            ("/accounts/me/balances", Ok("/accounts/me/**")),
            ("/accounts/me", Ok("/accounts/me/**")),
            ("/accounts/vault", Ok("/accounts/vault")),
            ("/accounts/vault/1", Ok("/accounts/**")),
            ("/accounts/x/y", Ok("/accounts/**")),
            ("/other/x/y", Ok("/{any}/x/y")),
            ("/ping", Ok("/ping")),
            ("/ping?x=/accounts/1", Ok("/ping")),
            // AUTHZ-01: what no route names is 404.
            ("/ping/", NOWHERE),
            ("/ping/x", NOWHERE),
            ("/slash/", Ok("/slash/")),
            ("/slash", NOWHERE),
            ("/Ping", NOWHERE),
            ("/pin", NOWHERE),
            ("/pings", NOWHERE),
            ("/accountsx", NOWHERE),
            ("/admin?/accounts/", NOWHERE),
            ("/other/x", NOWHERE),
        ],
    );
}

#[test]
fn a_parameter_is_one_segment_that_is_not_empty() {
    let open = |r: &mut Route| r.path_allow.double_slash = true;
    let table = table(vec![
        entry("/a/{id}", &[], open),
        entry("/b/{id}/c", &[], open),
        entry("/b/**", &[], open),
    ]);
    check(
        &table,
        &[
            ("/a/1", Ok("/a/{id}")),
            ("/a/%20", Ok("/a/{id}")),
            ("/a/", NOWHERE),
            ("/a", NOWHERE),
            ("/a/1/", NOWHERE),
            ("/a//", AMBIGUOUS),
            ("/b/1/c", Ok("/b/{id}/c")),
            ("/b//c", Ok("/b/**")),
        ],
    );
}

#[test]
fn escapes_that_mean_the_same_are_the_same() {
    // RFC 3986 s2.1: or else another spelling would slip past a stricter route.
    let table = plain(&[("/a/**", &[]), ("/a/caf%C3%A9", &[]), ("/a/$batch", &[])]);
    check(
        &table,
        &[
            ("/a/caf%c3%a9", Ok("/a/caf%C3%A9")),
            ("/a/caf%C3%A9", Ok("/a/caf%C3%A9")),
            ("/a/%24batch", Ok("/a/$batch")),
            ("/a/$batch", Ok("/a/$batch")),
        ],
    );
}

#[test]
fn a_method_is_looked_for_in_the_best_pattern_only() {
    let table = plain(&[
        ("/a/**", &[]),
        ("/a/{id}", &["POST", "GET"]),
        ("/a/{name}", &["PUT"]),
        ("/any", &[]),
    ]);
    assert_eq!(find(&table, "GET", "/a/1"), Ok("/a/{id}".into()));
    assert_eq!(find(&table, "PUT", "/a/1"), Ok("/a/{name}".into()));
    for (method, target, allow) in [
        ("DELETE", "/a/1", "GET,POST,PUT"),
        // AUTHZ-04: HEAD is not implied by GET; methods are compared letter for letter.
        ("HEAD", "/a/1", "GET,POST,PUT"),
        ("get", "/a/1", "GET,POST,PUT"),
        // HTTP-16
        ("TRACE", "/any", "DELETE,GET,HEAD,OPTIONS,PATCH,POST,PUT"),
    ] {
        let head = head(method, target, &[("host", "api.bank.example")]).unwrap();
        let refusal = table.find(&head).unwrap_err();
        assert_eq!(
            refusal.reason(),
            Reason::MethodNotAllowed,
            "{method} {target}"
        );
        assert_eq!(refusal.advice().unwrap().allow.join(","), allow);
    }
    assert_eq!(find(&table, "FOO", "/any"), Ok("/any".into()));
}

#[test]
fn the_other_slash_is_no_way_around_a_stricter_route() {
    // GHSA of this class: Spring Security, where /admin/ met no rule that was written for /admin.
    let table = plain(&[
        ("/**", &[]),
        ("/admin", &[]),
        ("/deep/{id}", &["GET"]),
        ("/site/", &[]),
    ]);
    check(
        &table,
        &[
            ("/admin", Ok("/admin")),
            ("/admin/", AMBIGUOUS),
            ("/admin/x", Ok("/**")),
            ("/deep/1/", AMBIGUOUS),
            ("/site/", Ok("/site/")),
            ("/site", AMBIGUOUS),
            ("/", Ok("/**")),
        ],
    );
    // Where both lead to the same, there is nothing to get around.
    let alike = |r: &mut Route| r.upstream = UpstreamName("same".into());
    let table = try_table(vec![
        entry("/accounts", &["GET", "POST"], alike),
        entry("/accounts/**", &["GET"], alike),
    ])
    .unwrap();
    check(&table, &[("/accounts/", Ok("same"))]);
    // And where both are written, both are meant.
    let table = plain(&[("/a", &[]), ("/a/", &[]), ("/a/**", &[])]);
    check(
        &table,
        &[("/a", Ok("/a")), ("/a/", Ok("/a/")), ("/a/x", Ok("/a/**"))],
    );
}

#[test]
fn blanks_and_dots_are_no_way_around_a_stricter_route() {
    let table = plain(&[("/accounts/**", &[]), ("/accounts/vault/**", &[])]);
    check(
        &table,
        &[
            ("/accounts/vault/1", Ok("/accounts/vault/**")),
            ("/accounts/vault%20/1", AMBIGUOUS),
            ("/accounts/%20vault/1", AMBIGUOUS),
            ("/accounts/vault./1", AMBIGUOUS),
            ("/accounts/vault.../1", AMBIGUOUS),
            ("/accounts/vault.%20", AMBIGUOUS),
            ("/accounts/vault%c2%a0/1", AMBIGUOUS),
            ("/accounts/other./1", Ok("/accounts/**")),
            ("/accounts/a%20b%20", Ok("/accounts/**")),
            // Another case is another path, unless the upstream says that it is not.
            ("/accounts/Vault/1", Ok("/accounts/**")),
        ],
    );
}

fn kit() -> RouteTable {
    let read = ["GET", "HEAD", "OPTIONS"];
    plain(&[
        ("/public/**", &[]),
        ("/accounts/**", &read),
        ("/accounts/vault/**", &[]),
        ("/payments/**", &[]),
    ])
}

#[test]
fn tricks_of_the_bench() {
    // AUTHZ-05: none of these may reach an upstream as anything but an account.
    let table = kit();
    check(
        &table,
        &[
            ("/accounts/../admin/x", AMBIGUOUS),
            ("/accounts/a/b/../../../admin/x", AMBIGUOUS),
            ("/../../admin/x", AMBIGUOUS),
            ("/./admin/x", AMBIGUOUS),
            ("/accounts/./../admin/x", AMBIGUOUS),
            ("/accounts/%2e%2e/admin/x", AMBIGUOUS),
            ("/accounts/%2E./admin/x", AMBIGUOUS),
            ("/accounts/.%2e/admin/x", AMBIGUOUS),
            ("/accounts/..%2fadmin/x", AMBIGUOUS),
            ("/accounts%2f..%2f..%2fadmin", AMBIGUOUS),
            ("/%61dmin/x", AMBIGUOUS),
            ("/%61%64%6d%69%6e/x", AMBIGUOUS),
            ("//admin/x", AMBIGUOUS),
            ("/accounts//../admin/x", AMBIGUOUS),
            ("/accounts//..//admin/x", AMBIGUOUS),
            ("/accounts/..;/admin/x", AMBIGUOUS),
            ("/admin;v=1/x", AMBIGUOUS),
            ("/accounts;x=/../admin/x", AMBIGUOUS),
            ("/accounts/..%3b/admin/x", AMBIGUOUS),
            ("/admin/x;jsessionid=1", AMBIGUOUS),
            ("/ADMIN/x", NOWHERE),
            ("/Admin/x", NOWHERE),
            ("/accounts\\..\\admin\\x", AMBIGUOUS),
            ("/admin./x", NOWHERE),
            ("/admin%20/x", NOWHERE),
            ("/admin%09/x", AMBIGUOUS),
            ("/accounts/%c0%ae%c0%ae/admin/x", AMBIGUOUS),
            ("/accounts/%ef%bc%8e%ef%bc%8e/admin/x", Ok("/accounts/**")),
            ("/accounts/%/../admin/x", AMBIGUOUS),
            ("/accounts/%zz/../admin/x", AMBIGUOUS),
            ("/admin?/accounts/", NOWHERE),
            ("/public/../admin/x", AMBIGUOUS),
            ("/public/%2e%2e/admin/x", AMBIGUOUS),
            ("/public/..%2fadmin/x", AMBIGUOUS),
            ("/public/..;/accounts/1", AMBIGUOUS),
            ("/public//../accounts/1", AMBIGUOUS),
            ("/public\\..\\admin\\x", AMBIGUOUS),
            ("/public/..%2faccounts", AMBIGUOUS),
            ("/accounts/%252e%252e/admin/x", AMBIGUOUS),
            ("http://evil.test/accounts/1", Err(Reason::RequestMalformed)),
            ("/accounts/vault/1", Ok("/accounts/vault/**")),
            ("/accounts/vault", Ok("/accounts/vault/**")),
            ("/accounts/%76%61%75%6c%74/1", AMBIGUOUS),
            ("/accounts/%2576ault/1", AMBIGUOUS),
            ("/accounts/x/..%2fvault/1", AMBIGUOUS),
            ("/accounts/vault;a=b/1", AMBIGUOUS),
            ("/accounts/vault%3f/1", AMBIGUOUS),
            ("/accounts/vault%23", AMBIGUOUS),
            // GHSA and CVE of section 6: a newline or a query never meets a path rule.
            ("/admin%0a/accounts/1", AMBIGUOUS),
            ("/accounts/1%0d%0aHost:x", AMBIGUOUS),
            ("/admin#/accounts/", NOWHERE),
        ],
    );
    for path in [
        "/accounts/a%20b",
        "/accounts/%E2%82%AC",
        "/accounts/a:b@c!$&'()*+,=",
        "/accounts/",
        "/accounts",
        "/accounts/a.b..c/...",
        "/accounts/a%3Fb%23c",
    ] {
        assert_eq!(
            find(&table, "GET", path),
            Ok("/accounts/**".into()),
            "{path}"
        );
    }
}

fn open(names: &[&str]) -> Ambiguities {
    Ambiguities {
        encoded_slash: names.contains(&"encoded-slash"),
        encoded_percent: names.contains(&"encoded-percent"),
        semicolon: names.contains(&"semicolon"),
        double_slash: names.contains(&"double-slash"),
    }
}

#[test]
fn what_a_route_opens_still_cannot_leave_it() {
    let all = [
        "encoded-slash",
        "encoded-percent",
        "semicolon",
        "double-slash",
    ];
    let table = table(vec![
        entry("/raw/**", &[], |r| r.path_allow = open(&all)),
        entry("/raw/strict/**", &[], |_| {}),
        entry("/raw/admin", &[], |_| {}),
        entry("/slash/**", &[], |r| {
            r.path_allow = open(&["encoded-slash"])
        }),
        entry("/one/{id}", &[], |r| r.path_allow = open(&all)),
    ]);
    check(
        &table,
        &[
            // HTTP-09
            ("/raw/a%2Fb", Ok("/raw/**")),
            ("/raw/100%25", Ok("/raw/**")),
            ("/raw/a%252Fb", Ok("/raw/**")),
            ("/raw/a;v=1/b", Ok("/raw/**")),
            ("/raw/a%3bv=1/b", Ok("/raw/**")),
            ("/raw//a", Ok("/raw/**")),
            ("/raw/a//b;c%2Fd%25", Ok("/raw/**")),
            ("/slash/a%2Fb", Ok("/slash/**")),
            ("/slash/a%25b", AMBIGUOUS),
            ("/slash/a%2Fb;c", AMBIGUOUS),
            ("/slash//b", AMBIGUOUS),
            // Never dot segments, however they come.
            ("/raw/..%2fx", AMBIGUOUS),
            ("/raw/%252e%252e/x", AMBIGUOUS),
            ("/raw/..;/x", AMBIGUOUS),
            ("/raw/..%253b/x", AMBIGUOUS),
            // Nor a stricter neighbour by another reading.
            ("/raw%2Fstrict/1", AMBIGUOUS),
            ("/raw/strict%2F1", AMBIGUOUS),
            ("/raw//strict/1", AMBIGUOUS),
            ("/raw/;/strict/1", AMBIGUOUS),
            ("/raw/strict;a=b/1", AMBIGUOUS),
            ("/raw/%2573trict/1", AMBIGUOUS),
            ("/raw/%252573trict/1", AMBIGUOUS),
            ("/raw/%2Fstrict", AMBIGUOUS),
            ("/raw/strict%253f/x", AMBIGUOUS),
            ("/raw/admin;x", AMBIGUOUS),
            ("/raw/admin%2f", AMBIGUOUS),
            ("/raw/admin/;x", AMBIGUOUS),
            ("/raw/admin%2520", AMBIGUOUS),
            // Nor out of what any route names.
            ("/raw;x/a", AMBIGUOUS),
            ("/one/a%2Fb", AMBIGUOUS),
            ("/one/a;b", Ok("/one/{id}")),
            ("/one/100%25", Ok("/one/{id}")),
            ("/none/a%2Fb", AMBIGUOUS),
        ],
    );
}

#[test]
fn one_route_does_not_open_for_another_of_its_pattern() {
    let table = table(vec![
        entry("/a/**", &["GET"], |r| {
            r.path_allow = open(&["semicolon"]);
        }),
        entry("/a/**", &["POST"], |_| {}),
    ]);
    assert_eq!(find(&table, "GET", "/a/x;y"), Ok("/a/**".into()));
    let post = find(&table, "POST", "/a/x;y");
    assert_eq!(post, Err(Reason::TargetAmbiguous));
    assert_eq!(find(&table, "POST", "/a/x"), Ok("/a/**".into()));
}

#[test]
fn the_log_says_what_no_route_opens() {
    let all = [
        ("encoded-slash", "%2F"),
        ("encoded-percent", "%25"),
        ("semicolon", ";"),
        ("double-slash", "//"),
    ];
    let names = all.map(|(name, _)| name);
    for (name, form) in all {
        for (other, beside) in all.iter().filter(|(other, _)| *other != name) {
            let table = table(vec![
                entry("/a/**", &["GET"], |r| r.path_allow = open(&[other])),
                entry("/a/**", &["POST"], |r| r.path_allow = open(&names)),
            ]);
            let target = format!("/a/x{form}y{beside}z");
            let head = head("GET", &target, &[("host", "api.bank.example")]).unwrap();
            let refusal = table.find(&head).map(drop).unwrap_err();
            assert_eq!(refusal.reason(), Reason::TargetAmbiguous);
            let said = refusal.detail().unwrap();
            assert_eq!(said, format!("no path_allow opens {name}"), "{target}");
        }
    }
}

#[test]
fn an_upstream_without_letter_case() {
    let fold = |r: &mut Route| r.case_insensitive = true;
    let table = table(vec![
        entry("/Files/**", &[], fold),
        entry("/files/secret/**", &[], |_| {}),
        entry("/files/hidden", &[], fold),
        entry("/other/**", &[], |_| {}),
    ]);
    check(
        &table,
        &[
            ("/files/a", Ok("/Files/**")),
            ("/FILES/a", Ok("/Files/**")),
            ("/FILES/HIDDEN", Ok("/files/hidden")),
            ("/files/secret/1", Ok("/files/secret/**")),
            // The variant is not the strict route's, but the upstream would take it for that.
            ("/files/SECRET/1", AMBIGUOUS),
            ("/Files/secret/1", AMBIGUOUS),
            ("/files/", Ok("/Files/**")),
            ("/files/%C5%BFecret/1", AMBIGUOUS),
            ("/files/hidden/", AMBIGUOUS),
            ("/files/SECRET%20/1", AMBIGUOUS),
            // Windows trims these.
            ("/files/a.", AMBIGUOUS),
            ("/files/a%20", AMBIGUOUS),
            ("/files/a%20/b", AMBIGUOUS),
            ("/files/a.b/c%20d", Ok("/Files/**")),
            ("/other/a.", Ok("/other/**")),
            ("/OTHER/a", NOWHERE),
        ],
    );
}

#[test]
fn a_case_variant_meets_only_routes_without_case() {
    let table = table(vec![
        entry("/a", &["GET"], |r| r.case_insensitive = true),
        entry("/a", &["POST"], |_| {}),
    ]);
    assert_eq!(find(&table, "GET", "/A"), Ok("/a".into()));
    assert_eq!(find(&table, "POST", "/a"), Ok("/a".into()));
    assert_eq!(find(&table, "POST", "/A"), Err(Reason::MethodNotAllowed));
}

#[test]
fn routes_that_could_tie_make_no_table() {
    let conflict = |entries: Vec<(Pattern, Arc<Route>)>| {
        let found = try_table(entries).err().unwrap_or_default();
        found
            .iter()
            .map(|c| c.methods.join(","))
            .collect::<Vec<_>>()
    };
    let none = |_: &mut Route| {};
    let fold = |r: &mut Route| r.case_insensitive = true;
    assert_eq!(
        conflict(vec![
            entry("/a", &["GET", "PUT"], none),
            entry("/a", &["PUT"], none)
        ]),
        ["PUT"]
    );
    assert_eq!(
        conflict(vec![
            entry("/a/{x}", &["GET"], none),
            entry("/a/{y}", &[], none)
        ]),
        ["GET"]
    );
    assert_eq!(
        conflict(vec![entry("/a/**", &[], none), entry("/a/**", &[], none)]),
        ["*"]
    );
    assert_eq!(
        conflict(vec![
            entry("/a", &["GET"], fold),
            entry("/A", &["PUT"], none)
        ]),
        [""]
    );
    assert_eq!(
        conflict(vec![
            entry("/a", &["GET"], none),
            entry("/A", &["GET"], none)
        ]),
        [""; 0]
    );
    assert_eq!(
        conflict(vec![
            entry("/a", &["GET"], none),
            entry("/a", &["PUT"], none)
        ]),
        [""; 0]
    );
    assert_eq!(
        conflict(vec![
            entry("/a", &["GET"], none),
            entry("/a/", &["GET"], none)
        ]),
        [""; 0]
    );
    for (first, second) in [("/a", "/A"), ("/A", "/a")] {
        let tie = try_table(vec![
            entry(first, &["GET"], |r| {
                r.name = "one".into();
                r.case_insensitive = true;
            }),
            entry(second, &["PUT"], |r| r.name = "other".into()),
        ]);
        let tie = tie.unwrap_err();
        assert_eq!(tie.len(), 1);
        assert_eq!((&*tie[0].first, &*tie[0].second), ("one", "other"));
        assert_eq!(&*tie[0].pattern, second);
    }
    let all = try_table(vec![
        entry("/a", &[], none),
        entry("/a", &["GET"], none),
        entry("/a", &["GET"], none),
    ]);
    let all = all.unwrap_err();
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|c| c.to_string().contains("GET")));
}

#[test]
fn hidden_methods_are_listed() {
    let hiding = plain(&[
        ("/a/**", &["GET", "POST"]),
        ("/a/b/**", &["GET"]),
        ("/a/c", &[]),
        ("/d", &["GET"]),
        ("/{x}", &["PUT", "GET"]),
    ]);
    let mut found: Vec<String> = hiding.hidden().iter().map(ToString::to_string).collect();
    found.sort();
    assert_eq!(
        found,
        [
            "`/a/**` hides PUT of `/{x}`: where both match, those are refused with 405",
            "`/a/b/**` hides POST of `/a/**`: where both match, those are refused with 405",
            "`/d` hides PUT of `/{x}`: where both match, those are refused with 405",
        ]
    );
    // One upstream without letter case is enough, whichever of the two it is.
    for folds in [true, false] {
        let mixed = table(vec![
            entry("/Files/**", &["GET"], |r| r.case_insensitive = folds),
            entry("/files/x", &["POST"], |r| r.case_insensitive = !folds),
        ]);
        let found: Vec<String> = mixed.hidden().iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            ["`/files/x` hides GET of `/Files/**`: where both match, those are refused with 405"]
        );
    }
}

fn peer(listener: &str, certificate: bool) -> Arc<Peer> {
    let zero = UnixTime::from_secs(0);
    Arc::new(Peer {
        remote: "192.0.2.1:1000".parse().unwrap(),
        local: "192.0.2.2:9443".parse().unwrap(),
        listener: listener.into(),
        certificate: certificate.then(|| PeerCertificate {
            thumbprint: Thumbprint::from_bytes([0; 32]),
            thumbprint_text: "".into(),
            der: Box::default(),
            not_before: zero,
            not_after: zero,
            subject: "".into(),
            issuer: "".into(),
            serial: "".into(),
            organization_id: None,
            psd2_roles: Vec::new(),
            psd2_authority: None,
        }),
    })
}

fn walk(
    host: &str,
    target: &str,
    peer: &Arc<Peer>,
    standing: Option<Standing>,
) -> (Result<usize, Reason>, Trail) {
    let snapshot = Arc::new(Snapshot {
        nonces: None,
        generation: 1,
        tables: vec![plain(&[("/open/**", &[])])],
        issuers: Vec::new(),
    });
    let inbound = Inbound {
        head: head("GET", target, &[("host", host)]).unwrap(),
        peer: Arc::clone(peer),
        standing,
        body: (),
    };
    let mut trail = Trail::default();
    let found = route(inbound, &snapshot, &mut trail);
    (found.map(|r| r.token_bytes).map_err(|r| r.reason()), trail)
}

#[test]
fn the_authority_is_the_listeners() {
    // HTTP-07; Traefik GHSA-5r4w-85f3-pw66, GHSA-9cr8-q42q-g8m7, CVE-2022-23632: SNI is not Host.
    let wrong = Err(Reason::AuthorityMismatch);
    for (host, expected) in [
        ("api.bank.example", Ok(100)),
        ("API.BANK.example.", Ok(100)),
        ("api.bank.example:443", Ok(100)),
        ("api.bank.example:8443", Ok(100)),
        ("api.bank.example:9443", Ok(100)),
        ("[0::1]", Ok(100)),
        ("api.bank.example:80", wrong),
        ("api.bank.example:8444", wrong),
        ("evil.test", wrong),
        ("api.bank.example.evil.test", wrong),
        ("x.api.bank.example", wrong),
        ("api.bank.example..", wrong),
        ("127.0.0.1", wrong),
        ("localhost", wrong),
    ] {
        let (found, _) = walk(host, "/open/1", &peer("bank", false), None);
        assert_eq!(found, expected, "{host}");
    }
    // 421 before 404, and where the listener is gone.
    let found = walk("evil.test", "/nowhere", &peer("bank", false), None).0;
    assert_eq!(found, wrong);
    assert_eq!(
        walk("api.bank.example", "/open/1", &peer("gone", false), None).0,
        wrong
    );
}

#[test]
fn trust_does_not_outlive_its_evidence() {
    // On open routes too, and before 404.
    for (standing, certificate, expected) in [
        (None, false, Ok(100)),
        (Some(Standing::Trusted), true, Ok(100)),
        (
            Some(Standing::Revoked),
            true,
            Err(Reason::CertificateRevoked),
        ),
        (
            Some(Standing::Expired),
            true,
            Err(Reason::CertificateExpired),
        ),
        (
            Some(Standing::Untrusted),
            true,
            Err(Reason::CertificateUntrusted),
        ),
        (None, true, Err(Reason::CertificateUntrusted)),
    ] {
        let peer = peer("bank", certificate);
        let (found, trail) = walk("api.bank.example", "/open/1", &peer, standing);
        assert_eq!(found, expected, "{standing:?}");
        assert_eq!(trail.route.is_some(), expected.is_ok());
        let elsewhere = walk("api.bank.example", "/nowhere", &peer, standing).0;
        assert_eq!(elsewhere, expected.and(Err(Reason::RouteNotFound)));
        let misdirected = walk("evil.test", "/open/1", &peer, standing).0;
        assert_eq!(misdirected, Err(Reason::AuthorityMismatch));
    }
}

/// A server that trims segments and drops those that are empty then would serve what stands after
/// one of blanks (found by `no_path_leaves_its_route`).
#[test]
fn a_segment_that_is_trimmed_away_hides_no_stricter_route() {
    let opened = |r: &mut Route| {
        r.path_allow = Ambiguities {
            encoded_slash: true,
            encoded_percent: true,
            ..Ambiguities::default()
        };
    };
    let table = table(vec![
        entry("/accounts/**", &[], opened),
        entry("/accounts/vault/**", &[], |_| {}),
    ]);
    for path in [
        "/accounts/%c2%a0%2Fvault/",
        "/accounts/%20/vault/1",
        "/accounts/.../vault/1",
        "/accounts/%20...%20/vault/1",
        "/accounts/%2520%252Fvault/1",
    ] {
        let found = find(&table, "GET", path).err();
        assert_eq!(found, Some(Reason::TargetAmbiguous), "{path}");
    }
    for path in ["/accounts/a%20b/vault", "/accounts/a...b/1", "/accounts/1/"] {
        assert!(find(&table, "GET", path).is_ok(), "{path}");
    }
}

/// The contract's rule, word for word and without a tree: of the patterns that match, the most
/// specific one, segment by segment.
fn naive<'p>(patterns: &'p [Pattern], path: &str) -> Option<&'p Pattern> {
    let slash = path.ends_with('/');
    let inside = path.trim_start_matches('/');
    let inside = inside.strip_suffix('/').unwrap_or(inside);
    let segments: Vec<&str> = inside.split('/').filter(|s| !s.is_empty()).collect();
    let ranks = |p: &Pattern| -> Option<Vec<u8>> {
        let mut ranks = Vec::new();
        for (at, segment) in p.segments.iter().enumerate() {
            let sent = segments.get(at)?;
            match segment {
                Segment::Literal(text) if **text == **sent => ranks.push(0),
                Segment::Literal(_) => return None,
                Segment::Parameter(_) => ranks.push(1),
            }
        }
        let more = segments.len() > p.segments.len();
        match p.end {
            End::Below => ranks.push(2),
            End::Plain if !more && !slash => {}
            End::Slash if !more && slash => {}
            End::Plain | End::Slash => return None,
        }
        Some(ranks)
    };
    let mut matching: Vec<(Vec<u8>, &Pattern)> = patterns
        .iter()
        .filter_map(|p| ranks(p).map(|r| (r, p)))
        .collect();
    matching.sort_by(|a, b| a.0.cmp(&b.0));
    matching.first().map(|(_, p)| *p)
}

fn some_pattern() -> impl Strategy<Value = String> {
    let segment =
        prop_oneof![3 => "[ab]", 1 => Just("{x}".to_owned()), 1 => Just("vault".to_owned())];
    (prop::collection::vec(segment, 0..4), 0..3).prop_map(|(segments, end)| {
        let mut text = String::new();
        for (at, segment) in segments.iter().enumerate() {
            text.push('/');
            text.push_str(&segment.replace("{x}", &format!("{{x{at}}}")));
        }
        match end {
            0 => text.push_str("/**"),
            1 => text.push('/'),
            _ if text.is_empty() => text.push('/'),
            _ => {}
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The tree finds what the plain rule finds; and only where a slash decides does it refuse.
    #[test]
    fn the_tree_equals_the_rule(
        texts in prop::collection::vec(some_pattern(), 1..8),
        path in "/([abc]/?|vault/?){0,4}",
    ) {
        let mut patterns: Vec<Pattern> = Vec::new();
        for text in &texts {
            let pattern = Pattern::parse(text).unwrap();
            if !patterns.iter().any(|p| p.same_paths(&pattern)) {
                patterns.push(pattern);
            }
        }
        let entries = patterns.iter().map(|p| entry(p.as_str(), &[], |_| {}));
        let table = table(entries.collect());
        let expected = naive(&patterns, &path).map(Pattern::as_str);
        let other = match path.strip_suffix('/') {
            Some(bare) => bare.to_owned(),
            None => format!("{path}/"),
        };
        match find(&table, "GET", &path) {
            Ok(found) => prop_assert_eq!(Some(&*found), expected),
            Err(Reason::RouteNotFound) => prop_assert_eq!(None, expected),
            Err(reason) => {
                prop_assert_eq!(reason, Reason::TargetAmbiguous);
                prop_assert_ne!(naive(&patterns, &other).map(Pattern::as_str), expected);
            }
        }
    }

    /// Precedence, as `check` and the conflicts see it, is what the rule does.
    #[test]
    fn precedence_is_the_rule(a in some_pattern(), b in some_pattern(), path in "/([ab]/?|vault/?){0,4}") {
        let (a, b) = (Pattern::parse(&a).unwrap(), Pattern::parse(&b).unwrap());
        let matches = |p: &Pattern| naive(std::slice::from_ref(p), &path).is_some();
        if matches(&a) && matches(&b) {
            let ordered = a.precedence(&b, false);
            prop_assert!(ordered.is_some(), "{a} and {b} both match {path}");
            let both = [a.clone(), b.clone()];
            let chosen = naive(&both, &path).unwrap();
            match ordered.unwrap() {
                std::cmp::Ordering::Greater => prop_assert_eq!(chosen.as_str(), a.as_str()),
                std::cmp::Ordering::Less => prop_assert_eq!(chosen.as_str(), b.as_str()),
                std::cmp::Ordering::Equal => prop_assert!(a.same_paths(&b)),
            }
        }
    }

    /// Whatever is sent, and however often a careless server decodes it: what it serves is what the
    /// chosen route names, and never the stricter route inside.
    #[test]
    fn no_path_leaves_its_route(path in hostile_path(), under in prop::sample::select(vec!["", "/accounts", "/public"]), decodes in 0_usize..5, opened in any::<[bool; 4]>(), fold in any::<bool>()) {
        let allow = |r: &mut Route| {
            r.path_allow = Ambiguities { encoded_slash: opened[0], encoded_percent: opened[1], semicolon: opened[2], double_slash: opened[3] };
            r.case_insensitive = fold;
        };
        let table = table(vec![
            entry("/public/**", &[], allow),
            entry("/accounts/**", &[], allow),
            entry("/accounts/vault/**", &[], |_| {}),
        ]);
        let sent = format!("{under}{path}");
        let Ok(uri) = sent.parse::<http::Uri>() else { return Ok(()) };
        if uri.path() != sent {
            return Ok(());
        }
        if let Ok(chosen) = find(&table, "GET", &sent) {
            let mut seen = careless_server(&sent, decodes);
            if fold {
                seen.iter_mut().for_each(|s| *s = s.to_lowercase());
            }
            let base = chosen.trim_end_matches("/**").trim_start_matches('/');
            let base: Vec<&str> = base.split('/').collect();
            prop_assert!(seen.len() >= base.len() && base.iter().zip(&seen).all(|(b, s)| b == s), "{sent} of {chosen} read as {seen:?}");
            if base == ["accounts"] {
                prop_assert_ne!(seen.get(1).map(String::as_str), Some("vault"), "{} read as {:?}", sent, seen);
            }
        }
    }

    /// The same table and path give the same answer, whatever order the routes were written in.
    #[test]
    fn order_does_not_matter(texts in prop::collection::hash_set(some_pattern(), 1..6), path in "/([ab]/?|vault/?){0,4}") {
        let mut unique: HashMap<String, Pattern> = HashMap::new();
        for text in &texts {
            let pattern = Pattern::parse(text).unwrap();
            if !unique.values().any(|p| p.same_paths(&pattern)) {
                unique.insert(text.clone(), pattern);
            }
        }
        let mut names: Vec<&String> = unique.keys().collect();
        names.sort();
        let forward = table(names.iter().map(|t| entry(t, &[], |_| {})).collect());
        names.reverse();
        let backward = table(names.iter().map(|t| entry(t, &[], |_| {})).collect());
        prop_assert_eq!(find(&forward, "GET", &path), find(&backward, "GET", &path));
    }
}
