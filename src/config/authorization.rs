//! `[registry]`, `[authorization_server.<name>]`, and routes of `kind = "authorization"`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::document::At;
use super::files::Files;
use super::problem::{Findings, ReportKind};
use super::raw;
use super::raw_authorization as written;
use super::values::{self, duration, hours, ms, secs, size};
use crate::pdp::UnixTime;
use crate::pdp::authorization::{Endpoint, Guard, Profile, Server};
use crate::pdp::policy::Algorithm;
use crate::pip::registry;

/// Authorization servers and their registry, as routes must know them.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) servers: BTreeMap<String, Arc<Server>>,
    /// The settings; `Some(None)` where a problem was found.
    pub(super) registry: Option<Option<registry::Settings>>,
}

/// Checks the registry and every server.
pub(super) fn check(
    file: &raw::File,
    at: &At,
    files: &mut Files,
    now: UnixTime,
    out: &mut Findings,
) -> Found {
    let here = at.key("authorization_server");
    let mut servers = BTreeMap::new();
    for (name, raw) in &file.authorization_server {
        let here = here.key(name);
        values::name(&here, name, out);
        servers.insert(name.clone(), Arc::new(server(name, raw, &here, out)));
    }
    let registry = file.registry.as_ref().map(|raw| {
        let here = at.key("registry");
        clients(raw, &here, files, now, out)
    });
    if registry.is_none() && !servers.is_empty() {
        let right = "add [registry] with source = { file = \"…\" } or { url = \"https://…\" }";
        here.refuse_key(
            out,
            "there is an authorization server, and no registry of its clients",
            right,
        );
    }
    Found { servers, registry }
}

fn server(name: &str, raw: &written::AuthorizationServer, at: &At, out: &mut Findings) -> Server {
    if let Some(address) = values::https(&at.key("issuer"), &raw.issuer, out)
        && address.query
    {
        let right = "write it exactly as it stands in its metadata (RFC 8414 s2)";
        at.key("issuer")
            .refuse(out, "an issuer has no query", right);
    }
    let profile = match raw.profile {
        Some(written::ServerProfile::Fapi1Advanced) => Profile::Fapi1Advanced,
        Some(written::ServerProfile::Fapi2) | None => Profile::Fapi2,
    };
    let list = |key: &str, names: &Option<Vec<String>>, out: &mut Findings| {
        values::list(&at.key(key), names.as_deref().unwrap_or_default(), out)
    };
    let audience = list("audience", &raw.audience, out);
    let assertion_audience = list("assertion_audience", &raw.assertion_audience, out);
    let others = |names: &[Box<str>]| names.iter().any(|name| **name != *raw.issuer);
    if others(&audience) {
        let text = "request objects for others than the issuer are taken (FAPI 2.0 Message Signing s5.3.1)";
        at.key("audience").report(out, ReportKind::Weaker, text);
    }
    if others(&assertion_audience) {
        let here = at.key("assertion_audience");
        if profile == Profile::Fapi2 {
            let right = "remove it: FAPI 2.0 takes the issuer alone (Security Profile s5.3.2.1)";
            here.refuse(out, "this names others than the issuer", right);
        } else {
            let text = "client assertions for others than the issuer are taken: see that the authorization server alone has these names";
            here.report(out, ReportKind::Weaker, text);
        }
    }
    let mut time =
        |key: &str, value: &Option<String>, range| duration(at, key, value.as_deref(), range, out);
    let hour = hours(1);
    let max_object_age = time("max_object_age", &raw.max_object_age, secs(1)..=hour);
    let max_object_lifetime = time(
        "max_object_lifetime",
        &raw.max_object_lifetime,
        secs(1)..=hour,
    );
    let max_assertion_lifetime = time(
        "max_assertion_lifetime",
        &raw.max_assertion_lifetime,
        secs(1)..=hours(24),
    );
    let clock_skew = time("clock_skew", &raw.clock_skew, secs(10)..=secs(60));
    let prefix = raw.request_uri_prefix.as_deref().unwrap_or_default();
    let here = at.key("request_uri_prefix");
    if !prefix.bytes().all(|byte| byte.is_ascii_graphic()) || !prefix.contains(':') {
        let right = "write how each request_uri of the server begins, such as \"urn:ietf:params:oauth:request_uri:\"";
        here.refuse(out, format!("{prefix:?} begins no URI"), right);
    }
    Server {
        name: name.into(),
        issuer: raw.issuer.as_str().into(),
        audience,
        assertion_audience,
        profile,
        algorithms: algorithms(raw, profile, at, out),
        max_object_age,
        max_object_lifetime,
        max_assertion_lifetime,
        clock_skew,
        request_uri_prefix: prefix.into(),
    }
}

