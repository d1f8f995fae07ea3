//! Accepting over loopback.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio_rustls::TlsConnector;

use super::*;
use crate::clock;
use crate::refusal::CloseReason;
use crate::tls::identity::Identity;
use crate::tls::{self, Current, Profile, ServerTls};

const HOST: &str = "api.bank.example";

#[derive(Default)]
struct Seen(Mutex<Vec<Over>>);

/// The listener, and what came of the handshake.
type Over = (Option<String>, Result<bool, CloseReason>);

impl Handshakes for Seen {
    fn over(&self, listener: Option<&Arc<str>>, result: Result<(bool, Duration), CloseReason>) {
        let result = result.map(|(resumed, _)| resumed);
        self.0
            .lock()
            .unwrap()
            .push((listener.map(|name| name.to_string()), result));
    }
}

struct Bench {
    address: SocketAddr,
    shared: Arc<Shared>,
    seen: Arc<Seen>,
    drain: Drain,
    client: Arc<ClientConfig>,
    /// What the served connections hold.
    permits: Rc<RefCell<Vec<Permit>>>,
    /// How many connections each worker served.
    served: Rc<RefCell<Vec<usize>>>,
    /// Those of workers that do not run.
    idle: Vec<Place<Accepted>>,
    done: tokio::task::JoinHandle<()>,
}

fn settings(connections: usize, handshake_timeout: Duration, identity: Arc<Identity>) -> Settings {
    Settings {
        name: "bank".into(),
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        hosts: vec![HOST.into()],
        ports: vec![443],
        default: true,
        disclose_reasons: false,
        tls: tls::Settings {
            listener: "bank".into(),
            identity,
            profile: Profile::Fapi2,
            client_certificate: tls::ClientCertificate::None,
            client_trust: tls::ClientTrust::Any,
            resumption: true,
            behind: None,
        },
        limits: limits(),
        connections,
        handshake_timeout,
        proxy_protocol: None,
    }
}

fn limits() -> crate::http::Limits {
    crate::http::Limits::default()
}

/// One worker that answers each connection with two octets and keeps it open.
fn start(connections: usize, handshake_timeout: Duration) -> Bench {
    start_some(connections, handshake_timeout, 1, 1)
}

/// So many workers, of which so many run.
fn start_some(
    connections: usize,
    handshake_timeout: Duration,
    workers: usize,
    running: usize,
) -> Bench {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![HOST.to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let (chain, key) = (certificate.pem(), key.serialize_pem());
    let identity = Arc::new(Identity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap());
    let settings = settings(connections, handshake_timeout, identity);
    let tls = ServerTls::build(&settings.tls, None).unwrap();
    let (address, sockets) = bind(settings.address, running).unwrap();
    let seen = Arc::new(Seen::default());
    let shared = Shared::new(
        address,
        Serving::new(vec![(Live::new(settings, None), Arc::clone(&tls))]),
        Current::new([tls]),
        clock::now,
        Arc::clone(&seen) as _,
    );
    let drain = Drain::new();
    let permits = Rc::new(RefCell::new(Vec::new()));
    let served = Rc::new(RefCell::new(vec![0; workers]));
    let serve = |number: usize| {
        let (permits, served) = (Rc::clone(&permits), Rc::clone(&served));
        move |mut secured: tls::Secured, live: Arc<Live>, permit| {
            assert_eq!(&*live.settings.name, "bank");
            permits.borrow_mut().push(permit);
            served.borrow_mut()[number] += 1;
            #[cfg(target_os = "linux")]
            {
                let socket = socket2::SockRef::from(secured.stream.get_ref().0);
                assert!(socket.tcp_congestion().unwrap().starts_with(b"reno"));
            }
            async move {
                secured.stream.write_all(b"ok").await.unwrap();
                secured.stream.flush().await.unwrap();
                drop(secured.stream.read(&mut [0; 1]).await);
            }
        }
    };
    let mut places = Balance::new(workers).places();
    let idle = places.split_off(running);
    let loops: Vec<_> = std::iter::zip(sockets, places)
        .enumerate()
        .map(|(number, (socket, place))| {
            let (shared, drain) = (Arc::clone(&shared), drain.clone());
            accept_loop(socket, place, shared, drain, serve(number))
        })
        .collect();
    let done = tokio::task::spawn_local(async move {
        futures_util::future::join_all(loops).await;
    });
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(tls::provider(Profile::Fapi2))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Bench {
        address,
        shared,
        seen,
        drain,
        client: Arc::new(client),
        permits,
        served,
        idle,
        done,
    }
}

impl Bench {
    async fn visit(&self) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        self.greet(TcpStream::connect(self.address).await?).await
    }

    async fn greet(
        &self,
        stream: TcpStream,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let name = ServerName::try_from(HOST).unwrap();
        let mut stream = TlsConnector::from(Arc::clone(&self.client))
            .connect(name, stream)
            .await?;
        stream.read_exact(&mut [0; 2]).await?;
        Ok(stream)
    }

    fn seen(&self) -> Vec<Over> {
        std::mem::take(&mut *self.seen.0.lock().unwrap())
    }
}

async fn local<F: Future<Output = ()>>(test: F) {
    LocalSet::new().run_until(test).await;
}

fn bank() -> Option<String> {
    Some("bank".to_owned())
}

