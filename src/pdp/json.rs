//! JSON as tokens and keys need it: each member once, at every depth, and not nested without end.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Deepest nesting of a token's header and claims, or of a key set.
const DEPTH: u8 = 16;

/// Reads a JSON object in which no member name comes twice (RFC 7515 s4, RFC 7519 s4) and nothing
/// stands after it.
///
/// # Errors
/// What is wrong and where, without any value of the text.
pub fn object(text: &[u8]) -> Result<Map<String, Value>, String> {
    read(text, Twice::Refuse)
}

/// The same, but an object within in which a member name comes twice is read as `null`, so that
/// it does not spoil what stands beside it.
///
/// # Errors
/// As [`object`].
pub fn object_of_objects(text: &[u8]) -> Result<Map<String, Value>, String> {
    read(text, Twice::Null)
}

/// The members of these names, in their order, of an object that is read as by [`object`]; what else
/// it has is looked at and not kept. The names differ.
///
/// # Errors
/// As [`object`].
pub fn members<const N: usize>(
    text: &[u8],
    names: [&'static str; N],
) -> Result<[Option<Value>; N], String> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    Deserializer::deserialize_map(&mut reader, Picked { names })
        .and_then(|found| reader.end().map(|()| found))
        .map_err(|error| plain(&error))
}

fn read(text: &[u8], twice: Twice) -> Result<Map<String, Value>, String> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Strict {
        depth: DEPTH,
        twice,
    }
    .deserialize(&mut reader)
    .and_then(|value| reader.end().map(|()| value))
    .map_err(|error| plain(&error))?;
    match value {
        Value::Object(members) => Ok(members),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(NO_OBJECT.to_owned())
        }
    }
}

/// What becomes of an object in which a member name comes twice.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Twice {
    Refuse,
    Null,
}

/// The error with its place. Serde's own message may quote what it found, which a log must not
/// hold, so that only our own words and its category are kept.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = match [TWICE, DEEP]
        .into_iter()
        .find(|ours| text.starts_with(ours))
    {
        Some(ours) => ours,
        // JSON, but of another type than was asked for.
        None if error.is_data() => return NO_OBJECT.to_owned(),
        None => "not JSON",
    };
    format!("{what} at column {}", error.column())
}

const NO_OBJECT: &str = "not a JSON object with each member once";
const TWICE: &str = "a member comes twice";
const DEEP: &str = "nested too deep";

#[derive(Clone, Copy)]
struct Strict {
    depth: u8,
    twice: Twice,
}

impl Strict {
    fn inner<E: Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| E::custom(DEEP))?;
        Ok(Self { depth, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let seed = self.inner()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(seed)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let seed = self.inner()?;
        let mut members = Map::new();
        let mut repeated = false;
        while let Some(name) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(seed)?;
            if members.insert(name, value).is_some() {
                if self.twice == Twice::Refuse {
                    return Err(A::Error::custom(TWICE));
                }
                repeated = true;
            }
        }
        Ok(if repeated {
            Value::Null
        } else {
            Value::Object(members)
        })
    }
}

