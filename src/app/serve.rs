//! From a finished handshake to the pipeline: one connection's glue.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::Notify;

use ::http::header::CONNECTION;
use ::http::{HeaderValue, Request, StatusCode, Version};

use super::worker::Plane;
use crate::http::connection::{Params, RawAnswer};
use crate::listener::{Drain, Live, Permit};
use crate::pdp::{Peer, Presented, Standing, UnixTime};
use crate::refusal::Refusal;
use crate::telemetry::access::Same;
use crate::telemetry::metrics::ListenerMetrics;
use crate::tls::{Alpn, FrontProxy, Secured};
use crate::{clock, http, pipeline};

/// Serves a connection to its end. No `async fn`: that would keep its arguments for as long.
pub(super) fn connection(
    plane: &Rc<Plane>,
    drain: Drain,
    secured: Secured,
    live: &Live,
    permit: Permit,
) -> impl Future<Output = ()> + use<> {
    let Secured {
        stream,
        peer,
        trust,
        front,
        protocol,
        ..
    } = secured;
    let settings = &live.settings;
    // A WebSocket outlives the HTTP of its connection; it keeps the place that it was given.
    let place = Rc::new((permit, Counted::new(plane.metrics.listener(&settings.name))));
    let presented: Rc<RefCell<Option<Arc<Presented>>>> = Rc::default();
    let same: Rc<Same> = Rc::default();
    let params = Params {
        limits: settings.limits,
        disclose: settings.disclose_reasons,
        now: clock::now,
        on_raw: raw_answers(plane, &peer),
        on_idle: Box::new({
            let (presented, same) = (Rc::clone(&presented), Rc::clone(&same));
            move || {
                drop(presented.take());
                same.forget();
            }
        }),
    };
    let connection = Rc::new(pipeline::Connection {
        shared: Arc::clone(&plane.shared),
        pool: Rc::clone(&plane.pool),
        under_way: Rc::clone(&plane.under_way),
        peer,
        own: true,
        limits: settings.limits,
        disclose_reasons: settings.disclose_reasons,
        introduction: Rc::default(),
        same: Rc::clone(&same),
        proof_header: Rc::default(),
        presented: Rc::clone(&presented),
        drained: {
            let (drain, place) = (drain.clone(), Rc::clone(&place));
            Rc::new(move || {
                let (drain, place) = (drain.clone(), Rc::clone(&place));
                Box::pin(async move {
                    drain.wait().await;
                    drop(place);
                })
            })
        },
    });
    // A certificate that lost its trust ends the connection with the answer that says so; over
    // HTTP/2 that takes a GOAWAY, which a header cannot ask for.
    let ends = drain.clone();
    let distrusted = Rc::new(Notify::new());
    let over = Rc::clone(&distrusted);
    let service = move |request: Request<http::body::RequestBody>, sent_id| {
        let arrived = clock::moment();
        let now = arrived.unix();
        let standing = trust.standing(now);
        let stands = standing.is_none_or(|standing| standing == Standing::Trusted);
        if !stands {
            distrusted.notify_one();
        }
        let (connection, standing) = match &front {
            Some(front) if stands => of_client(&connection, front, request.headers(), now),
            _ => (Rc::clone(&connection), Ok(standing)),
        };
        let draining = ends.clone();
        let version = request.version();
        pipeline::serve(connection, standing, (request, sent_id), arrived).map(move |mut answer| {
            // hyper says so itself once it was told; the answer may be there before that.
            let upgraded = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
            if draining.fired() && version < Version::HTTP_2 && !upgraded {
                answer
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            answer
        })
    };
    let drained = async move {
        tokio::select! {
            () = drain.wait() => {}
            () = over.notified() => {}
        }
    };
    let served = http::connection::serve(stream, protocol == Alpn::Http2, params, drained, service);
    async move {
        served.await;
        drop(place);
    }
}

/// A request on the connection of a proxy in front, as if it had come on one of its client's own.
/// What was found for one request is in this value alone, and the next one has its own.
fn of_client(
    connection: &Rc<pipeline::Connection>,
    front: &FrontProxy,
    headers: &::http::HeaderMap,
    now: UnixTime,
) -> (Rc<pipeline::Connection>, Result<Option<Standing>, Refusal>) {
    let (peer, standing) = match front.client(headers, now) {
        Ok((peer, standing)) => (peer, Ok(standing)),
        Err(refusal) => (Arc::clone(&connection.peer), Err(refusal)),
    };
    let of_client = pipeline::Connection {
        peer,
        own: false,
        ..pipeline::Connection::clone(connection)
    };
    (Rc::new(of_client), standing)
}

/// A connection among those open, until it is dropped.
struct Counted(Arc<ListenerMetrics>);

impl Counted {
    fn new(metrics: Arc<ListenerMetrics>) -> Self {
        metrics.open.rise();
        Self(metrics)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fall();
    }
}

/// Answers that hyper writes itself, to bytes that never became a request, leave a line as well.
fn raw_answers(plane: &Rc<Plane>, peer: &Arc<Peer>) -> Arc<dyn Fn(RawAnswer) + Send + Sync> {
    let shared = Arc::clone(&plane.shared);
    let peer = Arc::clone(peer);
    Arc::new(move |answer: RawAnswer| {
        let mut record = shared.record(&peer, answer.interaction_id, clock::moment());
        record.status = Some(answer.reason.spec().status.code());
        record.refused(&Refusal::new(answer.reason));
        record.complete();
        record.finish();
    })
}
