//! The requests that the demo shows, and what should become of each.

use crate::lab::authserver::Fault;
use crate::lab::client::{Answer, Client, Request};
use crate::lab::h2::Http2;
use crate::lab::now;
use crate::world::World;

/// One line of the table.
pub(crate) struct Outcome {
    /// A heading, where a group of lines begins.
    pub(crate) heading: Option<&'static str>,
    /// What the line shows.
    pub(crate) shows: &'static str,
    /// The request in short.
    pub(crate) request: String,
    /// What should come: a status and a reason, or a TLS alert.
    pub(crate) expected: String,
    /// What came.
    pub(crate) got: String,
    /// Why, in a word or two, where the line does not explain itself.
    pub(crate) failure: Option<String>,
}

impl Outcome {
    /// Whether what came is what should.
    pub(crate) fn as_expected(&self) -> bool {
        self.failure.is_none() && self.expected == self.got
    }

    /// Whether the request was let through.
    pub(crate) fn allowed(&self) -> bool {
        self.got.starts_with('2')
    }
}

struct Scenes<'w> {
    world: &'w World,
    heading: Option<&'static str>,
    outcomes: Vec<Outcome>,
}

/// Plays every scene.
pub(crate) fn play(world: &World) -> Vec<Outcome> {
    let mut scenes = Scenes {
        world,
        heading: None,
        outcomes: Vec::new(),
    };
    let token = world.fetch_token();
    scenes.binding(&token);
    scenes.token();
    scenes.permission(&token);
    scenes.http(&token);
    scenes.keys();
    scenes.revocation();
    scenes.outcomes
}

/// Status and reason, as in the table.
fn words(answer: &Answer) -> String {
    let reason = answer.reason();
    if reason.is_empty() {
        answer.status.to_string()
    } else {
        format!("{} {reason}", answer.status)
    }
}

