//! An authorization server as far as a resource server needs one: metadata (RFC 8414), a key set
//! (RFC 7517), tokens in the profile of RFC 9068 bound to the client's certificate (RFC 8705), and
//! every way in which such a server lets its neighbours down.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use super::jose::{Draft, SigningKey};
use super::pki::{Identity, Pki, thumbprint};

/// How an endpoint fails.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Answers with this status and no content.
    Status(u16),
    /// Never answers.
    Hang,
    /// Closes the connection instead of answering.
    Drop,
    /// Answers 200 with what is no JSON.
    Garbage,
    /// Answers 200 with this text.
    Text(String),
    /// Answers 200 with a key set of so many bytes.
    Huge(usize),
    /// Answers as it should, after this time.
    Late(Duration),
}

struct State {
    keys: Vec<Arc<SigningKey>>,
    published: Option<Value>,
    faults: HashMap<&'static str, Fault>,
    counts: HashMap<&'static str, usize>,
    clients: HashMap<String, Client>,
    answers: HashMap<String, Value>,
}

struct Client {
    thumbprint: String,
    scope: String,
}

/// A running authorization server. It lives as long as the process does.
pub(crate) struct AuthServer {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// `iss`
    pub(crate) issuer: String,
    audience: String,
    state: Arc<Mutex<State>>,
}

impl AuthServer {
    /// Starts on any free port of loopback, under the name `localhost`.
    pub(crate) fn start(pki: &Pki, audience: &str) -> Self {
        Self::start_at(pki, audience, TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// Starts on this socket.
    pub(crate) fn start_at(pki: &Pki, audience: &str, socket: TcpListener) -> Self {
        let address = socket.local_addr().unwrap();
        let name = format!("as-{}", address.port());
        let identity = pki.server(&name, &["localhost"], super::pki::KeyKind::Ec);
        Self::start_as(pki, audience, socket, &identity)
    }

    /// Starts with this certificate, which may be for another name.
    pub(crate) fn start_as(
        pki: &Pki,
        audience: &str,
        socket: TcpListener,
        identity: &Identity,
    ) -> Self {
        let address = socket.local_addr().unwrap();
        let issuer = format!("https://localhost:{}", address.port());
        let state = Arc::new(Mutex::new(State {
            keys: vec![
                Arc::new(SigningKey::new("es-1", "ES256")),
                Arc::new(SigningKey::new("ps-1", "PS256")),
                Arc::new(SigningKey::new("ed-1", "EdDSA")),
            ],
            published: None,
            faults: HashMap::new(),
            counts: HashMap::new(),
            clients: HashMap::new(),
            answers: HashMap::new(),
        }));
        let server = Self {
            address,
            issuer: issuer.clone(),
            audience: audience.to_owned(),
            state: Arc::clone(&state),
        };
        let tls = tls(pki, identity);
        let shared = Arc::new(Shared {
            state,
            issuer,
            audience: audience.to_owned(),
        });
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(serve(socket, tls, shared));
        });
        server
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Address of the metadata.
    pub(crate) fn discovery(&self) -> String {
        format!("{}/.well-known/openid-configuration", self.issuer)
    }

    /// Address of the key set.
    pub(crate) fn jwks_uri(&self) -> String {
        format!("{}/jwks", self.issuer)
    }

    /// Address of the introspection endpoint (RFC 7662).
    pub(crate) fn introspection_endpoint(&self) -> String {
        format!("{}/introspect", self.issuer)
    }

    /// What introspection says of a token from now on; `None`: that it is not active.
    pub(crate) fn say(&self, token: &str, members: Option<&Value>) {
        let mut state = self.state();
        match members {
            Some(members) => state.answers.insert(token.to_owned(), members.clone()),
            None => state.answers.remove(token),
        };
    }

    /// An opaque token of which introspection says what this draft says.
    pub(crate) fn opaque(&self, draft: &Draft) -> String {
        let token = super::random_hex(24);
        self.say(&token, Some(&active(draft)));
        token
    }

    /// Address of the token endpoint.
    pub(crate) fn token_endpoint(&self) -> String {
        format!("{}/token", self.issuer)
    }

    /// The present key for this algorithm.
    pub(crate) fn key(&self, alg: &str) -> Arc<SigningKey> {
        let state = self.state();
        let key = state.keys.iter().rev().find(|key| key.alg == alg);
        Arc::clone(key.expect("a key for the algorithm"))
    }

    /// Adds a key to those that are published.
    pub(crate) fn add_key(&self, key: SigningKey) -> Arc<SigningKey> {
        let key = Arc::new(key);
        self.state().keys.push(Arc::clone(&key));
        key
    }

    /// Replaces every key by new ones; the old are published no more.
    pub(crate) fn rotate(&self) {
        let mut state = self.state();
        let keys = state.keys.iter().map(|old| {
            let kid = format!("{}-{}", &old.kid[..2], super::random_hex(4));
            Arc::new(SigningKey::new(&kid, old.alg))
        });
        state.keys = keys.collect();
    }

    /// Publishes exactly this set instead of the keys that there are.
    pub(crate) fn publish(&self, set: Option<Value>) {
        self.state().published = set;
    }

    /// The set as it would be published.
    pub(crate) fn jwks(&self) -> Value {
        jwks(&self.state())
    }

    /// Makes an endpoint (`jwks`, `discovery`, `token`, or `connect` for all) fail until healed.
    pub(crate) fn fail(&self, endpoint: &'static str, fault: Fault) {
        self.state().faults.insert(endpoint, fault);
    }

    /// Makes every endpoint work again.
    pub(crate) fn heal(&self) {
        self.state().faults.clear();
    }

    /// How often an endpoint was called.
    pub(crate) fn count(&self, endpoint: &'static str) -> usize {
        self.state().counts.get(endpoint).copied().unwrap_or(0)
    }

    /// Lets a client take tokens at the token endpoint with its certificate (RFC 8705 s2.1).
    pub(crate) fn register(&self, client_id: &str, identity: &Identity, scope: &str) {
        let client = Client {
            thumbprint: identity.thumbprint.clone(),
            scope: scope.to_owned(),
        };
        self.state().clients.insert(client_id.to_owned(), client);
    }

    /// A sound token in the making, bound to this certificate.
    pub(crate) fn draft(&self, identity: &Identity) -> Draft {
        Draft::new(&self.issuer, &self.audience).bound_to(&identity.thumbprint)
    }

    /// A sound token, bound to this certificate.
    pub(crate) fn token(&self, identity: &Identity) -> String {
        self.draft(identity).sign(&self.key("ES256"))
    }

    /// A token as the draft says, signed with the key for `ES256`.
    pub(crate) fn sign(&self, draft: &Draft) -> String {
        draft.sign(&self.key("ES256"))
    }
}

fn tls(pki: &Pki, identity: &Identity) -> TlsAcceptor {
    let mut roots = RootCertStore::empty();
    roots.add(pki.client_ca()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), super::provider())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(super::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain.clone(), identity.key())
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

struct Shared {
    state: Arc<Mutex<State>>,
    issuer: String,
    audience: String,
}

async fn serve(socket: TcpListener, tls: TlsAcceptor, shared: Arc<Shared>) {
    socket.set_nonblocking(true).unwrap();
    let socket = tokio::net::TcpListener::from_std(socket).unwrap();
    loop {
        let Ok((stream, _)) = socket.accept().await else {
            continue;
        };
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            match shared.count("connect") {
                None => {}
                Some(Fault::Hang) => {
                    tokio::time::sleep(Duration::from_secs(3600)).await;
                    return;
                }
                Some(Fault::Late(time)) => tokio::time::sleep(time).await,
                Some(_) => return,
            }
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let certificate = stream.get_ref().1.peer_certificates();
            let certificate = certificate
                .and_then(<[_]>::first)
                .map(|der| thumbprint(der));
            let service = service_fn(move |request| {
                let (shared, certificate) = (Arc::clone(&shared), certificate.clone());
                async move { shared.answer(request, certificate).await }
            });
            // How a client leaves is its own affair.
            drop(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
        });
    }
}

