//! When the shared store is left alone: after failures in a row nobody asks it until a probe of
//! ours has succeeded, so that no request waits for a store that does not answer.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// When to stop asking, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// Failures in a row that open it; at least 1 counts.
    pub failures: u32,
    /// How long it stays open before the first probe; each failed probe doubles it, up to eight
    /// times, and a fifth more or less is chosen by chance, so that replicas do not probe together.
    pub open_for: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: 5,
            open_for: Duration::from_secs(1),
        }
    }
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// The store is asked.
    Closed,
    /// A probe is on its way; no request is.
    HalfOpen,
    /// Nothing is asked.
    Open,
}

impl BreakerState {
    /// The word in `/status`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// Its state, shared by all threads.
#[derive(Debug)]
pub(super) struct Circuit {
    settings: Breaker,
    state: AtomicU8,
    failures: AtomicU32,
    /// Probes that failed since it was closed last.
    probes: AtomicU32,
}

impl Circuit {
    /// Half-open: the first connection is a probe.
    pub(super) const fn new(settings: Breaker) -> Self {
        Self {
            settings,
            state: AtomicU8::new(BreakerState::HalfOpen as u8),
            failures: AtomicU32::new(0),
            probes: AtomicU32::new(0),
        }
    }

    pub(super) fn state(&self) -> BreakerState {
        match self.state.load(Relaxed) {
            0 => BreakerState::Closed,
            1 => BreakerState::HalfOpen,
            _ => BreakerState::Open,
        }
    }

    /// A command was answered.
    pub(super) fn succeeded(&self) {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// A command was not; true if the store should be left alone now.
    pub(super) fn failed(&self) -> bool {
        self.failures.fetch_add(1, Relaxed);
        self.tripped() && self.state() == BreakerState::Closed
    }

    /// Whether there were too many failures in a row.
    pub(super) fn tripped(&self) -> bool {
        self.failures.load(Relaxed) >= self.settings.failures.max(1)
    }

    /// A probe succeeded.
    pub(super) fn close(&self) {
        self.failures.store(0, Relaxed);
        self.probes.store(0, Relaxed);
        self.state.store(BreakerState::Closed as u8, Relaxed);
    }

    /// A probe goes out.
    pub(super) fn probe(&self) {
        self.state.store(BreakerState::HalfOpen as u8, Relaxed);
    }

    /// Too many failures, or a probe that failed. How long to stay so.
    pub(super) fn open(&self) -> Duration {
        self.state.store(BreakerState::Open as u8, Relaxed);
        let probes = self.probes.fetch_add(1, Relaxed).min(3);
        let base = self.settings.open_for.saturating_mul(1 << probes);
        // 80 to 120 percent. The seed of the standard library's maps is chance enough.
        let percent = u32::try_from(RandomState::new().hash_one(probes) % 41).unwrap_or(20) + 80;
        base.saturating_mul(percent) / 100
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circuit() -> Circuit {
        Circuit::new(Breaker {
            failures: 3,
            open_for: Duration::from_secs(10),
        })
    }

    #[test]
    fn failures_in_a_row_open_it_once() {
        let circuit = circuit();
        assert_eq!(circuit.state(), BreakerState::HalfOpen);
        circuit.close();
        assert!(!circuit.failed() && !circuit.failed());
        circuit.succeeded();
        assert!(!circuit.failed() && !circuit.failed() && circuit.failed());
        circuit.open();
        assert!(!circuit.failed(), "it is open already");
        circuit.probe();
        assert!(!circuit.failed(), "stragglers do not disturb the probe");
        circuit.close();
        assert_eq!(circuit.state(), BreakerState::Closed);
        assert!(!circuit.failed(), "counting begins anew");
    }

    #[test]
    fn each_failed_probe_waits_longer_within_bounds_and_by_chance() {
        let circuit = circuit();
        let mut seen = std::collections::HashSet::new();
        for times in [1, 2, 4, 8, 8, 8] {
            let wait = circuit.open();
            let base = Duration::from_secs(10 * times);
            assert!(wait >= base * 4 / 5 && wait <= base * 6 / 5, "{wait:?}");
            circuit.close();
            for _ in 0..20 {
                seen.insert(circuit.open());
                circuit.close();
            }
            for _ in 0..times.ilog2().min(3) + 1 {
                circuit.open();
            }
        }
        assert!(seen.len() > 3, "no jitter");
        circuit.close();
        assert!(circuit.open() <= Duration::from_secs(12));
    }
}
