//! What is printed, in columns; in colour on a terminal, unless `NO_COLOR` says otherwise.

use std::io::IsTerminal as _;

use crate::scenes::Outcome;
use crate::world::World;

const SHOWS: usize = 42;
const REQUEST: usize = 28;
const GOT: usize = 30;

struct Paint(bool);

impl Paint {
    /// See <https://no-color.org>: set and not empty means no colour.
    fn new() -> Self {
        let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self(!forbidden && std::io::stdout().is_terminal())
    }

    fn with(&self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    fn dim(&self, text: &str) -> String {
        self.with("2", text)
    }

    fn green(&self, text: &str) -> String {
        self.with("32", text)
    }

    fn yellow(&self, text: &str) -> String {
        self.with("33", text)
    }

    fn red(&self, text: &str) -> String {
        self.with("1;31", text)
    }
}

/// Says what was started and where.
pub(crate) fn introduce(world: &World) {
    let paint = Paint::new();
    println!(
        "{}",
        paint.bold("Portcullis in front of an API that knows nothing of FAPI")
    );
    println!();
    let dir = world.dir.display();
    for (what, at, note) in [
        (
            "the gate",
            format!("https://localhost:{}", world.gate.port()),
            "mutual TLS in, authorized requests out",
        ),
        (
            "authorization server",
            world.issuer.issuer.clone(),
            "issues tokens bound to certificates",
        ),
        (
            "the API behind",
            world.legacy.url("http"),
            "answers with what reached it",
        ),
        (
            "administration",
            format!("http://{}/", world.admin),
            "state, metrics, readiness",
        ),
        (
            "files",
            format!("{dir}"),
            "configuration, policies, certificates",
        ),
    ] {
        println!("  {what:<21} {at:<36} {}", paint.dim(note));
    }
}

/// The table.
pub(crate) fn table(outcomes: &[Outcome]) {
    let paint = Paint::new();
    println!();
    let head = format!(
        "  {:<SHOWS$}{:<REQUEST$}{:<GOT$}",
        "what it shows", "request", "answer"
    );
    println!("{}", paint.dim(&format!("{head}as it should be")));
    for outcome in outcomes {
        if let Some(heading) = outcome.heading {
            println!();
            println!("{}", paint.bold(heading));
        }
        let got = format!("{:<GOT$}", outcome.got);
        let got = if outcome.allowed() {
            paint.green(&got)
        } else {
            paint.yellow(&got)
        };
        let verdict = match &outcome.failure {
            _ if outcome.as_expected() => paint.green("yes"),
            Some(why) => paint.red(&format!("NO: {why}")),
            None => paint.red(&format!("NO: expected {}", outcome.expected)),
        };
        println!(
            "  {:<SHOWS$}{:<REQUEST$}{got}{verdict}",
            outcome.shows, outcome.request
        );
    }
    let good = outcomes
        .iter()
        .filter(|outcome| outcome.as_expected())
        .count();
    let summary = format!("{good} of {} lines went as they should.", outcomes.len());
    println!();
    println!(
        "{}",
        if good == outcomes.len() {
            paint.bold(&summary)
        } else {
            paint.red(&summary)
        }
    );
}

/// Says how to go on by hand.
pub(crate) fn invite(world: &World) {
    let paint = Paint::new();
    let (gate, token) = (world.gate.port(), world.issuer.token_endpoint());
    let admin = world.admin;
    let curl = "curl -sS --cacert pki/server-ca.pem --cert pki/tpp-1.pem --key pki/tpp-1-key.pem";
    println!();
    println!(
        "{}",
        paint.bold("Everything stays up until Ctrl-C. In another terminal:")
    );
    for (why, command) in [
        (
            "go where the files are",
            format!("cd {}", world.dir.display()),
        ),
        (
            "get a token with the certificate of tpp-1, as a header in a file (it is good for five minutes)",
            format!(
                "{curl} -d grant_type=client_credentials -d client_id=tpp-1 -d scope=accounts {token} \\\n    \
                 | sed -E 's/.*\"access_token\":\"([^\"]+)\".*/Authorization: Bearer \\1/' > token"
            ),
        ),
        (
            "use it",
            format!("{curl} -i -w '\\n' -H @token https://localhost:{gate}/accounts/1"),
        ),
        (
            "use it with the certificate of somebody else",
            format!(
                "curl -sS --cacert pki/server-ca.pem --cert pki/somebody-else.pem --key pki/somebody-else-key.pem -i -w '\\n' -H @token https://localhost:{gate}/accounts/1"
            ),
        ),
        (
            "use it where it is not enough",
            format!("{curl} -i -w '\\n' -H @token -d '{{}}' https://localhost:{gate}/payments/1"),
        ),
        (
            "look at the gate",
            format!("curl -sS http://{admin}/status"),
        ),
    ] {
        println!();
        println!("  {}", paint.dim(&format!("# {why}")));
        println!("  {command}");
    }
    println!();
    println!(
        "{}",
        paint.dim("What the gate logs of your requests appears below, one line each.")
    );
    println!();
}
