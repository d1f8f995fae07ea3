//! Connections that are used again, and those that must not be.

use super::*;

/// A peer that answers the first request of each connection and closes at the second, once it has
/// read it.
async fn closing_at_the_second() -> (SocketAddr, Rc<Cell<usize>>, Heads) {
    let heads = Heads::default();
    let notes = heads.clone();
    let (address, count) = peer(move |_, mut stream| {
        let notes = notes.clone();
        async move {
            let head = read_head(&mut stream).await.unwrap();
            notes.0.borrow_mut().push(head);
            stream.write_all(OK.as_bytes()).await.unwrap();
            if let Some(head) = read_head(&mut stream).await {
                notes.0.borrow_mut().push(head);
            }
        }
    })
    .await;
    (address, count, heads)
}

#[tokio::test]
async fn a_connection_is_used_again() {
    on_a_thread(async {
        let (address, count, heads) = answering(OK).await;
        let bench = bench(&[address], |_| {});
        for _ in 0..5 {
            assert_eq!(bench.ask(get("/")).await, ok());
        }
        assert_eq!((count.get(), heads.count()), (1, 5));
    })
    .await;
}

#[tokio::test]
async fn what_is_idempotent_is_sent_again_once() {
    // HTTP-12
    on_a_thread(async {
        for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
            let (address, _, heads) = closing_at_the_second().await;
            let bench = bench(&[address], |_| {});
            bench.ask(get("/1")).await.unwrap();
            let again = bench.send(request(method, "/2", nothing())).await.unwrap();
            assert_eq!(again.attempts, 2, "{method}");
            assert_eq!(heads.count(), 3, "{method}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_not_idempotent_is_seen_once() {
    // HTTP-12
    on_a_thread(async {
        for method in ["POST", "PATCH", "MERGE"] {
            let (address, _, heads) = closing_at_the_second().await;
            let bench = bench(&[address], |_| {});
            bench.ask(get("/1")).await.unwrap();
            let failed = bench.send(request(method, "/2", nothing())).await;
            let failed = failed.unwrap_err();
            assert_eq!(failed.refusal.reason(), Reason::UpstreamProtocol);
            assert_eq!(failed.attempts, 1, "{method}");
            assert_eq!(heads.count(), 2, "{method}");
        }
    })
    .await;
}

#[tokio::test]
async fn retries_end_and_a_touched_body_has_none() {
    // HTTP-12
    on_a_thread(async {
        let (address, _, heads) = closing_at_the_second().await;
        let none = bench(&[address], |s| s.retries = 0);
        none.ask(get("/1")).await.unwrap();
        assert_eq!(none.ask(get("/2")).await, Err(Reason::UpstreamProtocol));
        assert_eq!(heads.count(), 2);

        let bench = bench(&[address], |_| {});
        bench.ask(get("/1")).await.unwrap();
        let put = request("PUT", "/2", full("abc"));
        assert_eq!(bench.ask(put).await, Err(Reason::UpstreamProtocol));
        assert_eq!(heads.count(), 4);
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_began_is_never_asked_for_again() {
    // HTTP-12
    on_a_thread(async {
        let (address, count) = peer(|_, mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 2").await.unwrap();
        })
        .await;
        let bench = bench(&[address], |_| {});
        bench.ask(get("/1")).await.unwrap();
        assert_eq!(bench.ask(get("/2")).await, Err(Reason::UpstreamProtocol));
        assert_eq!(count.get(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_not_handed_out() {
    on_a_thread(async {
        let (address, count) = peer(|_, mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
        })
        .await;
        let bench = bench(&[address], |_| {});
        for turn in 1..4 {
            // Not even to what could not be sent twice, and without a pause between.
            let sent = bench.send(request("POST", "/", full("abc"))).await.unwrap();
            assert_eq!(sent.attempts, 1);
            assert_eq!(text(sent).await.unwrap(), "ok");
            assert_eq!(count.get(), turn);
        }
    })
    .await;
}

#[tokio::test]
async fn a_close_that_just_arrived_is_seen_before_a_post() {
    // The runtime has not looked at its sockets since: without another look the POST would go into
    // a closed connection, and be lost.
    on_a_thread(async {
        use std::io::{Read as _, Write as _};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (close, closing) = std::sync::mpsc::channel::<()>();
        let (closed, seen) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = [0; 2048];
                assert!(stream.read(&mut head).unwrap() > 0);
                stream.write_all(OK.as_bytes()).unwrap();
                closing.recv().unwrap();
                drop(stream);
                closed.send(()).unwrap();
            }
        });
        let bench = bench(&[address], |_| {});
        assert_eq!(bench.ask(get("/")).await, ok());
        settle().await;
        close.send(()).unwrap();
        seen.recv().unwrap();
        let sent = bench.send(request("POST", "/", nothing())).await.unwrap();
        assert_eq!(sent.attempts, 1);
        close.send(()).unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_though_nothing_happens() {
    on_a_thread(async {
        let ended = Rc::new(Cell::new(false));
        let notice = Rc::clone(&ended);
        let (address, _) = peer(move |_, mut stream| {
            let notice = Rc::clone(&notice);
            async move {
                read_head(&mut stream).await;
                stream.write_all(OK.as_bytes()).await.unwrap();
                notice.set(stream.read_u8().await.is_err());
            }
        })
        .await;
        let bench = bench(&[address], |_| {});
        bench.ask(get("/")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        settle().await;
        assert!(!ended.get());
        assert_eq!(bench.shared.status()[0].connections, 1);
        tokio::time::sleep(Duration::from_secs(2)).await;
        settle().await;
        assert!(ended.get());
        assert_eq!(bench.shared.status()[0].connections, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn over_the_limit_is_overloaded_after_a_wait() {
    on_a_thread(async {
        let (address, ..) = answering("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok").await;
        let bench = bench(&[address], |s| s.max_connections = 2);
        let first = bench.send(get("/")).await.unwrap();
        let second = bench.send(get("/")).await.unwrap();
        let started = tokio::time::Instant::now();
        assert_eq!(bench.ask(get("/")).await, Err(Reason::Overloaded));
        assert_eq!(started.elapsed(), Duration::from_secs(2));
        drop(first);
        assert_eq!(bench.send(get("/")).await.unwrap().attempts, 1);
        drop(second);
    })
    .await;
}

#[tokio::test]
async fn who_waits_gets_the_connection_that_comes_free() {
    on_a_thread(async {
        let (address, count, _) = answering(OK).await;
        let bench = bench(&[address], |s| s.max_connections = 1);
        let first = bench.send(get("/")).await.unwrap();
        let (freed, second) = tokio::join!(
            async {
                settle().await;
                text(first).await.unwrap()
            },
            bench.ask(get("/"))
        );
        assert_eq!(freed, "ok");
        assert_eq!(second, ok());
        assert_eq!(count.get(), 1);
    })
    .await;
}

#[tokio::test]
async fn idle_connections_of_one_thread_make_room_for_another() {
    on_a_thread(async {
        let (address, count, _) = answering(OK).await;
        let one = bench(&[address], |s| s.max_connections = 1);
        one.ask(get("/")).await.unwrap();
        settle().await;
        let other = Bench {
            pool: thread_of(&one.shared),
            shared: Arc::clone(&one.shared),
            route: RefCell::new(route()),
            timeout: one.timeout,
        };
        assert_eq!(other.ask(get("/")).await, ok());
        assert_eq!(count.get(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_reload_keeps_or_closes() {
    on_a_thread(async {
        let (address, count, _) = answering(OK).await;
        let bench = bench(&[address], |_| {});
        bench.ask(get("/")).await.unwrap();
        settle().await;
        let name: Arc<str> = "core".into();
        let same = HashMap::from([(Arc::clone(&name), Arc::clone(&bench.shared))]);
        assert!(bench.shared.is_of(&settings(&[address])));
        bench.pool.replace(&same);
        bench.ask(get("/")).await.unwrap();
        assert_eq!(count.get(), 1);

        let metrics = Metrics::new(UnixTime::from_secs(0));
        let other = Shared::new(settings(&[address]), &metrics);
        let under_way = bench.send(get("/")).await.unwrap();
        bench.pool.replace(&HashMap::from([(name, other)]));
        assert_eq!(text(under_way).await.unwrap(), "ok");
        settle().await;
        bench.ask(get("/")).await.unwrap();
        assert_eq!(count.get(), 2);
        settle().await;
        assert_eq!(bench.shared.status()[0].connections, 0);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_connection() {
    on_a_thread(async {
        let (address, ..) = answering("").await;
        let bench = bench(&[address], |_| {});
        tokio::select! {
            _ = bench.send(get("/")) => panic!("there is no answer"),
            () = async { for _ in 0..50 { settle().await } } => {}
        }
        settle().await;
        assert_eq!(bench.shared.status()[0].connections, 0);
    })
    .await;
}
