//! One call about one token, from its turn to its end for all that wait.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::authentication::ClientAuthentication;
use super::breaker::Turn;
use super::call::{CallFailure, Media};
use super::{Endpoint, Introspector, lock};
use crate::clock;
use crate::pdp::introspection::{Question, SignedAnswer, Unfit};
use crate::pdp::{AccessToken, Introspected, TokenDigest};
use crate::pip::address::Address;
use crate::pip::discovery;
use crate::pip::fetch::Way;
use crate::pip::learned::configured;
use crate::pip::schedule::Client;
use crate::telemetry::metrics::CallResult;
use crate::telemetry::redact::clean;

/// How a call ended, for all that wait.
pub(super) type Ended = Result<Arc<Introspected>, CallFailure>;

/// Tries of one call.
const TRIES: u32 = 2;

/// Between two tries: at least this, at most twice as much.
const PAUSE: Duration = Duration::from_millis(30);

/// How long a good answer proves that the way of asking is right.
const ANSWERED_LATELY: Duration = Duration::from_secs(60);

/// At most one line of the log for failures of one kind in this time.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// A call under way. Whatever ends it, those who wait are told: its destructor does so.
pub(super) struct Flight {
    of: Arc<Introspector>,
    token: AccessToken,
    digest: TokenDigest,
    client: Client,
    /// Whether others may join, and what it finds be remembered.
    shared: bool,
    end: watch::Sender<Option<Ended>>,
    probing: bool,
    departed: bool,
    began: Instant,
    dropped: u64,
}

impl Flight {
    pub(super) fn new(
        of: &Arc<Introspector>,
        (token, digest): (AccessToken, TokenDigest),
        client: Client,
        shared: bool,
        end: watch::Sender<Option<Ended>>,
    ) -> Self {
        Self {
            dropped: of.dropped.load(Ordering::SeqCst),
            of: Arc::clone(of),
            token,
            digest,
            client,
            shared,
            end,
            probing: false,
            departed: false,
            began: Instant::now(),
        }
    }

    pub(super) async fn run(mut self) {
        let ended = self.told().await;
        if let Ok(said) = &ended {
            self.remember(said);
        }
        // First out of the way, so that whoever comes now finds what is remembered.
        self.depart();
        self.end.send_replace(Some(ended));
    }

    async fn told(&mut self) -> Ended {
        let of = Arc::clone(&self.of);
        let deadline = self.began + of.settings.timeout;
        let Ok(Ok(_turn)) = timeout_at(deadline, Arc::clone(&of.turns).acquire_owned()).await
        else {
            of.metrics.overloads.add_one();
            // No word of the server: it was not asked.
            return Err(CallFailure::new(
                CallResult::Unreachable,
                "no call could be made in time, too many are under way",
            ));
        };
        let mut tries = 1;
        loop {
            match lock(&of.breaker).turn(of.now()) {
                Turn::Call => {}
                Turn::Probe => self.probing = true,
                Turn::Later(left) => {
                    return Err(CallFailure {
                        retry_after: Some(left),
                        ..CallFailure::new(
                            CallResult::Unreachable,
                            "the server is left alone after failures",
                        )
                    });
                }
            }
            let called = Instant::now();
            let answer = match timeout_at(deadline, self.asked()).await {
                Ok(answer) => answer,
                Err(_elapsed) => Err(CallFailure::new(
                    CallResult::Timeout,
                    format!(
                        "no answer in {}",
                        humantime::format_duration(of.settings.timeout)
                    ),
                )),
            };
            of.metrics.took(called.elapsed());
            match self.judged(answer) {
                Err(failure)
                    if failure.is_passing()
                        && tries < TRIES
                        && Instant::now() + PAUSE * 2 < deadline =>
                {
                    tries += 1;
                    let pause = PAUSE.saturating_add(PAUSE.mul_f64(share(random())));
                    tokio::time::sleep(pause).await;
                }
                ended => return ended,
            }
        }
    }

    /// Tells the breaker, the metrics and the log.
    fn judged(&mut self, answer: Ended) -> Ended {
        let of = &self.of;
        self.probing = false;
        let mut breaker = lock(&of.breaker);
        match &answer {
            Ok(said) => {
                breaker.succeeded();
                let result = if said.expires().is_some() {
                    CallResult::Active
                } else {
                    CallResult::Inactive
                };
                of.metrics.called(result);
                of.last_error.store(None);
            }
            Err(failure) => {
                if failure.is_of_server() {
                    breaker.failed(of.now(), failure.retry_after, random());
                } else {
                    // It is up, and answers what we send.
                    breaker.succeeded();
                }
                of.metrics.called(failure.result);
                self.failed(failure);
            }
        }
        of.metrics.set_breaker(breaker.state(of.now()).name());
        answer
    }

