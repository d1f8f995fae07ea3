//! `[dpop]`: how long proofs and nonces are good, where their use is remembered.

use std::sync::Arc;
use std::time::Duration;

use super::document::At;
use super::files::Files;
use super::introspection;
use super::problem::{Findings, ReportKind};
use super::raw;
use super::values::{count, duration, secs};
use crate::pdp::UnixTime;
use crate::pdp::dpop::NonceKeys;
use crate::replay;

/// What holds for every policy that takes proofs.
#[derive(Debug, Clone)]
pub(super) struct Proofs {
    pub(super) age: Duration,
    pub(super) ahead: Duration,
}

/// What is checked of `[dpop]`.
pub(super) struct Found {
    pub(super) proofs: Proofs,
    pub(super) nonces: Nonces,
    /// Missing where a problem was found.
    pub(super) replay: Option<replay::Settings>,
}

/// Nonces that are given out.
#[derive(Debug, Clone)]
pub struct Nonces {
    /// How long each is good at least; twice as long at most.
    pub lifetime: Duration,
    /// Of the file; `None`: the process makes a key of its own.
    pub keys: Option<Arc<NonceKeys>>,
}

pub(super) fn check(
    file: &raw::File,
    at: &At,
    (files, now): (&mut Files, UnixTime),
    out: &mut Findings,
) -> Option<Found> {
    let raw = &file.dpop;
    let at = at.key("dpop");
    let mut time =
        |key: &str, value: &Option<String>, range| duration(&at, key, value.as_deref(), range, out);
    let age = time("proof_age", &raw.proof_age, secs(10)..=secs(300));
    let ahead = time("proof_ahead", &raw.proof_ahead, secs(10)..=secs(60));
    let lifetime = time("nonce_lifetime", &raw.nonce_lifetime, secs(10)..=secs(3600));
    for (key, value) in [
        ("proof_age", age),
        ("proof_ahead", ahead),
        ("nonce_lifetime", lifetime),
    ] {
        if value.subsec_nanos() != 0 {
            at.key(key).refuse(
                out,
                "this has a fraction of a second",
                "write whole seconds",
            );
        }
    }
    if age > secs(60) {
        let text = "proofs are taken for longer than a minute after they were made";
        at.key("proof_age").report(out, ReportKind::Weaker, text);
    }
    let here = at.key("replay");
    let entries = count(
        &here,
        "entries",
        raw.replay.entries,
        1000..=100_000_000,
        out,
    );
    let store = super::replay::store(&raw.replay, &here, files, now, out);
    Some(Found {
        proofs: Proofs { age, ahead },
        nonces: nonces(raw, &at, lifetime, files, out)?,
        replay: store.map(|store| replay::Settings {
            store,
            window: age.saturating_add(ahead),
            ahead,
            entries: usize::try_from(entries).unwrap_or(usize::MAX),
        }),
    })
}

fn nonces(
    raw: &raw::Dpop,
    at: &At,
    lifetime: Duration,
    files: &mut Files,
    out: &mut Findings,
) -> Option<Nonces> {
    let mut key = |name: &str, written: &Option<raw::SecretRef>| match written {
        None => Some(None),
        Some(written) => introspection::secret(written, &at.key(name), files, out).map(Some),
    };
    let current = key("nonce_key", &raw.nonce_key);
    let previous = key("nonce_key_previous", &raw.nonce_key_previous);
    let keys = match (current?, previous?) {
        (Some(current), previous) => {
            let previous = previous.as_ref().map(String::as_bytes);
            match NonceKeys::new(current.as_bytes(), previous, lifetime) {
                Ok(keys) => Some(Arc::new(keys)),
                Err(wrong) => {
                    let right =
                        "write 32 random characters or more, such as openssl rand -hex 32 prints";
                    at.key("nonce_key").refuse(out, wrong, right);
                    return None;
                }
            }
        }
        (None, None) => None,
        (None, Some(_)) => {
            at.key("nonce_key_previous").refuse_key(
                out,
                "there is no nonce_key",
                "add nonce_key: the previous key is for nonces that were given out before it",
            );
            return None;
        }
    };
    Some(Nonces { lifetime, keys })
}
