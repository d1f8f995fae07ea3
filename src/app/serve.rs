//! From a finished handshake to the pipeline: one connection's glue.

use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;

use super::worker::Plane;
use crate::http::connection::{Params, RawAnswer};
use crate::listener::{Drain, Live, Permit};
use crate::pdp::{Peer, Standing};
use crate::refusal::Refusal;
use crate::tls::{Alpn, Secured};
use crate::{clock, http, pipeline};

/// Serves a connection to its end.
pub(super) async fn connection(
    plane: Rc<Plane>,
    drain: Drain,
    secured: Secured,
    live: Arc<Live>,
    permit: Permit,
) {
    let Secured {
        stream,
        peer,
        trust,
        protocol,
        ..
    } = secured;
    let settings = &live.settings;
    let params = Params {
        limits: settings.limits,
        disclose: settings.disclose_reasons,
        now: clock::now,
        on_raw: raw_answers(&plane, &peer),
    };
    let connection = Rc::new(pipeline::Connection {
        shared: Arc::clone(&plane.shared),
        pool: Rc::clone(&plane.pool),
        peer,
        limits: settings.limits,
        disclose_reasons: settings.disclose_reasons,
        drained: {
            let drain = drain.clone();
            Box::new(move || {
                let drain = drain.clone();
                Box::pin(async move { drain.wait().await })
            })
        },
    });
    // A certificate that lost its trust ends the connection with the answer that says so; over
    // HTTP/2 that takes a GOAWAY, which a header cannot ask for.
    let distrusted = Rc::new(Notify::new());
    let over = Rc::clone(&distrusted);
    let service = move |request| {
        let standing = trust.standing(clock::now());
        if standing.is_some_and(|standing| standing != Standing::Trusted) {
            distrusted.notify_one();
        }
        pipeline::serve(Rc::clone(&connection), standing, request)
    };
    let drained = async move {
        tokio::select! {
            () = drain.wait() => {}
            () = over.notified() => {}
        }
    };
    http::connection::serve(stream, protocol == Alpn::Http2, params, drained, service).await;
    drop(permit);
}

/// Answers that hyper writes itself, to bytes that never became a request, leave a line as well.
fn raw_answers(plane: &Rc<Plane>, peer: &Arc<Peer>) -> Arc<dyn Fn(RawAnswer) + Send + Sync> {
    let shared = Arc::clone(&plane.shared);
    let peer = Arc::clone(peer);
    Arc::new(move |answer: RawAnswer| {
        let mut record = shared.record(&peer, answer.interaction_id);
        record.status = Some(answer.reason.spec().status.code());
        record.refused(&Refusal::new(answer.reason));
        record.complete();
        record.finish();
    })
}
