//! Between a decision and what it allows: its line in the audit log.

use std::sync::Arc;
use std::time::Duration;

use super::{Connection, Generation, Judged};
use crate::audit::{Decision, Log};
use crate::clock;
use crate::pdp::recorded::Seen;
use crate::pdp::{InteractionId, Standing, Trail, UnixTime};
use crate::refusal::{Reason, Refusal};
use crate::telemetry::metrics::Outcome;

/// What is kept of a request on its way, for its line.
#[derive(Debug)]
pub(super) struct Witness {
    pub(super) seen: Option<Seen>,
    pub(super) began: UnixTime,
    pub(super) judged: UnixTime,
    /// For how long others went first.
    pub(super) waited: Duration,
}

impl Witness {
    /// Of a request that came `now`.
    pub(super) const fn new(now: UnixTime) -> Self {
        Self {
            seen: None,
            began: now,
            judged: now,
            waited: Duration::ZERO,
        }
    }

    /// The time, which the decision is about to be made by.
    pub(super) fn now(&mut self) -> UnixTime {
        self.judged = clock::moment().unix();
        self.judged
    }
}

/// Hands the decision to the audit log, where there is one. What the log does not take is not
/// forwarded, but refused, unless the operator wants it otherwise; what is refused anyway stays
/// refused for its own reason.
pub(super) fn audited(
    connection: &Connection,
    generation: &Generation,
    (id, standing): (InteractionId, Option<Standing>),
    (trail, witness): (&Trail, Witness),
    judged: Result<Judged, Refusal>,
) -> Result<Judged, Refusal> {
    let Some((log, recording)) = connection
        .shared
        .audit
        .as_ref()
        .zip(generation.recording.as_ref())
    else {
        return judged;
    };
    let because = match &judged {
        Ok(Judged::Metadata(_)) => return judged,
        Ok(Judged::Permit(permit)) => permit.observed(),
        Err(refusal) => Some(refusal),
    };
    let reason = because.map(Refusal::reason);
    let outcome = match (&judged, reason) {
        (Ok(_), None) => Outcome::Authorized,
        (Ok(_), Some(_)) => Outcome::Observed,
        (Err(refusal), _) => Outcome::of(refusal.reason()),
    };
    let decision = Box::new(Decision {
        time: clock::since_epoch(),
        interaction_id: id,
        generation: generation.snapshot.generation,
        recording: Arc::clone(recording),
        peer: Arc::clone(&connection.peer),
        standing,
        seen: witness.seen,
        times: (witness.began, witness.judged),
        trail: trail.clone(),
        outcome,
        reason,
        detail: because.and_then(Refusal::detail).map(Box::from),
    });
    settle(log, decision, judged)
}

fn settle(
    log: &Log<Decision>,
    decision: Box<Decision>,
    judged: Result<Judged, Refusal>,
) -> Result<Judged, Refusal> {
    if judged.is_err() {
        log.note(decision);
        return judged;
    }
    let (why, mut decision) = match log.admit(decision) {
        Ok(()) => return judged,
        Err(refused) => refused,
    };
    let refusal = Refusal::because(Reason::AuditUnavailable, why.to_string());
    decision.outcome = Outcome::of(refusal.reason());
    decision.reason = Some(refusal.reason());
    decision.detail = refusal.detail().map(Box::from);
    log.note(decision);
    Err(refusal)
}
