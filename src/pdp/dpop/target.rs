//! `htu`: whether a proof was made for the URI that the client called (RFC 9449 s4.3).

use std::fmt;

use crate::pdp::authority::Authority;
use crate::pdp::path::{is_plain_reserved, is_unreserved, nibble};

/// An `https` URI without query and fragment, in one spelling (RFC 3986 s6.2.2 and s6.2.3): scheme
/// and host in lower case, no default port, escapes of unreserved characters decoded and others in
/// capitals, dot segments removed, `/` for an empty path (DPOP-10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetUri {
    authority: Authority,
    path: String,
}

impl TargetUri {
    /// Reads a URI; query and fragment are cut off unread (DPOP-09). `None` for what is not an
    /// `https` URI by RFC 3986, or has userinfo, which no target of a request has.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        if !scheme.eq_ignore_ascii_case("https") {
            return None;
        }
        let rest = rest.split(['?', '#']).next().unwrap_or(rest);
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at_checked(at)?,
            None => (rest, "/"),
        };
        // One trailing dot is taken off, so a host that still has one has an empty label.
        let authority = Authority::parse(authority).filter(|found| !found.host.ends_with('.'))?;
        Some(Self {
            authority: Authority {
                port: authority.port.filter(|port| *port != 443),
                ..authority
            },
            path: normal_path(path)?,
        })
    }
}

impl TargetUri {
    /// Scheme, host and port.
    pub(super) fn origin(&self) -> String {
        match self.authority.port {
            Some(port) => format!("https://{}:{port}", self.authority.host),
            None => format!("https://{}", self.authority.host),
        }
    }
}

impl fmt::Display for TargetUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority.host)?;
        if let Some(port) = self.authority.port {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.path)
    }
}

/// The origins of a listener: what clients call it. They are configuration, so that neither `Host`
/// nor a forwarded header can choose what a proof is compared with (DPOP-11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origins(Vec<Origin>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    authority: Authority,
    /// As most clients write it: see [`Target::is_spelled`].
    plain: Box<str>,
}

impl Origins {
    /// Reads `public_url` and the aliases.
    ///
    /// # Errors
    /// What is wrong and what would be right, where there is none, or one is no `https` origin.
    pub fn new<T: AsRef<str>>(urls: &[T]) -> Result<Self, String> {
        if urls.is_empty() {
            return Err("a listener that takes DPoP proofs needs a public_url".to_owned());
        }
        let origins = urls.iter().map(|url| {
            let url = url.as_ref();
            TargetUri::parse(url)
                .filter(|uri| uri.path == "/" && !url.contains(['?', '#']))
                .map(|uri| Origin {
                    plain: uri.origin().into(),
                    authority: uri.authority,
                })
                .ok_or_else(|| {
                    format!("{url:?} is no origin; write https://, a host and perhaps a port")
                })
        });
        origins.collect::<Result<_, _>>().map(Self)
    }
}

/// What a request was sent to, as the client sees it.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Origins of the listener that took it.
    pub origins: &'a Origins,
    /// The path that the client sent, before any rewrite (DPOP-12).
    pub path: &'a str,
}

impl Target<'_> {
    /// Whether a URI has the path of the target, whatever its origin.
    pub(super) fn has_path_of(&self, htu: &str) -> bool {
        TargetUri::parse(htu).is_some_and(|uri| normal_path(self.path).as_ref() == Some(&uri.path))
    }

    /// Whether a proof with this `htu` is for this target.
    ///
    /// # Errors
    /// What differs, without quoting `htu`.
    pub fn is_named_by(&self, htu: &str) -> Result<(), &'static str> {
        if self.is_spelled(htu) {
            return Ok(());
        }
        let uri = TargetUri::parse(htu).ok_or("htu is no https URI of RFC 3986")?;
        let authority = |origin: &Origin| origin.authority == uri.authority;
        if !self.origins.0.iter().any(authority) {
            return Err("htu names none of public_url and aliases of the listener");
        }
        if normal_path(self.path).as_ref() != Some(&uri.path) {
            return Err("htu has another path than the request");
        }
        Ok(())
    }

    /// Whether this is the target in the one spelling of which nothing need be normalised: an origin
    /// as it is normal, then the path that was sent, of unreserved characters and no segment with a
    /// dot. What is not may still name it.
    fn is_spelled(&self, htu: &str) -> bool {
        let plain = |byte| byte == b'/' || (byte != b'.' && is_unreserved(byte));
        self.origins.0.iter().any(|origin| {
            let path = htu.strip_prefix(&*origin.plain);
            path.is_some_and(|path| {
                path == self.path && path.starts_with('/') && path.bytes().all(plain)
            })
        })
    }
}

/// RFC 3986 s6.2.2, for a path that is absolute and has the characters of s3.3 only. Escapes come
/// before dot segments: `%2e` is a dot. Segments that are empty stay, as they do in s5.2.4.
fn normal_path(path: &str) -> Option<String> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    if !path.starts_with('/') {
        return None;
    }
    let mut plain = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = nibble(bytes.next()?)?;
                let low = nibble(bytes.next()?)?;
                let value = (high << 4) | low;
                if is_unreserved(value) {
                    plain.push(char::from(value));
                } else {
                    plain.push('%');
                    for digit in [high, low] {
                        plain.push(char::from(*HEX.get(usize::from(digit))?));
                    }
                }
            }
            b'/' | b';' => plain.push(char::from(byte)),
            _ if is_unreserved(byte) || is_plain_reserved(byte) => plain.push(char::from(byte)),
            _ => return None,
        }
    }
    Some(without_dot_segments(&plain))
}

/// RFC 3986 s5.2.4 for an absolute path: `.` goes, `..` goes with the segment before it; where one
/// of them is the last, a slash stays.
fn without_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut open = false;
    for segment in path.split('/').skip(1) {
        open = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            _ => kept.push(segment),
        }
    }
    if open {
        kept.push("");
    }
    let mut out = String::with_capacity(path.len());
    for segment in &kept {
        out.push('/');
        out.push_str(segment);
    }
    if out.is_empty() {
        out.push('/');
    }
    out
}

#[cfg(test)]
mod tests;
