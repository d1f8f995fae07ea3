//! What stands in front of a listener: load balancers that name their clients
//! (`proxy_protocol`), and proxies that end TLS (`behind`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::document::At;
use super::files::Files;
use super::problem::{Findings, ReportKind};
use super::raw;
use super::values;
use crate::listener::ProxyProtocol;
use crate::pdp::UnixTime;
use crate::pdp::client_cert::Form;
use crate::tls::trust::{Authorities, CrlRule};
use crate::tls::{Behind, ProxyCertificate};

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

/// `behind` of a listener; `None` where there is none, or a problem was found.
pub(super) fn behind(
    raw: &raw::Listener,
    at: &At,
    (files, now): (&mut Files, UnixTime),
    out: &mut Findings,
) -> Option<Behind> {
    let written = raw.behind.as_ref()?;
    let at = at.key("behind");
    let proxies = networks(&at.key("proxies"), &written.proxies, out);
    if raw.tls.client_certificate == Some(raw::ClientCertificate::None) {
        at.refuse_key(
            out,
            "the certificates that proxies pass on are judged by client_trust of the listener, which client_certificate = \"none\" turns off",
            "write client_certificate = \"optional\" and the authorities of your clients, or remove `behind`",
        );
    }
    let proxy_certificate = match &written.proxy_certificate {
        Some(rule) => Some(proxy_certificate(
            rule,
            &at.key("proxy_certificate"),
            (files, now),
            out,
        )?),
        None => {
            // A certificate is no secret: whoever may write the header is whatever client it likes.
            for (index, network) in proxies.iter().enumerate() {
                if network.prefix_len() == 0 {
                    at.key("proxies").item(index).refuse(
                        out,
                        "whoever connects could pass any certificate on, and be that client",
                        "name the proxies' addresses, and add proxy_certificate",
                    );
                }
            }
            let text = "whoever can connect from these addresses is any client that it likes: add proxy_certificate";
            at.report(out, ReportKind::Weaker, text);
            None
        }
    };
    Some(Behind {
        proxies,
        proxy_certificate,
        form: match written.certificate {
            raw::CertificateHeader::ClientCert => Form::ClientCert,
            raw::CertificateHeader::Xfcc => Form::Xfcc,
            raw::CertificateHeader::Nginx => Form::Nginx,
        },
    })
}

/// The certificate that a proxy presents for itself.
fn proxy_certificate(
    raw: &raw::ProxyCertificate,
    at: &At,
    (files, now): (&mut Files, UnixTime),
    out: &mut Findings,
) -> Option<ProxyCertificate> {
    let names = values::list(&at.key("san"), &raw.san, out);
    for (index, name) in names.iter().enumerate() {
        if name.contains('*') {
            at.key("san").item(index).refuse(
                out,
                format!("{name:?} is a pattern"),
                "write each name as it stands in the proxy's certificate: they are compared whole",
            );
        }
    }
    let authorities = files.all(&at.key("ca"), &raw.ca, out);
    let crls = match &raw.crl {
        None => Some(Vec::new()),
        Some(names) => files.all(&at.key("crl"), names, out),
    };
    match Authorities::from_pem(&authorities?, &crls?, CrlRule::Refuse, CrlRule::Refuse) {
        Ok(authorities) => {
            for note in authorities.notes(now) {
                at.key("ca").report(out, ReportKind::Material, note);
            }
            Some(ProxyCertificate {
                authorities: Arc::new(authorities),
                names,
            })
        }
        Err(problems) => {
            for wrong in problems {
                at.key("ca").refuse(
                    out,
                    wrong,
                    "give PEM files of the authorities that issue the proxies' certificates, and of the CRLs that they signed",
                );
            }
            None
        }
    }
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