/// JAR-03; FAPI 1.0 Part 2 s8.6, FAPI 2.0 Security Profile s5.4.
fn algorithms(
    raw: &written::AuthorizationServer,
    profile: Profile,
    at: &At,
    out: &mut Findings,
) -> Vec<Algorithm> {
    let at = at.key("algorithms");
    let mut algorithms = Vec::new();
    for (index, one) in raw.algorithms.iter().flatten().enumerate() {
        let (algorithm, never) = match one {
            raw::Algorithm::Ps256 => (Algorithm::Ps256, None),
            raw::Algorithm::Es256 => (Algorithm::Es256, None),
            raw::Algorithm::EdDsa | raw::Algorithm::Ed25519 => (
                Algorithm::EdDsa,
                (profile == Profile::Fapi1Advanced)
                    .then_some("FAPI 1.0 Advanced takes PS256 and ES256 alone"),
            ),
            raw::Algorithm::Rs256 => (Algorithm::Rs256, Some("no profile of FAPI takes RS256")),
        };
        match never {
            Some(wrong) => at.item(index).refuse(out, wrong, "remove it"),
            None if algorithms.contains(&algorithm) => {}
            None => algorithms.push(algorithm),
        }
    }
    if raw.algorithms.as_ref().is_some_and(Vec::is_empty) {
        let right = "leave the key out, or name an algorithm";
        at.refuse(out, "this list is empty", right);
    }
    algorithms
}

fn clients(
    raw: &written::Registry,
    at: &At,
    files: &mut Files,
    now: UnixTime,
    out: &mut Findings,
) -> Option<registry::Settings> {
    let here = at.key("source");
    let source = &raw.source;
    let place = match (&source.file, &source.url) {
        (Some(name), None) => files
            .named(&here.key("file"), name, out)
            .map(|content| registry::Source::File(content.path, content.bytes)),
        (None, Some(url)) => values::https(&here.key("url"), url, out)
            .map(|_address| registry::Source::Url(url.as_str().into())),
        (Some(_), Some(_)) | (None, None) => {
            let right = "write one: source = { file = \"…\" } or { url = \"https://…\" }";
            here.refuse(out, "this has not exactly one of file and url", right);
            None
        }
    };
    let jwks_hosts = match &raw.jwks_hosts {
        None => Vec::new(),
        Some(hosts) => values::list(&at.key("jwks_hosts"), hosts, out),
    };
    for (index, host) in jwks_hosts.iter().enumerate() {
        if !super::issuers::host_name(host) {
            let right = "write a host name alone, such as \"keystore.directory.example\"";
            let here = at.key("jwks_hosts").item(index);
            here.refuse(out, format!("{host:?} is no host name"), right);
        }
    }
    let offline = source.url.is_none() && jwks_hosts.is_empty();
    for key in ["ca", "certificate", "private_key", "proxy"] {
        if offline && here.key(key).written() {
            let wrong = "this has no effect with a file and without jwks_hosts";
            here.key(key).refuse_key(out, wrong, "remove it");
        }
    }
    if let Some(proxy) = &source.proxy {
        let here = here.key("proxy");
        if let Some(address) = values::address(&here, proxy, out)
            && (address.https || &*address.path != "/" || address.query)
        {
            let right = "write it like \"http://egress.bank.internal:3128\"";
            here.refuse(out, "this is no address of an HTTP proxy", right);
        }
    }
    let material = super::upstreams::Material {
        ca: source.ca.as_deref(),
        certificate: source.certificate.as_deref(),
        private_key: source.private_key.as_deref(),
        private_key_name: "private_key",
        server_name: None,
        http2: false,
    };
    let tls = super::upstreams::client_tls(&material, &here, files, (now, offline), out);
    let mut time =
        |key: &str, value: &Option<String>, range| duration(at, key, value.as_deref(), range, out);
    let refresh_every = time("refresh_every", &raw.refresh_every, secs(1)..=hours(24));
    let keep_last_good_for = time(
        "keep_last_good_for",
        &raw.keep_last_good_for,
        secs(1)..=hours(24 * 30),
    );
    let timeout = time("timeout", &raw.timeout, ms(100)..=secs(60));
    if keep_last_good_for < refresh_every {
        let right =
            "let keep_last_good_for be the longer one, or clients run out between two fetches";
        at.key("keep_last_good_for")
            .refuse(out, "this is shorter than refresh_every", right);
    }
    let settings = registry::Settings {
        source: place?,
        tls: tls?.0,
        proxy: source.proxy.as_deref().map(Into::into),
        jwks_hosts: jwks_hosts
            .iter()
            .map(|host| host.to_ascii_lowercase().into())
            .collect(),
        timeout,
        refresh_every,
        keep_last_good_for,
        required: raw.required != Some(false),
    };
    if let registry::Source::File(path, content) = &settings.source {
        let here = here.key("file");
        match settings.read(content) {
            Ok((_, warnings)) => {
                for warning in warnings {
                    let text = format!("{}: {warning}", path.display());
                    here.report(out, ReportKind::Material, text);
                }
            }
            Err(wrong) => {
                let right = "give { \"clients\": [ { \"client_id\": …, \"status\": \"active\", … } ] }; docs/authorization-server.md lists the members";
                here.refuse(out, format!("{}: {wrong}", path.display()), right);
                return None;
            }
        }
    }
    Some(settings)
}

