//! An access token as a signed JWT (RFC 9068): its header rules, and its signature.
//!
//! Nothing of the claims is believed here. `iss` alone is looked at before the signature, to
//! choose among the issuers that the policy takes; the key then decides whether it was true.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::json::{self, Name};
use super::keys::{Found, KEY_ID_BYTES, KeySet};
use super::policy::{Algorithm, Issuer};
use super::token::{AccessToken, KeyGeneration, TokenDigest};
use crate::refusal::{Reason, Refusal};

/// Bytes of a JOSE header, decoded.
pub const HEADER_BYTES: usize = 8 * 1024;

/// What the header of a token says, none of it believed: which rules to read it by and which key
/// to look for. `jwk`, `jku`, `x5u` and `x5c` are not among it, so no key can come from a token
/// (TOK-04).
#[derive(Debug)]
pub struct Header {
    algorithm: Algorithm,
    kind: Option<Box<str>>,
    key_id: Option<Box<str>>,
}

impl Header {
    /// Reads the decoded JOSE header of an access token.
    ///
    /// # Errors
    /// `token_malformed`; `algorithm_forbidden` for an `alg` that no issuer can allow;
    /// `token_extension_unknown` for `crit` (RFC 7515 s4.1.11) and `b64` (RFC 7797 s7).
    pub fn parse(header: &[u8]) -> Result<Self, Refusal> {
        if header.len() > HEADER_BYTES {
            return Err(malformed(format!(
                "the header is longer than {HEADER_BYTES} bytes"
            )));
        }
        let members =
            json::object(header).map_err(|why| malformed(format!("the header is {why}")))?;
        let algorithm = match members.get("alg") {
            Some(Value::String(name)) => Algorithm::named(name).ok_or_else(|| {
                Refusal::because(
                    Reason::AlgorithmForbidden,
                    "alg is none of ES256, PS256, EdDSA, Ed25519, RS256",
                )
            })?,
            Some(_) => return Err(malformed("alg is not a string")),
            None => return Err(malformed("the header has no alg")),
        };
        for name in ["crit", "b64"] {
            if members.contains_key(name) {
                return Err(Refusal::because(
                    Reason::TokenExtensionUnknown,
                    format!("the header has {name}"),
                ));
            }
        }
        let key_id = match members.get("kid") {
            None => None,
            Some(Value::String(id)) if id.len() <= KEY_ID_BYTES => {
                // TOK-25: it goes to logs and look-ups.
                if id.chars().any(char::is_control) {
                    return Err(malformed("kid has a control character"));
                }
                Some(id.as_str().into())
            }
            Some(_) => {
                return Err(malformed(format!(
                    "kid is not a string of at most {KEY_ID_BYTES} bytes"
                )));
            }
        };
        let kind = match members.get("typ") {
            None => None,
            Some(Value::String(kind)) => Some(kind.as_str().into()),
            Some(_) => return Err(malformed("typ is not a string")),
        };
        Ok(Self {
            algorithm,
            kind,
            key_id,
        })
    }

    /// `alg`.
    pub(super) const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// `kid`.
    pub(super) fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// `typ`, as it stands there.
    pub(super) fn kind(&self) -> Option<&str> {
        self.kind.as_deref()
    }

    /// Whether `typ` is one of these, which are lower case and have a slash.
    pub(super) fn is_of_type(&self, types: &[Box<str>]) -> bool {
        is_of_type(self.kind.as_deref(), types)
    }
}

/// Whether the text is a JWT and not an opaque token: three parts of base64url, of which the first
/// is a JSON object with `alg`. Such a token is judged as a JWT and as nothing else, however bad it
/// may be.
pub(super) fn is_jwt(token: &str) -> bool {
    let Some((header, _, _)) = parts(token.as_bytes()) else {
        return false;
    };
    let Some(header) = base64url(header) else {
        return false;
    };
    matches!(serde_json::from_slice(&header), Ok(Value::Object(members)) if members.contains_key("alg"))
}

/// A token that names an issuer that may be believed, and whose header that issuer's settings
/// take. Its signature is still to be checked.
#[derive(Debug)]
pub(super) struct Candidate {
    token: AccessToken,
    /// Bytes of the token before the second dot: what is signed.
    signed: usize,
    payload: Vec<u8>,
    signature: Vec<u8>,
    header: Header,
    issuer: Arc<Issuer>,
}

