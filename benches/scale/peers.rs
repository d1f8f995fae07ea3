//! The same load on the proxies that are installed here, one after the other in each round: nginx,
//! `HAProxy`, Apache httpd and Envoy as mutual-TLS proxies that check no token, and the gate that checks
//! everything. Each has one worker on the server's core and the same certificates; the configurations
//! stand in `peers/`.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::{Value, json};

use crate::load::{Caller, Heads, Hello, block_on, connect_over_and_over, saturate};
use crate::process::Process;
use crate::report::Report;
use crate::upstream::LARGE;
use crate::world::{Size, World, get, request};

/// A proxy, how it is called, and its configuration.
struct Kind {
    name: &'static str,
    program: &'static str,
    file: &'static str,
    arguments: &'static [&'static str],
    text: &'static str,
}

const KINDS: [Kind; 4] = [
    Kind {
        name: "nginx",
        program: "nginx",
        file: "nginx.conf",
        arguments: &["-c", "@FILE@", "-e", "@DIR@/nginx.err"],
        text: include_str!("peers/nginx.conf"),
    },
    Kind {
        name: "HAProxy",
        program: "haproxy",
        file: "haproxy.cfg",
        arguments: &["-db", "-f", "@FILE@"],
        text: include_str!("peers/haproxy.cfg"),
    },
    Kind {
        name: "Apache httpd",
        program: "apache2",
        file: "apache.conf",
        arguments: &["-D", "FOREGROUND", "-f", "@FILE@"],
        text: include_str!("peers/apache.conf"),
    },
    Kind {
        name: "Envoy",
        program: "envoy",
        file: "envoy.yaml",
        arguments: &[
            "-c",
            "@FILE@",
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "-l",
            "error",
        ],
        text: include_str!("peers/envoy.yaml"),
    },
];

/// What is measured, in the order of the columns.
const MEASURES: [&str; 5] = [
    "keep-alive",
    "new connection",
    "resumed",
    "10 MiB down",
    "10 MiB up",
];

struct Peer {
    name: &'static str,
    process: Process,
    /// The least of the rounds, microseconds.
    least: [f64; 5],
    resumed: usize,
    idle: f64,
}

pub(crate) fn peers(world: &World, report: &mut Report) {
    let key = &world.issuers(1, "PS256")[0];
    let token = world.token(0, key);
    let mut peers: Vec<Peer> = KINDS
        .iter()
        .filter_map(|kind| started(world, kind).map(|process| peer(kind.name, process)))
        .collect();
    peers.push(peer("Portcullis", world.gate(&Size::default())));
    let post = format!(
        "POST /large/1 HTTP/1.1\r\nHost: api.bank.test\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: {LARGE}\r\n\r\n"
    );
    let small = Heads::one(request(0, &token), 0);
    let down = Heads::one(get("/large/1", &token), 0);
    let up = Heads::one(post.into_bytes(), LARGE);
    for peer in &mut peers {
        peer.idle = block_on(idle(world, &peer.process, &small));
    }
    let rounds = world.many(7, 1);
    for round in 0..rounds {
        for turn in 0..peers.len() {
            let at = (turn + round) % peers.len();
            block_on(measure(world, &mut peers[at], &small, &down, &up));
        }
    }
    let reference = peers[0].least;
    let row = |peer: &Peer| {
        let mut row: Vec<Value> = vec![json!(peer.name)];
        for (spent, of) in peer.least.iter().zip(reference) {
            row.push(json!(spent));
            row.push(json!(spent / of));
        }
        row.push(json!(peer.resumed));
        row.push(json!(peer.idle));
        row
    };
    let mut columns = vec!["proxy"];
    for measure in MEASURES {
        columns.extend([measure, "ratio"]);
    }
    columns.extend(["sessions resumed", "KiB an idle connection"]);
    let rows: Vec<_> = peers.iter().map(row).collect();
    report.table(
        "peers",
        &format!("CPU, us each, {rounds} rounds in turn, the least"),
        &columns,
        &rows,
    );
}

