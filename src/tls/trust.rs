//! Whose client certificates are good, and which of them are revoked.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::{DistinguishedName, Error};
use x509_parser::certificate::X509Certificate;
use x509_parser::parse_x509_certificate;
use x509_parser::revocation_list::CertificateRevocationList;

use super::certificate::unix;
use super::known::Known;
use super::paths::Paths;
use super::signature::Signed;
use super::{certificate, name, pem, strength};
use crate::pdp::UnixTime;

/// What to do where revocation cannot be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrlRule {
    /// Refuse.
    Refuse,
    /// Take the certificate; `check` and each start say so.
    Accept,
}

/// Client authorities of a listener with their CRLs.
///
/// An authority that another one of the same files issued is an intermediate: it completes
/// chains that clients send without it (MTLS-08), and its dates and revocation count. All others
/// are trust anchors.
pub struct Authorities {
    authorities: Vec<Authority>,
    crls: Vec<Crl>,
    expired: CrlRule,
    unknown: CrlRule,
    paths: Arc<Paths>,
    known: Known,
    /// Over all that a judgement depends on.
    fingerprint: [u8; 32],
    /// Moments at which a judgement may change, in order.
    boundaries: Vec<UnixTime>,
}

/// One authority.
pub(super) struct Authority {
    pub(super) der: CertificateDer<'static>,
    pub(super) anchor: bool,
    pub(super) not_before: UnixTime,
    pub(super) not_after: UnixTime,
    pub(super) subject: Vec<u8>,
    subject_text: String,
    public_key_info: Vec<u8>,
    signs_crls: bool,
    file: String,
}

/// One CRL.
pub(super) struct Crl {
    pub(super) der: CertificateRevocationListDer<'static>,
    issuer: Vec<u8>,
    this_update: UnixTime,
    next_update: UnixTime,
    file: String,
}

impl Authorities {
    /// Reads authorities and CRLs, PEM, each text with the name of its file for messages.
    /// No CRL at all means that the operator wrote `revocation = "none"`.
    ///
    /// # Errors
    /// Each problem, with the file it is in: empty or unreadable PEM, a certificate that is no
    /// authority, a CRL that none of the authorities signed.
    pub fn from_pem(
        authorities: &[(String, Vec<u8>)],
        crls: &[(String, Vec<u8>)],
        expired: CrlRule,
        unknown: CrlRule,
    ) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut known = read_authorities(authorities, &mut problems);
        if authorities.is_empty() {
            problems.push("no authority is given".to_owned());
        }
        if !problems.is_empty() {
            // CRLs are judged by the authorities, so they have to wait.
            return Err(problems);
        }
        find_anchors(&mut known);
        let crls = read_crls(crls, &known, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let paths = Paths::new(&known, &crls, expired, unknown).map_err(|error| vec![error])?;
        Ok(Self {
            fingerprint: fingerprint(&known, &crls, expired, unknown),
            boundaries: boundaries(&known, &crls),
            authorities: known,
            crls,
            expired,
            unknown,
            paths: Arc::new(paths),
            known: Known::new(),
        })
    }

    /// Whether both judge every certificate alike at every time: same authorities, CRLs, rules.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }

    /// Until when all CRLs are fresh: the earliest `nextUpdate`. `None` without CRLs.
    #[must_use]
    pub fn valid_until(&self) -> Option<UnixTime> {
        self.crls.iter().map(|crl| crl.next_update).min()
    }

    /// Whether revocation is looked at: at least one CRL is given.
    #[must_use]
    pub const fn checks_revocation(&self) -> bool {
        !self.crls.is_empty()
    }

