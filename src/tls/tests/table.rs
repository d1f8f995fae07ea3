//! Who gets in: mode, trust and certificate.

use std::sync::Arc;

use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::crypto::aws_lc_rs;
use rustls::{AlertDescription, CipherSuite, ProtocolVersion};

use super::pki::*;
use crate::refusal::CloseReason;
use crate::tls::trust::CrlRule;
use crate::tls::*;

/// The reason of a refusal, which both sides must have seen.
async fn refused(server: &Server, client: &Arc<rustls::ClientConfig>) -> CloseReason {
    let (there, here) = connect(server, client).await;
    here.expect_err("the client must not get through");
    let failed = there.expect_err("the server must refuse");
    assert_eq!(failed.listener.as_deref(), Some("bank"));
    failed.reason
}

async fn admitted(server: &Server, client: &Arc<rustls::ClientConfig>) -> Secured {
    let (there, here) = connect(server, client).await;
    here.unwrap();
    there.unwrap()
}

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] =
    [&rustls::version::TLS13, &rustls::version::TLS12];

// MTLS-01, MTLS-06, MTLS-07, TLS-17, under both versions
#[tokio::test]
async fn the_table_of_client_certificates() {
    use CloseReason::*;
    let world = World::new();
    let stranger = Ca::new("stranger");
    let good = world.clients.issue(&client_params(7));
    let unknown = stranger.issue(&client_params(7));
    let mut params = client_params(8);
    params.not_after = date_time_ymd(2021, 1, 1);
    let expired = world.clients.issue(&params);
    params.not_before = date_time_ymd(2090, 1, 1);
    params.not_after = date_time_ymd(2091, 1, 1);
    let early = world.clients.issue(&params);
    let mut params = client_params(9);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let wrong_usage = world.clients.issue(&params);
    let authority = {
        let ca = world.clients.under(ca_params("intermediate"));
        Leaf {
            chain: vec![ca.issuer.der().clone()],
            key: rcgen::KeyPair::try_from(ca.issuer.key().serialize_der()).unwrap(),
        }
    };
    let plain = || world.trust(&[]);
    let listed = || world.trust(&[world.clients.crl(&[7], true)]);
    let clean = || world.trust(&[world.clients.crl(&[1], true)]);
    let stale = |rule| {
        trust(
            &[world.clients.file()],
            &[world.clients.crl(&[1], false)],
            rule,
            CrlRule::Refuse,
        )
    };
    let foreign = |rule| {
        let both = [world.clients.file(), stranger.file()];
        trust(&both, &[stranger.crl(&[], true)], CrlRule::Refuse, rule)
    };
    let cases: Vec<(&str, ClientTrust, Option<&Leaf>, Option<CloseReason>)> = vec![
        ("good", plain(), Some(&good), None),
        (
            "unknown CA",
            plain(),
            Some(&unknown),
            Some(ClientCertificateUntrusted),
        ),
        (
            "expired",
            plain(),
            Some(&expired),
            Some(ClientCertificateExpired),
        ),
        (
            "not yet valid",
            plain(),
            Some(&early),
            Some(ClientCertificateExpired),
        ),
        (
            "EKU serverAuth",
            plain(),
            Some(&wrong_usage),
            Some(ClientCertificateUntrusted),
        ),
        (
            "CA as leaf",
            plain(),
            Some(&authority),
            Some(ClientCertificateUntrusted),
        ),
        ("not in the CRL", clean(), Some(&good), None),
        (
            "in the CRL",
            listed(),
            Some(&good),
            Some(ClientCertificateRevoked),
        ),
        (
            "CRL ran out",
            stale(CrlRule::Refuse),
            Some(&good),
            Some(RevocationUnknown),
        ),
        (
            "CRL ran out, accepted",
            stale(CrlRule::Accept),
            Some(&good),
            None,
        ),
        (
            "no CRL of the CA",
            foreign(CrlRule::Refuse),
            Some(&good),
            Some(RevocationUnknown),
        ),
        (
            "no CRL of the CA, accepted",
            foreign(CrlRule::Accept),
            Some(&good),
            None,
        ),
        ("any: self-made", ClientTrust::Any, Some(&unknown), None),
    ];
    for version in VERSIONS {
        for mode in [ClientCertificate::Required, ClientCertificate::Optional] {
            for (case, trust, leaf, wanted) in &cases {
                let server = world.server(mode, trust.clone());
                let provider = aws_lc_rs::default_provider();
                let client = Arc::new(world.client_with(*leaf, &[version], provider));
                let (there, here) = connect(&server, &client).await;
                let seen = there.as_ref().err().map(|failed| failed.reason);
                assert_eq!(
                    seen, *wanted,
                    "{case}, {mode:?}, {:?}: {there:?}",
                    version.version
                );
                assert_eq!(here.is_err(), wanted.is_some(), "{case}: {here:?}");
            }
        }
    }
}

