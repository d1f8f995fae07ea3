//! `[listener.<name>.tls]`: our own certificate, and whose client certificates are good.

use std::sync::Arc;
use std::time::Duration;

use super::document::At;
use super::files::Files;
use super::problem::{Findings, ReportKind};
use super::raw;
use super::values::Address;
use crate::pdp::UnixTime;
use crate::tls;
use crate::tls::identity::Identity;
use crate::tls::trust::{Authorities, CrlRule};

/// Certificates that end within this time are reported.
const SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// Checks TLS of one listener. `addresses` are those that its certificate must cover.
pub(super) fn check(
    listener: &Arc<str>,
    raw: &raw::Tls,
    at: &At,
    addresses: &[(At, Address)],
    (files, now): (&mut Files, UnixTime),
    out: &mut Findings,
) -> Option<tls::Settings> {
    let identity = identity(raw, at, addresses, (files, now), out);
    let client_trust = trust(raw, at, (files, now), out);
    Some(tls::Settings {
        listener: Arc::clone(listener),
        identity: identity?,
        profile: match raw.profile {
            Some(raw::Profile::Fapi1) => tls::Profile::Fapi1,
            _ => tls::Profile::Fapi2,
        },
        client_certificate: match raw.client_certificate {
            Some(raw::ClientCertificate::None) => tls::ClientCertificate::None,
            Some(raw::ClientCertificate::Required) => tls::ClientCertificate::Required,
            _ => tls::ClientCertificate::Optional,
        },
        client_trust: client_trust?,
        resumption: raw.resumption != Some(false),
        behind: None,
    })
}

/// Our own certificate.
fn identity(
    raw: &raw::Tls,
    at: &At,
    addresses: &[(At, Address)],
    (files, now): (&mut Files, UnixTime),
    out: &mut Findings,
) -> Option<Arc<Identity>> {
    let here = at.key("certificate");
    let chain = files.named(&here, &raw.certificate, out);
    let key = files.secret(&at.key("private_key"), &raw.private_key, out);
    let (chain, key) = (chain?, key?);
    let identity = match Identity::from_pem(&chain.bytes, &key.bytes) {
        Ok(identity) => Arc::new(identity),
        Err(wrong) => {
            here.refuse(
                out,
                format!("{} with {}: {wrong}", chain.name, key.name),
                "give the chain, leaf first, and the key of the leaf: RSA of 2048 bits or more, or EC",
            );
            return None;
        }
    };
    for (url, address) in addresses {
        if !identity.covers(address.bare_host()) {
            url.refuse(
                out,
                format!("the certificate in {} does not cover {}", chain.name, address.host),
                "add the name to the certificate's subject alternative names, or correct the address",
            );
        }
    }
    if raw.profile == Some(raw::Profile::Fapi1) && !identity.is_rsa() {
        at.key("profile").refuse(
            out,
            format!(
                "profile fapi1 needs an RSA certificate, and {} has another",
                chain.name
            ),
            "use an RSA certificate, or profile = \"fapi2\"",
        );
    }
    expiry(&here, &chain.name, identity.remaining(now), out);
    Some(identity)
}

/// Reports a certificate that ends soon.
pub(super) fn expiry(at: &At, name: &str, remaining: Duration, out: &mut Findings) {
    if remaining.is_zero() {
        at.report(
            out,
            ReportKind::Material,
            format!("the certificate in {name} has expired"),
        );
    } else if remaining < SOON {
        let days = remaining.as_secs().div_euclid(24 * 3600);
        let text = format!("the certificate in {name} expires in {days} days");
        at.report(out, ReportKind::Material, text);
    }
}

/// Whose client certificates are good.
fn trust(
    raw: &raw::Tls,
    at: &At,
    (files, now): (&mut Files, UnixTime),
    out: &mut Findings,
) -> Option<tls::ClientTrust> {
    let unused = |key: &str, because: &str, out: &mut Findings| {
        if at.key(key).written() {
            at.key(key).refuse_key(
                out,
                format!("this has no effect with {because}"),
                "remove it",
            );
        }
    };
    if raw.client_certificate == Some(raw::ClientCertificate::None) {
        for key in [
            "client_trust",
            "client_ca",
            "client_crl",
            "revocation",
            "crl_expired",
            "crl_unknown",
        ] {
            unused(key, "client_certificate = \"none\"", out);
        }
        return Some(tls::ClientTrust::Any);
    }
    if raw.client_trust == Some(raw::ClientTrust::Any) {
        for key in [
            "client_ca",
            "client_crl",
            "revocation",
            "crl_expired",
            "crl_unknown",
        ] {
            unused(key, "client_trust = \"any\"", out);
        }
        at.key("client_trust").report(
            out,
            ReportKind::Weaker,
            "any client certificate is taken, self-signed ones too: only its thumbprint says anything",
        );
        return Some(tls::ClientTrust::Any);
    }
    let Some(names) = &raw.client_ca else {
        at.refuse_key(
            out,
            "`client_ca` is missing",
            "name the authorities of your clients, or write client_trust = \"any\" or client_certificate = \"none\"",
        );
        return None;
    };
    let authorities = files.all(&at.key("client_ca"), names, out);
    let crls = match (&raw.client_crl, raw.revocation) {
        (None, None) => {
            at.refuse_key(
                out,
                "`client_crl` is missing",
                "name the revocation lists of client_ca, or write revocation = \"none\"",
            );
            None
        }
        (Some(_), Some(raw::Revocation::None)) => {
            at.key("revocation").refuse(
                out,
                "there is a client_crl, and revocation is \"none\"",
                "remove one of the two",
            );
            None
        }
        (None, Some(raw::Revocation::None)) => {
            for key in ["crl_expired", "crl_unknown"] {
                unused(key, "revocation = \"none\"", out);
            }
            at.key("revocation").report(
                out,
                ReportKind::Weaker,
                "client certificates that were revoked are taken",
            );
            Some(Vec::new())
        }
        (Some(names), None) => files.all(&at.key("client_crl"), names, out),
    };
    let mut rule = |key: &str, value: Option<raw::CrlRule>, text: &str| match value {
        Some(raw::CrlRule::Accept) => {
            at.key(key).report(out, ReportKind::Weaker, text);
            CrlRule::Accept
        }
        _ => CrlRule::Refuse,
    };
    let expired = rule(
        "crl_expired",
        raw.crl_expired,
        "clients are taken when the CRL ran out",
    );
    let unknown = rule(
        "crl_unknown",
        raw.crl_unknown,
        "clients of an authority without a CRL are taken",
    );
    match Authorities::from_pem(&authorities?, &crls?, expired, unknown) {
        Ok(authorities) => {
            for note in authorities.notes(now) {
                at.key("client_ca").report(out, ReportKind::Material, note);
            }
            Some(tls::ClientTrust::Ca(Arc::new(authorities)))
        }
        Err(problems) => {
            for wrong in problems {
                at.key("client_ca").refuse(
                    out,
                    wrong,
                    "give PEM files of the authorities, and of the CRLs that they signed",
                );
            }
            None
        }
    }
}
