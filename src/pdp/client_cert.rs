//! The client certificate that a TLS-terminating proxy in front passes on in a header: RFC 9440,
//! and the older forms of Envoy and nginx.
//!
//! Only what the headers hold is read here. Whether their sender may be believed, and whether the
//! certificate is good, is for others to say.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::refusal::{Reason, Refusal};

/// Certificates that are read of a chain, the leaf included.
pub const CHAIN: usize = 10;

const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
const XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const X_SSL_CLIENT_CERT: HeaderName = HeaderName::from_static("x-ssl-client-cert");

/// How a proxy writes the certificate down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `Client-Cert` and `Client-Cert-Chain` (RFC 9440 s2).
    ClientCert,
    /// Envoy's `X-Forwarded-Client-Cert`: `Cert` of the last element, `Chain` beside it.
    Xfcc,
    /// `X-SSL-Client-Cert` with nginx's `$ssl_client_escaped_cert`.
    Nginx,
}

impl Form {
    /// The header of the certificate, and the one that may stand beside it.
    #[must_use]
    pub const fn fields(self) -> (HeaderName, Option<HeaderName>) {
        match self {
            Self::ClientCert => (CLIENT_CERT, Some(CLIENT_CERT_CHAIN)),
            Self::Xfcc => (XFCC, None),
            Self::Nginx => (X_SSL_CLIENT_CERT, None),
        }
    }
}

/// A certificate out of a header, DER. Nothing of it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// The client's own.
    pub leaf: Vec<u8>,
    /// What may lead from it to an authority.
    pub intermediates: Vec<Vec<u8>>,
}

/// Reads the certificate of a request; `None` where the header is not there: the client presented
/// none.
///
/// # Errors
/// `field_repeated` where the header came twice: which one the proxy wrote cannot be known.
/// `client_cert_malformed`.
pub fn presented(form: Form, headers: &HeaderMap) -> Result<Option<Presented>, Refusal> {
    let (name, beside) = form.fields();
    let value = single(headers, &name)?;
    let read = match (form, value) {
        (_, None) => {
            let orphan = beside.filter(|beside| headers.contains_key(beside));
            return match orphan {
                // RFC 9440 s2.3: not without Client-Cert.
                Some(_) => Err(malformed("Client-Cert-Chain without Client-Cert")),
                None => Ok(None),
            };
        }
        (Form::ClientCert, Some(value)) => Presented {
            leaf: byte_sequence(value.trim_ascii())?,
            intermediates: chain(headers)?,
        },
        (Form::Xfcc, Some(value)) => xfcc(value)?,
        (Form::Nginx, Some(value)) => Presented {
            leaf: only(certificates(value)?)?,
            intermediates: Vec::new(),
        },
    };
    if read.intermediates.len() >= CHAIN {
        return Err(malformed("the chain is longer than 10 certificates"));
    }
    Ok(Some(read))
}

fn malformed(why: &str) -> Refusal {
    Refusal::because(Reason::ClientCertMalformed, why)
}

/// The one value of a field.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h [u8]>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(HeaderValue::as_bytes);
    if values.next().is_some() {
        return Err(Refusal::because(Reason::FieldRepeated, name.as_str()));
    }
    Ok(first)
}

/// A byte sequence of structured fields and nothing else: no parameter, no list (RFC 9440 s2.1,
/// RFC 9651 s3.3.5).
fn byte_sequence(text: &[u8]) -> Result<Vec<u8>, Refusal> {
    let inner = text
        .strip_prefix(b":")
        .and_then(|rest| rest.strip_suffix(b":"))
        .ok_or_else(|| malformed("no byte sequence: base64 between two colons"))?;
    let der = STANDARD
        .decode(inner)
        .map_err(|_error| malformed("no base64 between the colons"))?;
    if der.is_empty() {
        return Err(malformed(
            "an empty byte sequence: without a certificate the header must be left out",
        ));
    }
    Ok(der)
}

/// `Client-Cert-Chain`: a list of byte sequences, over one line or several (RFC 9440 s2.3).
fn chain(headers: &HeaderMap) -> Result<Vec<Vec<u8>>, Refusal> {
    let mut found = Vec::new();
    for line in headers.get_all(CLIENT_CERT_CHAIN) {
        for member in line.as_bytes().split(|byte| *byte == b',') {
            if found.len() >= CHAIN {
                return Err(malformed("the chain is longer than 10 certificates"));
            }
            found.push(byte_sequence(member.trim_ascii())?);
        }
    }
    Ok(found)
}

