//! From what is written to what will be used, all checks in one walk: listeners, issuers,
//! upstreams, what is forwarded, policies, routes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::audit;
use super::authorization;
use super::document::At;
use super::dpop;
use super::duties::{self, Around};
use super::forward;
use super::interner::Interner;
use super::issuers;
use super::policies::Policies;
use super::problem::{Findings, ReportKind};
use super::raw;
use super::replay;
use super::revocation;
use super::route::World;
use super::routes;
use super::source::Source;
use super::values::{count, duration, hours, secs};
use super::{Checked, Drain, listeners, upstreams};
use crate::pdp::dpop::NonceRule;
use crate::pdp::{RouteTable, Snapshot, UnixTime};

/// Checks everything; `None` only where a problem was found.
pub(super) fn check(
    mut source: Source,
    now: UnixTime,
    previous: Option<&Interner>,
    out: &mut Findings,
) -> Option<Checked> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    source.file.fill(u64::try_from(cores).unwrap_or(1));
    let Source {
        mut files,
        at,
        file,
        routes: places,
        policies: sources,
    } = source;
    let workers = count(&at, "workers", file.workers, 1..=1024, out);
    let watch = watch(&file.reload, &at.key("reload"), out);
    let drain = drain(&file.drain, &at.key("drain"), out);
    let listeners = listeners::check(&file, &at, &mut files, now, out);
    let admin = admin(&file, &at, out);
    let revocation = revocation::check(&file, &at, (&mut files, now), out);
    let fresh = Interner::default();
    let previous = previous.unwrap_or(&fresh);
    let (issuers, interner) = issuers::check(&file, &at, &mut files, (now, previous), out);
    let upstreams = upstreams::check(&file, &at, &mut files, now, out);
    let authorization = authorization::check(&file, &at, &mut files, now, out);
    let forward = forward::check(&file.forward, &at.key("forward"), None, out);
    let dpop = dpop::check(&file, &at, (&mut files, now), out)?;
    let issued = (&issuers, dpop.proofs);
    let mut policies = Policies::new(&file, &at, &sources, issued, out);
    let world = World {
        listeners: &listeners,
        upstreams: &upstreams,
        forward: &forward,
        authorization: &authorization,
        now,
    };
    let tables = routes::check(&file, &places, &world, &mut policies, out);
    policies.judge_rs256(out);
    policies.report_revocation(out);
    let around = Around {
        file: &file,
        issuers: &issuers,
        listeners: &listeners,
    };
    duties::judge(&policies, &around, out);
    let store = dpop.replay.as_ref().map(|replay| &replay.store);
    let assertions = !authorization.servers.is_empty();
    replay::report(store, &policies, assertions, &at.key("dpop"), out);
    if assertions && !at.key("dpop").key("replay").written() {
        let text = "used client assertions are remembered by this process alone (dpop.replay): each further replica would take an assertion once more; write replay = { store = \"memory\" } if that is meant";
        at.key("authorization_server")
            .report(out, ReportKind::Note, text);
    }
    // Last, for it must be none of the files that were read.
    let audit = audit::check(&file, &at, &mut files, out);
    let takes_nonces = policies
        .all
        .iter()
        .any(|(_, one)| one.policy.binding.dpop && one.policy.proofs.nonce != NonceRule::Off);
    if takes_nonces && !at.key("dpop").key("nonce_key").written() {
        // DPOP-26: a nonce that one replica gave out must be good at every other.
        let text = "nonces are good at this process alone, and until it ends: with more replicas write nonce_key, shared by all of them";
        at.key("dpop").report(out, ReportKind::Note, text);
    }
    if file.route.is_empty() {
        at.key("route").report(
            out,
            ReportKind::Note,
            "there is no route: every request is 404",
        );
    }
    let compiled = policies.all.iter();
    let policies = compiled
        .map(|(name, one)| (name.clone(), one.base.clone(), Arc::clone(&one.merged)))
        .collect();
    if !out.problems.is_empty() {
        return None;
    }
    // A part that is missing without a problem would be a listener or a rule that silently is not
    // there: then nothing loads.
    let public: BTreeSet<_> = listeners
        .values()
        .filter(|listener| listener.metadata)
        .map(|listener| listener.name.clone())
        .collect();
    let listeners: Option<Vec<_>> = listeners
        .into_values()
        .map(|found| found.settings)
        .collect();
    let issuers: Option<Vec<_>> = issuers.into_values().map(|found| found.settings).collect();
    let upstreams: Option<Vec<_>> = upstreams
        .into_values()
        .map(|found| found.settings)
        .collect();
    let issuers = issuers?;
    let known: Vec<_> = issuers.iter().map(|one| one.issuer.clone()).collect();
    let published = |table: RouteTable| {
        if public.contains(&table.listener) {
            table.with_metadata(&known)
        } else {
            table
        }
    };
    Some(Checked {
        snapshot: Snapshot {
            generation: 0,
            tables: tables.into_iter().map(published).collect(),
            issuers: known.clone(),
            nonces: dpop.nonces.keys.clone(),
        },
        nonces: dpop.nonces,
        replay: dpop.replay?,
        listeners: listeners?,
        issuers,
        registry: match authorization.registry {
            None => None,
            Some(settings) => Some(settings?),
        },
        upstreams: upstreams?,
        admin,
        revocation: revocation?,
        audit: audit?,
        workers: usize::try_from(workers).unwrap_or(1),
        watch,
        drain,
        reports: Vec::new(),
        files: files.watched(),
        interner,
        written: Written { file, policies },
    })
}

