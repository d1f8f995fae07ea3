//! Policies: which there are, what each inherits, and each one's compiled form.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use super::document::At;
use super::dpop::Proofs;
use super::problem::{Findings, ReportKind};
use super::raw;
use super::raw_policy::Duty;
use super::shape::nearest;
use super::source::PolicySource;
use super::{issuers, loosened, raw_policy, rules, values};
use crate::pdp::policy::Asking;
use crate::pdp::{IssuerId, Policy};

/// The bases, each with its commented text.
pub(super) const BUILT_IN: &[(&str, &str)] = &[
    ("fapi2", include_str!("../../policies/fapi2.toml")),
    (
        "fapi1-advanced",
        include_str!("../../policies/fapi1-advanced.toml"),
    ),
    (
        "fapi1-baseline",
        include_str!("../../policies/fapi1-baseline.toml"),
    ),
];

/// What a policy extends that does not say.
const DEFAULT_BASE: &str = "fapi2";

/// The only base under which RS256 is no breach of the profile.
const RS256_BASE: &str = "fapi1-baseline";

/// One policy and those that it stands on, the most derived first.
pub(super) struct Chain {
    pub(super) layers: Vec<(At, Arc<raw::Policy>)>,
    /// Name of the last: a built-in one.
    pub(super) base: String,
}

impl Chain {
    /// Where a key of the whole comes from: the most derived layer that writes it.
    pub(super) fn origin(&self, path: &[&str]) -> Option<At> {
        let below = |at: &At| path.iter().fold(at.clone(), |at, key| at.key(key));
        let written = self
            .layers
            .iter()
            .map(|(at, _)| below(at))
            .find(At::written);
        written.or_else(|| self.layers.first().map(|(at, _)| below(at)))
    }

    /// The keys of the layers from `skip` on, put together.
    pub(super) fn merged(&self, skip: usize) -> raw::Policy {
        let layers = self.layers.iter().skip(skip).rev();
        layers.fold(raw::Policy::default(), |base, (_, own)| own.over(&base))
    }
}

/// What a policy asks about tokens.
pub(super) struct Introspection {
    pub(super) opaque: Option<IssuerId>,
    pub(super) asking: Asking,
}

/// A policy that compiled.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) policy: Arc<Policy>,
    pub(super) at: At,
    pub(super) base: String,
    pub(super) merged: Arc<raw::Policy>,
    /// Of all profiles below.
    pub(super) duties: Vec<Arc<Duty>>,
    /// Each with its place.
    pub(super) accepted_gaps: Vec<(At, String)>,
}

/// All policies of a configuration.
pub(super) struct Policies<'s> {
    sources: &'s BTreeMap<String, PolicySource>,
    issuers: &'s BTreeMap<String, issuers::Found>,
    default_issuers: Option<Vec<IssuerId>>,
    pub(super) proofs: Proofs,
    named: HashMap<String, Option<Rc<Compiled>>>,
    /// Everything compiled, for `check --print` and the rules about issuers.
    pub(super) all: Vec<(String, Rc<Compiled>)>,
}

