//! Certificates, servers and clients of the tests.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use crate::clock;
use crate::tls::identity::Identity;
use crate::tls::trust::{Authorities, CrlRule};
use crate::tls::*;

pub(super) const HOST: &str = "api.bank.example";

/// A certificate authority.
pub(super) struct Ca {
    pub(super) issuer: CertifiedIssuer<'static, KeyPair>,
}

pub(super) fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Ca {
    pub(super) fn new(name: &str) -> Self {
        Self::from_params(ca_params(name))
    }

    pub(super) fn from_params(params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    pub(super) fn under(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::signed_by(params, key, &self.issuer).unwrap(),
        }
    }

    pub(super) fn file(&self) -> (String, Vec<u8>) {
        ("ca.pem".to_owned(), self.issuer.pem().into_bytes())
    }

    pub(super) fn issue(&self, params: &CertificateParams) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf {
            chain: vec![certificate.der().clone()],
            key,
        }
    }

    /// A CRL that is good until 2099, or ran out in 2025.
    pub(super) fn crl(&self, revoked: &[u64], fresh: bool) -> (String, Vec<u8>) {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(if fresh { 2025 } else { 2024 }, 2, 1),
            next_update: date_time_ymd(if fresh { 2099 } else { 2025 }, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from(*serial),
                    revocation_time: date_time_ymd(2024, 1, 1),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let crl = params.signed_by(&self.issuer).unwrap();
        ("crl.pem".to_owned(), crl.pem().unwrap().into_bytes())
    }
}

/// A certificate with its key.
pub(super) struct Leaf {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: KeyPair,
}

impl Leaf {
    pub(super) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }

    pub(super) fn chain_pem(&self) -> String {
        self.chain
            .iter()
            .map(|der| {
                let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
                format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
            })
            .collect()
    }

    pub(super) fn identity(&self) -> Arc<Identity> {
        let chain = self.chain_pem();
        let key = self.key.serialize_pem();
        Arc::new(Identity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap())
    }
}

pub(super) fn client_params(serial: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from(serial));
    params.distinguished_name.push(DnType::CommonName, "tpp");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2098, 1, 1);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// Everything of one bank: an authority for servers, one for clients.
pub(super) struct World {
    pub(super) servers: Ca,
    pub(super) clients: Ca,
    pub(super) identity: Arc<Identity>,
}

impl World {
    pub(super) fn new() -> Self {
        let servers = Ca::new("servers");
        let params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        let identity = servers.issue(&params).identity();
        Self {
            servers,
            clients: Ca::new("clients"),
            identity,
        }
    }

    /// Trust in the clients' authority with these CRLs, both rules strict.
    pub(super) fn trust(&self, crls: &[(String, Vec<u8>)]) -> ClientTrust {
        trust(
            &[self.clients.file()],
            crls,
            CrlRule::Refuse,
            CrlRule::Refuse,
        )
    }

    pub(super) fn settings(
        &self,
        client_certificate: ClientCertificate,
        client_trust: ClientTrust,
    ) -> Settings {
        Settings {
            listener: "bank".into(),
            identity: Arc::clone(&self.identity),
            profile: Profile::Fapi2,
            client_certificate,
            client_trust,
            resumption: true,
            behind: None,
        }
    }

    /// A server with one default listener.
    pub(super) fn server(&self, mode: ClientCertificate, trust: ClientTrust) -> Server {
        Server::new(ServerTls::build(&self.settings(mode, trust), None).unwrap())
    }

    pub(super) fn client(&self, leaf: Option<&Leaf>) -> ClientConfig {
        self.client_with(
            leaf,
            &[&rustls::version::TLS13, &rustls::version::TLS12],
            aws_lc_rs::default_provider(),
        )
    }

    pub(super) fn client_with(
        &self,
        leaf: Option<&Leaf>,
        versions: &[&'static SupportedProtocolVersion],
        provider: CryptoProvider,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.servers.issuer.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        match leaf {
            Some(leaf) => builder
                .with_client_auth_cert(leaf.chain.clone(), leaf.private_key())
                .unwrap(),
            None => builder.with_no_client_auth(),
        }
    }
}

pub(super) fn trust(
    authorities: &[(String, Vec<u8>)],
    crls: &[(String, Vec<u8>)],
    expired: CrlRule,
    unknown: CrlRule,
) -> ClientTrust {
    ClientTrust::Ca(Arc::new(
        Authorities::from_pem(authorities, crls, expired, unknown).unwrap(),
    ))
}

/// What a listener needs to take a connection.
pub(super) struct Server {
    pub(super) directory: Directory,
    pub(super) current: Arc<Current>,
}

impl Server {
    pub(super) fn new(tls: Arc<ServerTls>) -> Self {
        Self {
            directory: Directory::new(vec![entry(Arc::clone(&tls), true)]),
            current: Current::new([tls]),
        }
    }
}

pub(super) fn entry(tls: Arc<ServerTls>, default: bool) -> DirectoryEntry {
    DirectoryEntry {
        hosts: vec![HOST.into()],
        default,
        tls,
        handshake_timeout: Duration::from_secs(10),
    }
}

/// What came of a connection, as the client saw it.
pub(super) type ClientSide = io::Result<HandshakeKind>;

/// Connects once: handshake, two octets from server to client, end.
pub(super) async fn connect(
    server: &Server,
    client: &Arc<ClientConfig>,
) -> (Result<Secured, Failed>, ClientSide) {
    let (near, far) = pair().await;
    let remote = near.local_addr().unwrap();
    let local = far.local_addr().unwrap();
    let serve = async {
        let mut secured = handshake(
            far,
            remote,
            local,
            &server.directory,
            &server.current,
            clock::now,
        )
        .await?;
        secured.stream.write_all(b"ok").await.unwrap();
        secured.stream.flush().await.unwrap();
        Ok(secured)
    };
    tokio::join!(serve, visit(near, client))
}

pub(super) async fn visit(near: TcpStream, client: &Arc<ClientConfig>) -> ClientSide {
    let name = ServerName::try_from(HOST).unwrap();
    let mut stream = TlsConnector::from(Arc::clone(client))
        .connect(name, near)
        .await?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await?;
    Ok(stream.get_ref().1.handshake_kind().unwrap())
}

/// Two ends of a TCP connection: the client's, the server's.
pub(super) async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (far, _) = listener.accept().await.unwrap();
    (near, far)
}