/// Claims whose signature was found good. Only [`Candidate::verify`] makes it.
#[must_use]
#[derive(Debug)]
pub(super) struct Signed<'a> {
    payload: &'a [u8],
    generation: KeyGeneration,
}

impl Signed<'_> {
    /// The claims, as signed.
    pub(super) const fn payload(&self) -> &[u8] {
        self.payload
    }

    /// The picture of the keys with which they were checked.
    pub(super) const fn generation(&self) -> KeyGeneration {
        self.generation
    }
}

impl Candidate {
    /// Takes a token apart and finds its issuer among `issuers` (TOK-23); it is `named` from then
    /// on, also where the token is refused.
    ///
    /// # Errors
    /// Those of [`Header::parse`]; `token_malformed`, `claim_missing`, `claim_malformed`,
    /// `issuer_unknown`, `algorithm_forbidden`, `token_type_wrong`.
    pub(super) fn new<'i>(
        token: AccessToken,
        issuers: impl Iterator<Item = &'i Arc<Issuer>>,
        named: &mut Option<Arc<Issuer>>,
    ) -> Result<Self, Refusal> {
        let (header, payload, signature) = parts(token.expose().as_bytes())
            .ok_or_else(|| malformed("the token has not exactly three parts"))?;
        let signed = header.len().saturating_add(payload.len()).saturating_add(1);
        let header = Header::parse(&decoded("header", header)?)?;
        let payload = decoded("payload", payload)?;
        let signature = decoded("signature", signature)?;
        let claimed = claimed_issuer(&payload)?;
        let mut issuers = issuers;
        let issuer = issuers
            .find(|issuer| *issuer.issuer == *claimed)
            .ok_or_else(|| {
                Refusal::because(
                    Reason::IssuerUnknown,
                    "iss is none of the issuers of the policy",
                )
            })?;
        *named = Some(Arc::clone(issuer));
        taken(
            issuer,
            Some(header.algorithm.name()),
            header.kind.as_deref(),
        )?;
        Ok(Self {
            signed,
            payload,
            signature,
            header,
            issuer: Arc::clone(issuer),
            token,
        })
    }

    /// The issuer that it names.
    pub(super) const fn issuer(&self) -> &Arc<Issuer> {
        &self.issuer
    }

    /// The token itself, once it was verified.
    pub(super) fn into_token(self) -> AccessToken {
        self.token
    }

    /// What the whole token is remembered under.
    pub(super) fn digest(&self) -> TokenDigest {
        self.token.digest()
    }

    /// `kid`.
    pub(super) fn key_id(&self) -> Option<&str> {
        self.header.key_id()
    }

    /// `alg`, which its issuer allows.
    pub(super) const fn algorithm(&self) -> Algorithm {
        self.header.algorithm
    }

    /// Checks the signature with a key of the issuer (RFC 7515 s5.2).
    ///
    /// # Errors
    /// `key_unknown`, `key_mismatch`, `signature_invalid`.
    pub(super) fn verify(&self, keys: &KeySet) -> Result<Signed<'_>, Refusal> {
        let key = match keys.find(self.key_id(), self.algorithm()) {
            Found::Key(key) => key,
            Found::Missing => {
                let why = match self.key_id() {
                    Some(id) => format!("no key of issuer {} has the kid {id:?}", self.issuer.name),
                    None => format!(
                        "the token has no kid, and not exactly one key of issuer {} is for {}",
                        self.issuer.name,
                        self.algorithm().name()
                    ),
                };
                return Err(Refusal::because(Reason::KeyUnknown, why));
            }
            Found::Mismatch => {
                return Err(Refusal::because(
                    Reason::KeyMismatch,
                    format!("the key of this kid is not for {}", self.algorithm().name()),
                ));
            }
        };
        let message = self.token.expose().as_bytes().get(..self.signed);
        let message = message.ok_or(Reason::Internal)?;
        if !key.verifies(message, &self.signature) {
            return Err(Refusal::new(Reason::SignatureInvalid));
        }
        Ok(Signed {
            payload: &self.payload,
            generation: keys.generation(),
        })
    }
}

/// Exactly three parts (RFC 7515 s7.1; TOK-13).
pub(super) fn parts(token: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let mut dots = memchr::memchr_iter(b'.', token);
    let (first, second) = (dots.next()?, dots.next()?);
    if dots.next().is_some() {
        return None;
    }
    let (signed, signature) = token.split_at_checked(second)?;
    let (header, payload) = signed.split_at_checked(first)?;
    Some((
        header,
        payload.strip_prefix(b".")?,
        signature.strip_prefix(b".")?,
    ))
}