    /// What an operator should know of this trust at `now`, though it loads: CRLs that ran out,
    /// authorities outside their dates or without a CRL, lenient rules. One sentence each, with
    /// the file it is about.
    #[must_use]
    pub fn notes(&self, now: UnixTime) -> Vec<String> {
        let mut notes = Vec::new();
        for crl in &self.crls {
            if crl.next_update <= now {
                notes.push(format!(
                    "{}: the CRL ran out at {} (its nextUpdate): {}",
                    crl.file,
                    crl.next_update,
                    match self.expired {
                        CrlRule::Refuse =>
                            "certificates of its issuer are refused until it is renewed",
                        CrlRule::Accept =>
                            "crl_expired = \"accept\" takes certificates that may be revoked since",
                    }
                ));
            }
        }
        for authority in &self.authorities {
            if now > authority.not_after || now < authority.not_before {
                notes.push(format!(
                    "{}: authority {} is outside its dates: its certificates are refused",
                    authority.file, authority.subject_text
                ));
            }
            let covered = self.crls.iter().any(|crl| crl.issuer == authority.subject);
            if self.checks_revocation() && !covered {
                notes.push(format!(
                    "{}: no CRL of authority {} is given: {}",
                    authority.file,
                    authority.subject_text,
                    match self.unknown {
                        CrlRule::Refuse => "certificates that it issued are refused",
                        CrlRule::Accept =>
                            "crl_unknown = \"accept\" takes certificates that it may have revoked",
                    }
                ));
            }
        }
        notes
    }

    /// The first moment after `now` at which a judgement may change.
    pub(super) fn next_boundary(&self, now: UnixTime) -> Option<UnixTime> {
        self.boundaries
            .iter()
            .copied()
            .find(|boundary| *boundary > now)
    }

    /// Names of the authorities, for clients that have several certificates.
    pub(super) fn hints(&self) -> &[DistinguishedName] {
        self.paths.hints()
    }

    /// Judges a chain as of `now`.
    pub(super) fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        presented: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        self.known.judge(
            (leaf, presented),
            now,
            || self.next_boundary(now),
            || self.paths.judge(leaf, presented, now),
        )
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities")
            .field("authorities", &self.authorities.len())
            .field("crls", &self.crls.len())
            .field("expired", &self.expired)
            .field("unknown", &self.unknown)
            .finish_non_exhaustive()
    }
}

/// Reads every file; the same authority in two of them counts once.
fn read_authorities(files: &[(String, Vec<u8>)], problems: &mut Vec<String>) -> Vec<Authority> {
    let mut known: Vec<Authority> = Vec::new();
    for (file, text) in files {
        let certificates = match pem::authorities(text) {
            Ok(certificates) => certificates,
            Err(problem) => {
                problems.push(format!("{file}: {problem}"));
                continue;
            }
        };
        for (position, der) in (1..).zip(certificates) {
            match Authority::read(&der, file) {
                Ok(authority) if known.iter().any(|other| other.der == authority.der) => {}
                Ok(authority) => known.push(authority),
                Err(problem) => {
                    problems.push(format!("{file}: certificate number {position} {problem}"));
                }
            }
        }
    }
    known
}

impl Authority {
    fn read(der: &CertificateDer<'static>, file: &str) -> Result<Self, String> {
        let Ok(([], certificate)) = parse_x509_certificate(der) else {
            return Err("is no X.509 certificate".to_owned());
        };
        let subject_text = name::rfc4514(certificate.subject());
        is_authority(&certificate).map_err(|problem| format!("({subject_text}) {problem}"))?;
        strength::key(&certificate).map_err(|weak| format!("({subject_text}) {weak}"))?;
        let (not_before, not_after) = certificate::dates(der).ok_or("has no dates")?;
        let signs_crls = certificate
            .key_usage()
            .ok()
            .flatten()
            .is_none_or(|usage| usage.value.crl_sign());
        Ok(Self {
            der: der.clone(),
            anchor: true,
            not_before,
            not_after,
            subject: certificate.subject().as_raw().to_vec(),
            subject_text,
            public_key_info: certificate.public_key().raw.to_vec(),
            signs_crls,
            file: file.to_owned(),
        })
    }
}

/// RFC 5280 s4.2.1.9 and s4.2.1.3.
fn is_authority(certificate: &X509Certificate<'_>) -> Result<(), String> {
    let constraints = certificate
        .basic_constraints()
        .map_err(|error| format!("has basicConstraints that cannot be read: {error}"))?;
    if !constraints.is_some_and(|constraints| constraints.value.ca) {
        return Err(
            "is no authority (basicConstraints without CA): give the certificate of \
                    the authority that issued it"
                .to_owned(),
        );
    }
    let usage = certificate
        .key_usage()
        .map_err(|error| format!("has a keyUsage that cannot be read: {error}"))?;
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err("may not issue certificates (keyUsage without keyCertSign)".to_owned());
    }
    Ok(())
}

