use serde_json::json;

use super::*;
use crate::pdp::head::tests::head;

/// What holds `tok` looks like a token.
struct Rules;

impl Private for Rules {
    fn digest(&self, kind: &str, _: &[&[u8]]) -> String {
        kind.to_owned()
    }

    fn plain_subject(&self) -> bool {
        false
    }

    fn clean<'t>(&self, text: &'t str, _: usize) -> Cow<'t, str> {
        text.replace("tok", "...").into()
    }
}

fn facts(target: &str, names: &[&str]) -> Value {
    let mut fields = vec![("host", "api.bank.example")];
    fields.extend(names.iter().map(|name| (*name, "1")));
    let seen = Seen::of(&head("GET", target, &fields).unwrap());
    serde_json::to_value(seen.facts(&Rules)).unwrap()
}

#[test]
fn what_is_not_there_is_not_written() {
    let plain = facts("/a", &[]);
    for name in ["cut", "token_in_query", "more", "interaction_id"] {
        assert!(plain.get(name).is_none(), "{plain}");
    }
    assert_eq!(facts("/a?access_token=x", &[])["token_in_query"], true);
    let cut = facts("/a/tok", &["x-tok"]);
    assert_eq!(cut["cut"], true);
    assert_eq!(cut["path"], "/a/...");
    assert_eq!(cut["more"], 1);
    assert_eq!(cut["headers"], json!(["host"]));
}

#[test]
fn so_many_headers_of_so_many_letters() {
    for (letters, more) in [
        (NAME_LETTERS, None),
        (NAME_LETTERS + 1, Some(1)),
        (NAME_LETTERS + 2, Some(1)),
    ] {
        let name = "n".repeat(letters);
        let found = facts("/a", &[&name]);
        assert_eq!(found.get("more").and_then(Value::as_u64), more, "{letters}");
    }
    let many: Vec<String> = (0..NAMES + 1).map(|n| format!("x-{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let found = facts("/a", &many);
    assert_eq!(found["headers"].as_array().unwrap().len(), NAMES);
    assert_eq!(found["more"], 2, "one, and the host");
}
