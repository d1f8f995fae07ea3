//! The table "upstream response": what servers send, and what comes of it.

use super::*;

/// What one `GET` gets from a server that sends these bytes and then keeps the connection open, and
/// whether a second one got the same connection.
async fn after(bytes: &'static str, method: &str) -> (Result<(u16, String), Reason>, bool) {
    let (address, connections, _) = answering(bytes).await;
    let bench = bench(&[address], |s| s.response_timeout = Duration::from_secs(2));
    let first = bench.ask(request(method, "/", nothing())).await;
    settle().await;
    let second = bench.ask(request(method, "/", nothing())).await;
    assert_eq!(first, second);
    (first, connections.get() == 1)
}

#[tokio::test]
async fn good_answers_pass_and_their_connection_stays() {
    on_a_thread(async {
        for bytes in [
            OK,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
            // HTTP-23: swallowed
            "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        ] {
            assert_eq!(after(bytes, "GET").await, (ok(), true), "{bytes}");
        }
    })
    .await;
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    on_a_thread(async {
        let none = |status| Ok((status, String::new()));
        let bare = "HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(after(bare, "GET").await, (none(204), true));
        let bare = "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n";
        assert_eq!(after(bare, "GET").await, (none(304), true));
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
        assert_eq!(after(head, "HEAD").await, (none(200), true));
        // With one all the same: not passed on, and what is left does not become an answer.
        let body = "HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\nok";
        assert_eq!(after(body, "GET").await, (none(204), false));
        assert_eq!(after(OK, "HEAD").await, (none(200), false));
    })
    .await;
}

#[tokio::test]
async fn what_is_no_http_is_502_and_its_connection_goes() {
    // HTTP-20, HTTP-23
    on_a_thread(async {
        for bytes in [
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length : 2\r\n\r\nok",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok",
            "nonsense\r\n\r\n",
        ] {
            assert_eq!(
                after(bytes, "GET").await,
                (Err(Reason::UpstreamProtocol), false),
                "{bytes}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_head_that_never_ends_is_502() {
    // HTTP-20
    on_a_thread(async {
        let (address, _) = peer(|_, mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await.unwrap();
            while stream.write_all(&[b'a'; 1024]).await.is_ok() {}
        })
        .await;
        let answer = bench(&[address], |_| {}).ask(get("/")).await;
        assert_eq!(answer, Err(Reason::UpstreamProtocol));
    })
    .await;
}

#[tokio::test]
async fn bytes_after_an_answer_are_no_answer_to_the_next() {
    // Queue poisoning
    on_a_thread(async {
        let twice = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
        assert_eq!(after(twice, "GET").await, (ok(), false));
    })
    .await;
}

/// A server that answers its only request so and closes.
async fn closing(bytes: &'static str) -> Result<(u16, String), Reason> {
    let (address, _) = peer(move |_, mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(bytes.as_bytes()).await.unwrap();
    })
    .await;
    bench(&[address], |_| {}).ask(get("/")).await
}

#[tokio::test]
async fn a_connection_that_closes_early_is_502_or_cuts_the_stream() {
    on_a_thread(async {
        let broken = Err(Reason::UpstreamProtocol);
        assert_eq!(closing("").await, broken);
        assert_eq!(closing("HTTP/1.1 200 OK\r\ncontent-le").await, broken);
        assert_eq!(
            closing("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok").await,
            broken
        );
        assert_eq!(
            closing("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n").await,
            broken
        );
        assert_eq!(
            closing("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nok\r\n").await,
            broken
        );
        // Where the close is the end, it is one.
        assert_eq!(closing("HTTP/1.1 200 OK\r\n\r\nok").await, ok());
        assert_eq!(
            closing("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok").await,
            ok()
        );
    })
    .await;
}

#[tokio::test]
async fn fields_of_the_answer_are_cleaned() {
    // HTTP-01, FAPIH-05
    on_a_thread(async {
        let (address, ..) = answering(
            "HTTP/1.1 200 OK\r\nconnection: keep-alive, x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n\
             proxy-authenticate: Basic\r\nalt-svc: h3\r\nx-fapi-interaction-id: x\r\n\
             set-cookie: a\r\nset-cookie: b\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        )
        .await;
        let answer = bench(&[address], |_| {}).send(get("/")).await.unwrap();
        let fields: Vec<_> = answer
            .response
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        assert_eq!(fields, ["set-cookie: a", "set-cookie: b"]);
        assert_eq!(*answer.server, *address.to_string());
        assert_eq!(answer.attempts, 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_504() {
    on_a_thread(async {
        let (address, ..) = answering("").await;
        let bench = bench(&[address], |s| s.response_timeout = Duration::from_secs(3));
        let started = tokio::time::Instant::now();
        assert_eq!(bench.ask(get("/")).await, Err(Reason::UpstreamTimeout));
        assert_eq!(started.elapsed().as_secs(), 3);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_stops_is_cut_after_its_time() {
    on_a_thread(async {
        let (address, ..) = answering("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok").await;
        let mut bench = bench(&[address], |_| {});
        bench.timeout = Duration::from_secs(5);
        let started = tokio::time::Instant::now();
        assert_eq!(bench.ask(get("/")).await, Err(Reason::UpstreamTimeout));
        assert_eq!(started.elapsed().as_secs(), 5);
    })
    .await;
}
