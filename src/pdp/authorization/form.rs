//! `application/x-www-form-urlencoded`, as OAuth uses it (RFC 6749 appendix B), read so strictly
//! that every other reader sees the same.

use std::collections::BTreeSet;

/// Parameters of one form.
pub const PARAMETERS: usize = 100;
/// Bytes of a name.
pub const NAME_BYTES: usize = 128;

/// The one parameter that may come more than once (RFC 8707 s2).
const REPEATED: &str = "resource";

/// A form in which each parameter stands once.
///
/// Values are a client's secrets as often as not: `Debug` shows names alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Form(Vec<(Box<str>, Box<str>)>);

impl std::fmt::Debug for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Form {
    /// Reads a query or a body. What two readers could take for different parameters is refused:
    /// a name twice, also where it differs in letter case or in punctuation only, for some servers
    /// fold that; names of other characters than RFC 6749 s8.2 has; a bare `;`, which some take
    /// for `&`; broken escapes; what is not UTF-8; control characters.
    ///
    /// # Errors
    /// What is wrong, without any value.
    pub fn parse(text: &[u8]) -> Result<Self, &'static str> {
        let mut form = Vec::new();
        if text.is_empty() {
            return Ok(Self(form));
        }
        if text.contains(&b';') {
            return Err("a bare ; stands in it, which some read as &: write %3B");
        }
        let mut seen = BTreeSet::new();
        for pair in text.split(|byte| *byte == b'&') {
            if form.len() >= PARAMETERS {
                return Err("it has more than 100 parameters");
            }
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let name = decoded(halves.next().unwrap_or_default())?;
            let value = halves.next().ok_or("a parameter has no =")?;
            if name.is_empty() || name.len() > NAME_BYTES || !name.bytes().all(is_name_char) {
                return Err("a name is not one to 128 letters, digits, -, . and _ (RFC 6749 s8.2)");
            }
            let again = !seen.insert(folded(&name));
            if again && name != REPEATED {
                return Err(
                    "a parameter comes twice (RFC 6749 s3.1), or two names are one but for case or punctuation",
                );
            }
            form.push((name.into(), decoded(value)?.into()));
        }
        let form = Self(form);
        if form.names().all(plain) {
            Ok(form)
        } else {
            Err("a name is one that has a meaning, but for case or punctuation")
        }
    }

    /// The value of a parameter that is not empty: without a value it counts as left out
    /// (RFC 6749 s3.1).
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.entries()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    /// Every parameter that is not empty, in its order.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.0.iter().map(|(name, value)| (&**name, &**value));
        all.filter(|(_, value)| !value.is_empty())
    }

    /// Every name, in its order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| &**name)
    }

    /// Whether a parameter of this name is there, be it empty.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }
}

/// RFC 6749 s8.2, `name-char`.
const fn is_name_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}

/// A name as the most careless server would know it.
fn folded(name: &str) -> String {
    let fold = |byte: char| match byte {
        '-' | '.' => '_',
        other => other.to_ascii_lowercase(),
    };
    name.chars().map(fold).collect()
}

/// Names that a rule is about.
const JUDGED: &[&str] = &[
    "client_assertion",
    "client_assertion_type",
    "client_id",
    "client_secret",
    "code_challenge",
    "code_challenge_method",
    "redirect_uri",
    "request",
    "request_uri",
    "response_type",
];

fn plain(name: &str) -> bool {
    let folded = folded(name);
    folded == name || !JUDGED.contains(&folded.as_str())
}

/// One half of a pair, without its escapes.
fn decoded(text: &[u8]) -> Result<String, &'static str> {
    const BROKEN: &str = "an escape is not % and two hexadecimal digits";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match *byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || {
                    let digit = char::from(*rest.next().ok_or(BROKEN)?);
                    digit.to_digit(16).ok_or(BROKEN)
                };
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high << 4 | low).map_err(|_large| BROKEN)?
            }
            // What must be escaped and was not, somebody may escape or cut off on the way.
            0x21..=0x7e => *byte,
            _ => return Err("a byte stands in it that must be escaped"),
        });
    }
    let text = String::from_utf8(bytes).map_err(|_broken| "it is not UTF-8")?;
    if text
        .chars()
        .any(|c| c.is_control() && !matches!(c, '\t' | '\r' | '\n'))
    {
        return Err("a value has a control character");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_every_reader_reads_alike() {
        let form = Form::parse(b"a=1&b=%C3%A4+b&c=&resource=x&resource=y&d=a%3Db=").unwrap();
        let all: Vec<_> = form.entries().collect();
        assert_eq!(
            all,
            [
                ("a", "1"),
                ("b", "\u{e4} b"),
                ("resource", "x"),
                ("resource", "y"),
                ("d", "a=b=")
            ]
        );
        assert!(form.has("c") && form.value("c").is_none());
        assert_eq!(Form::parse(b"").unwrap().names().count(), 0);
    }

    #[test]
    fn what_two_readers_could_read_differently() {
        for bad in [
            "a=1&a=2",
            "a=1&A=2",
            "x_y=1&x.y=2",
            "a=1&%61=2",
            "a=1&&b=2",
            "a=1&",
            "&a=1",
            "a",
            "=1",
            "a=1;b=2",
            "Client_ID=x",
            "client.id=x",
            "client-id=x",
            "request_uri[]=x",
            "request_uri%5B%5D=x",
            "a%00=1",
            "a=%00",
            "a=%0",
            "a=%zz",
            "a=%+1",
            "a=%ff",
            "a=\u{e4}",
            "a= b",
            "a=1\n",
            "a b=1",
        ] {
            assert!(Form::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        let many: Vec<String> = (0..=PARAMETERS).map(|n| format!("p{n}=1")).collect();
        assert!(Form::parse(many.join("&").as_bytes()).is_err());
        assert!(Form::parse(many[1..].join("&").as_bytes()).is_ok());
        let longest = format!("{}=1", "n".repeat(NAME_BYTES));
        assert!(Form::parse(longest.as_bytes()).is_ok());
        let long = format!("{}=1", "n".repeat(NAME_BYTES + 1));
        assert!(Form::parse(long.as_bytes()).is_err());
    }

    #[test]
    fn debug_shows_no_value() {
        let form = Form::parse(b"client_assertion=secret").unwrap();
        assert_eq!(format!("{form:?}"), r#"["client_assertion"]"#);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            drop(Form::parse(&bytes));
        }

        #[test]
        fn what_was_written_is_read(
            pairs in proptest::collection::btree_map("p[a-z]{0,8}", "[^\\p{Cc}]{1,12}", 0..6)
        ) {
            let escape = |text: &str| text.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
            let text: Vec<_> = pairs.iter().map(|(k, v)| format!("{k}={}", escape(v))).collect();
            let form = Form::parse(text.join("&").as_bytes()).unwrap();
            let read: Vec<_> = form.entries().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
            prop_assert_eq!(read, pairs.into_iter().collect::<Vec<_>>());
        }
    }
}
