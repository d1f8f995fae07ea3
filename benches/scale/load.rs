//! The load: connections of HTTP/1.1 over mutual TLS on one thread, as cheap as they can be made.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CipherSuite, ClientConfig, HandshakeKind, NamedGroup, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::lab::pki::Identity;

/// How a client connects.
#[derive(Clone)]
pub(crate) struct Caller {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    resumed: Rc<Cell<usize>>,
}

/// What a handshake is made with.
#[derive(Clone, Copy, Default)]
pub(crate) struct Hello {
    /// Whether X25519MLKEM768 is offered before X25519.
    pub(crate) hybrid: bool,
    /// Whether sessions are resumed.
    pub(crate) resume: bool,
}

impl Caller {
    /// TLS 1.3 with AES-128-GCM.
    pub(crate) fn new(
        address: SocketAddr,
        authority: CertificateDer<'static>,
        identity: &Identity,
        hello: Hello,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority).unwrap();
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.kx_groups.retain(|group| {
            group.name() == NamedGroup::X25519
                || hello.hybrid && group.name() == NamedGroup::X25519MLKEM768
        });
        provider
            .cipher_suites
            .retain(|suite| suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256);
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(identity.chain.clone(), identity.key())
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = if hello.resume {
            Resumption::in_memory_sessions(64)
        } else {
            Resumption::disabled()
        };
        Self {
            address,
            config: Arc::new(config),
            resumed: Rc::default(),
        }
    }

    /// Connections that resumed a session since this was last asked.
    pub(crate) fn resumed(&self) -> usize {
        self.resumed.take()
    }

    /// Connects; the handshake is over.
    pub(crate) async fn open(&self) -> io::Result<Link> {
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from("api.bank.test").unwrap();
        let stream = TlsConnector::from(Arc::clone(&self.config))
            .connect(name, socket)
            .await?;
        if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
            self.resumed.set(self.resumed.get() + 1);
        }
        Ok(Link {
            stream,
            buffer: vec![0; 4096],
            held: 0,
        })
    }

    /// So many connections, one after the other.
    pub(crate) async fn open_many(&self, connections: usize) -> io::Result<Vec<Link>> {
        let mut links = Vec::new();
        for _ in 0..connections {
            links.push(self.open().await?);
        }
        Ok(links)
    }
}

/// A connection.
pub(crate) struct Link {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
    held: usize,
}

impl Link {
    /// Sends a request with so many bytes of body and reads the answer: its status, and how long its
    /// body was.
    pub(crate) async fn call(&mut self, head: &[u8], mut body: usize) -> io::Result<(u16, usize)> {
        static FILLER: [u8; 64 * 1024] = [b'x'; 64 * 1024];
        self.stream.write_all(head).await?;
        while body > 0 {
            let piece = body.min(FILLER.len());
            self.stream.write_all(&FILLER[..piece]).await?;
            body -= piece;
        }
        self.stream.flush().await?;
        let end = loop {
            if let Some(at) = self.buffer[..self.held]
                .windows(4)
                .position(|four| four == b"\r\n\r\n")
            {
                break at + 4;
            }
            self.fill().await?;
        };
        let text = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        let status = text
            .get(9..12)
            .and_then(|digits| digits.parse().ok())
            .unwrap_or_default();
        let length =
            content_length(&text).ok_or_else(|| io::Error::other("an answer without a length"))?;
        let mut left = length.saturating_sub(self.held - end);
        self.held = 0;
        while left > 0 {
            if left > self.buffer.len() && self.buffer.len() < 64 * 1024 {
                self.buffer.resize(64 * 1024, 0);
            }
            left = left.saturating_sub(self.fill().await?);
            self.held = 0;
        }
        Ok((status, length))
    }

    async fn fill(&mut self) -> io::Result<usize> {
        let read = self.stream.read(&mut self.buffer[self.held..]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.held += read;
        Ok(read)
    }
}

/// The value of `Content-Length` in a head.
pub(crate) fn content_length(head: &str) -> Option<usize> {
    let mut lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
    value.trim().parse().ok()
}

/// A runtime of the bench's own thread.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, work)
}

/// Requests, of which each call takes one.
pub(crate) struct Heads {
    heads: Vec<Vec<u8>>,
    body: usize,
    state: Cell<u64>,
    in_turn: bool,
}

impl Heads {
    /// Taken at random, the same in every run.
    pub(crate) fn at_random(heads: Vec<Vec<u8>>) -> Rc<Self> {
        Rc::new(Self {
            heads,
            body: 0,
            state: Cell::new(0x9E37_79B9_7F4A_7C15),
            in_turn: false,
        })
    }

