//! Exactly one access token, from exactly one place.

use std::fmt;
use std::sync::Arc;

use http::header::AUTHORIZATION;

use super::head::RequestHead;
use super::path::decoded;
use super::token::AccessToken;
use crate::refusal::{Reason, Refusal, Scheme, Schemes};

/// What a client presents: a token, and the scheme under which it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// One that the route takes.
    pub scheme: Scheme,
    /// The token.
    pub token: AccessToken,
}

/// What the `Authorization` field of a request says, worth keeping for the sender's next one: a client
/// sends the same token again and again, and what is said of the field depends on its bytes alone.
///
/// What a route makes of it is not kept: see `passes`.
pub struct Presented {
    /// All of the field: another one, by however little, is read anew.
    field: Box<[u8]>,
    credential: Credential,
    signed: bool,
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presented(not shown)")
    }
}

impl Presented {
    fn new(field: &str, credential: Credential) -> Self {
        Self {
            field: field.as_bytes().into(),
            signed: looks_signed(&credential.token),
            credential,
        }
    }

    /// Whether this very field was read, and a route with these rules takes it. Where not, it is read
    /// as if nothing were known of it, so that what is wrong is said in one place.
    fn passes(&self, field: &[u8], max_token_bytes: usize, schemes: Schemes) -> bool {
        *self.field == *field
            && schemes.has(self.credential.scheme)
            && self.credential.token.expose().len() <= max_token_bytes
    }

    /// A field of one scheme and one token, for tests.
    #[cfg(test)]
    pub(crate) fn for_tests(field: &str) -> Arc<Self> {
        let head = super::head::tests::head("GET", "/", &[("host", "a"), ("authorization", field)]);
        let both = Schemes {
            bearer: true,
            dpop: true,
        };
        presented(&head.unwrap(), usize::MAX, both, None).unwrap()
    }

    /// The scheme and the token.
    pub(super) const fn credential(&self) -> &Credential {
        &self.credential
    }

    /// See [`looks_signed`].
    pub(super) const fn looks_signed(&self) -> bool {
        self.signed
    }
}

/// The access token of a request: in the one `Authorization` field, after one of the `schemes` that
/// its route takes (RFC 6750 s2.1, RFC 9449 s7.1). Neither a form nor a cookie is looked at
/// (PRES-04, PRES-11).
///
/// # Errors
/// `token_in_query`, and as `presented`.
pub fn credential(
    head: &RequestHead,
    max_token_bytes: usize,
    schemes: Schemes,
) -> Result<Credential, Refusal> {
    none_in_query(head)?;
    presented(head, max_token_bytes, schemes, None).map(|found| found.credential.clone())
}

/// The same for a request whose query holds no token ([`none_in_query`]), where the field may be the
/// one that is `known`: it is not read again then, and the outcome is the same.
///
/// # Errors
/// `token_repeated`, `token_missing`, `credentials_malformed`, `scheme_unsupported`,
/// `token_too_large` (longer than `max_token_bytes`), `token_malformed`.
pub(super) fn presented(
    head: &RequestHead,
    max_token_bytes: usize,
    schemes: Schemes,
    known: Option<&Arc<Presented>>,
) -> Result<Arc<Presented>, Refusal> {
    let offered = |refusal: Refusal| refusal.advise(|advice| advice.schemes = schemes);
    let mut fields = head.headers().get_all(AUTHORIZATION).iter();
    let Some(field) = fields.next() else {
        return Err(offered(Reason::TokenMissing.into()));
    };
    // Where it cannot be told which scheme was meant, the error is of each (RFC 9449 s7.2).
    if fields.next().is_some() {
        return Err(offered(Reason::TokenRepeated.into()));
    }
    if let Some(known) = known
        && known.passes(field.as_bytes(), max_token_bytes, schemes)
    {
        return Ok(Arc::clone(known));
    }
    // As `to_str` would: of what a field value may hold, all but the bytes above ASCII. Asked for a
    // machine word at a time, since a token is long.
    let field = Some(field.as_bytes()).filter(|bytes| bytes.is_ascii());
    let Some(field) = field.and_then(|bytes| std::str::from_utf8(bytes).ok()) else {
        return Err(offered(Reason::CredentialsMalformed.into()));
    };
    let (scheme, token) = scheme_of(field, schemes).map_err(|reason| offered(reason.into()))?;
    judge(token, max_token_bytes)
        .map_err(|refusal| offered(refusal).advise(|advice| advice.used = Some(scheme)))?;
    let token = AccessToken::new(token);
    let credential = Credential { scheme, token };
    Ok(Arc::new(Presented::new(field, credential)))
}

fn judge(token: &str, max_token_bytes: usize) -> Result<(), Refusal> {
    if token.is_empty() {
        return Err(Reason::CredentialsMalformed.into());
    }
    if token.len() > max_token_bytes {
        return Err(Refusal::because(
            Reason::TokenTooLarge,
            format!(
                "the token has {} bytes of at most {max_token_bytes}",
                token.len()
            ),
        ));
    }
    if !is_token68(token) {
        return Err(Reason::CredentialsMalformed.into());
    }
    not_encrypted(token)
}

