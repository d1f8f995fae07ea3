//! HTTP/1.1 requests, byte by byte.

use std::io::ErrorKind;
use std::time::Duration;

use super::http1_cases::{Case, FRAMING, HEADS};
use super::playing;
use crate::lab::client::{Connection, Request};
use crate::lab::legacy::Seen;
use crate::support::stage::{Playing, assert_proper, is_uuid};

fn expand(playing: &Playing, name: &str, bytes: &str) -> Vec<u8> {
    let token = playing.token();
    let sound = "Host: api.bank.test|Authorization: Bearer {T}|X-Case: {N}|";
    let text = bytes
        .replace("{H}", sound)
        .replace("{T}", &token)
        .replace("{N}", name);
    // One byte a character, so that the table can hold any byte.
    text.replace('|', "\r\n")
        .chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap())
        .collect()
}

/// Why a request is not one that a lenient API would understand in the same way.
fn well_framed(seen: &Seen) -> Result<(), String> {
    if !seen.flaws.is_empty() {
        return Err(seen.flaws.join(", "));
    }
    if seen.all("host") != ["api.bank.test"] {
        return Err("Host".to_owned());
    }
    for (field, _) in &seen.fields {
        let name = field.to_ascii_lowercase();
        let folded: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        let framing = ["transferencoding", "contentlength", "host", "connection"];
        let plain = ["transfer-encoding", "content-length", "host", "connection"];
        if framing.contains(&folded.as_str()) != plain.contains(&name.as_str()) {
            return Err(format!("{field} could be taken for another field"));
        }
        if matches!(folded.as_str(), "upgrade" | "http2settings" | "te") {
            return Err(format!("{field} is between neighbours"));
        }
    }
    Ok(())
}

/// Every answer until the connection closes or falls silent; whether it closed.
fn answers(connection: &mut Connection) -> (Vec<u16>, bool) {
    let mut statuses = Vec::new();
    loop {
        match connection.answer("GET") {
            Ok(answer) => {
                if answer.status >= 400 && answer.json()["target"].is_null() {
                    assert_proper(&answer);
                }
                assert!(is_uuid(
                    answer.field("x-fapi-interaction-id").unwrap_or_default()
                ));
                assert!(answer.field("date").is_some());
                statuses.push(answer.status);
                let close = answer
                    .field("connection")
                    .is_some_and(|value| value.eq_ignore_ascii_case("close"));
                if close {
                    return (statuses, connection.closes(Duration::from_secs(5)));
                }
                // Silence: nothing was left over that could become a second request.
                if !connection.reader().rest().is_empty() {
                    continue;
                }
                let closed = connection.closes(Duration::from_millis(60));
                if closed || connection.reader().rest().is_empty() {
                    return (statuses, closed);
                }
            }
            Err(error) => {
                let silent = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                return (statuses, !silent);
            }
        }
        if statuses.len() > 3 {
            return (statuses, false);
        }
    }
}

/// What became of a case, as the client saw it.
struct Played {
    name: &'static str,
    statuses: Vec<u16>,
}

impl Played {
    fn first(&self) -> u16 {
        self.statuses.first().copied().unwrap_or(0)
    }
}

