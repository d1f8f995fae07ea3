//! One connection over a pipe, on a clock that only waiting moves.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::{CONNECTION, UPGRADE};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadBuf};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::http::watch::{LOOK, REST};

/// After this long without a request hyper is off, with room to spare.
const SETTLED: Duration = LOOK.saturating_mul(3);

/// Our end of a pipe; says how much room the last read had.
struct Observed {
    inner: DuplexStream,
    asked: Arc<AtomicUsize>,
    /// How often it was read.
    reads: Arc<AtomicUsize>,
    broken: Arc<AtomicUsize>,
    /// Whether closing our direction finds no room.
    stuck: Arc<AtomicBool>,
}

impl AsyncRead for Observed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.broken.load(Ordering::Relaxed) > 0 {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        self.asked.store(buffer.remaining(), Ordering::Relaxed);
        self.reads.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Observed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.stuck.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A client and the connection it has.
struct Bench {
    client: DuplexStream,
    asked: Arc<AtomicUsize>,
    reads: Arc<AtomicUsize>,
    broken: Arc<AtomicUsize>,
    stuck: Arc<AtomicBool>,
    drain: Option<oneshot::Sender<()>>,
    /// What the service was called with.
    targets: Rc<RefCell<Vec<String>>>,
    /// What was read of a body after its answer.
    upload: Rc<RefCell<Vec<u8>>>,
    raw: Arc<Mutex<Vec<Reason>>>,
    /// How often it was idle.
    idle: Rc<Cell<usize>>,
    over: JoinHandle<()>,
}

/// A body that hands out this many pieces of 64 KiB.
struct Pieces(usize);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.0 == 0 {
            return Poll::Ready(None);
        }
        self.0 -= 1;
        Poll::Ready(Some(Ok(Frame::data(vec![b'x'; 64 * 1024].into()))))
    }
}

/// At once, but for turns of the scheduler.
const SOON: Duration = Duration::from_millis(1);
const PIECES: usize = 8;
/// Times that a request is polled in vain.
const TURNS: usize = 50;

fn start() -> Bench {
    start_with(Limits::default())
}

fn start_with(limits: Limits) -> Bench {
    let (client, inner) = tokio::io::duplex(64 * 1024);
    let [asked, reads, broken] = <[Arc<AtomicUsize>; 3]>::default();
    let stuck = Arc::new(AtomicBool::new(false));
    let io = Observed {
        inner,
        asked: Arc::clone(&asked),
        reads: Arc::clone(&reads),
        broken: Arc::clone(&broken),
        stuck: Arc::clone(&stuck),
    };
    let raw = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&raw);
    let idle = Rc::new(Cell::new(0));
    let params = Params {
        limits,
        disclose: true,
        now: || UnixTime::from_secs(1_700_000_000),
        on_raw: Arc::new(move |answer: RawAnswer| to.lock().unwrap().push(answer.reason)),
        on_idle: Box::new({
            let idle = Rc::clone(&idle);
            move || idle.set(idle.get() + 1)
        }),
    };
    let targets = Rc::new(RefCell::new(Vec::new()));
    let upload = Rc::new(RefCell::new(Vec::new()));
    let (seen, later) = (Rc::clone(&targets), Rc::clone(&upload));
    let calls = Cell::new(0);
    let service = move |mut request: Request<RequestBody>, _| {
        calls.set(calls.get() + 1);
        let number = calls.get();
        let target = request.uri().path().to_owned();
        seen.borrow_mut().push(target.clone());
        let later = Rc::clone(&later);
        assert!(target != "/bug", "before its future is there");
        async move {
            assert!(target != "/late-bug", "after it is");
            match target.as_str() {
                "/slow" => sleep(Duration::from_secs(5)).await,
                "/busy" => {
                    for _ in 0..TURNS {
                        tokio::task::yield_now().await;
                    }
                }
                "/large" => return Response::new(AnswerBody::streamed(Pieces(PIECES))),
                "/upload" => {
                    // Answered before it is read.
                    tokio::task::spawn_local(async move {
                        let mut body = request.into_body();
                        while let Some(Ok(frame)) = body.frame().await {
                            later
                                .borrow_mut()
                                .extend_from_slice(&frame.into_data().unwrap());
                        }
                    });
                    return Response::new(AnswerBody::full("early"));
                }
                "/unread" => return Response::new(AnswerBody::full("no")),
                "/echo" => {
                    let upgraded = hyper::upgrade::on(&mut request);
                    tokio::task::spawn_local(async move {
                        let mut io = TokioIo::new(upgraded.await.unwrap());
                        let mut buffer = [0; 64];
                        while let Ok(read @ 1..) = io.read(&mut buffer).await {
                            io.write_all(&buffer[..read]).await.unwrap();
                        }
                    });
                    let mut answer = Response::new(AnswerBody::empty());
                    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                    let fields = answer.headers_mut();
                    fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
                    fields.insert(UPGRADE, HeaderValue::from_static("echo"));
                    return answer;
                }
                _ => {}
            }
            let head = request.method() == Method::HEAD;
            let body = request.into_body().collect().await.unwrap().to_bytes();
            assert!(!head || body.is_empty());
            Response::new(AnswerBody::full(format!(
                "{number} {target} {}",
                body.len()
            )))
        }
    };
    let (drain, drained) = oneshot::channel::<()>();
    let drained = async move {
        if drained.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let over = tokio::task::spawn_local(serve(io, false, params, drained, service));
    Bench {
        client,
        asked,
        reads,
        broken,
        stuck,
        drain: Some(drain),
        targets,
        upload,
        raw,
        idle,
        over,
    }
}

