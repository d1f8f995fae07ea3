//! What a client may know of a resource before it has a token (RFC 9728): which authorization
//! servers issue tokens for it, with what scopes, and how they must be bound. All of it follows from
//! the routes; nothing is written twice.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::policy::{Access, Issuer, Policy, Route, Snapshot};
use super::route::{RouteTable, Routed};
use super::{Peer, RequestHead};
use crate::refusal::PROOF_ALGORITHMS;

/// Where it is, before the path of the resource (RFC 9728 s3.1).
pub const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// Longest path of a resource that a challenge points to.
const LONGEST: usize = 512;

/// The metadata that a request asks for, which no route took: of the resource whose path stands
/// behind [`WELL_KNOWN`], or of all resources of the listener where none does. `None` where it asks
/// for something else, the listener publishes none, or nothing there needs a token.
#[must_use]
pub fn metadata(snapshot: &Snapshot, head: &RequestHead, peer: &Peer) -> Option<String> {
    let resource = head.path().strip_prefix(WELL_KNOWN)?;
    let table = snapshot.table(&peer.listener)?;
    let whole = table.metadata.as_ref()?;
    let members = if resource.is_empty() {
        whole.clone()
    } else if resource.starts_with('/') {
        members(table.routes_at(resource), &snapshot.issuers)?
    } else {
        return None;
    };
    let mut document = members;
    let resource = format!("{}{resource}", origin(head));
    document.insert("resource".to_owned(), resource.into());
    Some(Value::Object(document).to_string())
}

/// Of these routes together; `None` where none of them needs a token.
pub(super) fn members<'r>(
    routes: impl IntoIterator<Item = &'r Arc<Route>>,
    issuers: &[Arc<Issuer>],
) -> Option<Map<String, Value>> {
    let policies: Vec<&Arc<Policy>> = routes
        .into_iter()
        .filter_map(|route| match &route.access {
            Access::Policy(policy) => Some(policy),
            Access::Open | Access::Authorization(_) => None,
        })
        .collect();
    if policies.is_empty() {
        return None;
    }
    let mut members = Map::new();
    let mut list = |name: &str, values: BTreeSet<&str>| {
        // RFC 9728 s3.2: a member without a value is left out.
        if !values.is_empty() {
            members.insert(name.to_owned(), values.into_iter().collect());
        }
    };
    let servers = policies.iter().flat_map(|policy| &policy.issuers);
    let servers = servers.filter_map(|id| issuers.iter().find(|issuer| issuer.id == *id));
    list(
        "authorization_servers",
        servers.map(|issuer| &*issuer.issuer).collect(),
    );
    let scopes = policies
        .iter()
        .flat_map(|policy| policy.scopes.iter().chain(&policy.any_scope));
    list("scopes_supported", scopes.map(|scope| &**scope).collect());
    let details = policies.iter().filter_map(|policy| {
        let rule = policy.authorization_details.as_ref()?;
        Some(&*rule.kind)
    });
    list("authorization_details_types_supported", details.collect());
    list("bearer_methods_supported", BTreeSet::from(["header"]));
    let bindings = || policies.iter().map(|policy| policy.binding);
    if bindings().any(|binding| binding.dpop) {
        list(
            "dpop_signing_alg_values_supported",
            PROOF_ALGORITHMS.split(' ').collect(),
        );
    }
    let mut flag = |name: &str, value: bool| {
        if value {
            members.insert(name.to_owned(), true.into());
        }
    };
    flag(
        "tls_client_certificate_bound_access_tokens",
        bindings().any(|binding| binding.mtls),
    );
    flag(
        "dpop_bound_access_tokens_required",
        bindings().all(|binding| binding.dpop && !binding.mtls && !binding.none),
    );
    Some(members)
}

/// Where the metadata of the resource are that a request was sent to, for its challenges
/// (RFC 9728 s5.1). `None` where they are not published, or the path is longer or stranger than a
/// challenge should repeat.
pub(super) fn location<B>(routed: &Routed<B>) -> Option<Arc<str>> {
    let head = &routed.inbound.head;
    let table: &RouteTable = routed.snapshot.table(&routed.inbound.peer.listener)?;
    table.metadata.as_ref()?;
    let path = head.path();
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    (path.len() <= LONGEST && path.bytes().all(plain))
        .then(|| format!("{}{WELL_KNOWN}{path}", origin(head)).into())
}

/// As the client calls us, which was found to be a name of the listener.
fn origin(head: &RequestHead) -> String {
    match head.port() {
        Some(port) if port != 443 => format!("https://{}:{port}", head.host()),
        Some(_) | None => format!("https://{}", head.host()),
    }
}
