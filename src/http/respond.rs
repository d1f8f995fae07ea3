//! The only place that writes an answer of our own, and that makes the upstream's fit for the
//! client.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, DATE, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};
use http_body::Body;

use super::body::{AnswerBody, BoxError};
use crate::pdp::head::present;
use crate::pdp::{INTERACTION_ID, InteractionId, UnixTime};
use crate::refusal::format::{Facts, Format};
use crate::refusal::{Refusal, Spec, challenges};
use crate::telemetry::Timestamp;

const APPLICATION_JSON: HeaderValue = HeaderValue::from_static("application/json");

/// How an answer of ours is to be given.
#[derive(Debug, Clone, Copy)]
pub struct Manner<'m> {
    /// How the market of the route's policy writes refusals; `None`: our own JSON.
    pub format: Option<&'m Format>,
    /// Put the reason code into the body (laboratory).
    pub disclose: bool,
    /// Say `Connection: close`: an HTTP/1.1 connection that ends here says so.
    pub close: bool,
    /// The request was HEAD: the header section as for GET, no body.
    pub is_head: bool,
    /// Now, for `Date`.
    pub now: UnixTime,
}

/// The answer to a request that did not pass.
#[must_use]
pub fn refusal(refusal: &Refusal, id: InteractionId, manner: Manner<'_>) -> Response<AnswerBody> {
    let spec = refusal.reason().spec();
    let (kind, text) = match manner.format {
        None => (APPLICATION_JSON, Some(own(&spec, id, manner.disclose))),
        Some(format) => {
            let time = Timestamp::from(manner.now).seconds();
            let facts = Facts {
                interaction_id: id.as_str(),
                time: &time,
            };
            let text = format.body(refusal.reason(), &facts, manner.disclose);
            (format.content_type.clone(), text)
        }
    };
    let kind = text.is_some().then_some(kind);
    let text = text.unwrap_or_default();
    let length = text.len();
    let body = if manner.is_head || text.is_empty() {
        AnswerBody::empty()
    } else {
        AnswerBody::full(Bytes::from(text))
    };
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(spec.status.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let Some(kind) = kind {
        headers.insert(CONTENT_TYPE, kind);
    }
    headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(DATE, date(manner.now));
    headers.insert(INTERACTION_ID, id.to_header());
    for line in challenges(refusal) {
        if let Ok(value) = HeaderValue::try_from(line) {
            headers.append(WWW_AUTHENTICATE, value);
        }
    }
    let advice = refusal.advice();
    if spec.status.code() == 405 {
        let allow = advice
            .map(|advice| advice.allow.join(", "))
            .unwrap_or_default();
        if let Ok(value) = HeaderValue::try_from(allow) {
            headers.insert(ALLOW, value);
        }
    }
    let retry = advice
        .and_then(|advice| advice.retry_after)
        .map(|after| after.as_secs().max(1))
        .or(spec.retry_after.map(u64::from));
    if let Some(seconds) = retry {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if manner.close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Our own JSON. Codes and descriptions are fixed text without quotes or backslashes; the table's
/// tests hold that.
fn own(spec: &Spec, id: InteractionId, disclose: bool) -> String {
    let mut body = String::with_capacity(192);
    let written = write!(
        body,
        "{{\"error\":\"{}\",\"error_description\":\"{}\",\"interaction_id\":\"{}\"",
        spec.error,
        spec.description,
        id.as_str()
    );
    debug_assert!(written.is_ok());
    if disclose {
        body.push_str(",\"reason\":\"");
        body.push_str(spec.code);
        body.push('"');
    }
    body.push_str("}\n");
    body
}

/// The upstream's answer, made fit for the client: exactly one `Date`, and a sane one (FAPIH-01);
/// exactly one interaction id, the request's (FAPIH-05); not stored by anybody where the upstream
/// says nothing and the answer depends on who asked (HTTP-21).
#[must_use]
pub fn relay<B>(
    response: Response<B>,
    id: InteractionId,
    open: bool,
    now: UnixTime,
) -> Response<AnswerBody>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    let (mut parts, body) = response.into_parts();
    parts.version = Version::HTTP_11;
    let headers = &mut parts.headers;
    let [dated, cached, varies] = present(headers, [&DATE, &CACHE_CONTROL, &VARY]);
    if !(dated && sane_date(headers, now)) {
        headers.insert(DATE, date(now));
    }
    headers.insert(INTERACTION_ID, id.to_header());
    if !(open || cached) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    // RFC 9440 s2.4: what varies with the certificate varies with what no cache can see.
    let by_certificate = |value: &HeaderValue| {
        value.to_str().is_ok_and(|names| {
            names
                .split(',')
                .any(|name| name.trim().to_ascii_lowercase().starts_with("client-cert"))
        })
    };
    if varies && headers.get_all(VARY).iter().any(by_certificate) {
        headers.insert(VARY, HeaderValue::from_static("*"));
    }
    Response::from_parts(parts, AnswerBody::streamed(body))
}

/// Takes away what would let scripts of other origins read an answer: the authorization endpoint is
/// for browsers that go there, and for nobody's script (FAPI 2.0 Security Profile s5.2.3; TLS-20).
pub fn without_cors(headers: &mut HeaderMap) {
    let cors: Vec<_> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("access-control-"))
        .cloned()
        .collect();
    for name in cors {
        headers.remove(name);
    }
}

/// A JSON document of our own, for anybody, good for a few minutes.
#[must_use]
pub fn document(
    json: String,
    id: InteractionId,
    is_head: bool,
    now: UnixTime,
) -> Response<AnswerBody> {
    let length = json.len();
    let body = if is_head {
        AnswerBody::empty()
    } else {
        AnswerBody::full(Bytes::from(json))
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, APPLICATION_JSON);
    headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=300"),
    );
    headers.insert(DATE, date(now));
    headers.insert(INTERACTION_ID, id.to_header());
    response
}

