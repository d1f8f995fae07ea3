//! How much memory a connection holds that waits for its next request, by an allocator that counts:
//! most connections of a gate wait at any moment, so that this is what its memory is for.
//!
//! The program runs in a process of its own (this one again, told by [`SERVER`]), so that what the
//! clients hold is not counted. No number here is of time or of what the system gave the process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::let_underscore_must_use,
    reason = "a test fails by panicking, and may ask the time"
)]

#[path = "../examples/demo/lab/mod.rs"]
mod lab;

use std::alloc::System;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use lab::client::{Client, Request};
use lab::h2::Http2;
use lab::pki::{KeyKind, Pki, Shape};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Set in the environment of the process that is the program.
const SERVER: &str = "PORTCULLIS_MEMORY_TEST_SERVER";
/// What a line of the program begins with that says how much it holds.
const HELD: &str = "held=";
/// Connections that are open already: tables have their size, and a pool its connections.
const EARLIER: usize = 64;
const CONNECTIONS: usize = 192;
/// Requests of each connection of HTTP/2, whose table of fields remembers something of each answer.
const CALLS: usize = 8;
/// How long connections may take until they hold no more than they should.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of a connection with a client certificate that had a request and waits for another one.
const HTTP1: usize = 14 * 1024;
const HTTP2: usize = 52 * 1024;

fn main() -> ExitCode {
    if std::env::var_os(SERVER).is_some() {
        std::thread::spawn(|| {
            for _ in std::io::stdin().lines().map_while(Result::ok) {
                let stats = ALLOCATOR.stats();
                let held = stats.bytes_allocated - stats.bytes_deallocated;
                println!("{HELD}{held}");
            }
        });
        return portcullis::app::main();
    }
    // Those that list tests find none here; there are no names to choose from.
    if std::env::args().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::new(&folder.path().join("pki"));
    pki.server("server", &["api.bank.test"], KeyKind::Ec);
    let party = pki.client("client", Shape::Good);
    let config = folder.path().join("portcullis.toml");
    std::fs::write(&config, configuration(api())).unwrap();
    let mut gate = Gate::start(&config);
    let client = Client::new(gate.address, "api.bank.test", pki.server_ca()).with(&party);
    let request = Request::get("/open/1");
    let http1 = || {
        let mut connection = client.open().unwrap();
        assert_eq!(connection.call(&request).unwrap().status, 200);
        connection
    };
    let http2 = || {
        let mut connection = Http2::open(&client).unwrap();
        for _ in 0..CALLS {
            assert_eq!(connection.call(&request).unwrap().status, 200);
        }
        connection
    };
    gate.bounded("HTTP/1.1", HTTP1, http1);
    gate.bounded("HTTP/2", HTTP2, http2);
    ExitCode::SUCCESS
}

/// An API whose answers are of some size, with a field that none had before.
fn api() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let body = "x".repeat(4096);
    std::thread::spawn(move || {
        for mut stream in socket.incoming().flatten() {
            let body = body.clone();
            std::thread::spawn(move || {
                stream.set_nodelay(true).unwrap();
                let (mut buffer, mut held, mut count) = ([0; 16 * 1024], 0, 0);
                while let Ok(read @ 1..) = stream.read(&mut buffer[held..]) {
                    held += read;
                    if buffer[..held].ends_with(b"\r\n\r\n") {
                        (held, count) = (0, count + 1);
                        let length = body.len();
                        let answer = format!(
                            "HTTP/1.1 200 OK\r\nx-count: {count}\r\ncontent-length: {length}\r\n\r\n{body}"
                        );
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

fn configuration(api: SocketAddr) -> String {
    format!(
        r#"
workers = 1
[reload]
watch = "off"
[listener.bank]
address = "127.0.0.1:0"
public_url = "https://api.bank.test"
[listener.bank.tls]
certificate = "pki/server.pem"
private_key = "pki/server-key.pem"
client_ca = ["pki/clients-ca.pem"]
client_crl = ["pki/clients.crl.pem"]
[listener.bank.limits]
idle_timeout = "10m"
[upstream.core]
servers = ["http://{api}"]
plaintext = true
[[route]]
name = "open"
path = "/open/**"
methods = ["GET"]
upstream = "core"
open = true
"#
    )
}

/// The program, ended with the test.
struct Gate {
    child: Child,
    address: SocketAddr,
    held: Receiver<usize>,
}

impl Gate {
    fn start(config: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["run", "--config"])
            .arg(config)
            .env(SERVER, "")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready = lines
            .by_ref()
            .map_while(Result::ok)
            .inspect(|line| println!("{line}"))
            .find(|line| line.contains(" ready "))
            .expect("it gets ready");
        let address = ready
            .split_whitespace()
            .find_map(|word| word.strip_prefix("listener.bank=")?.parse().ok())
            .expect("an address");
        // Nobody reads what it says later, but somebody must.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let (to, held) = channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(bytes) = line.strip_prefix(HELD) {
                    let _ = to.send(bytes.parse().unwrap());
                }
            }
        });
        Self {
            child,
            address,
            held,
        }
    }

    /// Bytes that it holds.
    fn held(&mut self) -> usize {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(b"\n").unwrap();
        self.held.recv_timeout(PATIENCE).expect("a number")
    }

    /// The least that it holds within a time in which everything has come to rest, or until it is
    /// `enough`.
    fn least(&mut self, enough: usize, within: Duration) -> usize {
        let started = Instant::now();
        let mut least = usize::MAX;
        while least > enough && started.elapsed() < within {
            std::thread::sleep(Duration::from_millis(50));
            least = least.min(self.held());
        }
        least
    }

    /// Opens connections and sees what they hold when they are idle.
    fn bounded<C>(&mut self, name: &str, bound: usize, open: impl Fn() -> C) {
        let earlier: Vec<C> = (0..EARLIER).map(|_| open()).collect();
        // Those are to be idle as well before anything is compared with them.
        let before = self.least(0, Duration::from_secs(2));
        let connections: Vec<C> = (0..CONNECTIONS).map(|_| open()).collect();
        let enough = before + bound * CONNECTIONS;
        let after = self.least(enough, PATIENCE);
        let each = after.saturating_sub(before) / CONNECTIONS;
        println!("an idle connection of {name} holds {each} bytes; it may hold {bound}");
        assert!(each <= bound, "{name}: {each} bytes, above {bound}");
        drop((earlier, connections));
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