impl Scenes<'_> {
    fn group(&mut self, heading: &'static str) {
        self.heading = Some(heading);
    }

    fn add(&mut self, shows: &'static str, request: String, expected: &str, got: String) {
        self.outcomes.push(Outcome {
            heading: self.heading.take(),
            shows,
            request,
            expected: expected.to_owned(),
            got,
            failure: None,
        });
    }

    fn call(&mut self, shows: &'static str, client: &Client, request: &Request, expected: &str) {
        let got = match client.call(request) {
            Ok(answer) => words(&answer),
            Err(error) => error.to_string(),
        };
        let target = request.target.split('?').next().unwrap_or_default();
        let short = format!("{} {target}", request.method);
        self.add(shows, short, expected, got);
    }

    fn get(&self, target: &str) -> Request {
        self.world.request("GET", target)
    }

    fn binding(&mut self, token: &str) {
        self.group("A token is worth nothing without the certificate that it is bound to");
        let (client, anonymous) = (self.world.client(), self.world.anonymous());
        let thief = self.world.anonymous().with(&self.world.thief);
        let account = self.get("/accounts/1");
        self.call("no token", &client, &account, "401 token_missing");
        let account = account.token(token);
        self.call(
            "token and certificate of one client",
            &client,
            &account,
            "200",
        );
        self.call(
            "the same token, another's certificate",
            &thief,
            &account,
            "401 binding_mismatch",
        );
        self.call(
            "the same token, no certificate",
            &anonymous,
            &account,
            "401 certificate_required",
        );
        let unbound = self.world.issuer.sign(&self.world.draft().without("cnf"));
        let request = self.get("/accounts/1").token(&unbound);
        self.call(
            "a token bound to nobody",
            &client,
            &request,
            "401 binding_missing",
        );
    }

    fn token(&mut self) {
        self.group("Only sound tokens of the right issuer, for this API, of this moment");
        let world = self.world;
        let client = world.client();
        let issuer = &world.issuer;
        let sound = issuer.sign(&world.draft());
        let (signed, _) = sound.rsplit_once('.').unwrap_or_default();
        let altered = format!("{signed}.{}", crate::lab::base64url(&[0; 64]));
        for (shows, token, expected) in [
            (
                "expired",
                issuer.sign(&world.draft().expired()),
                "401 token_expired",
            ),
            (
                "issued for another API",
                issuer.sign(&world.draft().claim("aud", "https://elsewhere.example")),
                "401 audience_mismatch",
            ),
            (
                "altered after it was signed",
                altered,
                "401 signature_invalid",
            ),
            (
                "\"alg\": \"none\"",
                issuer.sign(&world.draft().header("alg", "none")),
                "401 algorithm_forbidden",
            ),
            (
                "an ID token instead",
                issuer.sign(&world.draft().header("typ", "JWT")),
                "401 token_type_wrong",
            ),
        ] {
            let request = self.get("/accounts/1").token(&token);
            self.call(shows, &client, &request, expected);
        }
    }

    fn permission(&mut self, token: &str) {
        self.group("Policies: scopes, strong customer authentication, routes, methods");
        let world = self.world;
        let client = world.client();
        let narrow = world.issuer.sign(&world.draft().claim("scope", "payments"));
        let request = self.get("/accounts/1").token(&narrow);
        self.call(
            "scope accounts is missing",
            &client,
            &request,
            "403 scope_insufficient",
        );
        let pay = |token: &str| {
            let body = r#"{"amount": "10.00", "currency": "GBP"}"#;
            let request = world.request("POST", "/payments/1").token(token);
            request.field("Content-Type", "application/json").body(body)
        };
        self.call(
            "a payment without strong authentication",
            &client,
            &pay(token),
            "401 authentication_too_weak",
        );
        let strong = world
            .draft()
            .claim("acr", "urn:bank:acr:sca")
            .claim("auth_time", now() - 5);
        let strong = world.issuer.sign(&strong);
        self.call("the same after the step-up", &client, &pay(&strong), "200");
        let request = self.get("/nowhere").token(token);
        self.call(
            "what no route names",
            &client,
            &request,
            "404 route_not_found",
        );
        let request = world.request("DELETE", "/accounts/1").token(token);
        self.call(
            "a method that the route lacks",
            &client,
            &request,
            "405 method_not_allowed",
        );
        let request = self.get("/public/rates");
        self.call(
            "a route that is declared open",
            &world.anonymous(),
            &request,
            "200",
        );
    }

    fn http(&mut self, token: &str) {
        self.group("HTTP that can be read in one way only");
        let world = self.world;
        let client = world.client();
        let query = self.get(&format!("/accounts/1?access_token={token}"));
        self.call(
            "the token in the query",
            &client,
            &query,
            "400 token_in_query",
        );
        let trick = self.get("/public/..%2faccounts/1");
        self.call(
            "a path that leads elsewhere",
            &client,
            &trick,
            "400 target_ambiguous",
        );
        let host = self.get("/accounts/1").token(token).host("other.example");
        self.call(
            "another host name than in TLS",
            &client,
            &host,
            "421 authority_mismatch",
        );

        let forged = self
            .get("/accounts/1")
            .token(token)
            .field("X_Auth_Subject", "the-director");
        self.call("a forged identity header, removed", &client, &forged, "200");
        let seen = world.legacy.since(0);
        let believed = seen
            .last()
            .is_some_and(|seen| seen.fields.iter().any(|(_, value)| value == "the-director"));
        if believed {
            self.fail("the API saw the forged header");
        }

        let before = world.legacy.count();
        let smuggled = format!(
            "POST /payments/1 HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: 4\r\n\
             Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
             GET /public/smuggled HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n",
            port = world.gate.port()
        );
        let got = client.open().and_then(|mut connection| {
            connection.send(smuggled.as_bytes())?;
            let answer = connection.answer("POST")?;
            connection.read_to_end();
            Ok(answer)
        });
        let got = got.map_or_else(|error| error.to_string(), |answer| words(&answer));
        // Two answers are right: it is malformed, or it is one request, which has no token.
        let expected = if got == "401 token_missing" {
            got.clone()
        } else {
            "400 request_malformed".to_owned()
        };
        self.add(
            "one request smuggled in another",
            "POST /payments/1".into(),
            &expected,
            got,
        );
        if world.legacy.count() > before {
            self.fail("the API saw the smuggled request");
        }

        let got = Http2::open(&client).and_then(|mut connection| {
            let request = self.get("/accounts/1").token(token);
            connection.call(&request).map_err(std::io::Error::other)
        });
        let got = got.map_or_else(|error| error.to_string(), |answer| words(&answer));
        self.add(
            "the same API over HTTP/2",
            "GET /accounts/1".into(),
            "200",
            got,
        );
    }

    fn keys(&mut self) {
        self.group("The authorization server changes its keys, then is gone");
        let world = self.world;
        let client = world.client();
        world.issuer.rotate();
        // One look at the keys a second is allowed; the rotation may have come right after one.
        std::thread::sleep(std::time::Duration::from_millis(1200));
        let request = self
            .get("/accounts/1")
            .token(&world.issuer.sign(&world.draft()));
        self.call("signed with a key that is new", &client, &request, "200");
        world.issuer.fail("connect", Fault::Drop);
        let request = self
            .get("/accounts/1")
            .token(&world.issuer.sign(&world.draft()));
        self.call(
            "its keys are out of reach, but known",
            &client,
            &request,
            "200",
        );
        world.issuer.heal();
    }

    fn revocation(&mut self) {
        self.group("A certificate is revoked, and the gate reads its files again");
        let world = self.world;
        let account = self.get("/accounts/1");
        let revoked = world.pki.client("revoked", crate::lab::pki::Shape::Good);
        let of_revoked = world.issuer.token(&revoked);
        let client = world.anonymous().with(&revoked);
        let mut open = client.open().unwrap();
        let request = account.clone().token(&of_revoked);
        let mut on_open = |scenes: &mut Self, shows, expected: &str| {
            let got = open.call(&request);
            let got = got.map_or_else(|error| error.to_string(), |answer| words(&answer));
            scenes.add(shows, "GET /accounts/1".into(), expected, got);
        };
        on_open(self, "before, on a connection that stays open", "200");
        world.pki.revoke(&revoked);
        if !world.reload() {
            self.fail("the reload was refused");
        }
        on_open(
            self,
            "after, on that same connection",
            "401 certificate_revoked",
        );
        let got = match client.call(&request) {
            Ok(answer) => words(&answer),
            Err(error) => error
                .to_string()
                .replace("received fatal alert: ", "TLS alert "),
        };
        self.add(
            "after, on a new connection",
            "TLS handshake".into(),
            "TLS alert CertificateRevoked",
            got,
        );
        let fresh = world.issuer.token(&world.tpp);
        self.call(
            "everybody else",
            &world.client(),
            &account.token(&fresh),
            "200",
        );
    }

    /// The last line did not go as it should, for a reason that its columns do not show.
    fn fail(&mut self, why: &str) {
        if let Some(outcome) = self.outcomes.last_mut() {
            outcome.failure = Some(why.to_owned());
        }
    }
}
