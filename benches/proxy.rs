//! The whole path: CPU time of the real program for one request, with each kind of token, side by
//! side in one run.
//!
//! `cargo bench --bench proxy` (`-- --quick` for a look, `-- --only WORD` for one kind). With
//! `PORTCULLIS_BENCHED` it is the program of that path that is measured, and not the one that cargo
//! builds beside the bench. Everything is on loopback and ends by itself. What is divided by the number of requests is the time that the program's threads were on a
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

#[path = "proxy/http2.rs"]
mod http2;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lab::authserver::AuthServer;
use lab::client::{Client, Request};
use lab::jose::{Proof, SigningKey, thumbprint};
use lab::legacy;
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
    std::fs::write(
        &config,
        configuration(&issuer, legacy::with_one_answer(&"x".repeat(1024))),
    )
    .unwrap();
    let gate = Gate::start(&config);
    let bench = Bench {
        client: Client::new(gate.address, "api.bank.test", pki.server_ca()).with(&party),
        http2: http2::Caller::new(gate.address, "api.bank.test", pki.server_ca(), &party),
        gate,
        key: SigningKey::new("dpop", "ES256"),
        party,
        issuer,
    };
    let kinds = [
        Kind::Open,
        Kind::Jwt,
        Kind::Http2,
        Kind::Unseen,
        Kind::Opaque,
        Kind::DpopJwt,
        Kind::DpopOpaque,
        Kind::Connection,
        Kind::Resumption,
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
    let mut best = [const { None::<Round> }; 9];
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
        "{rounds} rounds of {requests} requests (an eighth of new tokens and connections) over {CONNECTIONS} connections, minima"
    );
    println!("| request | CPU a request | to a cached JWT | p50 | p99 |");
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
    Http2,
    Unseen,
    Opaque,
    DpopJwt,
    DpopOpaque,
    Connection,
    Resumption,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Open => "none, on an open route",
            Self::Jwt => "certificate-bound JWT, remembered",
            Self::Http2 => "certificate-bound JWT, remembered, HTTP/2",
            Self::Unseen => "certificate-bound JWT, never seen before (PS256)",
            Self::Opaque => "certificate-bound opaque token, answer remembered",
            Self::DpopJwt => "DPoP-bound JWT, remembered, a proof a request (ES256)",
            Self::DpopOpaque => "DPoP-bound opaque token, answer remembered, a proof a request",
            Self::Connection => "certificate-bound JWT, remembered, on a new connection",
            Self::Resumption => "the same, the TLS session resumed",
        }
    }
}

impl Kind {
    /// What costs more is done less often.
    const fn rarer(self) -> usize {
        match self {
            Self::Unseen | Self::Connection | Self::Resumption => 8,
            Self::Open
            | Self::Jwt
            | Self::Http2
            | Self::Opaque
            | Self::DpopJwt
            | Self::DpopOpaque => 1,
        }
    }
}

/// Each with a thread.
fn at_once<T: Sync>(clients: &[T], calls: impl Fn(&T) -> Vec<f64> + Sync) -> Vec<f64> {
    let mut clients: Vec<&T> = clients.iter().collect();
    at_once_mut(&mut clients, |client| calls(client))
}

fn at_once_mut<T: Send>(clients: &mut [T], calls: impl Fn(&mut T) -> Vec<f64> + Sync) -> Vec<f64> {
    std::thread::scope(|scope| {
        let calls = &calls;
        let threads: Vec<_> = clients
            .iter_mut()
            .map(|client| scope.spawn(move || calls(client)))
            .collect();
        threads
            .into_iter()
            .flat_map(|one| one.join().unwrap())
            .collect()
    })
}

/// Microseconds.
struct Round {
    cpu: f64,
    p50: f64,
    p99: f64,
}

struct Bench {
    client: Client,
    http2: http2::Caller,
    gate: Gate,
    key: SigningKey,
    party: Identity,
    issuer: AuthServer,
}

