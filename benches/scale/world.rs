//! Certificates, keys, tokens, and the configuration of a gate of any size.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::lab::jose::{Draft, SigningKey};
use crate::lab::pki::{Identity, KeyKind, Pki, Shape};
use crate::load::{Caller, Hello};
use crate::process::Process;

/// What the gate is called.
pub(crate) const AUDIENCE: &str = "https://api.bank.test";

/// What all sections share.
pub(crate) struct World {
    folder: tempfile::TempDir,
    /// Certificates.
    pub(crate) pki: Pki,
    /// A client with a key on P-256.
    pub(crate) client: Identity,
    /// The API behind.
    pub(crate) api: SocketAddr,
    /// A round or two of everything, to see that it works.
    pub(crate) quick: bool,
}

/// How large a gate is.
#[derive(Clone)]
pub(crate) struct Size {
    pub(crate) workers: usize,
    pub(crate) routes: usize,
    pub(crate) policies: usize,
    pub(crate) issuers: usize,
    /// Name of its certificate, without the ending.
    pub(crate) certificate: &'static str,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            workers: 1,
            routes: 1,
            policies: 1,
            issuers: 1,
            certificate: "server",
        }
    }
}

impl World {
    pub(crate) fn new(quick: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::new(&folder.path().join("pki"));
        pki.server("server", &["api.bank.test"], KeyKind::Ec);
        pki.server("server-rsa", &["api.bank.test"], KeyKind::Rsa);
        Self {
            client: pki.client("client", Shape::Good),
            api: crate::upstream::start(),
            pki,
            folder,
            quick,
        }
    }

    /// A path in the folder of this run.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// This many, or few of a quick run.
    pub(crate) fn many(&self, many: usize, few: usize) -> usize {
        if self.quick { few } else { many }
    }

    /// The issuers of a gate, each with a key of its own, published in a file.
    pub(crate) fn issuers(&self, number: usize, alg: &'static str) -> Vec<SigningKey> {
        let key = |number| {
            let key = SigningKey::new(&format!("k{number}"), alg);
            let set = serde_json::json!({"keys": [key.jwk()]}).to_string();
            std::fs::write(self.path(&format!("jwks-{number}.json")), set).unwrap();
            key
        };
        (0..number).map(key).collect()
    }

    /// A token of the issuer of this number, good for an hour, bound to the client.
    pub(crate) fn token(&self, issuer: usize, key: &SigningKey) -> String {
        self.draft(issuer).sign(key)
    }

    /// The same before it is signed.
    pub(crate) fn draft(&self, issuer: usize) -> Draft {
        Draft::new(&format!("https://as-{issuer}.bank.test"), AUDIENCE)
            .bound_to(&self.client.thumbprint)
            .claim("exp", crate::lab::now() + 3600)
    }

    /// Writes the configuration of such a gate.
    pub(crate) fn write(&self, name: &str, size: &Size) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, self.configuration(size)).unwrap();
        path
    }

    /// Starts such a gate on a core of its own.
    pub(crate) fn gate(&self, size: &Size) -> Process {
        Process::gate(&self.write("portcullis.toml", size), true)
    }

    /// How the client calls a gate.
    pub(crate) fn caller(&self, gate: &Process, hello: Hello) -> Caller {
        Caller::new(
            gate.address("bank"),
            self.pki.server_ca(),
            &self.client,
            hello,
        )
    }

    /// The configuration. Policies are files in a folder, routes take them in turn.
    pub(crate) fn configuration(&self, size: &Size) -> String {
        let policies = self.path(&format!("policies-{}", size.policies));
        if !policies.exists() {
            write_policies(&policies, size.policies);
        }
        let mut text = format!(
            r#"
workers = {workers}
policies = "policies-{policies}"
default_issuers = {issuers:?}
[reload]
watch = "off"
[admin]
address = "127.0.0.1:0"
[listener.bank]
address = "127.0.0.1:0"
public_url = "{AUDIENCE}"
[listener.bank.tls]
certificate = "pki/{certificate}.pem"
private_key = "pki/{certificate}-key.pem"
client_certificate = "required"
client_ca = ["pki/clients-ca.pem"]
client_crl = ["pki/clients.crl.pem"]
[listener.bank.limits]
connections = 20000
idle_timeout = "10m"
[upstream.core]
servers = ["http://{api}"]
plaintext = true
"#,
            workers = size.workers,
            policies = size.policies,
            issuers = (0..size.issuers)
                .map(|number| format!("as{number}"))
                .collect::<Vec<_>>(),
            certificate = size.certificate,
            api = self.api,
        );
        for number in 0..size.issuers {
            write!(
                text,
                "[issuer.as{number}]\nissuer = \"https://as-{number}.bank.test\"\n\
                 audience = [\"{AUDIENCE}\"]\njwks_file = \"jwks-{number}.json\"\n"
            )
            .unwrap();
        }
        for number in 0..size.routes {
            let policy = number % size.policies;
            write!(
                text,
                "[[route]]\nname = \"r{number}\"\npath = \"{}/{{id}}/**\"\nmethods = [\"GET\", \"POST\"]\n\
                 upstream = \"core\"\npolicy = \"p{policy}\"\n",
                prefix(number)
            )
            .unwrap();
        }
        text.push_str(
            "[[route]]\nname = \"large\"\npath = \"/large/**\"\nmethods = [\"GET\", \"POST\"]\n\
             upstream = \"core\"\npolicy = \"p0\"\n",
        );
        text
    }
}

/// Where the route of this number begins: a hundred APIs, each of which has its resources.
fn prefix(route: usize) -> String {
    format!("/api-{}/v1/resource-{}", route % 100, route / 100)
}

/// A request for something under the route of this number.
pub(crate) fn request(route: usize, token: &str) -> Vec<u8> {
    get(&format!("{}/4711/balances", prefix(route)), token)
}

/// A request for this.
pub(crate) fn get(path: &str, token: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: api.bank.test\r\nAuthorization: Bearer {token}\r\n\r\n")
        .into_bytes()
}

fn write_policies(folder: &Path, number: usize) {
    std::fs::create_dir(folder).unwrap();
    for policy in 0..number {
        let text = format!(
            "extends = \"fapi2\"\nbinding = [\"mtls\"]\nscopes = [\"accounts\"]\n\
             max_lifetime = \"{}m\"\n",
            policy + 60
        );
        std::fs::write(folder.join(format!("p{policy}.toml")), text).unwrap();
    }
}
