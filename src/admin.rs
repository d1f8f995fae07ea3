//! The operator's door: plain HTTP/1.1 on an address of its own, never on a listener (OPS-06).
//! It only tells; there is nothing that it could change.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::telemetry::Metrics;

mod page;

/// What is told. `app` knows it.
pub trait State {
    /// Whether requests should be sent here; else what is missing, in words.
    ///
    /// # Errors
    /// What is missing.
    fn ready(&self) -> Result<(), Vec<String>>;

    /// What is worse than it should be though requests are served; empty where nothing is.
    fn degraded(&self) -> Vec<String>;

    /// Everything, as `/status` shows it: an object.
    fn status(&self) -> Value;

    /// The text of a scrape, see [`Metrics::render`].
    fn metrics(&self) -> String;
}

/// Connections at once. Probes and scrapers are few; more are somebody's mistake.
const CONNECTIONS: usize = 64;

/// For the head of a request, and how long a connection may wait for one.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection lives, whatever comes over it.
const LIFE: Duration = Duration::from_secs(600);

/// Answers until `end` is there; open connections are then cut, since nothing on them is worth
/// waiting for.
pub async fn serve(
    listener: TcpListener,
    state: Arc<dyn State + Send + Sync>,
    end: impl Future<Output = ()> + Send,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    tokio::pin!(end);
    loop {
        let accepted = tokio::select! {
            () = &mut end => break,
            accepted = listener.accept() => accepted,
            // Those that ended are forgotten; whether one failed is its client's matter.
            Some(_) = connections.join_next() => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the admin address cannot accept");
                // Out of descriptors, most likely: a pause instead of a loop that does nothing else.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            continue;
        };
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let _permit = permit;
            connection(stream, state).await;
        });
    }
}

async fn connection(stream: TcpStream, state: Arc<dyn State + Send + Sync>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(&request, &*state);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    // A client that breaks off or is slow harms nobody but itself.
    if let Ok(Err(error)) = tokio::time::timeout(LIFE, connection).await {
        tracing::debug!(%error, "an admin connection ended");
    }
}

/// One answer. Bodies of requests are not read: hyper closes the connection after one that has
/// more than it can skip.
fn answer<B>(request: &Request<B>, state: &dyn State) -> Response<Full<Bytes>> {
    let known = matches!(
        request.uri().path(),
        "/livez" | "/readyz" | "/metrics" | "/status" | "/"
    );
    if !known {
        return text(
            StatusCode::NOT_FOUND,
            "not found: /livez /readyz /metrics /status /\n",
        );
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n");
        answer
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    match request.uri().path() {
        "/readyz" => readiness(state),
        "/metrics" => with(StatusCode::OK, Metrics::CONTENT_TYPE, state.metrics()),
        "/status" => json(StatusCode::OK, &state.status()),
        "/" => {
            let page = page::render(&state.status(), state.ready(), &state.degraded());
            let mut answer = with(StatusCode::OK, "text/html; charset=utf-8", page);
            // The page is ours and static; should a name on it ever carry more than a name, it
            // stays text.
            answer.headers_mut().insert(
                header::CONTENT_SECURITY_POLICY,
                HeaderValue::from_static(
                    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
                ),
            );
            answer
        }
        _ => text(StatusCode::OK, "alive\n"),
    }
}

/// 503 only for what was never there: a later loss is told in the body, else one outage of an
/// authorization server would take every replica out of service, also for what needs no keys.
fn readiness(state: &dyn State) -> Response<Full<Bytes>> {
    let degraded = state.degraded();
    match state.ready() {
        Ok(()) => json(
            StatusCode::OK,
            &json!({ "ready": true, "degraded": degraded }),
        ),
        Err(missing) => json(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({ "ready": false, "missing": missing, "degraded": degraded }),
        ),
    }
}

fn json(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let mut text = format!("{value:#}");
    text.push('\n');
    with(status, "application/json", text)
}

fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    with(status, "text/plain; charset=utf-8", text.to_owned())
}