impl Bench {
    async fn send(&mut self, text: &str) {
        self.client.write_all(text.as_bytes()).await.unwrap();
    }

    /// An answer of known length, head and body.
    async fn answer(&mut self) -> (String, String) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let octet = timeout(Duration::from_secs(600), self.client.read_u8()).await;
            head.push(octet.expect("an answer").expect("a whole one"));
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.client.read_exact(&mut body).await.unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    async fn get(&mut self, target: &str) -> String {
        self.send(&format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n"))
            .await;
        let (head, body) = self.answer().await;
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        body
    }

    /// Whether hyper is off the connection: it reads 8 KiB at least.
    fn at_rest(&self) -> bool {
        self.asked.load(Ordering::Relaxed) == 4096
    }

    /// Until hyper is off.
    async fn settle(&self) {
        tokio::task::yield_now().await;
        sleep(SETTLED).await;
        assert!(self.at_rest(), "it rests");
    }

    /// What is left to read, at most within this time.
    async fn end(&mut self, within: Duration) -> String {
        let mut rest = Vec::new();
        let read = timeout(within, self.client.read_to_end(&mut rest)).await;
        read.expect("the end comes in time").unwrap();
        String::from_utf8(rest).unwrap()
    }
}

/// Runs a test on a clock that only waiting moves.
fn on_paused_clock(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test);
}

#[test]
fn a_request_that_panics_is_500_and_spoils_no_other() {
    on_paused_clock(async {
        let mut bench = start();
        for target in ["/bug", "/late-bug"] {
            bench
                .send(&format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n"))
                .await;
            let (head, body) = bench.answer().await;
            assert!(head.starts_with("http/1.1 500 "), "{head}");
            assert!(body.contains("internal"), "{body}");
            assert!(!bench.get("/a").await.is_empty());
        }
    });
}

#[test]
fn a_client_that_says_nothing_is_not_asked_at_each_turn_of_its_request() {
    on_paused_clock(async {
        let mut bench = start();
        bench.get("/a").await;
        let before = bench.reads.load(Ordering::Relaxed);
        assert_eq!(bench.get("/busy").await, "2 /busy 0");
        let reads = bench.reads.load(Ordering::Relaxed) - before;
        assert!(reads < TURNS / 5, "{reads} reads");
        // What it says meanwhile is read all the same: the next request, or that it is gone.
        let slow = "GET /slow HTTP/1.1\r\nhost: a\r\n\r\n";
        bench.send(slow).await;
        sleep(SOON).await;
        bench.send("GET /next HTTP/1.1\r\nhost: a\r\n\r\n").await;
        for expected in ["3 /slow 0", "4 /next 0"] {
            assert_eq!(bench.answer().await.1, expected);
        }
        bench.send(slow).await;
        sleep(SOON).await;
        let began = Instant::now();
        drop(bench.client);
        bench.over.await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(1), "it is seen");
    });
}

