//! HTTP/2 frames, written and read by hand (RFC 9113, RFC 7541).

use crate::lab::client::{Client, Connection};
use std::io;
use std::time::Duration;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;

pub(super) const HEADERS: u8 = 1;

pub(super) const RST_STREAM: u8 = 3;

pub(super) const SETTINGS: u8 = 4;

pub(super) const PING: u8 = 6;

pub(super) const GOAWAY: u8 = 7;

pub(super) const WINDOW_UPDATE: u8 = 8;

pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;

pub(super) const END_HEADERS: u8 = 4;

/// A frame (RFC 9113 s4.1).
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A length with a 7-bit prefix (RFC 7541 s5.1).
pub(super) fn length(mut n: usize, into: &mut Vec<u8>) {
    if n < 127 {
        into.push(n as u8);
        return;
    }
    into.push(127);
    n -= 127;
    while n >= 128 {
        into.push((n % 128) as u8 | 128);
        n /= 128;
    }
    into.push(n as u8);
}

/// Literal fields, never indexed, never Huffman-coded (RFC 7541 s6.2.2). One byte a character.
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let bytes = |text: &str| -> Vec<u8> {
        text.chars()
            .map(|c| u8::try_from(u32::from(c)).unwrap())
            .collect()
    };
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            let text = bytes(text);
            length(text.len(), &mut block);
            block.extend_from_slice(&text);
        }
    }
    block
}

/// What the server makes of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Status(u16),
    Reset(u32),
    GoAway(u32),
    Closed,
    Silence,
}

pub(super) struct Raw {
    pub(super) connection: Connection,
}

impl Raw {
    pub(super) fn open(client: &Client) -> Self {
        let mut connection = client.clone().alpn(&["h2"]).open().unwrap();
        let mut hello = PREFACE.to_vec();
        hello.extend_from_slice(&frame(SETTINGS, 0, 0, &[]));
        connection.send(&hello).unwrap();
        Self { connection }
    }

    pub(super) fn frame(&mut self) -> io::Result<(u8, u8, u32, Vec<u8>)> {
        let head = self.connection.reader().exact(9)?;
        let size = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let payload = self.connection.reader().exact(size as usize)?;
        Ok((head[3], head[4], stream, payload))
    }

    /// What becomes of this stream.
    pub(super) fn outcome(&mut self, wanted: u32) -> Outcome {
        let patience = Some(Duration::from_secs(4));
        self.connection.socket().set_read_timeout(patience).unwrap();
        loop {
            match self.frame() {
                Ok((HEADERS, _, stream, block)) if stream == wanted => {
                    return Outcome::Status(status(&block));
                }
                Ok((RST_STREAM, _, stream, payload)) if stream == wanted => {
                    return Outcome::Reset(number(&payload));
                }
                Ok((GOAWAY, _, _, payload)) if number(&payload[4..]) != 0 => {
                    return Outcome::GoAway(number(&payload[4..]));
                }
                Ok(_) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    return Outcome::Silence;
                }
                Err(_) => return Outcome::Closed,
            }
        }
    }
}

pub(super) fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

/// `:status`, which comes first: from the static table, or a literal with digits that are plain or
/// Huffman-coded (RFC 7541 appendix B: 0 to 2 have five bits, 3 to 9 six).
pub(super) fn status(block: &[u8]) -> u16 {
    let indexed = [200, 204, 206, 304, 400, 404, 500];
    let mut block = block;
    // Size updates of the dynamic table may come in front.
    while block[0] & 0xe0 == 0x20 {
        block = &block[1..];
    }
    if block[0] & 0x80 != 0 {
        return indexed[usize::from(block[0] & 0x7f) - 8];
    }
    let huffman = block[1] & 0x80 != 0;
    let text = &block[2..2 + usize::from(block[1] & 0x7f)];
    if !huffman {
        return std::str::from_utf8(text).unwrap().parse().unwrap();
    }
    let bits: Vec<u32> = text
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |n| u32::from(byte >> n & 1)))
        .collect();
    let mut at = 0;
    let mut status = 0;
    for _ in 0..3 {
        let take = |n: usize| bits[at..at + n].iter().fold(0, |sum, bit| sum * 2 + bit);
        let (digit, used) = match take(5) {
            digit @ 0..=2 => (digit, 5),
            _ => (take(6) - 0x19 + 3, 6),
        };
        status = status * 10 + digit;
        at += used;
    }
    u16::try_from(status).unwrap()
}

#[test]
fn the_status_of_a_field_block_is_read() {
    assert_eq!(status(&[0x88]), 200);
    assert_eq!(status(&[0x08, 3, b'4', b'0', b'1']), 401);
    // RFC 7541 C.6.1: 302 as 64 02.
    assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), 302);
}
