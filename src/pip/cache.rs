//! Tokens whose signature was found good. Proofs about a token are remembered, decisions about a
//! request never: whoever finds a token here judges its time, audience, binding and rights anew.
//!
//! One cache for all threads. moka's part is the bound in bytes and the life of each entry; what
//! makes an entry valid (its issuer's keys) is asked at each hit, since no clock tells it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::sync::Cache;

use crate::pdp::token::KeyGeneration;
use crate::pdp::{Introspected, IssuerId, TokenDigest, UnixTime, VerifiedToken};

/// Bytes of all tokens together, about.
const LARGEST: u64 = 64 * 1024 * 1024;

/// What the cache must know of a token.
pub(super) trait Remembered: Send + Sync + 'static {
    fn issuer(&self) -> IssuerId;
    fn key_generation(&self) -> KeyGeneration;
    fn expires(&self) -> UnixTime;
    fn weight(&self) -> usize;
}

impl Remembered for VerifiedToken {
    fn issuer(&self) -> IssuerId {
        self.issuer()
    }

    fn key_generation(&self) -> KeyGeneration {
        self.key_generation()
    }

    fn expires(&self) -> UnixTime {
        self.expires()
    }

    fn weight(&self) -> usize {
        self.weight()
    }
}

/// See the module.
pub(super) struct Tokens<T = VerifiedToken> {
    cache: Cache<[u8; 32], Entry<T>, Folded>,
}

struct Entry<T> {
    token: Arc<T>,
    /// What was left of the token's life when it was remembered.
    life: Duration,
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Self {
            token: Arc::clone(&self.token),
            life: self.life,
        }
    }
}

/// An entry ends with its token, by the clock that also runs while the wall clock is set back.
struct UntilExpiry;

impl<T> Expiry<[u8; 32], Entry<T>> for UntilExpiry {
    fn expire_after_create(&self, _: &[u8; 32], entry: &Entry<T>, _: Instant) -> Option<Duration> {
        Some(entry.life)
    }

    fn expire_after_update(
        &self,
        _: &[u8; 32],
        entry: &Entry<T>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.life)
    }
}

impl<T: Remembered> Tokens<T> {
    /// An empty one.
    pub(super) fn new() -> Self {
        Self::bounded(LARGEST)
    }

    fn bounded(largest: u64) -> Self {
        let cache = Cache::builder()
            .max_capacity(largest)
            .weigher(|_, entry: &Entry<T>| {
                // 256: what moka and the entry itself take.
                u32::try_from(entry.token.weight().saturating_add(256)).unwrap_or(u32::MAX)
            })
            .expire_after(UntilExpiry)
            .build_with_hasher(Folded::default());
        Self { cache }
    }

    /// The token, if it is remembered, did not run out, and `current` says that its issuer still
    /// has the keys it was verified with (TOK-24).
    pub(super) fn recall(
        &self,
        digest: &TokenDigest,
        now: UnixTime,
        current: impl FnOnce(IssuerId, KeyGeneration) -> bool,
    ) -> Option<Arc<T>> {
        let token = self.cache.get(&digest.0)?.token;
        if now < token.expires() && current(token.issuer(), token.key_generation()) {
            return Some(token);
        }
        // It will not come back: what ran out or lost its keys is void for good.
        self.cache.invalidate(&digest.0);
        None
    }

    /// Remembers a token for what is left of its life.
    pub(super) fn remember(&self, digest: &TokenDigest, token: Arc<T>, now: UnixTime) {
        let life = token.expires().since(now);
        if !life.is_zero() {
            self.cache.insert(digest.0, Entry { token, life });
        }
    }

    /// How many are held, about.
    pub(super) fn len(&self) -> u64 {
        self.cache.entry_count()
    }
}

/// Bytes of all answers about active tokens together, about.
const LARGEST_ACTIVE: u64 = 64 * 1024 * 1024;

/// Bytes of all other answers together. They are apart, so that made-up tokens cannot push out
/// what is known of good ones (INT-08).
const LARGEST_REFUSED: u64 = 8 * 1024 * 1024;

/// Who said it, of which token.
type AnswerKey = (IssuerId, [u8; 32]);

/// What issuers said about tokens. An issuer's number stands for its settings too, our client id
/// among them, so that an answer to one question is never taken for that to another.
pub(super) struct Answers {
    active: Cache<AnswerKey, Held, Folded>,
    refused: Cache<AnswerKey, Held, Folded>,
}

#[derive(Clone)]
struct Held {
    said: Arc<Introspected>,
    life: Duration,
}

struct ForItsLife;

impl Expiry<AnswerKey, Held> for ForItsLife {
    fn expire_after_create(&self, _: &AnswerKey, held: &Held, _: Instant) -> Option<Duration> {
        Some(held.life)
    }

    fn expire_after_update(
        &self,
        _: &AnswerKey,
        held: &Held,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(held.life)
    }
}

impl Answers {
    /// None yet.
    pub(super) fn new() -> Self {
        let bounded = |largest| {
            Cache::builder()
                .max_capacity(largest)
                .weigher(|_, held: &Held| {
                    u32::try_from(held.said.weight().saturating_add(256)).unwrap_or(u32::MAX)
                })
                .expire_after(ForItsLife)
                .build_with_hasher(Folded::default())
        };
        Self {
            active: bounded(LARGEST_ACTIVE),
            refused: bounded(LARGEST_REFUSED),
        }
    }

