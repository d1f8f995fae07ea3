//! TLS towards the server.

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::outbound::Tls;

/// A server with a certificate for `name`, which speaks TLS and then answers; and its authority.
async fn server(name: &str) -> (SocketAddr, Vec<(String, Vec<u8>)>) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(certificate.der().to_vec())],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (address, _) = peer(move |_, stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            let mut head = Vec::new();
            loop {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => return,
                }
                if head.ends_with(b"\r\n\r\n") {
                    head.clear();
                    stream.write_all(OK.as_bytes()).await.unwrap();
                }
            }
        }
    })
    .await;
    let ca = vec![("ca.pem".to_owned(), certificate.pem().into_bytes())];
    (address, ca)
}

fn tls(ca: &[(String, Vec<u8>)], name: Option<&str>, http2: bool) -> Option<Tls> {
    Some(Tls::build(Some(ca), None, name, http2).unwrap())
}

#[tokio::test]
async fn the_certificate_must_fit_the_name() {
    // TLS-14
    on_a_thread(async {
        let (address, ca) = server("127.0.0.1").await;
        let good = bench(&[address], |s| s.tls = tls(&ca, None, false));
        for _ in 0..2 {
            assert_eq!(good.ask(get("/")).await, ok());
        }
        let other = bench(&[address], |s| {
            s.tls = tls(&ca, Some("other.example"), false)
        });
        assert_eq!(other.ask(get("/")).await, Err(Reason::UpstreamUntrusted));

        let (named, ca) = server("core.example").await;
        let by_name = bench(&[named], |s| s.tls = tls(&ca, Some("core.example"), false));
        assert_eq!(by_name.ask(get("/")).await, ok());
        let by_address = bench(&[named], |s| s.tls = tls(&ca, None, false));
        assert_eq!(
            by_address.ask(get("/")).await,
            Err(Reason::UpstreamUntrusted)
        );
    })
    .await;
}

#[tokio::test]
async fn the_authority_must_be_known() {
    on_a_thread(async {
        let (address, _) = server("127.0.0.1").await;
        let (_, strange) = server("127.0.0.1").await;
        let bench = bench(&[address], |s| s.tls = tls(&strange, None, false));
        assert_eq!(bench.ask(get("/")).await, Err(Reason::UpstreamUntrusted));
    })
    .await;
}

#[tokio::test]
async fn what_speaks_no_tls_or_no_http2_is_unreachable() {
    on_a_thread(async {
        let (address, ca) = server("127.0.0.1").await;
        let wants = bench(&[address], |s| {
            s.tls = tls(&ca, None, true);
            s.protocol = Protocol::Http2;
        });
        assert_eq!(wants.ask(get("/")).await, Err(Reason::UpstreamUnreachable));
        let (plain, _) = peer(|_, mut stream| async move {
            stream.write_all(OK.as_bytes()).await.unwrap();
        })
        .await;
        let bench = bench(&[plain], |s| s.tls = tls(&ca, None, false));
        assert_eq!(bench.ask(get("/")).await, Err(Reason::UpstreamUnreachable));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_end_is_504() {
    on_a_thread(async {
        let (_, ca) = server("127.0.0.1").await;
        let (silent, _) = peer(|_, stream| async move {
            std::future::pending::<()>().await;
            drop(stream);
        })
        .await;
        let bench = bench(&[silent], |s| s.tls = tls(&ca, None, false));
        let started = tokio::time::Instant::now();
        assert_eq!(bench.ask(get("/")).await, Err(Reason::UpstreamTimeout));
        assert_eq!(started.elapsed().as_secs(), 2);
    })
    .await;
}
