//! Resumption skips the client's verification, so a session must never outlive the trust, or
//! leave the listener, that it was made under (TLS-10).

use std::sync::Arc;

use rustls::client::{Resumption, Tls12Resumption};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, HandshakeKind};

use super::pki::*;
use crate::refusal::CloseReason;
use crate::tls::*;

/// The three ways to resume: ticket of 1.3, ticket of 1.2, session of 1.2 in the server's store.
fn clients(world: &World, leaf: Option<&Leaf>) -> Vec<Arc<ClientConfig>> {
    [
        (&rustls::version::TLS13, Tls12Resumption::Disabled),
        (&rustls::version::TLS12, Tls12Resumption::SessionIdOrTickets),
        (&rustls::version::TLS12, Tls12Resumption::SessionIdOnly),
    ]
    .into_iter()
    .map(|(version, way)| {
        let mut client = world.client_with(leaf, &[version], aws_lc_rs::default_provider());
        client.resumption = Resumption::in_memory_sessions(8).tls12_resumption(way);
        Arc::new(client)
    })
    .collect()
}

async fn begin(server: &Server, client: &Arc<ClientConfig>) {
    let (there, here) = connect(server, client).await;
    assert!(!there.unwrap().resumed);
    assert_ne!(here.unwrap(), HandshakeKind::Resumed);
}

// MTLS-16
#[tokio::test]
async fn a_session_resumes_at_its_listener_with_its_certificate() {
    let world = World::new();
    let leaf = world.clients.issue(&client_params(7));
    let server = world.server(ClientCertificate::Required, world.trust(&[]));
    for client in clients(&world, Some(&leaf)) {
        begin(&server, &client).await;
        let (there, here) = connect(&server, &client).await;
        let secured = there.unwrap();
        assert_eq!(here.unwrap(), HandshakeKind::Resumed);
        assert!(secured.resumed);
        let wanted = crate::pdp::Thumbprint::of_der(&leaf.chain[0]);
        assert!(
            secured
                .peer
                .certificate
                .as_ref()
                .unwrap()
                .thumbprint
                .matches(&wanted)
        );
    }
}

#[tokio::test]
async fn without_resumption_nothing_resumes() {
    let world = World::new();
    let leaf = world.clients.issue(&client_params(7));
    let mut settings = world.settings(ClientCertificate::Required, world.trust(&[]));
    settings.resumption = false;
    let server = Server::new(ServerTls::build(&settings, None).unwrap());
    for client in clients(&world, Some(&leaf)) {
        begin(&server, &client).await;
        begin(&server, &client).await;
    }
}

#[tokio::test]
async fn an_unchanged_reload_keeps_sessions_and_a_changed_one_does_not() {
    let world = World::new();
    let settings = world.settings(ClientCertificate::Required, world.trust(&[]));
    let first = ServerTls::build(&settings, None).unwrap();
    // Read anew from the files, as a reload does.
    let again = world.settings(ClientCertificate::Required, world.trust(&[]));
    assert!(Arc::ptr_eq(
        &first,
        &ServerTls::build(&again, Some(&first)).unwrap()
    ));

    let mut others = Vec::new();
    others.push(world.settings(ClientCertificate::Optional, world.trust(&[])));
    others.push(world.settings(ClientCertificate::Required, ClientTrust::Any));
    let crls = [world.clients.crl(&[], true)];
    others.push(world.settings(ClientCertificate::Required, world.trust(&crls)));
    others.push(Settings {
        resumption: false,
        ..settings.clone()
    });
    others.push(Settings {
        listener: "other".into(),
        ..settings.clone()
    });
    others.push(Settings {
        identity: World::new().identity,
        ..settings
    });
    for other in others {
        let built = ServerTls::build(&other, Some(&first)).unwrap();
        assert!(built.generation() > first.generation(), "{other:?}");
        assert!(!Arc::ptr_eq(
            &built.config().ticketer,
            &first.config().ticketer
        ));
        assert!(!Arc::ptr_eq(
            &built.config().session_storage,
            &first.config().session_storage
        ));
    }
}