/// The last element is what the proxy nearest to us wrote of its own client; those before it are
/// what that client said.
fn xfcc(value: &[u8]) -> Result<Presented, Refusal> {
    let (mut certificate, mut chain) = (None, None);
    let mut rest = value;
    loop {
        let (pair, separator, after) = pair(rest)?;
        let known = match pair.key {
            key if key.eq_ignore_ascii_case(b"cert") => Some(&mut certificate),
            key if key.eq_ignore_ascii_case(b"chain") => Some(&mut chain),
            _ => None,
        };
        if let Some(slot) = known
            && slot.replace(pair.value).is_some()
        {
            return Err(malformed("Cert or Chain comes twice in an element"));
        }
        rest = after;
        match separator {
            None => break,
            Some(b',') => (certificate, chain) = (None, None),
            Some(_) => {}
        }
    }
    let Some(certificate) = certificate else {
        return Err(malformed(
            "the last element has no Cert: a hash or a name is not enough",
        ));
    };
    let leaf = only(certificates(&certificate)?)?;
    let mut intermediates = match chain {
        Some(chain) => certificates(&chain)?,
        None => Vec::new(),
    };
    // Envoy's chain begins with the leaf.
    intermediates.retain(|der| *der != leaf);
    Ok(Presented {
        leaf,
        intermediates,
    })
}

/// `Key=value` of an element.
struct Pair<'v> {
    key: &'v [u8],
    value: Vec<u8>,
}

/// Reads one pair, and the separator after it if there is one. A separator within quotes is none.
fn pair(text: &[u8]) -> Result<(Pair<'_>, Option<u8>, &[u8]), Refusal> {
    let (key, mut rest) = split_at_byte(text, |byte| byte == b'=')
        .ok_or_else(|| malformed("an element is no list of Key=value"))?;
    let key = key.trim_ascii();
    if key.is_empty() || !key.iter().all(u8::is_ascii_alphanumeric) {
        return Err(malformed("an element is no list of Key=value"));
    }
    let mut value = Vec::new();
    if let Some(quoted) = rest.strip_prefix(b"\"") {
        rest = quoted;
        loop {
            match rest {
                [b'"', after @ ..] => {
                    rest = after;
                    break;
                }
                [b'\\', escaped, after @ ..] => {
                    value.push(*escaped);
                    rest = after;
                }
                [byte, after @ ..] => {
                    value.push(*byte);
                    rest = after;
                }
                [] => return Err(malformed("a quoted value does not end")),
            }
        }
        let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
        rest = rest.get(spaces..).unwrap_or_default();
        return match rest {
            [] => Ok((Pair { key, value }, None, rest)),
            [separator @ (b',' | b';'), after @ ..] => {
                Ok((Pair { key, value }, Some(*separator), after))
            }
            [..] => Err(malformed("something follows a quoted value")),
        };
    }
    let ends = |byte: &u8| matches!(byte, b',' | b';');
    let at = rest.iter().position(ends).unwrap_or(rest.len());
    let (plain, after) = rest.split_at_checked(at).unwrap_or((rest, &[]));
    if plain.contains(&b'"') {
        // Two readers would not agree where such a value ends.
        return Err(malformed("a quote within a value that is not quoted"));
    }
    value.extend_from_slice(plain);
    let (separator, after) = match after.split_first() {
        Some((first, after)) => (Some(*first), after),
        None => (None, after),
    };
    Ok((Pair { key, value }, separator, after))
}

/// What stands before and after the first byte of this kind.
fn split_at_byte(text: &[u8], is: impl Fn(u8) -> bool) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| is(*byte))?;
    let (before, after) = text.split_at_checked(at)?;
    Some((before, after.split_first()?.1))
}

fn only(certificates: Vec<Vec<u8>>) -> Result<Vec<u8>, Refusal> {
    match <[Vec<u8>; 1]>::try_from(certificates) {
        Ok([one]) => Ok(one),
        Err(_) => Err(malformed("not one certificate, but several")),
    }
}

/// Certificates in PEM, percent-encoded. At least one.
fn certificates(encoded: &[u8]) -> Result<Vec<Vec<u8>>, Refusal> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let text = percent_decoded(encoded)
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| malformed("the percent-encoding is broken"))?;
    let newline = ['\r', '\n'];
    let mut rest = text.trim_matches(newline);
    let mut found = Vec::new();
    loop {
        let (body, after) = rest
            .strip_prefix(BEGIN)
            .and_then(|rest| rest.split_once(END))
            .ok_or_else(|| malformed("no certificate in PEM"))?;
        let body: String = body.chars().filter(|c| !newline.contains(c)).collect();
        let der = STANDARD
            .decode(body)
            .map_err(|_error| malformed("no base64 in the PEM"))?;
        if der.is_empty() {
            return Err(malformed("an empty certificate"));
        }
        found.push(der);
        if found.len() > CHAIN {
            return Err(malformed("the chain is longer than 10 certificates"));
        }
        rest = after.trim_start_matches(newline);
        if rest.is_empty() {
            return Ok(found);
        }
    }
}

/// RFC 3986 s2.1. A `+` is a `+`: base64 has it, and this is no form.
fn percent_decoded(encoded: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    loop {
        match rest {
            [] => return Some(decoded),
            [b'%', high, low, after @ ..] => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let value = (digit(*high)? << 4) | digit(*low)?;
                decoded.push(u8::try_from(value).ok()?);
                rest = after;
            }
            [b'%', ..] => return None,
            [byte, after @ ..] => {
                decoded.push(*byte);
                rest = after;
            }
        }
    }
}

#[cfg(test)]
mod tests;
