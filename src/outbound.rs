//! TLS as a client: towards upstreams and towards authorization servers. The name is always
//! verified; there is no switch that turns it off (TLS-14).

use std::sync::Arc;

pub use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

use crate::tls::identity::Identity;
use crate::tls::{Profile, pem, provider};

/// Client TLS, ready for connections.
#[derive(Clone, Debug)]
pub struct Tls {
    /// What rustls needs.
    pub config: Arc<ClientConfig>,
    /// Name to verify instead of the host's.
    pub server_name: Option<Box<str>>,
}

/// Reads the one private key of a PEM file: PKCS#8, PKCS#1 or SEC1, not encrypted.
///
/// # Errors
/// What is wrong: none, several, encrypted, broken PEM.
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    pem::private_key(text)
}

impl Tls {
    /// For settings that never connect, such as those of an issuer whose keys are in a file: it
    /// trusts nobody, and needs neither files nor the platform's roots.
    ///
    /// # Errors
    /// TLS 1.3 cannot be had.
    pub fn offline() -> Result<Self, Vec<String>> {
        let config = ClientConfig::builder_with_provider(provider(Profile::Fapi2))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| vec![format!("TLS 1.3 cannot be had: {error}")])?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        Ok(Self {
            config: Arc::new(config),
            server_name: None,
        })
    }

    /// Builds it: TLS 1.2 or 1.3, with the suites of profile `fapi2` (TLS-14).
    ///
    /// `ca`: trusted authorities (PEM, with the file's name); `None` takes the platform's. A
    /// self-signed server certificate may stand there too. An empty list trusts nobody: it is for
    /// settings that never connect, such as an issuer whose keys are in a file.
    /// `identity`: our own chain and key for mutual TLS. `http2`: offer `h2` by ALPN, else
    /// `http/1.1`.
    ///
    /// # Errors
    /// Each problem, with the file it is in.
    pub fn build(
        ca: Option<&[(String, Vec<u8>)]>,
        identity: Option<(&[u8], &[u8])>,
        server_name: Option<&str>,
        http2: bool,
    ) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let roots = match ca {
            Some(files) => given_roots(files, &mut problems),
            None => platform_roots(&mut problems),
        };
        let identity = match identity.map(|(chain, key)| Identity::from_pem(chain, key)) {
            None => None,
            Some(Ok(identity)) => Some(identity),
            Some(Err(problem)) => {
                problems.push(problem);
                None
            }
        };
        if let Some(name) = server_name
            && ServerName::try_from(name).is_err()
        {
            problems.push(format!(
                "server_name: '{name}' is no host name and no address"
            ));
        }
        let builder = ClientConfig::builder_with_provider(provider(Profile::Fapi2))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12]);
        let builder = match builder {
            Ok(builder) if problems.is_empty() => builder.with_root_certificates(roots),
            Ok(_) => return Err(problems),
            Err(error) => {
                problems.push(format!("TLS 1.2 and 1.3 cannot be had: {error}"));
                return Err(problems);
            }
        };
        let mut config = match identity {
            Some(identity) => {
                let certified = identity.certified().as_ref().clone();
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![if http2 {
            b"h2".to_vec()
        } else {
            b"http/1.1".to_vec()
        }];
        Ok(Self {
            config: Arc::new(config),
            server_name: server_name.map(Into::into),
        })
    }
}

fn given_roots(files: &[(String, Vec<u8>)], problems: &mut Vec<String>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for (file, text) in files {
        match pem::authorities(text) {
            Ok(certificates) => {
                for (position, certificate) in (1..).zip(certificates) {
                    if let Err(error) = roots.add(certificate) {
                        problems.push(format!(
                            "{file}: certificate number {position} cannot be an authority: {error}"
                        ));
                    }
                }
            }
            Err(problem) => problems.push(format!("{file}: {problem}")),
        }
    }
    roots
}

