//! The whole path: CPU time of the real program for one request, with each kind of token, side by
//! side in one run.
//!
//! `cargo bench --bench proxy` (`-- --quick` for a look, `-- --only WORD` for one kind). Everything is on loopback and ends by
//! itself. What is divided by the number of requests is the time that the program's threads were on a
//! processor (`/proc/PID/task/*/schedstat`), so that what else runs on the machine disturbs little;
//! rounds go through all kinds in turn, and minima are shown.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::let_underscore_must_use,
    clippy::string_slice,
    reason = "a bench stops at what it did not expect, and may ask the time"
)]

#[path = "../examples/demo/lab/mod.rs"]
mod lab;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lab::authserver::AuthServer;
use lab::client::{Client, Request};
use lab::jose::{Proof, SigningKey, thumbprint};
use lab::pki::{Identity, KeyKind, Pki, Shape};

const AUDIENCE: &str = "https://api.bank.test";
const PATH: &str = "/accounts/1";
/// Keep-alive connections, each with a thread.
const CONNECTIONS: usize = 4;

fn main() {
    // `cargo test --benches` starts benches to see that they do: that is a round of a few.
    let quick = std::env::args().any(|arg| arg == "--quick" || arg == "--test");
    let (rounds, requests) = if quick { (2, 400) } else { (9, 8_000) };
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::new(&folder.path().join("pki"));
    pki.server("server", &["api.bank.test"], KeyKind::Ec);
    pki.client("pep", Shape::Good);
    let issuer = AuthServer::start(&pki, AUDIENCE);
    let party = pki.client("client", Shape::Good);
    let config = folder.path().join("portcullis.toml");
    std::fs::write(&config, configuration(&issuer, api())).unwrap();
    let gate = Gate::start(&config);
    let bench = Bench {
        client: Client::new(gate.address, "api.bank.test", pki.server_ca()).with(&party),
        gate,
        key: SigningKey::new("dpop", "ES256"),
        party,
        issuer,
    };
    let kinds = [
        Kind::Open,
        Kind::Jwt,
        Kind::Opaque,
        Kind::DpopJwt,
        Kind::DpopOpaque,
    ];
    // For a profiler: one kind and nothing else, named by a word of its row.
    let only = std::env::args().skip_while(|arg| arg != "--only").nth(1);
    if let Some(only) = only {
        let kind = kinds.iter().find(|kind| kind.name().contains(&only));
        let kind = kind.expect("a kind whose row has the word");
        for _ in 0..rounds {
            println!("{:.1} us", bench.round(*kind, requests).cpu);
        }
        return;
    }
    let mut best = [const { None::<Round> }; 5];
    for round in 0..rounds {
        for turn in 0..kinds.len() {
            let at = (turn + round) % kinds.len();
            let measured = bench.round(kinds[at], requests);
            let better = best[at].as_ref().is_none_or(|best| measured.cpu < best.cpu);
            if better {
                best[at] = Some(measured);
            }
        }
    }
    println!(
        "{rounds} rounds of {requests} requests over {CONNECTIONS} connections of HTTP/1.1, minima"
    );
    println!("| token | CPU a request | to a cached JWT | p50 | p99 |");
    println!("|---|---|---|---|---|");
    let jwt = best[1].as_ref().unwrap().cpu;
    for (kind, best) in kinds.iter().zip(&best) {
        let best = best.as_ref().unwrap();
        println!(
            "| {} | {:.1} us | {:.2} | {:.0} us | {:.0} us |",
            kind.name(),
            best.cpu,
            best.cpu / jwt,
            best.p50,
            best.p99
        );
    }
}

/// What a request brings.
#[derive(Clone, Copy)]
enum Kind {
    Open,
    Jwt,
    Opaque,
    DpopJwt,
    DpopOpaque,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Open => "none, on an open route",
            Self::Jwt => "certificate-bound JWT, remembered",
            Self::Opaque => "certificate-bound opaque token, answer remembered",
            Self::DpopJwt => "DPoP-bound JWT, remembered, a proof a request (ES256)",
            Self::DpopOpaque => "DPoP-bound opaque token, answer remembered, a proof a request",
        }
    }
}

/// Microseconds.
struct Round {
    cpu: f64,
    p50: f64,
    p99: f64,
}

struct Bench {
    client: Client,
    gate: Gate,
    key: SigningKey,
    party: Identity,
    issuer: AuthServer,
}

