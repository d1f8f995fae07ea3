//! Claims: each of its type and there if it must be, before anybody acts on one.

use serde_json::{Map, Value};

use super::dpop::KeyThumbprint;
use super::json;
use super::jwt::Signed;
use super::peer::Thumbprint;
use super::policy::Issuer;
use super::time::UnixTime;
use super::token::{Confirmation, KeyGeneration, TokenDigest, VerifiedToken};
use crate::refusal::{Reason, Refusal};

/// The claims of a token whose signature was checked, typed.
///
/// `iss`, `exp`, `aud`, `sub`, `client_id`, `iat` and `jti` must be there (RFC 9068 s2.2;
/// TOK-12). A claim that is there and not of its type refuses the token, whether it would be
/// looked at or not (TOK-16).
///
/// # Errors
/// `claim_missing`, `claim_malformed`.
pub(super) fn read(
    signed: &Signed<'_>,
    issuer: &Issuer,
    digest: TokenDigest,
) -> Result<VerifiedToken, Refusal> {
    let claims = object(signed.payload())?;
    typed(claims, issuer, signed.generation(), digest, Form::Jwt)
}

/// The members of an introspection answer (RFC 7662 s2.2) by the same rules: `exp`, `aud` and
/// `client_id` must be there. `iss`, `sub`, `iat` and `jti` may be missing; the issuer is the one
/// that was asked, so a missing `iss` is its own.
///
/// # Errors
/// `claim_missing`, `claim_malformed`, `issuer_unknown`.
pub(super) fn introspected(
    mut members: Map<String, Value>,
    issuer: &Issuer,
    digest: TokenDigest,
) -> Result<VerifiedToken, Refusal> {
    if !members.contains_key("iss") {
        members.insert("iss".to_owned(), Value::String(issuer.issuer.to_string()));
    }
    typed(
        members,
        issuer,
        KeyGeneration(0),
        digest,
        Form::Introspected,
    )
}

/// The same rules for claims that were recorded of a token.
///
/// # Errors
/// As [`read`] and [`introspected`].
pub(super) fn recorded(
    members: Map<String, Value>,
    issuer: &Issuer,
    digest: TokenDigest,
    introspected: bool,
) -> Result<VerifiedToken, Refusal> {
    let form = if introspected {
        Form::Introspected
    } else {
        Form::Jwt
    };
    typed(members, issuer, KeyGeneration(0), digest, form)
}

fn object(claims: &[u8]) -> Result<Map<String, Value>, Refusal> {
    json::object(claims)
        .map_err(|why| Refusal::because(Reason::ClaimMalformed, format!("the claims are {why}")))
}

/// Where claims come from: what must be there differs, what it must be does not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Jwt,
    Introspected,
}

impl Form {
    /// A claim that a JWT must have and an answer may leave out.
    fn required<T>(self, claim: Option<T>, name: &str) -> Result<Option<T>, Refusal> {
        match self {
            Self::Jwt => required(claim, name).map(Some),
            Self::Introspected => Ok(claim),
        }
    }
}

fn typed(
    claims: Map<String, Value>,
    issuer: &Issuer,
    key_generation: KeyGeneration,
    digest: TokenDigest,
    form: Form,
) -> Result<VerifiedToken, Refusal> {
    // RFC 9068 s4: byte by byte. A trailing slash is another issuer (TOK-08).
    if required(text(&claims, "iss")?, "iss")? != &*issuer.issuer {
        return Err(Refusal::because(
            Reason::IssuerUnknown,
            "iss is not that of the key's issuer",
        ));
    }
    let subject = form.required(text(&claims, "sub")?, "sub")?;
    let subject = subject.map(Into::into);
    let client_id = client_id(&claims, issuer)?.into();
    form.required(text(&claims, "jti")?, "jti")?;
    let audience = required(audience(&claims)?, "aud")?;
    let expires = required(date(&claims, "exp")?, "exp")?;
    let issued = form.required(date(&claims, "iat")?, "iat")?;
    if issued.is_some_and(|issued| expires <= issued) {
        return Err(malformed("exp is not after iat"));
    }
    let not_before = date(&claims, "nbf")?;
    let scopes = scopes(&claims, issuer)?;
    let acr = text(&claims, "acr")?.map(Into::into);
    let auth_time = date(&claims, "auth_time")?;
    let confirmation = confirmation(&claims)?;
    Ok(VerifiedToken {
        issuer: issuer.id,
        digest,
        key_generation,
        client_id,
        subject,
        audience,
        expires,
        issued,
        not_before,
        scopes,
        acr,
        auth_time,
        confirmation,
        claims,
    })
}

