//! Single values: durations, sizes, numbers, lists, addresses.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::document::At;
use super::problem::Findings;

/// Milliseconds, for ranges.
pub(super) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Seconds, for ranges.
pub(super) const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A year, for ranges.
pub(super) const YEAR: Duration = secs(31_557_600);

/// Hours, for ranges.
pub(super) const fn hours(count: u64) -> Duration {
    Duration::from_secs(count.saturating_mul(3600))
}

/// A duration under a key, held to a range.
pub(super) fn duration(
    at: &At,
    key: &str,
    text: Option<&str>,
    range: RangeInclusive<Duration>,
    out: &mut Findings,
) -> Duration {
    let at = at.key(key);
    let show = humantime::format_duration;
    let right = format!(
        "write a duration from {} to {}, such as \"250ms\", \"5s\" or \"10m\"",
        show(*range.start()),
        show(*range.end())
    );
    let text = text.unwrap_or_default().trim();
    // `0` alone has no unit and needs none.
    let parsed = if text == "0" {
        Ok(Duration::ZERO)
    } else {
        humantime::parse_duration(text)
    };
    match parsed {
        Ok(duration) if range.contains(&duration) => return duration,
        Ok(duration) => {
            at.refuse(out, format!("{} is out of range", show(duration)), right);
        }
        Err(_) => at.refuse(out, format!("{text:?} is no duration"), right),
    }
    *range.start()
}

/// A size under a key, held to a range.
pub(super) fn size(
    at: &At,
    key: &str,
    text: Option<&str>,
    range: RangeInclusive<u64>,
    out: &mut Findings,
) -> u64 {
    let at = at.key(key);
    let show = |bytes: u64| bytesize::ByteSize::b(bytes).display().iec().to_string();
    let right = format!(
        "write a size from {} to {}, such as \"64KiB\" or \"16MiB\"",
        show(*range.start()),
        show(*range.end())
    );
    let text = text.unwrap_or_default().trim();
    match text.parse::<bytesize::ByteSize>() {
        Ok(bytesize::ByteSize(bytes)) if range.contains(&bytes) => return bytes,
        Ok(bytesize::ByteSize(bytes)) => {
            at.refuse(out, format!("{} is out of range", show(bytes)), right);
        }
        Err(_) => at.refuse(out, format!("{text:?} is no size"), right),
    }
    *range.start()
}

/// A size that is held in memory.
pub(super) fn memory(
    at: &At,
    key: &str,
    text: Option<&str>,
    range: RangeInclusive<u64>,
    out: &mut Findings,
) -> usize {
    usize::try_from(size(at, key, text, range, out)).unwrap_or(usize::MAX)
}

/// A count under a key, held to a range.
pub(super) fn count(
    at: &At,
    key: &str,
    number: Option<u64>,
    range: RangeInclusive<u32>,
    out: &mut Findings,
) -> u32 {
    match number.map(u32::try_from) {
        Some(Ok(number)) if range.contains(&number) => number,
        _ => {
            at.key(key).refuse(
                out,
                format!("{} is out of range", number.unwrap_or_default()),
                format!("write a number from {} to {}", range.start(), range.end()),
            );
            *range.start()
        }
    }
}

/// A text that must say something and hold no control character.
pub(super) fn text(at: &At, value: &str, out: &mut Findings) -> Box<str> {
    if value.trim().is_empty() {
        at.refuse(out, "this is empty", "write a value, or leave the key out");
    } else if value.chars().any(char::is_control) {
        at.refuse(out, "this holds a control character", "remove it");
    } else if value.trim() != value {
        at.refuse(out, "this begins or ends with a blank", "remove the blank");
    }
    value.into()
}

/// A list that must have values, none empty and none twice.
pub(super) fn list(at: &At, values: &[String], out: &mut Findings) -> Vec<Box<str>> {
    if values.is_empty() {
        at.refuse(
            out,
            "this list is empty",
            "write at least one value, or leave the key out",
        );
    }
    for (index, value) in values.iter().enumerate() {
        let here = at.item(index);
        text(&here, value, out);
        if values.iter().take(index).any(|other| other == value) {
            here.refuse(out, format!("{value:?} comes twice"), "remove one");
        }
    }
    values.iter().map(|value| value.as_str().into()).collect()
}

/// A name of a listener, issuer, upstream, route or policy: it stands in logs, metrics and files.
pub(super) fn name(at: &At, value: &str, out: &mut Findings) {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if value.is_empty() || value.len() > 64 || !value.chars().all(plain) {
        at.refuse_key(
            out,
            format!("{value:?} is no name"),
            "use 1 to 64 letters, digits, `-`, `_` or `.`",
        );
    }
}