impl<'s> Policies<'s> {
    /// Checks `default_issuers`, then every policy of the folder, used or not.
    pub(super) fn new(
        file: &raw::File,
        at: &At,
        sources: &'s BTreeMap<String, PolicySource>,
        (issuers, proofs): (&'s BTreeMap<String, issuers::Found>, Proofs),
        out: &mut Findings,
    ) -> Self {
        let here = at.key("default_issuers");
        let mut defaults = None;
        if let Some(names) = &file.default_issuers {
            if here.written() {
                values::list(&here, names, out);
            }
            let mut ids = Vec::new();
            for (index, name) in names.iter().enumerate() {
                ids.extend(issuer(issuers, name, &here.item(index), out));
            }
            defaults = Some(ids);
        }
        let mut policies = Self {
            sources,
            issuers,
            default_issuers: defaults,
            proofs,
            named: HashMap::new(),
            all: Vec::new(),
        };
        for (name, source) in sources {
            if !source.built_in {
                policies.named(name, &source.at, out);
            }
        }
        policies
    }

    /// The policy that a route names, or writes in line.
    pub(super) fn of_route(
        &mut self,
        reference: &raw::PolicyRef,
        route: &str,
        at: &At,
        out: &mut Findings,
    ) -> Option<Rc<Compiled>> {
        match reference {
            raw::PolicyRef::Name(name) => self.named(name, at, out),
            raw::PolicyRef::Inline(own) => {
                let chain = self.chain(at.clone(), Arc::new((**own).clone()), None, out)?;
                self.compile(route, &chain, out)
            }
        }
    }

    /// A policy by its name, compiled once: routes of one policy share it.
    fn named(&mut self, name: &str, at: &At, out: &mut Findings) -> Option<Rc<Compiled>> {
        if let Some(known) = self.named.get(name) {
            return known.clone();
        }
        let Some(source) = self.sources.get(name) else {
            self.unknown(name, at, out);
            return None;
        };
        let (here, own) = (source.at.clone(), Arc::clone(&source.policy));
        let compiled = self
            .chain(here, own, Some(name), out)
            .and_then(|chain| self.compile(name, &chain, out));
        self.named.insert(name.to_owned(), compiled.clone());
        compiled
    }

    fn unknown(&self, name: &str, at: &At, out: &mut Findings) {
        let names: Vec<&str> = self.sources.keys().map(String::as_str).collect();
        let right = match nearest(name, &names) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!(
                "there are {}; others are files of the policies folder",
                names.join(", ")
            ),
        };
        at.refuse(out, format!("there is no policy {name:?}"), right);
    }

    /// Follows `extends` to a built-in base.
    fn chain(
        &self,
        at: At,
        own: Arc<raw::Policy>,
        name: Option<&str>,
        out: &mut Findings,
    ) -> Option<Chain> {
        let mut walked: Vec<String> = name.map(str::to_owned).into_iter().collect();
        let mut layers = vec![(at, own)];
        loop {
            let (at, own) = layers.last().cloned()?;
            let last = walked.last();
            let built_in = last.filter(|name| BUILT_IN.iter().any(|(base, _)| base == *name));
            if let Some(base) = built_in {
                return Some(Chain {
                    base: base.clone(),
                    layers,
                });
            }
            let next = own.extends.as_deref().unwrap_or(DEFAULT_BASE);
            let here = at.key("extends");
            if walked.iter().any(|name| name == next) {
                let round = format!("{} → {next}", walked.join(" → "));
                here.refuse(
                    out,
                    format!("a policy cannot extend itself: {round}"),
                    "let one of them extend a built-in policy",
                );
                return None;
            }
            let Some(source) = self.sources.get(next) else {
                self.unknown(next, &here, out);
                return None;
            };
            walked.push(next.to_owned());
            layers.push((source.at.clone(), Arc::clone(&source.policy)));
        }
    }

    fn compile(&mut self, name: &str, chain: &Chain, out: &mut Findings) -> Option<Rc<Compiled>> {
        let merged = chain.merged(0);
        loosened::report(chain, &merged, out);
        let (at, own) = chain.layers.first()?;
        written_duties(at, own, out);
        let policy = rules::compile(name, chain, &merged, self, out)?;
        let compiled = Rc::new(Compiled {
            policy: Arc::new(policy),
            at: at.clone(),
            base: chain.base.clone(),
            merged: Arc::new(merged),
            duties: duties(chain),
            accepted_gaps: accepted_gaps(chain),
        });
        self.all.push((name.to_owned(), Rc::clone(&compiled)));
        Some(compiled)
    }

