//! The body of a request, where a rule is about it: JSON that every reader reads as the same.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, header};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::decimal::Decimal;
use super::json;
use crate::refusal::{Reason, Refusal};

/// Deepest and longest pointer into a body.
const STEPS: usize = 16;

/// Where a value stands in a JSON document (RFC 6901).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(Vec<Box<str>>);

impl Pointer {
    /// Reads `/a/b/0`; the whole document is no value to compare.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err("a JSON pointer begins with / (RFC 6901 s3)");
        };
        let mut steps = Vec::new();
        for step in rest.split('/') {
            let plain = step.replace("~1", "").replace("~0", "");
            if plain.contains('~') {
                return Err("in a JSON pointer ~ is written ~0 and / is written ~1 (RFC 6901 s3)");
            }
            steps.push(step.replace("~1", "/").replace("~0", "~").into());
        }
        if steps.len() > STEPS {
            return Err("a JSON pointer has at most 16 steps here");
        }
        Ok(Self(steps))
    }

    /// The value of a document that is already read.
    #[must_use]
    pub fn of<'v>(&self, document: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(document, |value, step| match value {
            Value::Object(members) => members.get(&**step),
            Value::Array(items) => items.get(index(step)?),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        })
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.0 {
            write!(f, "/{}", step.replace('~', "~0").replace('/', "~1"))?;
        }
        Ok(())
    }
}

/// RFC 6901 s4: digits without a zero in front.
fn index(step: &str) -> Option<usize> {
    let plain = step == "0" || (!step.starts_with('0') && !step.is_empty());
    if plain && step.bytes().all(|byte| byte.is_ascii_digit()) {
        step.parse().ok()
    } else {
        None
    }
}

/// A single value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar {
    /// A string, without its escapes.
    Text(Box<str>),
    /// A number, as its digits stand there.
    Number(Box<str>),
    /// `true` or `false`.
    Bool(bool),
}

impl Scalar {
    /// The amount that it is, as a number or as a string of one.
    #[must_use]
    pub fn amount(&self) -> Option<Decimal> {
        match self {
            Self::Text(text) | Self::Number(text) => Decimal::parse(text),
            Self::Bool(_) => None,
        }
    }

    /// What a claim's value is as one of these. A fraction counts only with so few digits that
    /// floating point has kept all of them.
    #[must_use]
    pub fn of(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text(text.as_str().into())),
            Value::Bool(value) => Some(Self::Bool(*value)),
            Value::Number(number) => {
                let text = number.to_string();
                let digits = text.bytes().filter(u8::is_ascii_digit).count();
                let exact = !number.is_f64() || digits <= 15;
                exact.then(|| Self::Number(text.into()))
            }
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

/// A body that was found to be JSON with one meaning.
#[derive(Debug, Clone)]
pub struct Content(Bytes);

impl Content {
    /// Reads a body. Other parsers than ours will read it after us: what they could read as
    /// something else is refused, never repaired.
    ///
    /// # Errors
    /// `body_unfit`, without any value of the body.
    pub fn read(headers: &HeaderMap, body: Bytes) -> Result<Self, Refusal> {
        let unfit = |why: &str| Refusal::because(Reason::BodyUnfit, why);
        if headers.contains_key(header::CONTENT_ENCODING) {
            return Err(unfit(
                "the body is encoded: what it says cannot be compared",
            ));
        }
        let kind = single(headers, &header::CONTENT_TYPE)
            .ok_or_else(|| unfit("Content-Type is not there exactly once"))?;
        if !is_json(kind) {
            return Err(unfit("Content-Type is not JSON in UTF-8"));
        }
        if let Err(why) = json::object(&body) {
            return Err(unfit(&format!("the body is not fit to be compared: {why}")));
        }
        Ok(Self(body))
    }

