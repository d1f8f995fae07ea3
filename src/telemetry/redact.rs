//! What must not show in a log: secrets, and text of strangers that is too long, breaks the line
//! or is a token.

use std::borrow::Cow;
use std::fmt;

/// A value that no log may show: `Debug` says so and nothing else, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Hides a value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for its use. Never for a log.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(not shown)")
    }
}

/// What stands where a token stood.
const HIDDEN: &str = "[token]";

/// The text, fit for a log: no longer than about `longest` bytes, and with `[token]` for whatever
/// looks like a JWT. Line breaks are the writer's business, who escapes them.
#[must_use]
pub fn clean(text: &str, longest: usize) -> Cow<'_, str> {
    // Hidden first: what is cut in the middle of a token no longer looks like one.
    let hidden = hide_tokens(text);
    if hidden.len() <= longest {
        return hidden;
    }
    let mut end = longest;
    while !hidden.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let mut clipped = hidden.get(..end).unwrap_or_default().to_owned();
    clipped.push('…');
    Cow::Owned(clipped)
}

fn hide_tokens(text: &str) -> Cow<'_, str> {
    if text.len() < SHORTEST || !text.contains('.') {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    // Up to here, `text` stands in `out` already.
    let mut copied = 0;
    let mut at = 0;
    while let Some(rest) = text.get(at..) {
        let run = rest.find(|c: char| !is_token_char(c)).unwrap_or(rest.len());
        if run >= SHORTEST && looks_like_token(rest.get(..run).unwrap_or_default()) {
            out.push_str(text.get(copied..at).unwrap_or_default());
            out.push_str(HIDDEN);
            copied = at + run;
        }
        let between = rest.get(run..).and_then(|after| after.chars().next());
        let Some(between) = between else { break };
        at += run + between.len_utf8();
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

/// Shorter than this, nothing is a JWT: `{"alg":"none"}` alone has 19 characters.
const SHORTEST: usize = 20;

const fn is_token_char(c: char) -> bool {
    // `=` since a token may have been padded against the rule, `%` as in `%2E`.
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=' | '%')
}

/// Three parts or more (RFC 7515 s3.1, RFC 7516 s3.1) of which the first is base64url of
/// something that begins with `{`; or three that are long, whatever they begin with. Host names
/// have parts, too, but neither.
fn looks_like_token(run: &str) -> bool {
    let run = run.trim_matches('.');
    let mut parts = run.splitn(3, '.');
    let (Some(first), Some(second), Some(third)) = (parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    // `{` is 0x7B: the first six bits give `e`, the next two fix the upper half of the second.
    let object = matches!(
        first.as_bytes(),
        [b'e', b'w'..=b'z' | b'0'..=b'9' | b'-' | b'_', ..]
    );
    let long = [first, second, third].iter().all(|part| part.len() >= 16);
    object || long
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWT: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2FzIn0.c2lnbmF0dXJl";

    #[test]
    fn nothing_that_looks_like_a_jwt_passes() {
        // OPS-02
        for (text, want) in [
            (JWT.to_owned(), "[token]".to_owned()),
            (
                format!("token {JWT} is bad"),
                "token [token] is bad".to_owned(),
            ),
            (format!("\"{JWT}\",{JWT}"), "\"[token]\",[token]".to_owned()),
            (format!("/a/{JWT}/b"), "/a/[token]/b".to_owned()),
            (format!("é{JWT}é"), "é[token]é".to_owned()),
            (format!("{JWT}."), "[token]".to_owned()),
            // five parts, one of them empty
            (
                "eyJhbGciOiJkaXIifQ..aXY.Y2lwaGVy.dGFn".to_owned(),
                "[token]".to_owned(),
            ),
            // a blank before the name of the first member
            (
                "eyAiYWxnIjoiRVMyNTYifQ.e30.c2ln".to_owned(),
                "[token]".to_owned(),
            ),
            // whatever its first part is
            (
                format!("{0}.{0}.{0}", "QUFBQUFBQUFBQUFBQUFB"),
                "[token]".to_owned(),
            ),
        ] {
            assert_eq!(clean(&text, 500), want);
        }
    }

    #[test]
    fn a_cut_does_not_leave_half_a_token() {
        let text = format!("{}{JWT}", "x ".repeat(20));
        for longest in 0..text.len() {
            let cleaned = clean(&text, longest);
            assert!(!cleaned.contains("eyJ"), "{cleaned}");
            assert!(cleaned.len() <= longest + '…'.len_utf8());
        }
    }

    #[test]
    fn names_and_sentences_pass() {
        for text in [
            "https://mtls.as.bank.example/token.jwks",
            "eu.accounts.internal.bank.example:8443",
            "expected RS256, found ES256. See the log.",
            "10.0.0.1",
            "edge.bank.example",
            "v1.2.3-beta.20261122000000",
        ] {
            assert_eq!(clean(text, 500), text);
        }
    }

    #[test]
    fn a_cut_falls_between_characters() {
        assert_eq!(clean("aé", 2), "a…");
        assert_eq!(clean("aé", 3), "aé");
    }

    #[test]
    fn a_secret_does_not_show() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(not shown)");
    }
}
