//! One line of the access log: JSON for machines, or words for people. Every string is escaped,
//! so that nothing a client sends can begin a line of its own or steer a terminal.

use std::cell::Cell;
use std::fmt::Write as _;
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
    static SPARE: Cell<String> = const { Cell::new(String::new()) };
}

/// What a spare buffer keeps of its memory: most lines fit.
const KEPT: usize = 4096;

/// A line under way: fields in the order in which they are added.
pub(super) struct Line {
    format: Format,
    text: String,
}

impl Line {
    pub(super) fn new(format: Format) -> Self {
        let mut text = SPARE.take();
        text.clear();
        Self { format, text }
    }

    fn name(&mut self, name: Name) {
        match self.format {
            Format::Json if self.text.is_empty() => {
                self.text.push('{');
                self.text.push_str(name.json.get(1..).unwrap_or_default());
            }
            Format::Json => self.text.push_str(name.json),
            Format::Text if self.text.is_empty() => {
                self.text.push_str(name.text.get(1..).unwrap_or_default());
            }
            Format::Text => self.text.push_str(name.text),
        }
    }

    pub(super) fn string(&mut self, name: Name, value: &str) {
        self.name(name);
        let plain = |c: char| matches!(c, '!'..='~') && !matches!(c, '"' | '\\' | '=');
        if self.format == Format::Text && !value.is_empty() && value.chars().all(plain) {
            self.text.push_str(value);
            return;
        }
        self.text.push('"');
        escape(&mut self.text, value);
        self.text.push('"');
    }

    /// A text that stands on its own at the beginning of a line for people.
    pub(super) fn word(&mut self, name: Name, value: &str) {
        match self.format {
            Format::Json => self.string(name, value),
            Format::Text => {
                if !self.text.is_empty() {
                    self.text.push(' ');
                }
                escape(&mut self.text, value);
            }
        }
    }

    /// A text that needs no escapes, as `write` adds it.
    fn plain(&mut self, name: Name, write: impl FnOnce(&mut String)) {
        self.name(name);
        let quoted = self.format == Format::Json;
        if quoted {
            self.text.push('"');
        }
        write(&mut self.text);
        if quoted {
            self.text.push('"');
        }
    }

    /// Bytes in hexadecimal digits.
    pub(super) fn hex(&mut self, name: Name, value: &[u8]) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| {
            let digit = HEX.get(usize::from(nibble)).copied();
            digit.map_or('0', char::from)
        };
        self.plain(name, |text| {
            for byte in value {
                text.push(digit(byte >> 4));
                text.push(digit(byte & 0x0f));
            }
        });
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
        self.text.push_str(itoa::Buffer::new().format(value));
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
            self.text.push('}');
        }
        self.text.push('\n');
        take(self.text.as_bytes());
        self.text.clear();
        self.text.shrink_to(KEPT);
        SPARE.set(self.text);
    }
}

/// Without the detours of the formatter: each line has one.
fn ipv4(to: &mut String, value: SocketAddrV4) {
    let mut number = itoa::Buffer::new();
    for (at, octet) in value.ip().octets().into_iter().enumerate() {
        if at > 0 {
            to.push('.');
        }
        to.push_str(number.format(octet));
    }
    to.push(':');
    to.push_str(number.format(value.port()));
}

/// RFC 8259 s7, and beyond it everything that a terminal or a log viewer may take as a command or
/// a line break: DEL, C1 controls, line and paragraph separators, changes of direction.
fn escape(to: &mut String, text: &str) {
    // Nearly every text is, and can be looked at many bytes at once.
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) & (byte != b'"') & (byte != b'\\');
    if text
        .bytes()
        .fold(0, |odd, byte| odd | u8::from(!plain(byte)))
        == 0
    {
        to.push_str(text);
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
        to.push_str(text.get(plain_from..at).unwrap_or_default());
        plain_from = at + c.len_utf8();
        if short.is_empty() {
            let _written: std::fmt::Result = write!(to, "\\u{:04x}", u32::from(c));
        } else {
            to.push_str(short);
        }
    }
    to.push_str(text.get(plain_from..).unwrap_or_default());
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
