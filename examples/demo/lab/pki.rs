//! Throw-away certificates. Every call makes new keys; nothing made here is trusted anywhere else.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevocationReason, RevokedCertParams, RsaKeySize, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use yasna::models::ObjectIdentifier;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The kind of key in a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// ECDSA on P-256.
    Ec,
    /// RSA with 2048 bits.
    Rsa,
}

impl KeyKind {
    fn generate(self) -> KeyPair {
        match self {
            Self::Ec => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Self::Rsa => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
        }
        .unwrap()
    }
}

/// What is wrong with a client certificate, or special about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Nothing: it is good.
    Good,
    /// Ran out yesterday.
    Expired,
    /// Begins tomorrow.
    NotYet,
    /// Issued for servers only.
    ServerOnly,
    /// Signed by itself.
    SelfSigned,
    /// Signed by an authority that nobody named.
    Stranger,
    /// Issued by an intermediate authority, which the client sends along.
    Intermediate,
    /// Issued by an intermediate authority, which the client does not send.
    IntermediateMissing,
    /// A PSD2 certificate (ETSI TS 119 495) with the role of account information.
    Psd2AccountInformation,
    /// A PSD2 certificate with the role of payment initiation.
    Psd2PaymentInitiation,
    /// Runs out this many seconds from now.
    EndsIn(u64),
}

/// A certificate with its chain and key, on disk and in memory.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Name of its files.
    pub(crate) name: String,
    /// Leaf first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// PEM, leaf first.
    pub(crate) certificate: PathBuf,
    /// PEM, PKCS#8.
    pub(crate) private_key: PathBuf,
    /// RFC 8705 s3.1: base64url of SHA-256 of the leaf's DER.
    pub(crate) thumbprint: String,
    serial: SerialNumber,
}

impl Identity {
    /// The private key, for a TLS configuration.
    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }
}

/// `x5t#S256` of a certificate.
pub(crate) fn thumbprint(der: &[u8]) -> String {
    super::base64url(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der).as_ref())
}

type Authority = CertifiedIssuer<'static, KeyPair>;

/// A folder of certificates.
pub(crate) struct Pki {
    dir: PathBuf,
    servers: Authority,
    clients: Authority,
    intermediate: Authority,
    stranger: Authority,
    proxies: Authority,
    revoked: Mutex<Vec<SerialNumber>>,
    crl_number: Mutex<u64>,
}

impl Pki {
    /// Makes the authorities, and an empty revocation list, in `dir`.
    pub(crate) fn new(dir: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        let servers = authority("Throw-away Server CA");
        let clients = authority("Throw-away Client CA");
        let intermediate = {
            let params = authority_params("Throw-away Issuing CA");
            CertifiedIssuer::signed_by(params, KeyKind::Ec.generate(), &clients).unwrap()
        };
        fs::write(dir.join("server-ca.pem"), servers.pem()).unwrap();
        fs::write(dir.join("clients-ca.pem"), clients.pem()).unwrap();
        let pki = Self {
            dir: dir.to_owned(),
            servers,
            clients,
            intermediate,
            stranger: authority("Throw-away Unknown CA"),
            proxies: authority("Throw-away Proxy CA"),
            revoked: Mutex::default(),
            crl_number: Mutex::new(1),
        };
        fs::write(dir.join("issuing-ca.pem"), pki.intermediate.pem()).unwrap();
        fs::write(dir.join("dmz-ca.pem"), pki.proxies.pem()).unwrap();
        pki.write_crl();
        pki
    }

