//! One line of the access log: JSON for machines, or words for people. Every string is escaped,
//! so that nothing a client sends can begin a line of its own or steer a terminal.

use std::fmt::Write as _;
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

/// A line under way: fields in the order in which they are added.
pub(super) struct Line {
    format: Format,
    text: String,
}

impl Line {
    pub(super) fn new(format: Format) -> Self {
        // Most lines fit: one allocation a line.
        let mut text = String::with_capacity(1024);
        if format == Format::Json {
            text.push('{');
        }
        Self { format, text }
    }

    fn name(&mut self, name: &'static str) {
        match self.format {
            Format::Json => {
                if self.text.len() > 1 {
                    self.text.push(',');
                }
                self.text.push('"');
                self.text.push_str(name);
                self.text.push_str("\":");
            }
            Format::Text => {
                if !self.text.is_empty() {
                    self.text.push(' ');
                }
                self.text.push_str(name);
                self.text.push('=');
            }
        }
    }

    pub(super) fn string(&mut self, name: &'static str, value: &str) {
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
    pub(super) fn word(&mut self, name: &'static str, value: &str) {
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

    pub(super) fn number(&mut self, name: &'static str, value: u64) {
        self.name(name);
        // Writing to a string does not fail.
        let _written: std::fmt::Result = write!(self.text, "{value}");
    }

    /// A stage in whole microseconds; one that was not reached is left out.
    pub(super) fn micros(&mut self, name: &'static str, value: Duration) {
        if !value.is_zero() {
            self.number(name, u64::try_from(value.as_micros()).unwrap_or(u64::MAX));
        }
    }

    /// The line, with its line break.
    pub(super) fn end(mut self) -> Vec<u8> {
        if self.format == Format::Json {
            self.text.push('}');
        }
        self.text.push('\n');
        self.text.into_bytes()
    }
}

/// RFC 8259 s7, and beyond it everything that a terminal or a log viewer may take as a command or
/// a line break: DEL, C1 controls, line and paragraph separators, changes of direction.
fn escape(to: &mut String, text: &str) {
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
        fn json_gives_back_what_went_in(value in any::<String>(), other in "\\PC*") {
            let mut line = Line::new(Format::Json);
            line.string("a", &value);
            line.number("b", 7);
            line.word("c", &other);
            let bytes = line.end();
            let (end, inside) = bytes.split_last().unwrap();
            prop_assert_eq!(*end, b'\n');
            prop_assert!(!inside.iter().any(u8::is_ascii_control));
            let read: serde_json::Value = serde_json::from_slice(inside).unwrap();
            prop_assert_eq!(read, serde_json::json!({"a": value, "b": 7, "c": other}));
        }

        #[test]
        fn text_stays_on_its_line(value in any::<String>()) {
            let mut line = Line::new(Format::Text);
            line.word("c", &value);
            line.string("a", &value);
            let bytes = line.end();
            let text = String::from_utf8(bytes).unwrap();
            prop_assert_eq!(text.matches('\n').count(), 1);
            prop_assert!(!text.trim_end_matches('\n').chars().any(char::is_control));
        }
    }
}
