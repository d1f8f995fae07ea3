//! The table of refusals in print: what `portcullis reasons` shows, and what a golden file holds.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Challenge, CloseReason, Reason};

/// Both tables in Markdown: the reasons of answers, then those of connections that end before they
/// speak HTTP.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::new();
    row(
        &mut out,
        &[
            "code",
            "status",
            "challenge",
            "class",
            "error",
            "retry after",
            "description",
            "remedy",
        ],
    );
    row(&mut out, &["---"; 8]);
    for reason in Reason::ALL {
        let spec = reason.spec();
        let retry_after = spec.retry_after.map(|seconds| format!("{seconds} s"));
        row(
            &mut out,
            &[
                &format!("`{}`", spec.code),
                &spec.status.code().to_string(),
                challenge(spec.challenge).unwrap_or("none"),
                spec.class.name(),
                &format!("`{}`", spec.error),
                retry_after.as_deref().unwrap_or("-"),
                spec.description,
                spec.remedy,
            ],
        );
    }
    out.push('\n');
    row(
        &mut out,
        &["code of a closed connection", "class", "remedy"],
    );
    row(&mut out, &["---"; 3]);
    for reason in CloseReason::ALL {
        row(
            &mut out,
            &[
                &format!("`{}`", reason.code()),
                reason.class().name(),
                reason.remedy(),
            ],
        );
    }
    out
}

/// The same as one JSON object with two arrays, `reasons` and `close_reasons`.
#[must_use]
pub fn json() -> Value {
    let reasons = Reason::ALL.iter().map(|reason| {
        let spec = reason.spec();
        json!({
            "code": spec.code,
            "status": spec.status.code(),
            "challenge": challenge(spec.challenge),
            "class": spec.class.name(),
            "error": spec.error,
            "retry_after": spec.retry_after,
            "description": spec.description,
            "remedy": spec.remedy,
        })
    });
    let close_reasons = CloseReason::ALL.iter().map(|reason| {
        json!({
            "code": reason.code(),
            "class": reason.class().name(),
            "remedy": reason.remedy(),
        })
    });
    json!({
        "reasons": reasons.collect::<Vec<_>>(),
        "close_reasons": close_reasons.collect::<Vec<_>>(),
    })
}

/// `scheme` for a challenge that names no error, else the error.
const fn challenge(challenge: Challenge) -> Option<&'static str> {
    match challenge {
        Challenge::None => None,
        Challenge::Bare => Some("scheme"),
        Challenge::Error(error) => Some(error),
    }
}

