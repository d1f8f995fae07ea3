//! Host and port of a request, in one spelling.

use std::net::Ipv6Addr;

/// A host and perhaps a port (RFC 3986 s3.2 without userinfo), normalised: lower case, without one
/// trailing dot, an IPv6 address in brackets and in the form of RFC 5952.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Authority {
    pub(super) host: Box<str>,
    pub(super) port: Option<u16>,
}

/// Longest name of the domain system in text, with its trailing dot (RFC 1035 s2.3.4).
const HOST_BYTES: usize = 254;

impl Authority {
    /// Reads an authority; anything that is not plainly a host and a port is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = if let Some(inside) = text.strip_prefix('[') {
            let (address, after) = inside.split_once(']')?;
            let address: Ipv6Addr = address.parse().ok()?;
            let port = match after {
                "" => None,
                _ => Some(after.strip_prefix(':')?),
            };
            (format!("[{address}]"), port)
        } else {
            let (name, port) = match text.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (text, None),
            };
            (reg_name(name)?, port)
        };
        Some(Self {
            host: host.into_boxed_str(),
            port: match port {
                // An empty port is the scheme's own (RFC 3986 s3.2.3).
                None | Some("") => None,
                Some(digits) => Some(port_number(digits)?),
            },
        })
    }

    /// Whether both name the same server of `https`.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        self.host == other.host && self.port.unwrap_or(443) == other.port.unwrap_or(443)
    }
}

fn reg_name(name: &str) -> Option<String> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if name.len() > HOST_BYTES || !name.bytes().all(known) {
        return None;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    (!name.is_empty()).then(|| name.to_ascii_lowercase())
}

fn port_number(digits: &str) -> Option<u16> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    plain.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_a_server() {
        let cases = [
            ("api.bank.example", Some(("api.bank.example", None))),
            ("API.Bank.Example.", Some(("api.bank.example", None))),
            (
                "api.bank.example:8443",
                Some(("api.bank.example", Some(8443))),
            ),
            ("api.bank.example:", Some(("api.bank.example", None))),
            ("127.0.0.1:1", Some(("127.0.0.1", Some(1)))),
            ("[::1]:443", Some(("[::1]", Some(443)))),
            ("[0:0::0:1]", Some(("[::1]", None))),
            ("api..", Some(("api.", None))),
            ("", None),
            (".", None),
            (":443", None),
            ("u@api", None),
            ("api:65536", None),
            ("api:0", None),
            ("api:0443", None),
            ("api:+443", None),
            ("api:443:443", None),
            ("a, b", None),
            ("a b", None),
            ("a/b", None),
            ("a%2eb", None),
            ("b\u{fc}cher", None),
            ("::1", None),
            ("[::1", None),
            ("[::1]x", None),
            ("[fe80::1%25eth0]", None),
            ("[v1.a]", None),
        ];
        for (text, expected) in cases {
            let found = Authority::parse(text);
            let found = found.as_ref().map(|a| (&*a.host, a.port));
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn a_host_has_an_end() {
        let host = |bytes: usize| Authority::parse(&"a".repeat(bytes)).is_some();
        assert!(host(HOST_BYTES));
        assert!(!host(HOST_BYTES + 1));
        assert!(!host(HOST_BYTES * 2));
    }

    #[test]
    fn the_default_port_may_be_left_out() {
        let parse = |text| Authority::parse(text).unwrap();
        assert!(parse("a").agrees(&parse("A.:443")));
        assert!(!parse("a").agrees(&parse("a:8443")));
        assert!(!parse("a").agrees(&parse("b")));
    }
}
