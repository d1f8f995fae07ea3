//! Rules to permit: the only maker of [`Authorized`].

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::policy::{Route, Snapshot};
use super::time::UnixTime;
use super::{Peer, RequestHead};
use crate::refusal::Refusal;

/// A request that may go to its upstream. It holds the request itself, so there is no permit to
/// mix up or to use twice; only this file makes it, and `upstream::forward` takes it.
#[must_use]
#[derive(Debug)]
pub struct Authorized<B> {
    head: RequestHead,
    peer: Arc<Peer>,
    body: B,
    snapshot: Arc<Snapshot>,
    route: Arc<Route>,
    identity: Vec<(HeaderName, HeaderValue)>,
    expires: Option<UnixTime>,
    observed: Option<Refusal>,
}

/// What an [`Authorized`] consists of, once it is taken apart to be sent on.
#[derive(Debug)]
pub struct Parts<B> {
    /// The canonical request.
    pub head: RequestHead,
    /// Who sent it.
    pub peer: Arc<Peer>,
    /// Its body.
    pub body: B,
    /// Its route.
    pub route: Arc<Route>,
    /// Headers under `[forward.headers]` that have a fact, ready to send.
    pub identity: Vec<(HeaderName, HeaderValue)>,
    /// `exp` of the token: a stream or a WebSocket ends there.
    pub expires: Option<UnixTime>,
}

impl<B> Authorized<B> {
    /// The canonical request.
    #[must_use]
    pub const fn head(&self) -> &RequestHead {
        &self.head
    }

    /// Its route.
    #[must_use]
    pub const fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// The configuration under which it was judged.
    #[must_use]
    pub const fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Why it would have been refused, on a route that is only observed.
    #[must_use]
    pub const fn observed(&self) -> Option<&Refusal> {
        self.observed.as_ref()
    }

    /// Takes it apart, to be sent on.
    pub fn into_parts(self) -> Parts<B> {
        let Self {
            head,
            peer,
            body,
            snapshot: _,
            route,
            identity,
            expires,
            observed: _,
        } = self;
        Parts {
            head,
            peer,
            body,
            route,
            identity,
            expires,
        }
    }
}
