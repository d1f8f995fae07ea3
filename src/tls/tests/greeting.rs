//! The `ClientHello`: which listener it is for, and what is said to those it is not for.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::pki::*;
use crate::clock;
use crate::refusal::CloseReason;
use crate::tls::*;

fn server(world: &World, default: bool) -> Server {
    let settings = world.settings(ClientCertificate::None, ClientTrust::Any);
    let tls = ServerTls::build(&settings, None).unwrap();
    Server {
        directory: Directory::new(vec![entry(Arc::clone(&tls), default)]),
        current: Current::new([tls]),
    }
}

/// The bytes of a client's first flight.
fn hello(client: ClientConfig, name: &str) -> Vec<u8> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

/// Puts other octets of the same length in the place of a name.
fn patch(bytes: &mut [u8], from: &str, to: &str) {
    let at = bytes
        .windows(from.len())
        .position(|window| window == from.as_bytes())
        .unwrap();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
}

/// What the server makes of these bytes, and what it answers.
async fn say(server: &Server, pieces: &[&[u8]]) -> (Result<Arc<str>, Failed>, Vec<u8>) {
    let (mut near, far) = pair().await;
    near.set_nodelay(true).unwrap();
    let (remote, local) = (near.local_addr().unwrap(), far.local_addr().unwrap());
    let serve = async {
        let greeted = greet(far, Ends::direct(remote, local), &server.directory).await?;
        Ok(Arc::clone(greeted.listener()))
    };
    let visit = async {
        for piece in pieces {
            near.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut answer = Vec::new();
        // A reset after the alert is as good as an end.
        drop(near.read_to_end(&mut answer).await);
        answer
    };
    tokio::join!(serve, visit)
}

// TLS-11
#[tokio::test]
async fn the_server_name_chooses_without_case_and_one_trailing_dot() {
    let world = World::new();
    let server = server(&world, false);
    for (as_sent, good) in [
        ("api.bank.example", true),
        ("API.Bank.eXample", true),
        ("api.bank.exampl.", false),
        ("xpi.bank.example", false),
    ] {
        let mut bytes = hello(world.client(None), HOST);
        patch(&mut bytes, HOST, as_sent);
        let (there, answer) = say(&server, &[&bytes]).await;
        assert_eq!(there.is_ok(), good, "{as_sent}");
        if let Err(failed) = there {
            assert_eq!(failed.reason, CloseReason::ServerNameUnknown);
            assert_eq!(failed.listener, None);
            assert_eq!(failed.detail, as_sent.trim_end_matches('.'));
            // alert, fatal, unrecognized_name
            assert_eq!(answer, [21, 3, 3, 0, 2, 2, 112]);
        }
    }
    let mut bytes = hello(world.client(None), "api.bank.exampleX");
    patch(&mut bytes, "api.bank.exampleX", "api.bank.example.");
    assert!(say(&server, &[&bytes]).await.0.is_ok());
}

// TLS-11: a default takes those without a name, never those with an unknown one
#[tokio::test]
async fn a_missing_name_is_taken_by_the_default_alone() {
    let world = World::new();
    let mut client = world.client(None);
    client.enable_sni = false;
    let nameless = hello(client, HOST);
    let unknown = hello(world.client(None), "nope.example");
    let (strict, lenient) = (server(&world, false), server(&world, true));

    let (there, answer) = say(&strict, &[&nameless]).await;
    assert_eq!(there.unwrap_err().reason, CloseReason::ServerNameMissing);
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 109]);
    assert!(say(&lenient, &[&nameless]).await.0.is_ok());
    let (there, _) = say(&lenient, &[&unknown]).await;
    assert_eq!(there.unwrap_err().reason, CloseReason::ServerNameUnknown);
}

#[tokio::test]
async fn a_hello_in_pieces_is_put_together() {
    let world = World::new();
    let server = server(&world, false);
    let bytes = hello(world.client(None), HOST);
    let pieces: Vec<&[u8]> = bytes.chunks(7).collect();
    assert!(say(&server, &pieces).await.0.is_ok());

    // The same message in many records.
    let records: Vec<u8> = bytes[5..]
        .chunks(50)
        .flat_map(|part| {
            let length = u16::try_from(part.len()).unwrap().to_be_bytes();
            [&[22, 3, 1], &length[..], part].concat()
        })
        .collect();
    assert!(say(&server, &[&records]).await.0.is_ok());
}

