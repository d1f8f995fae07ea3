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
    let (_, after) = checked.print().split_once("# ---- policy it, on").unwrap();
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
