//! Exactly one access token, from exactly one place.

use http::header::AUTHORIZATION;

use super::head::RequestHead;
use super::path::decoded;
use super::token::AccessToken;
use crate::refusal::{Reason, Refusal, Scheme, Schemes};

/// The access token of a request: in the one `Authorization` field, after the scheme `Bearer`
/// (RFC 6750 s2.1). Neither a form nor a cookie is looked at (PRES-04, PRES-11).
///
/// Whether it is a JWT or opaque is seen later ([`looks_signed`]): most tokens are remembered, and
/// those need no look.
///
/// # Errors
/// `token_in_query`, `token_repeated`, `token_missing`, `credentials_malformed`,
/// `scheme_unsupported`, `token_too_large` (longer than `max_token_bytes`), `token_malformed`.
pub fn credential(head: &RequestHead, max_token_bytes: usize) -> Result<AccessToken, Refusal> {
    none_in_query(head)?;
    let mut fields = head.headers().get_all(AUTHORIZATION).iter();
    let Some(field) = fields.next() else {
        return Err(unasked(Reason::TokenMissing));
    };
    if fields.next().is_some() {
        return Err(refused(Reason::TokenRepeated));
    }
    let Ok(field) = field.to_str() else {
        return Err(refused(Reason::CredentialsMalformed));
    };
    let token = token_of(field)?;
    if token.len() > max_token_bytes {
        return Err(refused_for(
            Reason::TokenTooLarge,
            format!(
                "the token has {} bytes of at most {max_token_bytes}",
                token.len()
            ),
        ));
    }
    if !is_token68(token) {
        return Err(refused(Reason::CredentialsMalformed));
    }
    not_encrypted(token)?;
    Ok(AccessToken::new(token))
}

/// No token stands in the query (PRES-03): not beside a good header, since whatever stands behind
/// could prefer this one, and not on a route that asks for none, since it would reach the upstream.
///
/// # Errors
/// `token_in_query`.
pub(super) fn none_in_query(head: &RequestHead) -> Result<(), Refusal> {
    if head.query().is_some_and(query_has_token) {
        return Err(refused(Reason::TokenInQuery));
    }
    Ok(())
}

/// What stands after `Bearer`, trimmed of the blanks around it (RFC 9110 s11.4).
fn token_of(field: &str) -> Result<&str, Refusal> {
    let field = field.trim_matches([' ', '\t']);
    let (scheme, rest) = field.split_once(' ').unwrap_or((field, ""));
    if scheme.is_empty() || !scheme.bytes().all(is_tchar) {
        return Err(refused(Reason::CredentialsMalformed));
    }
    let rest = rest.trim_matches(' ');
    // Two fields that somebody on the way made into one (RFC 9110 s5.3) are still two.
    let mut others = rest.split(',').skip(1).map(str::trim_start);
    let known = Scheme::Bearer.name();
    if !scheme.eq_ignore_ascii_case(known) {
        let second = others.any(|other| {
            let name = other.split(' ').next().unwrap_or(other);
            name.eq_ignore_ascii_case(known) || name.eq_ignore_ascii_case("DPoP")
        });
        return Err(if second {
            refused(Reason::TokenRepeated)
        } else {
            unasked(Reason::SchemeUnsupported)
        });
    }
    if others.any(|other| !other.is_empty()) {
        return Err(refused(Reason::TokenRepeated));
    }
    if rest.is_empty() {
        return Err(refused(Reason::CredentialsMalformed));
    }
    Ok(rest)
}

/// RFC 9110 s11.2.
fn is_token68(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let fits = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
    };
    !body.is_empty() && body.bytes().all(fits)
}

/// Whether the token has the outer form of a signed JWT: three parts of base64url with dots
/// between. One that does not is opaque and is never remembered as a JWT.
pub(super) fn looks_signed(token: &AccessToken) -> bool {
    let mut parts = token.expose().split('.');
    let signed = (parts.next(), parts.next(), parts.next(), parts.next());
    matches!(signed, (Some(header), Some(payload), Some(signature), None)
        if is_base64url(header)
            && is_base64url(payload)
            // An empty signature is `alg: none`, which is named so when the header is read.
            && (signature.is_empty() || is_base64url(signature)))
}

/// Five parts are an encrypted token, which nobody here can read, and which is no opaque one
/// either.
fn not_encrypted(token: &str) -> Result<(), Refusal> {
    if token.split('.').count() == 5 {
        return Err(refused_for(
            Reason::TokenMalformed,
            "the token has the five parts of an encrypted one (RFC 7516 s3.1)",
        ));
    }
    Ok(())
}

fn is_base64url(part: &str) -> bool {
    !part.is_empty()
        && part
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
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
    query.split(['&', ';']).any(|parameter| {
        let name = parameter.split('=').next().unwrap_or(parameter);
        let mut letters = decoded(name).skip_while(|byte| matches!(byte, b' ' | b'+'));
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

/// A refusal that offers the schemes and has no error to name.
fn unasked(reason: Reason) -> Refusal {
    Refusal::new(reason).advise(|advice| advice.schemes = Schemes::BEARER)
}

/// A refusal of what came under `Bearer`.
fn refused(reason: Reason) -> Refusal {
    challenged(Refusal::new(reason))
}

fn refused_for(reason: Reason, detail: impl Into<Box<str>>) -> Refusal {
    challenged(Refusal::because(reason, detail))
}

fn challenged(refusal: Refusal) -> Refusal {
    refusal.advise(|advice| {
        advice.schemes = Schemes::BEARER;
        advice.used = Some(Scheme::Bearer);
    })
}

#[cfg(test)]
mod tests;
