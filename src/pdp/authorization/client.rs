//! Registered clients: the document that lists them, read into a table that decisions look them
//! up in.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::pdp::json;
use crate::pdp::keys::KeySet;
use crate::pdp::peer::{Psd2Role, Thumbprint};
use crate::pdp::policy::{Algorithm, CertificateRule};
use crate::pdp::token::KeyGeneration;

/// Bytes of a document of clients.
pub const REGISTRY_BYTES: usize = 16 * 1024 * 1024;
/// Clients of one document.
pub const CLIENTS: usize = 50_000;
/// Redirect URIs of one client.
const REDIRECT_URIS: usize = 100;
/// What clients may sign with.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa];

/// A client, as its entry in the registry has it.
#[derive(Debug)]
pub struct Client {
    /// `client_id`.
    pub id: Box<str>,
    /// `issuer`: the authorization server that it is registered with; `None`: with each.
    pub issuer: Option<Box<str>>,
    /// Whether `status` is `active`.
    pub active: bool,
    /// `organisation`: who answers for it.
    pub organisation: Option<Box<str>>,
    /// Its keys.
    pub keys: ClientKeys,
    /// `redirect_uris`, compared byte by byte.
    pub redirect_uris: Vec<Box<str>>,
    /// `token_endpoint_auth_method`.
    pub authentication: Authentication,
    /// `token_endpoint_auth_signing_alg`.
    pub assertion_algorithm: Option<Algorithm>,
    /// `request_object_signing_alg`.
    pub object_algorithm: Option<Algorithm>,
    /// `certificate`: what its certificate must say.
    pub certificate: CertificateRule,
    /// One of which its certificate must be, if there are any: `x5t#S256` of `certificate`, and
    /// with `self_signed_tls_client_auth` those of `x5c` and `x5t#S256` in `jwks`.
    pub thumbprints: Vec<Thumbprint>,
}

/// Where the keys of a client are.
#[derive(Debug)]
pub enum ClientKeys {
    /// It has none.
    None,
    /// `jwks`.
    Held(Arc<KeySet>),
    /// `jwks_uri`.
    At(Box<str>),
}

/// How a client authenticates (RFC 7591 s2, RFC 8705 s2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authentication {
    /// `private_key_jwt`.
    PrivateKeyJwt,
    /// `tls_client_auth`.
    Tls,
    /// `self_signed_tls_client_auth`.
    SelfSignedTls,
}

impl Client {
    /// Whether anything is asked of its certificate.
    #[must_use]
    pub fn has_certificate_rules(&self) -> bool {
        !self.certificate.is_empty() || !self.thumbprints.is_empty()
    }
}

/// Every registered client at one moment.
#[derive(Debug, Default)]
pub struct Clients(HashMap<Box<str>, Vec<Arc<Client>>>);

impl Clients {
    /// Reads `{ "clients": [ … ] }`. An entry that cannot be used is left out with a warning and
    /// never spoils the others; two of one `client_id` and issuer are both left out, for nobody
    /// knows which of them holds. Members that are not known are ignored, but for those that
    /// narrow what a certificate may be: an entry with one of them that is not understood is left
    /// out. `elsewhere` says whether keys may be fetched from a `jwks_uri`.
    ///
    /// # Errors
    /// What is wrong, where the text is no such document or is too large.
    pub fn parse(
        document: &[u8],
        elsewhere: &dyn Fn(&str) -> Result<(), String>,
    ) -> Result<(Self, Vec<String>), String> {
        if document.len() > REGISTRY_BYTES {
            return Err(format!(
                "the registry is larger than {REGISTRY_BYTES} bytes"
            ));
        }
        let mut document = json::object_of_objects(document)
            .map_err(|error| format!("the registry is no JSON object: {error}"))?;
        let Some(Value::Array(entries)) = document.remove("clients") else {
            return Err("the registry has no array `clients`".to_owned());
        };
        if entries.len() > CLIENTS {
            return Err(format!("the registry has more than {CLIENTS} clients"));
        }
        let mut clients: HashMap<Box<str>, Vec<Arc<Client>>> = HashMap::new();
        let mut twice = Vec::new();
        let mut warnings = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            match read(entry, elsewhere, &mut |warning| {
                warnings.push(format!("clients[{index}]: {warning}"));
            }) {
                Ok(client) => {
                    let known = clients.entry(client.id.clone()).or_default();
                    if known.iter().any(|other| other.clashes(&client)) {
                        twice.push((client.id.clone(), index));
                    }
                    known.push(Arc::new(client));
                }
                Err(why) => warnings.push(format!("clients[{index}] is left out: {why}")),
            }
        }
        for (id, index) in twice {
            clients.remove(&id);
            warnings.push(format!(
                "clients[{index}] and all others of its client_id are left out: it comes twice for one issuer"
            ));
        }
        Ok((Self(clients), warnings))
    }

    /// The client of this id at an authorization server.
    #[must_use]
    pub fn find(&self, issuer: &str, id: &str) -> Option<&Arc<Client>> {
        let mut known = self.0.get(id)?.iter();
        known.find(|client| client.issuer.as_deref().is_none_or(|own| own == issuer))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all().count()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.0.values().flatten()
    }
}