/// Reads an object for some of its members.
struct Picked<const N: usize> {
    names: [&'static str; N],
}

/// A member name, borrowed where it has no escape.
#[derive(serde::Deserialize)]
pub(super) struct Name<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

impl<'de, const N: usize> Visitor<'de> for Picked<N> {
    type Value = [Option<Value>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let within = Strict {
            depth: DEPTH,
            twice: Twice::Refuse,
        }
        .inner()?;
        let mut found = [const { None }; N];
        // Of those that are not kept; a set, since their number is the sender's choice.
        let mut others = BTreeSet::new();
        while let Some(Name(name)) = entries.next_key()? {
            let value = entries.next_value_seed(within)?;
            let mut places = self.names.iter().zip(&mut found);
            let twice = match places.find(|(wanted, _)| name == **wanted) {
                Some((_, place)) => place.replace(value).is_some(),
                None => !others.insert(name),
            };
            if twice {
                return Err(A::Error::custom(TWICE));
            }
        }
        Ok(found)
    }
}

/// Whether two values are the same: type and all, but `1` and `1.0` are one number, since JSON
/// does not tell them apart.
#[must_use]
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() != b.is_f64() => {
            a.as_f64() == b.as_f64()
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_member_twice_is_refused_at_every_depth() {
        // TOK-14
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"b":{"a":1,"a":2}}"#,
            r#"{"b":[{"a":1,"a":2}]}"#,
        ] {
            let error = object(text.as_bytes()).expect_err(text);
            assert!(error.starts_with(TWICE), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in [
            "",
            "[]",
            "1",
            "null",
            "{} {}",
            "{}x",
            "{\"a\":}",
            "\u{feff}{}",
            "{'a':1}",
        ] {
            assert!(object(text.as_bytes()).is_err(), "{text}");
        }
        assert!(object(b"{\"a\":\"\xff\"}").is_err(), "UTF-8 only (TOK-16)");
        assert!(object(b" {\"a\":1} ").is_ok());
    }

    #[test]
    fn nesting_has_an_end() {
        let deep = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n), "]".repeat(n));
        assert!(object(deep(15).as_bytes()).is_ok());
        let error = object(deep(16).as_bytes()).expect_err("too deep");
        assert!(error.starts_with(DEEP), "{error}");
    }

    #[test]
    fn one_number_however_it_is_written() {
        let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        for (a, b, one) in [
            ("1", "1.0", true),
            ("1.0", "1", true),
            ("1.5", "1.5", true),
            ("1", "2.0", false),
            ("1", "\"1\"", false),
            // Floating point holds neither of these, and would call them one.
            ("9007199254740993", "9007199254740992", false),
        ] {
            assert_eq!(same(&value(a), &value(b)), one, "{a} {b}");
        }
    }

    #[test]
    fn members_are_those_of_the_object() {
        let picked = |text: &str| members(text.as_bytes(), ["a", "b"]);
        let value = |n: u64| Some(Value::from(n));
        assert_eq!(picked("{}"), Ok([None, None]));
        assert_eq!(
            picked(r#"{"b":2,"c":3,"\u0061":1}"#),
            Ok([value(1), value(2)])
        );
        assert_eq!(picked(r#" {"a":null} "#), Ok([Some(Value::Null), None]));
        for text in [r#"{"a":1,"\u0061":1}"#, r#"{"c":1,"c":1}"#] {
            assert!(picked(text).is_err_and(|error| error.starts_with(TWICE)));
        }
        // What is no JSON at all is another fault, with its place.
        let broken = picked("{\"a\":").unwrap_err();
        assert_eq!(broken, "not JSON at column 5");
        for text in ["[]", "1", "null", "\"a\"", "[1]"] {
            assert_eq!(picked(text), Err(NO_OBJECT.to_owned()), "{text}");
        }
    }

    #[test]
    fn an_error_quotes_nothing() {
        // PRES-10
        let error = object(br#"{"a":"secret"x"#).expect_err("broken");
        assert!(!error.contains("secret") && !error.contains('x'), "{error}");
    }

    /// JSON, or nearly: names that come twice, within and without, nesting, and an end that is none.
    fn nearly_json() -> impl Strategy<Value = String> {
        let scalar = prop_oneof!["[0-9]{1,3}", "\"[a-c]{0,2}\"", Just("null".to_owned())];
        let name = prop_oneof!["[a-d]", Just("\\u0061".to_owned())];
        let value = scalar.prop_recursive(20, 40, 4, move |inner| {
            let entry = (name.clone(), inner.clone()).prop_map(|(k, v)| format!("\"{k}\":{v}"));
            let list = |items: Vec<String>| items.join(",");
            prop_oneof![
                3 => prop::collection::vec(entry, 0..4).prop_map(move |all| format!("{{{}}}", list(all))),
                1 => prop::collection::vec(inner, 0..3).prop_map(move |all| format!("[{}]", list(all))),
            ]
        });
        (
            value,
            prop_oneof![9 => Just(""), 1 => Just(" "), 1 => Just("}"), 1 => Just("{}")],
        )
            .prop_map(|(value, end)| value + end)
    }

    proptest! {
        #[test]
        fn some_members_are_read_as_all_are(text in nearly_json()) {
            let some = members(text.as_bytes(), ["a", "b"]);
            match object(text.as_bytes()) {
                Ok(mut all) => prop_assert_eq!(some, Ok([all.remove("a"), all.remove("b")])),
                Err(_) => prop_assert!(some.is_err(), "{}", text),
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            drop(object(&bytes));
        }

        #[test]
        fn it_reads_what_serde_reads(names in proptest::collection::btree_set("[a-z]{1,4}", 0..6), n: i64) {
            let map: Map<String, Value> = names.into_iter().map(|k| (k, Value::from(n))).collect();
            let text = serde_json::to_vec(&map).expect("serializes");
            prop_assert_eq!(object(&text), Ok(map));
        }
    }
}
