//! Which server takes which key: one primary for all, or the slots of a cluster.

use std::time::Duration;

use futures_util::future::join_all;

use super::address::{Address, Kind, Server};
use super::link::{Dial, Link, Reply};
use super::standing::Standing;

/// Keys of a cluster are spread over so many slots.
const SLOTS: usize = 16384;

/// No server for a slot.
const NOBODY: u16 = u16::MAX;

/// Connections to every primary, as they were found.
#[derive(Debug)]
pub(super) struct Route {
    /// With what each said of itself.
    pub(super) links: Vec<(Link, Standing)>,
    slots: Option<Box<[u16]>>,
    /// Servers that should take keys and could not be reached: those keys cannot be asked for.
    pub(super) missing: Option<String>,
}

impl Route {
    /// Who takes the key.
    pub(super) fn link(&self, key: &[u8]) -> Option<&Link> {
        let at = match &self.slots {
            None => 0,
            Some(slots) => usize::from(*slots.get(slot(key))?),
        };
        self.links.get(at).map(|(link, _)| link)
    }

    /// The link to a server that another named.
    pub(super) fn to(&self, server: &Server) -> Option<&Link> {
        let mut links = self.links.iter().map(|(link, _)| link);
        links.find(|link| link.server == *server)
    }

    /// The only one, where it is no cluster.
    pub(super) fn single(&self) -> Option<&(Link, Standing)> {
        self.links.first().filter(|_| !self.is_cluster())
    }

    /// Whether it is a cluster.
    pub(super) const fn is_cluster(&self) -> bool {
        self.slots.is_some()
    }

    /// Returns when one of the connections is no longer there.
    pub(super) async fn closed(&self) {
        let all = self.links.iter().map(|(link, _)| Box::pin(link.closed()));
        futures_util::future::select_all(all).await;
    }
}

/// Why there is no route.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) text: String,
    /// Two servers took writes without each other.
    pub(super) split: bool,
}

impl From<String> for Missing {
    fn from(text: String) -> Self {
        Self { text, split: false }
    }
}

/// Finds the primaries and connects to them. `within` bounds each step.
pub(super) async fn find(
    address: &Address,
    dial: &Dial,
    within: Duration,
) -> Result<Route, Missing> {
    match &address.kind {
        Kind::Servers => {
            let servers = address.servers.iter();
            let looked = join_all(servers.map(|server| look(server, dial, within))).await;
            Ok(alone(one_primary(looked)?))
        }
        Kind::Sentinel { service, login } => {
            let to_sentinel = Dial {
                tls: dial.tls.clone(),
                login: login.clone(),
                database: 0,
            };
            let asked = join_all(
                address
                    .servers
                    .iter()
                    .map(|sentinel| ask_sentinel(sentinel, &to_sentinel, service, within)),
            )
            .await;
            let (link, standing) = look(&most_named(asked)?, dial, within).await?;
            if !standing.primary {
                let error = format!(
                    "{}: the sentinels name it, but it is no primary",
                    link.server
                );
                return Err(error.into());
            }
            Ok(alone((link, standing)))
        }
        Kind::Cluster => Ok(cluster(address, dial, within).await?),
    }
}

fn alone(found: (Link, Standing)) -> Route {
    Route {
        links: vec![found],
        slots: None,
        missing: None,
    }
}

/// Connects and asks who it is.
async fn look(server: &Server, dial: &Dial, within: Duration) -> Result<(Link, Standing), String> {
    let link = Link::open(server, dial, within).await?;
    let standing = standing(&link, within).await?;
    Ok((link, standing))
}

/// Asks a server who it is.
pub(super) async fn standing(link: &Link, within: Duration) -> Result<Standing, String> {
    let server = &link.server;
    match asked(link, &[b"INFO"], within).await? {
        Reply::Text(text) => Standing::read(&text).map_err(|error| format!("{server}: {error}")),
        other => Err(format!("{server}: INFO: {}", unexpected(&other))),
    }
}

/// A command of ours, with an end.
pub(super) async fn asked(link: &Link, words: &[&[u8]], within: Duration) -> Result<Reply, String> {
    match tokio::time::timeout(within, link.ask(words)).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(error)) => Err(format!("{}: {error}", link.server)),
        Err(_elapsed) => Err(format!("{}: no answer within {within:?}", link.server)),
    }
}

