//! One `[[route]]` by itself.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::authorization;
use super::document::At;
use super::forward::{self, Rules};
use super::listeners::Listener;
use super::methods;
use super::policies::{Compiled, Policies};
use super::problem::{Findings, ReportKind};
use super::raw;
use super::raw_authorization::RouteKind;
use super::shape::nearest;
use super::upstreams;
use super::values::{self, duration, end_of_day, hours, ms, size};
use crate::pdp::policy::{Access, Rewrite, Route, RouteLimits, UpstreamName};
use crate::pdp::{Ambiguities, Pattern, UnixTime};

/// What routes are held against.
pub(super) struct World<'w> {
    pub(super) listeners: &'w BTreeMap<String, Listener>,
    pub(super) upstreams: &'w BTreeMap<String, upstreams::Found>,
    pub(super) forward: &'w Rules,
    pub(super) authorization: &'w authorization::Found,
    pub(super) now: UnixTime,
}

/// A route on its way through the checks.
pub(super) struct One<'r, 'w, 's> {
    pub(super) raw: &'r raw::Route,
    pub(super) at: &'r At,
    pub(super) world: &'r World<'w>,
    pub(super) policies: &'r mut Policies<'s>,
    pub(super) out: &'r mut Findings,
}

impl One<'_, '_, '_> {
    /// The route and its pattern, or problems.
    pub(super) fn check(&mut self, index: usize) -> Option<(Pattern, Arc<Route>)> {
        let (raw, at, world) = (self.raw, self.at, self.world);
        let pattern = self.pattern();
        let listeners = self.known_listeners();
        let case_insensitive = self.upstream();
        let methods = methods::read(&self.at.key("methods"), &self.raw.methods, self.out);
        let leads_to_server = raw.kind == Some(RouteKind::Authorization);
        let guard = if leads_to_server {
            let vouches = |name: &String| {
                let listener = world.listeners.get(name);
                listener.is_some_and(|listener| listener.asks && listener.vouched)
            };
            let vouched = listeners.iter().all(vouches);
            authorization::guard(raw, at, world.authorization, vouched, self.out)
        } else {
            self.no_server();
            None
        };
        let policy = if leads_to_server { None } else { self.policy() };
        if raw.open == Some(true) {
            let text = format!("{} needs no token at all", raw.path);
            at.key("open").report(self.out, ReportKind::OpenRoute, text);
        }
        let shadow = if leads_to_server { None } else { self.shadow() };
        let rules = match &raw.forward {
            Some(own) => forward::check(own, &at.key("forward"), Some(world.forward), self.out),
            None => world.forward.clone(),
        };
        for name in &listeners {
            self.fits(name, policy.as_deref(), shadow.as_deref(), &rules);
        }
        let path_allow = self.path_allow();
        let rewrite = self.rewrite();
        let limits = self.limits();
        let observe_until = if leads_to_server {
            None
        } else {
            self.observe()
        };
        // Everything was looked at; from here on the first gap ends it.
        let access = match (guard, policy, raw.open) {
            (Some(guard), ..) => Access::Authorization(Arc::new(guard)),
            (None, ..) if leads_to_server => return None,
            (None, Some(policy), _) => Access::Policy(Arc::clone(&policy.policy)),
            (None, None, Some(true)) => Access::Open,
            (None, None, _) => return None,
        };
        let route = Route {
            index,
            name: raw.name.as_str().into(),
            methods,
            access,
            upstream: UpstreamName(raw.upstream.as_str().into()),
            path_allow,
            case_insensitive: case_insensitive?,
            websocket: raw.websocket == Some(true),
            rewrite,
            limits,
            forward: rules.rules,
            shadow: shadow.map(|shadow| Arc::clone(&shadow.policy)),
            observe_until,
        };
        Some((pattern?, Arc::new(route)))
    }

    /// Names of the listeners that exist; each problem was said by `known_listeners`.
    pub(super) fn listeners(&self) -> Vec<String> {
        let names = self.raw.listener.iter().flatten();
        names
            .filter(|name| self.world.listeners.contains_key(*name))
            .cloned()
            .collect()
    }

    fn known_listeners(&mut self) -> Vec<String> {
        let at = self.at.key("listener");
        let Some(names) = &self.raw.listener else {
            if self.world.listeners.len() > 1 {
                let all: Vec<&str> = self.world.listeners.keys().map(String::as_str).collect();
                at.refuse_key(
                    self.out,
                    "`listener` is missing, and there is more than one",
                    format!("say which of {} have this route", all.join(", ")),
                );
            }
            return Vec::new();
        };
        if at.written() {
            values::list(&at, names, self.out);
        }
        for (index, name) in names.iter().enumerate() {
            let known = self.world.listeners.keys().map(String::as_str);
            unknown(name, "listener", known, &at.item(index), self.out);
        }
        self.listeners()
    }

    fn pattern(&mut self) -> Option<Pattern> {
        match Pattern::parse(&self.raw.path) {
            Ok(pattern) => Some(pattern),
            Err(wrong) => {
                self.at.key("path").refuse(
                    self.out,
                    format!("{:?} is no pattern: {wrong}", self.raw.path),
                    "write literal segments, {name} for one, and ** at the end for all below",
                );
                None
            }
        }
    }

    /// Whether the upstream ignores letter case; `None` where there is no such upstream.
    fn upstream(&mut self) -> Option<bool> {
        let name = &self.raw.upstream;
        let known = self.world.upstreams.keys().map(String::as_str);
        unknown(name, "upstream", known, &self.at.key("upstream"), self.out);
        Some(self.world.upstreams.get(name)?.case_insensitive)
    }

    /// `authorization` without the kind would be ignored, and nothing is.
    fn no_server(&mut self) {
        if self.raw.authorization.is_some() {
            self.at.key("authorization").refuse_key(
                self.out,
                "this has a meaning with kind = \"authorization\" alone",
                "add kind = \"authorization\", or remove it",
            );
        }
    }

    fn policy(&mut self) -> Option<Rc<Compiled>> {
        match (&self.raw.policy, self.raw.open) {
            (Some(_), Some(true)) => {
                self.at.key("open").refuse_key(
                    self.out,
                    "this route has a policy and is open",
                    "remove one of the two",
                );
                None
            }
            (None, None | Some(false)) => {
                self.at.refuse(
                    self.out,
                    "this route has neither a policy nor open = true",
                    "add policy = \"…\"; open = true passes every request, with or without a token",
                );
                None
            }
            (None, Some(true)) => None,
            (Some(policy), _) => {
                let at = self.at.key("policy");
                self.policies
                    .of_route(policy, &self.raw.name, &at, self.out)
            }
        }
    }

    fn shadow(&mut self) -> Option<Rc<Compiled>> {
        let reference = self.raw.shadow_policy.as_ref()?;
        let at = self.at.key("shadow_policy");
        if self.raw.policy.is_none() {
            let right = "use observe to see what a policy would refuse";
            at.refuse_key(
                self.out,
                "an open route has no policy to stand beside",
                right,
            );
            return None;
        }
        let name = format!("{}-shadow", self.raw.name);
        let compiled = self.policies.of_route(reference, &name, &at, self.out)?;
        // It is judged with what the enforced policy had to learn, and asks nobody itself.
        let written = &compiled.merged;
        for (key, asks) in [
            ("introspection", written.introspection.is_some()),
            ("dpop", written.dpop.is_some()),
            ("step_up", written.step_up.is_some()),
            ("dynamic_linking", written.dynamic_linking.is_some()),
        ] {
            if asks {
                at.refuse(
                    self.out,
                    format!("{key} of a shadow policy would have no effect"),
                    format!("remove {key} from it, or try it in the policy of a route that is only observed"),
                );
            }
        }
        Some(compiled)
    }

    /// Whether policy and forwarded facts can be had on this listener.
    fn fits(
        &mut self,
        name: &str,
        policy: Option<&Compiled>,
        shadow: Option<&Compiled>,
        rules: &Rules,
    ) {
        let Some(listener) = self.world.listeners.get(name) else {
            return;
        };
        for (key, compiled) in [("policy", policy), ("shadow_policy", shadow)] {
            let Some(compiled) = compiled else { continue };
            let asks = !compiled.policy.certificate.is_empty();
            let binding = compiled.policy.binding;
            if !listener.asks && (asks || (binding.mtls && !binding.dpop && !binding.none)) {
                self.at.key(key).refuse(
                    self.out,
                    format!("this policy needs mutual TLS, and listener {name} has client_certificate = \"none\""),
                    "set client_certificate = \"optional\" or \"required\" there, or use another listener",
                );
            } else if !listener.vouched && asks {
                self.at.key(key).refuse(
                    self.out,
                    format!("this policy believes what the certificate says, and listener {name} has client_trust = \"any\""),
                    "remove certificate from the policy, or use client_trust = \"ca\" there",
                );
            }
        }
        if listener.asks && listener.vouched {
            return;
        }
        for (at, fact) in &rules.vouched {
            let why = if listener.asks {
                "client_trust = \"any\""
            } else {
                "client_certificate = \"none\""
            };
            at.refuse(
                self.out,
                format!("{fact} cannot be known on listener {name}, which has {why}"),
                format!(
                    "forward certificate.x5t#S256 alone; route {} leads here, and may have a forward of its own",
                    self.raw.name
                ),
            );
        }
    }

    fn path_allow(&mut self) -> Ambiguities {
        let mut allowed = Ambiguities::default();
        let Some(written) = &self.raw.path_allow else {
            return allowed;
        };
        let at = self.at.key("path_allow");
        if written.is_empty() {
            at.refuse(self.out, "this list is empty", "leave the key out");
        } else {
            let text = "paths pass that servers can read in more than one way";
            at.report(self.out, ReportKind::Weaker, text);
        }
        for one in written {
            match one {
                raw::PathAllow::EncodedSlash => allowed.encoded_slash = true,
                raw::PathAllow::EncodedPercent => allowed.encoded_percent = true,
                raw::PathAllow::Semicolon => allowed.semicolon = true,
                raw::PathAllow::DoubleSlash => allowed.double_slash = true,
            }
        }
        allowed
    }

    /// Whole leading segments, which the pattern must begin with: else it would say nothing.
    fn rewrite(&mut self) -> Option<Rewrite> {
        let raw = self.raw.rewrite.as_ref()?;
        let at = self.at.key("rewrite");
        for (key, text, root) in [("from", &raw.from, false), ("to", &raw.to, true)] {
            let literal = Pattern::parse(text).is_ok() && !text.contains(['{', '*']);
            let ends = text.ends_with('/') && !(root && text == "/");
            if !literal || ends {
                at.key(key).refuse(
                    self.out,
                    format!("{text:?} is not made of whole segments"),
                    "write it like \"/psd2\" or \"/v1/banking\", without a slash at the end",
                );
            }
        }
        let below = self.raw.path.strip_prefix(raw.from.as_str());
        if !below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            at.key("from").refuse(
                self.out,
                format!(
                    "the route's path {} does not begin with {}",
                    self.raw.path, raw.from
                ),
                "write leading segments of the route's own path",
            );
        }
        Some(Rewrite {
            from: raw.from.as_str().into(),
            to: raw.to.as_str().into(),
        })
    }

    fn limits(&mut self) -> RouteLimits {
        let Some(raw) = &self.raw.limits else {
            return RouteLimits::default();
        };
        let at = self.at.key("limits");
        let out = &mut *self.out;
        let body_bytes = raw
            .body_bytes
            .as_deref()
            .map(|text| size(&at, "body_bytes", Some(text), 0..=1 << 40, out));
        let mut time = |key: &str, value: &Option<String>| {
            let value = value.as_deref();
            value.map(|text| duration(&at, key, Some(text), ms(100)..=hours(24), out))
        };
        RouteLimits {
            body_bytes,
            body_timeout: time("body_timeout", &raw.body_timeout),
            request_timeout: time("request_timeout", &raw.request_timeout),
        }
    }

    fn observe(&mut self) -> Option<UnixTime> {
        let raw = self.raw.observe.as_ref()?;
        let at = self.at.key("observe").key("until");
        if self.raw.policy.is_none() {
            let right = "remove observe: an open route refuses nothing";
            self.at
                .key("observe")
                .refuse_key(self.out, "this route is open", right);
        }
        let Some(end) = end_of_day(&raw.until) else {
            let right = "write its last day, such as \"2027-01-31\"";
            at.refuse(self.out, format!("{:?} is no date", raw.until), right);
            return None;
        };
        let end = UnixTime::from_secs(end);
        if end <= self.world.now {
            let text = format!(
                "ended on {}: the policy is enforced; remove the key",
                raw.until
            );
            at.report(self.out, ReportKind::Observed, text);
            return None;
        }
        let text = format!(
            "requests that the policy would refuse pass until the end of {} (UTC)",
            raw.until
        );
        at.report(self.out, ReportKind::Observed, text);
        Some(end)
    }
}

/// Says so where a name is of nothing.
pub(super) fn unknown<'n>(
    name: &str,
    kind: &str,
    known: impl Iterator<Item = &'n str>,
    at: &At,
    out: &mut Findings,
) {
    let known: Vec<&str> = known.collect();
    if known.contains(&name) {
        return;
    }
    let right = match nearest(name, &known) {
        Some(near) => format!("did you mean {near:?}?"),
        None if known.is_empty() => format!("add a table [{kind}.<name>]"),
        None => format!("there are {}", known.join(", ")),
    };
    at.refuse(out, format!("there is no {kind} {name:?}"), right);
}
