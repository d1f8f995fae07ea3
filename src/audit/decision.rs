//! The line of a decision: who asked what, what became of it, and the facts by which it can be
//! judged again.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::chain::Key;
use super::lines::micros;
use super::log::Entry;
use super::settings::Subject;
use crate::pdp::recorded::{Decided, Facts, Private, Seen};
use crate::pdp::{InteractionId, Peer, Standing, Trail, UnixTime};
use crate::refusal::Reason;
use crate::telemetry::metrics::Outcome;
use crate::telemetry::redact::clean;

/// Letters of a detail.
const DETAIL_LETTERS: usize = 512;
/// Letters of a client's name.
const CLIENT_LETTERS: usize = 256;

/// How decisions are recorded: changes with the configuration.
#[derive(Debug)]
pub struct Recording {
    /// Claims that rules look at.
    pub claims: BTreeSet<Box<str>>,
    /// How subjects stand in lines.
    pub subject: Subject,
}

/// A decision to be recorded.
#[derive(Debug)]
pub struct Decision {
    /// When it was made.
    pub time: Duration,
    /// `x-fapi-interaction-id` of the answer.
    pub interaction_id: InteractionId,
    /// Number of the configuration that judged.
    pub generation: u64,
    /// How it is recorded.
    pub recording: Arc<Recording>,
    /// Who asked.
    pub peer: Arc<Peer>,
    /// What the listener's trust says of the certificate.
    pub standing: Option<Standing>,
    /// What was seen of the head; `None` where it had no canonical form.
    pub seen: Option<Seen>,
    /// When the decision began, and by which time the token was judged.
    pub times: (UnixTime, UnixTime),
    /// What was looked at on the way.
    pub trail: Trail,
    /// What became of it.
    pub outcome: Outcome,
    /// Why.
    pub reason: Option<Reason>,
    /// More of that, for people.
    pub detail: Option<Box<str>>,
}

/// The members of a line, as they are written and as `replay` and `report` read them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line<'l> {
    pub(super) time_us: u64,
    #[serde(borrow)]
    pub(super) id: Cow<'l, str>,
    pub(super) generation: u64,
    #[serde(borrow)]
    pub(super) outcome: Cow<'l, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<Cow<'l, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<u16>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<Cow<'l, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) route: Option<Cow<'l, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) policy: Option<Cow<'l, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) issuer: Option<Cow<'l, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) client: Option<Cow<'l, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) shadow: Option<Shadow<'l>>,
    pub(super) facts: Facts,
}

/// What the shadow policy would have said.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Shadow<'l> {
    #[serde(borrow)]
    pub(super) policy: Cow<'l, str>,
    /// The reason for which it would have refused; nothing where it would not.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<Cow<'l, str>>,
}

/// Keeps back what is nobody's business.
struct Kept<'k> {
    key: &'k Key,
    subject: Subject,
}

impl Private for Kept<'_> {
    fn digest(&self, kind: &str, parts: &[&[u8]]) -> String {
        self.key.digest(kind, parts)
    }

    fn plain_subject(&self) -> bool {
        match self.subject {
            Subject::Plain => true,
            Subject::Digest => false,
        }
    }

    fn clean<'t>(&self, text: &'t str, longest: usize) -> Cow<'t, str> {
        clean(text, longest)
    }
}

impl Entry for Decision {
    fn write(&self, key: &Key, body: &mut Vec<u8>) {
        let trail = &self.trail;
        let kept = Kept {
            key,
            subject: self.recording.subject,
        };
        let decided = Decided {
            began: self.times.0,
            judged: self.times.1,
            seen: self.seen.as_ref(),
            peer: &self.peer,
            standing: self.standing,
            trail,
            reason: self.reason,
        };
        let code = |reason: Reason| Cow::from(reason.spec().code);
        let route = trail.route.as_deref();
        let shadow = route.and_then(|route| route.shadow.as_deref());
        let refused = !matches!(self.outcome, Outcome::Authorized | Outcome::Observed);
        let line = Line {
            time_us: micros(self.time),
            id: self.interaction_id.as_str().into(),
            generation: self.generation,
            outcome: self.outcome.name().into(),
            reason: self.reason.map(code),
            status: self
                .reason
                .filter(|_| refused)
                .map(|reason| reason.spec().status.code()),
            detail: self
                .detail
                .as_deref()
                .map(|text| clean(text, DETAIL_LETTERS)),
            route: route.map(|route| (*route.name).into()),
            policy: trail.policy.as_deref().map(|policy| (*policy.name).into()),
            issuer: trail.issuer.as_deref().map(|issuer| (*issuer.name).into()),
            client: trail
                .token
                .as_deref()
                .map(|token| clean(token.client_id(), CLIENT_LETTERS)),
            shadow: shadow.zip(trail.shadow).map(|(policy, said)| Shadow {
                policy: (*policy.name).into(),
                reason: said.map(code),
            }),
            facts: Facts::of(decided, &self.recording.claims, &kept),
        };
        let from = body.len();
        // Behind the members that are there, in place of the brace that opens an object.
        if serde_json::to_writer(&mut *body, &line).is_ok()
            && let Some(brace) = body.get_mut(from)
        {
            *brace = b',';
            body.pop();
        } else {
            // A map with keys that are no strings is the only thing that cannot be written.
            body.truncate(from);
            body.extend_from_slice(b",\"unwritable\":true");
        }
    }
}