/// No token stands in the query (PRES-03): not beside a good header, since whatever stands behind
/// could prefer this one, and not on a route that asks for none, since it would reach the upstream.
///
/// # Errors
/// `token_in_query`.
pub(super) fn none_in_query(head: &RequestHead) -> Result<(), Refusal> {
    if head.query().is_some_and(query_has_token) {
        return Err(Refusal::new(Reason::TokenInQuery).advise(|advice| {
            advice.schemes = Schemes::BEARER;
            advice.used = Some(Scheme::Bearer);
        }));
    }
    Ok(())
}

/// The scheme and what stands after it, trimmed of the blanks around it (RFC 9110 s11.4).
fn scheme_of(field: &str, schemes: Schemes) -> Result<(Scheme, &str), Reason> {
    let field = field.trim_matches([' ', '\t']);
    let (name, rest) = field.split_once(' ').unwrap_or((field, ""));
    if name.is_empty() || !name.bytes().all(is_tchar) {
        return Err(Reason::CredentialsMalformed);
    }
    let rest = rest.trim_matches(' ');
    // Two fields that somebody on the way made into one (RFC 9110 s5.3) are still two.
    let one = every(rest, |byte| byte != b',');
    let others = (!one).then(|| rest.split(',').skip(1).map(str::trim_start));
    let mut others = others.into_iter().flatten();
    match Scheme::named(name).filter(|scheme| schemes.has(*scheme)) {
        Some(_) if others.any(|other| !other.is_empty()) => Err(Reason::TokenRepeated),
        Some(scheme) => Ok((scheme, rest)),
        None => {
            let second = others
                .any(|other| Scheme::named(other.split(' ').next().unwrap_or(other)).is_some());
            Err(if second {
                Reason::TokenRepeated
            } else {
                Reason::SchemeUnsupported
            })
        }
    }
}

/// RFC 9110 s11.2.
fn is_token68(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let fits = |byte: u8| {
        in_base64url(byte) | (byte == b'.') | (byte == b'~') | (byte == b'+') | (byte == b'/')
    };
    !body.is_empty() && every(body, fits)
}

/// A character of base64url (RFC 4648 s5).
#[inline]
const fn in_base64url(byte: u8) -> bool {
    let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
    let digit = byte.wrapping_sub(b'0') < 10;
    letter | digit | (byte == b'-') | (byte == b'_')
}

/// Whether every byte fits. Neither this nor what it is given branches, so that the compiler looks
/// at many bytes at once: a token is long, nearly every one is good, and each request brings one.
#[inline]
fn every(text: &str, fits: impl Fn(u8) -> bool) -> bool {
    text.bytes()
        .fold(0, |bad, byte| bad | u8::from(!fits(byte)))
        == 0
}

/// How many parts there are with dots between.
fn parts(text: &str) -> usize {
    // In pieces whose count fits into a byte, for the same reason.
    let dots = |piece: &[u8]| {
        let count = |so_far: u8, byte: &u8| so_far.wrapping_add(u8::from(*byte == b'.'));
        usize::from(piece.iter().fold(0, count))
    };
    text.as_bytes()
        .chunks(255)
        .map(dots)
        .fold(1, usize::saturating_add)
}

/// Whether the token has the outer form of a signed JWT: three parts of base64url with dots
/// between. One that does not is opaque and is never remembered as a JWT.
pub(super) fn looks_signed(token: &AccessToken) -> bool {
    let text = token.expose();
    let fits = |byte: u8| in_base64url(byte) | (byte == b'.');
    // An empty signature is `alg: none`, which is named so when the header is read.
    let begun = |(header, rest): (&str, &str)| !header.is_empty() && !rest.starts_with('.');
    parts(text) == 3 && every(text, fits) && text.split_once('.').is_some_and(begun)
}

/// Five parts are an encrypted token, which nobody here can read, and which is no opaque one
/// either.
fn not_encrypted(token: &str) -> Result<(), Refusal> {
    if parts(token) == 5 {
        return Err(Refusal::because(
            Reason::TokenMalformed,
            "the token has the five parts of an encrypted one (RFC 7516 s3.1)",
        ));
    }
    Ok(())
}

/// Whether a byte may stand in a token (RFC 9110 s5.6.2).
#[must_use]
pub const fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Whether a parameter is named `access_token`, as any server might read the name: decoded,
/// without case, after `&` or `;`, and as the first word of an array's name.
fn query_has_token(query: &str) -> bool {
    // By bytes: all that is looked for is ASCII.
    let mut parameters = query.as_bytes().split(|byte| matches!(byte, b'&' | b';'));
    parameters.any(|parameter| {
        let name = parameter.split(|byte| *byte == b'=').next();
        let mut letters =
            decoded(name.unwrap_or(parameter)).skip_while(|byte| matches!(byte, b' ' | b'+'));
        let begins = b"access_token".iter().all(|expected| {
            letters
                .next()
                .is_some_and(|byte| byte.eq_ignore_ascii_case(expected))
        });
        begins
            && letters
                .next()
                .is_none_or(|next| matches!(next, b'[' | b' ' | b'+' | 0))
    })
}

#[cfg(test)]
mod tests;
