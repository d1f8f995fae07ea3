//! What a server says of itself, and what follows for uses that it may have lost.
//!
//! Replication of Redis and Valkey is asynchronous and their disk lags behind: after a failover, a
//! restart, a flush or an eviction, keys that we were told are written may be gone, and nobody can
//! say which. Such a loss is found by comparing the server with who it was before, and with a
//! *marker* that lies in the store among the uses: it says which server wrote it and when the last
//! loss was found. A loss at time T sets a *fence*: a proof that could have been accepted before T
//! is not accepted any more. All proofs are acceptable for one same length of time, so their end
//! tells; clients that make a proof for each request notice it for as long as clocks may differ
//! (`proof_ahead` and a margin).

use crate::pdp::UnixTime;

/// What `INFO` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    /// Changes with each start of the server and each promotion.
    pub(super) identity: String,
    /// Takes writes.
    pub(super) primary: bool,
    /// Was a replica once, since it started.
    pub(super) promoted: bool,
    /// Seconds that the server has been running.
    pub(super) up: u64,
    /// Keys dropped for want of memory, since it started.
    pub(super) evicted: u64,
    /// Its configuration lets it drop keys for want of memory.
    pub(super) evicts: bool,
}

impl Standing {
    /// Reads the answer to `INFO`.
    pub(super) fn read(info: &str) -> Result<Self, String> {
        let find = |name: &str| {
            info.lines()
                .filter_map(|line| line.trim_end().split_once(':'))
                .find_map(|(key, value)| (key == name).then_some(value))
        };
        let number = |name| find(name).and_then(|value| value.parse().ok()).unwrap_or(0);
        let (Some(run), Some(role)) = (find("run_id"), find("role")) else {
            return Err("INFO tells neither run_id nor role; the user needs +info".into());
        };
        // The identifier of the history that it took over. The one of its own history would also
        // change when its first replica arrives, which loses nothing.
        let before = find("master_replid2").unwrap_or_default();
        Ok(Self {
            identity: format!("{run}/{before}"),
            primary: role == "master",
            promoted: before.bytes().any(|byte| byte != b'0'),
            up: number("uptime_in_seconds"),
            evicted: number("evicted_keys"),
            evicts: number("maxmemory") != 0 && find("maxmemory_policy") != Some("noeviction"),
        })
    }
}

/// What lies in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marker {
    identity: String,
    lost_at: u64,
}

impl Marker {
    /// What [`Self::write`] wrote; anything else is as good as none.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (identity, lost_at) = text.rsplit_once(' ')?;
        Some(Self {
            identity: identity.to_owned(),
            lost_at: lost_at.parse().ok()?,
        })
    }

    pub(super) fn write(&self) -> String {
        format!("{} {}", self.identity, self.lost_at)
    }
}

/// What this process knows of the server that it asked last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Past {
    identity: Option<String>,
    evicted: u64,
}

/// What follows from a look at the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// Second of the last loss that is possible; 0: none.
    pub(super) lost_at: u64,
    /// A loss that was not known before, in words.
    pub(super) news: Option<&'static str>,
    /// What should lie in the store from now on.
    pub(super) write: Option<Marker>,
}

