//! `[dpop] replay`: where the use of proofs is remembered, and how far that reaches.

use super::document::At;
use super::files::{Digest, Files, digest};
use super::introspection;
use super::policies::Policies;
use super::problem::{Findings, ReportKind};
use super::raw::{ReplayStore, ReplayStoreKind, StoreUrl};
use super::upstreams::{Contents, Material, client_tls};
use super::values::{count, duration, ms, secs};
use crate::outbound::Tls;
use crate::pdp::UnixTime;
use crate::pdp::dpop::ReplayRule;
use crate::replay::{Address, Breaker, Shared, Store};

/// Keys that say something of a shared store alone.
const SHARED: [&str; 8] = [
    "url",
    "ca",
    "certificate",
    "private_key",
    "server_name",
    "timeout",
    "breaker",
    "confirmed_by",
];

/// Which store; `None` where a problem was found.
pub(super) fn store(
    raw: &ReplayStore,
    at: &At,
    files: &mut Files,
    now: UnixTime,
    out: &mut Findings,
) -> Option<Store> {
    if raw.store != Some(ReplayStoreKind::Redis) {
        let written = SHARED.iter().filter(|key| at.key(key).written());
        let mut whole = true;
        for key in written {
            whole = false;
            at.key(key).refuse_key(
                out,
                "this has no effect: the store is this process's memory",
                "add store = \"redis\", or remove it",
            );
        }
        return whole.then_some(Store::Memory);
    }
    let here = at.key("breaker");
    let breaker = raw.breaker.clone().unwrap_or_default();
    let timeout = raw.timeout.as_deref();
    let timeout = duration(at, "timeout", timeout, ms(5)..=secs(5), out);
    let open_for = breaker.open_for.as_deref();
    let open_for = duration(&here, "open_for", open_for, ms(100)..=secs(60), out);
    let failures = count(&here, "failures", breaker.failures, 1..=1000, out);
    let confirmed_by = count(at, "confirmed_by", raw.confirmed_by, 0..=5, out);
    let Some(url) = &raw.url else {
        at.refuse_key(
            out,
            "nothing says where the store is",
            "add url = { file = \"…\" }: a file with redis://host:6379, or rediss://user:password@host:6379 for TLS",
        );
        return None;
    };
    let address = address(url, &at.key("url"), files, out)?;
    let (tls, material) = tls(raw, &address, at, (files, now), out)?;
    let mut shared = match Shared::new(address, tls) {
        Ok(shared) => shared,
        Err(wrong) => {
            let right = "let the scheme of url and the settings of TLS agree";
            at.key("url").refuse(out, wrong, right);
            return None;
        }
    };
    shared.material = material;
    shared.timeout = timeout;
    shared.breaker = Breaker { failures, open_for };
    shared.confirmed_by = u8::try_from(confirmed_by).unwrap_or(u8::MAX);
    Some(Store::Shared(Box::new(shared)))
}

fn address(url: &StoreUrl, at: &At, files: &mut Files, out: &mut Findings) -> Option<Address> {
    let (text, at) = match url {
        StoreUrl::Written(text) => (text.clone(), at.clone()),
        StoreUrl::Elsewhere(secret) => {
            let text = introspection::secret(secret, at, files, out)?;
            let key = if secret.file.is_some() { "file" } else { "env" };
            (text, at.key(key))
        }
    };
    match Address::parse(&text) {
        Ok(address) => {
            if address.has_password() && matches!(url, StoreUrl::Written(_)) {
                let text = "the password of the store stands in this file: write url = { file = \"…\" } or { env = \"…\" }, with the whole URL there";
                at.report(out, ReportKind::Material, text);
            }
            Some(address)
        }
        Err(wrong) => {
            let right = "write it like redis://host:6379, rediss://user:password@host:6379 (TLS), redis+sentinel://host:26379/name or redis+cluster://host:6379";
            at.refuse(out, wrong, right);
            None
        }
    }
}

/// TLS towards the store, and a digest of what it was made of.
fn tls(
    raw: &ReplayStore,
    address: &Address,
    at: &At,
    (files, now): (&mut Files, UnixTime),
    out: &mut Findings,
) -> Option<(Option<Tls>, Digest)> {
    if !address.is_tls() {
        let mut whole = true;
        for key in ["ca", "certificate", "private_key", "server_name"] {
            if at.key(key).written() {
                whole = false;
                at.key(key).refuse_key(
                    out,
                    format!("this has no effect: {address} is not TLS"),
                    "let url begin with rediss://, or remove it",
                );
            }
        }
        if !address.is_loopback() {
            let text = format!(
                "{address} is reached without TLS: who is on the way reads the password, and can answer that a used proof is new"
            );
            at.key("url").report(out, ReportKind::Plaintext, text);
        }
        return whole.then_some((None, [0; 32]));
    }
    let material = Material {
        ca: raw.ca.as_deref(),
        certificate: raw.certificate.as_deref(),
        private_key: raw.private_key.as_deref(),
        private_key_name: "private_key",
        server_name: raw.server_name.as_deref(),
        http2: false,
    };
    let (tls, read) = client_tls(&material, at, files, (now, false), out)?;
    Some((Some(tls), digest_of(&read)))
}

fn digest_of(read: &Contents) -> Digest {
    let each: Vec<u8> = read
        .iter()
        .flat_map(|(name, content)| [digest(name.as_bytes()), digest(content)])
        .flatten()
        .collect();
    digest(&each)
}

/// Says how far the memory of used proofs reaches (DPOP-24), and where a policy makes do with less
/// (DPOP-25). `assertions` says whether client assertions are remembered there too. `at` is `[dpop]`.
pub(super) fn report(
    store: Option<&Store>,
    policies: &Policies<'_>,
    assertions: bool,
    at: &At,
    out: &mut Findings,
) {
    let Some(store) = store else {
        return;
    };
    let here = at.key("replay");
    let takes_proofs = policies.all.iter().any(|(_, one)| one.policy.binding.dpop);
    match store {
        Store::Memory if takes_proofs && !here.written() => {
            let text = "used DPoP proofs are remembered by this process alone: each further replica would take a proof once more; write replay = { store = \"memory\" } if that is meant";
            at.report(out, ReportKind::Note, text);
        }
        Store::Shared(_) if !takes_proofs && !assertions => {
            let text = "no policy takes DPoP proofs: this store is never asked";
            here.report(out, ReportKind::Note, text);
        }
        Store::Shared(shared) => {
            let uses = match (takes_proofs, assertions) {
                (_, false) => "DPoP proofs",
                (true, true) => "DPoP proofs and client assertions",
                (false, true) => "client assertions",
            };
            let text = format!(
                "used {uses} are remembered by {}, for all replicas that name it, and for those alone",
                shared.address()
            );
            here.report(out, ReportKind::Note, text);
        }
        Store::Memory => {}
    }
    for (name, compiled) in &policies.all {
        let rules = &compiled.policy.proofs;
        if !compiled.policy.binding.dpop || rules.replay_unavailable != ReplayRule::Local {
            continue;
        }
        let key = compiled.at.key("dpop").key("replay_unavailable");
        let place = if key.written() { &key } else { &compiled.at };
        match store {
            Store::Memory => {
                let text = "replay_unavailable = \"local\" has no effect: there is no store that replicas share";
                place.report(out, ReportKind::Note, text);
            }
            Store::Shared(_) => {
                let text = format!(
                    "under policy {name}, while the shared store of used proofs is out of reach or after it lost some, each replica takes a proof once, and not only one of all (replay_unavailable = \"local\")"
                );
                place.report(out, ReportKind::Weaker, text);
            }
        }
    }
}
