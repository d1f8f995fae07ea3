//! Policies: what is built in, the examples, and inheritance.

use portcullis::config;

use super::*;

#[test]
fn the_built_in_ones_and_the_examples_load() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/examples");
    let mut text = format!("policies = {:?}\n{MINIMAL}", examples.display().to_string());
    let names = [
        "accounts-read",
        "payments",
        "uk-open-banking-errors",
        "fapi2",
        "fapi1-advanced",
        "fapi1-baseline",
    ];
    for name in names {
        text.push_str(&format!(
            "[[route]]\nname = \"{name}\"\npath = \"/{name}\"\nmethods = [\"GET\"]\nupstream = \"core\"\npolicy = \"{name}\"\n"
        ));
    }
    let checked = load_text(&text).unwrap_or_else(|problems| panic!("{}", said(&problems)));
    for name in names {
        assert!(
            checked
                .print()
                .contains(&format!("# ---- policy {name}, on")),
            "{name}"
        );
    }
    for (name, text) in config::built_in_policies() {
        assert!(text.starts_with("# "), "{name} explains itself");
    }
}

/// The policy of a route, as it is printed: without the commented lines' marks.
fn effective(policy: &str) -> String {
    let text = format!(
        "policies = \"kit/policies\"\n{MINIMAL}\n[[route]]\nname = \"it\"\npath = \"/\"\nmethods = [\"GET\"]\nupstream = \"core\"\npolicy = {policy}\n"
    );
    let checked = load_text(&text).unwrap_or_else(|problems| panic!("{}", said(&problems)));
    let printed = checked.print();
    let (_, after) = printed.split_once("# ---- policy it, on").unwrap();
    let own = after.split("# ----").next().unwrap();
    own.lines()
        .map(|line| line.trim_start_matches("# "))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_key_replaces_the_inherited_one_whole_and_tables_go_by_member() {
    let it = effective(r#"{ extends = "payments", scopes = ["refunds"] }"#);
    assert!(it.contains("scopes = [\"refunds\"]"), "{it}");
    assert!(it.contains("acr = [\"urn:bank:acr:sca\"]"), "{it}");
    assert!(it.contains("binding = [\"mtls\", \"dpop\"]"), "{it}");
    let text = format!(
        "policies = \"members\"\n{MINIMAL}\n[[route]]\nname = \"it\"\npath = \"/\"\nmethods = [\"GET\"]\nupstream = \"core\"\npolicy = {{ extends = \"base\", claims = {{ b = {{ equals = 2 }} }} }}\n"
    );
    std::fs::create_dir_all(bench().join("members")).unwrap();
    let base = "[claims]\na = { present = true }\nb = { present = true }\n";
    std::fs::write(bench().join("members/base.toml"), base).unwrap();
    let checked = load_text(&text).unwrap_or_else(|problems| panic!("{}", said(&problems)));
    let printed = format!("{:?}", checked.snapshot);
    assert!(printed.contains("(\"a\", Present(true))"), "{printed}");
    assert!(printed.contains("(\"b\", Equals(Number(2)))"), "{printed}");
}

// ERR-06, CFG-04
#[test]
fn an_error_format_is_inherited_by_member() {
    let profile = r#"
[error_format]
content_type = "application/json; charset=utf-8"
body = '{"code":"{code}"}'
codes = { default = "a", not_found = "b" }
"#;
    let own = |format: &str| {
        let policy = format!("{{ extends = \"market\", error_format = {format} }}");
        with_profile(profile, &policy)
    };
    assert!(own("{ codes = { not_found = \"c\" }, without_body = [\"401\"] }").is_ok());
    let reported = own("{ body = '{\"e\":\"{error}\"}' }").unwrap();
    assert!(
        reported.contains("this has no effect: body has no {code}"),
        "{reported}"
    );
    let refused = own("{ codes = { token_expired = \"c\" } }").unwrap_err();
    assert!(refused.contains("is for the log alone"), "{refused}");
}

#[test]
fn without_extends_it_is_fapi2() {
    let it = effective(r#"{ scopes = ["a"] }"#);
    assert!(it.trim_start().starts_with("fapi2"), "{it}");
    assert!(it.contains("binding = [\"mtls\", \"dpop\"]"), "{it}");
}

#[test]
fn routes_of_one_policy_share_it() {
    let mut text = format!("policies = \"kit/policies\"\n{MINIMAL}");
    for path in ["/a", "/b"] {
        text.push_str(&format!(
            "[[route]]\nname = {path:?}\npath = {path:?}\nmethods = [\"GET\"]\nupstream = \"core\"\npolicy = \"payments\"\n"
        ).replacen("name = \"/", "name = \"", 1));
    }
    let checked = load_text(&text).unwrap_or_else(|problems| panic!("{}", said(&problems)));
    assert_eq!(checked.print().matches("# ---- policy payments").count(), 1);
}

/// A market's profile in the policies folder, and what is reported of a policy that stands on it.
fn with_profile(profile: &str, policy: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("market.toml"), profile).unwrap();
    let text = format!(
        "policies = {:?}\n{MINIMAL}\n[[route]]\nname = \"it\"\npath = \"/\"\nmethods = [\"GET\"]\nupstream = \"core\"\npolicy = {policy}\n",
        folder.path().display().to_string()
    );
    let loaded = load_text(&text);
    loaded
        .map(|checked| reported(&checked))
        .map_err(|problems| said(&problems))
}

const MARKET: &str = "
[[duty]]
id = \"OBUK-03\"
clause = \"v4.0 message signing\"
text = \"Requests are signed.\"
not_enforced = \"message signing is not built\"
[[duty]]
id = \"MTLS-05\"
clause = \"v4.0\"
text = \"Tokens are bound.\"
by = [\"binding\", \"client_trust\"]
";

// CFG-04
#[test]
fn a_profile_is_a_file_and_its_gaps_are_accepted_by_name() {
    let refused = with_profile(MARKET, "{ extends = \"market\" }").unwrap_err();
    assert!(
        refused.contains("demands OBUK-03 (Requests are signed.)"),
        "{refused}"
    );
    assert!(refused.contains("accept_gaps = [\"OBUK-03\"]"), "{refused}");
    // The profile itself is a policy of the folder too.
    let accepting = format!("accept_gaps = [\"OBUK-03\"]\n{MARKET}");
    let accepted = "{ extends = \"market\", max_lifetime = \"10m\", accept_gaps = [\"OBUK-03\"] }";
    let reports = with_profile(&accepting, accepted).unwrap();
    let line =
        "policy it: fapi2: 32 of 33 duties enforced; not OBUK-03 (message signing is not built)";
    assert!(reports.contains(line), "{reports}");
    // It is a recommendation.
    let should = MARKET.replacen("clause", "level = \"should\"\nclause", 1);
    assert!(with_profile(&should, "{ extends = \"market\" }").is_ok());
    // What a policy takes back is named.
    let bearer = accepted.replace("extends", "binding = [\"mtls\", \"none\"], extends");
    let reports = with_profile(&accepting, &bearer).unwrap();
    assert!(
        reports.contains("MTLS-05 (binding: unbound tokens pass)"),
        "{reports}"
    );
    for (profile, policy, wrong) in [
        (
            MARKET,
            "{ extends = \"market\", accept_gaps = [\"OBUK-03\", \"MTLS-05\"] }",
            "MTLS-05 is no gap of a profile",
        ),
        (
            &MARKET.replace("by = [\"binding\", \"client_trust\"]", ""),
            accepted,
            "enforced by somebody, or not",
        ),
        (
            &MARKET.replace("\"client_trust\"", "\"faith\""),
            accepted,
            "faith",
        ),
        (
            &MARKET.replace("\"OBUK-03\"", "\"\""),
            accepted,
            "this is empty",
        ),
    ] {
        let refused = with_profile(profile, policy).unwrap_err();
        assert!(refused.contains(wrong), "{refused}");
    }
}

#[test]
fn whole_profiles_are_said_to_be_whole() {
    let reports = with_profile("", "{ max_lifetime = \"10m\" }").unwrap();
    assert!(
        reports.contains("fapi2: 32 of 32 duties enforced"),
        "{reports}"
    );
    let reports = with_profile("", "\"fapi2\"").unwrap();
    assert!(
        reports.contains("policy fapi2: fapi2: 31 of 32 duties enforced; not INT-14"),
        "{reports}"
    );
}
