//! HTTP/2 towards a server: few connections with many streams each.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout_at};

use super::connect::{ConnectError, connect};
use super::local::Local;
use super::shared::Open;
use super::upload::Upload;
use crate::refusal::Reason;

/// Streams of one connection, whatever more the server allows; where it allows fewer, the others
/// wait their turn inside h2.
const STREAMS: usize = 100;
/// Octets of a stream that the server may send ahead of the client, and of all streams.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Octets of an answer's header section.
const HEADERS: u32 = 64 * 1024;
/// A connection with streams is asked whether it lives, this often, and has this long to say so.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that several requests share.
pub(super) struct Multiplexed {
    sender: RefCell<SendRequest<Upload>>,
    active: Cell<usize>,
    idle_since: Cell<Instant>,
}

impl Multiplexed {
    pub(super) fn is_closed(&self) -> bool {
        self.sender.borrow().is_closed()
    }

    pub(super) fn has_room(&self) -> bool {
        !self.is_closed() && self.active.get() < STREAMS
    }

    /// When it should be looked at again.
    pub(super) fn expiry(&self, limit: Duration) -> Instant {
        if self.active.get() > 0 {
            Instant::now() + limit
        } else {
            self.idle_since.get() + limit
        }
    }

    pub(super) fn is_expired(&self, limit: Duration) -> bool {
        self.active.get() == 0 && self.idle_since.get().elapsed() >= limit
    }
}

/// A stream's place on its connection, until it is dropped.
pub(super) struct Stream {
    connection: Rc<Multiplexed>,
    local: Rc<Local>,
}

impl Stream {
    fn new(connection: Rc<Multiplexed>, local: Rc<Local>) -> Self {
        connection
            .active
            .set(connection.active.get().saturating_add(1));
        Self { connection, local }
    }

    pub(super) fn sender(&self) -> SendRequest<Upload> {
        self.connection.sender.borrow().clone()
    }

    /// The connection takes no more requests: it broke, or the server said so (GOAWAY).
    pub(super) fn leave(&self) {
        self.local
            .multiplexed
            .borrow_mut()
            .retain(|held| !Rc::ptr_eq(held, &self.connection));
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let active = self.connection.active.get().saturating_sub(1);
        self.connection.active.set(active);
        if active == 0 {
            self.connection.idle_since.set(Instant::now());
        }
        if self.local.is_wanted() {
            self.local.freed.notify_one();
        }
    }
}

/// Says that one connects, until it is dropped.
struct Connecting<'a>(&'a Local);

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.connecting.set(false);
        self.0.freed.notify_waiters();
    }
}

impl Local {
    /// A place for a stream, on a connection that has one or on a new one; and whether the
    /// connection was there before.
    pub(super) async fn stream(self: &Rc<Self>) -> Result<(Stream, bool), ConnectError> {
        let deadline = Instant::now() + self.settings().connect_timeout;
        loop {
            if let Some(stream) = self.free_stream() {
                return Ok((stream, true));
            }
            if self.connecting.get() {
                // Many requests at the start make one connection, not many.
                if timeout_at(deadline, self.freed.notified()).await.is_err() {
                    return Err(ConnectError {
                        reason: Reason::UpstreamTimeout,
                        detail: format!("no connection to {} in time", self.state.authority),
                    });
                }
                continue;
            }
            let open = match self.state.open() {
                Some(open) => open,
                None => match self.wait(deadline, false).await? {
                    Some(open) => open,
                    None => continue,
                },
            };
            let connection = self.connect_multiplexed(open).await?;
            self.multiplexed.borrow_mut().push(Rc::clone(&connection));
            let stream = Stream::new(connection, Rc::clone(self));
            self.sweep();
            return Ok((stream, false));
        }
    }

    fn free_stream(self: &Rc<Self>) -> Option<Stream> {
        let held = self.multiplexed.borrow();
        let connection = held.iter().find(|connection| connection.has_room())?;
        Some(Stream::new(Rc::clone(connection), Rc::clone(self)))
    }

    async fn connect_multiplexed(&self, open: Open) -> Result<Rc<Multiplexed>, ConnectError> {
        self.connecting.set(true);
        let _connecting = Connecting(self);
        let io = connect(self.settings(), &self.state.server, Some(open)).await?;
        let handshake = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADERS)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(io));
        let (sender, connection) = handshake.await.map_err(|error| ConnectError {
            reason: Reason::UpstreamUnreachable,
            detail: format!("HTTP/2 with {}: {error}", self.state.authority),
        })?;
        let server = self.state.authority.clone();
        spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(server = &*server, "connection ended: {error}");
            }
        });
        Ok(Rc::new(Multiplexed {
            sender: RefCell::new(sender),
            active: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
        }))
    }
}

/// Runs hyper's own tasks on this thread.
#[derive(Debug, Clone, Copy)]
struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}
