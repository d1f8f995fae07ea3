//! What the arguments of `explain` bring: files in place of a connection and of an issuer.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use super::account::{Account, Stage};
use super::moment;
use crate::cli::Explain;
use crate::clock;
use crate::config::Checked;
use crate::listener;
use crate::pdp::token::KeyGeneration;
use crate::pdp::{
    AccessToken, Introspected, Issuer, KeySet, Peer, Standing, Unavailable, UnixTime,
};
use crate::pip;
use crate::refusal::Reason;
use crate::tls;

/// Largest file that is read.
const LARGEST: u64 = 4 << 20;

/// What the decision is made with.
pub(super) struct Evidence {
    pub(super) now: UnixTime,
    pub(super) peer: Arc<Peer>,
    pub(super) standing: Option<Standing>,
    pub(super) token: Option<String>,
    pub(super) proof: Option<String>,
    pub(super) body: Option<Bytes>,
    /// Of an issuer by its name, or of all.
    keys: Vec<(Option<String>, Vec<u8>, String)>,
    introspection: Option<Vec<u8>>,
    issuers: Vec<pip::Settings>,
}

impl Evidence {
    pub(super) fn read(arguments: &Explain, checked: &Checked) -> Result<Self, String> {
        let now = match &arguments.at {
            Some(text) => moment(text)?,
            None => clock::now(),
        };
        let listener = listener(arguments, checked)?;
        // Nobody's: what a connection would know.
        let ends = (([127, 0, 0, 1], 0).into(), listener.address);
        let (peer, standing) = match &arguments.certificate {
            Some(path) => {
                let pem = read("--certificate", path)?;
                let (peer, standing) = tls::presented(&listener.tls, &pem, ends, now)
                    .map_err(|why| format!("--certificate {}: {why}", path.display()))?;
                (peer, Some(standing))
            }
            None => {
                let peer = Peer {
                    remote: ends.0,
                    local: ends.1,
                    listener: Arc::clone(&listener.name),
                    certificate: None,
                };
                (Arc::new(peer), None)
            }
        };
        let mut keys = Vec::new();
        for argument in &arguments.keys {
            let (issuer, path) = match argument.split_once('=') {
                Some((issuer, path)) => (Some(issuer.to_owned()), path),
                None => (None, argument.as_str()),
            };
            let known = checked
                .issuers
                .iter()
                .map(|settings| &*settings.issuer.name);
            if let Some(issuer) = &issuer
                && !known.clone().any(|name| name == issuer)
            {
                let known: Vec<&str> = known.collect();
                return Err(format!(
                    "--keys: there is no issuer {issuer:?}; there are {}",
                    known.join(", ")
                ));
            }
            keys.push((issuer, read("--keys", Path::new(path))?, path.to_owned()));
        }
        let text = |of: &str, path: &Option<std::path::PathBuf>| match path {
            Some(path) => {
                let bytes = read(of, path)?;
                let text = String::from_utf8(bytes)
                    .map_err(|_bytes| format!("{of} {}: it is not text", path.display()))?;
                Ok::<_, String>(Some(text.trim().to_owned()))
            }
            None => Ok(None),
        };
        let introspection = match &arguments.introspection {
            Some(inline) if inline.trim_start().starts_with('{') => Some(inline.clone().into()),
            Some(path) => Some(read("--introspection", Path::new(path))?),
            None => None,
        };
        let body = match &arguments.body_file {
            Some(path) => Some(read("--body-file", path)?.into()),
            None => None,
        };
        Ok(Self {
            now,
            peer,
            standing,
            token: text("--token-file", &arguments.token_file)?,
            proof: text("--proof-file", &arguments.proof_file)?,
            body,
            keys,
            introspection,
            issuers: checked.issuers.clone(),
        })
    }

