//! An introspection endpoint of raw sockets, which can misbehave in ways no server library has.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::pip::fetch::Aborted;

/// What the peer does with a call.
#[derive(Debug, Clone)]
pub(super) enum Does {
    /// Says this of every token.
    Json(String),
    /// Sends these bytes and closes.
    Raw(Vec<u8>),
    /// Reads the request and says nothing.
    Hang,
    /// Says it when it is told to.
    Gate(String, Arc<Notify>),
    /// Rejects tokens that hold this text with 400, and says of others that they are inactive.
    Rejects(&'static str),
    /// Rejects tokens that hold this text with 400, and fails for others.
    RejectsOrFails(&'static str),
}

pub(super) fn response(status: u16, kind: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

pub(super) struct Server {
    pub(super) at: std::net::SocketAddr,
    does: Arc<Mutex<Does>>,
    calls: Arc<AtomicUsize>,
    pub(super) connections: Arc<AtomicUsize>,
    pub(super) open: Arc<AtomicUsize>,
    pub(super) most_open: Arc<AtomicUsize>,
    _task: Aborted,
}

impl Server {
    pub(super) async fn start(first: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let does = Arc::new(Mutex::new(first));
        let counts: [Arc<AtomicUsize>; 4] = Default::default();
        let [calls, connections, open, most_open] = counts.clone();
        let shared = Arc::clone(&does);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counts[1].fetch_add(1, SeqCst);
                tokio::spawn(serve(stream, Arc::clone(&shared), counts.clone()));
            }
        });
        Self {
            at,
            does,
            calls,
            connections,
            open,
            most_open,
            _task: Aborted(task.abort_handle()),
        }
    }

    pub(super) fn now_does(&self, does: Does) {
        *self.does.lock().unwrap() = does;
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }
}

async fn serve(mut stream: TcpStream, does: Arc<Mutex<Does>>, counts: [Arc<AtomicUsize>; 4]) {
    let [calls, _, open, most_open] = counts;
    let mut read = Vec::new();
    loop {
        let (head, body) = loop {
            let text = String::from_utf8_lossy(&read).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "))
                    .map_or(0, |length| length.parse().unwrap());
                if body.len() >= length {
                    break (head.to_owned(), body.to_owned());
                }
            }
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        };
        read.clear();
        assert!(head.starts_with("POST /i HTTP/1.1"), "INT-01: {head}");
        assert!(head.contains("application/x-www-form-urlencoded"), "{head}");
        assert!(!head.contains("token="), "not in the URL: {head}");
        calls.fetch_add(1, SeqCst);
        let at_once = open.fetch_add(1, SeqCst) + 1;
        most_open.fetch_max(at_once, SeqCst);
        let does = does.lock().unwrap().clone();
        let (answer, close) = match does {
            Does::Json(body) => (response(200, "application/json", &body), false),
            Does::Raw(bytes) => (bytes, true),
            Does::Hang => std::future::pending().await,
            Does::Gate(body, gate) => {
                gate.notified().await;
                (response(200, "application/json", &body), false)
            }
            Does::Rejects(text) | Does::RejectsOrFails(text) if body.contains(text) => {
                let body = r#"{"error":"invalid_request"}"#;
                (response(400, "application/json", body), false)
            }
            Does::RejectsOrFails(_) => (response(500, "text/html", "no"), false),
            Does::Rejects(_) => {
                let body = r#"{"active":false}"#;
                (response(200, "application/json", body), false)
            }
        };
        open.fetch_sub(1, SeqCst);
        if stream.write_all(&answer).await.is_err() || close {
            return;
        }
    }
}
