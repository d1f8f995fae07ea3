//! A client that does what it is told: any certificate, any server name, any bytes.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, NamedGroup, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};
use serde_json::Value;

use super::http1::{Framing, Head, Reader, answer_framing};
use super::pki::Identity;

const PATIENCE: Duration = Duration::from_secs(20);

/// How to reach a server over TLS. Cheap to clone; each change gives another one.
#[derive(Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    source: Option<IpAddr>,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
    options: Options,
}

#[derive(Clone)]
struct Options {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    identity: Option<Arc<rustls::sign::CertifiedKey>>,
    alpn: Vec<Vec<u8>>,
    versions: Vec<&'static SupportedProtocolVersion>,
    server_name: bool,
    sessions: Option<Arc<Sessions>>,
    suites: Option<Vec<rustls::CipherSuite>>,
}

impl Client {
    /// Speaks HTTP/1.1 with the server of this name, without a certificate.
    pub(crate) fn new(address: SocketAddr, name: &str, authority: CertificateDer<'static>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority).unwrap();
        let options = Options {
            roots: Arc::new(roots),
            chain: Vec::new(),
            identity: None,
            alpn: vec![b"http/1.1".to_vec()],
            versions: vec![&rustls::version::TLS13, &rustls::version::TLS12],
            server_name: true,
            sessions: None,
            suites: None,
        };
        Self {
            address,
            source: None,
            name: ServerName::try_from(name.to_owned()).unwrap(),
            config: options.config(),
            options,
        }
    }

    fn change(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        self.config = self.options.config();
        self
    }

    /// With this certificate, chain and all.
    pub(crate) fn with(self, identity: &Identity) -> Self {
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&identity.key()).unwrap();
        let certified = rustls::sign::CertifiedKey::new(identity.chain.clone(), key);
        self.change(|options| options.identity = Some(Arc::new(certified)))
    }

    /// Without a certificate.
    pub(crate) fn anonymous(self) -> Self {
        self.change(|options| options.identity = None)
    }

    /// Offers these protocols.
    pub(crate) fn alpn(self, protocols: &[&str]) -> Self {
        let protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        self.change(|options| options.alpn = protocols)
    }

    /// Offers this version alone.
    pub(crate) fn only(self, version: &'static SupportedProtocolVersion) -> Self {
        self.change(|options| options.versions = vec![version])
    }

    /// Offers these suites alone.
    pub(crate) fn suites(self, suites: &[rustls::CipherSuite]) -> Self {
        let suites = suites.to_vec();
        self.change(|options| options.suites = Some(suites))
    }

    /// Sends no server name.
    pub(crate) fn without_server_name(self) -> Self {
        self.change(|options| options.server_name = false)
    }

    /// Keeps sessions and resumes them, whatever the name of the server: what a hostile client
    /// would do with a ticket.
    pub(crate) fn resuming(self) -> Self {
        self.change(|options| options.sessions = Some(Arc::default()))
    }

    /// The same client and sessions, towards another name.
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.name = ServerName::try_from(name.to_owned()).unwrap();
        self
    }

    /// The same client and sessions, towards another address.
    pub(crate) fn at(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// The same client and sessions, from another address of this machine.
    pub(crate) fn from(mut self, source: &str) -> Self {
        self.source = Some(source.parse().unwrap());
        self
    }

    /// A connection without TLS yet.
    pub(crate) fn connect(&self) -> io::Result<TcpStream> {
        use socket2::{Domain, Socket, Type};
        let Some(source) = self.source else {
            return TcpStream::connect(self.address);
        };
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.connect(&self.address.into())?;
        Ok(socket.into())
    }

    /// Where it goes.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The name that it calls, as an authority.
    pub(crate) fn authority(&self) -> String {
        self.name.to_str().into_owned()
    }

    /// The TLS configuration, for clients of other kinds.
    pub(crate) fn config(&self) -> (Arc<ClientConfig>, ServerName<'static>) {
        (Arc::clone(&self.config), self.name.clone())
    }

    /// Connects and does the handshake, as far as a client can see it: with TLS 1.3 a refusal of
    /// its certificate arrives after that.
    pub(crate) fn open(&self) -> io::Result<Connection> {
        self.open_split(|hello| vec![hello])
    }

    /// Connects, and sends the ClientHello in the pieces that `split` makes of it.
    pub(crate) fn open_split(
        &self,
        split: impl FnOnce(Vec<u8>) -> Vec<Vec<u8>>,
    ) -> io::Result<Connection> {
        let mut socket = self.connect()?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let mut session = ClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .map_err(io::Error::other)?;
        let mut hello = Vec::new();
        while session.wants_write() {
            session.write_tls(&mut hello)?;
        }
        for piece in split(hello) {
            socket.write_all(&piece)?;
        }
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        Ok(Connection {
            reader: Reader::new(StreamOwned::new(session, socket)),
        })
    }

    /// One request on a connection of its own.
    pub(crate) fn call(&self, request: &Request) -> io::Result<Answer> {
        self.open()?.call(request)
    }

    /// Why the server does not take this client: the handshake's failure, or that of the first
    /// read after it. Panics where it is taken after all.
    pub(crate) fn refusal(&self) -> String {
        let request = Request::get("/").host(&self.authority());
        match self.call(&request) {
            Ok(answer) => panic!("taken, and answered {}", answer.status),
            Err(error) => error.to_string(),
        }
    }
}

