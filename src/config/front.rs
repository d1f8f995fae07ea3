//! What stands in front of a listener: load balancers that name their clients
//! (`proxy_protocol`), and proxies that end TLS (`behind`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::document::At;
use super::problem::{Findings, ReportKind};
use super::raw;
use super::values;
use crate::listener::ProxyProtocol;

/// `proxy_protocol` of a listener; `None` where there is none, or a problem was found.
pub(super) fn proxy_protocol(
    raw: &raw::Listener,
    at: &At,
    out: &mut Findings,
) -> Option<Arc<ProxyProtocol>> {
    let written = raw.proxy_protocol.as_ref()?;
    let at = at.key("proxy_protocol").key("from");
    let from = networks(&at, &written.from, out);
    for (index, network) in from.iter().enumerate() {
        if network.prefix_len() == 0 {
            let text = "whoever connects may say that it is any client: name the load balancers";
            at.item(index).report(out, ReportKind::Weaker, text);
        }
    }
    Some(Arc::new(ProxyProtocol { from }))
}

/// Listeners that share an address share its sockets, and what comes first on a connection is read
/// before anybody knows which of them is meant.
pub(super) fn agree(file: &raw::File, at: &At, out: &mut Findings) {
    let mut first: BTreeMap<SocketAddr, (&str, Vec<IpNet>)> = BTreeMap::new();
    for (name, raw) in &file.listener {
        let Ok(address) = raw.address.parse::<SocketAddr>() else {
            continue;
        };
        let from = raw.proxy_protocol.iter().flat_map(|written| &written.from);
        let mut from: Vec<_> = from.filter_map(|text| network(text)).collect();
        from.sort_unstable();
        match first.get(&address) {
            None => {
                first.insert(address, (name, from));
            }
            Some((_, other)) if *other == from => {}
            Some((other, _)) => {
                let here = at.key("listener").key(name);
                let wrong = format!(
                    "listener {other} has the same address {address} and another proxy_protocol"
                );
                let right = "write the same proxy_protocol at each listener of an address: the header comes before the server name";
                if raw.proxy_protocol.is_some() {
                    here.key("proxy_protocol").refuse_key(out, wrong, right);
                } else {
                    here.key("address").refuse(out, wrong, right);
                }
            }
        }
    }
}

/// A list of networks.
pub(super) fn networks(at: &At, texts: &[String], out: &mut Findings) -> Vec<IpNet> {
    values::list(at, texts, out);
    let mut found = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let here = at.item(index);
        match network(text) {
            Some(network) => found.push(network),
            None => match text.parse::<IpNet>() {
                Ok(inside) => here.refuse(
                    out,
                    format!("{text:?} is an address within a network"),
                    format!(
                        "write \"{}\" for the network, or \"{}/{}\" for the one address",
                        inside.trunc(),
                        inside.addr(),
                        inside.max_prefix_len()
                    ),
                ),
                Err(_) => here.refuse(
                    out,
                    format!("{text:?} is no network"),
                    "write an address and a prefix length, such as \"10.0.1.10/32\" or \"fd00:1::/64\"",
                ),
            },
        }
    }
    found
}

/// A network, without bits of a host.
fn network(text: &str) -> Option<IpNet> {
    let network: IpNet = text.parse().ok()?;
    (network == network.trunc()).then_some(network)
}
