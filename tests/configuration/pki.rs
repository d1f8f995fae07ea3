//! Certificates, keys, CRLs and key sets for configurations, made anew in a folder.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize,
    SerialNumber, date_time_ymd,
};

/// 2026-11-23, when all of this is in force.
pub(crate) const NOW: u64 = 1_795_392_000;

/// Writes everything into `folder`/pki.
pub(crate) fn write(folder: &Path) {
    let pki = folder.join("pki");
    std::fs::create_dir_all(&pki).unwrap();
    let put = |name: &str, text: &str| {
        let path = pki.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    };

    let ca_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.distinguished_name
        .push(DnType::CommonName, "test authority");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca.not_before = date_time_ymd(2026, 1, 1);
    ca.not_after = date_time_ymd(2036, 1, 1);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, &ca_key);
    for name in ["client-ca.pem", "server-ca.pem", "ca.crt"] {
        put(name, &ca_pem);
    }

    let leaf = |names: &[&str], key: &KeyPair, until: (i32, u8, u8)| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(until.0, until.1, until.2);
        params.signed_by(key, &issuer).unwrap().pem()
    };
    let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let far = (2028, 1, 1);
    let names = [
        "localhost",
        "api.bench.test",
        "api.bank.example",
        "api2.bank.example",
    ];
    for name in ["pep.pem", "server.crt", "server.pem"] {
        put(name, &leaf(&names, &ec, far));
    }
    put("pep-jose.key", &ec.serialize_pem());
    put("secret", "a secret of the bench\n");
    for name in ["pep.key", "server.key", "server-key.pem"] {
        put(name, &ec.serialize_pem());
    }
    put("soon.pem", &leaf(&names, &ec, (2026, 12, 3)));
    put("expired.pem", &leaf(&names, &ec, (2026, 11, 1)));
    let other = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    put("other.key", &other.serialize_pem());
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    put("rsa.pem", &leaf(&names, &rsa, far));
    put("rsa.key", &rsa.serialize_pem());
    put("open.key", &rsa.serialize_pem());
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(pki.join("open.key"), open).unwrap();

    let crl = |until: (i32, u8, u8)| {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 10, 1),
            next_update: date_time_ymd(until.0, until.1, until.2),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&issuer).unwrap().pem().unwrap()
    };
    put("client-ca.crl.pem", &crl((2027, 6, 1)));
    put("stale.crl.pem", &crl((2026, 11, 1)));

    let point = ec.public_key_raw();
    let jwk = |key_id: &str| {
        format!(
            r#"{{"kty":"EC","crv":"P-256","use":"sig","kid":"{key_id}","alg":"ES256","x":"{}","y":"{}"}}"#,
            URL_SAFE_NO_PAD.encode(&point[1..33]),
            URL_SAFE_NO_PAD.encode(&point[33..65]),
        )
    };
    put("jwks.json", &format!(r#"{{"keys":[{}]}}"#, jwk("one")));
    let weak = format!(
        r#"{{"keys":[{{"kty":"RSA","use":"sig","kid":"weak","alg":"PS256","n":"{}","e":"AQAB"}}]}}"#,
        URL_SAFE_NO_PAD.encode([0xc5_u8; 128])
    );
    put("weak.json", &weak);
    put("empty.pem", "");
}
