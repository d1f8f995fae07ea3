//! What stands in line after line of a connection: who asks, by what token, for which route. It is put
//! into words once, for as long as the next request has the same of each.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use http::Version;

use super::AccessRecord;
use crate::pdp::authorization::Client;
use crate::pdp::introspection::How;
use crate::pdp::{Issuer, Peer, Policy, SharedToken, TokenDigest};
use crate::refusal::Reason;
use crate::telemetry::line::Line;

/// The words of the last line of one connection.
#[derive(Default)]
pub struct Same(RefCell<Option<Box<Kept>>>);

struct Kept {
    of: Of,
    text: Vec<u8>,
}

/// What the words are about. It keeps what it names, so that an address is that of one thing alone.
struct Of {
    peer: Arc<Peer>,
    route: Option<Arc<str>>,
    policy: Option<Arc<Policy>>,
    issuer: Option<Arc<Issuer>>,
    token: Option<SharedToken>,
    client: Option<Arc<Client>>,
    server: Option<Arc<str>>,
    digest: Option<TokenDigest>,
    rest: Rest,
}

/// What has no address.
type Rest = (u64, Option<Version>, Option<Option<Reason>>, Option<How>);

impl Same {
    /// Nothing is kept from now on, until the next line.
    pub fn forget(&self) {
        drop(self.0.take());
    }

    /// Writes what [`AccessRecord::describe`] would.
    pub(super) fn describe(&self, record: &AccessRecord, line: &mut Line) {
        let mut kept = self.0.borrow_mut();
        if let Some(kept) = kept.as_ref().filter(|kept| kept.of.is(record)) {
            line.again(&kept.text);
            return;
        }
        let text = line.noted(|line| record.describe(line)).to_vec();
        let of = Of::new(record);
        *kept = Some(Box::new(Kept { of, text }));
    }
}

impl Of {
    fn new(record: &AccessRecord) -> Self {
        Self {
            peer: Arc::clone(&record.peer),
            route: record.route.clone(),
            policy: record.policy.clone(),
            issuer: record.issuer.clone(),
            token: record.token.clone(),
            client: record.client.clone(),
            server: record.server.clone(),
            digest: record.token_digest,
            rest: rest(record),
        }
    }

    fn is(&self, record: &AccessRecord) -> bool {
        Arc::ptr_eq(&self.peer, &record.peer)
            && one(self.token.as_ref(), record.token.as_ref())
            && one(self.route.as_ref(), record.route.as_ref())
            && one(self.policy.as_ref(), record.policy.as_ref())
            && one(self.issuer.as_ref(), record.issuer.as_ref())
            && one(self.client.as_ref(), record.client.as_ref())
            && one(self.server.as_ref(), record.server.as_ref())
            && self.digest == record.token_digest
            && self.rest == rest(record)
    }
}

fn rest(record: &AccessRecord) -> Rest {
    (
        record.generation,
        record.protocol,
        record.shadow,
        record.introspection,
    )
}

/// Whether both are one thing, or none.
fn one<T: ?Sized>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

impl fmt::Debug for Same {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.0.try_borrow().is_ok_and(|kept| kept.is_some());
        f.debug_struct("Same").field("kept", &kept).finish()
    }
}
