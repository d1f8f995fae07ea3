//! Several servers.

use super::*;
use crate::upstream::balance::Order;

/// An address at which nobody listens.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn requests_go_round() {
    on_a_thread(async {
        let (a, _, of_a) = answering(OK).await;
        let (b, _, of_b) = answering(OK).await;
        let bench = bench(&[a, b], |_| {});
        for _ in 0..6 {
            bench.ask(get("/")).await.unwrap();
        }
        assert_eq!((of_a.count(), of_b.count()), (3, 3));
    })
    .await;
}

#[tokio::test]
async fn a_server_that_takes_no_connection_is_passed_over() {
    // Not a byte was sent, so any method may go on.
    on_a_thread(async {
        let (good, _, heads) = answering(OK).await;
        let bench = bench(&[nobody().await, good], |_| {});
        for method in ["POST", "GET"] {
            let sent = bench.send(request(method, "/", nothing())).await.unwrap();
            assert_eq!(*sent.server, *good.to_string());
            assert_eq!(sent.attempts, 1);
        }
        assert_eq!(heads.count(), 2);
    })
    .await;
}

#[tokio::test]
async fn where_none_takes_one_it_is_unreachable() {
    on_a_thread(async {
        let bench = bench(&[nobody().await, nobody().await], |_| {});
        let failed = bench.send(get("/")).await.unwrap_err();
        assert_eq!(failed.refusal.reason(), Reason::UpstreamUnreachable);
        assert_eq!(failed.attempts, 0);
        let nowhere = super::bench(&[nobody().await], |s| {
            s.servers[0].host = "no-such-host.invalid".into();
        });
        assert_eq!(
            nowhere.ask(get("/")).await,
            Err(Reason::UpstreamUnreachable)
        );
    })
    .await;
}

#[tokio::test]
async fn a_server_whose_connections_are_all_in_use_is_passed_over() {
    on_a_thread(async {
        let half = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok";
        let (a, _, of_a) = answering(half).await;
        let (b, _, of_b) = answering(half).await;
        let bench = bench(&[a, b], |s| s.max_connections = 2);
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push(bench.send(get("/")).await.unwrap());
        }
        held.remove(1);
        settle().await;
        // One has one place, the other two: nobody waits for three more.
        let started = std::time::Instant::now();
        for _ in 0..3 {
            held.push(bench.send(get("/")).await.unwrap());
        }
        assert!(started.elapsed() < Duration::from_secs(2));
        assert_eq!(of_a.count() + of_b.count(), 5);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_leave_a_server_out_for_a_time() {
    on_a_thread(async {
        let (good, _, of_good) = answering(OK).await;
        let (bad, _, of_bad) = answering("nonsense\r\n\r\n").await;
        let bench = bench(&[good, bad], |s| {
            s.eject = Some(Eject {
                failures: 2,
                duration: Duration::from_secs(10),
            });
        });
        for _ in 0..4 {
            drop(bench.ask(get("/")).await);
        }
        assert_eq!((of_good.count(), of_bad.count()), (2, 2));
        let out: Vec<_> = bench.shared.status().iter().map(|s| s.ejected).collect();
        assert_eq!(out, [false, true]);
        for _ in 0..4 {
            assert_eq!(bench.ask(get("/")).await, ok());
        }
        assert_eq!((of_good.count(), of_bad.count()), (6, 2));
        // Ten seconds later it gets its turn again.
        tokio::time::advance(Duration::from_secs(11)).await;
        for _ in 0..2 {
            drop(bench.ask(get("/")).await);
        }
        assert_eq!((of_good.count(), of_bad.count()), (7, 3));
    })
    .await;
}

#[tokio::test]
async fn the_only_server_is_tried_though_it_is_left_out() {
    on_a_thread(async {
        let (address, _, heads) =
            answering("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await;
        let bench = bench(&[address], |s| {
            s.eject = Some(Eject {
                failures: 1,
                duration: Duration::from_secs(100),
            });
        });
        for _ in 0..3 {
            assert_eq!(bench.ask(get("/")).await, Ok((503, String::new())));
        }
        assert!(bench.shared.status()[0].ejected);
        assert_eq!(heads.count(), 3);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn active_checks_find_what_is_ill_and_what_is_well_again() {
    on_a_thread(async {
        let ill = Rc::new(Cell::new(true));
        let state = Rc::clone(&ill);
        let (address, _) = peer(move |_, mut stream| {
            let ill = state.get();
            async move {
                let head = read_head(&mut stream).await.unwrap();
                assert!(
                    head.starts_with("GET /base/health HTTP/1.1\r\nhost: 127.0.0.1:"),
                    "{head}"
                );
                let status = if ill { "500 No" } else { "204 Yes" };
                let answer = format!("HTTP/1.1 {status}\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        })
        .await;
        let bench = bench(&[address], |s| {
            s.servers[0].prefix = "/base".into();
            s.health = Some(Health {
                path: "/health".into(),
                every: Duration::from_secs(5),
            });
        });
        // On a runtime of many threads, as it may be.
        let checks = tokio::spawn(health::run(Arc::clone(&bench.shared)));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!bench.shared.status()[0].healthy);
        ill.set(false);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(!bench.shared.status()[0].healthy);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(bench.shared.status()[0].healthy);
        checks.abort();
    })
    .await;
}

#[tokio::test]
async fn those_that_are_well_come_first_and_each_once() {
    let addresses: Vec<SocketAddr> = (1..=5)
        .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
        .collect();
    let bench = bench(&addresses, |_| {});
    let shared = &bench.shared;
    shared.checked(&shared.servers[1], Err("ill".to_owned()));
    shared.checked(&shared.servers[2], Err("ill".to_owned()));
    for start in 0..12_usize {
        let mut order = Order::new(start);
        let well = |index: usize| shared.servers[index].is_available();
        let all: Vec<_> = std::iter::from_fn(|| order.next(5, well)).collect();
        assert_eq!(all.len(), 5);
        assert!(all[3..].contains(&1) && all[3..].contains(&2), "{all:?}");
        let first = [0, 1, 2, 3, 4]
            .iter()
            .cycle()
            .skip(start)
            .find(|i| ![1, 2].contains(*i));
        assert_eq!(all.first(), first);
    }
}