fn row(out: &mut String, cells: &[&str]) {
    out.push('|');
    for cell in cells {
        #[expect(
            clippy::let_underscore_must_use,
            reason = "writing to a String cannot fail"
        )]
        let _ = write!(out, " {} |", cell.replace('|', "\\|"));
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::refusal::{Class, Refusal, challenges};

    fn is_code(code: &str) -> bool {
        let words = code.split('_');
        code.len() <= 32
            && words.into_iter().all(|word| {
                !word.is_empty()
                    && word
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            })
    }

    #[test]
    fn codes_are_snake_case_and_each_its_own() {
        let mut seen = HashSet::new();
        let codes = Reason::ALL.iter().map(|reason| reason.spec().code);
        for code in codes.chain(CloseReason::ALL.iter().map(|reason| reason.code())) {
            assert!(is_code(code), "{code}");
            assert!(seen.insert(code), "{code} comes twice");
        }
    }

    #[test]
    fn every_variant_is_listed_once_and_in_order() {
        assert!(Reason::ALL.is_sorted() && CloseReason::ALL.is_sorted());
        let all: HashSet<_> = Reason::ALL.iter().collect();
        assert_eq!(all.len(), Reason::ALL.len());
    }

    #[test]
    fn challenges_fit_their_status() {
        // RFC 9110 s15.5.2, RFC 6750 s3.1, RFC 9449 s7.1 and s9, RFC 9470 s3; ERR-01, DPOP-38
        for reason in Reason::ALL {
            let (spec, code) = (reason.spec(), reason.spec().code);
            let status = spec.status.code();
            match spec.challenge {
                Challenge::None => assert_ne!(status, 401, "{code}: a 401 has a challenge"),
                Challenge::Bare => assert!(
                    matches!(reason, Reason::TokenMissing | Reason::SchemeUnsupported),
                    "{code}: only where no credential came is there no error to name"
                ),
                Challenge::Error(error) => {
                    let expected = match error {
                        "invalid_request" => 400,
                        "invalid_token"
                        | "invalid_dpop_proof"
                        | "use_dpop_nonce"
                        | "insufficient_user_authentication" => 401,
                        "insufficient_scope" => 403,
                        // RFC 6749 s5.2.
                        "invalid_client" => 401,
                        other => panic!("{code}: {other} is in no RFC of challenges"),
                    };
                    assert_eq!(status, expected, "{code}");
                    assert_eq!(spec.error, error, "{code}: body and challenge say the same");
                }
            }
        }
    }

    #[test]
    fn classes_fit_their_status() {
        for reason in Reason::ALL {
            let (spec, code) = (reason.spec(), reason.spec().code);
            let status = spec.status.code();
            match spec.class {
                Class::Request => assert!((400..500).contains(&status) && status != 401, "{code}"),
                Class::Credential => assert!(matches!(status, 400 | 401), "{code}"),
                Class::Permission => assert!(matches!(status, 401 | 403 | 429), "{code}"),
                // Could not tell is never a no: it has a time to come back.
                Class::Undecided => {
                    assert_eq!(status, 503, "{code}");
                    assert!(spec.retry_after.is_some(), "{code}");
                }
                Class::Upstream => assert!(matches!(status, 502 | 504 | 508), "{code}"),
                Class::Local => assert!(matches!(status, 500 | 503), "{code}"),
            }
            assert_eq!(spec.retry_after.is_some(), status == 503, "{code}");
        }
        assert!(Reason::ALL.is_sorted_by_key(|reason| reason.spec().class));
    }

    #[test]
    fn the_body_has_an_error_of_the_contract() {
        for reason in Reason::ALL {
            let spec = reason.spec();
            let expected: &[u16] = match spec.error {
                "invalid_request" => &[400, 408, 413, 414, 431],
                "invalid_token"
                | "invalid_dpop_proof"
                | "use_dpop_nonce"
                | "insufficient_user_authentication" => &[401],
                "insufficient_scope" | "access_denied" => &[403],
                // RFC 6749 s5.2, RFC 9101 s7, RFC 9126 s2.3.
                "invalid_client" => &[401],
                "unauthorized_client" => &[400, 403],
                "invalid_request_object" | "invalid_request_uri" => &[400],
                "not_found" => &[404],
                "method_not_allowed" => &[405],
                "misdirected_request" => &[421],
                "temporarily_unavailable" => &[503],
                "server_error" => &[500, 502, 504, 508],
                other => panic!("{}: {other} is not in the contract", spec.code),
            };
            assert!(expected.contains(&spec.status.code()), "{}", spec.code);
        }
    }

    #[test]
    fn texts_fit_a_header_and_say_something() {
        let plain = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|b| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\'))
        };
        for reason in Reason::ALL {
            let spec = reason.spec();
            assert!(
                plain(spec.description) && spec.description.ends_with('.'),
                "{}",
                spec.code
            );
            assert!(
                plain(spec.remedy) && spec.remedy.ends_with('.'),
                "{}",
                spec.code
            );
        }
        for reason in CloseReason::ALL {
            assert!(
                plain(reason.remedy()) && reason.remedy().ends_with('.'),
                "{}",
                reason.code()
            );
        }
    }

    #[test]
    fn a_rendered_challenge_reads_back_as_its_row() {
        for reason in Reason::ALL {
            let spec = reason.spec();
            let lines: Vec<String> = challenges(&Refusal::new(*reason)).collect();
            match spec.challenge {
                Challenge::None => assert!(lines.is_empty()),
                Challenge::Bare => assert_eq!(lines, ["Bearer"]),
                Challenge::Error(error) => assert_eq!(lines, [format!("Bearer error=\"{error}\"")]),
            }
        }
    }

    #[test]
    fn both_prints_have_every_row() {
        let (text, value) = (markdown(), json());
        let rows = Reason::ALL.len() + CloseReason::ALL.len();
        assert_eq!(
            text.lines().filter(|line| line.starts_with("| `")).count(),
            rows
        );
        let count = |name: &str| value[name].as_array().map_or(0, Vec::len);
        assert_eq!(count("reasons") + count("close_reasons"), rows);
    }
}
