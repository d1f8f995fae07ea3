//! Which `DPoP` proofs were used: each is good for one request (RFC 9449 s11.1).
//!
//! # In memory
//! [`Store::Memory`] knows the uses of this process alone. It is bounded by time (an entry is kept
//! as long as its proof could be accepted) and by number: at the bound it refuses
//! ([`Why::Full`]), since a store that forgets to make room lets an attacker choose what is
//! forgotten. A process that starts again knows nothing of uses before; a required nonce narrows
//! that to the nonce's life.
//!
//! # Shared
//! [`Store::Shared`] asks one Redis or Valkey for all replicas: an atomic test-and-set in one round
//! trip. First is said only when the server said so; whatever is not known is refused:
//!
//! * A reply that is lost, or comes too late, leaves open whether the key was written. The use is
//!   refused under either [`Rule`]. The command is never sent a second time, since it would find
//!   the key that it wrote itself. A client that repeats the *same* proof may then hear that it was
//!   used; clients make a new proof for each request (RFC 9449 s4.2).
//! * A primary that fails can lose what it had confirmed: replication is asynchronous. After each
//!   change of the primary, restart, flush or eviction, proofs that could have been accepted before
//!   are refused ([`Why::Uncertain`]): for `proof_ahead` and five seconds, as seen by a client
//!   that makes a proof for each request. A marker in the store tells replicas that were not there.
//! * Two primaries at once (a network cut in two) are found within seconds where several servers
//!   or sentinels are named, not at once. [`Shared::confirmed_by`] closes that gap: a primary that
//!   was cut off from its replicas confirms nothing. `min-replicas-to-write` of the server narrows
//!   it.
//!
//! Its user needs `SET`, `GET` (and `WAIT`; `ASKING` and `CLUSTER SLOTS` in a cluster) on keys
//! `portcullis:replay:*`, and `INFO`. In a cluster there is no place for one marker: each process
//! goes by what it saw itself, and a node that is new as a primary counts as a loss.
//!
//! Clocks of the replicas and of clients' proofs may differ by five seconds more than what the
//! proof's own limits allow for; keys are kept that much longer.
//!
//! # When the shared store is out of reach
//! Each policy says what holds. [`Rule::Refuse`]: 503. [`Rule::Local`]: the memory of this process
//! stands in. It holds every use that this process accepted, under either rule and whoever
//! answered, so that no change to and fro makes *one process* accept a proof twice. What `Local`
//! cannot promise: while the store is away, and for uses from that time also after it is back,
//! each replica accepts a proof once. With `Local`, losses of the store (see above) do not refuse
//! either.
//!
//! # When settings change
//! [`Replay::renew`] goes on with what is known: the memory of this process, the losses that were
//! found, and who the shared store was, so that another store counts as a loss. Where proofs may
//! become acceptable again that were forgotten in time under the old settings (`proof_age` grew),
//! or that only the others knew of (memory in place of a shared store), those of the time before
//! are refused. What one process cannot know: while replicas are given another shared store one
//! after the other, a proof could be used once in each store.

mod address;
mod breaker;
mod keeper;
mod link;
mod memory;
mod route;
mod shared;
mod standing;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

pub use address::Address;
pub use breaker::{Breaker, BreakerState};

use crate::outbound::Tls;
use crate::pdp::UnixTime;
pub use crate::pdp::dpop::ReplayRule as Rule;
use crate::telemetry::metrics::{ReplayMetrics, ReplayResult};

/// A digest of the key's thumbprint and the proof's `jti`: one client cannot use up the
/// identifiers of another (DPOP-24), and an identifier of any length takes the same place
/// (DPOP-23).
pub type Key = [u8; 32];

/// No proof is held for longer than this, whatever it says.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What a replay store is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Which one.
    pub store: Store,
    /// Most proofs that memory holds: of the memory store, or of what stands in for the shared one.
    pub entries: usize,
    /// Longest that a proof can be acceptable: `proof_age` and `proof_ahead`. The `until` of a use
    /// must be the end of that time, counted from the proof's `iat`: after a loss of the shared
    /// store it tells which proofs are older.
    pub window: Duration,
    /// The part of `window` that is `proof_ahead`.
    pub ahead: Duration,
}

impl Settings {
    /// The part of `window` that is `proof_age`.
    fn age(&self) -> Duration {
        self.window.saturating_sub(self.ahead)
    }
}

/// How far uses are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// In this process.
    Memory,
    /// In all that share it.
    Shared(Box<Shared>),
}

/// The shared store.
#[derive(Debug, Clone)]
pub struct Shared {
    address: Address,
    tls: Option<Tls>,
    /// A digest of the files that TLS was made of: other files are other settings.
    pub material: [u8; 32],
    /// How long a use waits for its answer.
    pub timeout: Duration,
    /// When the store is left alone.
    pub breaker: Breaker,
    /// So many replicas of the store must have confirmed a use (`WAIT`) within half of `timeout`
    /// before it counts; 0: none. Uses behind it on the same connection wait with it.
    pub confirmed_by: u8,
}