fn decoded(name: &str, text: impl AsRef<[u8]>) -> Result<Vec<u8>, Refusal> {
    base64url(text).ok_or_else(|| malformed(format!("the {name} is not base64url")))
}

/// Base64url as RFC 7515 s2 has it: no padding, no blank, and the bits left over are zero, so
/// that one token has one text (TOK-15).
pub(super) fn base64url(text: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// `iss` of claims that nobody has verified.
fn claimed_issuer(payload: &[u8]) -> Result<Cow<'_, str>, Refusal> {
    struct Claims;
    impl<'de> serde::de::Visitor<'de> for Claims {
        type Value = Result<Option<Cow<'de, str>>, Refusal>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("claims")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(
            self,
            mut claims: A,
        ) -> Result<Self::Value, A::Error> {
            let mut issuer = None;
            let mut refused = None;
            while let Some(Name(name)) = claims.next_key()? {
                if name != "iss" {
                    claims.next_value::<IgnoredAny>()?;
                    continue;
                }
                let Text(text) = claims.next_value()?;
                match text {
                    Some(_) if issuer.is_some() => refused = Some("iss comes twice"),
                    Some(text) => issuer = Some(text),
                    None => refused = Some("iss is not a string"),
                }
            }
            Ok(match refused {
                Some(why) => Err(Refusal::because(Reason::ClaimMalformed, why)),
                None => Ok(issuer),
            })
        }
    }

    let broken = || Refusal::because(Reason::ClaimMalformed, "the claims are no JSON object");
    let mut reader = serde_json::Deserializer::from_slice(payload);
    let issuer = serde::Deserializer::deserialize_map(&mut reader, Claims)
        .map_err(|_rejected| broken())?
        .and_then(|issuer| {
            issuer.ok_or_else(|| Refusal::because(Reason::ClaimMissing, "there is no iss"))
        })?;
    reader.end().map_err(|_rejected| broken())?;
    Ok(issuer)
}

/// A string, or `None` for any other JSON.
struct Text<'a>(Option<Cow<'a, str>>);

impl<'de> serde::Deserialize<'de> for Text<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Either<'a> {
            Text(#[serde(borrow)] Cow<'a, str>),
            Other(IgnoredAny),
        }
        Ok(Self(match Either::deserialize(reader)? {
            Either::Text(text) => Some(text),
            Either::Other(_) => None,
        }))
    }
}

/// Whether an issuer's settings take a token with this `alg` and `typ`, by the rules of
/// [`Candidate::new`].
///
/// # Errors
/// `algorithm_forbidden`, `token_type_wrong`.
pub(super) fn taken(
    issuer: &Issuer,
    algorithm: Option<&str>,
    kind: Option<&str>,
) -> Result<(), Refusal> {
    let algorithm = algorithm.and_then(Algorithm::named);
    if !algorithm.is_some_and(|algorithm| issuer.algorithms.contains(&algorithm)) {
        return Err(Refusal::because(
            Reason::AlgorithmForbidden,
            format!(
                "{} is not among algorithms of issuer {}",
                algorithm.map_or("alg", Algorithm::name),
                issuer.name
            ),
        ));
    }
    if !is_of_type(kind, &issuer.token_types) {
        return Err(Refusal::because(
            Reason::TokenTypeWrong,
            match kind {
                Some(_) => "typ is none of token_types of the issuer",
                None => "the header has no typ",
            },
        ));
    }
    Ok(())
}

/// RFC 9068 s4 with RFC 7515 s4.1.9: compared without case, and a value without a slash has
/// `application/` in front (TOK-01). `types` are lower case and have it.
fn is_of_type(kind: Option<&str>, types: &[Box<str>]) -> bool {
    let Some(kind) = kind else { return false };
    types.iter().any(|expected| {
        let short = expected
            .strip_prefix("application/")
            .filter(|short| !short.contains('/'));
        kind.eq_ignore_ascii_case(expected)
            || short.is_some_and(|short| kind.eq_ignore_ascii_case(short))
    })
}