/// Of servers that stand beside each other, the one that is the primary. Two of them have written
/// on without each other, and neither holds all uses.
fn one_primary(looked: Vec<Result<(Link, Standing), String>>) -> Result<(Link, Standing), Missing> {
    let mut found: Option<(Link, Standing)> = None;
    let mut others = Vec::new();
    for look in looked {
        match look {
            Ok((link, standing)) if standing.primary => match &found {
                Some((first, _)) => {
                    return Err(Missing {
                        text: format!(
                            "{} and {} both say that they are the primary; make one the replica \
                             of the other",
                            first.server, link.server
                        ),
                        split: true,
                    });
                }
                None => found = Some((link, standing)),
            },
            Ok((link, _)) => others.push(format!("{}: a replica", link.server)),
            Err(error) => others.push(error),
        }
    }
    found.ok_or_else(|| others.join("; ").into())
}

async fn ask_sentinel(
    sentinel: &Server,
    dial: &Dial,
    service: &str,
    within: Duration,
) -> Result<Server, String> {
    let link = Link::open(sentinel, dial, within).await?;
    let words: [&[u8]; 3] = [b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", service.as_bytes()];
    match asked(&link, &words, within).await? {
        Reply::List(parts) => {
            named(&parts).ok_or_else(|| format!("{sentinel}: the sentinel's answer is no address"))
        }
        Reply::Nothing => Err(format!(
            "{sentinel}: the sentinel watches no service '{service}'"
        )),
        other => Err(format!("{sentinel}: {}", unexpected(&other))),
    }
}

fn named(parts: &[Reply]) -> Option<Server> {
    match parts {
        [Reply::Text(host), Reply::Text(port)] => Some(Server {
            host: host.as_str().into(),
            port: port.parse().ok()?,
        }),
        _ => None,
    }
}

/// What more of the sentinels that answered say than say anything else: one that was cut off with
/// the old primary does not decide.
fn most_named(asked: Vec<Result<Server, String>>) -> Result<Server, String> {
    let mut votes: Vec<(Server, usize)> = Vec::new();
    let mut errors = Vec::new();
    for answer in asked {
        match answer {
            Ok(server) => match votes.iter_mut().find(|(known, _)| *known == server) {
                Some((_, count)) => *count += 1,
                None => votes.push((server, 1)),
            },
            Err(error) => errors.push(error),
        }
    }
    votes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    match votes.as_slice() {
        [] => Err(errors.join("; ")),
        [(first, most), (second, count), ..] if most == count => {
            Err(format!("the sentinels disagree: {first} or {second}"))
        }
        [(first, _), ..] => Ok(first.clone()),
    }
}

/// The slots as the first node that answers knows them, and connections to who takes them.
async fn cluster(address: &Address, dial: &Dial, within: Duration) -> Result<Route, String> {
    let mut errors = Vec::new();
    for seed in &address.servers {
        let ranges = async {
            let link = Link::open(seed, dial, within).await?;
            match asked(&link, &[b"CLUSTER", b"SLOTS"], within).await? {
                Reply::List(ranges) => read_ranges(&ranges, seed),
                other => Err(format!("{seed}: CLUSTER SLOTS: {}", unexpected(&other))),
            }
        };
        match ranges.await {
            Ok(ranges) => return join(ranges, dial, within).await,
            Err(error) => errors.push(error),
        }
    }
    Err(errors.join("; "))
}

/// First and last slot, and who takes them.
type Range = (usize, usize, Server);

fn read_ranges(ranges: &[Reply], seed: &Server) -> Result<Vec<Range>, String> {
    let read = |range: &Reply| {
        let Reply::List(parts) = range else {
            return None;
        };
        let [
            Reply::Number(first),
            Reply::Number(last),
            Reply::List(primary),
            ..,
        ] = parts.as_slice()
        else {
            return None;
        };
        let (host, Reply::Number(port)) = (primary.first()?, primary.get(1)?) else {
            return None;
        };
        let host = match host {
            Reply::Text(host) if !host.is_empty() => host.as_str().into(),
            // "The one that you asked."
            _ => seed.host.clone(),
        };
        let server = Server {
            host,
            port: u16::try_from(*port).ok()?,
        };
        let (first, last) = (usize::try_from(*first).ok()?, usize::try_from(*last).ok()?);
        (first <= last && last < SLOTS).then_some((first, last, server))
    };
    let read: Option<Vec<_>> = ranges.iter().map(read).collect();
    match read {
        Some(ranges) if !ranges.is_empty() => Ok(ranges),
        Some(_) => Err(format!("{seed}: the cluster has no slots")),
        None => Err(format!("{seed}: CLUSTER SLOTS: not understood")),
    }
}

async fn join(ranges: Vec<Range>, dial: &Dial, within: Duration) -> Result<Route, String> {
    let mut servers: Vec<&Server> = ranges.iter().map(|(_, _, server)| server).collect();
    servers.sort_by_key(|server| (&*server.host, server.port));
    servers.dedup();
    let looked = join_all(servers.into_iter().map(|server| look(server, dial, within))).await;
    let (mut links, mut missing) = (Vec::new(), Vec::new());
    for look in looked {
        match look {
            Ok((link, standing)) if standing.primary => links.push((link, standing)),
            Ok((link, _)) => missing.push(format!("{}: no primary any more", link.server)),
            Err(error) => missing.push(error),
        }
    }
    if links.is_empty() {
        return Err(missing.join("; "));
    }
    let mut slots = vec![NOBODY; SLOTS].into_boxed_slice();
    for (first, last, server) in &ranges {
        let at = links.iter().position(|(link, _)| link.server == *server);
        let at = at.and_then(|at| u16::try_from(at).ok()).unwrap_or(NOBODY);
        if let Some(slots) = slots.get_mut(*first..=*last) {
            slots.fill(at);
        }
    }
    if missing.is_empty() && slots.contains(&NOBODY) {
        missing.push("some slots of the cluster have no server".into());
    }
    Ok(Route {
        links,
        slots: Some(slots),
        missing: (!missing.is_empty()).then(|| missing.join("; ")),
    })
}

/// The slot of a key: CRC-16/XMODEM. Our keys have no `{…}` part, which would count alone.
fn slot(key: &[u8]) -> usize {
    let crc = key.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            }
        })
    });
    usize::from(crc) % SLOTS
}