/// Sets the one `DPoP-Nonce` of an answer, whatever the upstream may have sent under that name; an
/// answer with one is for one client and is not stored (RFC 9449 s8.2; DPOP-27, DPOP-29).
pub fn with_nonce<B>(response: &mut Response<B>, nonce: Option<&str>) {
    let Some(nonce) = nonce.and_then(|text| HeaderValue::from_str(text).ok()) else {
        return;
    };
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("dpop-nonce"), nonce);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// Whether there is one `Date`, at most five minutes off.
fn sane_date(headers: &HeaderMap, now: UnixTime) -> bool {
    const OFF: Duration = Duration::from_secs(300);
    let mut dates = headers.get_all(DATE).iter();
    let (Some(date), None) = (dates.next(), dates.next()) else {
        return false;
    };
    let Some(date) = parsed(date) else {
        return false;
    };
    date.since(now) <= OFF && now.since(date) <= OFF
}

/// The moment that a `Date` names. Upstreams write one line for a second's answers, which is read
/// once a second a thread.
fn parsed(line: &HeaderValue) -> Option<UnixTime> {
    thread_local! {
        static LAST: RefCell<Option<(HeaderValue, UnixTime)>> = const { RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| match last {
        Some((seen, moment)) if seen == line => Some(*moment),
        _ => {
            let date = httpdate::parse_http_date(line.to_str().ok()?).ok()?;
            let moment = date
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs());
            let moment = UnixTime::from_secs(moment);
            // A copy: the line itself would hold the whole head that it came in.
            *last = HeaderValue::from_bytes(line.as_bytes())
                .ok()
                .map(|line| (line, moment));
            Some(moment)
        }
    })
}

