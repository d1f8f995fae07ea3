//! Where the shared store is: the URL, its parts, and what is wrong with one.

use std::fmt;

use crate::telemetry::Secret;

/// A parsed URL of the store. It prints without user and password.
///
/// | form | what it names |
/// |---|---|
/// | `redis://[[user]:password@]host[:6379][,host…][/database]` | a server, or a primary and its replicas: the one that says it is the primary is used |
/// | `redis+sentinel://[[user]:password@]host[:26379],…/service[/database]` | sentinels, who are asked for the primary of the service |
/// | `redis+cluster://[[user]:password@]host[:6379],…` | some nodes of a cluster |
///
/// `rediss…` is TLS. `valkey…` and `valkeys…` mean the same. User and password are percent-encoded;
/// they are those of the store; `?sentinel_username=…&sentinel_password=…` are those of the
/// sentinels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub(super) tls: bool,
    pub(super) kind: Kind,
    pub(super) servers: Vec<Server>,
    pub(super) login: Option<Login>,
    pub(super) database: u32,
}

/// Who is behind the names in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The store's own servers, of which one is the primary.
    Servers,
    /// Sentinels, who know it.
    Sentinel {
        service: Box<str>,
        login: Option<Login>,
    },
    /// Nodes of a cluster.
    Cluster,
}

/// A name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Server {
    pub(super) host: Box<str>,
    pub(super) port: u16,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Who we are to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: Option<Secret<Box<str>>>,
    pub(super) password: Secret<Box<str>>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Servers => "",
            Kind::Sentinel { .. } => "+sentinel",
            Kind::Cluster => "+cluster",
        };
        write!(f, "redis{}{kind}://", if self.tls { "s" } else { "" })?;
        for (at, server) in self.servers.iter().enumerate() {
            write!(f, "{}{server}", if at == 0 { "" } else { "," })?;
        }
        match &self.kind {
            Kind::Sentinel { service, .. } => write!(f, "/{service}/{}", self.database),
            Kind::Servers => write!(f, "/{}", self.database),
            Kind::Cluster => Ok(()),
        }
    }
}

impl Address {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong and what would be right, without a part of the URL that may be secret.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url
            .split_once("://")
            .ok_or("the URL of the store has no scheme; write redis://host:6379 or rediss://…")?;
        let (tls, sentinel_or_cluster) = scheme_of(scheme)?;
        if rest.contains('#') {
            return Err(
                "the URL of the store has a '#': write %23 where it is part of the password".into(),
            );
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        // The last one: a password may contain what should have been encoded.
        let (login, rest) = match rest.rsplit_once('@') {
            Some((login, rest)) => (parse_login(login)?, rest),
            None => (None, rest),
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let port = if sentinel_or_cluster == "sentinel" {
            26379
        } else {
            6379
        };
        let servers = hosts
            .split(',')
            .map(|host| parse_server(host, port))
            .collect::<Result<Vec<_>, _>>()?;
        let query = parse_query(query)?;
        if sentinel_or_cluster != "sentinel" && query.is_some() {
            return Err("sentinel_username and sentinel_password are for redis+sentinel://".into());
        }
        let (kind, database) = match sentinel_or_cluster {
            "sentinel" => {
                let (service, database) = path.split_once('/').unwrap_or((path, ""));
                if service.is_empty() {
                    return Err("redis+sentinel:// needs the name of the service that the \
                         sentinels watch: …/mymaster"
                        .into());
                }
                let kind = Kind::Sentinel {
                    service: decode(service)?,
                    login: query,
                };
                (kind, parse_database(database)?)
            }
            "cluster" => match parse_database(path)? {
                0 => (Kind::Cluster, 0),
                _ => return Err("a cluster has database 0 only".into()),
            },
            _ => (Kind::Servers, parse_database(path)?),
        };
        Ok(Self {
            tls,
            kind,
            servers,
            login,
            database,
        })
    }

    /// Whether both name the same servers and the same database there.
    pub(super) fn is_place_of(&self, other: &Self) -> bool {
        let service = |of: &Self| match &of.kind {
            Kind::Sentinel { service, .. } => Some(service.clone()),
            Kind::Servers | Kind::Cluster => None,
        };
        self.servers == other.servers
            && self.database == other.database
            && service(self) == service(other)
    }

    /// Whether every server is this machine itself, so that nobody else sees what is sent.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.servers.iter().all(|server| {
            let address = server.host.parse::<std::net::IpAddr>();
            &*server.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
        })
    }

    /// Whether a password is in it.
    #[must_use]
    pub const fn has_password(&self) -> bool {
        let of_sentinels = matches!(&self.kind, Kind::Sentinel { login: Some(_), .. });
        self.login.is_some() || of_sentinels
    }

    /// Whether the connections are TLS: then [`super::Shared::new`] needs a client for it.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.tls
    }
}

