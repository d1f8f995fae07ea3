//! What reaches the server.

use super::*;

#[tokio::test]
async fn the_canonical_request_goes_up_and_no_other() {
    // HTTP-01, HTTP-02, HTTP-09, HTTP-10, FWD-01, FWD-07, FWD-09, FAPIH-06
    on_a_thread(async {
        let (address, _, heads) = answering(OK).await;
        let bench = bench(&[address], |_| {});
        let request = with(
            get("/a%20b?x=%2F&y"),
            &[
                ("authorization", "Bearer x"),
                ("x-forwarded-for", "6.6.6.6"),
                ("x_auth_subject", "mallory"),
                ("connection", "close, x-auth-subject, x-mine"),
                ("x-mine", "1"),
                ("upgrade", "h2c"),
                ("http2-settings", "AAA"),
                ("expect", "100-continue"),
                ("x-a", "1"),
                ("x-a", "2"),
            ],
        );
        bench.route.borrow_mut().forward = Arc::new(ForwardRules {
            authorization: false,
            host: None,
            strip: Vec::new(),
            headers: vec![(
                HeaderName::from_static("x-auth-subject"),
                crate::pdp::policy::Fact::RouteName,
            )],
        });
        assert_eq!(bench.ask(request).await, ok());
        let id = InteractionId::from_random([7; 16]);
        assert_eq!(
            heads.last(),
            format!(
                "GET /a%20b?x=%2F&y HTTP/1.1\r\nx-a: 1\r\nx-a: 2\r\nhost: api.bank.example\r\n\
                 x-fapi-interaction-id: {}\r\nvia: 1.1 portcullis\r\n\
                 forwarded: for=192.0.2.7;proto=https;host=api.bank.example\r\n\
                 x-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: https\r\n\
                 x-forwarded-host: api.bank.example\r\nx-auth-subject: alice\r\n\r\n",
                id.as_str()
            )
        );
    })
    .await;
}

