//! Makes the bank: certificates, authorization server, API, configuration file, gate.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use portcullis::app::{Gate, Running, StartError};
use portcullis::telemetry::access::Sink;
use portcullis::telemetry::{Format, Metrics};

use crate::lab::authserver::AuthServer;
use crate::lab::client::{Client, Request};
use crate::lab::jose::Draft;
use crate::lab::legacy::Legacy;
use crate::lab::pki::{Identity, KeyKind, Pki, Shape};

/// What tokens for this API name as their audience.
pub(crate) const AUDIENCE: &str = "https://api.demo.bank";

/// Everything there is.
pub(crate) struct World {
    pub(crate) dir: PathBuf,
    pub(crate) pki: Pki,
    pub(crate) issuer: AuthServer,
    pub(crate) legacy: Legacy,
    pub(crate) gate: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) log: Log,
    /// The certificate of client `tpp-1`.
    pub(crate) tpp: Identity,
    /// The certificate of somebody else.
    pub(crate) thief: Identity,
    running: Running,
}

impl World {
    /// Makes it, and waits until the gate has the keys of the authorization server.
    pub(crate) fn make() -> Result<Self, String> {
        let dir = tempfile::Builder::new()
            .prefix("portcullis-demo-")
            .tempdir()
            .map_err(|error| format!("no temporary folder: {error}"))?
            .keep();
        let pki = Pki::new(&dir.join("pki"));
        pki.server("server", &["localhost"], KeyKind::Ec);
        let tpp = pki.client("tpp-1", Shape::Good);
        let thief = pki.client("somebody-else", Shape::Good);
        let issuer = AuthServer::start_at(&pki, AUDIENCE, socket(9443)?);
        issuer.register("tpp-1", &tpp, "accounts payments");
        let legacy = Legacy::start();
        // Ports are chosen here so that the file that is left for the reader names them.
        let gate = free(8443)?;
        let admin = free(9901)?;
        let config = dir.join("portcullis.toml");
        write(&dir, &config, &file(gate, admin, &issuer, &legacy))
            .map_err(|error| format!("{}: {error}", dir.display()))?;
        let log = Log::default();
        let running = start(&config, &log)?;
        let until = Instant::now() + Duration::from_secs(10);
        while let Err(missing) = running.ready() {
            if Instant::now() > until {
                return Err(format!(
                    "the gate does not get ready: {}",
                    missing.join(", ")
                ));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self {
            dir,
            pki,
            issuer,
            legacy,
            gate,
            admin,
            log,
            tpp,
            thief,
            running,
        })
    }

    /// A client of the gate with the certificate of `tpp-1`.
    pub(crate) fn client(&self) -> Client {
        self.anonymous().with(&self.tpp)
    }

    /// A client of the gate without a certificate.
    pub(crate) fn anonymous(&self) -> Client {
        Client::new(self.gate, "localhost", self.pki.server_ca())
    }

    /// A request to the gate.
    pub(crate) fn request(&self, method: &str, target: &str) -> Request {
        Request::new(method, target).host(&format!("localhost:{}", self.gate.port()))
    }

    /// Gets a token as any client does: at the token endpoint, with its certificate.
    pub(crate) fn fetch_token(&self) -> String {
        let client = Client::new(self.issuer.address, "localhost", self.pki.server_ca());
        let form = "grant_type=client_credentials&client_id=tpp-1&scope=accounts%20payments";
        let request = Request::post("/token", form)
            .host(&self.issuer.address.to_string())
            .field("Content-Type", "application/x-www-form-urlencoded");
        let answer = client.with(&self.tpp).call(&request).unwrap();
        let answer = answer.json();
        let token = answer.get("access_token").and_then(|token| token.as_str());
        token
            .expect("the embedded authorization server issues tokens")
            .to_owned()
    }

    /// A token of `tpp-1` in the making, to be given a flaw.
    pub(crate) fn draft(&self) -> Draft {
        self.issuer.draft(&self.tpp)
    }

    /// Has the gate read its files again.
    pub(crate) fn reload(&self) -> bool {
        self.running.reload()
    }

    /// Ends the gate in good order and removes the folder.
    pub(crate) fn end(self) {
        self.running.stop();
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            eprintln!("{}: {error}", self.dir.display());
        }
    }
}

