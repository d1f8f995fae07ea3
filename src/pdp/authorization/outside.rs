//! Parameters beside a request object: only those inside count (RFC 9101 s6.3), and since nothing
//! is rewritten, one outside must say the same or be refused (JAR-10).

use serde_json::{Map, Value};

use super::form::Form;
use crate::refusal::{Reason, Refusal};

/// Parameters that carry the request object or authenticate the client: they stand outside by
/// their nature (RFC 9126 s3).
const OUTSIDE: [&str; 4] = [
    "request",
    "client_id",
    "client_assertion",
    "client_assertion_type",
];

/// Holds a form against the claims of its request object; `None` where nobody can look into it.
///
/// # Errors
/// `parameter_conflict`.
pub(super) fn judge(form: &Form, claims: Option<&Map<String, Value>>) -> Result<(), Refusal> {
    let mut resources = 0_u32;
    for (name, value) in form.entries() {
        if OUTSIDE.contains(&name) {
            continue;
        }
        // A list in the object cannot be compared with one parameter of many.
        resources = resources.saturating_add(u32::from(name == "resource"));
        let inside = claims.and_then(|claims| claims.get(name));
        if resources > 1 || !inside.is_some_and(|inside| says(inside, value)) {
            // A name of a client's choice belongs in no log as it came.
            let known = matches!(
                name,
                "state" | "scope" | "redirect_uri" | "nonce" | "response_type"
            );
            let name = if known { name } else { "a parameter" };
            let why = format!("{name} outside the request object is not what stands inside");
            return Err(Refusal::because(Reason::ParameterConflict, why));
        }
    }
    Ok(())
}

/// Whether a claim is this text: RFC 9101 s4 has strings as strings and numbers as numbers.
fn says(claim: &Value, text: &str) -> bool {
    match claim {
        Value::String(claim) => claim == text,
        Value::Number(claim) => claim.to_string() == text,
        Value::Bool(claim) => claim.to_string() == text,
        // Two texts of one object can be read as two; it may stand inside alone.
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}
