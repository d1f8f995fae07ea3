//! Lines in the making: decisions, and the records of the log itself.

use std::sync::Arc;
use std::time::Duration;

use super::chain::{self, Key, Mac};
use super::checkpoint::SigningKey;
use super::log::Entry;

/// Version of the format.
pub(super) const VERSION: u32 = 1;

/// What a signed line is there for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Signed {
    /// A process begins to write.
    Start(After, Option<Torn>),
    /// Another file begins; why.
    Rotate(&'static str),
    /// The time has come.
    Checkpoint,
    /// The process stops; nothing waits to be written.
    Stop,
}

impl Signed {
    const fn name(&self) -> &'static str {
        match self {
            Self::Start(..) => "start",
            Self::Rotate(_) => "rotate",
            Self::Checkpoint => "checkpoint",
            Self::Stop => "stop",
        }
    }
}

/// What a start comes after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// There was nothing.
    Nothing,
    /// The process before had stopped.
    Stop,
    /// It had not: it was killed, or the machine went down.
    Crash,
}

impl After {
    const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Stop => "stop",
            Self::Crash => "crash",
        }
    }
}

/// The beginning of a line that a crash left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Torn {
    pub(super) bytes: usize,
    /// SHA-256, base64url.
    pub(super) sha256: String,
}

/// Where the chain stands.
#[derive(Debug)]
pub(super) struct Chain {
    key: Key,
    signing_key: Arc<SigningKey>,
    every: Duration,
    /// Names the chain: chosen at random when it began.
    pub(super) id: Box<str>,
    /// Of the last line.
    pub(super) seq: u64,
    /// Of the last line.
    pub(super) mac: Mac,
    /// A body in the making; kept for its room.
    body: Vec<u8>,
}

impl Chain {
    pub(super) fn new(
        (key, signing_key): (Key, Arc<SigningKey>),
        every: Duration,
        id: Box<str>,
        (seq, mac): (u64, Mac),
    ) -> Self {
        Self {
            key,
            signing_key,
            every,
            id,
            seq,
            mac,
            body: Vec::with_capacity(4096),
        }
    }

    /// Adds a decision.
    pub(super) fn entry(&mut self, entry: &dyn Entry, out: &mut Vec<u8>) {
        self.begin("decision");
        entry.write(&self.key, &mut self.body);
        self.end(out);
    }

    /// Adds what is said of lines that there was no room for.
    pub(super) fn gap(&mut self, lost: u64, now: Duration, out: &mut Vec<u8>) {
        self.begin("gap");
        let members = format!(",\"time_us\":{},\"lost\":{lost}", micros(now));
        self.body.extend_from_slice(members.as_bytes());
        self.end(out);
    }

    /// Adds a signed line.
    ///
    /// # Errors
    /// Where it cannot be signed; then nothing was added.
    pub(super) fn signed(
        &mut self,
        what: &Signed,
        now: Duration,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        self.begin(what.name());
        let mut members = format!(
            ",\"v\":{VERSION},\"time_us\":{},\"chain\":\"{}\",\"prev\":\"{}\",\"key\":\"{}\",\"every_s\":{}",
            micros(now),
            self.id,
            self.mac.to_base64url(),
            self.key.fingerprint(),
            self.every.as_secs().max(1)
        );
        match what {
            Signed::Start(after, torn) => {
                members.push_str(&format!(
                    ",\"after\":\"{}\",\"version\":\"{}\"",
                    after.name(),
                    env!("CARGO_PKG_VERSION")
                ));
                if let Some(torn) = torn {
                    members.push_str(&format!(
                        ",\"torn\":{{\"bytes\":{},\"sha256\":\"{}\"}}",
                        torn.bytes, torn.sha256
                    ));
                }
            }
            Signed::Rotate(why) => members.push_str(&format!(",\"why\":\"{why}\"")),
            Signed::Checkpoint | Signed::Stop => {}
        }
        self.body.extend_from_slice(members.as_bytes());
        if let Err(why) = self.signing_key.sign(&mut self.body) {
            self.seq = self.seq.saturating_sub(1);
            return Err(why);
        }
        self.end(out);
        Ok(())
    }

    fn begin(&mut self, kind: &str) {
        self.seq = self.seq.saturating_add(1);
        self.body.clear();
        let members = format!("{{\"seq\":{},\"kind\":\"{kind}\"", self.seq);
        self.body.extend_from_slice(members.as_bytes());
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.mac = chain::seal(&self.key, &self.mac, &self.body, out);
    }
}

/// Microseconds since 1970, as they stand in lines.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