fn watch(raw: &raw::Reload, at: &At, out: &mut Findings) -> Option<Duration> {
    match raw.watch.as_deref() {
        Some("off") => None,
        text => Some(duration(at, "watch", text, secs(1)..=hours(1), out)),
    }
}

fn drain(raw: &raw::Drain, at: &At, out: &mut Findings) -> Drain {
    Drain {
        delay: duration(at, "delay", raw.delay.as_deref(), secs(0)..=secs(600), out),
        timeout: duration(
            at,
            "timeout",
            raw.timeout.as_deref(),
            secs(0)..=hours(1),
            out,
        ),
    }
}

/// `[admin]`: apart from every listener (OPS-06).
fn admin(file: &raw::File, at: &At, out: &mut Findings) -> Option<SocketAddr> {
    let raw = file.admin.as_ref()?;
    let at = at.key("admin").key("address");
    let address = listeners::socket(&at, &raw.address, out)?;
    if !address.ip().is_loopback() {
        let text = "the admin endpoints can be reached from other machines, in plain HTTP";
        at.report(out, ReportKind::Plaintext, text);
    }
    let taken = file
        .listener
        .iter()
        .find(|(_, listener)| listener.address.parse() == Ok(address) && address.port() != 0);
    if let Some((name, _)) = taken {
        let right = "give the admin endpoints a port of their own";
        at.refuse(out, format!("listener {name} has this address"), right);
    }
    Some(address)
}

/// What was read, every default filled in.
#[derive(Debug)]
pub(super) struct Written {
    file: raw::File,
    /// Name, base, and what it comes to with all that it inherits.
    policies: Vec<(String, String, Arc<raw::Policy>)>,
}

impl Written {
    /// Every value in force. What each policy comes to with all that it inherits follows in comments,
    /// so that the whole is a configuration again.
    pub(super) fn print(&self) -> String {
        let mut text = String::from("# Every value in force, defaults included.\n");
        let mut file = self.file.clone();
        if let Some(patterns) = file.include.take() {
            // Their routes stand below, each once.
            text.push_str(&format!("# include = {patterns:?}\n"));
        }
        text.push_str(&toml::to_string(&file).unwrap_or_else(|error| format!("# {error}\n")));
        for (name, base, merged) in &self.policies {
            text.push_str(&format!("\n# ---- policy {name}, on {base}\n"));
            let policy = toml::to_string(&**merged);
            for line in policy.unwrap_or_else(|error| error.to_string()).lines() {
                text.push_str(&format!("# {line}\n"));
            }
        }
        text
    }
}
