//! `[upstream.<name>]`: the APIs behind; and TLS as a client, which issuers use too.

use std::collections::BTreeMap;

use super::document::At;
use super::files::Files;
use super::problem::{Findings, ReportKind};
use super::raw;
use super::values::{self, Address, count, duration, hours, ms, secs};
use crate::outbound::Tls;
use crate::pdp::UnixTime;
use crate::tls::identity::Identity;
use crate::upstream;

/// An upstream, as far as routes must know it; the settings are missing where a problem was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) case_insensitive: bool,
    pub(super) settings: Option<upstream::Settings>,
}

/// Checks every upstream.
pub(super) fn check(
    file: &raw::File,
    at: &At,
    files: &mut Files,
    now: UnixTime,
    out: &mut Findings,
) -> BTreeMap<String, Found> {
    let at = at.key("upstream");
    let mut found = BTreeMap::new();
    for (name, raw) in &file.upstream {
        let here = at.key(name);
        values::name(&here, name, out);
        let upstream = Found {
            case_insensitive: raw.case_insensitive == Some(true),
            settings: one(name, raw, &here, (files, now), out),
        };
        found.insert(name.clone(), upstream);
    }
    found
}

fn one(
    name: &str,
    raw: &raw::Upstream,
    at: &At,
    (files, now): (&mut Files, UnixTime),
    out: &mut Findings,
) -> Option<upstream::Settings> {
    let servers = servers(raw, at, out);
    let plaintext = raw.plaintext == Some(true);
    let tls = if plaintext {
        at.key("plaintext").report(
            out,
            ReportKind::Plaintext,
            "requests and identity headers travel to this upstream without TLS",
        );
        for key in ["ca", "certificate", "private_key", "server_name"] {
            if at.key(key).written() {
                let wrong = "this has no effect with plaintext = true";
                at.key(key)
                    .refuse_key(out, wrong, "remove it, or use https:// servers");
            }
        }
        None
    } else {
        let http2 = raw.protocol == Some(raw::Protocol::Http2);
        let material = Material {
            ca: raw.ca.as_deref(),
            certificate: raw.certificate.as_deref(),
            private_key: raw.private_key.as_deref(),
            private_key_name: "private_key",
            server_name: raw.server_name.as_deref(),
            http2,
        };
        Some(client_tls(&material, at, files, (now, false), out).map(|(tls, _)| tls))
    };
    let mut time =
        |key: &str, value: &Option<String>, range| duration(at, key, value.as_deref(), range, out);
    let connect_timeout = time("connect_timeout", &raw.connect_timeout, ms(10)..=secs(60));
    let response_timeout = time(
        "response_timeout",
        &raw.response_timeout,
        ms(100)..=hours(1),
    );
    let idle_timeout = time("idle_timeout", &raw.idle_timeout, ms(100)..=hours(1));
    let max = count(at, "max_connections", raw.max_connections, 1..=65_535, out);
    Some(upstream::Settings {
        name: name.into(),
        servers,
        protocol: match raw.protocol {
            Some(raw::Protocol::Http2) => upstream::Protocol::Http2,
            _ => upstream::Protocol::Http1,
        },
        tls: match tls {
            Some(tls) => Some(tls?),
            None => None,
        },
        connect_timeout,
        response_timeout,
        idle_timeout,
        retries: count(at, "retries", raw.retries, 0..=5, out),
        max_connections: usize::try_from(max).unwrap_or(usize::MAX),
        health: raw
            .health
            .as_ref()
            .map(|raw| health(raw, &at.key("health"), out)),
        eject: raw.eject.as_ref().map(|raw| {
            let at = at.key("eject");
            upstream::Eject {
                failures: count(&at, "failures", raw.failures, 1..=1000, out),
                duration: duration(&at, "for", raw.duration.as_deref(), secs(1)..=hours(1), out),
            }
        }),
    })
}

fn health(raw: &raw::Health, at: &At, out: &mut Findings) -> upstream::Health {
    let valid = raw.path.starts_with('/')
        && raw.path.parse::<http::uri::PathAndQuery>().is_ok()
        && !raw.path.contains('#');
    if !valid {
        let right = "write a path such as \"/health\"";
        at.key("path")
            .refuse(out, format!("{:?} is no path", raw.path), right);
    }
    upstream::Health {
        path: raw.path.as_str().into(),
        every: duration(at, "every", raw.every.as_deref(), secs(1)..=hours(1), out),
    }
}