impl Options {
    fn config(&self) -> Arc<ClientConfig> {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        // One group keeps a ClientHello in one packet; speed is not measured here.
        provider
            .kx_groups
            .retain(|group| group.name() == NamedGroup::X25519);
        if let Some(suites) = &self.suites {
            provider
                .cipher_suites
                .retain(|suite| suites.contains(&suite.suite()));
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots));
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder.with_client_cert_resolver(Arc::new(Always(identity.clone()))),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config.enable_sni = self.server_name;
        config.resumption = match &self.sessions {
            None => Resumption::disabled(),
            Some(sessions) => Resumption::store(sessions.clone()),
        };
        Arc::new(config)
    }
}

/// Presents its certificate whatever authorities the server names.
#[derive(Debug)]
struct Always(Arc<rustls::sign::CertifiedKey>);

impl rustls::client::ResolvesClientCert for Always {
    fn resolve(
        &self,
        _: &[&[u8]],
        _: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Sessions of every server in one pot.
#[derive(Debug, Default)]
struct Sessions {
    tls13: Mutex<VecDeque<Tls13ClientSessionValue>>,
    tls12: Mutex<Option<Tls12ClientSessionValue>>,
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        *self.tls12.lock().unwrap() = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.tls12.lock().unwrap().clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        *self.tls12.lock().unwrap() = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.tls13.lock().unwrap().push_back(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.tls13.lock().unwrap().pop_back()
    }
}

/// An open connection.
pub(crate) struct Connection {
    reader: Reader<StreamOwned<ClientConnection, TcpStream>>,
}

impl Connection {
    /// The TLS session.
    pub(crate) fn session(&mut self) -> &ClientConnection {
        &self.reader.io().conn
    }

    /// Whether the handshake resumed a session.
    pub(crate) fn resumed(&mut self) -> bool {
        self.session().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The socket, to set timeouts or close it in an unfriendly way.
    pub(crate) fn socket(&mut self) -> &TcpStream {
        &self.reader.io().sock
    }

    /// The reader, to take an answer apart piece by piece.
    pub(crate) fn reader(&mut self) -> &mut Reader<StreamOwned<ClientConnection, TcpStream>> {
        &mut self.reader
    }

    /// Sends bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.io().write_all(bytes)?;
        self.reader.io().flush()
    }

    /// Sends a request and reads its answer. Where the server closed in the middle of the request,
    /// what it said before counts.
    pub(crate) fn call(&mut self, request: &Request) -> io::Result<Answer> {
        let sent = self.send(&request.bytes());
        match (self.answer(&request.method), sent) {
            (Ok(answer), _) => Ok(answer),
            (Err(error), _) => Err(error),
        }
    }

    /// The head of the next final answer, and how its body is framed.
    pub(crate) fn head(&mut self, method: &str) -> io::Result<(Answer, Framing)> {
        let mut interim = Vec::new();
        loop {
            let head = self.reader.head()?;
            let head =
                head.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "no answer"))?;
            let answer = Answer::of(head)?;
            if answer.status < 200 && answer.status != 101 {
                interim.push(answer.status);
                continue;
            }
            let framing = answer_framing(&answer.head, answer.status, method);
            return Ok((Answer { interim, ..answer }, framing));
        }
    }

