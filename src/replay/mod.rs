//! Which proofs were used (RFC 9449 s11.1): each may be used once.
//!
//! Asking and taking note are one act, so that of any number of copies at once exactly one is the
//! first. What is noted is kept as long as the proof could be taken again and not longer; where no
//! room is left, nothing is forgotten before its time, and whoever asks is told that it cannot be
//! known.

mod memory;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use self::memory::Memory;
use crate::pdp::dpop::ReplayKey;
use crate::pdp::{Unavailable, UnixTime};
use crate::refusal::Reason;
use crate::telemetry::Metrics;

/// `[dpop] replay`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Uses that are remembered at once, at most.
    pub entries: usize,
}

/// The uses of proofs, of all threads of this process.
pub struct Replay {
    memory: Memory,
    metrics: Arc<Metrics>,
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").finish_non_exhaustive()
    }
}

impl Replay {
    /// An empty one.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            memory: Memory::new(0),
            metrics,
        })
    }

    /// Other settings from now on; what is remembered stays.
    pub fn set(&self, settings: &Settings) {
        self.memory.set_limit(settings.entries);
    }

    /// Whether this is the first use of a proof; if so, it is the last one until `until` is past.
    ///
    /// # Errors
    /// `replay_unavailable` where no room is left.
    pub fn first_use(
        &self,
        key: ReplayKey,
        until: UnixTime,
        now: UnixTime,
    ) -> Result<bool, Unavailable> {
        let counts = self.metrics.replay();
        match self.memory.first_use(*key.as_bytes(), until, now) {
            Ok(true) => {
                counts.first.add_one();
                Ok(true)
            }
            Ok(false) => {
                counts.repeated.add_one();
                Ok(false)
            }
            Err(memory::Full) => {
                counts.full.add_one();
                Err(Unavailable {
                    reason: Reason::ReplayUnavailable,
                    detail: "all entries of dpop.replay are in use".into(),
                    retry_after: Some(Duration::from_secs(1)),
                })
            }
        }
    }

    /// How many uses are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
