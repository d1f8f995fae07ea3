//! One call of an introspection endpoint (RFC 7662 s2.1): a POST of a form over a kept connection,
//! and an answer in bounded time, size and form.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::authentication::Form;
use crate::pip::address::Address;
use crate::pip::fetch::{self, Aborted, Failure, Way};
use crate::telemetry::metrics::{CallResult, FetchResult};

/// Largest answer: members of one token, authorization details and all.
const LARGEST: usize = 256 * 1024;

/// Largest head of an answer.
const LARGEST_HEAD: usize = 32 * 1024;

/// Connections kept while nobody asks.
const IDLE_CONNECTIONS: usize = 16;

/// How long one is kept. A server that closes it earlier costs a second try and no more, since
/// asking twice does no harm.
const IDLE_FOR: Duration = Duration::from_secs(15);

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CallFailure {
    pub(super) result: CallResult,
    /// For the log and `/status`.
    pub(super) detail: String,
    /// The server asked to be left alone for so long.
    pub(super) retry_after: Option<Duration>,
    /// The server rejects the request in words that can only mean the token, if the way of asking
    /// is right.
    pub(super) blames_token: bool,
}

impl CallFailure {
    pub(super) fn new(result: CallResult, detail: impl Into<String>) -> Self {
        Self {
            result,
            detail: detail.into(),
            retry_after: None,
            blames_token: false,
        }
    }

    /// Whether the same call may go better in a moment.
    pub(super) const fn is_passing(&self) -> bool {
        matches!(self.result, CallResult::Unreachable | CallResult::Status)
            && self.retry_after.is_none()
    }

    /// Whether it tells that the server is in trouble. A request that the server rejects for what
    /// it is does not: else a client that sends odd tokens could turn the others away.
    pub(super) const fn is_of_server(&self) -> bool {
        !matches!(self.result, CallResult::Rejected)
    }
}

impl From<Failure> for CallFailure {
    fn from(failure: Failure) -> Self {
        let result = match failure.result {
            FetchResult::Timeout => CallResult::Timeout,
            FetchResult::TooLarge => CallResult::TooLarge,
            FetchResult::Metadata | FetchResult::Unusable => CallResult::Metadata,
            FetchResult::Ok | FetchResult::Unreachable => CallResult::Unreachable,
            FetchResult::Status => CallResult::Status,
        };
        Self::new(result, failure.detail)
    }
}

/// The form of answer that is asked for and taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    Json,
    Jwt,
}

impl Media {
    const fn name(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Jwt => "application/token-introspection+jwt",
        }
    }
}

/// A connection on which nothing is under way.
struct Kept {
    to: Address,
    sender: SendRequest<Full<Bytes>>,
    /// Ends with it.
    _connection: Aborted,
    since: Instant,
}

/// The connections to one server.
#[derive(Default)]
pub(super) struct Connections(Mutex<Vec<Kept>>);

