//! TLS as a client: towards upstreams and towards authorization servers. The name is always
//! verified; there is no switch that turns it off (TLS-14).

use std::sync::Arc;

/// Client TLS, ready for connections.
#[derive(Clone, Debug)]
pub struct Tls {
    /// What rustls needs.
    pub config: Arc<rustls::ClientConfig>,
    /// Name to verify instead of the host's.
    pub server_name: Option<Box<str>>,
}

impl Tls {
    /// Builds it.
    ///
    /// `ca`: trusted authorities (PEM, with the file's name); `None` takes the platform's.
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
        let _ = (ca, identity, server_name, http2);
        Err(vec!["not built".to_owned()])
    }
}
