//! Bodies: back-pressure, ends that are none, and answers that come early.

use super::*;

#[tokio::test]
async fn a_body_that_ends_short_cuts_the_connection() {
    // CVE-2026-33555: the server must not take the next request for the rest
    on_a_thread(async {
        let rest = Rc::new(RefCell::new(None));
        let seen = Rc::clone(&rest);
        let (address, connections) = peer(move |_, mut stream| {
            let seen = Rc::clone(&seen);
            async move {
                read_head(&mut stream).await;
                let mut bytes = Vec::new();
                let end = stream.read_to_end(&mut bytes).await.is_ok();
                seen.replace(Some((bytes, end)));
            }
        })
        .await;
        let bench = bench(&[address], |_| {});
        let short = with(
            request("POST", "/", full("abc")),
            &[("content-length", "9")],
        );
        let failed = bench.send(over_http2(short)).await.unwrap_err();
        assert!(failed.body_failed);
        assert_eq!(failed.refusal.reason(), Reason::RequestMalformed);
        settle().await;
        let bytes = rest.borrow().clone().unwrap().0;
        assert!(b"abc".starts_with(&bytes), "{bytes:?}");
        assert_eq!(connections.get(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_body_longer_than_declared_is_the_clients_fault() {
    on_a_thread(async {
        let (address, ..) = answering("").await;
        let (feed, body) = pieces();
        feed.send(data("abcdef")).unwrap();
        let long = with(request("POST", "/", body), &[("content-length", "3")]);
        let failed = bench(&[address], |_| {}).send(long).await.unwrap_err();
        assert!(failed.body_failed);
    })
    .await;
}

fn eject_at_once(settings: &mut Settings) {
    settings.eject = Some(Eject {
        failures: 1,
        duration: Duration::from_secs(10),
    });
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_time_is_over_is_504_and_not_counted_against_the_server() {
    // A client that sends for as long as the request may take could eject any server.
    on_a_thread(async {
        let (address, ..) = answering("").await;
        let bench = bench(&[address], |s| {
            eject_at_once(s);
            s.response_timeout = Duration::from_secs(90);
        });
        let started = tokio::time::Instant::now();
        let failed = bench.send(get("/")).await.unwrap_err();
        assert_eq!(failed.refusal.reason(), Reason::UpstreamTimeout);
        assert_eq!(started.elapsed().as_secs(), 60, "the request's own time");
        assert!(!bench.shared.status()[0].ejected);
        settle().await;
        assert_eq!(bench.shared.status()[0].connections, 0, "it is cut");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_breaks_off_is_not_counted_against_the_server() {
    on_a_thread(async {
        let (address, ..) = answering("").await;
        let bench = bench(&[address], eject_at_once);
        let (feed, body) = pieces();
        feed.send(data("abc")).unwrap();
        feed.send(Err("gone".into())).unwrap();
        let failed = bench.send(request("PUT", "/", body)).await.unwrap_err();
        assert!(failed.body_failed);
        assert!(!bench.shared.status()[0].ejected);
    })
    .await;
}

#[tokio::test]
async fn an_early_answer_is_relayed_and_its_connection_is_not_used_again() {
    on_a_thread(async {
        let (address, connections, _) =
            answering("HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno").await;
        let bench = bench(&[address], |_| {});
        let (feed, body) = pieces();
        feed.send(data("abc")).unwrap();
        let answer = bench.ask(request("POST", "/", body)).await;
        assert_eq!(answer, Ok((413, "no".to_owned())));
        settle().await;
        // The upload was let go of with its connection.
        assert!(feed.send(data("def")).is_err());
        assert_eq!(bench.ask(get("/")).await, Ok((413, "no".to_owned())));
        assert_eq!(connections.get(), 2);
    })
    .await;
}

#[tokio::test]
async fn an_upload_goes_on_while_nobody_reads_its_answer() {
    // A client may send all it has before it looks at what came.
    on_a_thread(async {
        let uploaded = Rc::new(RefCell::new(String::new()));
        let seen = Rc::clone(&uploaded);
        let (address, count) = peer(move |_, mut stream| {
            let seen = Rc::clone(&seen);
            async move {
                read_head(&mut stream).await;
                let begun = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n";
                stream.write_all(begun).await.unwrap();
                let body = read_head(&mut stream).await.unwrap();
                seen.replace(body);
                stream.write_all(b"0\r\n\r\n").await.unwrap();
                read_head(&mut stream).await;
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
        })
        .await;
        let bench = bench(&[address], |_| {});
        let (feed, body) = pieces();
        feed.send(data("abc")).unwrap();
        let early = bench.send(request("POST", "/", body)).await.unwrap();
        feed.send(data("defg")).unwrap();
        drop(feed);
        for _ in 0..50 {
            settle().await;
        }
        assert_eq!(*uploaded.borrow(), "3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n");
        assert_eq!(text(early).await.unwrap(), "ok");
        // Both directions ended, so the connection is as good as any.
        assert_eq!(bench.ask(get("/")).await, ok());
        assert_eq!(count.get(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_breaks_off_cuts_the_answer_that_began() {
    on_a_thread(async {
        let (address, _) = peer(|_, mut stream| async move {
            read_head(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok")
                .await
                .unwrap();
            std::future::pending().await
        })
        .await;
        let bench = bench(&[address], eject_at_once);
        let (feed, body) = pieces();
        feed.send(data("abc")).unwrap();
        let early = bench.send(request("POST", "/", body)).await.unwrap();
        let (text, ()) = tokio::join!(text(early), async {
            settle().await;
            feed.send(Err("gone".into())).unwrap();
        });
        assert_eq!(text.unwrap_err().reason(), Reason::UpstreamProtocol);
        assert!(!bench.shared.status()[0].ejected, "its own doing");
    })
    .await;
}

#[tokio::test]
async fn bodies_wait_for_who_reads_them() {
    // HTTP: back-pressure up
    on_a_thread(async {
        let (address, _) = peer(|_, stream| async move {
            // Reads nothing, ever.
            std::future::pending::<()>().await;
            drop(stream);
        })
        .await;
        let taken = Rc::new(Cell::new(0_usize));
        let counted = Rc::clone(&taken);
        let endless = futures_util::stream::unfold((), move |()| {
            counted.set(counted.get() + 1);
            async { Some((Ok(Frame::data(Bytes::from_static(&[0; 65536]))), ())) }
        });
        let bench = bench(&[address], |_| {});
        let sending = bench.send(request("POST", "/", Box::pin(StreamBody::new(endless))));
        tokio::select! {
            _ = sending => panic!("there is no answer"),
            () = async { for _ in 0..2000 { settle().await } } => {}
        }
        let before = taken.get();
        assert!(before > 0);
        assert!(
            before < 1000,
            "{before} pieces went into a socket that nobody reads"
        );
    })
    .await;
}

#[tokio::test]
async fn an_answer_waits_for_the_client() {
    // HTTP: back-pressure down
    on_a_thread(async {
        let written = Rc::new(Cell::new(0_usize));
        let counted = Rc::clone(&written);
        let (address, _) = peer(move |_, mut stream| {
            let counted = Rc::clone(&counted);
            async move {
                read_head(&mut stream).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                while stream.write_all(&[0; 65536]).await.is_ok() {
                    counted.set(counted.get() + 1);
                }
            }
        })
        .await;
        let answer = bench(&[address], |_| {}).send(get("/")).await.unwrap();
        for _ in 0..2000 {
            settle().await;
        }
        assert!(written.get() < 1000, "{} pieces", written.get());
        drop(answer);
        for _ in 0..2000 {
            settle().await;
        }
        assert!(written.get() < 1000, "a dropped answer ends its connection");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stalls_is_not_a_slow_server() {
    on_a_thread(async {
        let (address, _) = peer(|_, mut stream| async move {
            let mut sink = [0; 1024];
            while stream.read(&mut sink).await.is_ok_and(|n| n > 0) {}
        })
        .await;
        let bench = bench(&[address], |s| s.response_timeout = Duration::from_secs(3));
        let (feed, body) = pieces();
        spawn_local(async move {
            feed.send(data("abc")).unwrap();
            // Longer than the server may take: whoever reads the client bounds this, not we.
            tokio::time::sleep(Duration::from_secs(20)).await;
            feed.send(data("def")).unwrap();
        });
        let started = tokio::time::Instant::now();
        let failed = bench.send(request("POST", "/", body)).await.unwrap_err();
        assert_eq!(failed.refusal.reason(), Reason::UpstreamTimeout);
        assert_eq!(
            started.elapsed().as_secs(),
            23,
            "three seconds from the end"
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_long_upload_is_not_slow_but_a_silent_server_is() {
    on_a_thread(async {
        let (address, _) = peer(|_, mut stream| async move {
            let mut sink = [0; 1024];
            while stream.read(&mut sink).await.is_ok_and(|n| n > 0) {}
        })
        .await;
        let bench = bench(&[address], |s| s.response_timeout = Duration::from_secs(3));
        let (feed, body) = pieces();
        spawn_local(async move {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(2)).await;
                feed.send(data("abc")).unwrap();
            }
        });
        let started = tokio::time::Instant::now();
        let failed = bench.send(request("POST", "/", body)).await.unwrap_err();
        assert_eq!(failed.refusal.reason(), Reason::UpstreamTimeout);
        // Five pieces, then its three seconds.
        assert_eq!(started.elapsed().as_secs(), 13);
    })
    .await;
}