impl Connections {
    /// Sends a form and takes the body of the answer. The caller bounds the time.
    pub(super) async fn post(
        &self,
        address: &Address,
        way: Way<'_>,
        form: &Form,
        media: Media,
    ) -> Result<Bytes, CallFailure> {
        let broken = |error: &dyn Display| {
            let what = "no answer that can be read";
            CallFailure::from(Failure::unreachable(address, what, error))
        };
        while let Some(mut kept) = self.take(address) {
            let request = request(address, form, media).map_err(|error| broken(&error))?;
            // It may have been closed while it lay there: then another one is tried.
            if let Ok(answer) = kept.sender.send_request(request).await {
                return self.answered(answer, kept, media, &broken).await;
            }
        }
        let stream = fetch::open(address, way).await?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(LARGEST_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(&error))?;
        let connection = Aborted(tokio::spawn(connection).abort_handle());
        let request = request(address, form, media).map_err(|error| broken(&error))?;
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|error| broken(&error))?;
        let kept = Kept {
            to: address.clone(),
            sender,
            _connection: connection,
            since: Instant::now(),
        };
        self.answered(answer, kept, media, &broken).await
    }

    async fn answered(
        &self,
        answer: Response<Incoming>,
        kept: Kept,
        media: Media,
        broken: &(dyn Fn(&dyn Display) -> CallFailure + Sync),
    ) -> Result<Bytes, CallFailure> {
        let judged = judge(answer.status(), answer.headers(), media);
        let body = match Limited::new(answer.into_body(), LARGEST).collect().await {
            Ok(body) => body.to_bytes(),
            // What is wrong with the head tells more than what is wrong with the body.
            Err(error) => {
                judged?;
                return Err(if error.is::<http_body_util::LengthLimitError>() {
                    let detail = format!("it answered more than {} KiB", LARGEST / 1024);
                    CallFailure::new(CallResult::TooLarge, detail)
                } else {
                    broken(&error)
                });
            }
        };
        self.keep(kept);
        match judged {
            Ok(()) => Ok(body),
            Err(failure) => Err(told(failure, &body)),
        }
    }

    fn take(&self, address: &Address) -> Option<Kept> {
        let mut kept = self.lock();
        kept.retain(|one| {
            one.to == *address && one.since.elapsed() < IDLE_FOR && !one.sender.is_closed()
        });
        let ready = kept.iter().rposition(|one| one.sender.is_ready())?;
        Some(kept.swap_remove(ready))
    }

    fn keep(&self, mut one: Kept) {
        if one.sender.is_closed() {
            return;
        }
        one.since = Instant::now();
        let mut kept = self.lock();
        if kept.len() < IDLE_CONNECTIONS {
            kept.push(one);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn request(
    address: &Address,
    form: &Form,
    media: Media,
) -> Result<Request<Full<Bytes>>, http::Error> {
    let mut request = Request::post(&*address.target)
        .header(header::HOST, address.authority())
        .header(header::ACCEPT, media.name())
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(
            header::USER_AGENT,
            concat!("portcullis/", env!("CARGO_PKG_VERSION")),
        );
    if let Some(authorization) = &form.authorization {
        request = request.header(header::AUTHORIZATION, authorization.clone());
    }
    request.body(Full::new(Bytes::from(form.body.clone())))
}

/// Whether the body of an answer with this head is worth a look.
fn judge(status: StatusCode, headers: &HeaderMap, media: Media) -> Result<(), CallFailure> {
    if status == StatusCode::OK {
        let kind = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .unwrap_or_default()
            .trim();
        if kind.eq_ignore_ascii_case(media.name()) {
            return Ok(());
        }
        let detail = format!(
            "it answered {:?} where {} was asked for",
            kind.chars().take(80).collect::<String>(),
            media.name()
        );
        return Err(CallFailure::new(CallResult::Unfit, detail));
    }
    let detail = format!("it answered {}", status.as_u16());
    Err(match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => CallFailure::new(
            CallResult::Credentials,
            format!("{detail}: it does not take client_auth of the configuration"),
        ),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => CallFailure {
            retry_after: headers
                .get(header::RETRY_AFTER)
                .and_then(|value: &HeaderValue| value.to_str().ok()?.trim().parse().ok())
                .map(Duration::from_secs),
            ..CallFailure::new(CallResult::Status, detail)
        },
        StatusCode::REQUEST_TIMEOUT => CallFailure::new(CallResult::Status, detail),
        _ if status.is_client_error() => CallFailure::new(CallResult::Rejected, detail),
        _ if status.is_redirection() => CallFailure::new(
            CallResult::Status,
            format!("{detail}; redirects are not followed, write the address that it leads to"),
        ),
        _ => CallFailure::new(CallResult::Status, detail),
    })
}

/// What the `error` of a rejection adds (RFC 6749 s5.2).
fn told(failure: CallFailure, body: &[u8]) -> CallFailure {
    #[derive(serde::Deserialize)]
    struct Rejection {
        error: String,
    }
    if failure.result != CallResult::Rejected {
        return failure;
    }
    let Ok(Rejection { error }) = serde_json::from_slice(body) else {
        return failure;
    };
    let detail = format!(
        "{} {:?}",
        failure.detail,
        error.chars().take(40).collect::<String>()
    );
    match &*error {
        "invalid_client" | "unauthorized_client" => CallFailure::new(
            CallResult::Credentials,
            format!("{detail}: it does not take client_auth of the configuration"),
        ),
        "invalid_request" | "invalid_token" | "unsupported_token_type" => CallFailure {
            blames_token: true,
            ..CallFailure::new(CallResult::Rejected, detail)
        },
        _ => CallFailure::new(CallResult::Rejected, detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn only_what_was_asked_for_is_read() {
        let json = |kind| {
            let headers = head(&[(header::CONTENT_TYPE, kind)]);
            judge(StatusCode::OK, &headers, Media::Json)
        };
        assert!(json("application/json").is_ok());
        assert!(json("Application/JSON; charset=utf-8").is_ok());
        for other in ["text/html", "", "application/token-introspection+jwt"] {
            assert_eq!(json(other).unwrap_err().result, CallResult::Unfit);
        }
        let headers = head(&[(header::CONTENT_TYPE, "application/json")]);
        let plain = judge(StatusCode::OK, &headers, Media::Jwt);
        assert_eq!(plain.unwrap_err().result, CallResult::Unfit, "INT-10");
    }

    #[test]
    fn a_status_says_whose_fault_it_is() {
        let of = |status: u16| {
            let status = StatusCode::from_u16(status).unwrap();
            judge(status, &head(&[(header::RETRY_AFTER, "7")]), Media::Json).unwrap_err()
        };
        for (status, result, passing, servers) in [
            (500, CallResult::Status, true, true),
            (502, CallResult::Status, true, true),
            (503, CallResult::Status, false, true),
            (429, CallResult::Status, false, true),
            (401, CallResult::Credentials, false, true),
            (403, CallResult::Credentials, false, true),
            (400, CallResult::Rejected, false, false),
            (404, CallResult::Rejected, false, false),
            (302, CallResult::Status, true, true),
            (204, CallResult::Status, true, true),
        ] {
            let failure = of(status);
            assert_eq!(failure.result, result, "{status}");
            assert_eq!(failure.is_passing(), passing, "{status}");
            assert_eq!(failure.is_of_server(), servers, "{status}");
        }
        assert_eq!(of(503).retry_after, Some(Duration::from_secs(7)));
        let told = |body: &[u8]| told(of(400), body);
        let client = told(br#"{"error":"invalid_client"}"#);
        assert_eq!(client.result, CallResult::Credentials, "INT-12");
        let token = told(br#"{"error":"invalid_request"}"#);
        assert!(token.blames_token && token.result == CallResult::Rejected);
        for other in [&b""[..], b"<html>", br#"{"error":"server_error"}"#] {
            assert!(!told(other).blames_token);
        }
    }
}
