//! Refusals in the words of a market: its own JSON in place of ours (UK `OBErrorResponse1`, `errors`
//! of Brazil and Australia, `tppMessages` of the Berlin Group), made from a template that was found good when the
//! configuration was loaded.
//!
//! A format tells a client no more than our own body does: its placeholders are what stands there,
//! and reasons that our body does not tell apart cannot be told apart by a code either ([`Codes`]).

mod codes;
mod template;

use std::fmt::{self, Write as _};

use http::{HeaderValue, StatusCode};

use self::codes::Said;
pub use self::codes::{CODE_BYTES, Codes, DEFAULT};
use self::template::Piece;
pub use self::template::{TEMPLATE_BYTES, Template};
use super::{Reason, Spec};

/// How the refusals of a route are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// `Content-Type` of a refusal with a body.
    pub content_type: HeaderValue,
    /// The body.
    pub template: Template,
    /// The market's codes, and which refusals have no body.
    pub codes: Codes,
}

impl Format {
    /// The body of a refusal; `None` where the market wants none. `disclose` adds the reason's code
    /// as `reason`, unless the template has a member of that name.
    #[must_use]
    pub fn body(&self, reason: Reason, facts: &Facts<'_>, disclose: bool) -> Option<String> {
        let spec = reason.spec();
        let code = match self.codes.said(&spec) {
            Said::NoBody => return None,
            Said::NoCode => "",
            Said::Code(code) => code,
        };
        let mut body = String::with_capacity(512);
        for piece in &self.template.pieces {
            match piece {
                Piece::Text(text) => body.push_str(text),
                Piece::Fact(fact) => fact.write(&spec, code, facts, &mut body),
            }
        }
        // A template is an object with members, so its last character closes it.
        if disclose && !self.template.has_reason && body.pop().is_some() {
            body.push_str(",\"reason\":\"");
            body.push_str(spec.code);
            body.push_str("\"}");
        }
        body.push('\n');
        Some(body)
    }
}

/// What of a refusal is not in its row.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'f> {
    /// `x-fapi-interaction-id` of the answer.
    pub interaction_id: &'f str,
    /// Now, as RFC 3339 writes it.
    pub time: &'f str,
}

/// A placeholder's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fact {
    Code,
    Error,
    Description,
    Status,
    StatusNumber,
    StatusText,
    InteractionId,
    Time,
}

impl Fact {
    /// All of them, by the names that they have in a template.
    const ALL: [(&'static str, Self); 8] = [
        ("code", Self::Code),
        ("error", Self::Error),
        ("description", Self::Description),
        ("status", Self::Status),
        ("status_number", Self::StatusNumber),
        ("status_text", Self::StatusText),
        ("interaction_id", Self::InteractionId),
        ("time", Self::Time),
    ];

    fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|(known, _)| *known == name).map(|(_, fact)| fact)
    }

    fn write(self, spec: &Spec, code: &str, facts: &Facts<'_>, body: &mut String) {
        let mut body = Escaped(body);
        let status = spec.status.code();
        let written = match self {
            Self::Code => body.write_str(code),
            Self::Error => body.write_str(spec.error),
            Self::Description => body.write_str(spec.description),
            Self::Status | Self::StatusNumber => write!(body, "{status}"),
            Self::StatusText => {
                let known = StatusCode::from_u16(status).ok();
                body.write_str(
                    known
                        .and_then(|it| it.canonical_reason())
                        .unwrap_or("Error"),
                )
            }
            Self::InteractionId => body.write_str(facts.interaction_id),
            Self::Time => body.write_str(facts.time),
        };
        debug_assert!(written.is_ok());
    }
}

/// Writes what may stand within a JSON string (RFC 8259 s7).
struct Escaped<'b>(&'b mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '"' | '\\' => {
                    self.0.push('\\');
                    self.0.push(c);
                }
                c if c.is_control() => write!(self.0, "\\u{:04x}", u32::from(c))?,
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

/// What is wrong with a format, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub wrong: String,
    /// What would be right.
    pub right: String,
}

fn fault(wrong: impl Into<String>, right: impl Into<String>) -> Fault {
    Fault {
        wrong: wrong.into(),
        right: right.into(),
    }
}

#[cfg(test)]
mod tests;