    /// The value at this place; `None` where there is none, or a list, an object or `null`.
    ///
    /// # Errors
    /// `body_unfit`, where a name on the way differs from another in case only: parsers that do
    /// not look at case would choose the other.
    pub fn at(&self, pointer: &Pointer) -> Result<Option<Scalar>, Refusal> {
        let Ok(mut text) = std::str::from_utf8(&self.0) else {
            return Ok(None);
        };
        for step in &pointer.0 {
            let next = match text.trim_start().as_bytes().first() {
                Some(b'{') => {
                    let Ok(Members(members)) = serde_json::from_str(text) else {
                        return Ok(None);
                    };
                    let alike = members
                        .iter()
                        .filter(|(name, _)| name.to_lowercase() == step.to_lowercase());
                    if alike.count() > 1 {
                        let why = format!("two names differ from {pointer} in case only");
                        return Err(Refusal::because(Reason::BodyUnfit, why));
                    }
                    let found = members.into_iter().find(|(name, _)| **name == **step);
                    found.map(|(_, value)| value)
                }
                Some(b'[') => {
                    let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(text) else {
                        return Ok(None);
                    };
                    index(step).and_then(|at| items.get(at).copied())
                }
                _ => None,
            };
            match next {
                Some(value) => text = value.get(),
                None => return Ok(None),
            }
        }
        Ok(scalar(text.trim()))
    }
}

fn scalar(text: &str) -> Option<Scalar> {
    match text.as_bytes().first()? {
        b'"' => serde_json::from_str::<String>(text)
            .ok()
            .map(|text| Scalar::Text(text.into())),
        b't' => Some(Scalar::Bool(true)),
        b'f' => Some(Scalar::Bool(false)),
        b'-' | b'0'..=b'9' => Some(Scalar::Number(text.into())),
        _ => None,
    }
}

fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// `application/json` or a `+json` type; where a charset is named, UTF-8.
fn is_json(kind: &str) -> bool {
    let mut parts = kind.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    let json = essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"));
    json && parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    })
}

/// The members of an object, each value as it is written.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = entries.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        reader.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_printed_as_it_was_written() {
        for text in ["/a", "/a/0/b", "/", "/a~1b/~0/~01"] {
            assert_eq!(Pointer::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_pointer_has_an_end() {
        assert!(Pointer::parse(&"/a".repeat(STEPS)).is_ok());
        assert!(Pointer::parse(&"/a".repeat(STEPS + 1)).is_err());
        assert!(Pointer::parse(&"/a".repeat(STEPS * 2)).is_err());
    }

    /// AUTHZ-10: what floating point may have rounded is no amount; a whole number is not rounded.
    #[test]
    fn a_claim_that_may_be_rounded_is_no_amount() {
        for (text, counts) in [
            ("1234567890.12345", true),
            ("1234567890.123456", false),
            ("0.1", true),
            ("1234567890123456789", true),
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(Scalar::of(&value).is_some(), counts, "{text}");
        }
    }

    /// RFC 6901 s4, s5.
    #[test]
    fn a_list_is_counted_from_zero() {
        let text = r#"{"a":["x","y",3,{"b":"z"},5,6,7,8,9,10,"k"],"":"e","0":"n"}"#;
        let document: Value = serde_json::from_str(text).unwrap();
        let body = Content(Bytes::from_static(text.as_bytes()));
        for (pointer, expected) in [
            ("/a/0", Some("x")),
            ("/a/1", Some("y")),
            ("/a/3/b", Some("z")),
            ("/a/10", Some("k")),
            ("/", Some("e")),
            ("/0", Some("n")),
            ("/a/11", None),
            ("/a/00", None),
            ("/a/01", None),
            ("/a/+1", None),
            ("/a/-", None),
            ("/a/", None),
            ("/a/x", None),
            ("/a", None),
            ("/a/0/0", None),
        ] {
            let expected = expected.map(|text| Scalar::Text(text.into()));
            let pointer = Pointer::parse(pointer).unwrap();
            assert_eq!(body.at(&pointer).unwrap(), expected, "{pointer}");
            let of = pointer.of(&document).and_then(Scalar::of);
            assert_eq!(of, expected, "{pointer}");
        }
    }

    #[test]
    fn a_truth_is_a_value() {
        for (text, expected) in [
            ("true", Some(Scalar::Bool(true))),
            ("false", Some(Scalar::Bool(false))),
            ("null", None),
        ] {
            assert_eq!(scalar(text), expected);
        }
    }

    /// AUTHZ-10: a charset other than UTF-8 is another reading; other parameters say nothing.
    #[test]
    fn json_is_told_by_its_type() {
        for (kind, fits) in [
            ("application/json", true),
            ("Application/JSON; Charset=\"UTF-8\"", true),
            ("application/problem+json;charset=utf-8", true),
            ("application/json; profile=x; v=1", true),
            ("application/json; charset=latin1", false),
            ("application/json; v=1; charset=utf-16", false),
            ("text/json", false),
            ("application/jsonp", false),
            ("text/x+json", false),
        ] {
            assert_eq!(is_json(kind), fits, "{kind}");
        }
    }
}
