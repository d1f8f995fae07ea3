//! Which route a request belongs to: one best pattern, or none.

use std::sync::Arc;

use http::Method;
use serde_json::{Map, Value};

use super::authority::Authority;
use super::dpop::Origins;
use super::head::{Ambiguities, RequestHead};
use super::metadata;
use super::overlap::{self, Hidden, RouteConflict, allow};
use super::path;
use super::pattern::Pattern;
use super::peer::Standing;
use super::policy::{Access, Issuer, Route, Snapshot};
use super::step::Trail;
use super::tree::{Selection, Sought, Tree};
use super::{Inbound, Peer};
use crate::refusal::{Reason, Refusal};

/// The routes of one listener, and the names it answers to.
#[derive(Debug)]
pub struct RouteTable {
    /// Name of the listener in the configuration.
    pub listener: Arc<str>,
    /// Bytes that an access token may have here.
    pub token_bytes: usize,
    /// What clients call it, for proofs (RFC 9449 s4.3).
    pub origins: Option<Origins>,
    /// What is published of all its resources together (RFC 9728); `None` publishes nothing.
    pub metadata: Option<Map<String, Value>>,
    hosts: Vec<Box<str>>,
    ports: Vec<u16>,
    tree: Tree,
}

/// A request with its route.
#[must_use]
#[derive(Debug)]
pub struct Routed<B> {
    /// Boxed: it is large, and goes from hand to hand, on into the permit.
    pub(super) inbound: Box<Inbound<B>>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) route: Arc<Route>,
    /// Bytes that an access token may have on the request's listener.
    pub(super) token_bytes: usize,
}

/// Finds the route of a request, in this order:
///
/// 1. Is the authority one of the listener that the TLS server name chose? Else 421: whatever else
///    is wrong, this connection is not where to ask.
/// 2. Does the connection's certificate still stand? Else 401, on open routes too: trust does not
///    outlive its evidence.
/// 3. Which pattern is best, and which of its routes has the method? Else 404 or 405; and 400 where
///    the path holds what the route does not open, or somebody could read it as another route's.
///
/// # Errors
/// `authority_mismatch`, `certificate_revoked`, `certificate_expired`, `certificate_untrusted`,
/// `route_not_found`, `method_not_allowed`, `target_ambiguous`.
pub fn route<B>(
    inbound: Inbound<B>,
    snapshot: &Arc<Snapshot>,
    trail: &mut Trail,
) -> Result<Routed<B>, Refusal> {
    let peer = &inbound.peer;
    let table = snapshot.table(&peer.listener).ok_or_else(|| {
        Refusal::because(
            Reason::AuthorityMismatch,
            "the listener of this connection is gone since a reload",
        )
    })?;
    table.answers_to(&inbound.head, peer)?;
    stands(inbound.standing, peer)?;
    let route = Arc::clone(table.find(&inbound.head)?);
    trail.route = Some(Arc::clone(&route));
    trail.policy = match &route.access {
        Access::Open | Access::Authorization(_) => None,
        Access::Policy(policy) => Some(Arc::clone(policy)),
    };
    Ok(Routed {
        token_bytes: table.token_bytes,
        inbound: Box::new(inbound),
        snapshot: Arc::clone(snapshot),
        route,
    })
}

fn stands(standing: Option<Standing>, peer: &Peer) -> Result<(), Refusal> {
    match (standing, &peer.certificate) {
        (Some(Standing::Trusted), _) | (None, None) => Ok(()),
        (Some(Standing::Revoked), _) => Err(Refusal::new(Reason::CertificateRevoked)),
        (Some(Standing::Expired), _) => Err(Refusal::new(Reason::CertificateExpired)),
        (Some(Standing::Untrusted), _) => Err(Refusal::new(Reason::CertificateUntrusted)),
        (None, Some(_)) => Err(Refusal::because(
            Reason::CertificateUntrusted,
            "nobody judged the certificate",
        )),
    }
}

impl RouteTable {
    /// The same with what clients call the listener, which proofs must name.
    #[must_use]
    pub fn with_origins(self, origins: Origins) -> Self {
        Self {
            origins: Some(origins),
            ..self
        }
    }