const fn peer(name: &'static str, process: Process) -> Peer {
    Peer {
        name,
        process,
        least: [f64::MAX; 5],
        resumed: 0,
        idle: 0.0,
    }
}

async fn measure(
    world: &World,
    peer: &mut Peer,
    small: &Rc<Heads>,
    down: &Rc<Heads>,
    up: &Rc<Heads>,
) {
    let plain = world.caller(&peer.process, Hello::default());
    let again = world.caller(
        &peer.process,
        Hello {
            resume: true,
            hybrid: false,
        },
    );
    let (requests, connections, bodies) = (
        world.many(12_000, 400),
        world.many(400, 20),
        world.many(16, 2),
    );
    for measure in 0..MEASURES.len() {
        let links = match measure {
            0 => saturate(plain.open_many(32).await.unwrap(), small, 640).await,
            3 | 4 => saturate(plain.open_many(2).await.unwrap(), small, 4).await,
            _ => Vec::new(),
        };
        if measure == 2 {
            connect_over_and_over(&again, small, 8, 32).await;
            again.resumed();
        }
        let before = peer.process.cpu();
        let number = match measure {
            0 => {
                drop(saturate(links, small, requests).await);
                requests
            }
            1 => {
                connect_over_and_over(&plain, small, 8, connections).await;
                connections
            }
            2 => {
                connect_over_and_over(&again, small, 8, connections).await;
                peer.resumed += again.resumed();
                connections
            }
            3 => {
                drop(saturate(links, down, bodies).await);
                bodies
            }
            _ => {
                drop(saturate(links, up, bodies).await);
                bodies
            }
        };
        let spent = (peer.process.cpu() - before).as_secs_f64() * 1e6 / number as f64;
        peer.least[measure] = peer.least[measure].min(spent);
    }
}

/// KiB of each of many idle connections that had a request.
async fn idle(world: &World, process: &Process, heads: &Rc<Heads>) -> f64 {
    let caller: Caller = world.caller(process, Hello::default());
    let connections = world.many(1_000, 50);
    drop(saturate(caller.open_many(4).await.unwrap(), heads, 16).await);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let before = process.memory_kib();
    let mut links = Vec::new();
    for _ in 0..connections {
        let mut link = caller.open().await.unwrap();
        heads.call(&mut link).await.unwrap();
        links.push(link);
    }
    (process.memory_kib() as f64 - before as f64) / connections as f64
}

/// nginx, if it is installed.
pub(crate) fn nginx(world: &World) -> Option<Process> {
    started(world, &KINDS[0])
}

fn started(world: &World, kind: &Kind) -> Option<Process> {
    let program = installed(kind.program)?;
    let address = free();
    let certificate = std::fs::read_to_string(world.path("pki/server.pem")).unwrap();
    let key = std::fs::read_to_string(world.path("pki/server-key.pem")).unwrap();
    std::fs::write(world.path("pki/server-both.pem"), certificate + &key).unwrap();
    let folder = world.path("").display().to_string();
    let file = world.path(kind.file);
    let fill = |text: &str| {
        text.replace("@FILE@", &file.display().to_string())
            .replace("@DIR@", folder.trim_end_matches('/'))
            .replace("@PORT@", &address.port().to_string())
            .replace("@UP_PORT@", &world.api.port().to_string())
    };
    std::fs::write(&file, fill(kind.text)).unwrap();
    let arguments: Vec<String> = kind
        .arguments
        .iter()
        .map(|argument| fill(argument))
        .collect();
    let log = world.path(&format!("{}.log", kind.program));
    let process = Process::peer(&program, &arguments, address, &log);
    if process.is_none() {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        println!("{} is installed and did not start:\n{said}", kind.name);
    }
    process
}

fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin", "/usr/local/sbin"]);
    folders
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.is_file())
}

/// A port that is free now.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}