/// Marks as intermediates those that another authority issued.
fn find_anchors(known: &mut [Authority]) {
    let issued: Vec<bool> = known
        .iter()
        .map(|authority| {
            let Ok((_, certificate)) = parse_x509_certificate(&authority.der) else {
                return false;
            };
            let issuer = certificate.issuer().as_raw();
            if issuer == authority.subject {
                return false;
            }
            let Some(signed) = Signed::read(&authority.der) else {
                return false;
            };
            known
                .iter()
                .any(|other| other.subject == issuer && signed.is_by(&other.public_key_info))
        })
        .collect();
    // Authorities that certified each other in a ring, without a root: each is an anchor.
    if issued.iter().all(|issued| *issued) {
        return;
    }
    for (authority, issued) in known.iter_mut().zip(issued) {
        authority.anchor = !issued;
    }
}

fn read_crls(
    files: &[(String, Vec<u8>)],
    known: &[Authority],
    problems: &mut Vec<String>,
) -> Vec<Crl> {
    let mut crls: Vec<Crl> = Vec::new();
    for (file, text) in files {
        let lists = match pem::revocation_lists(text) {
            Ok(lists) => lists,
            Err(problem) => {
                problems.push(format!("{file}: {problem}"));
                continue;
            }
        };
        for (position, der) in (1..).zip(lists) {
            match Crl::read(der, file, known) {
                Ok(crl) => crls.push(crl),
                Err(problem) => problems.push(format!("{file}: CRL number {position} {problem}")),
            }
        }
    }
    // The verifier takes the first that speaks for a certificate: that must be the newest.
    crls.sort_by_key(|crl| std::cmp::Reverse(crl.this_update));
    crls
}

impl Crl {
    fn read(
        der: CertificateRevocationListDer<'static>,
        file: &str,
        known: &[Authority],
    ) -> Result<Self, String> {
        let (issuer, issuer_text, this_update, next_update) = {
            use x509_parser::prelude::FromDer as _;
            let Ok(([], list)) = CertificateRevocationList::from_der(&der) else {
                return Err("cannot be read".to_owned());
            };
            let next_update = list.next_update().ok_or(
                "has no nextUpdate: when it runs out could not be known (RFC 5280 s5.1.2.5)",
            )?;
            (
                list.issuer().as_raw().to_vec(),
                name::rfc4514(list.issuer()),
                unix(list.last_update()),
                unix(next_update),
            )
        };
        let signed = Signed::read(&der).ok_or("cannot be read")?;
        let signer = known.iter().find(|authority| {
            authority.subject == issuer && signed.is_by(&authority.public_key_info)
        });
        match signer {
            None => Err(format!(
                "(of {issuer_text}) is signed by none of the authorities"
            )),
            Some(signer) if !signer.signs_crls => Err(format!(
                "is signed by {issuer_text}, which may not sign CRLs (keyUsage without cRLSign)"
            )),
            Some(_) => {
                Paths::takes_crl(known, &der).map_err(|problem| {
                    format!("(of {issuer_text}) is of a kind that cannot be applied: {problem}")
                })?;
                Ok(Self {
                    der,
                    issuer,
                    this_update,
                    next_update,
                    file: file.to_owned(),
                })
            }
        }
    }
}

fn fingerprint(known: &[Authority], crls: &[Crl], expired: CrlRule, unknown: CrlRule) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[expired as u8, unknown as u8]);
    let parts = (known.iter().map(|authority| (b'a', authority.der.as_ref())))
        .chain(crls.iter().map(|crl| (b'c', crl.der.as_ref())));
    for (kind, der) in parts {
        // DER carries its own length, so no two lists run into the same bytes.
        context.update(&[kind]);
        context.update(der);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

/// A certificate is good through `notAfter`, a CRL until `nextUpdate`.
fn boundaries(known: &[Authority], crls: &[Crl]) -> Vec<UnixTime> {
    let mut boundaries: Vec<_> = known
        .iter()
        .flat_map(|authority| [authority.not_before, after(authority.not_after)])
        .chain(crls.iter().map(|crl| crl.next_update))
        .collect();
    boundaries.sort_unstable();
    boundaries.dedup();
    boundaries
}

/// The second after this one.
pub(super) const fn after(moment: UnixTime) -> UnixTime {
    moment.later(std::time::Duration::from_secs(1))
}
