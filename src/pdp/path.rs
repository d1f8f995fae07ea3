//! What a path may look like: one reading, or none.
//!
//! A path is judged and forwarded octet for octet (HTTP-09), so it must mean the same to us and to
//! whatever stands behind. What two servers could read in two ways is refused and never repaired
//! (AUTHZ-05): always, or unless the route opens it ([`Ambiguities`]).

use std::fmt;

use super::head::Ambiguities;

/// How often a path may be encoded on top of itself, where a route opens `%25` at all.
const NESTING: usize = 4;

/// Why a path is refused whatever the route opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It does not begin with `/`.
    Relative,
    /// A raw byte that RFC 3986 s3.3 does not allow in a path.
    Character(u8),
    /// `%` without two hexadecimal digits after it.
    Escape,
    /// An escape of a character that must not be escaped (RFC 3986 s2.3).
    Unreserved(u8),
    /// A control character, plain or encoded.
    Control,
    /// `\`, plain or encoded: many servers turn it into `/`.
    Backslash,
    /// A segment that is `.` or `..` to somebody.
    DotSegment,
    /// Escapes that are no UTF-8; overlong forms among them (RFC 3629 s3).
    Utf8,
    /// Encoded again and again.
    Nesting,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relative => f.write_str("the path does not begin with /"),
            Self::Character(byte) => {
                write!(
                    f,
                    "the path holds the raw byte 0x{byte:02x}, which must be percent-encoded"
                )
            }
            Self::Escape => f.write_str("the path holds a % without two hexadecimal digits"),
            Self::Unreserved(byte) => write!(
                f,
                "the path holds %{byte:02X}, which must be sent plain (RFC 3986 s2.3)"
            ),
            Self::Control => f.write_str("the path holds a control character"),
            Self::Backslash => f.write_str("the path holds a backslash"),
            Self::DotSegment => f.write_str("the path holds a dot segment"),
            Self::Utf8 => f.write_str("the escapes of the path are no UTF-8"),
            Self::Nesting => f.write_str("the path is percent-encoded too many times over"),
        }
    }
}

/// What an unrefused path holds that somebody could still read in another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Shape {
    /// What a route must open.
    pub(super) ambiguities: Ambiguities,
    /// An encoded `?` or `#`: plain data, but a server that decodes before it splits would cut
    /// there. Taken where the cut path has the same route.
    pub(super) delimiter: bool,
}

impl Shape {
    /// Whether the path has one reading only.
    pub(super) fn is_plain(self) -> bool {
        self == Self::default()
    }
}

/// Reads a path as it was sent.
pub(super) fn inspect(path: &str) -> Result<Shape, Flaw> {
    if !path.starts_with('/') {
        return Err(Flaw::Relative);
    }
    let mut shape = Shape::default();
    let (mut escaped, mut dotted) = (false, false);
    let mut previous = b' ';
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'A'..=b'Z' => {}
            b'.' => dotted = true,
            b'%' => {
                escaped = true;
                let high = bytes.next().and_then(nibble).ok_or(Flaw::Escape)?;
                let low = bytes.next().and_then(nibble).ok_or(Flaw::Escape)?;
                escape((high << 4) | low, &mut shape)?;
            }
            b'/' => shape.ambiguities.double_slash |= previous == b'/',
            b';' => shape.ambiguities.semicolon = true,
            b'\\' => return Err(Flaw::Backslash),
            0..=0x1f | 0x7f => return Err(Flaw::Control),
            _ if is_unreserved(byte) || is_plain_reserved(byte) => {}
            _ => return Err(Flaw::Character(byte)),
        }
        previous = byte;
    }
    if escaped {
        // Every reading that decodes must be free of what no route may open.
        for reading in decodings(path)? {
            settled(&reading)?;
        }
    }
    // As sent, it holds no blanks; without a dot, there is no segment of dots in it.
    if dotted {
        dot_segments(path)?;
    }
    Ok(shape)
}

/// Judges one escape. What no reading may hold is found in the readings ([`settled`]).
fn escape(value: u8, shape: &mut Shape) -> Result<(), Flaw> {
    match value {
        b'/' => shape.ambiguities.encoded_slash = true,
        b'%' => shape.ambiguities.encoded_percent = true,
        b';' => shape.ambiguities.semicolon = true,
        b'?' | b'#' => shape.delimiter = true,
        _ if is_unreserved(value) => return Err(Flaw::Unreserved(value)),
        _ => {}
    }
    Ok(())
}

