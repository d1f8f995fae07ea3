//! `WWW-Authenticate`: one field line a scheme, each value safe to stand between quotes.

use super::{Advice, Challenge, Refusal};

/// An authentication scheme that a route can accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `Bearer` (RFC 6750), here always with a token bound to the certificate (RFC 8705)
    /// unless a policy says that an unbound one may pass.
    Bearer,
    /// `DPoP` (RFC 9449 s7.1), with a token bound to a key and a proof of that key.
    Dpop,
}

impl Scheme {
    /// The name as it stands in a challenge.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bearer => "Bearer",
            Self::Dpop => "DPoP",
        }
    }

    /// The scheme of this name, which has no case (RFC 9110 s11.1).
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Bearer, Self::Dpop]
            .into_iter()
            .find(|scheme| name.eq_ignore_ascii_case(scheme.name()))
    }
}

/// A set of schemes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Schemes {
    /// Whether `Bearer` is in it.
    pub bearer: bool,
    /// Whether `DPoP` is in it.
    pub dpop: bool,
}

impl Schemes {
    /// The set that holds `Bearer` alone.
    pub const BEARER: Self = Self {
        bearer: true,
        dpop: false,
    };

    /// The schemes in the order in which they are offered.
    pub fn iter(self) -> impl Iterator<Item = Scheme> {
        let bearer = self.bearer.then_some(Scheme::Bearer);
        let dpop = self.dpop.then_some(Scheme::Dpop);
        bearer.into_iter().chain(dpop)
    }

    /// Whether this one is in it.
    #[must_use]
    pub const fn has(self, scheme: Scheme) -> bool {
        match scheme {
            Scheme::Bearer => self.bearer,
            Scheme::Dpop => self.dpop,
        }
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        !self.bearer && !self.dpop
    }
}

/// What a DPoP proof may be signed with, as challenges say it (RFC 9449 s7.1; DPOP-31).
pub const PROOF_ALGORITHMS: &str = "PS256 ES256 EdDSA Ed25519";

/// The values of the `WWW-Authenticate` lines of a refusal, one a scheme (RFC 9449 s7.2); none
/// where its row has no challenge.
///
/// The error stands on the scheme that the client used; the others are only offered. A refusal
/// that says nothing of schemes offers `Bearer`, so that a 401 never goes without
/// (RFC 9110 s15.5.2).
pub fn challenges(refusal: &Refusal) -> impl Iterator<Item = String> + use<> {
    let spec = refusal.reason().spec();
    let empty = Advice::default();
    let advice = refusal.advice().unwrap_or(&empty);
    let schemes = if advice.schemes.is_empty() {
        Schemes::BEARER
    } else {
        advice.schemes
    };
    let lines: Vec<String> = match spec.challenge {
        Challenge::None => Vec::new(),
        Challenge::Bare => schemes
            .iter()
            .map(|scheme| offered(scheme, advice))
            .collect(),
        Challenge::Error(error) => schemes
            .iter()
            .map(|scheme| {
                let used = advice.used.is_none_or(|used| used == scheme);
                if used {
                    with_error(scheme, error, advice)
                } else {
                    offered(scheme, advice)
                }
            })
            .collect(),
    };
    lines.into_iter()
}

/// A challenge without an error.
fn offered(scheme: Scheme, advice: &Advice) -> String {
    let mut line = scheme.name().to_owned();
    let mut separator = " ";
    for (name, value) in always(scheme, advice) {
        line.push_str(separator);
        line.push_str(&format!("{name}=\"{value}\""));
        separator = ", ";
    }
    line
}

/// The parameters that every challenge of a scheme has.
fn always(scheme: Scheme, advice: &Advice) -> impl Iterator<Item = (&'static str, &str)> {
    let algorithms = (scheme == Scheme::Dpop).then_some(("algs", PROOF_ALGORITHMS));
    let metadata = advice.resource_metadata.as_deref();
    algorithms
        .into_iter()
        .chain(metadata.map(|url| ("resource_metadata", url)))
}

fn with_error(scheme: Scheme, error: &str, advice: &Advice) -> String {
    let mut line = format!("{} error=\"{error}\"", scheme.name());
    if !advice.scope.is_empty() {
        parameter(&mut line, "scope", &advice.scope.join(" "));
    }
    if !advice.acr_values.is_empty() {
        parameter(&mut line, "acr_values", &advice.acr_values.join(" "));
    }
    if let Some(max_age) = advice.max_age {
        parameter(&mut line, "max_age", &max_age.as_secs().to_string());
    }
    for (name, value) in always(scheme, advice) {
        parameter(&mut line, name, value);
    }
    line
}

/// Values come from the configuration, which allows only the characters of RFC 6750 s3 there;
/// should another ever arrive, it is left out rather than sent.
fn parameter(line: &mut String, name: &str, value: &str) {
    line.push_str(", ");
    line.push_str(name);
    line.push_str("=\"");
    line.extend(
        value
            .chars()
            .filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')),
    );
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Reason;
    use std::time::Duration;

    fn lines(refusal: &Refusal) -> Vec<String> {
        challenges(refusal).collect()
    }

    #[test]
    fn a_missing_token_is_asked_for_without_an_error_code() {
        // PRES-06, RFC 6750 s3.1
        assert_eq!(lines(&Refusal::new(Reason::TokenMissing)), ["Bearer"]);
    }

    #[test]
    fn scope_acr_and_age_stand_in_one_challenge() {
        // STEP-03, ERR-03
        let refusal = Refusal::new(Reason::AuthenticationTooWeak).advise(|a| {
            a.scope = vec!["payments".into()];
            a.acr_values = vec!["urn:bank:acr:sca".into(), "other".into()];
            a.max_age = Some(Duration::from_secs(300));
        });
        assert_eq!(
            lines(&refusal),
            [
                "Bearer error=\"insufficient_user_authentication\", scope=\"payments\", \
                 acr_values=\"urn:bank:acr:sca other\", max_age=\"300\""
            ]
        );
    }

    #[test]
    fn nothing_can_leave_its_quotes() {
        // ERR-02
        let refusal = Refusal::new(Reason::ScopeInsufficient)
            .advise(|a| a.scope = vec!["a\", error=\"x".into(), "b\r\nx: y".into()]);
        assert_eq!(
            lines(&refusal),
            ["Bearer error=\"insufficient_scope\", scope=\"a, error=x bx: y\""]
        );
    }

    #[test]
    fn a_row_without_challenge_sends_none() {
        assert!(lines(&Refusal::new(Reason::RouteNotFound)).is_empty());
    }
}
