//! The API behind the gate: answers with what reached it, keeps it, and misbehaves when a request
//! says so in `x-lab`. Plain sockets and threads, so that every byte is ours.
//!
//! | `x-lab` | what it does |
//! |---|---|
//! | `status:N` | answers with that status |
//! | `raw:B` | sends these bytes (base64url) instead of an answer and closes |
//! | `raw-keep:B` | the same, and keeps the connection |
//! | `wide:N` | answers with a field of that many bytes |
//! | `close` | closes without an answer, once the request was read as a whole |
//! | `close-early` | closes after the head |
//! | `early` | answers before the body is read, then closes |
//! | `late:MS` | answers after that time |
//! | `hold:NAME` | answers when [`Legacy::release`] is told the name |
//! | `echo` | sends the body back piece by piece, as it comes |
//! | `drip:N:MS` | sends N pieces, with that pause between them |
//! | `endless` | sends pieces until nobody takes them any more |
//! | `trailers` | answers in chunks, with trailers |

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

use super::http1::{Framing, Head, Reader, request_framing};
use super::pki::{Identity, Pki};

/// An API that answers 200 with this body to whatever has none, as quickly as a thread can: for
/// those who measure what stands before it.
pub(crate) fn with_one_answer(body: &str) -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
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

/// A request that reached the API.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Number of the connection that it came on.
    pub(crate) connection: usize,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) version: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// Whether the body came to its end.
    pub(crate) complete: bool,
    /// What a strict reader objects to.
    pub(crate) flaws: Vec<String>,
}

impl Seen {
    /// Every value of a field.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The only value of a field; none where it is absent. Panics where it is repeated.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} is repeated: {all:?}");
        all.first().copied()
    }
}

#[derive(Default)]
struct Log {
    seen: Vec<Seen>,
    released: HashSet<String>,
    reachable: bool,
}

#[derive(Default)]
struct Shared {
    log: Mutex<Log>,
    changed: Condvar,
    connections: AtomicUsize,
    open: AtomicUsize,
    sent: AtomicU64,
}

/// A running API. It lives as long as the process does.
pub(crate) struct Legacy {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

impl Legacy {
    /// Starts in plain text.
    pub(crate) fn start() -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").unwrap(), None)
    }