/// Two listeners, or two generations of one, between which a session must not pass.
struct Border {
    what: &'static str,
    leaf: Option<Leaf>,
    from: Settings,
    to: Settings,
    /// What comes of the second connection.
    refused: CloseReason,
}

fn borders(world: &World) -> Vec<Border> {
    let other = Ca::new("other clients");
    let other_trust = || {
        use crate::tls::trust::CrlRule;
        trust(&[other.file()], &[], CrlRule::Refuse, CrlRule::Refuse)
    };
    let required = |trust| world.settings(ClientCertificate::Required, trust);
    let optional = |trust| world.settings(ClientCertificate::Optional, trust);
    vec![
        Border {
            what: "a CRL reload",
            leaf: Some(world.clients.issue(&client_params(7))),
            from: required(world.trust(&[])),
            to: required(world.trust(&[world.clients.crl(&[7], true)])),
            refused: CloseReason::ClientCertificateRevoked,
        },
        Border {
            what: "another authority",
            leaf: Some(world.clients.issue(&client_params(7))),
            from: optional(world.trust(&[])),
            to: Settings {
                listener: "other".into(),
                ..optional(other_trust())
            },
            refused: CloseReason::ClientCertificateUntrusted,
        },
        Border {
            what: "from any to ca",
            leaf: Some(other.issue(&client_params(7))),
            from: optional(ClientTrust::Any),
            to: Settings {
                listener: "other".into(),
                ..optional(world.trust(&[]))
            },
            refused: CloseReason::ClientCertificateUntrusted,
        },
        Border {
            what: "from optional to required, without a certificate",
            leaf: None,
            from: optional(world.trust(&[])),
            to: Settings {
                listener: "other".into(),
                ..required(world.trust(&[]))
            },
            refused: CloseReason::ClientCertificateMissing,
        },
    ]
}

#[tokio::test]
async fn no_session_crosses_a_change_of_trust_or_goes_to_another_listener() {
    let world = World::new();
    for border in borders(&world) {
        let from = ServerTls::build(&border.from, None).unwrap();
        let to = Server::new(ServerTls::build(&border.to, Some(&from)).unwrap());
        let from = Server::new(from);
        for client in clients(&world, border.leaf.as_ref()) {
            begin(&from, &client).await;
            let (there, here) = connect(&to, &client).await;
            assert_eq!(there.unwrap_err().reason, border.refused, "{}", border.what);
            here.unwrap_err();
        }
    }
}

/// Shows that the stores are what the test above rests on: with shared ones rustls resumes each
/// of these sessions. And that even then our own judgement of resumed sessions refuses them.
#[tokio::test]
async fn with_shared_stores_rustls_would_let_them_in_and_we_still_do_not() {
    let world = World::new();
    for border in borders(&world) {
        let from = ServerTls::build(&border.from, None).unwrap();
        let to = ServerTls::build(&border.to, None)
            .unwrap()
            .with_sessions_of(&from);
        let from = Server::new(from);
        for client in clients(&world, border.leaf.as_ref()) {
            begin(&from, &client).await;
            let (near, far) = pair().await;
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(to.config()));
            let serve = async {
                use tokio::io::AsyncWriteExt as _;
                let mut stream = acceptor.accept(far).await?;
                stream.write_all(b"ok").await?;
                std::io::Result::Ok(stream)
            };
            let (there, here) = tokio::join!(serve, visit(near, &client));
            let kind = there.unwrap().get_ref().1.handshake_kind();
            assert_eq!(kind, Some(HandshakeKind::Resumed), "{}", border.what);
            here.unwrap();
        }
        for client in clients(&world, border.leaf.as_ref()) {
            begin(&from, &client).await;
            let (there, here) = connect(&Server::new(Arc::clone(&to)), &client).await;
            assert_eq!(there.unwrap_err().reason, border.refused, "{}", border.what);
            here.unwrap_err();
        }
    }
}