fn scheme_of(scheme: &str) -> Result<(bool, &str), String> {
    let (base, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
    let tls = match base {
        "redis" | "valkey" => false,
        "rediss" | "valkeys" => true,
        _ => return Err(unknown()),
    };
    match kind {
        "" | "sentinel" | "cluster" => Ok((tls, kind)),
        _ => Err(unknown()),
    }
}

fn unknown() -> String {
    "the URL of the store begins with redis://, rediss:// (TLS), redis+sentinel://, \
     rediss+sentinel://, redis+cluster:// or rediss+cluster://"
        .into()
}

fn parse_login(text: &str) -> Result<Option<Login>, String> {
    let Some((user, password)) = text.split_once(':') else {
        return Err(
            "the URL of the store has a user without a password; write user:password@, \
             or :password@ where there is no user"
                .into(),
        );
    };
    let user = decode(user)?;
    Ok(Some(Login {
        user: (!user.is_empty()).then(|| Secret::new(user)),
        password: Secret::new(decode(password)?),
    }))
}

fn parse_query(query: &str) -> Result<Option<Login>, String> {
    let (mut user, mut password) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sentinel_username", value)) => user = Some(Secret::new(decode(value)?)),
            Some(("sentinel_password", value)) => password = Some(Secret::new(decode(value)?)),
            // The name alone: the value may be a secret that was put here.
            other => {
                let name = other.map_or("(no value)", |(name, _)| name);
                return Err(format!(
                    "the URL of the store has an unknown part '?{name}'"
                ));
            }
        }
    }
    match (user, password) {
        (user, Some(password)) => Ok(Some(Login { user, password })),
        (None, None) => Ok(None),
        (Some(_), None) => Err("sentinel_username needs sentinel_password".into()),
    }
}

fn parse_server(text: &str, default: u16) -> Result<Server, String> {
    let wrong = || format!("'{text}' is no host of the store; write host:port or [address]:port");
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or_else(wrong)?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(wrong());
        }
        match port {
            "" => (host, None),
            port => (host, Some(port.strip_prefix(':').ok_or_else(wrong)?)),
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let port = match port {
        Some(port) => port.parse().map_err(|_not_a_number| wrong())?,
        None => default,
    };
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || !host.chars().all(fine) || port == 0 {
        return Err(wrong());
    }
    Ok(Server {
        host: host.into(),
        port,
    })
}

fn parse_database(text: &str) -> Result<u32, String> {
    match text {
        "" => Ok(0),
        text => text
            .parse()
            .map_err(|_not_a_number| format!("'{text}' is no number of a database")),
    }
}

fn decode(text: &str) -> Result<Box<str>, String> {
    let wrong = || "the URL of the store has a '%' that two hex digits do not follow".to_owned();
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|c| char::from(c).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(wrong());
        };
        out.push(u8::try_from(high * 16 + low).unwrap_or_default());
    }
    match String::from_utf8(out) {
        Ok(text) => Ok(text.into()),
        Err(_) => Err("user and password of the store are UTF-8".into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_is_read() {
        let plain = Address::parse("redis://10.0.0.5").unwrap();
        assert_eq!(plain.to_string(), "redis://10.0.0.5:6379/0");
        assert!(!plain.is_tls() && plain.login.is_none());
        let full = Address::parse("rediss://us%40er:p%3Aw:@a.example:1,[::1]:2/7").unwrap();
        assert_eq!(full.to_string(), "rediss://a.example:1,[::1]:2/7");
        let login = full.login.unwrap();
        assert_eq!(&**login.user.unwrap().expose(), "us@er");
        assert_eq!(&**login.password.expose(), "p:w:");
        let sentinel =
            Address::parse("redis+sentinel://:pw@s1,s2:5/main/3?sentinel_password=x").unwrap();
        assert_eq!(
            sentinel.to_string(),
            "redis+sentinel://s1:26379,s2:5/main/3"
        );
        assert!(sentinel.login.unwrap().user.is_none());
        let cluster = Address::parse("valkeys+cluster://n1:7000,n2:7000").unwrap();
        assert_eq!(cluster.to_string(), "rediss+cluster://n1:7000,n2:7000");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        for (url, says) in [
            ("localhost:6379", "no scheme"),
            ("http://h", "begins with redis://"),
            ("redis+unix://h", "begins with redis://"),
            ("redis://", "no host"),
            ("redis://h:0", "no host"),
            ("redis://h:70000", "no host"),
            ("redis://h,", "no host"),
            ("redis://[zz]:1", "no host"),
            ("redis://h/x", "no number"),
            ("redis://hunter2@h", "user without a password"),
            ("redis://:hunter2%4@h", "two hex digits"),
            ("redis://:hunter#2@h", "%23"),
            ("redis://h?password=hunter2", "unknown part '?password'"),
            (
                "redis://h?sentinel_password=hunter2",
                "are for redis+sentinel",
            ),
            (
                "redis+sentinel://h?sentinel_password=hunter2",
                "name of the service",
            ),
            ("redis+cluster://h/1", "database 0"),
        ] {
            let error = Address::parse(url).unwrap_err();
            assert!(error.contains(says), "{url}: {error}");
            assert!(!error.contains("hunter"), "{error}");
        }
    }

    #[test]
    fn it_prints_without_user_and_password() {
        let address = Address::parse(
            "redis+sentinel://alice:hunter2@h/s?sentinel_username=alice&sentinel_password=hunter2",
        )
        .unwrap();
        let printed = format!("{address} {address:?}");
        assert!(
            !printed.contains("hunter2") && !printed.contains("alice"),
            "{printed}"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(url in "(redis|rediss)(\\+sentinel|\\+cluster)?://\\PC*") {
            if let Ok(address) = Address::parse(&url) {
                prop_assert!(!address.servers.is_empty());
                let _printed = address.to_string();
            }
        }
    }
}