    /// The keys of an issuer: of the arguments, of its file, or of its snapshot.
    pub(super) fn keys(
        &self,
        issuer: &Arc<Issuer>,
        account: &mut Account,
    ) -> Result<Arc<KeySet>, Unavailable> {
        let name = &*issuer.name;
        let given = self
            .keys
            .iter()
            .find(|(of, ..)| of.as_deref() == Some(name));
        let given = given.or_else(|| self.keys.iter().find(|(of, ..)| of.is_none()));
        let settings = self.issuers.iter().find(|of| of.issuer.id == issuer.id);
        let (text, from) = match (given, settings) {
            (Some((_, text, path)), _) => (text.clone(), path.clone()),
            (None, Some(settings)) => match settings.at_hand(self.now) {
                Ok(Some(held)) => held,
                Ok(None) => {
                    return Err(unknown(
                        Reason::KeysUnavailable,
                        format!(
                            "the keys of issuer {name} are not at hand: give --keys {name}=FILE"
                        ),
                    ));
                }
                Err(why) => return Err(unknown(Reason::KeysUnavailable, why)),
            },
            (None, None) => {
                return Err(unknown(
                    Reason::KeysUnavailable,
                    format!("no issuer {name}"),
                ));
            }
        };
        account.note(Stage::Keys, "from", json!(from));
        let parsed = KeySet::parse(&text, KeyGeneration(1), &issuer.algorithms);
        let (keys, warnings) =
            parsed.map_err(|why| unknown(Reason::KeysUnavailable, format!("{from}: {why}")))?;
        let ids: Vec<&str> = keys.key_ids().collect();
        account.note(Stage::Keys, "key_ids", json!(ids));
        if !warnings.is_empty() {
            account.note(Stage::Keys, "left_out", json!(warnings));
        }
        Ok(Arc::new(keys))
    }

    /// What the issuer says of the token, by the arguments.
    pub(super) fn introspected(
        &self,
        issuer: &Arc<Issuer>,
        token: &AccessToken,
        account: &mut Account,
    ) -> Result<Introspected, Unavailable> {
        account.note(Stage::Introspection, "asked", json!(&*issuer.name));
        let Some(answer) = &self.introspection else {
            return Err(unknown(
                Reason::IntrospectionUnavailable,
                "offline nobody can be asked: give the issuer's answer with --introspection"
                    .to_owned(),
            ));
        };
        if let Ok(answer) = serde_json::from_slice(answer) {
            account.note(Stage::Introspection, "answer", answer);
        }
        Introspected::read(answer, issuer, token.digest())
            .map_err(|unfit| unknown(Reason::IntrospectionUnfit, unfit.0.into()))
    }

    /// The body, within what the policy reads of it.
    pub(super) fn body(&self, limit: usize, body: Bytes) -> Result<Bytes, Unavailable> {
        if body.len() > limit {
            let why = format!("the policy reads at most {limit} bytes of a body");
            return Err(unknown(Reason::BodyTooLarge, why));
        }
        Ok(body)
    }
}

fn unknown(reason: Reason, detail: String) -> Unavailable {
    Unavailable {
        reason,
        detail: detail.into(),
        retry_after: None,
    }
}

/// The listener that the URL's host belongs to, or the one that is named.
fn listener<'c>(
    arguments: &Explain,
    checked: &'c Checked,
) -> Result<&'c listener::Settings, String> {
    let names = || {
        let names: Vec<&str> = checked.listeners.iter().map(|one| &*one.name).collect();
        names.join(", ")
    };
    if let Some(name) = &arguments.listener {
        let found = checked.listeners.iter().find(|one| *one.name == **name);
        return found
            .ok_or_else(|| format!("there is no listener {name:?}; there are {}", names()));
    }
    let host = arguments.url.parse::<http::Uri>().ok();
    let host = host.as_ref().and_then(http::Uri::host).unwrap_or_default();
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let of_host = |one: &&listener::Settings| one.hosts.iter().any(|known| **known == host);
    match checked.listeners.as_slice() {
        [only] => Ok(only),
        several => several.iter().find(of_host).ok_or_else(|| {
            format!("no listener has host {host:?} in public_url or aliases: name one of {} with --listener", names())
        }),
    }
}

fn read(of: &str, path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let said = |error: std::io::Error| format!("{of} {}: {error}", path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(said)?;
    file.take(LARGEST).read_to_end(&mut bytes).map_err(said)?;
    Ok(bytes)
}