// TLS-01
#[tokio::test]
async fn cleartext_http_gets_no_http() {
    let world = World::new();
    let request = b"GET / HTTP/1.1\r\nHost: api.bank.example\r\n\r\n";
    let (there, answer) = say(&server(&world, true), &[request]).await;
    assert_eq!(there.unwrap_err().reason, CloseReason::HandshakeFailed);
    assert!(!answer.starts_with(b"HTTP"));
}

// TLS-02
#[tokio::test]
async fn old_versions_get_the_alert_of_the_version() {
    let world = World::new();
    let server = server(&world, true);
    for minor in [1, 2] {
        // A ClientHello of TLS 1.0 or 1.1: no extension but the name.
        let name = HOST.as_bytes();
        let length = u8::try_from(name.len()).unwrap();
        let list = [&[0, length + 3, 0, 0, length][..], name].concat();
        let extension = [&[0, 0, 0, length + 5][..], &list].concat();
        let body = [
            &[3, minor][..],
            &[7; 32],
            &[0, 0, 4, 0xc0, 0x13, 0x00, 0x2f, 1, 0],
            &[0, u8::try_from(extension.len()).unwrap()],
            &extension,
        ]
        .concat();
        let body_length = u8::try_from(body.len()).unwrap();
        let message = [
            &[22, 3, 1, 0, body_length + 4, 1, 0, 0, body_length][..],
            &body,
        ]
        .concat();
        let (mut near, far) = pair().await;
        let (remote, local) = (near.local_addr().unwrap(), far.local_addr().unwrap());
        let serve = handshake(
            far,
            remote,
            local,
            &server.directory,
            &server.current,
            clock::now,
        );
        let visit = async {
            near.write_all(&message).await.unwrap();
            let mut answer = Vec::new();
            drop(near.read_to_end(&mut answer).await);
            answer
        };
        let (there, answer) = tokio::join!(serve, visit);
        assert_eq!(there.unwrap_err().reason, CloseReason::ProtocolUnsupported);
        assert_eq!(answer.last(), Some(&70), "{answer:?}");
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_or_stops_half_way_is_left() {
    let world = World::new();
    let settings = world.settings(ClientCertificate::None, ClientTrust::Any);
    let tls = ServerTls::build(&settings, None).unwrap();
    let quick = DirectoryEntry {
        handshake_timeout: Duration::from_millis(50),
        ..entry(tls.clone(), true)
    };
    let server = Server {
        directory: Directory::new(vec![quick]),
        current: Current::new([tls]),
    };
    let bytes = hello(world.client(None), HOST);
    for (sent, named) in [
        (&bytes[..0], false),
        (&bytes[..100], false),
        (&bytes[..], true),
    ] {
        let (mut near, far) = pair().await;
        near.write_all(sent).await.unwrap();
        let (remote, local) = (near.local_addr().unwrap(), far.local_addr().unwrap());
        let failed = handshake(
            far,
            remote,
            local,
            &server.directory,
            &server.current,
            clock::now,
        )
        .await
        .unwrap_err();
        assert_eq!(failed.reason, CloseReason::HandshakeTimeout);
        assert_eq!(failed.listener.is_some(), named);
    }
}

#[tokio::test]
async fn a_client_that_closes_is_a_failure_with_words() {
    let world = World::new();
    let (near, far) = pair().await;
    let (remote, local) = (near.local_addr().unwrap(), far.local_addr().unwrap());
    drop(near);
    let failed = greet(
        far,
        Ends::direct(remote, local),
        &server(&world, true).directory,
    )
    .await
    .unwrap_err();
    assert_eq!(failed.reason, CloseReason::HandshakeFailed);
    assert!(failed.detail.contains("closed"), "{}", failed.detail);
}
