//! `[revocation]`: where others say that tokens are void, and who may.

use super::document::At;
use super::files::Files;
use super::introspection;
use super::listeners::socket;
use super::problem::Findings;
use super::raw;
use super::server_tls;
use crate::pdp::UnixTime;
use crate::revocation::Settings;
use crate::telemetry::Secret;

/// Characters of a secret, at least: what somebody cannot try through.
const SHORTEST: usize = 16;

/// `Some(None)` where there is none; `None` where it has a problem.
pub(super) fn check(
    file: &raw::File,
    at: &At,
    (files, now): (&mut Files, UnixTime),
    out: &mut Findings,
) -> Option<Option<Settings>> {
    let Some(raw) = &file.revocation else {
        return Some(None);
    };
    let at = at.key("revocation");
    let here = at.key("address");
    let address = socket(&here, &raw.address, out);
    if let Some(address) = address {
        let same = |other: &str| other.parse() == Ok(address) && address.port() != 0;
        let listener = file.listener.values().any(|one| same(&one.address));
        if listener || file.admin.as_ref().is_some_and(|one| same(&one.address)) {
            let right = "give it a port of its own";
            here.refuse(
                out,
                "a listener or the admin endpoints have this address",
                right,
            );
        }
        if raw.tls.is_none() && !address.ip().is_loopback() {
            here.refuse(
                out,
                "this address can be reached from other machines, and there is no tls",
                "add [revocation.tls], or use a loopback address",
            );
        }
    }
    let secret = match &raw.secret {
        None => Some(None),
        Some(written) => {
            let here = at.key("secret");
            introspection::secret(written, &here, files, out).map(|secret| {
                if secret.len() < SHORTEST {
                    let right =
                        "make one of 32 random characters, such as openssl rand -hex 16 prints";
                    here.refuse(
                        out,
                        format!("the secret has less than {SHORTEST} characters"),
                        right,
                    );
                }
                Some(Secret::new(secret.into()))
            })
        }
    };
    let tls = match &raw.tls {
        None => Some(None),
        Some(written) => {
            let here = at.key("tls");
            let name = "revocation".into();
            server_tls::check(&name, written, &here, &[], (files, now), out).map(Some)
        }
    };
    let required = raw.tls.as_ref().is_some_and(|tls| {
        tls.client_certificate == Some(raw::ClientCertificate::Required)
            && tls.client_trust != Some(raw::ClientTrust::Any)
    });
    if raw.secret.is_none() && !required {
        at.refuse_key(
            out,
            "anybody could call: there is neither a secret nor a client certificate that must be trusted",
            "add secret, or tls with client_ca",
        );
    }
    Some(Some(Settings {
        address: address?,
        secret: secret?,
        tls: tls?,
    }))
}
