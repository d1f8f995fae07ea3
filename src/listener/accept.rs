//! Bind, accept, handshake, and on to whoever serves.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout_at};

use super::ProxyProtocol;
use super::balance::{Place, Seat};
use super::drain::Drain;
use super::log::FailureLog;
use super::permits::{Live, Nameless, Permit, Serving, Shared};
use super::proxy_protocol::{self, Header};
use super::turns::Turns;
use crate::loopback;
use crate::refusal::CloseReason;
use crate::tls::{Ends, Failed, Secured, greet};

/// Connections that the kernel holds until they are accepted; it lowers this to `somaxconn`.
const BACKLOG: i32 = 4096;
/// Pause where the process or the system has no more descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Connections that are accepted until others have their turn: one at a time costs a wake-up for each, all that
/// wait would all be handshakes before a request is looked at.
const AT_ONCE: usize = 8;
/// Connections that are still taken from the kernel's queue once draining began.
const LAST_ACCEPTS: usize = BACKLOG as usize;

/// Binds one `SO_REUSEPORT` socket per worker thread, listening. Returns the bound address:
/// port 0 is resolved once, and all have the same.
///
/// # Errors
/// Those of the system; also where anybody else, another instance included, listens there.
/// `SO_REUSEPORT` alone would share the port with it in silence.
pub fn bind(
    address: SocketAddr,
    workers: usize,
) -> io::Result<(SocketAddr, Vec<std::net::TcpListener>)> {
    if address.port() != 0 {
        socket(address, false)?;
    }
    let first = listen(socket(address, true)?)?;
    let bound = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(listen(socket(bound, true)?)?);
    }
    Ok((bound, sockets))
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // Connections of an earlier run in TIME_WAIT do not keep us from starting.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listen(socket: Socket) -> io::Result<std::net::TcpListener> {
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A connection on its way from the worker that accepted it to the one that has the fewest.
#[derive(Debug)]
pub struct Accepted {
    stream: std::net::TcpStream,
    remote: SocketAddr,
    counted: Counted,
}

/// The places that a connection takes before anything is known of it.
#[derive(Debug)]
struct Counted {
    serving: Arc<Serving>,
    nameless: Nameless,
    seat: Seat,
    at: Instant,
}

/// One worker's accept loop on one address: accept, count, give away what another worker should
/// have, handshake in bounded time, then `serve` as a task of the `LocalSet` that this runs on.
/// `serve` keeps the [`Permit`] for as long as the connection is open.
///
/// Ends when `drain` fires, after the connections that the kernel had already taken and those that
/// other workers had given. No error of accept ends it.
pub async fn accept_loop<S, F>(
    socket: std::net::TcpListener,
    mut place: Place<Accepted>,
    shared: Arc<Shared>,
    drain: Drain,
    serve: S,
) where
    S: Fn(Secured, Arc<Live>, Permit) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(address = %shared.address(), %error, "cannot accept here");
            return;
        }
    };
    let worker = Rc::new(Worker {
        shared,
        drain,
        serve,
        log: FailureLog::default(),
        turns: Rc::default(),
    });
    let mut accepted_at_once = 0;
    loop {
        tokio::select! {
            biased;
            () = worker.drain.wait() => break,
            given = place.given() => worker.receive(given),
            accepted = listener.accept() => match accepted {
                Ok((stream, remote)) => {
                    worker.accepted(stream, remote, &place);
                    accepted_at_once += 1;
                    if accepted_at_once == AT_ONCE {
                        accepted_at_once = 0;
                        // The others wait as well in the kernel's queue as in ours.
                        tokio::task::yield_now().await;
                    }
                }
                Err(error) => back_off(&error).await,
            },
        }
    }
    for _ in 0..LAST_ACCEPTS {
        // Clients whose connection the kernel has taken believe that they are connected: they
        // get an answer, and a reset only those that come later.
        match futures_util::FutureExt::now_or_never(listener.accept()) {
            Some(Ok((stream, remote))) => worker.keep(stream, remote, place.seat_here()),
            Some(Err(_)) | None => break,
        }
    }
    while let Some(given) = place.last() {
        worker.receive(given);
    }
}

/// A connection that broke before it was accepted is none of ours; where descriptors or memory
/// ran out, trying again at once would only burn the processor.
async fn back_off(error: &io::Error) {
    match error.kind() {
        io::ErrorKind::ConnectionAborted
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionRefused
        | io::ErrorKind::Interrupted => {}
        _ => {
            tracing::warn!(%error, "cannot accept connections");
            sleep(BACK_OFF).await;
        }
    }
}

struct Worker<S> {
    shared: Arc<Shared>,
    drain: Drain,
    serve: S,
    log: FailureLog,
    turns: Rc<Turns>,
}

