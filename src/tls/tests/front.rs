//! Proxies in front: who is one, and whose its requests are.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue};
use rcgen::{CertificateParams, SanType, date_time_ymd};

use super::pki::*;
use crate::clock;
use crate::pdp::client_cert::Form;
use crate::pdp::{Standing, UnixTime};
use crate::refusal::{CloseReason, Reason};
use crate::tls::trust::{Authorities, CrlRule};
use crate::tls::*;

/// An authority of proxies, beside that of the clients.
struct Dmz {
    ca: Ca,
}

impl Dmz {
    fn new() -> Self {
        Self {
            ca: Ca::new("proxies"),
        }
    }

    fn proxy(&self, names: &[&str]) -> Leaf {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2090, 1, 1);
        params.extended_key_usages = client_params(1).extended_key_usages;
        params
            .subject_alt_names
            .push(SanType::URI("spiffe://bank/lb".try_into().unwrap()));
        self.ca.issue(&params)
    }

    fn rule(&self, name: &str, revoked: &[u64]) -> ProxyCertificate {
        let crls = match revoked {
            [] => Vec::new(),
            serials => vec![self.ca.crl(serials, true)],
        };
        let authorities =
            Authorities::from_pem(&[self.ca.file()], &crls, CrlRule::Refuse, CrlRule::Refuse);
        ProxyCertificate {
            authorities: Arc::new(authorities.unwrap()),
            names: vec![name.into()],
        }
    }
}

fn settings(world: &World, proxies: &str, rule: Option<ProxyCertificate>) -> Settings {
    let trust = world.trust(&[world.clients.crl(&[13], true)]);
    Settings {
        behind: Some(Behind {
            proxies: vec![proxies.parse().unwrap()],
            proxy_certificate: rule,
            form: Form::ClientCert,
        }),
        ..world.settings(ClientCertificate::Optional, trust)
    }
}

fn server(settings: &Settings) -> Server {
    Server::new(ServerTls::build(settings, None).unwrap())
}

fn headers(leaf: &Leaf) -> HeaderMap {
    let value = format!(":{}:", STANDARD.encode(&leaf.chain[0]));
    let mut headers = HeaderMap::new();
    headers.insert("client-cert", HeaderValue::from_str(&value).unwrap());
    headers
}

fn at(year: i32) -> UnixTime {
    UnixTime::from_secs(date_time_ymd(year, 6, 1).unix_timestamp().unsigned_abs())
}

// MTLS-15
#[tokio::test]
async fn who_is_a_proxy() {
    let (world, dmz) = (World::new(), Dmz::new());
    let lb = dmz.proxy(&["LB.bank.example", "192.0.2.7"]);
    let client = world.clients.issue(&client_params(7));
    let here = "127.0.0.0/8";
    let unfit = Err(CloseReason::ProxyCertificateUnfit);
    let untrusted = Err(CloseReason::ClientCertificateUntrusted);
    let rule = |name| Some(dmz.rule(name, &[]));
    // Whether it is a proxy, and whether a certificate is in its peer.
    for (proxies, rule, leaf, expected) in [
        (here, rule("lb.bank.example"), Some(&lb), Ok((true, false))),
        (here, rule("192.0.2.7"), Some(&lb), Ok((true, false))),
        (here, rule("spiffe://bank/lb"), Some(&lb), Ok((true, false))),
        (here, rule("bank.example"), Some(&lb), unfit),
        (here, rule("spiffe://bank"), Some(&lb), unfit),
        (here, rule("lb.bank.example"), Some(&client), unfit),
        (here, rule("lb.bank.example"), None, unfit),
        (here, None, None, Ok((true, false))),
        // Not asked, so nothing is shown.
        (here, None, Some(&client), Ok((true, false))),
        (
            "192.0.2.0/24",
            rule("lb.bank.example"),
            Some(&lb),
            untrusted,
        ),
        (
            "192.0.2.0/24",
            rule("lb.bank.example"),
            Some(&client),
            Ok((false, true)),
        ),
        ("192.0.2.0/24", None, None, Ok((false, false))),
    ] {
        let server = server(&settings(&world, proxies, rule));
        let (there, _) = connect(&server, &Arc::new(world.client(leaf))).await;
        let told = there
            .map(|secured| (secured.front.is_some(), secured.peer.certificate.is_some()))
            .map_err(|failed| failed.reason);
        assert_eq!(told, expected);
    }
}

// TLS-17
#[tokio::test]
async fn a_proxy_is_judged_anew_like_everybody() {
    let (world, dmz) = (World::new(), Dmz::new());
    let lb = dmz.proxy(&["lb.bank.example"]);
    let with = |proxies, rule| settings(&world, proxies, rule);
    let good = with("127.0.0.1/32", Some(dmz.rule("lb.bank.example", &[])));
    let server = server(&good);
    let (there, _) = connect(&server, &Arc::new(world.client(Some(&lb)))).await;
    let trust = there.unwrap().trust;
    let now = clock::now();
    assert_eq!(trust.standing(now), Some(Standing::Trusted));
    assert_eq!(trust.standing(at(2091)), Some(Standing::Expired));
    assert_eq!(trust.standing(now), Some(Standing::Trusted));
    let other = Dmz::new();
    for (settings, expected) in [
        (
            with("127.0.0.2/32", Some(dmz.rule("lb.bank.example", &[]))),
            Standing::Untrusted,
        ),
        (
            with("127.0.0.1/32", Some(dmz.rule("lb2.bank.example", &[]))),
            Standing::Untrusted,
        ),
        (
            with("127.0.0.1/32", Some(other.rule("lb.bank.example", &[]))),
            Standing::Untrusted,
        ),
        (with("127.0.0.1/32", None), Standing::Trusted),
        (
            Settings {
                behind: None,
                ..good.clone()
            },
            Standing::Untrusted,
        ),
        (good.clone(), Standing::Trusted),
    ] {
        let built = ServerTls::build(&settings, server.current.of("bank").as_ref()).unwrap();
        server.current.replace([built]);
        assert_eq!(trust.standing(now), Some(expected));
    }
    server.current.replace([]);
    assert_eq!(trust.standing(now), Some(Standing::Untrusted));
}