/// What a route of `kind = "authorization"` asks for; `None` where a problem was found.
pub(super) fn guard(
    raw: &raw::Route,
    at: &At,
    found: &Found,
    vouched: bool,
    out: &mut Findings,
) -> Option<Guard> {
    for (key, written) in [
        ("policy", raw.policy.is_some()),
        ("open", raw.open.is_some()),
        ("shadow_policy", raw.shadow_policy.is_some()),
        ("observe", raw.observe.is_some()),
        ("websocket", raw.websocket.is_some()),
    ] {
        if written {
            let right = "remove it: what such a route takes is said by authorization";
            at.key(key).refuse_key(
                out,
                "this has no meaning with kind = \"authorization\"",
                right,
            );
        }
    }
    let Some(written) = &raw.authorization else {
        let right = "add authorization = { server = \"…\", endpoint = \"par\" }; or \"authorize\", \"token\"";
        at.refuse(out, "nothing says which endpoint this is", right);
        return None;
    };
    let at = at.key("authorization");
    let known = found.servers.keys().map(String::as_str);
    let name = &written.server;
    let here = at.key("server");
    super::route::unknown(name, "authorization_server", known, &here, out);
    let (endpoint, may) = match written.endpoint {
        written::Endpoint::Par => (Endpoint::Par, &["POST"][..]),
        written::Endpoint::Token => (Endpoint::Token, &["POST"][..]),
        written::Endpoint::Authorize => (Endpoint::Authorize, &["GET", "HEAD", "POST"][..]),
    };
    methods(raw, &at, endpoint, may, out);
    let form = written.form_bytes.as_deref().or(Some("64KiB"));
    let form_bytes = size(&at, "form_bytes", form, 1024..=1 << 20, out);
    let encrypted = written.encrypted == Some(true);
    if encrypted {
        let here = at.key("encrypted");
        if endpoint == Endpoint::Token {
            let right = "remove it: request objects do not come here";
            here.refuse(out, "this has no effect at the token endpoint", right);
        }
        let text = "encrypted request objects pass, and nobody here can look into them: the authorization server must check all of JAR itself";
        here.report(out, ReportKind::Weaker, text);
    }
    if !vouched && endpoint != Endpoint::Authorize {
        let text = "nobody vouches for the names in client certificates on a listener of this route: clients that the registry knows by such a name cannot authenticate here";
        at.report(out, ReportKind::Note, text);
    }
    Some(Guard {
        server: Arc::clone(found.servers.get(name)?),
        endpoint,
        form_bytes: usize::try_from(form_bytes).ok()?,
        vouched,
        encrypted,
    })
}

/// RFC 9126 s2, RFC 6749 s3.1 and s3.2: which methods the endpoint has.
fn methods(raw: &raw::Route, at: &At, endpoint: Endpoint, may: &[&str], out: &mut Findings) {
    let others = raw
        .methods
        .iter()
        .any(|method| !may.contains(&method.as_str()));
    if others {
        at.key("endpoint").refuse(
            out,
            format!(
                "methods names others than the {} endpoint has",
                endpoint.name()
            ),
            format!("write methods = [\"{}\"]", may.join("\", \"")),
        );
    }
}
