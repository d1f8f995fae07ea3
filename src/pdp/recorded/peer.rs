//! The other end of a recorded decision: a peer of the same address, listener and certificate.

use super::facts::{CertificateFacts, PeerFacts};
use crate::pdp::time::UnixTime;
use crate::pdp::{Peer, PeerCertificate, Psd2Role, Thumbprint};

/// The other end, as far as it is recorded; `None` where the facts are none of a certificate.
pub(super) fn stand_in(facts: &PeerFacts) -> Option<Peer> {
    let certificate = match &facts.certificate {
        None => None,
        Some(found) => Some(certificate(found)?),
    };
    Some(Peer {
        remote: facts.remote,
        local: facts.remote,
        listener: (&*facts.listener).into(),
        certificate,
    })
}

fn certificate(found: &CertificateFacts) -> Option<PeerCertificate> {
    let role = |name: &str| Psd2Role::ALL.into_iter().find(|role| role.name() == name);
    Some(PeerCertificate {
        thumbprint: Thumbprint::parse(&found.thumbprint)?,
        thumbprint_text: found.thumbprint.clone(),
        der: Box::default(),
        not_before: UnixTime::from_secs(found.not_before),
        not_after: UnixTime::from_secs(found.not_after),
        subject: found.subject.clone(),
        issuer: found.issuer.clone(),
        serial: found.serial.clone(),
        organization_id: found.organization_id.clone(),
        psd2_roles: found.roles.iter().filter_map(|name| role(name)).collect(),
        psd2_authority: None,
    })
}