    /// Asks about the token.
    ///
    /// Some servers reject what is no token of theirs with 400, where RFC 7662 s2.2 wants
    /// `active: false`. That is a word about the token only if the way of asking is right, else it
    /// is our own fault and would send every client away. Where it is not known to be right, a
    /// token made up here is asked about to find out.
    async fn asked(&self) -> Ended {
        let of = &*self.of;
        let failure = match self.call(&self.token, self.digest).await {
            Err(failure) if failure.blames_token => failure,
            ended => return ended,
        };
        let known = lock(&of.answered).is_some_and(|at| at.elapsed() < ANSWERED_LATELY);
        if !known {
            let made_up = AccessToken::new(made_up().ok_or_else(|| failure.clone())?);
            if let Err(other) = self.call(&made_up, made_up.digest()).await {
                // Rejected like the first, it tells that the way of asking is wrong; else it tells
                // of the server, whose failure it is.
                return Err(if other.blames_token { failure } else { other });
            }
        }
        let said = Introspected::rejected(&of.issuer, self.digest);
        Ok(Arc::new(said))
    }

    async fn call(&self, token: &AccessToken, digest: TokenDigest) -> Ended {
        let of = &*self.of;
        let settings = &of.settings;
        let way = Way {
            tls: &settings.tls,
            proxy: of.proxy.as_deref(),
        };
        let address = of.address(way).await?;
        let asked = clock::now();
        let form = settings
            .authentication
            .form(
                &settings.client_id,
                &of.issuer.issuer,
                token.expose(),
                asked,
            )
            .map_err(|why| CallFailure::new(CallResult::Credentials, why))?;
        let media = if settings.signed {
            Media::Jwt
        } else {
            Media::Json
        };
        let answer = match of.connections.post(&address, way, &form, media).await {
            Ok(answer) => answer,
            Err(failure) => {
                // The endpoint may have moved: the next call asks where it is. One that has a word
                // to say about the token has not.
                if !failure.blames_token {
                    of.learned.forget();
                }
                return Err(failure);
            }
        };
        let unfit = |Unfit(why)| CallFailure::new(CallResult::Unfit, why);
        if !settings.signed {
            let said = Introspected::read(&answer, &of.issuer, digest).map_err(unfit)?;
            *lock(&of.answered) = Some(Instant::now());
            return Ok(Arc::new(said));
        }
        let signed = SignedAnswer::parse(&answer, &of.issuer).map_err(unfit)?;
        let keys = of
            .keys
            .keys_for(signed.key_id(), signed.algorithm(), &Client::Plane)
            .await
            .map_err(|why| CallFailure::new(CallResult::Keys, why.detail))?;
        let question = Question {
            issuer: &of.issuer,
            client_id: &settings.client_id,
            digest,
            now: clock::now(),
        };
        let said = signed.verify(&keys, question).map_err(unfit)?;
        *lock(&of.answered) = Some(Instant::now());
        Ok(Arc::new(said))
    }

    /// Remembers an answer, unless answers were dropped since it was asked for: it may tell of a
    /// time before what they were dropped for.
    fn remember(&self, said: &Arc<Introspected>) {
        let of = &*self.of;
        let settings = &of.settings;
        let stands = || of.dropped.load(Ordering::SeqCst) == self.dropped;
        if !stands() {
            return;
        }
        let longest = match said.expires() {
            Some(_) => settings.active_for,
            None => settings.inactive_for,
        };
        of.answers.remember(said, longest, clock::now());
        if !stands() {
            of.answers.forget(said);
        }
    }

    fn failed(&self, failure: &CallFailure) {
        let of = &*self.of;
        let detail = clean(&failure.detail, 300).into_owned();
        let mut logged = lock(&of.last_logged);
        let quiet = logged.is_some_and(|(of, at)| of == failure.result && at.elapsed() < LOG_EVERY);
        if !quiet {
            *logged = Some((failure.result, Instant::now()));
            let (issuer, result) = (&*of.issuer.name, failure.result.name());
            // INT-12: nobody but the operator can mend our own credentials.
            if failure.result == CallResult::Credentials {
                tracing::error!(issuer, result, error = detail, "introspection refuses us");
            } else {
                tracing::warn!(issuer, result, error = detail, "introspection failed");
            }
        }
        of.last_error.store(Some(Arc::new(detail)));
    }

    /// Makes way for the next call about this token, and gives the place back.
    fn depart(&mut self) {
        if std::mem::replace(&mut self.departed, true) {
            return;
        }
        let mut flights = lock(&self.of.flights);
        if self.shared {
            flights.by_token.remove(&self.digest);
        }
        flights.places.leave(&self.client);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.probing {
            lock(&self.of.breaker).gave_up();
        }
        self.depart();
        self.of.metrics.in_flight.fall();
    }
}

impl Introspector {
    /// Where to ask.
    async fn address(&self, way: Way<'_>) -> Result<Address, CallFailure> {
        let at = match &self.settings.endpoint {
            Endpoint::At(url) => return Ok(configured(url)?),
            Endpoint::Discovery(url) => url,
        };
        let mutual_tls = matches!(
            self.settings.authentication,
            ClientAuthentication::MutualTls
        );
        let issuer = &self.issuer.issuer;
        let read = |metadata: &[u8]| {
            discovery::introspection_address(metadata, issuer, &self.hosts, mutual_tls)
        };
        Ok(self.learned.or_read(at, way, read).await?)
    }
}

/// A token that no issuer ever issued.
fn made_up() -> Option<String> {
    let mut bytes = [0; 24];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

/// Any number.
#[expect(clippy::cast_possible_truncation, reason = "any number will do")]
fn random() -> u32 {
    RandomState::new().build_hasher().finish() as u32
}

fn share(number: u32) -> f64 {
    f64::from(number) / f64::from(u32::MAX)
}
