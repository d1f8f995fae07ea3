//! One connection to one server of the store, shared by all threads: commands are pipelined on it
//! and answered in order. The only file that knows the crate `redis`.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisConnectionInfo, Value};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use super::address::{Login, Server};
use crate::outbound::Tls;

/// Commands that wait to be written; who comes after them waits for room, within its timeout.
const QUEUE: usize = 256;

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// `OK`.
    Done,
    /// The null reply.
    Nothing,
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
    /// A list.
    List(Vec<Self>),
    /// An error: the command was not executed.
    Refused { code: String, detail: String },
}

/// How connections are opened.
#[derive(Debug, Clone)]
pub(super) struct Dial {
    pub(super) tls: Option<Tls>,
    pub(super) login: Option<Login>,
    pub(super) database: u32,
}

/// An open connection. It closes when the last holder lets go.
pub(super) struct Link {
    pub(super) server: Server,
    connection: MultiplexedConnection,
    open: watch::Receiver<()>,
    driver: AbortHandle,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("server", &self.server)
            .finish()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Link {
    /// Connects, shakes hands and logs in, on the runtime of the caller, who stays its reader and
    /// writer. `within` bounds all of it.
    pub(super) async fn open(
        server: &Server,
        dial: &Dial,
        within: Duration,
    ) -> Result<Self, String> {
        match tokio::time::timeout(within, Self::open_unbounded(server, dial)).await {
            Ok(Ok(link)) => Ok(link),
            Ok(Err(error)) => Err(format!("{server}: {error}")),
            Err(_elapsed) => Err(format!("{server}: no connection within {within:?}")),
        }
    }

    async fn open_unbounded(server: &Server, dial: &Dial) -> Result<Self, String> {
        let stream = TcpStream::connect((&*server.host, server.port))
            .await
            .map_err(|error| error.to_string())?;
        stream
            .set_nodelay(true)
            .map_err(|error| error.to_string())?;
        let Some(tls) = &dial.tls else {
            return Self::over(server, dial, stream).await;
        };
        let name = tls
            .server_name
            .as_deref()
            .unwrap_or(&server.host)
            .to_owned();
        let name = ServerName::try_from(name)
            .map_err(|_invalid| "the host is no name that a certificate could have".to_owned())?;
        // The store speaks no protocol that has a name in ALPN.
        let mut config = (*tls.config).clone();
        config.alpn_protocols.clear();
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .map_err(|error| format!("TLS: {error}"))?;
        Self::over(server, dial, stream).await
    }

    async fn over<S>(server: &Server, dial: &Dial, stream: S) -> Result<Self, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut info = RedisConnectionInfo::default()
            .set_db(dial.database.into())
            .set_skip_set_lib_name();
        if let Some(login) = &dial.login {
            info = info.set_password(login.password.expose());
            if let Some(user) = &login.user {
                info = info.set_username(user.expose());
            }
        }
        // Time is bounded by who asks.
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE);
        let (connection, driver) = MultiplexedConnection::new_with_config(&info, stream, config)
            .await
            .map_err(|error| said(&error))?;
        let (alive, open) = watch::channel(());
        let driver = tokio::spawn(async move {
            driver.await;
            drop(alive);
        });
        Ok(Self {
            server: server.clone(),
            connection,
            open,
            driver: driver.abort_handle(),
        })
    }

    /// Sends a command and waits for its reply.
    ///
    /// # Errors
    /// The connection broke: whether the command was executed is *not known*.
    pub(super) async fn ask(&self, words: &[&[u8]]) -> Result<Reply, String> {
        let mut connection = self.connection.clone();
        match connection.send_packed_command(&command(words)).await {
            Ok(value) => Ok(reply(value)),
            Err(error) => refused_or_broken(&error),
        }
    }

    /// Sends commands together and waits for all replies.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(super) async fn ask_all(&self, commands: &[&[&[u8]]]) -> Result<Vec<Reply>, String> {
        let mut pipeline = Pipeline::with_capacity(commands.len());
        for words in commands {
            pipeline.add_command(command(words));
        }
        let mut connection = self.connection.clone();
        connection
            .send_packed_commands(&pipeline, 0, commands.len())
            .await
            .map(|values| values.into_iter().map(reply).collect())
            .map_err(|error| said(&error))
    }

    /// Returns when the connection is no longer there.
    pub(super) async fn closed(&self) {
        let mut open = self.open.clone();
        // Nothing is ever sent: the channel ends with the connection.
        while open.changed().await.is_ok() {}
    }
}

fn command(words: &[&[u8]]) -> Cmd {
    let mut command = Cmd::new();
    for word in words {
        command.arg(*word);
    }
    command
}

fn reply(value: Value) -> Reply {
    match value {
        Value::Nil => Reply::Nothing,
        Value::Okay => Reply::Done,
        Value::Int(number) => Reply::Number(number),
        Value::BulkString(bytes) => Reply::Text(String::from_utf8_lossy(&bytes).into_owned()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Reply::Text(text),
        Value::Array(values) | Value::Set(values) => {
            Reply::List(values.into_iter().map(reply).collect())
        }
        Value::ServerError(error) => Reply::Refused {
            code: error.code().to_owned(),
            detail: error.details().unwrap_or_default().to_owned(),
        },
        other => Reply::Text(format!("a reply of an unexpected kind: {other:?}")),
    }
}

fn refused_or_broken(error: &redis::RedisError) -> Result<Reply, String> {
    match error.code() {
        Some(code) => Ok(Reply::Refused {
            code: code.to_owned(),
            detail: error.detail().unwrap_or_default().to_owned(),
        }),
        None => Err(said(error)),
    }
}

/// The error in words. The server's own words may repeat arguments, but ours are digests.
fn said(error: &redis::RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    }
}
