//! `[listener.<name>]`: addresses, names, TLS, limits.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::document::At;
use super::files::Files;
use super::front;
use super::problem::{Findings, ReportKind};
use super::raw;
use super::server_tls;
use super::values::{self, Address, count, duration, hours, memory, ms, secs, size};
use crate::pdp::UnixTime;
use crate::pdp::dpop::Origins;
use crate::{http, listener, tls};

/// A listener, as far as routes must know it; `settings` is missing where a problem was found.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) name: Arc<str>,
    pub(super) hosts: Vec<Box<str>>,
    pub(super) ports: Vec<u16>,
    pub(super) token_bytes: usize,
    /// What clients call it; missing where a problem was found.
    pub(super) origins: Option<Origins>,
    /// Whether its metadata are published.
    pub(super) metadata: bool,
    /// Whether clients are asked for certificates.
    pub(super) asks: bool,
    /// Whether what a certificate says may be believed.
    pub(super) vouched: bool,
    pub(super) settings: Option<listener::Settings>,
}

/// Checks every listener, and them beside each other.
pub(super) fn check(
    file: &raw::File,
    at: &At,
    files: &mut Files,
    now: UnixTime,
    out: &mut Findings,
) -> BTreeMap<String, Listener> {
    let at_file = at;
    let at = at.key("listener");
    if file.listener.is_empty() {
        at.refuse(out, "there is no listener", "add a table [listener.<name>]");
    }
    let mut found = BTreeMap::new();
    let mut taken = BTreeMap::new();
    for (name, raw) in &file.listener {
        let here = at.key(name);
        values::name(&here, name, out);
        let listener = one(name, raw, &here, files, now, out);
        beside(name, raw, &listener, &here, &mut taken, out);
        found.insert(name.clone(), listener);
    }
    front::agree(file, at_file, out);
    found
}

/// Names and the default of an address belong to one listener each.
fn beside(
    name: &str,
    raw: &raw::Listener,
    listener: &Listener,
    at: &At,
    taken: &mut BTreeMap<(SocketAddr, Box<str>), String>,
    out: &mut Findings,
) {
    let Ok(address) = raw.address.parse::<SocketAddr>() else {
        return;
    };
    for host in &listener.hosts {
        if let Some(other) = taken.insert((address, host.clone()), name.to_owned())
            && other != name
        {
            at.key("public_url").refuse(
                out,
                format!("{host} is a name of listener {other} too, on the same address {address}"),
                "let each name of an address belong to one listener",
            );
        }
    }
    // An empty name stands for clients that send none.
    if raw.default == Some(true)
        && let Some(other) = taken.insert((address, Box::default()), name.to_owned())
    {
        at.key("default").refuse(
            out,
            format!("listener {other} is the default of {address} already"),
            "let one listener of an address take the clients that send no server name",
        );
    }
}

fn one(
    name: &str,
    raw: &raw::Listener,
    at: &At,
    files: &mut Files,
    now: UnixTime,
    out: &mut Findings,
) -> Listener {
    let address = socket(&at.key("address"), &raw.address, out);
    let addresses = public(raw, at, out);
    let limits = limits(&raw.limits, &at.key("limits"), out);
    let bounds = &at.key("limits");
    let connections = count(
        bounds,
        "connections",
        raw.limits.connections,
        1..=1_000_000,
        out,
    );
    let handshake_timeout = duration(
        bounds,
        "handshake_timeout",
        raw.limits.handshake_timeout.as_deref(),
        ms(100)..=secs(300),
        out,
    );
    if raw.disclose_reasons == Some(true) {
        let text = "reason codes stand in bodies: for laboratories only";
        at.key("disclose_reasons")
            .report(out, ReportKind::Weaker, text);
    }
    let urls: Vec<&str> = std::iter::once(&raw.public_url)
        .chain(raw.aliases.iter().flatten())
        .map(String::as_str)
        .collect();
    if let Err(wrong) = Origins::new(&urls)
        && addresses.len() == urls.len()
    {
        let right = "write https://, a host and perhaps a port, and no path";
        at.key("public_url").refuse(out, wrong, right);
    }
    let mut hosts: Vec<Box<str>> = Vec::new();
    let mut ports: Vec<u16> = Vec::new();
    for (_, address) in &addresses {
        if !hosts.contains(&address.host) {
            hosts.push(address.host.clone());
        }
        if !ports.contains(&address.port) {
            ports.push(address.port);
        }
    }
    if raw.default != Some(true)
        && let Some((here, address)) = addresses.iter().find(|(_, address)| address.is_ip())
    {
        here.report(
            out,
            ReportKind::Note,
            format!(
                "clients that call {} send no server name and are refused; default = true takes them (RFC 6066 s3)",
                address.host
            ),
        );
    }
    let name: Arc<str> = name.into();
    let tls = server_tls::check(
        &name,
        &raw.tls,
        &at.key("tls"),
        &addresses,
        (files, now),
        out,
    );
    let behind = front::behind(raw, at, (files, now), out);
    let settings = match (address, tls) {
        (Some(address), Some(tls)) => Some(listener::Settings {
            name: Arc::clone(&name),
            address,
            hosts: hosts.clone(),
            ports: ports.clone(),
            default: raw.default == Some(true),
            disclose_reasons: raw.disclose_reasons == Some(true),
            tls: tls::Settings { behind, ..tls },
            limits,
            connections: usize::try_from(connections).unwrap_or(usize::MAX),
            handshake_timeout,
            proxy_protocol: front::proxy_protocol(raw, at, out),
        }),
        _ => None,
    };
    Listener {
        name,
        hosts,
        ports,
        token_bytes: limits.token_bytes,
        origins: Origins::new(&urls).ok(),
        metadata: raw.metadata != Some(false),
        asks: raw.tls.client_certificate != Some(raw::ClientCertificate::None),
        vouched: raw.tls.client_trust != Some(raw::ClientTrust::Any),
        settings,
    }
}