// MTLS-01
#[tokio::test]
async fn absence_is_refused_only_where_a_certificate_is_required() {
    let world = World::new();
    for version in VERSIONS {
        let provider = aws_lc_rs::default_provider();
        let client = Arc::new(world.client_with(None, &[version], provider));
        let required = world.server(ClientCertificate::Required, world.trust(&[]));
        assert_eq!(
            refused(&required, &client).await,
            CloseReason::ClientCertificateMissing
        );
        for mode in [ClientCertificate::Optional, ClientCertificate::None] {
            let secured = admitted(&world.server(mode, world.trust(&[])), &client).await;
            assert!(secured.peer.certificate.is_none());
            assert_eq!(secured.trust.standing(crate::clock::now()), None);
        }
    }
}

#[tokio::test]
async fn nobody_is_asked_where_the_mode_is_none() {
    let world = World::new();
    let leaf = world.clients.issue(&client_params(7));
    let server = world.server(ClientCertificate::None, world.trust(&[]));
    let secured = admitted(&server, &Arc::new(world.client(Some(&leaf)))).await;
    assert!(secured.peer.certificate.is_none());
}

// MTLS-03
#[tokio::test]
async fn the_peer_is_the_leaf_of_this_connection() {
    let world = World::new();
    let leaf = world.clients.issue(&client_params(0xabc));
    let server = world.server(ClientCertificate::Required, world.trust(&[]));
    let secured = admitted(&server, &Arc::new(world.client(Some(&leaf)))).await;
    let certificate = secured.peer.certificate.as_ref().unwrap();
    let wanted = crate::pdp::Thumbprint::of_der(&leaf.chain[0]);
    assert!(certificate.thumbprint.matches(&wanted));
    assert_eq!(&*certificate.serial, "0abc");
    assert_eq!(&*secured.peer.listener, "bank");
}

// MTLS-06: possession counts under "any" too
#[tokio::test]
async fn any_trust_still_needs_the_key() {
    let world = World::new();
    let mut leaf = Ca::new("self").issue(&client_params(7));
    leaf.key = rcgen::KeyPair::generate().unwrap();
    let key = aws_lc_rs::default_provider()
        .key_provider
        .load_private_key(leaf.private_key())
        .unwrap();
    // A client that shows somebody's certificate and signs with its own key.
    let certified = rustls::sign::CertifiedKey::new(leaf.chain.clone(), key);
    let mut client = world.client(None);
    client.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    let server = world.server(ClientCertificate::Optional, ClientTrust::Any);
    assert_eq!(
        refused(&server, &Arc::new(client)).await,
        CloseReason::ClientCertificateUntrusted
    );
}

// MTLS-08
#[tokio::test]
async fn an_intermediate_comes_from_the_client_or_the_configuration() {
    let world = World::new();
    let intermediate = world.clients.under(ca_params("intermediate"));
    let alone = intermediate.issue(&client_params(7));
    let mut whole = intermediate.issue(&client_params(7));
    whole.chain.push(intermediate.issuer.der().clone());
    let root = world.server(ClientCertificate::Required, world.trust(&[]));
    let both = [world.clients.file(), intermediate.file()];
    let supplied = trust(&both, &[], CrlRule::Refuse, CrlRule::Refuse);
    let supplied = world.server(ClientCertificate::Required, supplied);
    let (alone, whole) = (
        Arc::new(world.client(Some(&alone))),
        Arc::new(world.client(Some(&whole))),
    );
    assert_eq!(
        refused(&root, &alone).await,
        CloseReason::ClientCertificateUntrusted
    );
    admitted(&root, &whole).await;
    admitted(&supplied, &alone).await;
}