    /// The same with its metadata published (RFC 9728 s3), unless nothing here needs a token.
    #[must_use]
    pub fn with_metadata(self, issuers: &[Arc<Issuer>]) -> Self {
        let routes: Vec<_> = self.routes().collect();
        Self {
            metadata: metadata::members(&routes, issuers),
            ..self
        }
    }

    /// The routes of the best pattern for a path.
    pub(super) fn routes_at(&self, path: &str) -> &[Arc<Route>] {
        let sought = Sought {
            path,
            encoded: true,
        };
        self.tree
            .select(sought)
            .map_or(&[], |selection| selection.leaf.routes.as_slice())
    }

    /// A table of checked routes. `hosts` and `ports` are those of `public_url` and the aliases.
    ///
    /// # Errors
    /// Every pair of routes that could tie.
    pub fn build(
        listener: Arc<str>,
        hosts: &[Box<str>],
        ports: &[u16],
        token_bytes: usize,
        entries: Vec<(Pattern, Arc<Route>)>,
    ) -> Result<Self, Vec<RouteConflict>> {
        let mut tree = Tree::default();
        for (pattern, route) in entries {
            tree.insert(pattern, route);
        }
        let conflicts = overlap::conflicts(&tree.leaves());
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
        let normal = |host: &str| match Authority::parse(host) {
            Some(Authority { host, .. }) => host,
            None => host.to_ascii_lowercase().into_boxed_str(),
        };
        Ok(Self {
            listener,
            token_bytes,
            origins: None,
            metadata: None,
            hosts: hosts.iter().map(|host| normal(host)).collect(),
            ports: ports.to_vec(),
            tree,
        })
    }

    /// Its routes; each once a pattern.
    pub fn routes(&self) -> impl Iterator<Item = Arc<Route>> {
        let leaves = self.tree.leaves();
        let routes: Vec<_> = leaves
            .iter()
            .flat_map(|leaf| leaf.routes.iter().cloned())
            .collect();
        routes.into_iter()
    }

    /// Pairs of patterns of which one hides methods of the other, for `check`.
    #[must_use]
    pub fn hidden(&self) -> Vec<Hidden> {
        overlap::hidden(&self.tree.leaves())
    }

    /// HTTP-07. Left out, the port is the scheme's own; some clients name the one they connected
    /// to, whatever `public_url` says.
    fn answers_to(&self, head: &RequestHead, peer: &Peer) -> Result<(), Refusal> {
        let host = self.hosts.iter().any(|host| **host == *head.host());
        let port = head.port().is_none_or(|port| {
            port == 443 || port == peer.local.port() || self.ports.contains(&port)
        });
        if host && port {
            return Ok(());
        }
        Err(Refusal::because(
            Reason::AuthorityMismatch,
            format!(
                "the request names {}{}, which is not of listener {}",
                head.host(),
                head.port().map(|p| format!(":{p}")).unwrap_or_default(),
                self.listener
            ),
        ))
    }

    fn find(&self, head: &RequestHead) -> Result<&Arc<Route>, Refusal> {
        let sent = Sought {
            path: head.path(),
            encoded: true,
        };
        let opened = head.ambiguities();
        let Some(selection) = self.tree.select(sent) else {
            if opened != Ambiguities::default() {
                return Err(unopened(opened, Ambiguities::default()));
            }
            return Err(Refusal::new(Reason::RouteNotFound));
        };
        let routes = &selection.leaf.routes;
        if !routes.iter().any(|route| opened.within(route.path_allow)) {
            return Err(unopened(opened, Ambiguities::default()));
        }
        let route = selection.route(head.method())?;
        if !opened.within(route.path_allow) {
            return Err(unopened(opened, route.path_allow));
        }
        certain(&selection, route, head.method(), head.path())?;
        if route.case_insensitive && ends_are_trimmed(head.path()) {
            return Err(ambiguous(
                "a segment ends in a dot or a blank, which an upstream without letter case may trim",
            ));
        }
        if !head.shape().is_plain() {
            self.reads_alike(head, &selection, route)?;
        }
        Ok(route)
    }