    /// The next final answer as a whole.
    pub(crate) fn answer(&mut self, method: &str) -> io::Result<Answer> {
        let (mut answer, framing) = self.head(method)?;
        (answer.body, answer.trailers) = self.reader.body(framing)?;
        Ok(answer)
    }

    /// Whether the server closes within this time, with nothing further said.
    pub(crate) fn closes(&mut self, within: Duration) -> bool {
        if !self.reader.rest().is_empty() {
            return false;
        }
        let within = within.max(Duration::from_millis(1));
        self.socket().set_read_timeout(Some(within)).unwrap();
        let got = self.reader.fill();
        self.socket().set_read_timeout(Some(PATIENCE)).unwrap();
        match got {
            Ok(n) => n == 0,
            Err(error) => !matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            ),
        }
    }

    /// Everything until the server closes.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        loop {
            match self.reader.fill() {
                Ok(0) | Err(_) => return self.reader.rest().to_vec(),
                Ok(_) => {}
            }
        }
    }
}

/// A request in the making.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) host: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Option<Vec<u8>>,
}

impl Request {
    /// A request without a body.
    pub(crate) fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            host: "api.bank.test".to_owned(),
            fields: Vec::new(),
            body: None,
        }
    }

    /// A GET.
    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A POST.
    pub(crate) fn post(target: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new("POST", target).body(body)
    }

    /// To this authority.
    pub(crate) fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// With this field, beside others of its name.
    pub(crate) fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this access token.
    pub(crate) fn token(self, token: &str) -> Self {
        self.field("Authorization", &format!("Bearer {token}"))
    }

    /// With the mark under which the API keeps it.
    pub(crate) fn case(self, case: &str) -> Self {
        self.field("X-Case", case)
    }

    /// With this body, of declared length.
    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// The head as bytes, without the empty line.
    pub(crate) fn head_text(&self) -> String {
        use std::fmt::Write as _;
        let mut text = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\n",
            self.method, self.target, self.host
        );
        for (name, value) in &self.fields {
            write!(text, "{name}: {value}\r\n").unwrap();
        }
        text
    }

    /// The request as bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head_text().into_bytes();
        if let Some(body) = &self.body {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) version: String,
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// Statuses of the 1xx answers before it.
    pub(crate) interim: Vec<u16>,
}

impl Answer {
    /// An answer with this head and no body yet.
    pub(crate) fn of(head: Head) -> io::Result<Self> {
        let bad = || io::Error::other(format!("status line {:?}", head.start));
        let (version, rest) = head.start.split_once(' ').ok_or_else(bad)?;
        let status = rest.get(..3).and_then(|digits| digits.parse().ok());
        Ok(Self {
            version: version.to_owned(),
            status: status.ok_or_else(bad)?,
            head,
            body: Vec::new(),
            trailers: Vec::new(),
            interim: Vec::new(),
        })
    }

    /// The only value of a field. Panics where it is repeated.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} is repeated: {all:?}");
        all.first().copied()
    }

    /// The one challenge that names an error. Panics where there are several.
    pub(crate) fn challenge(&self) -> Option<&str> {
        let mut errors = self.all("www-authenticate");
        errors.retain(|line| line.contains("error="));
        assert!(errors.len() < 2, "more than one error: {errors:?}");
        errors.first().copied()
    }

    /// The challenges without `resource_metadata`, which names the very request (RFC 9728 s5.1).
    pub(crate) fn challenges(&self) -> Vec<String> {
        let lines = self.all("www-authenticate").into_iter();
        lines
            .map(|line| match line.find("resource_metadata=\"") {
                Some(at) => line[..at].trim_end_matches([',', ' ']).to_owned(),
                None => line.to_owned(),
            })
            .collect()
    }

    /// Every value of a field.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.head
            .fields
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The body as JSON; `null` where it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// `reason` of a listener with `disclose_reasons`.
    pub(crate) fn reason(&self) -> String {
        self.json()["reason"].as_str().unwrap_or("").to_owned()
    }
}