fn malformed(detail: impl Into<Box<str>>) -> Refusal {
    Refusal::because(Reason::TokenMalformed, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reason(header: &str) -> Option<Reason> {
        Header::parse(header.as_bytes()).err().map(|r| r.reason())
    }

    #[test]
    fn headers() {
        // TOK-02, TOK-06, TOK-07, TOK-14
        use Reason::{AlgorithmForbidden, TokenExtensionUnknown, TokenMalformed};
        for (header, expected) in [
            (r#"{"alg":"ES256"}"#, None),
            (r#"{"alg":"Ed25519","kid":"1","typ":"at+jwt"}"#, None),
            (r#"{"alg":"none"}"#, Some(AlgorithmForbidden)),
            (r#"{"alg":"nOnE"}"#, Some(AlgorithmForbidden)),
            (r#"{"alg":"es256"}"#, Some(AlgorithmForbidden)),
            (r#"{"alg":"HS256"}"#, Some(AlgorithmForbidden)),
            (r#"{"alg":""}"#, Some(AlgorithmForbidden)),
            (r#"{"alg":null}"#, Some(TokenMalformed)),
            (r#"{"alg":["ES256"]}"#, Some(TokenMalformed)),
            (r#"{}"#, Some(TokenMalformed)),
            (r#"{"alg":"ES256","alg":"ES256"}"#, Some(TokenMalformed)),
            (r#"{"alg":"ES256","crit":[]}"#, Some(TokenExtensionUnknown)),
            (
                r#"{"alg":"ES256","crit":null}"#,
                Some(TokenExtensionUnknown),
            ),
            (r#"{"alg":"ES256","b64":true}"#, Some(TokenExtensionUnknown)),
            (r#"{"alg":"ES256","kid":7}"#, Some(TokenMalformed)),
            (r#"{"alg":"ES256","kid":"a\r\nb"}"#, Some(TokenMalformed)),
            (r#"{"alg":"ES256","typ":7}"#, Some(TokenMalformed)),
        ] {
            assert_eq!(reason(header), expected, "{header}");
        }
        let long = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "k".repeat(257));
        assert_eq!(reason(&long), Some(TokenMalformed));
        let of_bytes = |bytes: usize| {
            let around = r#"{"alg":"ES256","x":""}"#.len();
            format!(r#"{{"alg":"ES256","x":"{}"}}"#, "k".repeat(bytes - around))
        };
        assert_eq!(HEADER_BYTES, 8192);
        assert_eq!(reason(&of_bytes(HEADER_BYTES)), None);
        assert_eq!(reason(&of_bytes(HEADER_BYTES + 1)), Some(TokenMalformed));
    }

    #[test]
    fn types() {
        // TOK-01
        let types = ["application/at+jwt".into()];
        for (kind, fits) in [
            (Some("at+jwt"), true),
            (Some("AT+JWT"), true),
            (Some("application/at+jwt"), true),
            (Some("Application/At+Jwt"), true),
            (Some("JWT"), false),
            (Some("dpop+jwt"), false),
            (Some("text/at+jwt"), false),
            (Some(" at+jwt"), false),
            (Some(""), false),
            (None, false),
        ] {
            assert_eq!(is_of_type(kind, &types), fits, "{kind:?}");
        }
    }

    #[test]
    fn only_a_plain_iss_chooses_the_issuer() {
        let reason = |claims: &str| match claimed_issuer(claims.as_bytes()) {
            Ok(issuer) => Ok(issuer.into_owned()),
            Err(refusal) => Err(refusal.reason()),
        };
        assert_eq!(reason(r#"{"iss":"a"}"#), Ok("a".into()));
        assert_eq!(
            reason(r#"{"x":{"iss":"b"},"iss":"\u0061"}"#),
            Ok("a".into())
        );
        assert_eq!(reason(r#"{}"#), Err(Reason::ClaimMissing));
        for claims in [
            r#"{"iss":1}"#,
            r#"{"iss":{}}"#,
            r#"{"iss":["a"]}"#,
            r#"{"iss":null}"#,
            r#"{"iss":"a","iss":"a"}"#,
            r#"["iss","a"]"#,
            r#"{"iss":"a"} {}"#,
            "",
        ] {
            assert_eq!(reason(claims), Err(Reason::ClaimMalformed), "{claims}");
        }
    }

    #[test]
    fn base64url_has_one_form() {
        // TOK-15
        assert!(decoded("x", "YQ").is_ok());
        for text in ["YQ==", "YR", "Y Q", "YQ\n", "Y+", "Y/", "Y"] {
            assert!(decoded("x", text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, text: String) {
            drop(Header::parse(&bytes));
            drop(claimed_issuer(&bytes));
            drop(Candidate::new(AccessToken::new(text), std::iter::empty(), &mut None));
        }
    }
}