impl PartialEq for Shared {
    fn eq(&self, other: &Self) -> bool {
        // TLS is built anew from the same files at each look at the configuration.
        let server_name = |of: &Self| of.tls.as_ref().and_then(|tls| tls.server_name.clone());
        self.address == other.address
            && self.material == other.material
            && server_name(self) == server_name(other)
            && self.timeout == other.timeout
            && self.breaker == other.breaker
            && self.confirmed_by == other.confirmed_by
    }
}

impl Eq for Shared {}

impl Shared {
    /// Where it is.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// With a timeout of 100 ms, the breaker of [`Breaker::default`] and no confirmation.
    ///
    /// # Errors
    /// `tls` is missing where the address says TLS, or is there where it does not.
    pub fn new(address: Address, tls: Option<Tls>) -> Result<Self, String> {
        match (address.is_tls(), &tls) {
            (true, None) => Err(format!("{address} is TLS: say whom to trust")),
            (false, Some(_)) => Err(format!(
                "{address} is not TLS; write rediss:// or leave out the settings of TLS"
            )),
            _ => Ok(Self {
                address,
                tls,
                material: [0; 32],
                timeout: Duration::from_millis(100),
                breaker: Breaker::default(),
                confirmed_by: 0,
            }),
        }
    }
}

/// What is known of a use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// The proof was never used before; from now on it was.
    First,
    /// It was used before.
    Repeated,
}

/// It could not be known whether the proof was used before: 503, never 401.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable {
    /// Which kind of trouble.
    pub why: Why,
    /// For the log: what happened, without a secret.
    pub detail: Box<str>,
    /// When another try, with a new proof, is worth it.
    pub retry_after: Option<Duration>,
}

/// Why it could not be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// Memory holds as many proofs as it may.
    Full,
    /// The shared store did not answer, or not in time.
    Unreachable,
    /// The store answers, but may have lost uses of the time in question: after a failover, or
    /// since the clock was set back.
    Uncertain,
}

/// How the store is, for `/status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Proofs held in memory.
    pub entries: usize,
    /// The shared store, without user and password; `None` where there is none.
    pub shared: Option<Box<str>>,
    /// Whether uses are answered: always for memory.
    pub reachable: bool,
    /// Always closed for memory.
    pub breaker: BreakerState,
    /// What is wrong with the shared store, or was last.
    pub last_error: Option<Box<str>>,
}

/// The replay store. Shared by all threads; the connections live on the control runtime until it is
/// dropped.
#[derive(Debug)]
pub struct Replay {
    settings: Settings,
    memory: Arc<memory::Memory>,
    shared: Option<(Arc<shared::Store>, AbortHandle)>,
    /// Proofs with this end and earlier ones may have been used unknown to us, whatever the rule;
    /// a second, 0: none.
    fence: u64,
    metrics: Arc<ReplayMetrics>,
}

impl Drop for Replay {
    fn drop(&mut self) {
        if let Some((_, keeper)) = &self.shared {
            keeper.abort();
        }
    }
}

impl Replay {
    /// Starts the store. A shared one is connected to in the background on `control`; until it
    /// answers it is out of reach.
    #[must_use]
    pub fn start(settings: Settings, control: &Handle, metrics: Arc<ReplayMetrics>) -> Arc<Self> {
        let memory = Arc::new(memory::Memory::new(settings.entries));
        Self::open(
            settings,
            (memory, 0),
            shared::Before::default(),
            control,
            metrics,
        )
    }

    fn open(
        settings: Settings,
        (memory, fence): (Arc<memory::Memory>, u64),
        before: shared::Before,
        control: &Handle,
        metrics: Arc<ReplayMetrics>,
    ) -> Arc<Self> {
        let shared = match &settings.store {
            Store::Memory => {
                tracing::info!("used proofs are remembered by this process alone");
                metrics.reachable.set(1);
                metrics.breaker.set(0);
                None
            }
            Store::Shared(shared) => {
                tracing::info!(store = %shared.address, "used proofs are remembered by a shared store");
                let (shared, window) = (Shared::clone(shared), settings.window);
                let store = shared::Store::new(shared, window, before, Arc::clone(&metrics));
                let store = Arc::new(store);
                let keeper = control.spawn(keeper::keep(Arc::clone(&store)));
                Some((store, keeper.abort_handle()))
            }
        };
        Arc::new(Self {
            settings,
            memory,
            shared,
            fence,
            metrics,
        })
    }