#[test]
fn hyper_is_off_an_idle_connection_and_on_again_for_the_next_request() {
    on_paused_clock(async {
        let mut bench = start();
        sleep(Duration::from_millis(1)).await;
        assert!(bench.at_rest(), "before the first request there is none");
        for number in 1..4 {
            assert_eq!(bench.get("/a").await, format!("{number} /a 0"));
            sleep(REST / 2).await;
            assert!(!bench.at_rest(), "it waits a little for the next one");
            bench.settle().await;
        }
        // In use, it stays on.
        for number in 4..12 {
            assert_eq!(bench.get("/a").await, format!("{number} /a 0"));
            sleep(REST * 3 / 5).await;
            assert!(!bench.at_rest(), "{number}");
        }
        // And goes as soon after it as was said.
        sleep(LOOK + REST).await;
        assert!(bench.at_rest());
        assert!(!bench.over.is_finished());
    });
}

#[test]
fn requests_that_come_at_once_after_a_rest_are_all_answered() {
    on_paused_clock(async {
        let mut bench = start();
        bench.get("/first").await;
        bench.settle().await;
        let get = "GET /a HTTP/1.1\r\nhost: a\r\n\r\n";
        bench.send(&get.repeat(40)).await;
        for number in 2..42 {
            assert_eq!(bench.answer().await.1, format!("{number} /a 0"));
        }
        // A head and a body that are each larger than what is read at rest.
        bench.settle().await;
        let wide = "x".repeat(6000);
        let body = "y".repeat(20_000);
        bench
            .send(&format!(
                "POST /b HTTP/1.1\r\nhost: a\r\nx: {wide}\r\ncontent-length: 20000\r\n\r\n{body}{get}"
            ))
            .await;
        assert_eq!(bench.answer().await.1, "42 /b 20000");
        assert_eq!(bench.answer().await.1, "43 /a 0");
        // One octet at a time.
        bench.settle().await;
        for octet in get.chars() {
            bench.send(&octet.to_string()).await;
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(bench.answer().await.1, "44 /a 0");
    });
}

#[test]
fn half_a_head_behind_a_request_outlives_the_rest() {
    on_paused_clock(async {
        let mut bench = start();
        bench
            .send("GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /b HT")
            .await;
        assert_eq!(bench.answer().await.1, "1 /a 0");
        sleep(SETTLED * 2).await;
        bench.send("TP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(bench.answer().await.1, "2 /b 0");
        // And one that is never completed has the time of a head, no more.
        bench
            .send("GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /b HT")
            .await;
        assert_eq!(bench.answer().await.1, "3 /a 0");
        let begun = Instant::now();
        let (head, _) = bench.answer().await;
        assert!(head.starts_with("http/1.1 408 "), "{head}");
        let (least, most) = (Duration::from_secs(10), Duration::from_secs(12));
        assert!((least..most).contains(&begun.elapsed()));
    });
}

#[test]
fn an_empty_line_behind_a_request_is_no_beginning_of_another() {
    // RFC 9112 s2.2
    on_paused_clock(async {
        let mut bench = start();
        bench
            .send("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx\r\n\n")
            .await;
        assert_eq!(bench.answer().await.1, "1 /a 1");
        bench.settle().await;
        sleep(Duration::from_secs(20)).await;
        assert_eq!(bench.get("/b").await, "2 /b 0");
    });
}

#[test]
fn a_body_that_is_read_after_its_answer_keeps_hyper_on() {
    on_paused_clock(async {
        let mut bench = start();
        bench
            .send("POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\nGET ")
            .await;
        assert_eq!(bench.answer().await.1, "early");
        sleep(SETTLED * 2).await;
        assert!(!bench.at_rest());
        bench.send("/x H").await;
        sleep(SETTLED * 2).await;
        assert_eq!(*bench.upload.borrow(), b"GET /x H");
        assert_eq!(bench.get("/a").await, "2 /a 0");
        assert_eq!(*bench.targets.borrow(), ["/upload", "/a"]);
    });
}

#[test]
fn a_body_that_nobody_reads_is_never_taken_for_a_request() {
    on_paused_clock(async {
        for expect in ["", "expect: 100-continue\r\n"] {
            let mut bench = start();
            bench.get("/a").await;
            bench.settle().await;
            bench
                .send(&format!(
                    "POST /unread HTTP/1.1\r\nhost: a\r\n{expect}content-length: 1000\r\n\r\n"
                ))
                .await;
            let (head, body) = bench.answer().await;
            assert!(head.starts_with("http/1.1 200 "), "{head}");
            assert_eq!(body, "no");
            sleep(SETTLED).await;
            bench
                .send("GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n")
                .await;
            assert_eq!(bench.end(Duration::from_secs(5)).await, "");
            assert_eq!(*bench.targets.borrow(), ["/a", "/unread"]);
        }
    });
}

#[test]
fn a_client_that_waits_for_100_gets_it_after_a_rest_too() {
    on_paused_clock(async {
        let mut bench = start();
        for number in 1..3 {
            bench
                .send("POST /a HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
                .await;
            assert!(bench.answer().await.0.starts_with("http/1.1 100 "));
            sleep(SETTLED * 2).await;
            assert!(!bench.at_rest(), "a request is under way");
            bench.send("abc").await;
            assert_eq!(bench.answer().await.1, format!("{number} /a 3"));
            bench.settle().await;
        }
    });
}

#[test]
fn a_connection_that_is_to_close_closes_and_does_not_rest() {
    on_paused_clock(async {
        for (last, status) in [
            (
                "GET /b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
                "http/1.1 200 ",
            ),
            ("GET /b HTTP/1.0\r\nhost: a\r\n\r\n", "http/1.0 200 "),
        ] {
            let mut bench = start();
            bench.get("/a").await;
            bench.settle().await;
            bench.send(last).await;
            let (head, body) = bench.answer().await;
            assert!(head.starts_with(status), "{head}");
            assert_eq!(body, "2 /b 0");
            assert_eq!(bench.end(SOON).await, "");
            bench.over.await.unwrap();
        }
        // HTTP/1.0 that asks to stay, stays; and is another client's HTTP/1.1 no less.
        let mut bench = start();
        for number in [1, 3] {
            bench
                .send("GET /b HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n")
                .await;
            let (head, body) = bench.answer().await;
            assert!(head.starts_with("http/1.0 200 "), "{head}");
            assert_eq!(body, format!("{number} /b 0"));
            bench.settle().await;
            assert_eq!(bench.get("/a").await, format!("{} /a 0", number + 1));
            bench.settle().await;
        }
    });
}

#[test]
fn nothing_follows_a_close_that_takes_its_time() {
    on_paused_clock(async {
        let mut bench = start();
        bench.stuck.store(true, Ordering::Relaxed);
        bench
            .send("GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .await;
        assert_eq!(bench.answer().await.1, "1 /a 0");
        sleep(SETTLED).await;
        bench.send("GET /b HTTP/1.1\r\nhost: a\r\n\r\n").await;
        sleep(SETTLED).await;
        assert_eq!(*bench.targets.borrow(), ["/a"]);
    });
}

#[test]
fn it_is_idle_when_it_rests_and_not_while_requests_come() {
    on_paused_clock(async {
        let mut bench = start();
        for _ in 0..8 {
            bench.get("/a").await;
            sleep(REST / 2).await;
        }
        bench.get("/slow").await;
        assert_eq!(bench.idle.get(), 0);
        bench.settle().await;
        assert!(bench.at_rest());
        assert_eq!(bench.idle.get(), 1);
        bench.get("/a").await;
        assert_eq!(bench.idle.get(), 1);
        bench.settle().await;
        assert_eq!(bench.idle.get(), 2);
    });
}

#[test]
fn another_protocol_is_never_at_rest() {
    on_paused_clock(async {
        let mut bench = start();
        bench.get("/a").await;
        bench.settle().await;
        bench
            .send("GET /echo HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nahead")
            .await;
        assert!(bench.answer().await.0.starts_with("http/1.1 101 "));
        let mut said = [0; 5];
        bench.client.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"ahead");
        sleep(SETTLED * 2).await;
        bench.send("later").await;
        bench.client.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"later");
    });
}

#[test]
fn an_answer_under_way_keeps_hyper_on() {
    on_paused_clock(async {
        let mut bench = start();
        // The service takes its time.
        assert_eq!(bench.get("/slow").await, "1 /slow 0");
        bench.settle().await;
        // The client takes its time to read.
        bench.send("GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await;
        sleep(SETTLED * 2).await;
        assert!(!bench.at_rest());
        let mut whole = Vec::new();
        while !whole.ends_with(b"\r\n0\r\n\r\n") {
            let mut some = [0; 4096];
            let read = bench.client.read(&mut some).await.unwrap();
            assert!(read > 0, "it is whole");
            whole.extend_from_slice(&some[..read]);
            sleep(Duration::from_millis(5)).await;
        }
        let body = whole.iter().filter(|octet| **octet == b'x').count();
        assert_eq!(body, PIECES * 64 * 1024);
        bench.settle().await;
        assert_eq!(bench.get("/a").await, "3 /a 0");
    });
}

#[test]
fn a_drain_ends_a_connection_at_rest_at_once() {
    on_paused_clock(async {
        for requests in 0..2 {
            let mut bench = start();
            for _ in 0..requests {
                bench.get("/a").await;
            }
            bench.settle().await;
            bench.drain.take().unwrap().send(()).unwrap();
            assert_eq!(bench.end(SOON).await, "");
            bench.over.await.unwrap();
        }
        // A request that is there already is answered, the last one.
        let mut bench = start();
        bench.get("/a").await;
        bench.settle().await;
        bench.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
        bench.drain.take().unwrap().send(()).unwrap();
        let (head, body) = bench.answer().await;
        assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
        assert_eq!(body, "2 /slow 0");
        assert_eq!(bench.end(SOON).await, "");
    });
}

#[test]
fn the_idle_time_counts_from_the_last_answer() {
    on_paused_clock(async {
        for requests in 0..2 {
            let mut bench = start();
            for _ in 0..requests {
                sleep(Duration::from_secs(7)).await;
                bench.get("/a").await;
            }
            let begun = Instant::now();
            assert_eq!(bench.end(Duration::from_secs(90)).await, "");
            let (least, most) = (Duration::from_millis(59_990), Duration::from_millis(60_010));
            assert!(
                (least..most).contains(&begun.elapsed()),
                "{:?}",
                begun.elapsed()
            );
        }
        // Where it is shorter than what comes before a rest.
        let mut bench = start_with(Limits {
            idle_timeout: REST / 5,
            ..Limits::default()
        });
        bench.get("/a").await;
        assert_eq!(bench.end(REST / 2).await, "");
    });
}

#[test]
fn the_time_of_a_head_counts_from_its_first_octet() {
    on_paused_clock(async {
        let mut bench = start();
        bench.get("/a").await;
        sleep(Duration::from_secs(30)).await;
        let begun = Instant::now();
        bench.send("GET /b HT").await;
        let (head, _) = bench.answer().await;
        assert!(head.starts_with("http/1.1 408 "), "{head}");
        let (least, most) = (Duration::from_millis(9_990), Duration::from_millis(10_510));
        assert!(
            (least..most).contains(&begun.elapsed()),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(*bench.raw.lock().unwrap(), [Reason::RequestTooSlow]);
    });
}

#[test]
fn what_is_no_request_after_a_rest_has_our_answer() {
    on_paused_clock(async {
        let wide = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(40 * 1024));
        for (bytes, status, reason) in [
            (
                "G\u{0}T / HTTP/1.1\r\n\r\n",
                "400",
                Reason::RequestMalformed,
            ),
            (&wide, "431", Reason::FieldsTooLarge),
        ] {
            let mut bench = start();
            bench.get("/a").await;
            bench.settle().await;
            bench.send(bytes).await;
            let (head, _) = bench.answer().await;
            assert!(head.starts_with(&format!("http/1.1 {status} ")), "{head}");
            assert!(head.contains("\r\nx-fapi-interaction-id: "), "{head}");
            assert_eq!(*bench.raw.lock().unwrap(), [reason]);
            assert_eq!(bench.end(Duration::from_secs(5)).await, "");
        }
    });
}

#[test]
fn a_client_that_goes_ends_a_connection_at_rest() {
    on_paused_clock(async {
        for broken in [false, true] {
            for requests in 0..2 {
                let mut bench = start();
                for _ in 0..requests {
                    bench.get("/a").await;
                }
                bench.settle().await;
                if broken {
                    bench.broken.store(1, Ordering::Relaxed);
                    bench.send("x").await;
                } else {
                    bench.client.shutdown().await.unwrap();
                }
                bench.end(SOON).await;
                timeout(SOON, bench.over).await.unwrap().unwrap();
            }
        }
    });
}