/// `Date` (RFC 9110 s6.6.1), made once a second a thread.
#[must_use]
pub fn date(now: UnixTime) -> HeaderValue {
    thread_local! {
        static LAST: RefCell<Option<(UnixTime, HeaderValue)>> = const { RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| match last {
        Some((at, value)) if *at == now => value.clone(),
        _ => {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
            let value = HeaderValue::try_from(httpdate::fmt_http_date(time))
                .unwrap_or_else(|_| HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"));
            *last = Some((now, value.clone()));
            value
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Reason;
    use http_body_util::BodyExt as _;

    const NOW: UnixTime = UnixTime::from_secs(784_111_777);

    fn id() -> InteractionId {
        InteractionId::from_random([7; 16])
    }

    async fn text(response: Response<AnswerBody>) -> String {
        let body = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn every_row_makes_a_whole_answer() {
        // ERR-05, FAPIH-01, FAPIH-05
        for reason in Reason::ALL {
            for (disclose, close, is_head) in [
                (false, false, false),
                (true, true, false),
                (false, true, true),
            ] {
                let manner = Manner {
                    format: None,
                    disclose,
                    close,
                    is_head,
                    now: NOW,
                };
                let response = refusal(&Refusal::new(*reason), id(), manner);
                let spec = reason.spec();
                let headers = response.headers().clone();
                assert_eq!(response.status().as_u16(), spec.status.code());
                assert_eq!(headers[DATE], "Sun, 06 Nov 1994 08:49:37 GMT");
                assert_eq!(headers[CACHE_CONTROL], "no-store");
                assert_eq!(headers[INTERACTION_ID], id().to_header());
                assert_eq!(headers.contains_key(CONNECTION), close);
                assert_eq!(
                    headers.contains_key(RETRY_AFTER),
                    spec.retry_after.is_some()
                );
                if spec.status.code() == 401 {
                    assert!(headers.contains_key(WWW_AUTHENTICATE), "{}", spec.code);
                }
                let length: usize = headers["content-length"].to_str().unwrap().parse().unwrap();
                let body = text(response).await;
                if is_head {
                    assert!(body.is_empty() && length > 0);
                    continue;
                }
                assert_eq!(body.len(), length);
                let json: serde_json::Value = serde_json::from_str(&body).unwrap();
                assert_eq!(json["error"], spec.error);
                assert_eq!(json["interaction_id"], id().as_str());
                assert_eq!(json.get("reason").is_some(), disclose);
            }
        }
    }

    fn relayed(fields: &[(HeaderName, &str)], open: bool) -> HeaderMap {
        let mut response = Response::new(http_body_util::Empty::<Bytes>::new());
        for (name, value) in fields {
            let value = HeaderValue::from_str(value).unwrap();
            response.headers_mut().append(name.clone(), value);
        }
        relay(response, id(), open, NOW).headers().clone()
    }

    #[test]
    fn an_answer_of_the_api_is_made_fit() {
        // FAPIH-01, FAPIH-05, HTTP-21
        let good = "Sun, 06 Nov 1994 08:47:00 GMT";
        assert_eq!(relayed(&[(DATE, good)], false)[DATE], good);
        let ours = "Sun, 06 Nov 1994 08:49:37 GMT";
        for wrong in [
            vec![],
            vec![(DATE, "yesterday")],
            vec![(DATE, good), (DATE, good)],
            vec![(DATE, "Sun, 06 Nov 1994 08:40:00 GMT")],
            vec![(DATE, "Sun, 06 Nov 1994 08:59:00 GMT")],
        ] {
            let headers = relayed(&wrong, false);
            assert_eq!(
                headers.get_all(DATE).iter().collect::<Vec<_>>(),
                [ours],
                "{wrong:?}"
            );
        }
        let theirs = [(INTERACTION_ID, "a"), (INTERACTION_ID, "b")];
        let headers = relayed(&theirs, false);
        assert_eq!(headers.get_all(INTERACTION_ID).iter().count(), 1);
        assert_eq!(relayed(&[], false)[CACHE_CONTROL], "no-store");
        assert!(
            !relayed(&[], true).contains_key(CACHE_CONTROL),
            "an open route is its own affair"
        );
        let said = [(CACHE_CONTROL, "max-age=5")];
        assert_eq!(relayed(&said, false)[CACHE_CONTROL], "max-age=5");
        let varies = [(VARY, "accept, Client-Cert")];
        assert_eq!(relayed(&varies, false)[VARY], "*", "RFC 9440 s2.4");
    }

    #[test]
    fn a_nonce_stands_once_and_is_not_stored() {
        // DPOP-27, DPOP-29
        let mut response = Response::new(());
        let headers = response.headers_mut();
        headers.append("dpop-nonce", HeaderValue::from_static("of the api"));
        headers.append("dpop-nonce", HeaderValue::from_static("and another"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=5"));
        with_nonce(&mut response, None);
        assert_eq!(response.headers()[CACHE_CONTROL], "max-age=5");
        with_nonce(&mut response, Some("n"));
        let nonces = response.headers().get_all("dpop-nonce");
        assert_eq!(nonces.iter().collect::<Vec<_>>(), ["n"]);
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    }
}