/// The platform's roots. One that cannot be read is left out, as other programs do; none at all
/// is a problem.
fn platform_roots(problems: &mut Vec<String>) -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _ignored) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why: String = found
            .errors
            .iter()
            .map(|error| format!(": {error}"))
            .collect();
        problems.push(format!(
            "the platform has no root certificates (give ca, or install ca-certificates){why}"
        ));
    }
    roots
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::server::WebPkiClientVerifier;
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// A self-signed certificate with its key, PEM.
    struct SelfSigned {
        chain: String,
        key: String,
        der: rustls::pki_types::CertificateDer<'static>,
    }

    fn self_signed(name: &str) -> SelfSigned {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        SelfSigned {
            chain: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().clone(),
        }
    }

    fn file(of: &SelfSigned) -> Vec<(String, Vec<u8>)> {
        vec![("ca.pem".to_owned(), of.chain.clone().into_bytes())]
    }

    /// A server that takes the client's certificate if it is this one.
    fn server(of: &SelfSigned, client: Option<&SelfSigned>) -> ServerConfig {
        let provider = provider(Profile::Fapi2);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match client {
            Some(client) => {
                let mut roots = RootCertStore::empty();
                roots.add(client.der.clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
            None => builder.with_no_client_auth(),
        };
        let key = KeyPair::from_pem(&of.key).unwrap().serialize_der();
        let key = PrivateKeyDer::try_from(key).unwrap();
        let mut config = builder.with_single_cert(vec![of.der.clone()], key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config
    }

    /// Connects to a host; the protocol, if both sides were content.
    async fn connect(server: ServerConfig, tls: &Tls, host: &str) -> Option<Vec<u8>> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (far, _) = listener.accept().await.unwrap();
        let name = tls.server_name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name).unwrap();
        let connector = TlsConnector::from(Arc::clone(&tls.config));
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let (there, here) = tokio::join!(acceptor.accept(far), connector.connect(name, near));
        here.ok()?;
        there.ok()?.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)
    }

    // TLS-14
    #[tokio::test]
    async fn name_and_authority_are_verified() {
        let good = self_signed("as.bank.example");
        let other = self_signed("as.bank.example");
        let tls = Tls::build(Some(&file(&good)), None, None, false).unwrap();
        let named = Tls::build(Some(&file(&good)), None, Some("as.bank.example"), true).unwrap();
        let host = "as.bank.example";
        assert_eq!(
            connect(server(&good, None), &tls, host).await.unwrap(),
            b"http/1.1"
        );
        assert_eq!(
            connect(server(&good, None), &named, "10.0.0.5")
                .await
                .unwrap(),
            b"h2"
        );
        assert_eq!(
            connect(server(&good, None), &tls, "evil.example").await,
            None
        );
        assert_eq!(connect(server(&good, None), &tls, "10.0.0.5").await, None);
        assert_eq!(connect(server(&other, None), &tls, host).await, None);
    }

    // TLS-15
    #[tokio::test]
    async fn our_own_certificate_is_presented() {
        let (upstream, ours) = (self_signed("core.example"), self_signed("pep.example"));
        let identity = (ours.chain.as_bytes(), ours.key.as_bytes());
        let with = Tls::build(Some(&file(&upstream)), Some(identity), None, false).unwrap();
        let without = Tls::build(Some(&file(&upstream)), None, None, false).unwrap();
        let server = server(&upstream, Some(&ours));
        assert!(
            connect(server.clone(), &with, "core.example")
                .await
                .is_some()
        );
        assert!(connect(server, &without, "core.example").await.is_none());
    }

    #[test]
    fn every_problem_is_said_at_once() {
        let files = [
            ("a.pem".to_owned(), b"junk".to_vec()),
            ("b.pem".to_owned(), Vec::new()),
        ];
        let problems =
            Tls::build(Some(&files), Some((b"", b"")), Some("not a name"), false).unwrap_err();
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(problems[0].starts_with("a.pem: ") && problems[1].starts_with("b.pem: "));
    }
}
