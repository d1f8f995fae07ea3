//! Distinguished names as text: RFC 4514.

use std::fmt::Write as _;

use x509_parser::oid_registry::{Oid, asn1_rs::oid};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// `organizationIdentifier` (X.520, ETSI EN 319 412-1 s5.1.4).
const ORGANIZATION_IDENTIFIER: Oid<'static> = oid!(2.5.4.97);

/// Names of attribute types: the table of RFC 4514 s3, then others as OpenSSL, and so nginx,
/// writes them. All else is given by its number and the hexadecimal of its value.
static TYPES: [(&str, Oid<'static>); 20] = [
    ("CN", oid!(2.5.4.3)),
    ("L", oid!(2.5.4.7)),
    ("ST", oid!(2.5.4.8)),
    ("O", oid!(2.5.4.10)),
    ("OU", oid!(2.5.4.11)),
    ("C", oid!(2.5.4.6)),
    ("STREET", oid!(2.5.4.9)),
    ("DC", oid!(0.9.2342.19200300.100.1.25)),
    ("UID", oid!(0.9.2342.19200300.100.1.1)),
    ("SN", oid!(2.5.4.4)),
    ("serialNumber", oid!(2.5.4.5)),
    ("title", oid!(2.5.4.12)),
    ("description", oid!(2.5.4.13)),
    ("businessCategory", oid!(2.5.4.15)),
    ("postalCode", oid!(2.5.4.17)),
    ("GN", oid!(2.5.4.42)),
    ("organizationIdentifier", ORGANIZATION_IDENTIFIER),
    ("emailAddress", oid!(1.2.840.113549.1.9.1)),
    ("jurisdictionC", oid!(1.3.6.1.4.1.311.60.2.1.3)),
    ("jurisdictionST", oid!(1.3.6.1.4.1.311.60.2.1.2)),
];

/// The name, last relative name first. Control characters are written as hexadecimal pairs
/// (s2.4 allows that for any character), so the text never breaks a log line or a header.
pub(super) fn rfc4514(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let relative: Vec<_> = name.iter().collect();
    for relative in relative.iter().rev() {
        let mut separator = if text.is_empty() { "" } else { "," };
        for attribute in relative.iter() {
            text.push_str(separator);
            separator = "+";
            push_attribute(&mut text, attribute);
        }
    }
    text
}

/// The one `organizationIdentifier` of the name; `None` where it has none, several, or one that
/// is not printable text.
pub(super) fn organization_identifier(name: &X509Name<'_>) -> Option<String> {
    let mut found = name.iter_by_oid(&ORGANIZATION_IDENTIFIER);
    let value = found.next()?.as_str().ok()?;
    if found.next().is_some() || !printable(value) {
        return None;
    }
    Some(value.to_owned())
}

/// Whether it is text that may stand in a log line or a header: not empty, no control character.
pub(super) fn printable(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}

fn push_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let known = TYPES.iter().find(|(_, oid)| oid == attribute.attr_type());
    match (known, attribute.as_str()) {
        (Some((short, _)), Ok(value)) => {
            text.push_str(short);
            text.push('=');
            push_escaped(text, value);
        }
        (known, _) => {
            match known {
                Some((short, _)) => text.push_str(short),
                None => text.push_str(&attribute.attr_type().to_id_string()),
            }
            text.push_str("=#");
            let value = attribute.attr_value();
            let tag = value.header.raw_tag().unwrap_or_default();
            push_hex(text, tag);
            push_length(text, value.data.len());
            push_hex(text, value.data);
        }
    }
}

/// RFC 4514 s2.4.
fn push_escaped(text: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (position, character) in value.chars().enumerate() {
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => {
                text.push('\\');
                text.push(character);
            }
            '#' if position == 0 => text.push_str("\\#"),
            ' ' if position == 0 || position == last => text.push_str("\\ "),
            _ if character.is_control() => {
                let mut encoded = [0; 4];
                for byte in character.encode_utf8(&mut encoded).bytes() {
                    push_pair(text, "\\", byte);
                }
            }
            _ => text.push(character),
        }
    }
}

/// The length octets of DER.
fn push_length(text: &mut String, length: usize) {
    if length < 0x80 {
        push_hex(text, &[u8::try_from(length).unwrap_or(0)]);
        return;
    }
    let bytes = length.to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let significant = bytes.get(zeros..).unwrap_or_default();
    push_hex(text, &[0x80 | u8::try_from(significant.len()).unwrap_or(0)]);
    push_hex(text, significant);
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        push_pair(text, "", *byte);
    }
}

fn push_pair(text: &mut String, before: &str, byte: u8) {
    #[expect(
        clippy::let_underscore_must_use,
        reason = "writing to a String cannot fail"
    )]
    let _ = write!(text, "{before}{byte:02x}");
}