/// Compares the server with what was known. The past is then this look.
pub(super) fn examine(
    past: &mut Past,
    standing: &Standing,
    marker: Option<&Marker>,
    now: UnixTime,
) -> Finding {
    let now = now.as_secs();
    let before = past.identity.replace(standing.identity.clone());
    let evicted = std::mem::replace(&mut past.evicted, standing.evicted);
    let same = before.as_ref() == Some(&standing.identity);
    let lost = |news| (now, Some(news));
    let (lost_at, news) = match (before, marker) {
        (Some(_), _) if !same => lost("the store has another primary, or it was started again"),
        (_, Some(marker)) if marker.identity != standing.identity => {
            lost("the store had another primary, or was started again")
        }
        (Some(_), None) => lost("the store was emptied"),
        // Nobody was here since its start, or it has lost all: what was accepted after its start
        // lies in it.
        (None, None) if standing.promoted => {
            lost("the store was promoted before it held our marker")
        }
        (None, None) => (now.saturating_sub(standing.up), None),
        (_, Some(_)) if same && standing.evicted > evicted => {
            lost("the store dropped keys for want of memory")
        }
        (_, Some(marker)) => (marker.lost_at, None),
    };
    let lost_at = lost_at.max(marker.map_or(0, |marker| marker.lost_at));
    let wanted = Marker {
        identity: standing.identity.clone(),
        lost_at,
    };
    Finding {
        lost_at,
        news,
        write: (marker != Some(&wanted)).then_some(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: &str = "0000000000000000000000000000000000000000";

    fn info(run: &str, role: &str, before: &str, more: &str) -> String {
        format!(
            "# Server\r\nrun_id:{run}\r\nuptime_in_seconds:1000\r\n# Replication\r\nrole:{role}\r\n\
             master_replid2:{before}\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n{more}"
        )
    }

    fn server(run: &str) -> Standing {
        Standing::read(&info(run, "master", NONE, "")).unwrap()
    }

    const fn at(secs: u64) -> UnixTime {
        UnixTime::from_secs(secs)
    }

    #[test]
    fn info_is_read() {
        let standing = server("a");
        assert!(standing.primary && !standing.promoted && !standing.evicts);
        assert_eq!((standing.up, standing.evicted), (1000, 0));
        let text = info("a", "slave", "12", "evicted_keys:7\r\n")
            .replace("maxmemory:0", "maxmemory:9")
            .replace("noeviction", "allkeys-lru");
        let standing = Standing::read(&text).unwrap();
        assert!(!standing.primary && standing.promoted && standing.evicts);
        assert_eq!(standing.evicted, 7);
        assert!(Standing::read("").unwrap_err().contains("+info"));
    }

    #[test]
    fn a_first_look_leaves_a_marker_and_trusts_since_the_start() {
        let mut past = Past::default();
        let found = examine(&mut past, &server("a"), None, at(5000));
        assert_eq!((found.lost_at, found.news), (4000, None));
        let marker = found.write.unwrap();
        assert_eq!(Marker::read(&marker.write()), Some(marker.clone()));
        // And the next finds all as it was: so does another process.
        for past in [&mut past, &mut Past::default()] {
            let found = examine(past, &server("a"), Some(&marker), at(5001));
            assert_eq!((found.lost_at, found.news, found.write), (4000, None, None));
        }
    }

    #[test]
    fn each_possible_loss_is_found() {
        let marker = examine(&mut Past::default(), &server("a"), None, at(5000)).write;
        let known = || {
            let mut past = Past::default();
            examine(&mut past, &server("a"), marker.as_ref(), at(5000));
            past
        };
        let promoted = Standing::read(&info("b", "master", "77", "")).unwrap();
        let back = Standing::read(&info("a", "master", "78", "")).unwrap();
        let evicting = Standing::read(&info("a", "master", NONE, "evicted_keys:1")).unwrap();
        for (mut past, server, marker, why) in [
            (known(), server("b"), None, "restarted empty"),
            (
                known(),
                server("b"),
                marker.clone(),
                "restarted from its disk",
            ),
            (known(), promoted.clone(), marker.clone(), "failed over"),
            (known(), back, marker.clone(), "demoted and promoted again"),
            (known(), server("a"), None, "flushed"),
            (known(), evicting, marker.clone(), "evicted"),
            (
                Past::default(),
                promoted.clone(),
                marker.clone(),
                "failed over while we were away",
            ),
            (Past::default(), promoted, None, "promoted without data"),
            (
                Past::default(),
                server("b"),
                marker,
                "restarted while we were away",
            ),
        ] {
            let found = examine(&mut past, &server, marker.as_ref(), at(6000));
            assert_eq!(found.lost_at, 6000, "{why}");
            assert!(found.news.is_some(), "{why}");
            let marker = found.write.unwrap();
            // Once, not for ever; and others learn the time of it.
            let found = examine(&mut past, &server, Some(&marker), at(6001));
            assert_eq!(
                (found.lost_at, found.news, found.write),
                (6000, None, None),
                "{why}"
            );
            let found = examine(&mut Past::default(), &server, Some(&marker), at(6009));
            assert_eq!(found.lost_at, 6000, "{why}");
        }
    }

    #[test]
    fn the_latest_loss_counts() {
        let later = Marker {
            identity: "a/x".into(),
            lost_at: 9000,
        };
        let found = examine(&mut Past::default(), &server("b"), Some(&later), at(8999));
        assert_eq!(found.lost_at, 9000, "another replica's clock is ahead");
    }
}