impl Client {
    /// Whether one server could take either.
    fn clashes(&self, other: &Self) -> bool {
        self.issuer.is_none() || other.issuer.is_none() || self.issuer == other.issuer
    }
}

/// Members of RFC 8705 s2.1.2 that narrow a certificate in a way that is not looked at here.
const UNREAD_RULES: [&str; 4] = [
    "tls_client_auth_san_dns",
    "tls_client_auth_san_uri",
    "tls_client_auth_san_ip",
    "tls_client_auth_san_email",
];

fn read(
    entry: Value,
    elsewhere: &dyn Fn(&str) -> Result<(), String>,
    warn: &mut dyn FnMut(String),
) -> Result<Client, String> {
    let Value::Object(mut entry) = entry else {
        return Err("it is not an object with each member once".to_owned());
    };
    let id = text(&entry, "client_id")?.ok_or("client_id is missing")?;
    let status = text(&entry, "status")?.ok_or("status is missing: active, or why not")?;
    if let Some(name) = UNREAD_RULES.iter().find(|name| entry.contains_key(**name)) {
        return Err(format!("{name} is not supported: write certificate"));
    }
    let authentication = match text(&entry, "token_endpoint_auth_method")?.as_deref() {
        None | Some("private_key_jwt") => Authentication::PrivateKeyJwt,
        Some("tls_client_auth") => Authentication::Tls,
        Some("self_signed_tls_client_auth") => Authentication::SelfSignedTls,
        Some(_) => {
            return Err("token_endpoint_auth_method is none of private_key_jwt, tls_client_auth, self_signed_tls_client_auth, which alone FAPI takes".to_owned());
        }
    };
    let (mut certificate, mut thumbprints) = match entry.remove("certificate") {
        None => (CertificateRule::default(), Vec::new()),
        Some(Value::Object(rules)) => certificate_rules(&rules)?,
        Some(_) => return Err("certificate is not an object with each member once".to_owned()),
    };
    if let Some(subject) = text(&entry, "tls_client_auth_subject_dn")? {
        if !certificate.subject.is_empty() {
            return Err("tls_client_auth_subject_dn and certificate.subject are there".to_owned());
        }
        certificate.subject.push(subject);
    }
    let set = entry.remove("jwks");
    if authentication == Authentication::SelfSignedTls {
        thumbprints.extend(set.iter().flat_map(self_signed));
    }
    let keys = match (set, text(&entry, "jwks_uri")?) {
        (Some(_), Some(_)) => return Err("jwks and jwks_uri are both there".to_owned()),
        (None, None) => ClientKeys::None,
        (None, Some(uri)) => {
            elsewhere(&uri)?;
            ClientKeys::At(uri)
        }
        (Some(set), None) => {
            let (keys, left_out) =
                KeySet::parse(set.to_string().as_bytes(), KeyGeneration(0), &ALGORITHMS)?;
            left_out.into_iter().for_each(&mut *warn);
            ClientKeys::Held(Arc::new(keys))
        }
    };
    let client = Client {
        id,
        issuer: text(&entry, "issuer")?,
        active: &*status == "active",
        organisation: text(&entry, "organisation")?,
        keys,
        redirect_uris: list(&entry, "redirect_uris")?,
        authentication,
        assertion_algorithm: algorithm(&entry, "token_endpoint_auth_signing_alg")?,
        object_algorithm: algorithm(&entry, "request_object_signing_alg")?,
        certificate,
        thumbprints,
    };
    if client.redirect_uris.len() > REDIRECT_URIS {
        return Err(format!("it has more than {REDIRECT_URIS} redirect_uris"));
    }
    match client.authentication {
        Authentication::PrivateKeyJwt if matches!(client.keys, ClientKeys::None) => {
            Err("private_key_jwt needs jwks or jwks_uri".to_owned())
        }
        Authentication::Tls if !client.has_certificate_rules() => {
            Err("tls_client_auth needs certificate".to_owned())
        }
        Authentication::SelfSignedTls if client.thumbprints.is_empty() => Err(
            "self_signed_tls_client_auth needs x5c or x5t#S256 in jwks, or certificate.x5t#S256"
                .to_owned(),
        ),
        Authentication::PrivateKeyJwt | Authentication::Tls | Authentication::SelfSignedTls => {
            Ok(client)
        }
    }
}