// TLS-17: an intermediate of the configuration is no anchor, so its own revocation counts
#[tokio::test]
async fn a_revoked_intermediate_of_the_configuration_is_not_trusted() {
    let world = World::new();
    let mut params = ca_params("intermediate");
    params.serial_number = Some(rcgen::SerialNumber::from(55));
    let intermediate = world.clients.under(params);
    let leaf = Arc::new(world.client(Some(&intermediate.issue(&client_params(7)))));
    for (revoked, wanted) in [
        (55, Some(CloseReason::ClientCertificateRevoked)),
        (56, None),
    ] {
        let trust = trust(
            &[intermediate.file(), world.clients.file()],
            &[
                world.clients.crl(&[revoked], true),
                intermediate.crl(&[], true),
            ],
            CrlRule::Refuse,
            CrlRule::Refuse,
        );
        let (there, _) = connect(&world.server(ClientCertificate::Required, trust), &leaf).await;
        assert_eq!(there.err().map(|failed| failed.reason), wanted);
    }
}

#[tokio::test]
async fn an_anchor_outside_its_dates_is_none() {
    let mut params = ca_params("old");
    params.not_after = date_time_ymd(2021, 1, 1);
    let world = World::new();
    let old = Ca::from_params(params);
    let leaf = Arc::new(world.client(Some(&old.issue(&client_params(7)))));
    let alone = trust(&[old.file()], &[], CrlRule::Refuse, CrlRule::Refuse);
    let beside = trust(
        &[old.file(), world.clients.file()],
        &[],
        CrlRule::Refuse,
        CrlRule::Refuse,
    );
    for trust in [alone, beside] {
        let server = world.server(ClientCertificate::Required, trust);
        assert_eq!(
            refused(&server, &leaf).await,
            CloseReason::ClientCertificateExpired
        );
    }
    let good = Arc::new(world.client(Some(&world.clients.issue(&client_params(7)))));
    let beside = trust(
        &[old.file(), world.clients.file()],
        &[],
        CrlRule::Refuse,
        CrlRule::Refuse,
    );
    admitted(&world.server(ClientCertificate::Required, beside), &good).await;
}

// Where an old and a new CRL of one authority are given, the new one speaks.
#[tokio::test]
async fn the_newest_crl_counts() {
    let world = World::new();
    let leaf = Arc::new(world.client(Some(&world.clients.issue(&client_params(7)))));
    let (old, new) = (world.clients.crl(&[], false), world.clients.crl(&[7], true));
    for crls in [[old.clone(), new.clone()], [new, old]] {
        let server = world.server(ClientCertificate::Required, world.trust(&crls));
        assert_eq!(
            refused(&server, &leaf).await,
            CloseReason::ClientCertificateRevoked
        );
    }
}

// MTLS-17
#[tokio::test]
async fn long_chains_and_large_certificates_are_refused() {
    let world = World::new();
    for trust in [world.trust(&[]), ClientTrust::Any] {
        let server = world.server(ClientCertificate::Optional, trust);
        let mut long = world.clients.issue(&client_params(7));
        let filler = world.clients.issuer.der().clone();
        long.chain.extend(std::iter::repeat_n(filler, 63));
        let failed = connect(&server, &Arc::new(world.client(Some(&long))))
            .await
            .0
            .unwrap_err();
        assert_eq!(failed.reason, CloseReason::ClientCertificateUntrusted);
        assert!(
            failed.detail.contains("64 certificates"),
            "{}",
            failed.detail
        );

        let mut params = client_params(7);
        let names = (0..1000).map(|name| format!("name-{name}.client.example"));
        params.subject_alt_names = names
            .map(|name| rcgen::SanType::DnsName(name.try_into().unwrap()))
            .collect();
        let large = world.clients.issue(&params);
        let failed = connect(&server, &Arc::new(world.client(Some(&large))))
            .await
            .0
            .unwrap_err();
        assert!(failed.detail.contains("octets"), "{}", failed.detail);
    }
}

// TLS-03
#[tokio::test]
async fn version_1_3_wins_and_1_2_works() {
    let world = World::new();
    let server = world.server(ClientCertificate::None, ClientTrust::Any);
    for (versions, wanted) in [
        (&VERSIONS[..], ProtocolVersion::TLSv1_3),
        (&VERSIONS[1..], ProtocolVersion::TLSv1_2),
    ] {
        let client = world.client_with(None, versions, aws_lc_rs::default_provider());
        let secured = admitted(&server, &Arc::new(client)).await;
        assert_eq!(secured.stream.get_ref().1.protocol_version(), Some(wanted));
    }
}

