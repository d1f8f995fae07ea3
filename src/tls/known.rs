//! Chains that were found good: what a client with many connections presents again and again.
//!
//! Only a success is remembered, of the very same certificates under one trust (authorities, CRLs and
//! rules; another trust begins with an empty memory), and only for the time in which nothing that
//! it rests on begins or ends. What is looked at for each connection all the same: that the client
//! holds the key, and the bounds and names that a listener asks for.

use std::fmt;

use aws_lc_rs::digest;
use moka::sync::Cache;
use rustls::pki_types::CertificateDer;

use super::certificate;
use super::trust::after;
use crate::pdp::UnixTime;

/// Chains of one trust. A client can present one good certificate with others that nobody needs,
/// each time another set; that pushes out rare ones of others, who then wait a little longer.
const CHAINS: u64 = 4_096;

/// See the module.
pub(super) struct Known(Cache<[u8; 32], Good>);

/// Good in `from..until`.
#[derive(Debug, Clone, Copy)]
struct Good {
    from: UnixTime,
    until: UnixTime,
}

impl Known {
    pub(super) fn new() -> Self {
        Self(Cache::new(CHAINS))
    }

    /// Judges a chain as `judge` does, unless it is known to be good at `now`. `boundary` is the next
    /// moment after `now` at which the trust itself may judge otherwise.
    pub(super) fn judge<E>(
        &self,
        (leaf, intermediates): (&CertificateDer<'_>, &[CertificateDer<'_>]),
        now: UnixTime,
        boundary: impl FnOnce() -> Option<UnixTime>,
        judge: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let chain = || std::iter::once(leaf).chain(intermediates);
        let id = id(chain());
        if let Some(good) = self.0.get(&id)
            && good.from <= now
            && now < good.until
        {
            return Ok(());
        }
        judge()?;
        // A certificate without dates that can be read is judged each time.
        let dates: Option<Vec<_>> = chain().map(|der| certificate::dates(der)).collect();
        if let Some(dates) = dates {
            let until = dates
                .into_iter()
                .flat_map(|(not_before, not_after)| [not_before, after(not_after)])
                .filter(|date| *date > now)
                .chain(boundary())
                .min();
            let until = until.unwrap_or(UnixTime::from_secs(u64::MAX));
            self.0.insert(id, Good { from: now, until });
        }
        Ok(())
    }
}

/// SHA-256 over all certificates, each with its length: no two chains run into the same bytes.
fn id<'a>(chain: impl Iterator<Item = &'a CertificateDer<'a>>) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for der in chain {
        context.update(&der.len().to_be_bytes());
        context.update(der);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Known").field(&self.0.entry_count()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// Valid from 2020-01-01 through 2030-01-01.
    fn certificate() -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2030, 1, 1);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    const NOW: u64 = 1_800_000_000;
    const END: u64 = 1_893_456_000;

    /// Judges, and says whether that took the whole work.
    fn judged(
        known: &Known,
        chain: &[&CertificateDer<'static>],
        (now, boundary): (u64, Option<u64>),
        outcome: Result<(), ()>,
    ) -> (Result<(), ()>, bool) {
        let work = Cell::new(false);
        let (leaf, rest) = chain.split_first().unwrap();
        let rest: Vec<_> = rest.iter().map(|der| (*der).clone()).collect();
        let found = known.judge(
            (leaf, &rest),
            UnixTime::from_secs(now),
            || boundary.map(UnixTime::from_secs),
            || {
                work.set(true);
                outcome
            },
        );
        (found, work.get())
    }

    #[test]
    fn a_good_chain_is_judged_once() {
        let (a, b) = (certificate(), certificate());
        let known = Known::new();
        let at = (NOW, None);
        assert_eq!(judged(&known, &[&a, &b], at, Ok(())), (Ok(()), true));
        assert_eq!(judged(&known, &[&a, &b], at, Err(())), (Ok(()), false));
        // Not the same certificates: fewer, more, another order.
        for other in [&[&a][..], &[&b], &[&b, &a], &[&a, &b, &b]] {
            let found = judged(&known, other, at, Err(()));
            assert_eq!(found, (Err(()), true), "{}", other.len());
        }
    }

    #[test]
    fn a_refusal_is_never_remembered() {
        let a = certificate();
        let known = Known::new();
        for _ in 0..2 {
            let found = judged(&known, &[&a], (NOW, None), Err(()));
            assert_eq!(found, (Err(()), true));
        }
        assert_eq!(judged(&known, &[&a], (NOW, None), Ok(())), (Ok(()), true));
    }

    #[test]
    fn nothing_is_known_beyond_a_date() {
        // MTLS-08, MTLS-10
        let a = certificate();
        for (boundary, end) in [
            (None, END + 1),
            (Some(NOW + 60), NOW + 60),
            (Some(END + 60), END + 1),
        ] {
            let known = Known::new();
            let whole = |now| judged(&known, &[&a], (now, boundary), Err(())).1;
            assert!(whole(NOW));
            assert!(judged(&known, &[&a], (NOW, boundary), Ok(())).1);
            assert!(!whole(NOW) && !whole(end - 1), "{boundary:?}");
            assert!(whole(end), "{boundary:?}");
            assert!(whole(NOW - 1), "a clock that was set back");
        }
    }

    #[test]
    fn what_has_no_dates_is_judged_each_time() {
        let (a, odd) = (certificate(), CertificateDer::from(vec![5, 0]));
        let known = Known::new();
        for _ in 0..2 {
            let found = judged(&known, &[&a, &odd], (NOW, None), Ok(()));
            assert_eq!(found, (Ok(()), true));
        }
    }
}