    /// The store under these settings: the same one where they are what they were. Else another that
    /// goes on with what this one knows, and refuses what neither could know (see the module). From
    /// then on this one is for uses that it was asked for already.
    #[must_use]
    pub fn renew(
        self: &Arc<Self>,
        settings: Settings,
        control: &Handle,
        now: UnixTime,
    ) -> Arc<Self> {
        if self.settings == settings {
            return Arc::clone(self);
        }
        let old = &self.settings;
        let ahead = old.ahead.max(settings.ahead);
        let mut fence = self.fence;
        let unshared = self.shared.is_some() && settings.store == Store::Memory;
        if unshared || settings.age() > old.age() {
            let margin = Duration::from_secs(shared::CLOCKS_DIFFER);
            let until = now.later(margin).later(settings.age()).later(ahead);
            fence = fence.max(until.as_secs());
        }
        let before = match &self.shared {
            None => shared::Before::default(),
            Some((store, keeper)) => {
                keeper.abort();
                // What is told of a loss counts from proofs as far ahead as they could be.
                store.before(&settings, old.ahead.saturating_sub(settings.ahead), now)
            }
        };
        self.memory.hold(settings.entries);
        let (memory, metrics) = (Arc::clone(&self.memory), Arc::clone(&self.metrics));
        Self::open(settings, (memory, fence), before, control, metrics)
    }

    /// Whether a proof is used for the first time; from then on it was used, until `until`, the
    /// last second in which it could be accepted (DPOP-22, DPOP-40). To be asked only after all
    /// else about the proof was found good.
    ///
    /// May be called on any runtime that has time; memory answers without waiting.
    ///
    /// # Errors
    /// It cannot be known (DPOP-25).
    pub async fn first_use(
        &self,
        key: Key,
        until: UnixTime,
        now: UnixTime,
        rule: Rule,
    ) -> Result<Use, Unavailable> {
        self.first_use_of(key, (until, now), self.settings.window, rule)
            .await
    }

    /// The same of what can be accepted for another time than proofs: `life`, from the first moment
    /// to `until`. After a loss it tells what could have been used before.
    ///
    /// # Errors
    /// As [`Self::first_use`].
    pub async fn first_use_of(
        &self,
        key: Key,
        (until, now): (UnixTime, UnixTime),
        life: Duration,
        rule: Rule,
    ) -> Result<Use, Unavailable> {
        let beyond = life.saturating_sub(self.settings.window);
        let times = (until, now);
        let answer = match self.here(key, times, beyond) {
            Ok(answer) => answer,
            Err(store) => {
                store
                    .first_use(&self.memory, key, times, (rule, beyond))
                    .await
            }
        };
        self.counted(answer)
    }

    /// The same, where this process has the answer; `None` where the shared store has to be asked.
    #[must_use]
    pub fn first_use_here(
        &self,
        key: Key,
        times: (UnixTime, UnixTime),
        life: Duration,
    ) -> Option<Result<Use, Unavailable>> {
        let beyond = life.saturating_sub(self.settings.window);
        let answer = self.here(key, times, beyond).ok()?;
        Some(self.counted(answer))
    }

    /// The answer of this process, or the store that has to be asked, of what can be accepted for
    /// `beyond` longer than a proof.
    fn here(
        &self,
        key: Key,
        (until, now): (UnixTime, UnixTime),
        beyond: Duration,
    ) -> Result<Result<Use, Unavailable>, &Arc<shared::Store>> {
        let fence = match self.fence {
            0 => 0,
            fence => fence.saturating_add(beyond.as_secs()),
        };
        match &self.shared {
            _ if until.as_secs() <= fence => Ok(Err(changed(until, fence))),
            None => Ok(self.memory.first_use(key, until, now)),
            Some((store, _)) => Err(store),
        }
    }

    fn counted(&self, answer: Result<Use, Unavailable>) -> Result<Use, Unavailable> {
        self.metrics.used(match &answer {
            Ok(Use::First) => ReplayResult::First,
            Ok(Use::Repeated) => ReplayResult::Repeated,
            Err(Unavailable { why: Why::Full, .. }) => ReplayResult::Full,
            Err(Unavailable {
                why: Why::Unreachable,
                ..
            }) => ReplayResult::Unreachable,
            Err(Unavailable {
                why: Why::Uncertain,
                ..
            }) => ReplayResult::Uncertain,
        });
        let held = i64::try_from(self.memory.len()).unwrap_or(i64::MAX);
        self.metrics.entries.set(held);
        answer
    }

    /// How the store is now.
    #[must_use]
    pub fn status(&self) -> Status {
        let entries = self.memory.len();
        match &self.shared {
            None => Status {
                entries,
                shared: None,
                reachable: true,
                breaker: BreakerState::Closed,
                last_error: None,
            },
            Some((store, _)) => Status {
                entries,
                shared: Some(store.settings.address.to_string().into()),
                reachable: store.circuit.state() == BreakerState::Closed
                    && store.route.load().is_some(),
                breaker: store.circuit.state(),
                last_error: store.last_error(),
            },
        }
    }
}

fn changed(until: UnixTime, fence: u64) -> Unavailable {
    let longer = fence.saturating_sub(until.as_secs()).saturating_add(1);
    Unavailable {
        why: Why::Uncertain,
        detail: "the settings of the replay store changed: this proof could have been used before"
            .into(),
        retry_after: Some(Duration::from_secs(longer)),
    }
}

#[cfg(test)]
mod tests;
