//! The numbers themselves: an atomic add and no lock, since they are touched by every request.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Relaxed);
    }

    /// How many until now.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that grows and falls.
#[derive(Debug, Default)]
pub struct Level(AtomicI64);

impl Level {
    /// Sets it.
    pub fn set(&self, to: i64) {
        self.0.store(to, Relaxed);
    }

    /// One more.
    pub fn rise(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// One less.
    pub fn fall(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    /// Where it stands.
    #[must_use]
    pub fn value(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Counts by a small closed set of labels, such as the rows of the refusal table.
#[derive(Debug)]
pub struct Counts<const N: usize>([Count; N]);

impl<const N: usize> Default for Counts<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Count::default()))
    }
}

impl<const N: usize> Counts<N> {
    pub(super) fn add_one(&self, at: usize) {
        if let Some(count) = self.0.get(at) {
            count.add_one();
        }
    }

    /// All, in order.
    pub(super) fn all(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(Count::value)
    }

    /// Those that are not zero, with their place.
    pub(super) fn seen(&self) -> impl Iterator<Item = (usize, u64)> {
        let all = self.0.iter().map(Count::value).enumerate();
        all.filter(|(_, count)| *count != 0)
    }
}

/// Most bounds that a [`Latency`] has.
const BUCKETS: usize = 17;

/// A histogram of durations. The one of the metrics library takes a lock at each observation,
/// which every data-plane thread would wait for.
#[derive(Debug)]
pub struct Latency {
    /// Upper bounds in nanoseconds, growing.
    bounds: &'static [u64],
    buckets: [AtomicU64; BUCKETS],
    sum_nanos: AtomicU64,
}

/// For stages that compute: 10 microseconds to 100 milliseconds.
const SHORT: &[u64] = &[
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    100_000_000,
];

/// For stages that wait: half a millisecond to a minute.
const LONG: &[u64] = &[
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];

impl Latency {
    fn of(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            sum_nanos: AtomicU64::new(0),
        }
    }

    pub(super) fn short() -> Self {
        Self::of(SHORT)
    }

    pub(super) fn long() -> Self {
        Self::of(LONG)
    }

    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let at = self.bounds.partition_point(|bound| *bound < nanos);
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Relaxed);
        }
        self.sum_nanos.fetch_add(nanos, Relaxed);
    }

    /// Sum in seconds, count, and each bucket's upper bound in seconds with what fell in it alone.
    #[expect(
        clippy::cast_precision_loss,
        reason = "nanoseconds of months fit; a histogram is no ledger"
    )]
    pub(super) fn read(&self) -> (f64, u64, Vec<(f64, u64)>) {
        let bounds = self.bounds.iter().map(|nanos| *nanos as f64 / 1e9);
        let buckets: Vec<(f64, u64)> = bounds
            .chain([f64::INFINITY])
            .zip(self.buckets.iter().map(|bucket| bucket.load(Relaxed)))
            .collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        (self.sum_nanos.load(Relaxed) as f64 / 1e9, count, buckets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_has_its_bucket() {
        for latency in [Latency::short(), Latency::long()] {
            assert!(latency.bounds.len() < BUCKETS, "one is left for +Inf");
            assert!(latency.bounds.is_sorted());
        }
    }

    #[test]
    fn a_duration_falls_in_the_first_bucket_that_holds_it() {
        let latency = Latency::short();
        latency.observe(Duration::from_micros(10));
        latency.observe(Duration::from_micros(11));
        latency.observe(Duration::from_secs(3600));
        let (sum, count, buckets) = latency.read();
        assert_eq!(count, 3);
        assert!((sum - 3_600.000_021).abs() < 1e-6);
        let seen: Vec<u64> = buckets.iter().map(|(_, count)| *count).collect();
        assert_eq!(seen, [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    }
}
