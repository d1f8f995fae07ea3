//! One connection of a client, from the handshake to its end: everything that hyper's server does,
//! under our bounds.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::{Either, ready};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::Limits;
use super::body::{AnswerBody, RequestBody};
use super::gather::{Gathering, gather};
use super::io::ClientIo;
use super::respond::{self, Manner};
use super::seldom::Seldom;
use super::track::Track;
use super::watch::{GRACE, Left, Watch};
use super::{interaction, raw};
use crate::pdp::{InteractionId, UnixTime, interaction_id};
use crate::refusal::{Reason, Refusal};

/// An answer to bytes that never became a request.
#[derive(Debug, Clone, Copy)]
pub struct RawAnswer {
    /// Its row.
    pub reason: Reason,
    /// The id it carries.
    pub interaction_id: InteractionId,
}

/// What serving a connection needs.
pub struct Params {
    /// Bounds.
    pub limits: Limits,
    /// Whether reason codes stand in bodies.
    pub disclose: bool,
    /// Now.
    pub now: fn() -> UnixTime,
    /// Told of each answer to bytes that never became a request, for its log line.
    pub on_raw: Arc<dyn Fn(RawAnswer) + Send + Sync>,
    /// Told that no request came for a while, and that nothing is under way: what is kept for the
    /// next one must not be much from then on.
    pub on_idle: Box<dyn Fn()>,
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Params")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Tasks of HTTP/2 streams stay on their connection's thread.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

/// hyper's largest read from the socket at once, where the header bound is not above it: bodies
/// are read through the same buffer.
const READ_BUFFER: usize = 64 * 1024;
/// HTTP/2 flow control: what a client may send ahead, a stream and a connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// How much longer than the listener's bound a header section of HTTP/2 may be before the library
/// answers it itself, without our headers: below that the answer is ours.
const OWN_431: u32 = 8;

/// A connection that is served.
pub type Served = Pin<Box<dyn Future<Output = ()>>>;

/// Serves a connection to its end. `drained` resolves when the process wants it to end: what is
/// under way finishes, and nothing follows. `service` is called with each request, and with the
/// interaction id that its client sent.
///
/// What is returned is what an idle connection holds of ours. So all is made ready before the future
/// begins, which uses in its place what an `async fn` would keep twice, as argument and as variable;
/// and those who wait for it keep room for a pointer.
pub fn serve<IO, S, F, D>(io: IO, http2: bool, params: Params, drained: D, service: S) -> Served
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<RequestBody>, Option<InteractionId>) -> F + 'static,
    F: Future<Output = Response<AnswerBody>> + 'static,
    D: Future<Output = ()> + 'static,
{
    let Params {
        limits,
        disclose,
        now,
        on_raw,
        on_idle,
    } = params;
    let track = Track::new(http2);
    let on_long = Arc::clone(&on_raw);
    let replace = Box::new(move |reason| {
        let interaction_id = interaction::fresh();
        on_raw(RawAnswer {
            reason,
            interaction_id,
        });
        let manner = Manner {
            format: None,
            disclose,
            close: true,
            is_head: false,
            now: now(),
        };
        raw::bytes(respond::refusal(
            &Refusal::new(reason),
            interaction_id,
            manner,
        ))
    });
    let io = ClientIo::new(io, Arc::clone(&track), replace);
    // Shared, for it stands in several places of what an idle connection holds.
    let service = Rc::new(service);
    let tracked = Arc::clone(&track);
    let service = service_fn(move |request: Request<Incoming>| {
        let in_flight = tracked.begin();
        let is_head = request.method() == http::Method::HEAD;
        let version = request.version();
        let sent_id = interaction_id(request.headers());
        let body_open = !http_body::Body::is_end_stream(request.body());
        let request =
            request.map(|body| RequestBody::new(body, limits.body_bytes, limits.body_timeout));
        let progress = request.body().progress();
        // Most answers are the service's, with an id that it made.
        let own = move |reason, interaction_id| {
            let manner = Manner {
                format: None,
                disclose,
                close: false,
                is_head,
                now: now(),
            };
            respond::refusal(&Refusal::new(reason), interaction_id, manner)
        };
        let panicked = move || {
            tracing::error!("a request panicked; it was not answered by anything else than 500");
            own(Reason::Internal, sent_id.unwrap_or_else(interaction::fresh))
        };
        let serving = if version == Version::HTTP_2 && header_bytes(&request) > limits.header_bytes
        {
            let reason = Reason::FieldsTooLarge;
            let interaction_id = sent_id.unwrap_or_else(interaction::fresh);
            on_long(RawAnswer {
                reason,
                interaction_id,
            });
            Either::Left(ready(own(reason, interaction_id)))
        } else {
            // It begins before its future does.
            match catch_unwind(AssertUnwindSafe(|| service(request, sent_id))) {
                Ok(serving) => Either::Right(serving),
                Err(_) => Either::Left(ready(panicked())),
            }
        };
        let track = Arc::clone(&tracked);
        let finished = move |answer: Result<Response<AnswerBody>, _>| {
            let mut answer = answer.unwrap_or_else(|_| panicked());
            if version < Version::HTTP_2 && body_open && !progress.is_whole() {
                track.set_linger();
            }
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                track.set_upgraded();
            }
            if version == Version::HTTP_2 {
                own_values(answer.headers_mut());
            }
            answer.body_mut().hold(in_flight);
            Ok::<_, Infallible>(answer)
        };
        // Of combinators, and not a block: that would have the whole of `serving` twice.
        AssertUnwindSafe(serving).catch_unwind().map(finished)
    });
    let drained = Seldom::new(drained);
    if http2 {
        return Box::pin(async move {
            let mut watch = Watch::new(&track, &limits, &*on_idle, drained);
            let (io, outgoing) = gather(io);
            let connection = http2::Builder::new(Local)
                .timer(TokioTimer::new())
                .auto_date_header(false)
                .max_concurrent_streams(limits.streams)
                .max_header_list_size(
                    u32::try_from(limits.header_bytes)
                        .unwrap_or(u32::MAX)
                        .saturating_mul(OWN_431),
                )
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_send_buf_size(64 * 1024)
                .max_pending_accept_reset_streams(20)
                .max_local_error_reset_streams(100)
                .serve_connection(TokioIo::new(io), service);
            let shutdown = http2::Connection::graceful_shutdown;
            let connection = pin!(connection);
            let mut gathering = outgoing.of(connection, shutdown);
            let gathering = Pin::new(&mut gathering);
            watch.drive(gathering, Gathering::shut_down, false).await;
        });
    }
    // hyper is on the connection only while there is something for it to do: its two buffers of
    // 8 KiB are most of what one holds.
    let mut between = Some((TokioIo::new(io), service));
    Box::pin(async move {
        let mut watch = Watch::new(&track, &limits, &*on_idle, drained);
        while let Some((io, _)) = &mut between {
            if !watch.rest(io.inner_mut()).await {
                return;
            }
            let Some((io, service)) = between.take() else {
                return;
            };
            let connection = http1::Builder::new()
                .auto_date_header(false)
                .half_close(false)
                .max_buf_size(limits.header_bytes.max(READ_BUFFER))
                .max_header_size(limits.header_bytes)
                .serve_connection(io, service)
                .with_upgrades();
            let mut connection = Box::new(connection);
            let shutdown = http1::UpgradeableConnection::graceful_shutdown;
            let left = watch
                .drive(Pin::new(&mut *connection), shutdown, true)
                .await;
            // `None`: it speaks another protocol.
            let Some(parts) = connection.into_parts() else {
                return;
            };
            let http1::Parts {
                io,
                read_buf,
                service,
                ..
            } = parts;
            let (io, _) = between.insert((io, service));
            match left {
                Left::Over => {
                    // Neither an error nor a client that has no room changes anything now.
                    drop(timeout(GRACE, io.inner_mut().say_too_slow()).await);
                    return;
                }
                Left::AtRest => io.inner_mut().unread(read_buf),
            }
        }
    })
}

/// Gives each value of an answer bytes of its own. Over HTTP/2 the table of fields remembers values for
/// as long as the connection lasts, and one that lies in what was read from an upstream would keep
/// all of that buffer, up to one for each value.
fn own_values(fields: &mut HeaderMap) {
    for value in fields.values_mut() {
        if let Ok(mut own) = HeaderValue::from_bytes(value.as_bytes()) {
            own.set_sensitive(value.is_sensitive());
            *value = own;
        }
    }
}

/// The size of a header section as HTTP/2 counts it (RFC 9113 s6.5.2).
fn header_bytes<B>(request: &Request<B>) -> usize {
    const OVERHEAD: usize = 32;
    let fields = request.headers().iter().map(|(name, value)| {
        name.as_str()
            .len()
            .saturating_add(value.len())
            .saturating_add(OVERHEAD)
    });
    let target = request
        .uri()
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    fields.fold(target, usize::saturating_add)
}

#[cfg(test)]
mod tests;
