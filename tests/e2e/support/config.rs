//! The configuration file of a test: a sound one, of which each part can be changed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A configuration in the making. Fields that are text hold whole TOML lines.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// In front of all tables.
    pub(crate) top: String,
    /// Further lines of `[listener.bank]`.
    pub(crate) bank: String,
    /// `[listener.bank.tls]`, by key.
    pub(crate) tls: BTreeMap<&'static str, String>,
    /// `[listener.bank.limits]`.
    pub(crate) limits: String,
    /// `[issuer.main]`, by key.
    pub(crate) issuer: BTreeMap<&'static str, String>,
    /// `[issuer.main.jwks]`.
    pub(crate) jwks: String,
    /// `[upstream.core]`, by key.
    pub(crate) upstream: BTreeMap<&'static str, String>,
    /// `[forward]` and `[forward.headers]`.
    pub(crate) forward: String,
    /// Any further tables: listeners, issuers, upstreams, routes.
    pub(crate) more: String,
    /// Whether the usual routes are in it.
    pub(crate) usual_routes: bool,
}

/// Routes that most tests use.
const USUAL_ROUTES: &str = r#"
[[route]]
name     = "accounts-read"
path     = "/accounts/**"
methods  = ["GET", "HEAD", "OPTIONS"]
upstream = "core"
policy   = { scopes = ["accounts"] }

[[route]]
name     = "accounts-write"
path     = "/accounts/**"
methods  = ["POST", "PUT", "PATCH", "DELETE"]
upstream = "core"
policy   = { scopes = ["accounts"] }

[[route]]
name     = "public"
path     = "/public/**"
methods  = ["*"]
upstream = "core"
open     = true
"#;

impl Config {
    /// Sound, for these neighbours.
    pub(crate) fn new(issuer: &str, upstream: &str) -> Self {
        let text = |value: &str| format!("{value:?}");
        Self {
            top: String::new(),
            bank: "disclose_reasons = true\n".to_owned(),
            tls: BTreeMap::from([
                ("certificate", text("pki/server.pem")),
                ("private_key", text("pki/server-key.pem")),
                ("client_ca", "[\"pki/clients-ca.pem\"]".to_owned()),
                ("client_crl", "[\"pki/clients.crl.pem\"]".to_owned()),
            ]),
            limits: String::new(),
            issuer: BTreeMap::from([
                ("issuer", text(issuer)),
                ("audience", "[\"https://api.bank.test\"]".to_owned()),
                ("ca", "[\"pki/server-ca.pem\"]".to_owned()),
                (
                    "discovery",
                    text(&format!("{issuer}/.well-known/openid-configuration")),
                ),
            ]),
            jwks: String::new(),
            upstream: BTreeMap::from([
                ("servers", format!("[{upstream:?}]")),
                ("plaintext", "true".to_owned()),
            ]),
            forward: r#"
[forward]
strip = ["x-internal-*"]
[forward.headers]
x-auth-subject         = "token.sub"
x-auth-client-id       = "token.client_id"
x-auth-scope           = "token.scope"
x-auth-acr             = "token.acr"
x-auth-cert-thumbprint = "certificate.x5t#S256"
"#
            .to_owned(),
            more: String::new(),
            usual_routes: true,
        }
    }

    /// With a further route on upstream `core`: its path and its further lines.
    pub(crate) fn route(mut self, name: &str, path: &str, lines: &str) -> Self {
        write!(
            self.more,
            "\n[[route]]\nname = {name:?}\npath = {path:?}\n{lines}\n"
        )
        .unwrap();
        if !lines.contains("upstream") {
            self.more.push_str("upstream = \"core\"\n");
        }
        if !lines.contains("methods") {
            self.more.push_str("methods = [\"*\"]\n");
        }
        self
    }

    /// The file.
    pub(crate) fn render(&self) -> String {
        let table = |name: &str, keys: &BTreeMap<&'static str, String>| {
            let mut text = format!("\n[{name}]\n");
            for (key, value) in keys {
                writeln!(text, "{key} = {value}").unwrap();
            }
            text
        };
        let mut text = self.top.clone();
        // Two threads whatever the machine has, so that every test meets more than one.
        text.push_str("workers = 2\n");
        text.push_str("\n[reload]\nwatch = \"off\"\n");
        text.push_str("\n[admin]\naddress = \"127.0.0.1:0\"\n");
        text.push_str("\n[listener.bank]\naddress = \"127.0.0.1:0\"\n");
        text.push_str("public_url = \"https://api.bank.test\"\n");
        text.push_str(&self.bank);
        text.push_str(&table("listener.bank.tls", &self.tls));
        text.push_str("\n[listener.bank.limits]\n");
        text.push_str(&self.limits);
        text.push_str(&table("issuer.main", &self.issuer));
        text.push_str("\n[issuer.main.jwks]\n");
        text.push_str(&self.jwks);
        text.push_str(&table("upstream.core", &self.upstream));
        text.push_str(&self.forward);
        if self.usual_routes {
            text.push_str(USUAL_ROUTES);
        }
        text.push_str(&self.more);
        text
    }
}