/// `servers`: of one scheme, and plain text only where it is said.
fn servers(raw: &raw::Upstream, at: &At, out: &mut Findings) -> Vec<upstream::Server> {
    let at = at.key("servers");
    let plaintext = raw.plaintext == Some(true);
    values::list(&at, &raw.servers, out);
    let mut servers = Vec::new();
    for (index, text) in raw.servers.iter().enumerate() {
        let here = at.item(index);
        let Some(address) = values::address(&here, text, out) else {
            continue;
        };
        if !address.https && !plaintext {
            here.refuse(
                out,
                "this server is reached without TLS",
                "use https://, or say plaintext = true for this upstream",
            );
        }
        if address.https && plaintext {
            let right = "remove plaintext, or use http:// servers";
            here.refuse(out, "this server is https, and plaintext is true", right);
        }
        if address.query {
            here.refuse(
                out,
                "the address of a server has no query",
                "remove what follows the `?`",
            );
        }
        let server = server(&address);
        // The same text twice was said already.
        let said = raw.servers.iter().take(index).any(|other| other == text);
        if servers.contains(&server) && !said {
            here.refuse(out, "this server comes twice", "remove one");
        }
        servers.push(server);
    }
    servers
}

fn server(address: &Address) -> upstream::Server {
    upstream::Server {
        host: address.bare_host().into(),
        port: address.port,
        prefix: address.path.trim_end_matches('/').into(),
    }
}

/// Names of files, and what is in them.
pub(super) type Contents = Vec<(String, Vec<u8>)>;

/// What TLS as a client is made of, as written.
pub(super) struct Material<'r> {
    pub(super) ca: Option<&'r [String]>,
    pub(super) certificate: Option<&'r str>,
    pub(super) private_key: Option<&'r str>,
    /// What `private_key` is called where it stands.
    pub(super) private_key_name: &'static str,
    pub(super) server_name: Option<&'r str>,
    pub(super) http2: bool,
}

/// TLS as a client, and the files it was made of. `offline` says that no connection will be made,
/// so that not even the platform's authorities must exist.
pub(super) fn client_tls(
    raw: &Material<'_>,
    at: &At,
    files: &mut Files,
    (now, offline): (UnixTime, bool),
    out: &mut Findings,
) -> Option<(Tls, Contents)> {
    if offline {
        return match Tls::offline() {
            Ok(tls) => Some((tls, Vec::new())),
            Err(problems) => {
                at.refuse(
                    out,
                    problems.join(", "),
                    "report it: this program was built wrong",
                );
                None
            }
        };
    }
    let ca = match raw.ca {
        Some(names) => Some(files.all(&at.key("ca"), names, out)?),
        None => None,
    };
    let identity = match (raw.certificate, raw.private_key) {
        (Some(certificate), Some(key)) => {
            let here = at.key("certificate");
            let chain = files.named(&here, certificate, out);
            let key = files.secret(&at.key(raw.private_key_name), key, out);
            let (chain, key) = (chain?, key?);
            match Identity::from_pem(&chain.bytes, &key.bytes) {
                Ok(identity) => {
                    super::server_tls::expiry(&here, &chain.name, identity.remaining(now), out);
                }
                Err(wrong) => {
                    here.refuse(
                        out,
                        format!("{} with {}: {wrong}", chain.name, key.name),
                        "give the chain, leaf first, and the key of the leaf: RSA of 2048 bits or more, or EC",
                    );
                    return None;
                }
            }
            Some((chain, key))
        }
        (None, None) => None,
        (Some(_), None) => {
            at.refuse_key(
                out,
                "there is a certificate and no private_key",
                "add private_key",
            );
            return None;
        }
        (None, Some(_)) => {
            at.refuse_key(
                out,
                "there is a private_key and no certificate",
                "add certificate",
            );
            return None;
        }
    };
    if let Some(name) = raw.server_name
        && !super::issuers::host_name(name)
        && name.parse::<std::net::IpAddr>().is_err()
    {
        let right = "write the name that stands in the server's certificate";
        at.key("server_name")
            .refuse(out, format!("{name:?} is no host name"), right);
        return None;
    }
    let pair = identity
        .as_ref()
        .map(|(chain, key)| (&*chain.bytes, &*key.bytes));
    match Tls::build(ca.as_deref(), pair, raw.server_name, raw.http2) {
        Ok(tls) => {
            let mut read = ca.unwrap_or_default();
            for content in identity.into_iter().flat_map(|(chain, key)| [chain, key]) {
                read.push((content.name, content.bytes.to_vec()));
            }
            Some((tls, read))
        }
        Err(problems) => {
            let here = if raw.ca.is_some() {
                at.key("ca")
            } else {
                at.clone()
            };
            for wrong in problems {
                here.refuse(
                    out,
                    wrong,
                    "give PEM files of authorities, and of a certificate with its key",
                );
            }
            None
        }
    }
}