    /// However carelessly the path is read, it must stay the same route's. Only where it holds
    /// something that can be read in more than one way at all.
    fn reads_alike(
        &self,
        head: &RequestHead,
        selection: &Selection<'_>,
        route: &Arc<Route>,
    ) -> Result<(), Refusal> {
        let readings = path::careless(head.path())
            .map_err(|flaw| Refusal::because(Reason::TargetAmbiguous, flaw.to_string()))?;
        for (reading, encoded) in &readings {
            let sought = Sought {
                path: reading,
                encoded: *encoded,
            };
            match self.tree.select(sought) {
                Some(other) if std::ptr::eq(other.leaf, selection.leaf) => {
                    certain(&other, route, head.method(), reading)?;
                }
                Some(other) => {
                    return Err(ambiguous(format!(
                        "the path belongs to {}, but could be read as one of {}",
                        selection.leaf.pattern, other.leaf.pattern
                    )));
                }
                None => {
                    return Err(ambiguous(format!(
                        "the path belongs to {}, but could be read as one that has no route",
                        selection.leaf.pattern
                    )));
                }
            }
        }
        Ok(())
    }
}

impl<'t> Selection<'t> {
    /// The route of the pattern that has the method.
    fn route(&self, method: &Method) -> Result<&'t Arc<Route>, Refusal> {
        let fits = |route: &&Arc<Route>| !self.folded || route.case_insensitive;
        let routes = &self.leaf.routes;
        let found = routes.iter().filter(fits).find(|r| r.methods.has(method));
        found.ok_or_else(|| {
            Refusal::new(Reason::MethodNotAllowed)
                .advise(|advice| advice.allow = allow(routes.iter().filter(fits)))
        })
    }
}

/// Refuses where a more specific pattern is missed only by a slash at the end, by blanks or dots
/// around a segment or, before an upstream that takes no account of it, by letter case: that
/// upstream could serve the path that the other pattern guards.
fn certain(
    selection: &Selection<'_>,
    route: &Arc<Route>,
    method: &Method,
    path: &str,
) -> Result<(), Refusal> {
    if route.case_insensitive && selection.but_for_case {
        return Err(ambiguous(format!(
            "{path} differs by letter case alone from a path of a more specific route"
        )));
    }
    if selection.but_for_padding {
        return Err(ambiguous(format!(
            "{path} differs by blanks or dots alone from a path of a more specific route"
        )));
    }
    let Some(near) = selection.but_for_slash else {
        return Ok(());
    };
    let guarded_alike = near
        .routes
        .iter()
        .find(|other| other.methods.has(method))
        .is_some_and(|other| alike(other, route));
    if guarded_alike {
        return Ok(());
    }
    Err(ambiguous(format!(
        "{path} differs by the slash at its end alone from a path of {}",
        near.pattern
    )))
}

/// Whether it makes no difference which of two routes is taken.
fn alike(a: &Route, b: &Route) -> bool {
    let access = match (&a.access, &b.access) {
        (Access::Open, Access::Open) => true,
        (Access::Policy(a), Access::Policy(b)) => Arc::ptr_eq(a, b),
        (Access::Authorization(a), Access::Authorization(b)) => Arc::ptr_eq(a, b),
        (Access::Open | Access::Policy(_) | Access::Authorization(_), _) => false,
    };
    access && a.upstream == b.upstream && a.observe_until == b.observe_until
}

/// Whether a segment ends in what Windows trims off file names.
fn ends_are_trimmed(path: &str) -> bool {
    path.split('/').any(|segment| {
        let last = path::decoded(segment).last();
        last.is_some_and(|byte| matches!(byte, b'.' | b' '))
    })
}

fn ambiguous(detail: impl Into<Box<str>>) -> Refusal {
    Refusal::because(Reason::TargetAmbiguous, detail)
}

fn unopened(found: Ambiguities, allowed: Ambiguities) -> Refusal {
    let names = [
        (
            "encoded-slash",
            found.encoded_slash && !allowed.encoded_slash,
        ),
        (
            "encoded-percent",
            found.encoded_percent && !allowed.encoded_percent,
        ),
        ("semicolon", found.semicolon && !allowed.semicolon),
        ("double-slash", found.double_slash && !allowed.double_slash),
    ];
    let names: Vec<&str> = names.iter().filter(|n| n.1).map(|n| n.0).collect();
    ambiguous(format!("no path_allow opens {}", names.join(", ")))
}

#[cfg(test)]
pub(crate) mod tests;
