//! The store inside this process: a set that is bounded by time and, when that is not enough,
//! refuses; it never forgets what could still be accepted.
//!
//! An entry may go once its proof can be taken no more by the wall clock, which judges proofs, and
//! by the clock that never steps: were either alone asked, a wall clock that is set ahead and back
//! would make us forget a use whose proof is good again. A wall clock that goes wrong for longer
//! than a proof's life outlasts both; of the proofs that went then, none is new ever again.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Key, LONGEST, Unavailable, Use, Why};
use crate::pdp::UnixTime;

/// Seconds that an entry stays beyond its end, so that a clock set back by less needs no refusal.
pub(super) const KEPT_LONGER: u64 = 5;

/// Parts with a lock each, so that threads rarely meet.
const SHARDS: usize = 64;

/// Entries that one use looks at, to see whether they may go: more than it adds, so that the store
/// shrinks, and few, so that nobody waits for long.
const LOOKED_AT: usize = 4;

/// The first half of a key, which is a digest: to find two that share it takes 2^64 proofs, and who has
/// them has one of his own refused. It is all that is kept of a use, twice.
type Mark = [u8; 16];

/// Keys that were used, until their proofs can no longer be accepted.
#[derive(Debug)]
pub(super) struct Memory {
    shards: Box<[Mutex<Shard>]>,
    most: AtomicUsize,
    held: AtomicUsize,
    began: Instant,
    /// Where the next search for room begins.
    cursor: AtomicUsize,
    /// A use whose end lies at or before this second may be missing: see [`Memory::missed`].
    incomplete: AtomicU64,
}

/// Seconds of both clocks.
#[derive(Debug, Clone, Copy)]
struct Now {
    /// As proofs are judged; may step.
    wall: u64,
    /// Since the store began; never steps.
    steady: u64,
}

#[derive(Debug, Default)]
struct Shard {
    /// Each use with the last second of its proof.
    uses: HashMap<Mark, u64>,
    /// The same by the steady second in which to look at them.
    due: BTreeMap<u64, Vec<Mark>>,
    /// Entries with this end and earlier ones have been dropped. Only a clock that was ahead for
    /// long and is set back lets proofs appear whose end lies here; nobody knows any more whether
    /// they were used.
    dropped: u64,
}

