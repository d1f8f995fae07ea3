//! HTTP/2 towards the server.

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;

/// A server of HTTP/2 with prior knowledge that answers with what it got.
async fn server() -> (SocketAddr, Rc<Cell<usize>>) {
    peer(|_, stream| async move {
        let service = service_fn(|request: Request<Incoming>| async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?;
            let trailer = body
                .trailers()
                .and_then(|fields| fields.get("x-sum").cloned());
            let mut fields: Vec<_> = parts
                .headers
                .iter()
                .map(|(name, value)| format!("{name}={}", value.to_str().unwrap_or("?")))
                .collect();
            fields.sort();
            let said = format!(
                "{} {} {:?} [{}] {}",
                parts.method,
                parts.uri,
                trailer,
                fields.join(" "),
                String::from_utf8_lossy(&body.to_bytes())
            );
            let mut end = http::HeaderMap::new();
            end.insert("x-end", HeaderValue::from_static("1"));
            end.insert("authorization", HeaderValue::from_static("1"));
            let stream = futures_util::stream::iter([
                Ok::<_, hyper::Error>(Frame::data(Bytes::from(said))),
                Ok(Frame::trailers(end)),
            ]);
            Ok::<_, hyper::Error>(http::Response::new(StreamBody::new(stream)))
        });
        let ended = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await;
        drop(ended);
    })
    .await
}

fn http2(settings: &mut Settings) {
    settings.protocol = Protocol::Http2;
}

#[tokio::test]
async fn requests_share_a_connection() {
    on_a_thread(async {
        let (address, count) = server().await;
        let bench = bench(&[address], http2);
        let all = futures_util::future::join_all((0..20).map(|_| bench.ask(get("/a?b")))).await;
        for answer in all {
            let (status, said) = answer.unwrap();
            assert_eq!(status, 200);
            assert!(
                said.starts_with("GET http://api.bank.example/a?b None ["),
                "{said}"
            );
            for field in [
                "via=1.1 portcullis",
                "x-auth-subject=alice",
                "x-forwarded-for=192.0.2.7",
            ] {
                assert!(said.contains(field), "{said}");
            }
            assert!(!said.contains("host=api") || said.contains("x-forwarded-host=api"));
        }
        assert_eq!(count.get(), 1);
        assert_eq!(bench.shared.status()[0].connections, 1);
    })
    .await;
}

#[tokio::test]
async fn more_streams_than_one_connection_takes_make_another() {
    on_a_thread(async {
        let (address, count) = server().await;
        let bench = bench(&[address], http2);
        let all = futures_util::future::join_all((0..150).map(|_| bench.send(get("/")))).await;
        assert!(all.iter().all(Result::is_ok));
        assert_eq!(count.get(), 2);
    })
    .await;
}

#[tokio::test]
async fn bodies_and_trailers_go_both_ways() {
    // HTTP-18
    on_a_thread(async {
        let (address, _) = server().await;
        let (feed, body) = pieces();
        feed.send(data("abc")).unwrap();
        let mut sum = http::HeaderMap::new();
        sum.insert("x-sum", HeaderValue::from_static("7"));
        feed.send(Ok(Frame::trailers(sum))).unwrap();
        drop(feed);
        let request = with(
            over_http2(request("POST", "/", body)),
            &[("te", "trailers"), ("trailer", "x-sum")],
        );
        let answer = bench(&[address], http2).send(request).await.unwrap();
        let whole = answer.response.into_body().collect().await.unwrap();
        let trailers = whole.trailers().unwrap().clone();
        assert_eq!(trailers.len(), 1);
        assert_eq!(trailers["x-end"], "1");
        let said = String::from_utf8(whole.to_bytes().to_vec()).unwrap();
        assert!(said.contains("Some(\"7\")"), "{said}");
        assert!(
            said.contains("te=trailers") && said.ends_with(" abc"),
            "{said}"
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed() {
    on_a_thread(async {
        let (address, _) = server().await;
        let bench = bench(&[address], http2);
        bench.ask(get("/")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(9)).await;
        settle().await;
        assert_eq!(bench.shared.status()[0].connections, 0);
    })
    .await;
}

/// A peer of frames: preface and SETTINGS are exchanged, then it does `then` at each HEADERS.
async fn frames(then: fn(usize, u32) -> Vec<u8>) -> (SocketAddr, Rc<Cell<usize>>) {
    peer(move |connection, mut stream| async move {
        read_exact(&mut stream, 24).await;
        stream
            .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
            .await
            .unwrap();
        loop {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).await.is_err() {
                return;
            }
            let [a, b, c, kind, flags, rest @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            stream.read_exact(&mut payload).await.unwrap();
            match kind {
                4 if flags & 1 == 0 => {
                    stream
                        .write_all(&[0, 0, 0, 4, 1, 0, 0, 0, 0])
                        .await
                        .unwrap();
                }
                1 => {
                    let out = then(connection, u32::from_be_bytes(rest));
                    stream.write_all(&out).await.unwrap();
                }
                _ => {}
            }
        }
    })
    .await
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = vec![length[1], length[2], length[3], kind, flags];
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// HEADERS with `:status: 204` and the end.
fn no_content(stream: u32) -> Vec<u8> {
    frame(1, 5, stream, &[0x89])
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_whatever_its_method() {
    // RFC 9113 s8.7
    on_a_thread(async {
        let (address, _) = frames(|_, stream| match stream {
            1 => frame(3, 0, stream, &7_u32.to_be_bytes()),
            _ => no_content(stream),
        })
        .await;
        let bench = bench(&[address], http2);
        let sent = bench.send(request("POST", "/", nothing())).await.unwrap();
        assert_eq!(sent.response.status(), 204);
    })
    .await;
}

#[tokio::test]
async fn a_reset_stream_is_502_and_sent_once() {
    on_a_thread(async {
        let (address, _) = frames(|_, stream| match stream {
            1 => frame(3, 0, stream, &2_u32.to_be_bytes()),
            _ => no_content(stream),
        })
        .await;
        let bench = bench(&[address], http2);
        let failed = bench
            .send(request("POST", "/", nothing()))
            .await
            .unwrap_err();
        assert_eq!(failed.refusal.reason(), Reason::UpstreamProtocol);
        assert_eq!(failed.attempts, 1);
    })
    .await;
}

#[tokio::test]
async fn after_goaway_comes_another_connection() {
    on_a_thread(async {
        let (address, count) = frames(|connection, stream| {
            let mut out = no_content(stream);
            if connection == 0 {
                let mut last = stream.to_be_bytes().to_vec();
                last.extend(0_u32.to_be_bytes());
                out.extend(frame(7, 0, 0, &last));
            }
            out
        })
        .await;
        let bench = bench(&[address], http2);
        for _ in 0..3 {
            let sent = bench.send(request("POST", "/", nothing())).await.unwrap();
            assert_eq!(sent.response.status(), 204);
            drop(sent);
            settle().await;
        }
        assert_eq!(count.get(), 2);
    })
    .await;
}