/// An `http` or `https` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) https: bool,
    /// Lower case, without a dot at the end; IPv6 in brackets.
    pub(super) host: Box<str>,
    pub(super) port: u16,
    /// Begins with `/`.
    pub(super) path: Box<str>,
    pub(super) query: bool,
}

impl Address {
    /// The host as it stands in a certificate: IPv6 without brackets.
    pub(super) fn bare_host(&self) -> &str {
        self.host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(&self.host)
    }

    /// Whether the host is an address and no name.
    pub(super) fn is_ip(&self) -> bool {
        self.bare_host().parse::<std::net::IpAddr>().is_ok()
    }
}

/// Reads an address. Credentials and fragments have no place in one.
pub(super) fn address(at: &At, value: &str, out: &mut Findings) -> Option<Address> {
    match parse_address(value) {
        Ok(address) => Some(address),
        Err(wrong) => {
            at.refuse(
                out,
                format!("{value:?} is no address: {wrong}"),
                "write it like \"https://api.bank.example\"",
            );
            None
        }
    }
}

/// An address that must be https.
pub(super) fn https(at: &At, value: &str, out: &mut Findings) -> Option<Address> {
    let address = address(at, value, out)?;
    if !address.https {
        at.refuse(
            out,
            "this address is not https",
            "use https: it is what keeps keys and tokens from being exchanged on the way",
        );
        return None;
    }
    Some(address)
}

fn parse_address(value: &str) -> Result<Address, String> {
    if value.contains('#') {
        return Err("it has a fragment".to_owned());
    }
    let uri: http::Uri = value
        .parse()
        .map_err(|error: http::uri::InvalidUri| error.to_string())?;
    let https = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err("it does not begin with https://".to_owned()),
    };
    let authority = uri.authority().ok_or("it has no host")?;
    if authority.as_str().contains('@') {
        return Err("it has a user name".to_owned());
    }
    let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
    if host.is_empty() {
        return Err("it has no host".to_owned());
    }
    let rest = authority.as_str().strip_prefix(authority.host());
    let port = match rest {
        None | Some("") if https => 443,
        None | Some("") => 80,
        Some(port) => port
            .strip_prefix(':')
            .and_then(|port| port.parse().ok())
            .filter(|port| *port != 0)
            .ok_or("its port is no number from 1 to 65535")?,
    };
    Ok(Address {
        https,
        host: host.into(),
        port,
        path: uri.path().into(),
        query: uri.query().is_some(),
    })
}

/// A date as the second that follows its last one, UTC.
pub(super) fn end_of_day(text: &str) -> Option<u64> {
    let mut parts = text.split('-');
    let number = |part: Option<&str>, digits: usize| -> Option<u64> {
        let part = part?;
        let digit = part.bytes().all(|byte| byte.is_ascii_digit());
        (part.len() == digits && digit).then(|| part.parse().ok())?
    };
    let year = number(parts.next(), 4)?;
    let month = number(parts.next(), 2)?;
    let day = number(parts.next(), 2)?;
    if parts.next().is_some() {
        return None;
    }
    let text = format!("{year:04}-{month:02}-{day:02}T00:00:00Z");
    // humantime takes the 31st of every month.
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !(1..=days).contains(&day) {
        return None;
    }
    let start = humantime::parse_rfc3339(&text).ok()?;
    let since = start.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(since.as_secs().saturating_add(24 * 3600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_strictly() {
        let address = parse_address("https://API.Bank.Example.:8443/x").unwrap();
        assert_eq!(&*address.host, "api.bank.example");
        assert_eq!((address.port, &*address.path), (8443, "/x"));
        assert_eq!(parse_address("https://a").unwrap().port, 443);
        assert_eq!(parse_address("http://a").unwrap().port, 80);
        let v6 = parse_address("https://[::1]:99").unwrap();
        assert_eq!((v6.bare_host(), v6.port, v6.is_ip()), ("::1", 99, true));
        for bad in [
            "",
            "a",
            "//a",
            "ftp://a",
            "https://",
            "https://u@a",
            "https://u:p@a",
            "https://a:0",
            "https://a:",
            "https://a:70000",
            "https://a#f",
            "https://a:x",
            "https://a b",
        ] {
            assert!(parse_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_date_means_its_end() {
        assert_eq!(end_of_day("1970-01-01"), Some(86_400));
        assert_eq!(end_of_day("2027-01-31"), Some(1_801_440_000));
        assert_eq!(end_of_day("2028-02-29"), Some(1_835_481_600));
        for bad in [
            "2027-02-29",
            "2027-1-31",
            "2027-04-31",
            "31.01.2027",
            "2027-01-31T00:00",
            "",
            "2027-13-01",
            "2027-00-10",
            "2027-01-00",
        ] {
            assert_eq!(end_of_day(bad), None, "{bad}");
        }
    }
}
