use serde_json::json;

use super::*;
use crate::pdp::head::tests::head;
use crate::pdp::recorded::peer;

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

/// A quarter of the letters: no letter has more than four bytes.
#[test]
fn a_long_name_of_a_certificate_is_cut_and_says_so() {
    for (letters, left) in [
        (DN_LETTERS, DN_LETTERS),
        (DN_LETTERS + 1, 256),
        (DN_LETTERS * 3, 256),
    ] {
        let came: PeerFacts = serde_json::from_value(json!({
            "remote": "192.0.2.1:50000",
            "listener": "bank",
            "certificate": {
                "thumbprint": "A".repeat(43),
                "subject": "s".repeat(letters),
                "issuer": "CN=TPP CA",
                "serial": "0a1b",
                "roles": ["PSP_AI"],
                "not_before": 1,
                "not_after": 2,
            },
        }))
        .unwrap();
        let found = PeerFacts::of(&peer::stand_in(&came).unwrap(), None);
        assert_eq!(found == came, letters <= DN_LETTERS);
        let found = found.certificate.unwrap();
        assert_eq!(found.subject.len(), left, "of {letters}");
        assert_eq!(found.cut, letters > DN_LETTERS);
    }
}