/// An address to bind.
pub(super) fn socket(at: &At, text: &str, out: &mut Findings) -> Option<SocketAddr> {
    let parsed = text.parse().ok();
    if parsed.is_none() {
        at.refuse(
            out,
            format!("{text:?} is no address with a port"),
            "write an IP address and a port, such as \"0.0.0.0:8443\" or \"[::]:8443\"",
        );
    }
    parsed
}

/// `public_url` and the aliases.
fn public(raw: &raw::Listener, at: &At, out: &mut Findings) -> Vec<(At, Address)> {
    let mut all = vec![(at.key("public_url"), raw.public_url.as_str())];
    if let Some(aliases) = &raw.aliases {
        values::list(&at.key("aliases"), aliases, out);
    }
    for (index, alias) in raw.aliases.iter().flatten().enumerate() {
        all.push((at.key("aliases").item(index), alias));
    }
    let mut found: Vec<(At, Address)> = Vec::new();
    for (here, text) in all {
        let Some(address) = values::https(&here, text, out) else {
            continue;
        };
        if &*address.path != "/" || address.query {
            let right = "write scheme, host and port only; paths belong to routes";
            here.refuse(out, "this address has a path or a query", right);
        }
        let said = raw.aliases.iter().flatten().filter(|alias| *alias == text);
        if found.iter().any(|(_, other)| *other == address) && said.count() < 2 {
            here.refuse(out, "this address comes twice", "remove one");
        }
        found.push((here, address));
    }
    found
}

fn limits(raw: &raw::Limits, at: &At, out: &mut Findings) -> http::Limits {
    let long = ms(100)..=hours(24);
    let header_bytes = memory(
        at,
        "header_bytes",
        raw.header_bytes.as_deref(),
        4096..=1 << 20,
        out,
    );
    let token_bytes = memory(
        at,
        "token_bytes",
        raw.token_bytes.as_deref(),
        512..=1 << 20,
        out,
    );
    if token_bytes > header_bytes {
        at.key("token_bytes").refuse(
            out,
            "an access token of this size does not fit into header_bytes",
            "raise header_bytes, or lower token_bytes",
        );
    }
    let mut time =
        |key: &str, value: &Option<String>| duration(at, key, value.as_deref(), long.clone(), out);
    let header_timeout = time("header_timeout", &raw.header_timeout);
    let body_timeout = time("body_timeout", &raw.body_timeout);
    let idle_timeout = time("idle_timeout", &raw.idle_timeout);
    let request_timeout = time("request_timeout", &raw.request_timeout);
    http::Limits {
        streams: count(at, "streams", raw.streams, 1..=10_000, out),
        header_bytes,
        token_bytes,
        body_bytes: size(
            at,
            "body_bytes",
            raw.body_bytes.as_deref(),
            0..=1 << 40,
            out,
        ),
        header_timeout,
        body_timeout,
        idle_timeout,
        request_timeout,
    }
}
