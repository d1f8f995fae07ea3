//! HTTP/2, frame by frame: floods, and frames that break the rules.

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Outcome, PING, RST_STREAM, Raw, SETTINGS,
    WINDOW_UPDATE, block, frame,
};
use super::http2::head;
use super::playing;
use crate::lab::client::Request;
use crate::lab::h2::Http2;
use crate::support::stage::Playing;
use std::time::{Duration, Instant};

/// Asserts that others are served while and after somebody misbehaves, and in bounded memory.
fn alive_after(playing: &Playing, name: &str, attack: impl FnOnce(&mut Raw)) {
    let memory = playing.gate.memory_kib();
    let mut raw = Raw::open(&playing.client());
    attack(&mut raw);
    let started = Instant::now();
    let mut connection = Http2::open(&playing.client()).unwrap();
    let answer = connection
        .call(&Request::get("/accounts/1").token(&playing.token()))
        .unwrap();
    assert_eq!(answer.status, 200, "{name}");
    assert!(started.elapsed() < Duration::from_secs(5), "{name}");
    let grown = playing.gate.memory_kib().saturating_sub(memory);
    assert!(grown < 48 * 1024, "{name}: {grown} KiB");
}

#[test]
fn floods_end_with_the_connection_and_harm_nobody_else() {
    // HTTP-22: CVE-2023-44487, CVE-2024-27316, CVE-2025-8671
    let playing = playing();
    let token = format!("Bearer {}", playing.token());
    let fields = head(&token, &[], &[]);
    let request = block(&fields);
    let ended = |raw: &mut Raw, name: &str| {
        let outcome = raw.outcome(u32::MAX);
        assert!(
            matches!(outcome, Outcome::GoAway(_) | Outcome::Closed),
            "{name}: {outcome:?}"
        );
    };
    let send_many = |raw: &mut Raw, n: u32, piece: &dyn Fn(u32) -> Vec<u8>| {
        for at in 0..n {
            if raw.connection.send(&piece(at)).is_err() {
                return;
            }
        }
    };
    alive_after(&playing, "rapid reset", |raw| {
        send_many(raw, 5000, &|n| {
            let mut bytes = frame(HEADERS, END_HEADERS | END_STREAM, n * 2 + 1, &request);
            bytes.extend_from_slice(&frame(RST_STREAM, 0, n * 2 + 1, &[0, 0, 0, 8]));
            bytes
        });
        ended(raw, "rapid reset");
    });
    alive_after(&playing, "CONTINUATION", |raw| {
        drop(
            raw.connection
                .send(&frame(HEADERS, END_STREAM, 1, &request)),
        );
        let piece = block(&[("x-a", &"b".repeat(4000))]);
        send_many(raw, 5000, &|_| frame(CONTINUATION, 0, 1, &piece));
        ended(raw, "CONTINUATION");
    });
    alive_after(&playing, "empty CONTINUATION", |raw| {
        drop(
            raw.connection
                .send(&frame(HEADERS, END_STREAM, 1, &request)),
        );
        send_many(raw, 20_000, &|_| frame(CONTINUATION, 0, 1, &[]));
        ended(raw, "empty CONTINUATION");
    });
    alive_after(&playing, "made you reset", |raw| {
        send_many(raw, 5000, &|n| {
            let mut bytes = frame(HEADERS, END_HEADERS, n * 2 + 1, &request);
            bytes.extend_from_slice(&frame(WINDOW_UPDATE, 0, n * 2 + 1, &[0, 0, 0, 0]));
            bytes
        });
        ended(raw, "made you reset");
    });
    alive_after(&playing, "settings and pings", |raw| {
        send_many(raw, 20_000, &|n| {
            if n % 2 == 0 {
                frame(SETTINGS, 0, 0, &[])
            } else {
                frame(PING, 0, 0, &[7; 8])
            }
        });
    });
}

#[test]
fn frames_that_break_the_rules_end_the_connection() {
    let playing = playing();
    let token = format!("Bearer {}", playing.token());
    let request = block(&head(&token, &[], &[]));
    for (name, bytes) in [
        ("DATA without a stream", frame(DATA, 0, 1, b"x")),
        (
            "HEADERS on stream 0",
            frame(HEADERS, END_HEADERS | END_STREAM, 0, &request),
        ),
        (
            "HEADERS on an even stream",
            frame(HEADERS, END_HEADERS | END_STREAM, 2, &request),
        ),
        (
            "CONTINUATION first",
            frame(CONTINUATION, END_HEADERS, 1, &request),
        ),
        (
            "a frame larger than allowed",
            frame(DATA, 0, 1, &vec![0; 20_000]),
        ),
        ("a window that overflows", {
            let mut bytes = frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes());
            bytes.extend_from_slice(&frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()));
            bytes
        }),
        (
            "a field block that cannot be decoded",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                &[0xff, 0xff, 0xff, 0xff, 0xff],
            ),
        ),
        ("PING of a wrong size", frame(PING, 0, 0, &[0; 7])),
    ] {
        let before = playing.stage.legacy.count();
        let mut raw = Raw::open(&playing.client());
        drop(raw.connection.send(&bytes));
        let outcome = raw.outcome(u32::MAX);
        assert!(
            matches!(outcome, Outcome::GoAway(_) | Outcome::Closed),
            "{name}: {outcome:?}"
        );
        assert_eq!(playing.stage.legacy.count(), before, "{name}");
    }
}

#[test]
fn what_is_not_the_preface_gets_no_service() {
    let playing = playing();
    let mut connection = playing.client().alpn(&["h2"]).open().unwrap();
    connection
        .send(b"GET /accounts/1 HTTP/1.1\r\nHost: api.bank.test\r\n\r\n")
        .unwrap();
    let answer = connection.read_to_end();
    assert!(
        !answer.starts_with(b"HTTP/1.1 2"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}
