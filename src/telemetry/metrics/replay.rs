//! The numbers of the replay store.

use super::number::{Count, Counts, Latency, Level};

/// How the question whether a proof was used before was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReplayResult {
    /// For the first time.
    First,
    /// It was.
    Repeated,
    /// The store in memory holds as many as it may.
    Full,
    /// The shared store did not answer.
    Unreachable,
    /// The store may have lost uses of that time.
    Uncertain,
}

impl ReplayResult {
    /// Every one.
    pub const ALL: [Self; 5] = [
        Self::First,
        Self::Repeated,
        Self::Full,
        Self::Unreachable,
        Self::Uncertain,
    ];

    /// The word in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Repeated => "repeated",
            Self::Full => "full",
            Self::Unreachable => "unreachable",
            Self::Uncertain => "uncertain",
        }
    }
}

/// Uses of proofs and the state of the store that remembers them.
#[derive(Debug)]
pub struct ReplayMetrics {
    uses: Counts<{ ReplayResult::ALL.len() }>,
    /// Answers that memory gave in place of the shared store.
    pub stood_in: Count,
    /// Proofs held in memory.
    pub entries: Level,
    /// 1 while the shared store answers; always where there is none.
    pub reachable: Level,
    /// 0 closed, 1 half-open, 2 open.
    pub breaker: Level,
    /// Times that the shared store may have lost uses.
    pub losses: Count,
    /// How long its answers took.
    pub command: Latency,
}

impl Default for ReplayMetrics {
    fn default() -> Self {
        let reachable = Level::default();
        reachable.set(1);
        Self {
            uses: Counts::default(),
            stood_in: Count::default(),
            entries: Level::default(),
            reachable,
            breaker: Level::default(),
            losses: Count::default(),
            command: Latency::short(),
        }
    }
}

impl ReplayMetrics {
    /// A question was answered, or could not be.
    pub fn used(&self, result: ReplayResult) {
        self.uses.add_one(result as usize);
    }

    /// Each result and its count.
    pub(super) fn uses(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = ReplayResult::ALL.iter().map(|result| result.name());
        names.zip(self.uses.all())
    }
}