/// `certificate`: each member a string or a list of which one must fit.
fn certificate_rules(
    rules: &Map<String, Value>,
) -> Result<(CertificateRule, Vec<Thumbprint>), String> {
    let mut rule = CertificateRule::default();
    let mut thumbprints = Vec::new();
    for name in rules.keys() {
        let values = list(rules, name)?;
        if values.is_empty() {
            return Err(format!("certificate.{name} is empty"));
        }
        match name.as_str() {
            "subject" => rule.subject = values,
            "issuer" => rule.issuer = values,
            "organization_id" => rule.organization_id = values,
            "psd2_role" => {
                let role = |name: &str| Psd2Role::ALL.into_iter().find(|role| role.name() == name);
                let [one] = &*values else {
                    return Err("certificate.psd2_role is not one role".to_owned());
                };
                rule.psd2_role = Some(role(one).ok_or("certificate.psd2_role is no role")?);
            }
            "x5t#S256" => {
                let read: Option<Vec<_>> =
                    values.iter().map(|one| Thumbprint::parse(one)).collect();
                thumbprints = read.ok_or("certificate.x5t#S256 is not a SHA-256 in base64url")?;
            }
            _ => {
                return Err("certificate has a member that is none of subject, issuer, organization_id, psd2_role, x5t#S256".to_owned());
            }
        }
    }
    Ok((rule, thumbprints))
}

/// Certificates that a key set names (RFC 8705 s2.2.2; RFC 7517 s4.7, s4.9).
fn self_signed(set: &Value) -> Vec<Thumbprint> {
    let keys = set.get("keys").and_then(Value::as_array);
    let of_key = |key: &Value| {
        let named = key.get("x5t#S256").and_then(Value::as_str);
        let held = key.get("x5c").and_then(|chain| chain.get(0)?.as_str());
        let held = held.and_then(|text| STANDARD.decode(text).ok());
        held.map(|der| Thumbprint::of_der(&der))
            .or_else(|| named.and_then(Thumbprint::parse))
    };
    keys.into_iter().flatten().filter_map(of_key).collect()
}

fn algorithm(entry: &Map<String, Value>, name: &str) -> Result<Option<Algorithm>, String> {
    let Some(written) = text(entry, name)? else {
        return Ok(None);
    };
    let known = Algorithm::named(&written).filter(|one| ALGORITHMS.contains(one));
    known
        .map(Some)
        .ok_or_else(|| format!("{name} is none of PS256, ES256, EdDSA"))
}

/// A string with content and without control characters.
fn text(entry: &Map<String, Value>, name: &str) -> Result<Option<Box<str>>, String> {
    match entry.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if is_text(text) => Ok(Some(text.as_str().into())),
        Some(_) => Err(format!(
            "{name} is not a string of 1 to 2048 printable characters"
        )),
    }
}

/// A string, or a list of strings.
fn list(entry: &Map<String, Value>, name: &str) -> Result<Vec<Box<str>>, String> {
    let one = |value: &Value| {
        let text = value.as_str().filter(|text| is_text(text));
        text.map(Box::from).ok_or_else(|| {
            format!("{name} holds what is not a string of 1 to 2048 printable characters")
        })
    };
    match entry.get(name) {
        None => Ok(Vec::new()),
        Some(Value::Array(values)) => values.iter().map(one).collect(),
        Some(value) => Ok(vec![one(value)?]),
    }
}

fn is_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= 2048 && !text.chars().any(char::is_control)
}