/// The one place where the demo touches the library.
fn start(config: &Path, log: &Log) -> Result<Running, String> {
    let metrics = Metrics::new(portcullis::clock::now());
    let sink = Sink::to_writer(Format::Text, metrics.lines_lost(), log.clone())
        .map_err(|error| format!("access log: {error}"))?;
    let gate = Gate {
        config: config.to_owned(),
        metrics: Arc::clone(&metrics),
        sink,
    };
    gate.start().map_err(|error| match error {
        StartError::Configuration(problems) => problems
            .iter()
            .map(|problem| format!("{problem}\n"))
            .collect(),
        other @ StartError::System { .. } => other.to_string(),
    })
}

/// The access log: kept back while the table is shown, on the terminal afterwards.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<AtomicBool>);

impl Log {
    /// From now on lines are shown.
    pub(crate) fn show(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.load(Ordering::Relaxed) {
            io::stdout().write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

/// A socket on this port of loopback, or on any.
fn socket(port: u16) -> Result<TcpListener, String> {
    TcpListener::bind(("127.0.0.1", port))
        .or_else(|_| TcpListener::bind("127.0.0.1:0"))
        .map_err(|error| format!("no port on loopback: {error}"))
}

fn free(port: u16) -> Result<SocketAddr, String> {
    socket(port)?
        .local_addr()
        .map_err(|error| error.to_string())
}

fn write(dir: &Path, config: &Path, text: &str) -> io::Result<()> {
    std::fs::create_dir_all(dir.join("policies"))?;
    std::fs::write(dir.join("policies/accounts.toml"), ACCOUNTS)?;
    std::fs::write(dir.join("policies/payments.toml"), PAYMENTS)?;
    std::fs::write(config, text)
}

const ACCOUNTS: &str = r#"# policies/accounts.toml: who may read accounts.
summary = "Account information"
extends = "fapi2"              # tokens must be bound to the client's certificate, and so on
scopes  = ["accounts"]
"#;

const PAYMENTS: &str = r#"# policies/payments.toml: who may pay.
summary = "Payment initiation under strong customer authentication"
extends = "fapi2"
scopes  = ["payments"]
acr     = ["urn:bank:acr:sca"] # the user must have authenticated strongly ...
max_age = "5m"                 # ... and not long ago; else the client is told to step up (RFC 9470)
"#;

/// The configuration file, for the gate and for the reader.
fn file(gate: SocketAddr, admin: SocketAddr, issuer: &AuthServer, legacy: &Legacy) -> String {
    let port = gate.port();
    let url = &issuer.issuer;
    let discovery = issuer.discovery();
    let core = legacy.url("http");
    format!(
        r#"# What the demo runs with. Try:  portcullis check --config portcullis.toml
policies = "policies"                  # one small file per policy

[listener.bank]
address    = "{gate}"
public_url = "https://localhost:{port}"   # what clients call; other names are refused
disclose_reasons = true                # for a laboratory: say the exact reason in the body

[listener.bank.tls]
certificate = "pki/server.pem"
private_key = "pki/server-key.pem"
client_ca   = ["pki/clients-ca.pem"]   # whose client certificates are good
client_crl  = ["pki/clients.crl.pem"]  # and which of them are revoked

[admin]
address = "{admin}"                # /livez /readyz /metrics /status, and / for people

[issuer.main]                          # the authorization server whose tokens are taken
issuer    = "{url}"
discovery = "{discovery}"
audience  = ["{AUDIENCE}"]
ca        = ["pki/server-ca.pem"]

[issuer.main.jwks]
refresh_cooldown = "1s"                # quick, to show a key rotation; the default is 5s

[upstream.core]                        # the API behind, which knows nothing of all this
servers   = ["{core}"]
plaintext = true                       # must be said for http://

[forward.headers]                      # what it is told of who called; clients cannot forge these
x-auth-subject         = "token.sub"
x-auth-client-id       = "token.client_id"
x-auth-cert-thumbprint = "certificate.x5t#S256"

[[route]]
name     = "accounts"
path     = "/accounts/**"
methods  = ["GET", "HEAD"]
upstream = "core"
policy   = "accounts"                  # policies/accounts.toml

[[route]]
name     = "payments"
path     = "/payments/**"
methods  = ["POST"]
upstream = "core"
policy   = "payments"

[[route]]
name     = "public"
path     = "/public/**"
methods  = ["GET"]
upstream = "core"
open     = true                        # the only way to have no policy
"#
    )
}