    /// The folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Path of a file in the folder, as text for a configuration file.
    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// The authority of our servers, for clients.
    pub(crate) fn server_ca(&self) -> CertificateDer<'static> {
        self.servers.der().clone()
    }

    /// The authority of clients, for servers.
    pub(crate) fn client_ca(&self) -> CertificateDer<'static> {
        self.clients.der().clone()
    }

    /// A server certificate for these names, in files `<name>.pem` and `<name>-key.pem`.
    pub(crate) fn server(&self, name: &str, hosts: &[&str], kind: KeyKind) -> Identity {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        end_entity(&mut params, name, ExtendedKeyUsagePurpose::ServerAuth);
        self.issue(name, params, kind, Some(&self.servers), &[])
    }

    /// A client certificate, in files `<name>.pem` and `<name>-key.pem`.
    pub(crate) fn client(&self, name: &str, shape: Shape) -> Identity {
        let mut params = CertificateParams::default();
        end_entity(&mut params, name, ExtendedKeyUsagePurpose::ClientAuth);
        let mut issuer = Some(&self.clients);
        let mut sent = Vec::new();
        match shape {
            Shape::Good => {}
            Shape::Expired => {
                params.not_before = ago(3 * DAY);
                params.not_after = ago(DAY);
            }
            Shape::NotYet => params.not_before = ahead(DAY),
            Shape::EndsIn(seconds) => params.not_after = ahead(Duration::from_secs(seconds)),
            Shape::ServerOnly => {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }
            Shape::SelfSigned => issuer = None,
            Shape::Stranger => issuer = Some(&self.stranger),
            Shape::Intermediate => {
                issuer = Some(&self.intermediate);
                sent.push(self.intermediate.der().clone());
            }
            Shape::IntermediateMissing => issuer = Some(&self.intermediate),
            Shape::Psd2AccountInformation => psd2(&mut params, &[(3, "PSP_AI")]),
            Shape::Psd2PaymentInitiation => psd2(&mut params, &[(2, "PSP_PI")]),
        }
        self.issue(name, params, KeyKind::Ec, issuer, &sent)
    }

    /// A good client certificate with a key of this kind, in files `<name>.pem` and `<name>-key.pem`.
    pub(crate) fn client_of(&self, name: &str, kind: KeyKind) -> Identity {
        let mut params = CertificateParams::default();
        end_entity(&mut params, name, ExtendedKeyUsagePurpose::ClientAuth);
        self.issue(name, params, kind, Some(&self.clients), &[])
    }

    /// A certificate with which a proxy in front shows itself to the gate, of an authority of its own.
    pub(crate) fn proxy(&self, name: &str, hosts: &[&str]) -> Identity {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        end_entity(&mut params, name, ExtendedKeyUsagePurpose::ClientAuth);
        self.issue(name, params, KeyKind::Ec, Some(&self.proxies), &[])
    }

    fn issue(
        &self,
        name: &str,
        mut params: CertificateParams,
        kind: KeyKind,
        issuer: Option<&Authority>,
        intermediates: &[CertificateDer<'static>],
    ) -> Identity {
        let key = kind.generate();
        let mut serial = [0; 16];
        aws_lc_rs::rand::fill(&mut serial).unwrap();
        serial[0] = serial[0] & 0x7f | 0x40;
        let serial = SerialNumber::from_slice(&serial);
        params.serial_number = Some(serial.clone());
        let leaf = match issuer {
            Some(issuer) => params.signed_by(&key, issuer),
            None => params.self_signed(&key),
        }
        .unwrap();
        let mut pem = leaf.pem();
        for der in intermediates {
            pem.push_str(&pem_of(der));
        }
        let certificate = self.dir.join(format!("{name}.pem"));
        let private_key = self.dir.join(format!("{name}-key.pem"));
        fs::write(&certificate, pem).unwrap();
        write_private(&private_key, &key.serialize_pem());
        let mut chain = vec![leaf.der().clone()];
        chain.extend_from_slice(intermediates);
        Identity {
            name: name.to_owned(),
            thumbprint: thumbprint(leaf.der()),
            chain,
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            certificate,
            private_key,
            serial,
        }
    }

    /// Revokes a client certificate and writes the list again.
    pub(crate) fn revoke(&self, identity: &Identity) {
        self.revoked.lock().unwrap().push(identity.serial.clone());
        self.write_crl();
    }

    /// Takes everything off the list and writes it again.
    pub(crate) fn forgive(&self) {
        self.revoked.lock().unwrap().clear();
        self.write_crl();
    }

    /// Writes `clients.crl.pem` anew, and `issuing.crl.pem`, the empty list of the intermediate.
    pub(crate) fn write_crl(&self) {
        self.write_crl_until("clients.crl.pem", ahead(7 * DAY));
    }

    /// Writes a revocation list that ran out an hour ago.
    pub(crate) fn write_expired_crl(&self, file: &str) {
        self.write_crl_until(file, ago(Duration::from_secs(3600)));
    }

    fn write_crl_until(&self, file: &str, next_update: OffsetDateTime) {
        let number = {
            let mut number = self.crl_number.lock().unwrap();
            *number += 1;
            *number
        };
        let list = |issuer: &Authority, revoked: Vec<RevokedCertParams>| {
            CertificateRevocationListParams {
                this_update: ago(2 * DAY),
                next_update,
                crl_number: SerialNumber::from(number),
                issuing_distribution_point: None,
                revoked_certs: revoked,
                key_identifier_method: KeyIdMethod::Sha256,
            }
            .signed_by(issuer)
            .unwrap()
            .pem()
            .unwrap()
        };
        let revoked = self
            .revoked
            .lock()
            .unwrap()
            .iter()
            .map(|serial| RevokedCertParams {
                serial_number: serial.clone(),
                revocation_time: ago(Duration::from_secs(3600)),
                reason_code: Some(RevocationReason::KeyCompromise),
                invalidity_date: None,
            })
            .collect();
        write_whole(&self.dir.join(file), &list(&self.clients, revoked));
        if file != "clients.crl.pem" {
            return;
        }
        let none = list(&self.intermediate, Vec::new());
        write_whole(&self.dir.join("issuing.crl.pem"), &none);
    }
}

