//! Upgrades.

use hyper_util::rt::TokioIo;

use super::*;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const AGREES: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
     sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn opening() -> Request<TestBody> {
    with(
        get("/ws"),
        &[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", KEY),
            ("sec-websocket-version", "13"),
        ],
    )
}

/// A client's connection that a hyper server upgrades: its client end, and the promise.
async fn upgradable() -> (tokio::io::DuplexStream, hyper::upgrade::OnUpgrade) {
    let (mut client, server) = tokio::io::duplex(4096);
    let (promise, promised) = tokio::sync::oneshot::channel();
    let promise = RefCell::new(Some(promise));
    let service = hyper::service::service_fn(move |mut request: Request<hyper::body::Incoming>| {
        let upgrade = hyper::upgrade::on(&mut request);
        promise.take().unwrap().send(upgrade).unwrap();
        async {
            let answer = http::Response::builder()
                .status(101)
                .header("connection", "upgrade")
                .header("upgrade", "websocket");
            answer.body(Empty::<Bytes>::new())
        }
    });
    spawn_local(async move {
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(server), service);
        connection.with_upgrades().await
    });
    client
        .write_all(
            b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nEARLY",
        )
        .await
        .unwrap();
    let upgrade = promised.await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    (client, upgrade)
}

async fn open(bench: &Bench) -> (Result<Forwarded, Failed>, tokio::io::DuplexStream) {
    let (client, upgrade) = upgradable().await;
    bench.route.borrow_mut().websocket = true;
    let facts = ForwardFacts {
        on_upgrade: Some(upgrade),
        ..bench.facts()
    };
    let permit = bench.permit(opening());
    (forward(&bench.pool, permit, facts).await, client)
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_carries_both_ways_and_ends_with_the_token() {
    // HTTP-23; contract: a WebSocket ends at the token's exp, here after 60 seconds
    on_a_thread(async {
        let (address, _) = peer(|_, mut stream| async move {
            let head = read_head(&mut stream).await.unwrap();
            assert!(head.contains("\r\nconnection: Upgrade\r\n"), "{head}");
            assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
            assert!(head.contains("\r\nsec-websocket-version: 13\r\n"), "{head}");
            // Nothing of what the client sent behind its request comes before the 101.
            settle().await;
            assert!(stream.try_read(&mut [0; 1]).is_err());
            stream.write_all(AGREES.as_bytes()).await.unwrap();
            assert_eq!(read_exact(&mut stream, 5).await, "EARLY");
            stream.write_all(b"hello").await.unwrap();
            assert_eq!(read_exact(&mut stream, 3).await, "bye");
            std::future::pending().await
        })
        .await;
        let bench = bench(&[address], |_| {});
        let (answer, mut client) = open(&bench).await;
        let response = answer.unwrap().response;
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()["upgrade"], "websocket");
        assert_eq!(response.headers()["connection"], "Upgrade");
        assert!(response.headers().contains_key("sec-websocket-accept"));
        drop(response);
        let mut bytes = [0; 5];
        client.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"hello");
        let started = tokio::time::Instant::now();
        client.write_all(b"bye").await.unwrap();
        assert_eq!(bench.shared.status()[0].connections, 1);
        // The end.
        assert_eq!(client.read(&mut bytes).await.unwrap(), 0);
        assert!((59..=60).contains(&started.elapsed().as_secs()));
        settle().await;
        assert_eq!(bench.shared.status()[0].connections, 0);
    })
    .await;
}

#[tokio::test]
async fn a_tunnel_ends_by_the_drain() {
    on_a_thread(async {
        let (address, ..) = answering(AGREES).await;
        let bench = bench(&[address], |_| {});
        let (client, upgrade) = upgradable().await;
        let mut client = client;
        bench.route.borrow_mut().websocket = true;
        let (drain, drained) = tokio::sync::oneshot::channel::<()>();
        let facts = ForwardFacts {
            on_upgrade: Some(upgrade),
            drain: Some(Box::pin(async { drop(drained.await) })),
            ..bench.facts()
        };
        let permit = bench.permit(opening());
        drop(forward(&bench.pool, permit, facts).await.unwrap());
        settle().await;
        drain.send(()).unwrap();
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_101_that_does_not_fit_is_502() {
    on_a_thread(async {
        for bytes in [
            "HTTP/1.1 101 X\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: AAAA\r\n\r\n",
            "HTTP/1.1 101 X\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n",
            "HTTP/1.1 101 X\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            "HTTP/1.1 101 X\r\nconnection: Upgrade\r\nupgrade: h2c\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        ] {
            let (address, ..) = answering(bytes).await;
            let (answer, _client) = open(&bench(&[address], |_| {})).await;
            let reason = answer.unwrap_err().refusal.reason();
            assert_eq!(reason, Reason::UpstreamProtocol, "{bytes}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_may_say_no() {
    on_a_thread(async {
        let (address, ..) =
            answering("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").await;
        let (answer, _client) = open(&bench(&[address], |_| {})).await;
        let answer = answer.unwrap();
        assert_eq!(answer.response.status(), 403);
        assert_eq!(text(answer).await.unwrap(), "no");
    })
    .await;
}

#[tokio::test]
async fn elsewhere_upgrade_is_ignored() {
    // HTTP-17
    on_a_thread(async {
        let (address, _, heads) = answering(OK).await;
        let bench = bench(&[address], |_| {});
        assert_eq!(bench.ask(opening()).await, ok());
        assert!(!heads.last().contains("upgrade"), "{}", heads.last());
        assert!(!heads.last().contains("connection"), "{}", heads.last());
    })
    .await;
}