impl Bench {
    fn round(&self, kind: Kind, requests: usize) -> Round {
        // Proofs and tokens are made before the clock starts.
        let token = self.token(kind);
        let each = requests / CONNECTIONS / kind.rarer();
        let (cpu, mut times) = match kind {
            Kind::Http2 => {
                let path = format!("{AUDIENCE}{PATH}");
                let calls = || self.http2.call(&path, &token, CONNECTIONS, each);
                drop(self.http2.call(&path, &token, 1, 1));
                self.timed(calls)
            }
            Kind::Connection | Kind::Resumption => {
                let request = self.request(kind, &token);
                let resumed = matches!(kind, Kind::Resumption);
                let clients: Vec<_> = (0..CONNECTIONS)
                    .map(|_| match resumed {
                        true => self.client.clone().resuming(),
                        false => self.client.clone(),
                    })
                    .collect();
                let call = |client: &Client| {
                    let started = Instant::now();
                    let answer = client.call(&request).unwrap();
                    assert_eq!(answer.status, 200, "{}", answer.reason());
                    started.elapsed().as_secs_f64() * 1e6
                };
                for client in &clients {
                    call(client);
                }
                self.timed(|| at_once(&clients, |client| (0..each).map(|_| call(client)).collect()))
            }
            Kind::Open
            | Kind::Jwt
            | Kind::Unseen
            | Kind::Opaque
            | Kind::DpopJwt
            | Kind::DpopOpaque => {
                let work: Vec<Vec<Request>> = (0..CONNECTIONS)
                    .map(|_| (0..=each).map(|_| self.request(kind, &token)).collect())
                    .collect();
                let mut connections: Vec<_> = work
                    .iter()
                    .map(|requests| {
                        let mut connection = self.client.open().unwrap();
                        let answer = connection.call(&requests[0]).unwrap();
                        assert_eq!(answer.status, 200, "{}", kind.name());
                        (connection, requests)
                    })
                    .collect();
                self.timed(|| {
                    at_once_mut(&mut connections, |(connection, requests)| {
                        let call = |request: &Request| {
                            let started = Instant::now();
                            let answer = connection.call(request).unwrap();
                            assert_eq!(answer.status, 200, "{}", answer.reason());
                            started.elapsed().as_secs_f64() * 1e6
                        };
                        requests[1..].iter().map(call).collect()
                    })
                })
            }
        };
        times.sort_by(f64::total_cmp);
        Round {
            cpu: cpu.as_secs_f64() * 1e6 / times.len() as f64,
            p50: times[times.len() / 2],
            p99: times[times.len() * 99 / 100],
        }
    }

    /// What the gate spent on it.
    fn timed(&self, calls: impl FnOnce() -> Vec<f64>) -> (Duration, Vec<f64>) {
        let before = self.gate.cpu();
        let times = calls();
        (self.gate.cpu().saturating_sub(before), times)
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
            Kind::Jwt | Kind::Http2 | Kind::Connection | Kind::Resumption => {
                draft.sign(&self.issuer.key("PS256"))
            }
            // Another one for each request.
            Kind::Unseen => String::new(),
            Kind::Opaque => self.issuer.opaque(&draft),
            Kind::DpopJwt => dpop().sign(&self.issuer.key("PS256")),
            Kind::DpopOpaque => self.issuer.opaque(&dpop()),
        }
    }

    fn request(&self, kind: Kind, token: &str) -> Request {
        match kind {
            Kind::Open => Request::get("/open/1"),
            Kind::Jwt | Kind::Http2 | Kind::Opaque | Kind::Connection | Kind::Resumption => {
                Request::get(PATH).token(token)
            }
            Kind::Unseen => Request::get(PATH).token(&self.token(Kind::Jwt)),
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

/// The program, ended with the bench.
struct Gate {
    child: Child,
    address: SocketAddr,
}

impl Gate {
    fn start(config: &Path) -> Self {
        let given = std::env::var_os("PORTCULLIS_BENCHED");
        let program = given.unwrap_or_else(|| env!("CARGO_BIN_EXE_portcullis").into());
        let mut child = Command::new(program)
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