/// A reply that no step of ours can use.
pub(super) fn unexpected(reply: &Reply) -> String {
    match reply {
        Reply::Refused { code, detail } => format!("{code} {detail}"),
        Reply::Done | Reply::Nothing | Reply::Text(_) | Reply::Number(_) | Reply::List(_) => {
            "a reply of an unexpected kind".into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(port: u16) -> Server {
        Server {
            host: "h".into(),
            port,
        }
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot(b"123456789"), 0x31C3 % SLOTS);
        assert_eq!(slot(b"foo"), 12182);
    }

    #[test]
    fn the_majority_of_sentinels_decides() {
        let down = || Err("s3: down".to_owned());
        assert_eq!(
            most_named(vec![Ok(server(1)), Ok(server(2)), Ok(server(2))]),
            Ok(server(2))
        );
        assert_eq!(most_named(vec![Ok(server(1)), down()]), Ok(server(1)));
        let error = most_named(vec![Ok(server(1)), Ok(server(2)), down()]).unwrap_err();
        assert!(error.contains("disagree"), "{error}");
        assert_eq!(most_named(vec![down()]), Err("s3: down".to_owned()));
    }

    #[test]
    fn ranges_are_read_and_nonsense_is_refused() {
        let range = |first, last, host: &str, port| {
            Reply::List(vec![
                Reply::Number(first),
                Reply::Number(last),
                Reply::List(vec![Reply::Text(host.into()), Reply::Number(port)]),
            ])
        };
        let read = read_ranges(
            &[range(0, 99, "", 7), range(100, 16383, "x", 8)],
            &server(1),
        );
        let x = Server {
            host: "x".into(),
            port: 8,
        };
        assert_eq!(read.unwrap(), [(0, 99, server(7)), (100, 16383, x)]);
        for bad in [
            range(5, 4, "x", 1),
            range(0, 16384, "x", 1),
            range(0, 1, "x", -1),
            Reply::Done,
        ] {
            assert!(read_ranges(&[bad], &server(1)).is_err());
        }
        assert!(read_ranges(&[], &server(1)).is_err());
    }
}