// TLS-04, TLS-05, TLS-06
#[tokio::test]
async fn each_profile_takes_its_suites_alone() {
    let mut world = World::new();
    let params = rcgen::CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let rsa = Leaf {
        chain: vec![
            params
                .signed_by(&rsa, &world.servers.issuer)
                .unwrap()
                .der()
                .clone(),
        ],
        key: rsa,
    };
    let ec = Arc::clone(&world.identity);
    let suites = aws_lc_rs::default_provider().cipher_suites;
    for (profile, identity, wanted) in [
        (
            Profile::Fapi2,
            ec,
            [
                "ECDHE_ECDSA_WITH_AES_128_GCM",
                "ECDHE_ECDSA_WITH_AES_256_GCM",
            ],
        ),
        (
            Profile::Fapi2,
            rsa.identity(),
            ["ECDHE_RSA_WITH_AES_128_GCM", "ECDHE_RSA_WITH_AES_256_GCM"],
        ),
        (
            Profile::Fapi1,
            rsa.identity(),
            ["ECDHE_RSA_WITH_AES_128_GCM", "ECDHE_RSA_WITH_AES_256_GCM"],
        ),
    ] {
        world.identity = identity;
        let mut settings = world.settings(ClientCertificate::None, ClientTrust::Any);
        settings.profile = profile;
        let server = Server::new(ServerTls::build(&settings, None).unwrap());
        for suite in suites
            .iter()
            .filter(|suite| suite.version() == &rustls::version::TLS12)
        {
            let mut provider = aws_lc_rs::default_provider();
            provider.cipher_suites = vec![*suite];
            let client = world.client_with(None, &[&rustls::version::TLS12], provider);
            let (there, here) = connect(&server, &Arc::new(client)).await;
            let name = format!("{:?}", suite.suite());
            let good = wanted.iter().any(|wanted| name.contains(wanted));
            assert_eq!(there.is_ok(), good, "{profile:?} {name}");
            if let Err(failed) = there {
                assert_eq!(failed.reason, CloseReason::ProtocolUnsupported);
                let alert = here.unwrap_err().to_string();
                assert!(alert.contains(&format!("{:?}", AlertDescription::HandshakeFailure)));
            }
        }
        let mut provider = aws_lc_rs::default_provider();
        provider
            .cipher_suites
            .retain(|suite| suite.suite() == CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
        let client = world.client_with(None, &[&rustls::version::TLS13], provider);
        assert!(connect(&server, &Arc::new(client)).await.0.is_err());
    }
}

#[test]
fn profile_fapi1_needs_an_rsa_certificate() {
    let world = World::new();
    let mut settings = world.settings(ClientCertificate::None, ClientTrust::Any);
    settings.profile = Profile::Fapi1;
    assert!(
        ServerTls::build(&settings, None)
            .unwrap_err()
            .contains("RSA")
    );
}

// TLS-13
#[tokio::test]
async fn alpn_is_enforced() {
    let world = World::new();
    let server = world.server(ClientCertificate::None, ClientTrust::Any);
    type Case<'a> = (&'a [&'a [u8]], Result<Alpn, CloseReason>);
    let cases: [Case<'_>; 5] = [
        (&[], Ok(Alpn::Http1)),
        (&[b"http/1.1"], Ok(Alpn::Http1)),
        (&[b"h2"], Ok(Alpn::Http2)),
        (&[b"http/1.1", b"h2"], Ok(Alpn::Http2)),
        (&[b"foo"], Err(CloseReason::ProtocolUnsupported)),
    ];
    for (offered, wanted) in cases {
        let mut client = world.client(None);
        client.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        let (there, here) = connect(&server, &Arc::new(client)).await;
        let seen = there
            .map(|secured| secured.protocol)
            .map_err(|failed| failed.reason);
        assert_eq!(seen, wanted);
        if wanted.is_err() {
            assert!(
                here.unwrap_err()
                    .to_string()
                    .contains("NoApplicationProtocol")
            );
        }
    }
}

// TLS-08, TLS-09
#[test]
fn no_early_data_and_the_extended_master_secret_is_needed() {
    let world = World::new();
    let settings = world.settings(ClientCertificate::None, ClientTrust::Any);
    let tls = ServerTls::build(&settings, None).unwrap();
    assert_eq!(tls.config().max_early_data_size, 0);
    assert!(tls.config().require_ems);
    assert!(!tls.config().key_log.will_log("CLIENT_RANDOM"));
}