    /// Starts with TLS, and asks for a certificate of the client authority.
    pub(crate) fn start_tls(pki: &Pki, identity: &Identity) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(pki.client_ca()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), super::provider())
                .build()
                .unwrap();
        let mut config = ServerConfig::builder_with_provider(super::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(identity.chain.clone(), identity.key())
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::listen(socket, Some(Arc::new(config)))
    }

    fn listen(socket: TcpListener, tls: Option<Arc<ServerConfig>>) -> Self {
        let shared = Arc::new(Shared::default());
        shared.log.lock().unwrap().reachable = true;
        let legacy = Self {
            address: socket.local_addr().unwrap(),
            shared: Arc::clone(&shared),
        };
        std::thread::spawn(move || {
            for stream in socket.incoming().flatten() {
                if !shared.log.lock().unwrap().reachable {
                    continue;
                }
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                std::thread::spawn(move || {
                    shared.open.fetch_add(1, Ordering::SeqCst);
                    // A client that leaves, or a fault that was asked for: both are expected.
                    drop(shared.serve(stream, tls));
                    shared.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        legacy
    }

    /// For a configuration file.
    pub(crate) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.address)
    }

    /// How many requests came.
    pub(crate) fn count(&self) -> usize {
        self.shared.log.lock().unwrap().seen.len()
    }

    /// How many connections came.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// How many bytes of endless answers were taken.
    pub(crate) fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::SeqCst)
    }

    /// Whether new connections are served; else they are closed at once.
    pub(crate) fn reachable(&self, reachable: bool) {
        self.shared.log.lock().unwrap().reachable = reachable;
    }

    /// Lets the requests that were told `hold:NAME` be answered.
    pub(crate) fn release(&self, name: &str) {
        let mut log = self.shared.log.lock().unwrap();
        log.released.insert(name.to_owned());
        self.shared.changed.notify_all();
    }

    /// The requests from this number on.
    pub(crate) fn since(&self, number: usize) -> Vec<Seen> {
        self.shared.log.lock().unwrap().seen[number..].to_vec()
    }

    /// The requests with this `x-case`.
    pub(crate) fn seen(&self, case: &str) -> Vec<Seen> {
        let log = self.shared.log.lock().unwrap();
        let mut seen = log.seen.clone();
        seen.retain(|seen| seen.all("x-case") == [case]);
        seen
    }

    /// The only request with this `x-case`.
    pub(crate) fn only(&self, case: &str) -> Seen {
        let mut seen = self.seen(case);
        assert_eq!(seen.len(), 1, "requests of case {case} that went through");
        seen.remove(0)
    }

    /// Waits until a request with this `x-case` came, and `fits`.
    pub(crate) fn await_seen(&self, case: &str, fits: impl Fn(&Seen) -> bool) -> Seen {
        let until = Instant::now() + Duration::from_secs(10);
        let mut log = self.shared.log.lock().unwrap();
        loop {
            let found = log
                .seen
                .iter()
                .find(|seen| seen.all("x-case") == [case] && fits(seen));
            if let Some(seen) = found {
                return seen.clone();
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no such request of case {case} in time");
            log = self.shared.changed.wait_timeout(log, left).unwrap().0;
        }
    }
}

enum Pipe {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(into),
            Self::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream, tls: Option<Arc<ServerConfig>>) -> io::Result<()> {
        let connection = self.connections.fetch_add(1, Ordering::SeqCst) + 1;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let pipe = match tls {
            None => Pipe::Plain(stream),
            Some(config) => {
                let session = ServerConnection::new(config).map_err(io::Error::other)?;
                Pipe::Tls(Box::new(StreamOwned::new(session, stream)))
            }
        };
        let mut reader = Reader::new(pipe);
        loop {
            match reader.head() {
                Ok(None) => return Ok(()),
                Ok(Some(head)) => {
                    if !self.request(&mut reader, head, connection)? {
                        return Ok(());
                    }
                }
                Err(error) => {
                    // Half a head is a request that a smuggler left behind.
                    if !reader.rest().is_empty() {
                        self.push(Seen {
                            connection,
                            target: String::from_utf8_lossy(reader.rest()).into_owned(),
                            flaws: vec![format!("an unfinished head: {error}")],
                            ..Seen::default()
                        });
                    }
                    return Err(error);
                }
            }
        }
    }

    fn push(&self, seen: Seen) -> usize {
        let mut log = self.log.lock().unwrap();
        log.seen.push(seen);
        self.changed.notify_all();
        log.seen.len() - 1
    }

    fn change(&self, at: usize, change: impl FnOnce(&mut Seen)) {
        change(&mut self.log.lock().unwrap().seen[at]);
        self.changed.notify_all();
    }

    /// Whether the connection stays.
    fn request(
        &self,
        reader: &mut Reader<Pipe>,
        mut head: Head,
        connection: usize,
    ) -> io::Result<bool> {
        let framing = request_framing(&mut head);
        let mut start = head.start.split(' ');
        let mut word = || start.next().unwrap_or_default().to_owned();
        let mut seen = Seen {
            connection,
            method: word(),
            target: word(),
            version: word(),
            fields: head.fields.clone(),
            flaws: head.flaws.clone(),
            ..Seen::default()
        };
        if seen.version != "HTTP/1.1" || start.next().is_some() {
            seen.flaws.push(format!("request line {:?}", head.start));
        }
        if head.all("host").count() != 1 {
            seen.flaws.push("not exactly one Host".to_owned());
        }
        let at = self.push(seen.clone());
        let what = head.field("x-lab").unwrap_or_default().to_owned();
        let (what, more) = what.split_once(':').unwrap_or((&what, ""));
        if what == "close-early" {
            return Ok(false);
        }
        if what == "early" {
            reader.io().write_all(
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nearly",
            )?;
            return Ok(false);
        }
        let websocket = head.field("upgrade");
        if websocket.is_some_and(|value| value.eq_ignore_ascii_case("websocket")) {
            return self.websocket(reader, &head);
        }
        if head.field("expect").is_some() && framing != Framing::None {
            reader.io().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if what == "echo" {
            return self.echo(reader, framing, at);
        }
        if let Err(error) = self.read_body(reader, framing, at) {
            self.change(at, |seen| seen.flaws.push(format!("body: {error}")));
            return Err(error);
        }
        let wait = |text: &str| Duration::from_millis(text.parse().unwrap_or(0));
        match what {
            "raw" | "raw-keep" => {
                let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
                let bytes = engine.decode(more).map_err(io::Error::other)?;
                reader.io().write_all(&bytes)?;
                reader.io().flush()?;
                return Ok(what == "raw-keep");
            }
            "wide" => {
                let field = "b".repeat(more.parse().unwrap_or(0));
                let head = format!("HTTP/1.1 200 OK\r\nX-A: {field}\r\nContent-Length: 0\r\n\r\n");
                reader.io().write_all(head.as_bytes())?;
                return Ok(true);
            }
            "close" => return Ok(false),
            "late" => std::thread::sleep(wait(more)),
            "hold" => {
                let log = self.log.lock().unwrap();
                let limit = Duration::from_secs(30);
                let held = |log: &mut Log| !log.released.contains(more);
                drop(self.changed.wait_timeout_while(log, limit, held).unwrap());
            }
            "drip" => {
                let (pieces, pause) = more.split_once(':').unwrap_or((more, "0"));
                let pieces: usize = pieces.parse().unwrap_or(1);
                reader
                    .io()
                    .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                for piece in 0..pieces {
                    if piece > 0 {
                        std::thread::sleep(wait(pause));
                    }
                    let piece = format!("piece {piece:05}\n");
                    write!(reader.io(), "{:x}\r\n{piece}\r\n", piece.len())?;
                    reader.io().flush()?;
                }
                reader.io().write_all(b"0\r\n\r\n")?;
                return Ok(true);
            }
            "endless" => {
                let piece = [b'x'; 16 * 1024];
                reader
                    .io()
                    .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                loop {
                    write!(reader.io(), "{:x}\r\n", piece.len())?;
                    reader.io().write_all(&piece)?;
                    reader.io().write_all(b"\r\n")?;
                    self.sent.fetch_add(16 * 1024, Ordering::SeqCst);
                }
            }
            "trailers" => {
                reader.io().write_all(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\
                      Trailer: x-checksum, x-fapi-interaction-id\r\n\r\n\
                      5\r\nhello\r\n0\r\nx-checksum: 42\r\nx-fapi-interaction-id: forged\r\n\
                      content-length: 7\r\n\r\n",
                )?;
                return Ok(true);
            }
            _ => {}
        }
        let status = if what == "status" { more } else { "200" };
        self.answer(reader, at, status)?;
        Ok(!head.all("connection").any(|value| value == "close"))
    }

    fn read_body(&self, reader: &mut Reader<Pipe>, framing: Framing, at: usize) -> io::Result<()> {
        let (body, trailers) = reader.body(framing)?;
        self.change(at, |seen| {
            seen.body = body;
            seen.trailers = trailers;
            seen.complete = true;
        });
        Ok(())
    }

    /// The usual answer: what came, as JSON. It has no `Date`, as old APIs often do not.
    fn answer(&self, reader: &mut Reader<Pipe>, at: usize, status: &str) -> io::Result<()> {
        let seen = self.log.lock().unwrap().seen[at].clone();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &seen.body);
        let fields: HashMap<String, &str> = seen
            .fields
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
            .collect();
        let body = json!({
            "method": seen.method,
            "target": seen.target,
            "headers": fields,
            "body_bytes": seen.body.len(),
            "body_sha256": super::base64url(digest.as_ref()),
        })
        .to_string();
        let content = if seen.method == "HEAD" || status == "204" || status == "304" {
            ""
        } else {
            &body
        };
        let length = if status == "204" {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        let answer = format!(
            "HTTP/1.1 {status} Said so\r\nContent-Type: application/json\r\n{length}\
             Server: legacy\r\nX-Legacy: one\r\nX-Legacy: two\r\n\r\n{content}"
        );
        reader.io().write_all(answer.as_bytes())?;
        reader.io().flush()
    }

    fn echo(&self, reader: &mut Reader<Pipe>, framing: Framing, at: usize) -> io::Result<bool> {
        reader
            .io()
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        if framing != Framing::Chunked {
            self.read_body(reader, framing, at)?;
            reader.io().write_all(b"0\r\n\r\n")?;
            return Ok(true);
        }
        loop {
            let piece = reader.chunk()?;
            if piece.is_empty() {
                let trailers = reader.trailers()?;
                self.change(at, |seen| {
                    seen.trailers = trailers;
                    seen.complete = true;
                });
                reader.io().write_all(b"0\r\n\r\n")?;
                return Ok(true);
            }
            self.change(at, |seen| seen.body.extend_from_slice(&piece));
            write!(reader.io(), "{:x}\r\n", piece.len())?;
            reader.io().write_all(&piece)?;
            reader.io().write_all(b"\r\n")?;
            reader.io().flush()?;
        }
    }

    /// Accepts (RFC 6455 s4.2.2) and sends every byte back.
    fn websocket(&self, reader: &mut Reader<Pipe>, head: &Head) -> io::Result<bool> {
        const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
        let key = head.field("sec-websocket-key").unwrap_or_default();
        let digest = aws_lc_rs::digest::digest(
            &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
            format!("{key}{GUID}").as_bytes(),
        );
        let accept = base64::engine::general_purpose::STANDARD.encode(digest);
        write!(
            reader.io(),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        )?;
        loop {
            let early = reader.rest().len();
            if early > 0 {
                let bytes = reader.exact(early)?;
                reader.io().write_all(&bytes)?;
                reader.io().flush()?;
            } else if reader.fill()? == 0 {
                return Ok(false);
            }
        }
    }
}