impl Bench {
    fn round(&self, kind: Kind, requests: usize) -> Round {
        // Proofs and tokens are made before the clock starts.
        let token = self.token(kind);
        let each = requests / CONNECTIONS;
        let work: Vec<Vec<Request>> = (0..CONNECTIONS)
            .map(|_| (0..=each).map(|_| self.request(kind, &token)).collect())
            .collect();
        let mut connections: Vec<_> = work
            .iter()
            .map(|requests| {
                let mut connection = self.client.open().unwrap();
                assert_eq!(
                    connection.call(&requests[0]).unwrap().status,
                    200,
                    "{}",
                    kind.name()
                );
                connection
            })
            .collect();
        let before = self.gate.cpu();
        let mut times: Vec<f64> = std::thread::scope(|scope| {
            let threads: Vec<_> = connections
                .iter_mut()
                .zip(&work)
                .map(|(connection, requests)| {
                    scope.spawn(move || {
                        let call = |request: &Request| {
                            let started = Instant::now();
                            let answer = connection.call(request).unwrap();
                            assert_eq!(answer.status, 200, "{}", answer.reason());
                            started.elapsed().as_secs_f64() * 1e6
                        };
                        requests[1..].iter().map(call).collect::<Vec<_>>()
                    })
                })
                .collect();
            threads
                .into_iter()
                .flat_map(|one| one.join().unwrap())
                .collect()
        });
        let cpu = self.gate.cpu().saturating_sub(before);
        times.sort_by(f64::total_cmp);
        Round {
            cpu: cpu.as_secs_f64() * 1e6 / times.len() as f64,
            p50: times[times.len() / 2],
            p99: times[times.len() * 99 / 100],
        }
    }

    fn token(&self, kind: Kind) -> String {
        let draft = self.issuer.draft(&self.party);
        let dpop = || {
            draft
                .clone()
                .claim("cnf", serde_json::json!({"jkt": thumbprint(&self.key)}))
        };
        match kind {
            Kind::Open => String::new(),
            Kind::Jwt => draft.sign(&self.issuer.key("PS256")),
            Kind::Opaque => self.issuer.opaque(&draft),
            Kind::DpopJwt => dpop().sign(&self.issuer.key("PS256")),
            Kind::DpopOpaque => self.issuer.opaque(&dpop()),
        }
    }

    fn request(&self, kind: Kind, token: &str) -> Request {
        match kind {
            Kind::Open => Request::get("/open/1"),
            Kind::Jwt | Kind::Opaque => Request::get(PATH).token(token),
            Kind::DpopJwt | Kind::DpopOpaque => {
                let proof = Proof::new(&self.key, "GET", &format!("{AUDIENCE}{PATH}"), token);
                Request::get(PATH)
                    .field("Authorization", &format!("DPoP {token}"))
                    .field("DPoP", &proof.sign(&self.key))
            }
        }
    }
}

fn configuration(issuer: &AuthServer, api: SocketAddr) -> String {
    format!(
        r#"
workers = 1
[reload]
watch = "off"
[listener.bank]
address = "127.0.0.1:0"
public_url = "{AUDIENCE}"
[listener.bank.tls]
certificate = "pki/server.pem"
private_key = "pki/server-key.pem"
client_ca = ["pki/clients-ca.pem"]
client_crl = ["pki/clients.crl.pem"]
[issuer.main]
issuer = "{issuer}"
audience = ["{AUDIENCE}"]
ca = ["pki/server-ca.pem"]
discovery = "{issuer}/.well-known/openid-configuration"
[issuer.main.introspection]
client_id = "pep"
client_auth = {{ method = "tls_client_auth", certificate = "pki/pep.pem", key = "pki/pep-key.pem" }}
cache = {{ active = "10m" }}
[upstream.core]
servers = ["http://{api}"]
plaintext = true
[forward.headers]
x-auth-subject = "token.sub"
x-auth-client-id = "token.client_id"
[dpop]
proof_age = "5m"
[[route]]
name = "accounts"
path = "/accounts/**"
methods = ["GET"]
upstream = "core"
policy = {{ scopes = ["accounts"] }}
[[route]]
name = "open"
path = "/open/**"
methods = ["GET"]
upstream = "core"
open = true
"#,
        issuer = issuer.issuer
    )
}

/// An API that answers 1 KiB to whatever has no body, as quickly as a thread can.
fn api() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let body = "x".repeat(1024);
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 1024\r\n\r\n{body}");
    std::thread::spawn(move || {
        for mut stream in socket.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || {
                stream.set_nodelay(true).unwrap();
                let (mut buffer, mut held) = ([0; 16 * 1024], 0);
                while let Ok(read @ 1..) = stream.read(&mut buffer[held..]) {
                    held += read;
                    if buffer[..held].ends_with(b"\r\n\r\n") {
                        held = 0;
                        if stream.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

/// The program, ended with the bench.
struct Gate {
    child: Child,
    address: SocketAddr,
}

impl Gate {
    fn start(config: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["run", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready = lines
            .by_ref()
            .map_while(Result::ok)
            .find(|line| line.contains(" ready "))
            .expect("it gets ready");
        let address = ready
            .split_whitespace()
            .find_map(|word| word.strip_prefix("listener.bank=")?.parse().ok())
            .expect("an address");
        // Nobody reads what it says later, but somebody must.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self { child, address }
    }

    /// Time that its threads were on a processor.
    fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let nanoseconds = tasks.flatten().filter_map(|task| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanoseconds.sum())
    }
}

impl Drop for Gate {
    /// Asked to end first: a build that is measured for its next one writes what it saw as it ends.
    fn drop(&mut self) {
        let id = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        for _ in 0..100 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