fn ago(time: Duration) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(super::now()).unwrap() - time
}

fn ahead(time: Duration) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(super::now()).unwrap() + time
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = ago(DAY);
    params.not_after = ahead(90 * DAY);
    params.use_authority_key_identifier_extension = true;
    params
}

fn authority(name: &str) -> Authority {
    CertifiedIssuer::self_signed(authority_params(name), KeyKind::Ec.generate()).unwrap()
}

fn end_entity(params: &mut CertificateParams, name: &str, usage: ExtendedKeyUsagePurpose) {
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CountryName, "GB");
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Throw-away");
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    params.not_before = ago(DAY);
    params.not_after = ahead(90 * DAY);
}

/// `organizationIdentifier` and the PSD2 statement of ETSI TS 119 495 s5.
fn psd2(params: &mut CertificateParams, roles: &[(u64, &str)]) {
    const ORGANIZATION_IDENTIFIER: &[u64] = &[2, 5, 4, 97];
    const QC_STATEMENTS: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 1, 3];
    params.distinguished_name.push(
        DnType::from_oid(ORGANIZATION_IDENTIFIER),
        "PSDGB-FCA-123456",
    );
    let statements = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_sequence(|writer| {
                let psd2 = ObjectIdentifier::from_slice(&[0, 4, 0, 19495, 2]);
                writer.next().write_oid(&psd2);
                writer.next().write_sequence(|writer| {
                    writer.next().write_sequence(|writer| {
                        for (number, name) in roles {
                            writer.next().write_sequence(|writer| {
                                let role = [0, 4, 0, 19495, 1, *number];
                                writer
                                    .next()
                                    .write_oid(&ObjectIdentifier::from_slice(&role));
                                writer.next().write_utf8_string(name);
                            });
                        }
                    });
                    writer
                        .next()
                        .write_utf8_string("Financial Conduct Authority");
                    writer.next().write_utf8_string("GB-FCA");
                });
            });
        });
    });
    params
        .custom_extensions
        .push(CustomExtension::from_oid_content(QC_STATEMENTS, statements));
}

/// One block of PEM.
pub(crate) fn pem_of(der: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(std::str::from_utf8(line).unwrap());
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// Renamed into place, so that a reader sees the old text or the new one.
fn write_whole(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, path).unwrap();
}

/// A private key that only its owner can read.
fn write_private(path: &Path, pem: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    file.write_all(pem.as_bytes()).unwrap();
}