impl Memory {
    /// Holds `most` entries and no more.
    pub(super) fn new(most: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            most: AtomicUsize::new(most),
            held: AtomicUsize::new(0),
            began: Instant::now(),
            cursor: AtomicUsize::new(0),
            incomplete: AtomicU64::new(0),
        }
    }

    /// Holds `most` entries from now on; those that it has stay.
    pub(super) fn hold(&self, most: usize) {
        self.most.store(most, Relaxed);
    }

    /// Whether the key is used for the first time, noted in the same step.
    pub(super) fn first_use(
        &self,
        key: Key,
        until: UnixTime,
        now: UnixTime,
    ) -> Result<Use, Unavailable> {
        let now = Now {
            wall: now.as_secs(),
            steady: self.began.elapsed().as_secs(),
        };
        let until = held_until(until, now.wall);
        if let Some(answer) = self.insert(key, until, now) {
            return answer;
        }
        self.make_room(now);
        self.insert(key, until, now)
            .unwrap_or_else(|| Err(self.full(now)))
    }

    /// As [`Self::first_use`], for a store that stands in: what [`Self::missed`] spoke of is
    /// refused.
    pub(super) fn stand_in(
        &self,
        key: Key,
        until: UnixTime,
        now: UnixTime,
    ) -> Result<Use, Unavailable> {
        let incomplete = self.incomplete.load(Relaxed);
        if until.as_secs() <= incomplete {
            return Err(Unavailable {
                why: Why::Full,
                detail: "the memory store was full and does not hold every use of this process"
                    .into(),
                retry_after: Some(wait(incomplete, now.as_secs())),
            });
        }
        self.first_use(key, until, now)
    }

    /// Whether the key is held.
    pub(super) fn holds(&self, key: &Key) -> bool {
        let mark = mark(key);
        lock(self.shard(&mark)).uses.contains_key(&mark)
    }

    /// A use with this end could not be noted: until then, this store may not answer alone.
    pub(super) fn missed(&self, until: UnixTime) {
        self.incomplete.fetch_max(until.as_secs(), Relaxed);
    }

    /// Entries held, expired ones that were not dropped yet included.
    pub(super) fn len(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// `None`: no room.
    fn insert(&self, key: Key, until: u64, now: Now) -> Option<Result<Use, Unavailable>> {
        let mark = mark(&key);
        let mut shard = lock(self.shard(&mark));
        self.release(shard.sweep(now, LOOKED_AT));
        let dropped = shard.dropped;
        match shard.uses.entry(mark) {
            Entry::Occupied(_) => return Some(Ok(Use::Repeated)),
            Entry::Vacant(_) if until <= dropped => {
                return Some(Err(Unavailable {
                    why: Why::Uncertain,
                    detail: "the clock was set back: uses of that time are no longer held".into(),
                    retry_after: Some(wait(dropped, now.wall)),
                }));
            }
            Entry::Vacant(place) => {
                let most = self.most.load(Relaxed);
                let room = |held| (held < most).then_some(held + 1);
                self.held.fetch_update(Relaxed, Relaxed, room).ok()?;
                place.insert(until);
            }
        }
        shard.look_later(mark, until, now);
        Some(Ok(Use::First))
    }

    /// Looks through the shards until one had something to drop: each lock is held for a moment.
    fn make_room(&self, now: Now) {
        let from = self.cursor.fetch_add(1, Relaxed);
        for at in 0..SHARDS {
            let at = from.wrapping_add(at) % SHARDS;
            let dropped = self
                .shards
                .get(at)
                .map_or(0, |shard| lock(shard).sweep(now, LOOKED_AT));
            if dropped != 0 {
                self.release(dropped);
                return;
            }
        }
    }

    fn release(&self, dropped: usize) {
        if dropped != 0 {
            self.held.fetch_sub(dropped, Relaxed);
        }
    }

    fn full(&self, now: Now) -> Unavailable {
        let due = self.shards.iter().filter_map(|shard| {
            let shard = lock(shard);
            shard.due.first_key_value().map(|(due, _)| *due)
        });
        let left = due.min().unwrap_or(now.steady).saturating_sub(now.steady);
        Unavailable {
            why: Why::Full,
            detail: format!("the memory store holds {} proofs, its bound", self.len()).into(),
            retry_after: Some(Duration::from_secs(left.max(1))),
        }
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the remainder is a place, and there is a first byte"
    )]
    fn shard(&self, mark: &Mark) -> &Mutex<Shard> {
        &self.shards[usize::from(mark[0]) % SHARDS]
    }
}

impl Shard {
    /// Drops what may go, looking at up to `most` entries, and how many it were.
    fn sweep(&mut self, now: Now, most: usize) -> usize {
        let mut dropped = 0;
        for _ in 0..most {
            let Some(mut first) = self.due.first_entry() else {
                break;
            };
            if *first.key() > now.steady {
                break;
            }
            let mark = first.get_mut().pop();
            if first.get().is_empty() {
                first.remove();
            }
            let Some(Entry::Occupied(held)) = mark.map(|mark| self.uses.entry(mark)) else {
                continue;
            };
            let (mark, end) = (*held.key(), *held.get());
            if end.saturating_add(KEPT_LONGER) >= now.wall {
                // The wall clock was set back: the proof may still be taken.
                self.look_later(mark, end, now);
                continue;
            }
            held.remove();
            self.dropped = self.dropped.max(end);
            dropped += 1;
        }
        dropped
    }

    /// An entry is looked at in the first second in which it may go if no clock steps.
    fn look_later(&mut self, mark: Mark, end: u64, now: Now) {
        let stays = end.saturating_sub(now.wall).saturating_add(KEPT_LONGER + 1);
        let due = now.steady.saturating_add(stays);
        self.due.entry(due).or_default().push(mark);
    }
}

fn mark(key: &Key) -> Mark {
    let mut mark = [0; 16];
    for (to, from) in mark.iter_mut().zip(key) {
        *to = *from;
    }
    mark
}

/// An end that has passed is now, and one that no setting can mean is [`LONGEST`] away.
fn held_until(until: UnixTime, now: u64) -> u64 {
    until
        .as_secs()
        .clamp(now, now.saturating_add(LONGEST.as_secs()))
}

/// Until an entry with this end is gone; a second at least.
fn wait(end: u64, now: u64) -> Duration {
    let gone = end.saturating_add(KEPT_LONGER + 1);
    Duration::from_secs(gone.saturating_sub(now).max(1))
}

