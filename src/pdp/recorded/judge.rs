//! Recorded facts, judged by another configuration: the same steps in the same order, with the
//! same functions, as far as the facts reach.

use std::sync::Arc;

use super::facts::Facts;
use super::{head, peer};
use crate::pdp::authorize;
use crate::pdp::credential::none_in_query;
use crate::pdp::dpop::Unfit;
use crate::pdp::policy::{Access, Policy, Route, Snapshot};
use crate::pdp::route::{Routed, route};
use crate::pdp::time::UnixTime;
use crate::pdp::{Inbound, InteractionId, Trail};
use crate::refusal::{Reason, Refusal};

mod credential;
mod rights;

/// A decision as it is recorded.
#[derive(Debug)]
pub struct Recorded {
    /// What it looked at.
    pub facts: Facts,
    /// Why it was not "authorized"; `None` where it was.
    pub reason: Option<Reason>,
}

/// What another configuration makes of a recorded decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It would pass.
    Passes,
    /// It would pass since its route is only observed; what it would be refused for else.
    Observed(Reason),
    /// It would be refused.
    Refused(Reason),
    /// The facts do not say; what is missing.
    Unknown(Box<str>),
}

/// A judgement, and the route that it is about.
#[derive(Debug)]
pub struct Judged {
    /// The judgement.
    pub judgement: Judgement,
    /// The route under the other configuration, where there is one.
    pub route: Option<Arc<Route>>,
}

/// Why a walk ends before it passes.
enum Stop {
    Refused(Refusal),
    Unknown(Box<str>),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason.into())
    }
}

impl From<Unfit> for Stop {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Refused(refusal) => Self::Refused(refusal),
            Unfit::Unknown(why) => Self::Unknown(why.into()),
        }
    }
}

fn unknown(why: impl Into<Box<str>>) -> Stop {
    Stop::Unknown(why.into())
}

/// Judges a recorded decision by a configuration, at the time at which it was made.
///
/// Trust in certificates, signatures of tokens and proofs, and what issuers said are as they were:
/// no configuration of policies changes them.
#[must_use]
pub fn judge(recorded: &Recorded, snapshot: &Arc<Snapshot>) -> Judged {
    let mut trail = Trail::default();
    let judgement = walk(recorded, snapshot, &mut trail);
    Judged {
        judgement,
        route: trail.route,
    }
}

fn walk(recorded: &Recorded, snapshot: &Arc<Snapshot>, trail: &mut Trail) -> Judgement {
    let facts = &recorded.facts;
    let Some(request) = &facts.request else {
        // What has no canonical form has none under any configuration.
        return Judgement::Refused(recorded.reason.unwrap_or(Reason::RequestMalformed));
    };
    if request.cut {
        return Judgement::Unknown("the path is not recorded whole".into());
    }
    let id = InteractionId::from_random([0; 16]);
    let Some(head) = head::stand_in(request, id) else {
        return Judgement::Unknown("the request cannot be read from its record".into());
    };
    let Some(peer) = peer::stand_in(&facts.peer) else {
        return Judgement::Unknown("the certificate cannot be read from its record".into());
    };
    let inbound = Inbound {
        head,
        peer: Arc::new(peer),
        standing: facts.peer.standing.map(Into::into),
        body: (),
    };
    let routed = match route(inbound, snapshot, trail) {
        Ok(routed) => routed,
        Err(refusal) => return Judgement::Refused(refusal.reason()),
    };
    if let Err(refusal) = none_in_query(&routed.inbound.head) {
        return Judgement::Refused(refusal.reason());
    }
    let policy = match &routed.route.access {
        Access::Open => return Judgement::Passes,
        Access::Policy(policy) => Arc::clone(policy),
        Access::Authorization(_) => {
            let why = "what a client sends to an authorization server is not recorded";
            return Judgement::Unknown(why.into());
        }
    };
    let case = Case {
        recorded,
        routed: &routed,
        policy: &policy,
        judged: UnixTime::from_secs(facts.judged),
    };
    match case.passes() {
        Ok(()) => Judgement::Passes,
        Err(Stop::Unknown(why)) => Judgement::Unknown(why),
        Err(Stop::Refused(refusal)) => {
            if authorize::excused(&routed.route, &refusal, case.judged) {
                Judgement::Observed(refusal.reason())
            } else {
                Judgement::Refused(refusal.reason())
            }
        }
    }
}

struct Case<'c> {
    recorded: &'c Recorded,
    routed: &'c Routed<()>,
    policy: &'c Policy,
    judged: UnixTime,
}