fn required<T>(claim: Option<T>, name: &str) -> Result<T, Refusal> {
    claim.ok_or_else(|| Refusal::because(Reason::ClaimMissing, format!("there is no {name}")))
}

/// A string that is not empty.
fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, Refusal> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
        Some(_) => Err(malformed(format!("{name} is not a string with content"))),
    }
}

/// The first of the issuer's names that is there; it must then be good.
fn client_id<'a>(claims: &'a Map<String, Value>, issuer: &Issuer) -> Result<&'a str, Refusal> {
    let mut names = issuer.client_id_claims.iter();
    match names.find(|name| claims.contains_key(&***name)) {
        Some(name) => required(text(claims, name)?, name),
        None => required(None, "client_id"),
    }
}

fn date(claims: &Map<String, Value>, name: &str) -> Result<Option<UnixTime>, Refusal> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    numeric_date(value)
        .map(Some)
        .ok_or_else(|| malformed(format!("{name} is not a number of seconds since 1970")))
}

/// `NumericDate` (RFC 7519 s2): a JSON number; its fraction is dropped, which ends `exp` early.
pub(super) fn numeric_date(value: &Value) -> Option<UnixTime> {
    /// 2^53: above it, two readers of JSON need not see the same number (RFC 8259 s6).
    const LATEST: u64 = 1 << 53;
    let seconds = match value {
        Value::Number(number) => number.as_u64().or_else(|| {
            let seconds = number.as_f64()?.floor();
            // The range makes the conversion exact.
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and 2^53 and whole"
            )]
            (0.0..=9_007_199_254_740_992.0)
                .contains(&seconds)
                .then_some(seconds as u64)
        }),
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            None
        }
    };
    seconds
        .filter(|seconds| *seconds <= LATEST)
        .map(UnixTime::from_secs)
}

/// One string, or an array of them with at least one (RFC 7519 s4.1.3).
fn audience(claims: &Map<String, Value>) -> Result<Option<Vec<Box<str>>>, Refusal> {
    let Some(value) = claims.get("aud") else {
        return Ok(None);
    };
    strings(value)
        .filter(|list| !list.is_empty())
        .map(Some)
        .ok_or_else(|| malformed("aud is neither a string nor an array of strings"))
}

/// RFC 9068 s2.2.3: a string with blanks between. Under another name than `scope`, an array of
/// strings is taken too, for some issuers write `scp` so.
fn scopes(claims: &Map<String, Value>, issuer: &Issuer) -> Result<Vec<Box<str>>, Refusal> {
    let mut names = issuer.scope_claims.iter();
    let Some((name, value)) = names.find_map(|name| Some((name, claims.get(&**name)?))) else {
        return Ok(Vec::new());
    };
    if let Value::String(text) = value {
        let scopes = text.split(' ').filter(|scope| !scope.is_empty());
        return Ok(scopes.map(Into::into).collect());
    }
    strings(value)
        .filter(|_| &**name != "scope")
        .ok_or_else(|| malformed(format!("{name} is not a string of scopes")))
}

/// A string or an array of strings, none of them empty.
fn strings(value: &Value) -> Option<Vec<Box<str>>> {
    let one = |value: &Value| match value {
        Value::String(text) if !text.is_empty() => Some(text.as_str().into()),
        Value::String(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Array(_)
        | Value::Object(_) => None,
    };
    match value {
        Value::Array(items) => items.iter().map(one).collect(),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            Some(vec![one(value)?])
        }
    }
}

/// `cnf` (RFC 7800 s3.1): what it names, not yet whether it is proven.
fn confirmation(claims: &Map<String, Value>) -> Result<Option<Confirmation>, Refusal> {
    let members = match claims.get("cnf") {
        None => return Ok(None),
        Some(Value::Object(members)) => members,
        Some(_) => return Err(malformed("cnf is not an object")),
    };
    let mut found = Confirmation::default();
    for (name, value) in members {
        match name.as_str() {
            "x5t#S256" => found.certificate = Some(value.as_str().and_then(Thumbprint::parse)),
            "jkt" => found.key = Some(value.as_str().and_then(KeyThumbprint::parse)),
            _ => found.other = true,
        }
    }
    Ok(Some(found))
}

fn malformed(detail: impl Into<Box<str>>) -> Refusal {
    Refusal::because(Reason::ClaimMalformed, detail)
}
