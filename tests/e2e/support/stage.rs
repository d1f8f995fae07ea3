//! A stage: certificates, an authorization server, an API, and the gate between them.

use std::path::PathBuf;

use super::{Config, Gate};
use crate::lab::authserver::AuthServer;
use crate::lab::client::{Answer, Client, Request};
use crate::lab::jose::Draft;
use crate::lab::legacy::Legacy;
use crate::lab::pki::{Identity, KeyKind, Pki, Shape};

/// The identifier of the API in tokens.
pub(crate) const AUDIENCE: &str = "https://api.bank.test";

/// Everything around the gate.
pub(crate) struct Stage {
    dir: tempfile::TempDir,
    pub(crate) pki: Pki,
    pub(crate) issuer: AuthServer,
    pub(crate) legacy: Legacy,
    /// A client with a good certificate.
    pub(crate) a: Identity,
    /// Another one.
    pub(crate) b: Identity,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new(&dir.path().join("pki"));
        pki.server(
            "server",
            &["api.bank.test", "api2.bank.test", "other.bank.test"],
            KeyKind::Ec,
        );
        Self {
            issuer: AuthServer::start(&pki, AUDIENCE),
            legacy: Legacy::start(),
            a: pki.client("client-a", Shape::Good),
            b: pki.client("client-b", Shape::Good),
            pki,
            dir,
        }
    }

    /// A path in the stage's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A sound configuration.
    pub(crate) fn config(&self) -> Config {
        Config::new(&self.issuer.issuer, &self.legacy.url("http"))
    }

    /// Writes the configuration file, whole at once.
    pub(crate) fn write(&self, config: &Config) -> PathBuf {
        self.write_text(&config.render())
    }

    /// Writes any text as the configuration file.
    pub(crate) fn write_text(&self, text: &str) -> PathBuf {
        let path = self.path("portcullis.toml");
        let beside = self.path("portcullis.toml.new");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(&beside, &path).unwrap();
        path
    }

    /// Starts a gate and waits until it can decide.
    pub(crate) fn start(&self, config: &Config) -> Gate {
        let gate = Gate::start(&self.write(config));
        gate.until("readiness", || gate.admin("/readyz").status == 200);
        gate
    }

    /// A client of listener `bank` with certificate `a`.
    pub(crate) fn client(&self, gate: &Gate) -> Client {
        self.anonymous(gate).with(&self.a)
    }

    /// A client of listener `bank` without a certificate.
    pub(crate) fn anonymous(&self, gate: &Gate) -> Client {
        Client::new(gate.address("bank"), "api.bank.test", self.pki.server_ca())
    }

    /// A sound token of `a`.
    pub(crate) fn token(&self) -> String {
        self.issuer.token(&self.a)
    }

    /// A sound token of `a` in the making.
    pub(crate) fn draft(&self) -> Draft {
        self.issuer.draft(&self.a)
    }
}

/// A stage with its gate, for the tests of a module to share.
pub(crate) struct Playing {
    pub(crate) stage: Stage,
    pub(crate) gate: Gate,
}

impl Playing {
    /// Sets a stage and starts a gate on it.
    pub(crate) fn new(configure: impl FnOnce(&Stage, Config) -> Config) -> Self {
        let stage = Stage::new();
        let config = configure(&stage, stage.config());
        let gate = stage.start(&config);
        Self { stage, gate }
    }

    /// A client with certificate `a`.
    pub(crate) fn client(&self) -> Client {
        self.stage.client(&self.gate)
    }

    /// A client without a certificate.
    pub(crate) fn anonymous(&self) -> Client {
        self.stage.anonymous(&self.gate)
    }

    /// A sound token of `a`.
    pub(crate) fn token(&self) -> String {
        self.stage.token()
    }

    /// Calls as `a`, with a sound token.
    pub(crate) fn call(&self, request: Request) -> Answer {
        self.client().call(&request.token(&self.token())).unwrap()
    }

    /// Calls as `a` with what this draft says; the status and the reason.
    pub(crate) fn judge(&self, target: &str, draft: &Draft) -> (u16, String) {
        self.judge_token(target, &self.stage.issuer.sign(draft))
    }

    /// Calls as `a` with this token; the status and the reason.
    pub(crate) fn judge_token(&self, target: &str, token: &str) -> (u16, String) {
        let answer = self
            .client()
            .call(&Request::get(target).token(token))
            .unwrap();
        (answer.status, answer.reason())
    }
}

/// Asserts that an answer is a whole and proper refusal of ours: status, reason, and all that
/// contract section 3 promises of every one (ERR-05, FAPIH-01, FAPIH-05).
#[track_caller]
pub(crate) fn assert_refused(answer: &Answer, status: u16, reason: &str) {
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, status, "{reason}: {body}");
    assert_proper(answer);
    if !answer.body.is_empty() {
        assert_eq!(answer.reason(), reason, "{body}");
    }
}

/// Asserts what every answer of ours has.
#[track_caller]
pub(crate) fn assert_proper(answer: &Answer) {
    let id = answer.field("x-fapi-interaction-id").unwrap_or_default();
    assert!(is_uuid(id), "x-fapi-interaction-id {id:?}");
    assert_eq!(answer.field("content-type"), Some("application/json"));
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    assert!(answer.field("date").is_some(), "no Date");
    if answer.status == 401 {
        assert!(!answer.all("www-authenticate").is_empty(), "no challenge");
    }
    if !answer.body.is_empty() {
        let body = answer.json();
        assert_eq!(body["interaction_id"].as_str(), Some(id), "{body}");
        assert!(body["error"].is_string(), "{body}");
        assert!(body["error_description"].is_string(), "{body}");
    }
}

/// Whether a text is a UUID (RFC 9562 s4).
pub(crate) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