impl<S, F> Worker<S>
where
    S: Fn(Secured, Arc<Live>, Permit) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    /// Takes an accepted connection, or gives it to the worker that should have it.
    fn accepted(self: &Rc<Self>, stream: TcpStream, remote: SocketAddr, place: &Place<Accepted>) {
        let seat = place.seat();
        if place.is_here(&seat) {
            self.keep(stream, remote, seat);
            return;
        }
        let Some(counted) = self.count(remote, seat) else {
            return;
        };
        // Out of this thread's poller, which alone would hear of it.
        let stream = match stream.into_std() {
            Ok(stream) => stream,
            Err(error) => {
                self.refused(remote, &broken(&error));
                return;
            }
        };
        let to = counted.seat.number();
        let accepted = Accepted {
            stream,
            remote,
            counted,
        };
        if let Err(mut back) = place.give(to, accepted) {
            // That worker drains already, or is no more.
            back.counted.seat = place.seat_here();
            self.receive(back);
        }
    }

    /// Takes what another worker accepted.
    fn receive(self: &Rc<Self>, accepted: Accepted) {
        let Accepted {
            stream,
            remote,
            counted,
        } = accepted;
        match TcpStream::from_std(stream) {
            Ok(stream) => self.begin(stream, remote, counted),
            Err(error) => self.refused(remote, &broken(&error)),
        }
    }

    /// Takes an accepted connection.
    fn keep(self: &Rc<Self>, stream: TcpStream, remote: SocketAddr, seat: Seat) {
        if let Some(counted) = self.count(remote, seat) {
            self.begin(stream, remote, counted);
        }
    }

    /// Its places; `None`, and the connection closed, where there is none.
    fn count(&self, remote: SocketAddr, seat: Seat) -> Option<Counted> {
        let serving = self.shared.serving();
        let Some(nameless) = Nameless::take(&self.shared, &serving, &self.drain) else {
            let detail = "too many connections have not named their listener".to_owned();
            self.refused(remote, &limit(None, detail));
            return None;
        };
        Some(Counted {
            serving,
            nameless,
            seat,
            at: Instant::now(),
        })
    }

    /// Begins a task for a connection.
    fn begin(self: &Rc<Self>, stream: TcpStream, remote: SocketAddr, counted: Counted) {
        let Counted {
            serving,
            nameless,
            seat,
            at,
        } = counted;
        let worker = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let remote = Cell::new(remote);
            // Boxed, so that its room is free again while the connection is served.
            let secure = Box::pin(worker.secure(stream, &remote, &serving, (nameless, seat)));
            match worker.turns.pace(secure).await {
                Ok((secured, live, permit)) => {
                    let listener = Some(&live.settings.name);
                    worker
                        .shared
                        .over(listener, Ok((secured.resumed, at.elapsed())));
                    drop(serving);
                    (worker.serve)(secured, live, permit).await;
                }
                Err(failed) => worker.refused(remote.get(), &failed),
            }
        });
    }

    /// `remote` is the TCP peer, and the client once a load balancer named it.
    async fn secure(
        &self,
        mut stream: TcpStream,
        remote: &Cell<SocketAddr>,
        serving: &Serving,
        (nameless, seat): (Nameless, Seat),
    ) -> Result<(Secured, Arc<Live>, Permit), Failed> {
        loopback::accepted(&stream, remote.get());
        let local = match stream.set_nodelay(true).and_then(|()| stream.local_addr()) {
            Ok(local) => local,
            Err(error) => return Err(broken(&error)),
        };
        let mut ends = Ends::direct(remote.get(), local);
        if let Some(settings) = &serving.proxy_protocol {
            let due = ends.accepted + serving.directory.patience();
            if let Some(client) = announced(&mut stream, settings, ends.transport, due).await? {
                remote.set(client);
                ends.remote = client;
            }
        }
        let greeted = greet(stream, ends, &serving.directory).await?;
        let listener = Arc::clone(greeted.listener());
        let (live, permit) = nameless.named(serving, &listener, seat).ok_or_else(|| {
            limit(
                Some(listener),
                "all connections of the listener are taken".to_owned(),
            )
        })?;
        let secured = greeted
            .secure(self.shared.current(), self.shared.now())
            .await?;
        Ok((secured, live, permit))
    }

    fn refused(&self, remote: SocketAddr, failed: &Failed) {
        self.shared
            .over(failed.listener.as_ref(), Err(failed.reason));
        self.log.line(remote, failed);
    }
}

/// The client that a load balancer names in front of the `ClientHello`; `None` where it names none.
async fn announced(
    stream: &mut TcpStream,
    settings: &ProxyProtocol,
    transport: IpAddr,
    due: tokio::time::Instant,
) -> Result<Option<SocketAddr>, Failed> {
    let failed = |reason, detail| Failed {
        reason,
        listener: None,
        detail,
    };
    if !settings.lists(transport) {
        let detail = format!("{transport} is not in proxy_protocol.from");
        return Err(failed(CloseReason::ProxySourceUnlisted, detail));
    }
    match timeout_at(due, proxy_protocol::read(stream)).await {
        Ok(Ok(Header::Client { source, .. })) => Ok(Some(source)),
        Ok(Ok(Header::Local | Header::Unspecified)) => Ok(None),
        Ok(Err(failure)) => {
            let detail = failure.to_string();
            Err(failed(CloseReason::ProxyHeaderInvalid, detail))
        }
        Err(_elapsed) => {
            let detail = "no whole PROXY protocol header came".to_owned();
            Err(failed(CloseReason::HandshakeTimeout, detail))
        }
    }
}

/// A connection that was lost before anything came of it.
fn broken(error: &io::Error) -> Failed {
    Failed {
        reason: CloseReason::HandshakeFailed,
        listener: None,
        detail: error.to_string(),
    }
}

fn limit(listener: Option<Arc<str>>, detail: String) -> Failed {
    Failed {
        reason: CloseReason::ConnectionLimit,
        listener,
        detail,
    }
}