fn with(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[derive(Default)]
    struct Told {
        missing: Mutex<Vec<String>>,
        degraded: Mutex<Vec<String>>,
    }

    impl State for Told {
        fn ready(&self) -> Result<(), Vec<String>> {
            let missing = self.missing.lock().unwrap().clone();
            if missing.is_empty() {
                Ok(())
            } else {
                Err(missing)
            }
        }
        fn degraded(&self) -> Vec<String> {
            self.degraded.lock().unwrap().clone()
        }
        fn status(&self) -> Value {
            json!({ "version": "1", "routes": [{ "name": "<script>alert(1)</script>" }] })
        }
        fn metrics(&self) -> String {
            "portcullis_x 1\n# EOF\n".to_owned()
        }
    }

    struct Bench {
        at: std::net::SocketAddr,
        told: Arc<Told>,
        _task: tokio::task::JoinSet<()>,
    }

    impl Bench {
        async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let at = listener.local_addr().unwrap();
            let told = Arc::new(Told::default());
            let state: Arc<dyn State + Send + Sync> = Arc::clone(&told) as _;
            let mut task = tokio::task::JoinSet::new();
            task.spawn(serve(listener, state, std::future::pending()));
            Self {
                at,
                told,
                _task: task,
            }
        }

        async fn send(&self, request: &str) -> String {
            let mut stream = TcpStream::connect(self.at).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        }

        async fn ask(&self, method: &str, path: &str) -> String {
            let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            self.send(&head).await
        }
    }

    #[tokio::test]
    async fn each_page_answers() {
        // OPS-06
        let bench = Bench::start().await;
        for (path, want) in [
            ("/livez", "alive"),
            ("/readyz", "\"ready\": true"),
            ("/metrics", "# EOF"),
            ("/metrics?x=y", "application/openmetrics-text"),
            ("/status", "\"version\": \"1\""),
            ("/", "<!doctype html>"),
        ] {
            let answer = bench.ask("GET", path).await;
            assert!(
                answer.starts_with("HTTP/1.1 200 OK\r\n"),
                "{path}: {answer}"
            );
            assert!(answer.contains(want), "{path}: {answer}");
            assert!(answer.contains("cache-control: no-store"));
            let head = bench.ask("HEAD", path).await;
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
            assert!(head.ends_with("\r\n\r\n"), "no body: {head}");
            let post = bench.ask("POST", path).await;
            assert!(post.starts_with("HTTP/1.1 405 "), "{post}");
            assert!(post.contains("allow: GET, HEAD\r\n"));
        }
        for path in ["/x", "/livez/", "//livez", "/LIVEZ", "*"] {
            let method = if path == "*" { "OPTIONS" } else { "GET" };
            let answer = bench.ask(method, path).await;
            assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
        }
    }

    #[tokio::test]
    async fn not_ready_says_what_is_missing_and_degraded_stays_ready() {
        let bench = Bench::start().await;
        *bench.told.missing.lock().unwrap() = vec!["keys of issuer main".to_owned()];
        let answer = bench.ask("GET", "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        let body = answer.split("\r\n\r\n").nth(1).unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["missing"], json!(["keys of issuer main"]));
        assert!(
            bench
                .ask("GET", "/livez")
                .await
                .starts_with("HTTP/1.1 200 ")
        );
        bench.told.missing.lock().unwrap().clear();
        *bench.told.degraded.lock().unwrap() = vec!["issuer main: timeout".to_owned()];
        let answer = bench.ask("GET", "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains("issuer main: timeout"));
    }

    #[tokio::test]
    async fn names_on_the_page_stay_text() {
        let bench = Bench::start().await;
        *bench.told.degraded.lock().unwrap() = vec!["\"><img src=x>".to_owned()];
        let answer = bench.ask("GET", "/").await;
        assert!(answer.contains("&lt;script&gt;alert(1)"), "{answer}");
        assert!(!answer.contains("<script"));
        assert!(!answer.contains("<img"));
    }

    #[tokio::test]
    async fn a_client_that_says_nothing_does_not_stay() {
        let bench = Bench::start().await;
        let mut stream = TcpStream::connect(bench.at).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
        tokio::time::pause();
        let mut answer = Vec::new();
        let began = tokio::time::Instant::now();
        // Paused time goes on by itself to whatever timer is next.
        let _read = stream.read_to_end(&mut answer).await;
        assert!(began.elapsed() >= HEADER_TIMEOUT && began.elapsed() < LIFE);
    }

    #[tokio::test]
    async fn connections_are_bounded() {
        // OPS-05
        let bench = Bench::start().await;
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut stream = TcpStream::connect(bench.at).await.unwrap();
            stream
                .write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
                .await
                .unwrap();
            let mut one = [0];
            stream.read_exact(&mut one).await.unwrap();
            held.push(stream);
        }
        let mut stream = TcpStream::connect(bench.at).await.unwrap();
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "closed at once");
        held.clear();
        // The places are free again as soon as the server saw the ends.
        let began = std::time::Instant::now();
        loop {
            let mut stream = TcpStream::connect(bench.at).await.unwrap();
            let head = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            let mut answer = Vec::new();
            let sent = stream.write_all(head).await;
            if sent.is_ok() && stream.read_to_end(&mut answer).await.is_ok() && !answer.is_empty() {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(20));
        }
    }
}