#[tokio::test]
async fn connections_are_counted_against_the_listener_and_given_back() {
    local(async {
        let bench = start(2, Duration::from_secs(10));
        let first = bench.visit().await.unwrap();
        let second = bench.visit().await.unwrap();
        assert_eq!(bench.shared.live("bank").unwrap().open(), 2);
        assert_eq!(bench.drain.count(), 2);
        assert!(bench.visit().await.is_err());
        let limit = Err(CloseReason::ConnectionLimit);
        assert_eq!(
            bench.seen(),
            [(bank(), Ok(false)), (bank(), Ok(true)), (bank(), limit)]
        );
        bench.permits.borrow_mut().pop();
        assert_eq!(bench.shared.live("bank").unwrap().open(), 1);
        bench.visit().await.unwrap();
        drop((first, second));
    })
    .await;
}

#[tokio::test]
async fn a_reload_goes_on_counting() {
    local(async {
        let bench = start(1, Duration::from_secs(10));
        let _first = bench.visit().await.unwrap();
        let before = bench.shared.live("bank").unwrap();
        let tls = bench.shared.current().of("bank").unwrap();
        let mut more = before.settings.clone();
        more.connections = 2;
        let after = Live::new(more, Some(&before));
        bench
            .shared
            .replace(Serving::new(vec![(Arc::clone(&after), tls)]));
        let _second = bench.visit().await.unwrap();
        assert_eq!((after.open(), before.open()), (2, 2));
        assert!(bench.visit().await.is_err());
    })
    .await;
}

#[tokio::test]
async fn silent_clients_are_bounded_in_number_and_time() {
    local(async {
        let bench = start(1, Duration::from_millis(100));
        let mut silent = TcpStream::connect(bench.address).await.unwrap();
        let mut second = TcpStream::connect(bench.address).await.unwrap();
        // Above the bound: closed at once. Below: closed when its time is over.
        drop(second.read(&mut [0; 1]).await);
        assert_eq!(bench.seen(), [(None, Err(CloseReason::ConnectionLimit))]);
        drop(silent.read(&mut [0; 1]).await);
        assert_eq!(bench.seen(), [(None, Err(CloseReason::HandshakeTimeout))]);
        // Their places are free again.
        bench.visit().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn draining_ends_the_loop_and_waits_for_what_is_open() {
    local(async {
        let bench = start(2, Duration::from_secs(10));
        let _open = bench.visit().await.unwrap();
        bench.drain.begin();
        bench.done.await.unwrap();
        assert!(TcpStream::connect(bench.address).await.is_err());
        assert!(!bench.drain.finished(Duration::from_millis(20)).await);
        bench.permits.borrow_mut().clear();
        assert!(bench.drain.finished(Duration::from_secs(10)).await);
    })
    .await;
}

#[tokio::test]
async fn what_the_kernel_had_taken_before_draining_is_served() {
    local(async {
        let bench = start(2, Duration::from_secs(10));
        let stream = TcpStream::connect(bench.address).await.unwrap();
        // The loop has not run since: this connection waits in the kernel's queue.
        bench.drain.begin();
        bench.greet(stream).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn connections_are_shared_out_evenly() {
    local(async {
        let bench = start_some(100, Duration::from_secs(10), 2, 2);
        let mut open = Vec::new();
        for _ in 0..12 {
            open.push(bench.visit().await.unwrap());
            let served = bench.served.borrow();
            // Whichever socket the kernel chose.
            assert!(served[0].abs_diff(served[1]) <= 1, "{served:?}");
        }
        assert_eq!(bench.shared.live("bank").unwrap().open(), 12);
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_is_no_more_is_given_nothing() {
    local(async {
        let mut bench = start_some(100, Duration::from_secs(10), 2, 1);
        bench.idle.clear();
        for _ in 0..6 {
            drop(bench.visit().await.unwrap());
        }
        assert_eq!(*bench.served.borrow(), [6, 0]);
        assert_eq!(bench.seen().len(), 6, "each handshake is told of once");
    })
    .await;
}

#[tokio::test]
async fn what_was_given_before_draining_is_served() {
    local(async {
        let mut bench = start_some(100, Duration::from_secs(10), 2, 1);
        let _first = bench.visit().await.unwrap();
        let second = TcpStream::connect(bench.address).await.unwrap();
        // The worker that runs gives it away; the other begins when all is over.
        while bench.idle[0].is_empty() {
            tokio::task::yield_now().await;
        }
        bench.drain.begin();
        let (_, mut sockets) = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1).unwrap();
        let serve = |mut secured: tls::Secured, _, permit| async move {
            secured.stream.write_all(b"ok").await.unwrap();
            secured.stream.flush().await.unwrap();
            drop(permit);
        };
        tokio::task::spawn_local(accept_loop(
            sockets.remove(0),
            bench.idle.remove(0),
            Arc::clone(&bench.shared),
            bench.drain.clone(),
            serve,
        ));
        bench.greet(second).await.unwrap();
        assert_eq!(*bench.served.borrow(), [1, 0]);
    })
    .await;
}

#[tokio::test]
async fn a_port_is_shared_by_our_workers_and_by_nobody_else() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (address, sockets) = bind(any, 3).unwrap();
    assert_eq!(sockets.len(), 3);
    assert!(
        sockets
            .iter()
            .all(|socket| socket.local_addr().unwrap() == address)
    );
    assert_eq!(
        bind(address, 1).unwrap_err().kind(),
        std::io::ErrorKind::AddrInUse
    );
    drop(sockets);
    bind(address, 1).unwrap();
}
