//! Path validation: webpki judges, with the authorities, intermediates and CRLs of one trust.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::pki_types::{self, CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, DistinguishedName, Error, RootCertStore};

use super::trust::{Authority, Crl, CrlRule, after};
use super::{Profile, provider};
use crate::pdp::UnixTime;

/// Names of authorities told to clients take at most this many octets, else none are told: the
/// message has room for 64 KiB.
const HINT_BYTES: usize = 32 * 1024;

/// Finds a path from a certificate to an anchor, and judges it.
#[derive(Debug)]
pub(super) struct Paths {
    recipe: Recipe,
    /// With every anchor, whatever its dates.
    all: Arc<dyn ClientCertVerifier>,
    /// With the anchors that are inside their dates. webpki takes an anchor for eternal.
    in_date: ArcSwap<InDate>,
    intermediates: Vec<CertificateDer<'static>>,
    hints: Vec<DistinguishedName>,
}

#[derive(Debug)]
struct Recipe {
    anchors: Vec<(CertificateDer<'static>, UnixTime, UnixTime)>,
    crls: Vec<CertificateRevocationListDer<'static>>,
    expired: CrlRule,
    unknown: CrlRule,
}

/// Anchors at one time: the same in `from..until`.
#[derive(Debug)]
struct InDate {
    from: UnixTime,
    until: UnixTime,
    /// `None` where no anchor is inside its dates.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// Whether every anchor is.
    complete: bool,
}

impl Paths {
    pub(super) fn new(
        known: &[Authority],
        crls: &[Crl],
        expired: CrlRule,
        unknown: CrlRule,
    ) -> Result<Self, String> {
        let recipe = Recipe {
            anchors: known
                .iter()
                .filter(|authority| authority.anchor)
                .map(|anchor| (anchor.der.clone(), anchor.not_before, anchor.not_after))
                .collect(),
            crls: crls.iter().map(|crl| crl.der.clone()).collect(),
            expired,
            unknown,
        };
        let all = recipe.verifier(recipe.anchors.iter().map(|(der, ..)| der))?;
        let mut hints: Vec<_> = known
            .iter()
            .map(|authority| DistinguishedName::from(authority.subject.clone()))
            .collect();
        if hints.iter().map(|name| name.as_ref().len()).sum::<usize>() > HINT_BYTES {
            hints.clear();
        }
        Ok(Self {
            all,
            in_date: ArcSwap::from_pointee(InDate {
                from: UnixTime::from_secs(0),
                until: UnixTime::from_secs(0),
                verifier: None,
                complete: false,
            }),
            intermediates: known
                .iter()
                .filter(|authority| !authority.anchor)
                .map(|intermediate| intermediate.der.clone())
                .collect(),
            hints,
            recipe,
        })
    }

    /// Whether rustls can apply this CRL at all: no delta, no indirect one, no unknown critical
    /// extension.
    pub(super) fn takes_crl(
        known: &[Authority],
        crl: &CertificateRevocationListDer<'static>,
    ) -> Result<(), String> {
        let recipe = Recipe {
            anchors: Vec::new(),
            crls: vec![crl.clone()],
            expired: CrlRule::Refuse,
            unknown: CrlRule::Refuse,
        };
        recipe
            .verifier(known.iter().map(|authority| &authority.der))
            .map(|_| ())
    }

    /// Judges a chain as of `now`.
    pub(super) fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        presented: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let in_date = self.at(now)?;
        let Some(verifier) = &in_date.verifier else {
            return Err(CertificateError::Expired.into());
        };
        let intermediates: Vec<_> = presented
            .iter()
            .map(|der| CertificateDer::from(der.as_ref()))
            .chain(
                self.intermediates
                    .iter()
                    .map(|der| CertificateDer::from(der.as_ref())),
            )
            .collect();
        let time = pki_types::UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()));
        match verifier.verify_client_cert(leaf, &intermediates, time) {
            Ok(_) => Ok(()),
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
                if !in_date.complete
                    && self
                        .all
                        .verify_client_cert(leaf, &intermediates, time)
                        .is_ok() =>
            {
                // Its anchor is known, and outside its dates.
                Err(CertificateError::Expired.into())
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn hints(&self) -> &[DistinguishedName] {
        &self.hints
    }

    /// The verifier for `now`; built anew when an anchor's date has passed since the last one.
    fn at(&self, now: UnixTime) -> Result<Arc<InDate>, Error> {
        let held = self.in_date.load();
        if held.from <= now && now < held.until {
            return Ok(Arc::clone(&held));
        }
        let built = Arc::new(self.build_at(now).map_err(Error::General)?);
        self.in_date.store(Arc::clone(&built));
        Ok(built)
    }

    fn build_at(&self, now: UnixTime) -> Result<InDate, String> {
        let anchors = &self.recipe.anchors;
        let good: Vec<_> = anchors
            .iter()
            .filter(|(_, not_before, not_after)| *not_before <= now && now <= *not_after)
            .map(|(der, ..)| der)
            .collect();
        let until = anchors
            .iter()
            .flat_map(|(_, not_before, not_after)| [*not_before, after(*not_after)])
            .filter(|boundary| *boundary > now)
            .min()
            .unwrap_or(UnixTime::from_secs(u64::MAX));
        let complete = good.len() == anchors.len();
        let verifier = if good.is_empty() {
            None
        } else if complete {
            Some(Arc::clone(&self.all))
        } else {
            Some(self.recipe.verifier(good.into_iter())?)
        };
        Ok(InDate {
            from: now,
            until,
            verifier,
            complete,
        })
    }
}

impl Recipe {
    fn verifier<'a>(
        &self,
        anchors: impl Iterator<Item = &'a CertificateDer<'static>>,
    ) -> Result<Arc<dyn ClientCertVerifier>, String> {
        let mut roots = RootCertStore::empty();
        for anchor in anchors {
            roots
                .add(anchor.clone())
                .map_err(|error| format!("an authority cannot be used: {error}"))?;
        }
        let provider = provider(Profile::Fapi2);
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .with_crls(self.crls.iter().cloned());
        // rustls takes a CRL that ran out unless told otherwise.
        if self.expired == CrlRule::Refuse {
            builder = builder.enforce_revocation_expiration();
        }
        if self.unknown == CrlRule::Accept {
            builder = builder.allow_unknown_revocation_status();
        }
        builder.build().map_err(|error| error.to_string())
    }
}
