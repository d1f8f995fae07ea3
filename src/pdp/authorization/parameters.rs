//! What an authorization request must ask for, whatever it asks besides (JAR-13).

use serde_json::{Map, Value};

use super::client::Client;
use super::{Endpoint, Guard, Profile};
use crate::refusal::{Reason, Refusal};

/// JWT-secured response modes (JARM s2.3), with which FAPI 1.0 takes `code` alone
/// (FAPI 1.0 Part 2 s5.2.2-2).
const SIGNED_MODES: [&str; 4] = ["jwt", "query.jwt", "fragment.jwt", "form_post.jwt"];

/// Looks at the parameters of a request object that was found good.
///
/// # Errors
/// `parameter_invalid`.
pub(super) fn judge(
    claims: &Map<String, Value>,
    client: &Client,
    guard: &Guard,
) -> Result<(), Refusal> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let kind = text("response_type");
    match guard.server.profile {
        Profile::Fapi2 if kind == Some("code") => {}
        Profile::Fapi2 => return Err(invalid("response_type is not code")),
        Profile::Fapi1Advanced => {
            let signed = text("response_mode").is_some_and(|mode| SIGNED_MODES.contains(&mode));
            match kind {
                Some("code") if signed => {}
                Some("code id_token" | "id_token code") => {}
                _ => {
                    return Err(invalid(
                        "response_type is neither code id_token nor code with a response_mode of JARM",
                    ));
                }
            }
        }
    }
    let redirect = text("redirect_uri").ok_or_else(|| invalid("there is no redirect_uri"))?;
    if !client
        .redirect_uris
        .iter()
        .any(|known| **known == *redirect)
    {
        return Err(invalid(
            "redirect_uri is not exactly one that the client registered",
        ));
    }
    // FAPI 1.0 asks for it with PAR only (Part 2 s5.2.2-18).
    let asked = guard.server.profile == Profile::Fapi2 || guard.endpoint == Endpoint::Par;
    let sent = ["code_challenge", "code_challenge_method"];
    if asked || sent.iter().any(|name| claims.contains_key(*name)) {
        if text("code_challenge_method") != Some("S256") {
            return Err(invalid("code_challenge_method is not S256 (RFC 7636 s4.3)"));
        }
        if !text("code_challenge").is_some_and(is_digest) {
            return Err(invalid(
                "code_challenge is not a SHA-256 in base64url (RFC 7636 s4.2)",
            ));
        }
    }
    Ok(())
}

/// 43 characters of base64url: 32 bytes.
fn is_digest(text: &str) -> bool {
    crate::pdp::jwt::base64url(text).is_some_and(|bytes| bytes.len() == 32)
}

fn invalid(why: &str) -> Refusal {
    Refusal::because(Reason::ParameterInvalid, why)
}