/// Judges a decoded reading.
fn settled(reading: &str) -> Result<(), Flaw> {
    if reading.contains('\\') {
        return Err(Flaw::Backslash);
    }
    // The second half of the controls, U+0080 to U+009F, can only come encoded.
    if reading.chars().any(char::is_control) {
        return Err(Flaw::Control);
    }
    dot_segments(reading)
}

/// A segment counts as a dot segment if it is one after its parameters are cut and the blanks
/// around it are trimmed, as some servers do. So does one that is gone then, of blanks or of dots
/// alone, where another stands after it: that would move up.
fn dot_segments(reading: &str) -> Result<(), Flaw> {
    let mut gone = false;
    let found = reading.split('/').any(|segment| {
        let name = segment.split([';', '?', '#']).next().unwrap_or(segment);
        let trimmed = name.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
        let vanishes = trimmed.bytes().all(|byte| byte == b'.');
        let moved = gone && !vanishes;
        gone |= vanishes && !name.is_empty();
        moved || matches!(trimmed, "." | "..")
    });
    if found { Err(Flaw::DotSegment) } else { Ok(()) }
}

/// The path decoded once, twice and so on until nothing changes any more.
pub(super) fn decodings(path: &str) -> Result<Vec<String>, Flaw> {
    let mut readings: Vec<String> = Vec::new();
    let mut last = path;
    for _ in 0..=NESTING {
        let next = String::from_utf8(decoded(last).collect()).map_err(|_not_utf8| Flaw::Utf8)?;
        if next == last {
            return Ok(readings);
        }
        readings.push(next);
        last = readings.last().map_or(path, String::as_str);
    }
    Err(Flaw::Nesting)
}

/// Other ways in which the path could be read: decoded any number of times, and then with or
/// without parameters cut, slashes merged, and a decoded query cut. `true` with those whose segments
/// are still percent-encoded.
pub(super) fn careless(path: &str) -> Result<Vec<(String, bool)>, Flaw> {
    let mut bases = vec![(path.to_owned(), true)];
    bases.extend(decodings(path)?.into_iter().map(|reading| (reading, false)));
    let mut readings: Vec<(String, bool)> = Vec::new();
    for (base, encoded) in bases {
        for changes in 0..8_u8 {
            let mut reading = base.clone();
            if changes & 1 != 0 {
                reading = reading.split(['?', '#']).next().unwrap_or("/").to_owned();
            }
            if changes & 2 != 0 {
                let names = reading.split('/').map(|s| s.split(';').next().unwrap_or(s));
                reading = names.collect::<Vec<_>>().join("/");
            }
            if changes & 4 != 0 {
                reading = merged(&reading);
            }
            if !readings.iter().any(|(r, e)| *r == reading && *e == encoded) {
                readings.push((reading, encoded));
            }
        }
    }
    Ok(readings)
}

fn merged(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !out.ends_with('/') {
            out.push(c);
        }
    }
    out
}

/// The bytes of a text with each good escape replaced by its byte, once.
pub(super) fn decoded<T: AsRef<[u8]> + ?Sized>(text: &T) -> impl Iterator<Item = u8> + Clone + '_ {
    let mut bytes = text.as_ref().iter().copied();
    std::iter::from_fn(move || {
        let byte = bytes.next()?;
        if byte != b'%' {
            return Some(byte);
        }
        let mut ahead = bytes.clone();
        let value = ahead
            .next()
            .and_then(nibble)
            .zip(ahead.next().and_then(nibble));
        let Some((high, low)) = value else {
            return Some(byte);
        };
        bytes = ahead;
        Some((high << 4) | low)
    })
}

pub(super) const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(digit.wrapping_sub(b'a').wrapping_add(10)),
        b'A'..=b'F' => Some(digit.wrapping_sub(b'A').wrapping_add(10)),
        _ => None,
    }
}

/// RFC 3986 s2.3.
pub(super) const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What else RFC 3986 s3.3 allows in a segment, but for `;`.
pub(super) const fn is_plain_reserved(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@'
    )
}

#[cfg(test)]
pub(super) mod tests;
