//! One line of the access log: JSON for machines, or words for people. Every string is escaped,
//! so that nothing a client sends can begin a line of its own or steer a terminal.

use std::cell::Cell;
use std::io::Write as _;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// The name of a field, as each format writes it between the field before and the value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name {
    pub(super) json: &'static str,
    pub(super) text: &'static str,
}

/// A [`Name`], put together when the program is built.
macro_rules! name {
    ($name:literal) => {
        $crate::telemetry::line::Name {
            json: concat!(",\"", $name, "\":"),
            text: concat!(" ", $name, "="),
        }
    };
}
pub(super) use name;

thread_local! {
    /// The buffer of this thread's last line.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What a spare buffer keeps of its memory: most lines fit.
const KEPT: usize = 4096;

/// A line under way: fields in the order in which they are added.
pub(super) struct Line {
    format: Format,
    text: Vec<u8>,
}

impl Line {
    pub(super) fn new(format: Format) -> Self {
        let mut text = SPARE.take();
        text.clear();
        Self { format, text }
    }

    /// Inlined, so that the length of each name is known where it is copied.
    #[inline]
    fn name(&mut self, name: Name) {
        let (first, text) = match self.format {
            Format::Json => ("{", name.json),
            Format::Text => ("", name.text),
        };
        if self.text.is_empty() {
            self.text.extend_from_slice(first.as_bytes());
            let text = text.get(1..).unwrap_or_default();
            self.text.extend_from_slice(text.as_bytes());
        } else {
            self.text.extend_from_slice(text.as_bytes());
        }
    }

    /// Adds fields, and gives what was added.
    pub(super) fn noted(&mut self, add: impl FnOnce(&mut Self)) -> &[u8] {
        let from = self.text.len();
        add(self);
        self.text.get(from..).unwrap_or_default()
    }

    /// Adds the same fields once more, in another line that has others before them.
    pub(super) fn again(&mut self, fields: &[u8]) {
        self.text.extend_from_slice(fields);
    }

    pub(super) fn string(&mut self, name: Name, value: &str) {
        self.name(name);
        let plain = |c: char| matches!(c, '!'..='~') && !matches!(c, '"' | '\\' | '=');
        if self.format == Format::Text && !value.is_empty() && value.chars().all(plain) {
            self.text.extend_from_slice(value.as_bytes());
            return;
        }
        self.text.push(b'"');
        escape(&mut self.text, value);
        self.text.push(b'"');
    }

    /// A text of letters, digits and marks that need neither escapes nor quotes: one of our own words,
    /// or one whose form was checked.
    #[inline]
    pub(super) fn known(&mut self, name: Name, value: &[u8]) {
        self.plain(name, |text| text.extend_from_slice(value));
    }

    /// A text that stands on its own at the beginning of a line for people.
    pub(super) fn word(&mut self, name: Name, value: &str) {
        match self.format {
            Format::Json => self.string(name, value),
            Format::Text => {
                if !self.text.is_empty() {
                    self.text.push(b' ');
                }
                escape(&mut self.text, value);
            }
        }
    }

    /// The same of a text as [`Self::known`] takes it.
    #[inline]
    pub(super) fn known_word(&mut self, name: Name, value: &[u8]) {
        match self.format {
            Format::Json => self.known(name, value),
            Format::Text => {
                if !self.text.is_empty() {
                    self.text.push(b' ');
                }
                self.text.extend_from_slice(value);
            }
        }
    }

    /// A text that needs no escapes, as `write` adds it.
    #[inline]
    fn plain(&mut self, name: Name, write: impl FnOnce(&mut Vec<u8>)) {
        self.name(name);
        let quoted = self.format == Format::Json;
        if quoted {
            self.text.push(b'"');
        }
        write(&mut self.text);
        if quoted {
            self.text.push(b'"');
        }
    }

    /// Bytes in hexadecimal digits.
    pub(super) fn hex(&mut self, name: Name, value: &[u8]) {
        // Without branches, so that the compiler makes many digits at once.
        let digit = |nibble: u8| nibble + b'0' + u8::from(nibble > 9) * (b'a' - b'0' - 10);
        let digits = |byte: &u8| [digit(byte >> 4), digit(byte & 0x0f)];
        self.plain(name, |text| text.extend(value.iter().flat_map(digits)));
    }

    /// An address with its port.
    pub(super) fn address(&mut self, name: Name, value: SocketAddr) {
        match value {
            SocketAddr::V4(value) => self.plain(name, |text| ipv4(text, value)),
            SocketAddr::V6(value) => self.string(name, &value.to_string()),
        }
    }

    pub(super) fn number(&mut self, name: Name, value: u64) {
        self.name(name);
        let mut digits = itoa::Buffer::new();
        self.text.extend_from_slice(digits.format(value).as_bytes());
    }

    /// A stage in whole microseconds; one that was not reached is left out.
    pub(super) fn micros(&mut self, name: Name, value: Duration) {
        if !value.is_zero() {
            self.number(name, u64::try_from(value.as_micros()).unwrap_or(u64::MAX));
        }
    }

    /// Gives the line, with its line break, to `take`.
    pub(super) fn end(mut self, take: impl FnOnce(&[u8])) {
        if self.format == Format::Json {
            self.text.push(b'}');
        }
        self.text.push(b'\n');
        take(&self.text);
        self.text.clear();
        self.text.shrink_to(KEPT);
        SPARE.set(self.text);
    }
}

/// Without the detours of the formatter: each line has one.
fn ipv4(to: &mut Vec<u8>, value: SocketAddrV4) {
    let mut number = itoa::Buffer::new();
    for (at, octet) in value.ip().octets().into_iter().enumerate() {
        if at > 0 {
            to.push(b'.');
        }
        to.extend_from_slice(number.format(octet).as_bytes());
    }
    to.push(b':');
    to.extend_from_slice(number.format(value.port()).as_bytes());
}

/// RFC 8259 s7, and beyond it everything that a terminal or a log viewer may take as a command or
/// a line break: DEL, C1 controls, line and paragraph separators, changes of direction.
fn escape(to: &mut Vec<u8>, text: &str) {
    if is_plain(text.as_bytes()) {
        to.extend_from_slice(text.as_bytes());
        return;
    }
    let mut plain_from = 0;
    for (at, c) in text.char_indices() {
        let short = match c {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            '\0'..='\x1f'
            | '\x7f'..='\u{9f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}' => "",
            _ => continue,
        };
        to.extend_from_slice(text.get(plain_from..at).unwrap_or_default().as_bytes());
        plain_from = at + c.len_utf8();
        if short.is_empty() {
            let _written: std::io::Result<()> = write!(to, "\\u{:04x}", u32::from(c));
        } else {
            to.extend_from_slice(short.as_bytes());
        }
    }
    to.extend_from_slice(text.get(plain_from..).unwrap_or_default().as_bytes());
}

/// Whether a text needs no escapes, as nearly none does. In pieces of one size, the last one filled
/// up, so that the compiler looks at all bytes of a piece at once.
fn is_plain(text: &[u8]) -> bool {
    let fits = |byte: &u8| (b' '..=b'~').contains(byte) & (*byte != b'"') & (*byte != b'\\');
    let fit = |piece: &[u8; 16]| piece.iter().fold(true, |all, byte| all & fits(byte));
    let (pieces, rest) = text.as_chunks();
    let mut last = [b' '; 16];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    pieces.iter().all(fit) && fit(&last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn addresses_and_digests_are_what_the_formatter_makes(
            address in any::<SocketAddr>(),
            bytes in any::<[u8; 16]>(),
        ) {
            let mut line = Line::new(Format::Json);
            line.address(name!("a"), address);
            line.hex(name!("b"), &bytes);
            let mut text = Vec::new();
            line.end(|line| text.extend_from_slice(line));
            let read: serde_json::Value = serde_json::from_slice(&text).unwrap();
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(read, serde_json::json!({"a": address.to_string(), "b": hex}));
        }

        #[test]
        fn json_gives_back_what_went_in(value in any::<String>(), other in "\\PC*") {
            let mut line = Line::new(Format::Json);
            line.string(name!("a"), &value);
            line.number(name!("b"), 7);
            line.word(name!("c"), &other);
            let mut bytes = Vec::new();
            line.end(|line| bytes.extend_from_slice(line));
            let (end, inside) = bytes.split_last().unwrap();
            prop_assert_eq!(*end, b'\n');
            prop_assert!(!inside.iter().any(u8::is_ascii_control));
            let read: serde_json::Value = serde_json::from_slice(inside).unwrap();
            prop_assert_eq!(read, serde_json::json!({"a": value, "b": 7, "c": other}));
        }

        #[test]
        fn text_stays_on_its_line(value in any::<String>()) {
            let mut line = Line::new(Format::Text);
            line.word(name!("c"), &value);
            line.string(name!("a"), &value);
            let mut bytes = Vec::new();
            line.end(|line| bytes.extend_from_slice(line));
            let text = String::from_utf8(bytes).unwrap();
            prop_assert_eq!(text.matches('\n').count(), 1);
            prop_assert!(!text.trim_end_matches('\n').chars().any(char::is_control));
        }
    }
}