#[derive(Debug)]
struct Dropped;

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the fault says to close the connection")
    }
}

impl std::error::Error for Dropped {}

impl From<Infallible> for Dropped {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl Shared {
    fn count(&self, endpoint: &'static str) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        *state.counts.entry(endpoint).or_default() += 1;
        state.faults.get(endpoint).cloned()
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        certificate: Option<String>,
    ) -> Result<Response<Full<Bytes>>, Dropped> {
        let endpoint = match (request.method(), request.uri().path()) {
            (
                &Method::GET,
                "/.well-known/openid-configuration" | "/.well-known/oauth-authorization-server",
            ) => "discovery",
            (&Method::GET, "/jwks") => "jwks",
            (&Method::POST, "/token") => "token",
            (&Method::POST, "/introspect") => "introspection",
            _ => "elsewhere",
        };
        match self.count(endpoint) {
            None => {}
            Some(Fault::Status(status)) => return Ok(empty(status)),
            Some(Fault::Hang) => tokio::time::sleep(Duration::from_secs(3600)).await,
            Some(Fault::Drop) => return Err(Dropped),
            Some(Fault::Garbage) => return Ok(text("<html>It works!</html>".to_owned())),
            Some(Fault::Text(body)) => return Ok(text(body)),
            Some(Fault::Huge(bytes)) => {
                let filler = "x".repeat(bytes);
                let set = json!({"keys": self.keys(), "filler": filler});
                return Ok(text(set.to_string()));
            }
            Some(Fault::Late(time)) => tokio::time::sleep(time).await,
        }
        Ok(match endpoint {
            "discovery" => text(self.metadata().to_string()),
            "jwks" => text(jwks(&self.state.lock().unwrap()).to_string()),
            "token" => self.token(request, certificate).await,
            "introspection" => self.introspect(request, certificate).await,
            _ => empty(404),
        })
    }