/// A thread that panicked with the lock held left maps that are whole each by itself: a use
/// without its end is never dropped, an end without its use drops nothing.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use proptest::prelude::*;

    use super::*;

    fn key(of: u32) -> Key {
        let mut key = [0; 32];
        // As in a digest, every byte depends on all.
        for (at, byte) in key.iter_mut().enumerate() {
            *byte = (of.wrapping_mul(0x9E37_79B9).rotate_left(at as u32) >> 7) as u8;
        }
        key[12..16].copy_from_slice(&of.to_be_bytes());
        key
    }

    const fn at(secs: u64) -> UnixTime {
        UnixTime::from_secs(secs)
    }

    fn first(memory: &Memory, of: u32, until: u64, now: u64) -> Result<Use, Why> {
        let answer = memory.first_use(key(of), at(until), at(now));
        answer.map_err(|error| error.why)
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    // DPOP-22
    #[test]
    fn a_use_is_first_once() {
        let memory = Memory::new(10);
        assert_eq!(first(&memory, 1, 160, 100), Ok(Use::First));
        assert_eq!(first(&memory, 1, 160, 100), Ok(Use::Repeated));
        assert_eq!(first(&memory, 1, 160, 160), Ok(Use::Repeated));
        assert_eq!(
            first(&memory, 1, 190, 130),
            Ok(Use::Repeated),
            "another iat, the same jti"
        );
        assert_eq!(first(&memory, 2, 160, 100), Ok(Use::First));
    }

    // DPOP-40
    #[test]
    fn of_fifty_at_once_one_is_first() {
        for round in 0..50 {
            let memory = Memory::new(10);
            let firsts = AtomicU32::new(0);
            std::thread::scope(|scope| {
                for _ in 0..50 {
                    scope.spawn(|| {
                        if first(&memory, round, 160, 100) == Ok(Use::First) {
                            firsts.fetch_add(1, Relaxed);
                        }
                    });
                }
            });
            assert_eq!(firsts.into_inner(), 1);
        }
    }

    // DPOP-25
    #[tokio::test(start_paused = true)]
    async fn at_its_bound_it_refuses_and_never_forgets() {
        let memory = Memory::new(100);
        for of in 0..100 {
            assert_eq!(first(&memory, of, 160, 100), Ok(Use::First));
        }
        pass(60).await;
        for of in 100..200 {
            assert_eq!(first(&memory, of, 160, 160), Err(Why::Full));
        }
        let full = memory.first_use(key(999), at(170), at(160)).unwrap_err();
        assert_eq!(full.retry_after, Some(Duration::from_secs(6)));
        for of in 0..100 {
            assert_eq!(first(&memory, of, 160, 160), Ok(Use::Repeated));
        }
        pass(6).await;
        // One by one there is room again, whichever shard a key belongs to.
        for of in 200..300 {
            assert_eq!(first(&memory, of, 230, 166), Ok(Use::First), "{of}");
        }
        assert_eq!(first(&memory, 300, 230, 166), Err(Why::Full));
        assert_eq!(memory.len(), 100);
    }

    #[test]
    fn the_bound_holds_with_many_threads() {
        let memory = Memory::new(1000);
        std::thread::scope(|scope| {
            for thread in 0..8_u32 {
                let memory = &memory;
                scope.spawn(move || {
                    for of in 0..500 {
                        let _full = first(memory, thread * 1000 + of, 160, 100);
                    }
                });
            }
        });
        assert_eq!(memory.len(), 1000);
        let held: usize = memory
            .shards
            .iter()
            .map(|shard| lock(shard).uses.len())
            .sum();
        assert_eq!(held, 1000);
    }

    // DPOP-23: what is held falls again.
    #[tokio::test(start_paused = true)]
    async fn a_steady_stream_is_bounded_by_time() {
        let memory = Memory::new(usize::MAX);
        for second in 0..500_u32 {
            for of in 0..20 {
                let now = 1000 + u64::from(second);
                assert_eq!(
                    first(&memory, second * 20 + of, now + 60, now),
                    Ok(Use::First)
                );
            }
            pass(1).await;
        }
        assert!(memory.len() < 20 * 80, "{}", memory.len());
        let due: usize = memory
            .shards
            .iter()
            .map(|shard| lock(shard).due.values().map(Vec::len).sum::<usize>())
            .sum();
        assert_eq!(due, memory.len());
    }

    // DPOP-22: neither clock alone makes a use forgotten.
    #[tokio::test(start_paused = true)]
    async fn a_wall_clock_that_steps_makes_nothing_forgotten() {
        const HOUR: u64 = 3600;
        let memory = Memory::new(10_000);
        assert_eq!(first(&memory, 1, HOUR + 60, HOUR), Ok(Use::First));
        // An hour ahead, with so many others that every shard looks for what may go, and back.
        for of in 1000..2000 {
            assert_eq!(first(&memory, of, 2 * HOUR + 60, 2 * HOUR), Ok(Use::First));
        }
        assert_eq!(first(&memory, 1, HOUR + 60, HOUR + 1), Ok(Use::Repeated));
        assert_eq!(first(&memory, 2, HOUR + 60, HOUR + 1), Ok(Use::First));
        // Back by half an hour, and then half an hour passes.
        pass(HOUR / 2).await;
        for of in 2000..3000 {
            let now = HOUR / 2;
            assert_eq!(first(&memory, of, now + 60, now), Ok(Use::First));
        }
        assert_eq!(first(&memory, 1, HOUR + 60, HOUR), Ok(Use::Repeated));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_set_back_after_long_makes_nothing_new_of_what_was_dropped() {
        let memory = Memory::new(10);
        assert_eq!(first(&memory, 1, 160, 100), Ok(Use::First));
        // An hour ahead, for more than the life of the proof: the entry goes.
        pass(70).await;
        for of in 2..9 {
            assert_eq!(first(&memory, of, 3800, 3700), Ok(Use::First));
        }
        memory.make_room(Now {
            wall: 3700,
            steady: 70,
        });
        assert!(!memory.holds(&key(1)));
        // And back: the proof looks good again.
        assert_eq!(first(&memory, 1, 160, 110), Err(Why::Uncertain));
        // Whose end is later than all that went is judged as ever.
        assert_eq!(first(&memory, 1, 171, 111), Ok(Use::First));
        assert_eq!(first(&memory, 2, 3800, 111), Ok(Use::Repeated));
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_step_back_refuses_nothing() {
        let memory = Memory::new(1000);
        assert_eq!(first(&memory, 1, 160, 100), Ok(Use::First));
        pass(65).await;
        for of in 2..500 {
            assert_eq!(first(&memory, of, 225, 165), Ok(Use::First));
        }
        assert_eq!(first(&memory, 1, 160, 159), Ok(Use::Repeated));
        for of in 500..600 {
            assert_eq!(first(&memory, of, 219, 159), Ok(Use::First));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ends_that_make_no_sense_are_bounded() {
        let memory = Memory::new(10);
        assert_eq!(first(&memory, 1, 5, 1000), Ok(Use::First));
        assert_eq!(first(&memory, 1, 5, 1000), Ok(Use::Repeated));
        assert_eq!(first(&memory, 2, u64::MAX, 1000), Ok(Use::First));
        let steady = LONGEST.as_secs() + KEPT_LONGER + 1;
        let later = Now {
            wall: 1000 + steady,
            steady,
        };
        memory.make_room(later);
        memory.make_room(later);
        assert_eq!(memory.len(), 0);
        assert_eq!(first(&memory, 3, u64::MAX, u64::MAX), Ok(Use::First));
    }

    #[test]
    fn what_was_missed_is_refused_where_memory_stands_in() {
        let memory = Memory::new(10);
        memory.missed(at(160));
        let refused = memory.stand_in(key(1), at(160), at(100)).unwrap_err();
        assert_eq!(refused.why, Why::Full);
        assert_eq!(memory.stand_in(key(1), at(161), at(101)), Ok(Use::First));
    }

    proptest! {
        /// Whatever the wall clock does while time passes, a proof is accepted once: those that are
        /// acceptable by the clock of the moment are tried again and again.
        #[test]
        fn no_proof_is_first_twice(
            steps in prop::collection::vec((0_u32..12, 900_u64..1200, 0_u64..40), 1..200)
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            runtime.block_on(async {
                let memory = Memory::new(8);
                let mut accepted = std::collections::HashSet::new();
                for (of, now, passes) in steps {
                    pass(passes).await;
                    let until = 1000 + u64::from(of) * 10;
                    if now <= until && first(&memory, of, until, now) == Ok(Use::First) {
                        prop_assert!(accepted.insert(of), "{of} twice");
                    }
                }
                Ok(())
            })?;
        }
    }
}