    /// Taken one after the other.
    pub(crate) fn in_turn(heads: Vec<Vec<u8>>) -> Rc<Self> {
        Rc::new(Self {
            heads,
            body: 0,
            state: Cell::new(0),
            in_turn: true,
        })
    }

    /// One, with so many bytes of body.
    pub(crate) fn one(head: Vec<u8>, body: usize) -> Rc<Self> {
        Rc::new(Self {
            heads: vec![head],
            body,
            state: Cell::new(0),
            in_turn: true,
        })
    }

    fn next(&self) -> &[u8] {
        let mut state = self.state.get();
        if self.in_turn {
            self.state.set(state + 1);
        } else {
            // xorshift: quick, and random enough to defeat a cache.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            self.state.set(state);
        }
        &self.heads[(state % self.heads.len() as u64) as usize]
    }

    /// One call.
    pub(crate) async fn call(&self, link: &mut Link) -> io::Result<usize> {
        let (status, length) = link.call(self.next(), self.body).await?;
        if status == 200 {
            Ok(length)
        } else {
            Err(io::Error::other(format!("status {status}")))
        }
    }
}

/// So many requests as fast as they are answered, over these connections, which are given back.
pub(crate) async fn saturate(links: Vec<Link>, heads: &Rc<Heads>, requests: usize) -> Vec<Link> {
    let left = Rc::new(Cell::new(requests));
    let tasks: Vec<_> = links
        .into_iter()
        .map(|mut link| {
            let (heads, left) = (Rc::clone(heads), Rc::clone(&left));
            tokio::task::spawn_local(async move {
                while let Some(less) = left.get().checked_sub(1) {
                    left.set(less);
                    heads.call(&mut link).await.unwrap();
                }
                link
            })
        })
        .collect();
    let mut links = Vec::new();
    for task in tasks {
        links.push(task.await.unwrap());
    }
    links
}

/// So many requests over each of these connections.
pub(crate) async fn evenly(links: Vec<Link>, heads: &Rc<Heads>, each: usize) -> Vec<Link> {
    let tasks: Vec<_> = links
        .into_iter()
        .map(|mut link| {
            let heads = Rc::clone(heads);
            tokio::task::spawn_local(async move {
                for _ in 0..each {
                    heads.call(&mut link).await.unwrap();
                }
                link
            })
        })
        .collect();
    let mut links = Vec::new();
    for task in tasks {
        links.push(task.await.unwrap());
    }
    links
}

/// So many connections, each for one request, so many at once.
pub(crate) async fn connect_over_and_over(
    caller: &Caller,
    heads: &Rc<Heads>,
    at_once: usize,
    connections: usize,
) {
    let left = Rc::new(Cell::new(connections));
    let tasks: Vec<_> = (0..at_once)
        .map(|_| {
            let (caller, heads, left) = (caller.clone(), Rc::clone(heads), Rc::clone(&left));
            tokio::task::spawn_local(async move {
                while let Some(less) = left.get().checked_sub(1) {
                    left.set(less);
                    let mut link = caller.open().await.unwrap();
                    heads.call(&mut link).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// Requests at a fixed rate whatever the answers do; each one's time from the moment it was due, in
/// microseconds, in order of size.
pub(crate) async fn at_rate(
    links: Vec<Link>,
    heads: &Rc<Heads>,
    a_second: u32,
    time: Duration,
) -> Vec<f64> {
    let each = Duration::from_secs(1) * u32::try_from(links.len()).unwrap() / a_second;
    let offset = Duration::from_secs(1) / a_second;
    let start = Instant::now() + Duration::from_millis(5);
    let tasks: Vec<_> = links
        .into_iter()
        .zip(0_u32..)
        .map(|(mut link, number)| {
            let heads = Rc::clone(heads);
            tokio::task::spawn_local(async move {
                let mut due = start + offset * number;
                let mut times = Vec::new();
                while due < start + time {
                    tokio::time::sleep_until(due.into()).await;
                    heads.call(&mut link).await.unwrap();
                    times.push(due.elapsed().as_secs_f64() * 1e6);
                    due += each;
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    times.sort_by(f64::total_cmp);
    times
}

/// The time that this part of all is within.
pub(crate) fn quantile(sorted: &[f64], part: f64) -> f64 {
    let at = (sorted.len() as f64 * part) as usize;
    sorted[at.min(sorted.len() - 1)]
}