    /// What this issuer said about the token, if it may still be taken. An active token is not
    /// taken past its `exp`, whatever the clocks did meanwhile (INT-07).
    pub(super) fn recall(
        &self,
        issuer: IssuerId,
        digest: TokenDigest,
        now: UnixTime,
    ) -> Option<Arc<Introspected>> {
        let key = (issuer, digest.0);
        let active = self.active.get(&key);
        let held = active.or_else(|| self.refused.get(&key))?;
        held.said
            .expires()
            .is_none_or(|expires| now < expires)
            .then_some(held.said)
    }

    /// Remembers an answer for this long at most, and never past `exp`.
    pub(super) fn remember(&self, said: &Arc<Introspected>, longest: Duration, now: UnixTime) {
        let key = (said.issuer(), said.digest().0);
        let (into, other, life) = match said.expires() {
            Some(expires) => (&self.active, &self.refused, longest.min(expires.since(now))),
            None => (&self.refused, &self.active, longest),
        };
        // Whatever was known before is superseded, also where the answer itself is not kept.
        other.invalidate(&key);
        if life.is_zero() {
            into.invalidate(&key);
            return;
        }
        let said = Arc::clone(said);
        into.insert(key, Held { said, life });
    }

    /// Drops one answer.
    pub(super) fn forget(&self, said: &Introspected) {
        let key = (said.issuer(), said.digest().0);
        self.active.invalidate(&key);
        self.refused.invalidate(&key);
    }

    /// Drops those that `wanted` says; their number.
    pub(super) fn forget_all(&self, wanted: impl Fn(&Introspected) -> bool) -> u64 {
        let mut dropped = 0;
        for cache in [&self.active, &self.refused] {
            for (key, held) in cache {
                if wanted(&held.said) {
                    cache.invalidate(&*key);
                    dropped += 1;
                }
            }
        }
        dropped
    }

    /// How many are held, about: of active tokens, and others.
    pub(super) fn len(&self) -> (u64, u64) {
        (self.active.entry_count(), self.refused.entry_count())
    }
}

/// The keys are SHA-256 digests of tokens whose signature is good, so nobody chooses them freely;
/// a few of their bytes under a secret of the process are as good as a whole SipHash, and a
/// quarter of its price.
#[derive(Debug, Clone)]
struct Folded(u64);

impl Default for Folded {
    fn default() -> Self {
        use std::hash::{BuildHasher as _, Hasher as _, RandomState};
        Self(RandomState::new().build_hasher().finish())
    }
}

impl std::hash::BuildHasher for Folded {
    type Hasher = Fold;

    fn build_hasher(&self) -> Fold {
        Fold(self.0)
    }
}

#[derive(Debug)]
struct Fold(u64);

impl std::hash::Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            let mixed = u128::from(self.0 ^ u64::from_le_bytes(word)) * 0x9E37_79B9_7F4A_7C15;
            let [low, high] = [mixed & u128::from(u64::MAX), mixed >> 64];
            self.0 = u64::try_from(low ^ high).unwrap_or_default();
        }
    }

    /// The length of an array: always the same.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake {
        expires: u64,
        weight: usize,
    }

    impl Remembered for Fake {
        fn issuer(&self) -> IssuerId {
            IssuerId(1)
        }
        fn key_generation(&self) -> KeyGeneration {
            KeyGeneration(5)
        }
        fn expires(&self) -> UnixTime {
            UnixTime::from_secs(self.expires)
        }
        fn weight(&self) -> usize {
            self.weight
        }
    }

    fn at(secs: u64) -> UnixTime {
        UnixTime::from_secs(secs)
    }

    fn digest(number: u64) -> TokenDigest {
        let mut bytes = [0; 32];
        bytes[24..].copy_from_slice(&number.to_be_bytes());
        TokenDigest(bytes)
    }

    fn token(expires: u64) -> Arc<Fake> {
        Arc::new(Fake {
            expires,
            weight: 1000,
        })
    }

    #[test]
    fn a_token_is_recalled_until_it_runs_out() {
        // TOK-24
        let tokens = Tokens::new();
        tokens.remember(&digest(1), token(100), at(40));
        assert!(tokens.recall(&digest(2), at(40), |_, _| true).is_none());
        assert!(tokens.recall(&digest(1), at(99), |_, _| true).is_some());
        assert!(
            tokens.recall(&digest(1), at(100), |_, _| true).is_none(),
            "at that second"
        );
        tokens.remember(&digest(3), token(100), at(100));
        assert!(
            tokens.recall(&digest(3), at(99), |_, _| true).is_none(),
            "had no life left"
        );
    }

    #[test]
    fn a_token_whose_keys_are_gone_is_void() {
        // TOK-24, KEY-05
        let tokens = Tokens::new();
        tokens.remember(&digest(1), token(100), at(0));
        let asked = |issuer, generation| {
            assert_eq!((issuer, generation), (IssuerId(1), KeyGeneration(5)));
            false
        };
        assert!(tokens.recall(&digest(1), at(1), asked).is_none());
        assert!(
            tokens.recall(&digest(1), at(1), |_, _| true).is_none(),
            "for good"
        );
    }

    #[test]
    fn bytes_are_bounded() {
        // OPS-05
        let tokens = Tokens::bounded(100_000);
        for number in 0..1000 {
            tokens.remember(&digest(number), token(100), at(0));
        }
        tokens.cache.run_pending_tasks();
        assert!(tokens.len() <= 100_000 / 1256, "{}", tokens.len());
        assert!(tokens.len() > 50);
    }

    #[test]
    fn every_byte_of_the_digest_counts() {
        use std::collections::HashSet;
        use std::hash::BuildHasher as _;
        let folded = Folded::default();
        let seen: HashSet<u64> = (0..32)
            .map(|at| {
                let mut digest = [0_u8; 32];
                digest[at] = 1;
                folded.hash_one(digest)
            })
            .collect();
        assert_eq!(seen.len(), 32);
    }
}