    /// The issuers that a policy names.
    pub(super) fn issuers(
        &self,
        chain: &Chain,
        merged: &raw::Policy,
        out: &mut Findings,
    ) -> Vec<IssuerId> {
        let Some(at) = chain.origin(&["issuer"]) else {
            return Vec::new();
        };
        let Some(names) = &merged.issuer else {
            if let Some(defaults) = &self.default_issuers {
                return defaults.clone();
            }
            let names: Vec<&str> = self.issuers.keys().map(String::as_str).collect();
            let right = if names.is_empty() {
                "add a table [issuer.<name>]".to_owned()
            } else {
                format!(
                    "write issuer = […] here or default_issuers = […] at the top; there are {}",
                    names.join(", ")
                )
            };
            at.refuse_key(
                out,
                "this policy names no issuer, and there is no default",
                right,
            );
            return Vec::new();
        };
        values::list(&at, names, out);
        let found = names
            .iter()
            .enumerate()
            .filter_map(|(index, name)| issuer(self.issuers, name, &at.item(index), out));
        found.collect()
    }

    /// What a policy asks its issuers about tokens, and which of them gets the opaque ones: their
    /// text alone says nothing, so there must be one and no choice.
    pub(super) fn introspection(
        &self,
        chain: &Chain,
        merged: &raw::Policy,
        ids: &[IssuerId],
        out: &mut Findings,
    ) -> Option<Introspection> {
        let asking = match merged.introspection {
            None => Asking::AsIssuer,
            Some(raw_policy::Introspection::Always) => Asking::Always,
            Some(raw_policy::Introspection::Uncached) => Asking::Uncached,
        };
        let asked = asking != Asking::AsIssuer;
        let mut candidates = Vec::new();
        for (name, found) in self.issuers.iter().filter(|(_, f)| ids.contains(&f.id)) {
            match &found.introspection {
                Some(how) if how.used || asked => candidates.push((name, found.id, how.opaque)),
                None if asked => chain.origin(&["introspection"])?.refuse(
                    out,
                    format!("issuer {name} of this policy has no introspection"),
                    format!(
                        "add [issuer.{name}.introspection], or take the issuer out of the policy"
                    ),
                ),
                Some(_) | None => {}
            }
        }
        let named: Vec<_> = candidates.iter().filter(|(_, _, opaque)| *opaque).collect();
        let opaque = match (candidates.as_slice(), named.as_slice()) {
            ([], _) => None,
            ([(_, id, _)], _) | (_, [(_, id, _)]) => Some(*id),
            _ => {
                let names: Vec<&str> = candidates.iter().map(|(name, ..)| name.as_str()).collect();
                chain.origin(&["issuer"])?.refuse(
                    out,
                    format!(
                        "{} introspect, and nothing says which of them an opaque token is of",
                        names.join(" and ")
                    ),
                    "write opaque = true in introspection of one of them, or let the policy name one issuer",
                );
                None
            }
        };
        Some(Introspection { opaque, asking })
    }

    /// An issuer that a policy names for a table of its own.
    pub(super) fn issuer(&self, name: &str, at: &At, out: &mut Findings) -> Option<IssuerId> {
        issuer(self.issuers, name, at, out)
    }

    /// Whether a policy's audience is one of an issuer's of these, or a resource below one.
    pub(super) fn is_ours(&self, audience: &str, ids: &[IssuerId]) -> bool {
        let issuers = self
            .issuers
            .values()
            .filter(|found| ids.contains(&found.id));
        let mut known = issuers
            .filter_map(|found| found.settings.as_ref())
            .flat_map(|settings| &settings.issuer.audience);
        known.any(|ours| match audience.strip_prefix(&**ours) {
            Some(below) => below.is_empty() || below.starts_with('/') || ours.ends_with('/'),
            None => false,
        })
    }

    /// Longest lifetime that any of these issuers lets a token have.
    pub(super) fn longest_lifetime(&self, ids: &[IssuerId]) -> Option<std::time::Duration> {
        let of = self
            .issuers
            .values()
            .filter(|issuer| ids.contains(&issuer.id));
        of.map(|issuer| issuer.max_lifetime).max()
    }