#[test]
fn what_stands_in_front_makes_another_generation() {
    let (world, dmz) = (World::new(), Dmz::new());
    let first = settings(
        &world,
        "127.0.0.1/32",
        Some(dmz.rule("lb.bank.example", &[])),
    );
    let tls = ServerTls::build(&first, None).unwrap();
    let same = ServerTls::build(&first, Some(&tls)).unwrap();
    assert_eq!(same.generation(), tls.generation());
    let nginx = first.behind.clone().map(|behind| Behind {
        form: Form::Nginx,
        ..behind
    });
    for behind in [
        None,
        settings(
            &world,
            "127.0.0.2/32",
            Some(dmz.rule("lb.bank.example", &[])),
        )
        .behind,
        settings(
            &world,
            "127.0.0.1/32",
            Some(dmz.rule("lb.bank.example", &[9])),
        )
        .behind,
        settings(&world, "127.0.0.1/32", Some(dmz.rule("other", &[]))).behind,
        settings(&world, "127.0.0.1/32", None).behind,
        nginx,
    ] {
        let other = Settings {
            behind,
            ..first.clone()
        };
        let other = ServerTls::build(&other, Some(&tls)).unwrap();
        assert_ne!(other.generation(), tls.generation());
    }
}

// MTLS-15, MTLS-16
#[tokio::test]
async fn each_request_is_of_whom_its_own_headers_name() {
    let world = World::new();
    let server = server(&settings(&world, "127.0.0.1/32", None));
    let (there, _) = connect(&server, &Arc::new(world.client(None))).await;
    let front = there.unwrap().front.unwrap();
    let now = clock::now();
    let leaves: Vec<_> = (20..40)
        .map(|serial| world.clients.issue(&client_params(serial)))
        .collect();
    let revoked = world.clients.issue(&client_params(13));
    // More than are remembered, and in turns: there and back.
    for leaf in leaves.iter().chain(leaves.iter().rev()) {
        for _ in 0..2 {
            let (peer, standing) = front.client(&headers(leaf), now).unwrap();
            let certificate = peer.certificate.as_ref().unwrap();
            assert_eq!(*certificate.der, leaf.chain[0][..]);
            assert_eq!(standing, Some(Standing::Trusted));
            let (peer, standing) = front.client(&HeaderMap::new(), now).unwrap();
            assert!(peer.certificate.is_none() && standing.is_none());
        }
        let (_, standing) = front.client(&headers(&revoked), now).unwrap();
        assert_eq!(standing, Some(Standing::Revoked));
    }
    // One that is remembered is judged by the time and by the trust of each request.
    let first = headers(&leaves[0]);
    let standing = |headers: &HeaderMap, now| front.client(headers, now).unwrap().1;
    assert_eq!(standing(&first, at(2098)), Some(Standing::Expired));
    assert_eq!(standing(&first, at(2019)), Some(Standing::Expired));
    assert_eq!(standing(&first, now), Some(Standing::Trusted));
    let mut crls = settings(&world, "127.0.0.1/32", None);
    crls.client_trust = world.trust(&[world.clients.crl(&[20], true)]);
    server
        .current
        .replace([ServerTls::build(&crls, None).unwrap()]);
    assert_eq!(standing(&first, now), Some(Standing::Revoked));
    assert_eq!(standing(&headers(&revoked), now), Some(Standing::Trusted));
    // `required` is meant for clients behind the proxy too, from the next request on.
    let required = Settings {
        client_certificate: ClientCertificate::Required,
        ..crls
    };
    server
        .current
        .replace([ServerTls::build(&required, None).unwrap()]);
    let refusal = front.client(&HeaderMap::new(), now).unwrap_err();
    assert_eq!(refusal.reason(), Reason::CertificateRequired);
    // An octet more is another header.
    let mut longer = first.clone();
    let value = format!("{} ", first["client-cert"].to_str().unwrap());
    longer.insert("client-cert-chain", first["client-cert"].clone());
    assert_eq!(standing(&longer, now), Some(Standing::Revoked));
    longer.insert("client-cert-chain", HeaderValue::from_static("x"));
    let refusal = front.client(&longer, now).unwrap_err();
    assert_eq!(refusal.reason(), Reason::ClientCertMalformed);
    longer.remove("client-cert-chain");
    longer.append("client-cert", HeaderValue::from_str(&value).unwrap());
    let refusal = front.client(&longer, now).unwrap_err();
    assert_eq!(refusal.reason(), Reason::FieldRepeated);
}
