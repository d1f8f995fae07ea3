//! Addresses of authorization servers: which may be written in the configuration, which may be
//! learned from metadata, and which are never connected to (KEY-10).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;
use http::uri::Scheme;

/// Where a document is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// With TLS. Without it only on this very machine.
    pub(super) tls: bool,
    /// Lower case, without brackets and without trailing dot.
    pub(super) host: Box<str>,
    pub(super) port: u16,
    /// Path and query.
    pub(super) target: Box<str>,
}

impl Address {
    /// An address as the operator wrote it: `https`, or `http` to `localhost` or a loopback
    /// address, where nobody is in between.
    pub(super) fn configured(url: &str) -> Result<Self, String> {
        let uri: Uri = url
            .parse()
            .map_err(|error| format!("{url} is no URL: {error}"))?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(format!("{url} must begin with https://")),
        };
        let authority = uri
            .authority()
            .ok_or_else(|| format!("{url} names no host"))?;
        if authority.as_str().contains('@') {
            return Err("an address must not carry a user name or password".to_owned());
        }
        let host = authority.host().to_ascii_lowercase();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let host = host.strip_suffix('.').unwrap_or(host);
        if host.is_empty() {
            return Err(format!("{url} names no host"));
        }
        let local = match host.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => host == "localhost",
        };
        if !tls && !local {
            return Err(format!(
                "{url} must begin with https://; http:// is only for localhost and loopback addresses"
            ));
        }
        let target = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            tls,
            host: host.into(),
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            target: target.into(),
        })
    }

    /// An address that metadata named: `https`, on the issuer's own host or on one of `hosts`.
    pub(super) fn learned(url: &str, issuer: &str, hosts: &[Box<str>]) -> Result<Self, String> {
        let address = Self::configured(url)?;
        if !address.tls {
            return Err(format!("the metadata names {url}, which is not https"));
        }
        let own = Self::configured(issuer).map_or_else(|_| Box::from(""), |own| own.host);
        let listed = hosts
            .iter()
            .any(|host| host.eq_ignore_ascii_case(&address.host));
        if address.host != own && !listed {
            return Err(format!(
                "the metadata names {url}, whose host is neither the issuer's own nor under hosts"
            ));
        }
        if let Ok(ip) = address.host.parse() {
            address.may_connect(ip)?;
        }
        Ok(address)
    }

    /// Host and port as they stand in `Host` and `CONNECT`.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Whether the address that the name resolved to may be connected to. Judged on the address
    /// that is then used, so that a name cannot change in between.
    pub(super) fn may_connect(&self, to: IpAddr) -> Result<(), String> {
        let to = to.to_canonical();
        if is_never(to) {
            return Err(format!(
                "{} is at {to}, a link-local, metadata or group address",
                self.host
            ));
        }
        if !self.tls && !to.is_loopback() {
            return Err(format!(
                "{} is at {to}, which is no loopback address, and http:// is only for those",
                self.host
            ));
        }
        Ok(())
    }
}

/// Addresses at which no authorization server is: link-local (where clouds keep credentials of
/// the machine), the two that clouds keep elsewhere, unspecified, multicast, broadcast.
fn is_never(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4 == Ipv4Addr::new(100, 100, 100, 200)
        }
        IpAddr::V6(v6) => {
            v6.is_unicast_link_local()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6 == Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configured_addresses() {
        let address = Address::configured("https://AS.Bank.Example./keys?a=b").unwrap();
        assert_eq!(address.authority(), "as.bank.example:443");
        assert_eq!(&*address.target, "/keys?a=b");
        let address = Address::configured("http://[::1]:8080").unwrap();
        assert_eq!(
            (address.authority().as_str(), &*address.target),
            ("[::1]:8080", "/")
        );
        for good in [
            "http://127.0.0.1/a",
            "http://localhost:1/",
            "https://10.0.0.1/",
        ] {
            assert!(Address::configured(good).is_ok(), "{good}");
        }
        for bad in [
            "http://as.bank.example/keys",
            "http://10.0.0.1/",
            "http://localhost.evil.test/",
            "ftp://localhost/",
            "/keys",
            "as.bank.example",
            "https://user:secret@as.bank.example/",
            "https:///keys",
        ] {
            let error = Address::configured(bad).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn learned_addresses_stay_with_the_issuer() {
        // KEY-10
        let hosts = ["mtls.as.bank.example".into(), "169.254.169.254".into()];
        let learn = |url: &str| Address::learned(url, "https://as.bank.example/x", &hosts);
        assert!(learn("https://as.bank.example:8443/keys").is_ok());
        assert!(learn("https://MTLS.as.bank.example/keys").is_ok());
        for bad in [
            "http://localhost/keys",
            "http://as.bank.example/keys",
            "https://evil.test/keys",
            "https://as.bank.example.evil.test/keys",
            "https://as.bank.example@evil.test/keys",
            "https://127.0.0.1/keys",
            "https://169.254.169.254/keys",
        ] {
            assert!(learn(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn link_local_and_metadata_addresses_never() {
        // KEY-10
        let address = Address::configured("https://as.bank.example/").unwrap();
        for bad in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "fd00:ec2::254",
            "100.100.100.200",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
        ] {
            assert!(address.may_connect(bad.parse().unwrap()).is_err(), "{bad}");
        }
        for good in [
            "127.0.0.1",
            "10.0.0.1",
            "192.0.2.1",
            "2001:db8::1",
            "fd00::1",
        ] {
            assert!(address.may_connect(good.parse().unwrap()).is_ok(), "{good}");
        }
        let plain = Address::configured("http://localhost/").unwrap();
        assert!(plain.may_connect("127.0.0.1".parse().unwrap()).is_ok());
        assert!(plain.may_connect("192.0.2.1".parse().unwrap()).is_err());
    }
}