    /// A JWT that is verified here alone passes after it was revoked. That is common, and for how
    /// long is somebody's decision: `max_lifetime` of issuer or policy says that it was made
    /// (FAPI 2.0 Security Profile s5.3.4; INT-15).
    pub(super) fn report_revocation(&self, out: &mut Findings) {
        for found in self.issuers.values() {
            let asked = found.introspection.as_ref().is_some_and(|how| how.always);
            if asked || found.at.key("max_lifetime").written() {
                continue;
            }
            let blind = self.all.iter().find(|(_, compiled)| {
                let policy = &compiled.policy;
                policy.issuers.contains(&found.id)
                    && policy.introspection == Asking::AsIssuer
                    && policy.max_lifetime.is_none()
            });
            if let Some((name, _)) = blind {
                let longest = humantime::format_duration(found.max_lifetime);
                let text = format!(
                    "a JWT that was revoked passes until its exp, up to {longest} (policy {name} and perhaps others): write max_lifetime if that is accepted, or introspection = \"always\" in policies where it is not"
                );
                found.at.report(out, ReportKind::Note, text);
            }
        }
    }

    /// RS256 only where every policy of the issuer stands on fapi1-baseline: FAPI 1.0 Part 2 s8.6
    /// and FAPI 2.0 s5.4.1 forbid it.
    pub(super) fn judge_rs256(&self, out: &mut Findings) {
        for found in self.issuers.values().filter(|found| found.rs256) {
            let stricter = self.all.iter().find(|(_, compiled)| {
                compiled.base != RS256_BASE && compiled.policy.issuers.contains(&found.id)
            });
            let Some((name, compiled)) = stricter else {
                continue;
            };
            let place = compiled.at.place();
            found.at.key("algorithms").refuse(
                out,
                format!(
                    "RS256 is allowed, and policy {name} ({}:{}) extends {}",
                    place.file, place.line, compiled.base
                ),
                "remove RS256, or let every policy of this issuer extend fapi1-baseline",
            );
        }
    }
}

/// Checks the duties that a policy writes itself. Those that it inherits were looked at where they
/// are written.
fn written_duties(at: &At, own: &raw::Policy, out: &mut Findings) {
    let at = at.key("duty");
    for (index, duty) in own.duty.iter().flatten().enumerate() {
        let here = at.item(index);
        if duty.by.as_ref().is_some_and(|by| !by.is_empty()) == duty.not_enforced.is_some() {
            let right =
                "write by = [\"gate\"] or another that sees to it, or not_enforced with the reason";
            here.refuse(out, "a duty is enforced by somebody, or not", right);
        }
        for (key, text) in [
            ("id", &duty.id),
            ("clause", &duty.clause),
            ("text", &duty.text),
        ] {
            values::text(&here.key(key), text, out);
        }
    }
}

/// The duties of every layer; one that a layer names again is its own.
fn duties(chain: &Chain) -> Vec<Arc<Duty>> {
    let mut all: Vec<Arc<Duty>> = Vec::new();
    for (_, layer) in chain.layers.iter().rev() {
        for duty in layer.duty.iter().flatten() {
            all.retain(|other| other.id != duty.id);
            all.push(Arc::clone(duty));
        }
    }
    all
}

fn accepted_gaps(chain: &Chain) -> Vec<(At, String)> {
    let layers = chain.layers.iter().flat_map(|(at, layer)| {
        let at = at.key("accept_gaps");
        let ids = layer.accept_gaps.iter().flatten().enumerate();
        ids.map(move |(index, id)| (at.item(index), id.clone()))
            .collect::<Vec<_>>()
    });
    layers.collect()
}

fn issuer(
    issuers: &BTreeMap<String, issuers::Found>,
    name: &str,
    at: &At,
    out: &mut Findings,
) -> Option<IssuerId> {
    let found = issuers.get(name).map(|issuer| issuer.id);
    if found.is_none() {
        let names: Vec<&str> = issuers.keys().map(String::as_str).collect();
        let right = match nearest(name, &names) {
            Some(near) => format!("did you mean {near:?}?"),
            None if names.is_empty() => "add a table [issuer.<name>]".to_owned(),
            None => format!("there are {}", names.join(", ")),
        };
        at.refuse(out, format!("there is no issuer {name:?}"), right);
    }
    found
}
