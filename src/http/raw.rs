//! An answer as bytes of HTTP/1.1, for where hyper cannot be asked to write it.

use http::Response;

use super::body::AnswerBody;

/// The answer, head and body; a body that is not whole in memory is left out.
pub(super) fn bytes(answer: Response<AnswerBody>) -> Vec<u8> {
    let (parts, body) = answer.into_parts();
    let reason = parts.status.canonical_reason().unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", parts.status.as_str()).into_bytes();
    for (name, value) in &parts.headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&body.into_full().unwrap_or_default());
    bytes
}