    fn keys(&self) -> Value {
        jwks(&self.state.lock().unwrap())["keys"].clone()
    }

    fn metadata(&self) -> Value {
        let issuer = &self.issuer;
        json!({
            "issuer": issuer,
            "jwks_uri": format!("{issuer}/jwks"),
            "token_endpoint": format!("{issuer}/token"),
            "introspection_endpoint": format!("{issuer}/introspect"),
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": ["none"],
            "token_endpoint_auth_methods_supported": ["tls_client_auth"],
            "tls_client_certificate_bound_access_tokens": true,
        })
    }

    /// Says what it was told to say (RFC 7662 s2), to whoever authenticates in some way.
    async fn introspect(
        &self,
        request: Request<Incoming>,
        certificate: Option<String>,
    ) -> Response<Full<Bytes>> {
        let basic = request.headers().contains_key("authorization");
        let Ok(body) = request.into_body().collect().await else {
            return oauth_error(StatusCode::BAD_REQUEST, "invalid_request");
        };
        let form: HashMap<String, String> = form_urlencoded::parse(&body.to_bytes())
            .into_owned()
            .collect();
        if !basic && certificate.is_none() && !form.contains_key("client_assertion") {
            return oauth_error(StatusCode::UNAUTHORIZED, "invalid_client");
        }
        let said = {
            let state = self.state.lock().unwrap();
            let token = form.get("token").map_or("", String::as_str);
            state.answers.get(token).cloned()
        };
        text(said.unwrap_or_else(|| json!({"active": false})).to_string())
    }

    /// Client credentials over mutual TLS: the client is who its certificate says (RFC 8705 s2.1),
    /// and the token is bound to that certificate (RFC 8705 s3).
    async fn token(
        &self,
        request: Request<Incoming>,
        certificate: Option<String>,
    ) -> Response<Full<Bytes>> {
        let Ok(body) = request.into_body().collect().await else {
            return oauth_error(StatusCode::BAD_REQUEST, "invalid_request");
        };
        let form = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        let value = |name: &str| {
            form.split('&')
                .filter_map(|pair| pair.split_once('='))
                .find(|(n, _)| *n == name)
                .map(|(_, value)| value.replace('+', " ").replace("%20", " "))
        };
        if value("grant_type").as_deref() != Some("client_credentials") {
            return oauth_error(StatusCode::BAD_REQUEST, "unsupported_grant_type");
        }
        let client_id = value("client_id").unwrap_or_default();
        let state = self.state.lock().unwrap();
        let (Some(client), Some(certificate)) = (state.clients.get(&client_id), certificate) else {
            return oauth_error(StatusCode::UNAUTHORIZED, "invalid_client");
        };
        if client.thumbprint != certificate {
            return oauth_error(StatusCode::UNAUTHORIZED, "invalid_client");
        }
        let scope = value("scope").unwrap_or_else(|| client.scope.clone());
        let allowed: Vec<&str> = client.scope.split(' ').collect();
        if !scope.split(' ').all(|one| allowed.contains(&one)) {
            return oauth_error(StatusCode::BAD_REQUEST, "invalid_scope");
        }
        let Some(key) = state.keys.iter().find(|key| key.alg == "PS256") else {
            return oauth_error(StatusCode::INTERNAL_SERVER_ERROR, "server_error");
        };
        let token = Draft::new(&self.issuer, &self.audience)
            .bound_to(&certificate)
            .claim("client_id", client_id.as_str())
            .claim("sub", client_id.as_str())
            .claim("scope", scope.as_str())
            .sign(key);
        let answer = json!({
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": 300,
            "scope": scope,
        });
        let mut response = text(answer.to_string());
        response.headers_mut().insert(
            http::header::CACHE_CONTROL,
            http::HeaderValue::from_static("no-store"),
        );
        response
    }
}

/// What introspection says of an active token with these claims.
pub(crate) fn active(draft: &Draft) -> Value {
    let mut members = draft.claims.clone();
    members.insert("active".to_owned(), true.into());
    Value::Object(members)
}

fn jwks(state: &State) -> Value {
    let keys = state.keys.iter().map(|key| key.jwk());
    let set = || json!({"keys": keys.collect::<Vec<_>>()});
    state.published.clone().unwrap_or_else(set)
}

fn text(body: String) -> Response<Full<Bytes>> {
    Response::builder()
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .unwrap()
}

fn empty(status: u16) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .body(Full::default())
        .unwrap()
}

fn oauth_error(status: StatusCode, error: &str) -> Response<Full<Bytes>> {
    let mut response = text(json!({"error": error}).to_string());
    *response.status_mut() = status;
    response
}