/// `refused_closes`: after a refusal nobody knows where the next request would begin.
fn run(cases: &[Case], refused_closes: bool) {
    let playing = playing();
    let client = playing.client();
    let before = playing.stage.legacy.count();
    let mut failures = Vec::new();
    let mut played = Vec::new();
    for case in cases {
        let name = case.name;
        let mut connection = client.open().unwrap();
        // Longer than any bound of the gate in these tests.
        let patience = Some(Duration::from_secs(4));
        connection.socket().set_read_timeout(patience).unwrap();
        let sent = connection.send(&expand(&playing, name, case.bytes));
        let (statuses, closed) = answers(&mut connection);
        let one = Played { name, statuses };
        if !case.expected.contains(&one.first()) {
            failures.push(format!(
                "{name}: answered {:?} (sent: {sent:?}), expected {:?}",
                one.statuses, case.expected
            ));
        }
        if refused_closes && one.first() >= 400 && !closed {
            failures.push(format!("{name}: refused, and the connection stays"));
        }
        played.push(one);
    }
    assert_eq!(
        playing
            .call(Request::get("/accounts/1").case("last"))
            .status,
        200
    );
    let mut seen = playing.stage.legacy.since(before);
    seen.retain(|seen| seen.all("x-case") != ["last"]);
    for one in &played {
        let (of_case, others) = seen
            .into_iter()
            .partition(|seen| seen.all("x-case") == [one.name]);
        seen = others;
        judge(one, of_case, &mut failures);
    }
    for unknown in seen {
        failures.push(format!("nobody sent this: {unknown:?}"));
    }
    assert!(
        failures.is_empty(),
        "{} of {}:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

/// What the API saw of a case must be what the client was told.
fn judge(played: &Played, seen: Vec<Seen>, failures: &mut Vec<String>) {
    let Played { name, statuses } = played;
    let passed = statuses.iter().filter(|status| **status == 200).count();
    // A body that breaks off under way may have begun to reach the API, as what it is: an
    // unfinished message on a connection that is then closed.
    let broken = usize::from(matches!(played.first(), 400 | 408 | 413));
    if seen.len() > passed.max(broken) {
        failures.push(format!(
            "{name}: {statuses:?}, but the API saw {}",
            seen.len()
        ));
    }
    for one in seen {
        if played.first() != 200 {
            if one.complete {
                failures.push(format!(
                    "{name}: {statuses:?}, but whole at the API: {one:?}"
                ));
            }
        } else if let Err(why) = well_framed(&one) {
            failures.push(format!("{name}: {why}: {one:?}"));
        }
    }
}

#[test]
fn framing() {
    // HTTP-03 to HTTP-05, HTTP-14; CVE-2021-40346, CVE-2023-25725, CVE-2023-40225, CVE-2026-2835
    run(FRAMING, true);
}

#[test]
fn heads() {
    // HTTP-06, HTTP-07, HTTP-16, HTTP-17, AUTHZ-05
    run(HEADS, false);
}

#[test]
fn heads_that_are_too_large() {
    // HTTP-15, PRES-09
    let playing = playing();
    let many = "X-A: b|".repeat(150);
    let wide = format!("X-A: {}|", "b".repeat(1 << 20));
    let long = "a".repeat(70_000);
    for (name, bytes, expected) in [
        (
            "150 fields",
            format!("GET /accounts/1 HTTP/1.1|{{H}}{many}|"),
            &[200, 431][..],
        ),
        (
            "a field of a megabyte",
            format!("GET /accounts/1 HTTP/1.1|{{H}}{wide}|"),
            &[431],
        ),
        (
            "a target of 70,000",
            format!("GET /public/{long} HTTP/1.1|{{H}}|"),
            &[414, 431],
        ),
        (
            "a name of 70,000",
            format!("GET /public/a HTTP/1.1|{{H}}{long}: b||"),
            &[431],
        ),
        (
            "a method of 70,000",
            format!("{long} /public/a HTTP/1.1|{{H}}|"),
            &[400, 405, 431],
        ),
        (
            "40 KiB in many fields",
            format!(
                "GET /accounts/1 HTTP/1.1|{{H}}{}|",
                "X-Abcdefgh: 0123456789|".repeat(1800)
            ),
            &[431],
        ),
    ] {
        let before = playing.stage.legacy.count();
        let mut connection = playing.client().open().unwrap();
        drop(connection.send(&expand(&playing, name, &bytes)));
        let answer = connection
            .answer("GET")
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(
            expected.contains(&answer.status),
            "{name}: {}",
            answer.status
        );
        if answer.status >= 400 {
            assert_proper(&answer);
            assert_eq!(playing.stage.legacy.count(), before, "{name}");
        }
    }
}
