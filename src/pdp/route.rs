//! Which route a request belongs to: one best pattern, or none.

use std::sync::Arc;

use super::Inbound;
use super::policy::{Route, Snapshot};
use super::step::Trail;
use crate::refusal::{Reason, Refusal};

/// The routes of one listener, and the names it answers to.
#[derive(Debug)]
pub struct RouteTable {
    /// Name of the listener in the configuration.
    pub listener: Arc<str>,
}

/// A request with its route.
#[derive(Debug)]
pub struct Routed<B> {
    pub(super) inbound: Inbound<B>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) route: Arc<Route>,
}

/// Finds the route of a request.
///
/// # Errors
/// `authority_mismatch`, `route_not_found`, `method_not_allowed`, `target_ambiguous`, `overloaded`.
pub fn route<B>(
    inbound: Inbound<B>,
    snapshot: &Arc<Snapshot>,
    trail: &mut Trail,
) -> Result<Routed<B>, Refusal> {
    let _ = (inbound, snapshot, trail);
    Err(Refusal::new(Reason::RouteNotFound))
}
