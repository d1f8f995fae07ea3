//! The body of a market's refusals: JSON with placeholders in its strings.

use serde_json::{Map, Value};

use super::{Fact, Fault, fault};

/// Bytes of a template: an answer that is made of one stays small.
pub const TEMPLATE_BYTES: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// JSON as it is sent.
    Text(String),
    /// A value, within a string; `status_number` in place of one.
    Fact(Fact),
}

/// A JSON object with placeholders such as `{description}` in its strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pub(super) pieces: Vec<Piece>,
    /// Whether it has a member `reason` of its own.
    pub(super) has_reason: bool,
}

impl Template {
    /// Reads a template. Whatever it accepts is valid JSON with any values in its places: they stand
    /// within strings alone and are escaped, and a number stands for a whole string.
    ///
    /// # Errors
    /// What is wrong with it, without its text.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        if text.len() > TEMPLATE_BYTES {
            let right = format!("write at most {TEMPLATE_BYTES} bytes");
            return Err(fault(format!("this has {} bytes", text.len()), right));
        }
        let members: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
            let wrong = format!("this is not a JSON object: {error}");
            fault(
                wrong,
                format!("write one, with placeholders within strings: {}", known()),
            )
        })?;
        if members.is_empty() {
            return Err(fault("this object says nothing", "write a member"));
        }
        let mut pieces = Pieces::default();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            match c {
                '"' => pieces.string(&mut rest)?,
                // Between tokens, where it means nothing.
                ' ' | '\t' | '\r' | '\n' => {}
                c => pieces.text.push(c),
            }
        }
        Ok(Self {
            pieces: pieces.finish(),
            has_reason: members.contains_key("reason"),
        })
    }

    /// Whether the market's code stands in it.
    #[must_use]
    pub fn has_code(&self) -> bool {
        self.pieces.contains(&Piece::Fact(Fact::Code))
    }
}

/// The names of the placeholders, for people.
fn known() -> String {
    Fact::ALL.map(|(name, _)| format!("{{{name}}}")).join(", ")
}

#[derive(Default)]
struct Pieces {
    done: Vec<Piece>,
    text: String,
}

impl Pieces {
    fn fact(&mut self, fact: Fact) {
        self.done.push(Piece::Text(std::mem::take(&mut self.text)));
        self.done.push(Piece::Fact(fact));
    }

    fn finish(mut self) -> Vec<Piece> {
        self.done.push(Piece::Text(self.text));
        self.done
    }

    /// A string of valid JSON, after its first quote.
    fn string(&mut self, rest: &mut std::str::Chars<'_>) -> Result<(), Fault> {
        if let Some(after) = rest.as_str().strip_prefix("{status_number}\"")
            && !names_a_member(after)
        {
            self.fact(Fact::StatusNumber);
            *rest = after.chars();
            return Ok(());
        }
        let mut placed = false;
        self.text.push('"');
        while let Some(c) = rest.next() {
            match c {
                '"' => {
                    self.text.push('"');
                    break;
                }
                '\\' => {
                    self.text.push('\\');
                    self.text.extend(rest.next());
                }
                '{' => {
                    let (fact, after) = placeholder(rest.as_str())?;
                    self.fact(fact);
                    *rest = after.chars();
                    placed = true;
                }
                '}' => return Err(fault("a } stands alone", BRACES)),
                c => self.text.push(c),
            }
        }
        if placed && names_a_member(rest.as_str()) {
            return Err(fault(
                "the name of a member has a placeholder",
                "write the name, and placeholders in values",
            ));
        }
        Ok(())
    }
}

const BRACES: &str = "write a brace that is no placeholder's as \\u007b or \\u007d";

/// The placeholder that begins after its brace, and what follows it.
fn placeholder(rest: &str) -> Result<(Fact, &str), Fault> {
    let end = rest.find(['}', '"']).unwrap_or(rest.len());
    let (name, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let Some(after) = after.strip_prefix('}') else {
        return Err(fault("a { has no }", BRACES));
    };
    match Fact::named(name) {
        Some(Fact::StatusNumber) => Err(fault(
            "{status_number} is not the whole of its string",
            "write \"{status_number}\", which becomes a number, or {status} within a text",
        )),
        Some(fact) => Ok((fact, after)),
        None => {
            let right = format!("there are {}; {BRACES}", known());
            Err(fault(format!("there is no placeholder {{{name}}}"), right))
        }
    }
}

/// Whether what follows a string makes it the name of a member.
fn names_a_member(after: &str) -> bool {
    let after = after.trim_start_matches([' ', '\t', '\r', '\n']);
    after.starts_with(':')
}
