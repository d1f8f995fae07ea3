//! Uses of proofs in this process.
//!
//! An entry may go once its proof can be taken no more, by the wall clock, which judges proofs, and
//! by the clock that never steps: were either alone asked, a wall clock that is set ahead and back
//! would make us forget a use whose proof is good again.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::pdp::UnixTime;

/// Parts with a lock each, so that threads seldom meet.
const SHARDS: usize = 32;

/// Entries looked at for every use, to see whether they may go: more than come, so that none stay
/// behind, and few, so that nobody waits for long.
const SWEPT: usize = 8;

/// Beyond `until`: what two reads of the clock for one request may differ by.
const MARGIN: Duration = Duration::from_secs(2);

/// No room is left.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// See the module.
pub(super) struct Memory {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    began: Instant,
    limit: AtomicUsize,
    held: AtomicUsize,
}

type Key = [u8; 32];

#[derive(Default)]
struct Shard {
    /// Each use with the last second of its proof.
    uses: HashMap<Key, UnixTime>,
    /// When to look at which: seconds since the memory began.
    due: BTreeMap<u64, Vec<Key>>,
}

impl Memory {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            began: Instant::now(),
            limit: AtomicUsize::new(limit),
            held: AtomicUsize::new(0),
        }
    }

    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Relaxed);
    }

    pub(super) fn len(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// Whether this use is the first, taking note of it.
    pub(super) fn first_use(&self, key: Key, until: UnixTime, now: UnixTime) -> Result<bool, Full> {
        let index = usize::try_from(self.hasher.hash_one(key)).unwrap_or_default() % SHARDS;
        let Some(shard) = self.shards.get(index) else {
            return Err(Full);
        };
        let moment = self.began.elapsed().as_secs();
        if let Some(first) = self.note(shard, key, (until, now), moment) {
            return Ok(first);
        }
        // No room: whatever may go anywhere goes now.
        for shard in &self.shards {
            let gone = lock(shard).sweep(moment, now, usize::MAX);
            self.held.fetch_sub(gone, Relaxed);
        }
        self.note(shard, key, (until, now), moment).ok_or(Full)
    }

    /// Takes note of a use, if there is room; whether it is the first.
    fn note(
        &self,
        shard: &Mutex<Shard>,
        key: Key,
        (until, now): (UnixTime, UnixTime),
        moment: u64,
    ) -> Option<bool> {
        let mut shard = lock(shard);
        if shard.uses.contains_key(&key) {
            return Some(false);
        }
        let gone = shard.sweep(moment, now, SWEPT);
        self.held.fetch_sub(gone, Relaxed);
        // Threads that come here at once may pass the limit by one each.
        if self.held.load(Relaxed) >= self.limit.load(Relaxed) {
            return None;
        }
        self.held.fetch_add(1, Relaxed);
        shard.uses.insert(key, until);
        let stays = until.since(now).saturating_add(MARGIN).as_secs();
        let due = moment.saturating_add(stays);
        shard.due.entry(due).or_default().push(key);
        Some(true)
    }
}

/// Each change of a shard is whole before anything could panic.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    /// Lets go of what may go, looking at so many entries at most; their number.
    fn sweep(&mut self, moment: u64, now: UnixTime, most: usize) -> usize {
        let mut gone = 0;
        for _ in 0..most {
            let Some(mut bucket) = self.due.first_entry() else {
                break;
            };
            if *bucket.key() > moment {
                break;
            }
            let Some(key) = bucket.get_mut().pop() else {
                bucket.remove();
                continue;
            };
            match self.uses.get(&key) {
                // The wall clock was set back: its proof may still be taken.
                Some(until) if now <= until.later(MARGIN) => {
                    let stays = until.later(MARGIN).since(now).as_secs().max(1);
                    let due = moment.saturating_add(stays);
                    self.due.entry(due).or_default().push(key);
                }
                Some(_) => {
                    self.uses.remove(&key);
                    gone += 1;
                }
                None => {}
            }
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const NOW: u64 = 1_800_000_000;

    fn key(number: u64) -> Key {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        key
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_secs(NOW + seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_use_is_the_first_once() {
        // DPOP-22
        let memory = Memory::new(100);
        assert_eq!(memory.first_use(key(1), at(60), at(0)), Ok(true));
        assert_eq!(memory.first_use(key(1), at(60), at(0)), Ok(false));
        assert_eq!(memory.first_use(key(2), at(60), at(0)), Ok(true));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(
            memory.first_use(key(1), at(60), at(60)),
            Ok(false),
            "its last second"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_be_taken_no_more_makes_room_and_nothing_else_does() {
        // DPOP-25, OPS-05
        let memory = Memory::new(100);
        for number in 0..100 {
            assert_eq!(memory.first_use(key(number), at(60), at(0)), Ok(true));
        }
        assert_eq!(memory.first_use(key(100), at(60), at(0)), Err(Full));
        assert_eq!(
            memory.first_use(key(5), at(60), at(0)),
            Ok(false),
            "none was forgotten"
        );
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(
            memory.first_use(key(100), at(121), at(61)),
            Err(Full),
            "the margin"
        );
        tokio::time::advance(Duration::from_secs(2)).await;
        let room = (100..200).filter(|n| memory.first_use(key(*n), at(123), at(63)) == Ok(true));
        assert_eq!(room.count(), 100);
        assert_eq!(memory.len(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wall_clock_that_steps_makes_nothing_forgotten() {
        let memory = Memory::new(10_000);
        let one = key(1);
        assert_eq!(memory.first_use(one, at(60), at(0)), Ok(true));
        // An hour ahead, with so many others that every shard sweeps, and back.
        for number in 1000..2000 {
            assert_eq!(memory.first_use(key(number), at(3660), at(3600)), Ok(true));
        }
        assert_eq!(memory.first_use(one, at(60), at(1)), Ok(false));
        // Back by an hour, and then an hour passes.
        tokio::time::advance(Duration::from_secs(1800)).await;
        let before = UnixTime::from_secs(NOW - 1800);
        for number in 2000..3000 {
            memory
                .first_use(key(number), before.later(Duration::from_secs(60)), before)
                .unwrap();
        }
        assert_eq!(
            memory.first_use(one, at(60), before),
            Ok(false),
            "its proof is good again"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn memory_stays_flat_while_uses_come_and_go() {
        let memory = Memory::new(1_000_000);
        for second in 0..600 {
            for number in 0..50 {
                let key = key(second * 1000 + number);
                assert_eq!(memory.first_use(key, at(second + 60), at(second)), Ok(true));
            }
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(memory.len() <= 50 * 100, "{} at {second}", memory.len());
        }
    }

    #[test]
    fn of_copies_at_once_exactly_one_is_the_first() {
        // DPOP-40
        let memory = Arc::new(Memory::new(1_000_000));
        for round in 0..50 {
            let firsts: usize = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4)
                    .map(|_| {
                        let memory = &memory;
                        scope.spawn(move || {
                            (0..250)
                                .filter(|_| memory.first_use(key(round), at(60), at(0)) == Ok(true))
                                .count()
                        })
                    })
                    .collect();
                threads.into_iter().map(|one| one.join().unwrap()).sum()
            });
            assert_eq!(firsts, 1);
        }
    }
}