#[tokio::test]
async fn path_and_host_are_as_the_configuration_says() {
    on_a_thread(async {
        let (address, _, heads) = answering(OK).await;
        let bench = bench(&[address], |s| s.servers[0].prefix = "/base".into());
        {
            let mut route = bench.route.borrow_mut();
            route.rewrite = Some(Rewrite {
                from: "/psd2".into(),
                to: "/v1".into(),
            });
            route.forward = Arc::new(ForwardRules {
                host: Some("inner.example".into()),
                ..(*route.forward).clone()
            });
        }
        assert_eq!(bench.ask(get("/psd2/a%2Cb?q")).await, ok());
        assert!(
            heads
                .last()
                .starts_with("GET /base/v1/a%2Cb?q HTTP/1.1\r\n")
        );
        assert!(heads.last().contains("\r\nhost: inner.example\r\n"));

        // A path that the rewrite does not take goes nowhere.
        bench.route.borrow_mut().rewrite = Some(Rewrite {
            from: "/psd2".into(),
            to: "/v1".into(),
        });
        let refused = bench.ask(get("/psd22/a")).await;
        assert_eq!(refused, Err(Reason::RouteNotFound));
        assert_eq!(heads.count(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_loop_is_refused() {
    // HTTP-19
    on_a_thread(async {
        let (address, count, _) = answering(OK).await;
        let bench = bench(&[address], |_| {});
        let looped = with(get("/"), &[("via", &["1.1 portcullis"; 5].join(", "))]);
        assert_eq!(bench.ask(looped).await, Err(Reason::LoopDetected));
        assert_eq!(count.get(), 0);
    })
    .await;
}

#[tokio::test]
async fn framing_is_made_anew() {
    // HTTP-03, RFC 9110 s8.6
    on_a_thread(async {
        let (address, count) = peer(|_, mut stream| async move {
            while let Some(head) = read_head(&mut stream).await {
                let body = if head.contains("content-length: 3\r\n") {
                    assert!(!head.contains("transfer-encoding"));
                    read_exact(&mut stream, 3).await
                } else if head.contains("transfer-encoding: chunked\r\n") {
                    assert!(!head.contains("content-length"));
                    read_exact(&mut stream, 13).await
                } else if head.contains("content-length: 0\r\n") {
                    "zero".to_owned()
                } else {
                    "none".to_owned()
                };
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        })
        .await;
        let bench = bench(&[address], |_| {});
        let said = |text: &str| Ok((200, text.to_owned()));
        let sized = with(
            request("POST", "/", full("abc")),
            &[("content-length", "3")],
        );
        assert_eq!(bench.ask(sized).await, said("abc"));
        let chunked = "3\r\nabc\r\n0\r\n\r\n";
        let open = with(
            request("POST", "/", full("abc")),
            &[("transfer-encoding", "chunked")],
        );
        assert_eq!(bench.ask(open).await, said(chunked));
        // A body with GET is the client's business, but it must not get lost.
        let odd = with(
            request("GET", "/", full("abc")),
            &[("transfer-encoding", "chunked")],
        );
        assert_eq!(bench.ask(odd).await, said(chunked));
        let http2 = over_http2(request("PUT", "/", full("abc")));
        assert_eq!(bench.ask(http2).await, said(chunked));
        assert_eq!(
            bench.ask(request("POST", "/", nothing())).await,
            said("zero")
        );
        assert_eq!(
            bench.ask(request("DELETE", "/", nothing())).await,
            said("none")
        );
        assert_eq!(count.get(), 1);
    })
    .await;
}

#[tokio::test]
async fn trailers_go_both_ways() {
    // HTTP-18
    on_a_thread(async {
        let (address, _) = peer(|_, mut stream| async move {
            let head = read_head(&mut stream).await.unwrap();
            assert!(head.contains("\r\ntrailer: x-sum\r\n"), "{head}");
            assert!(head.contains("\r\nte: trailers\r\n"), "{head}");
            let body = read_head(&mut stream).await.unwrap();
            assert_eq!(body, "3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n");
            stream
                .write_all(
                    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-end, authorization\r\n\r\n\
                      2\r\nok\r\n0\r\nx-end: 2\r\nauthorization: z\r\nset-cookie: y\r\n\r\n",
                )
                .await
                .unwrap();
            std::future::pending().await
        })
        .await;
        let (feed, body) = pieces();
        feed.send(data("abc")).unwrap();
        let mut fields = http::HeaderMap::new();
        fields.insert("x-sum", HeaderValue::from_static("1"));
        fields.insert("authorization", HeaderValue::from_static("Bearer x"));
        feed.send(Ok(Frame::trailers(fields))).unwrap();
        let request = with(
            request("POST", "/", body),
            &[
                ("transfer-encoding", "chunked"),
                ("te", "trailers"),
                ("trailer", "x-sum, authorization"),
            ],
        );
        let answer = bench(&[address], |_| {}).send(request).await.unwrap();
        assert_eq!(answer.response.headers()["trailer"], "x-end");
        let whole = answer.response.into_body().collect().await.unwrap();
        let trailers = whole.trailers().unwrap().clone();
        assert_eq!(trailers.len(), 1);
        assert_eq!(trailers["x-end"], "2");
        assert_eq!(whole.to_bytes(), "ok");
    })
    .await;
}

#[tokio::test]
async fn cookie_crumbs_of_http2_become_one_line() {
    on_a_thread(async {
        let (address, _, heads) = answering(OK).await;
        let crumbs = with(get("/"), &[("cookie", "a=1"), ("cookie", "b=2")]);
        bench(&[address], |_| {})
            .ask(over_http2(crumbs))
            .await
            .unwrap();
        assert!(heads.last().contains("\r\ncookie: a=1; b=2\r\n"));
        assert!(heads.last().contains("\r\nvia: 2 portcullis\r\n"));
    })
    .await;
}
