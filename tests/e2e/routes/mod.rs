//! Which route a request belongs to, and what its policy asks for.

mod errors;
mod paths;
mod payments;
mod policies;
mod trials;

use crate::lab::jose::Draft;
use crate::support::stage::Playing;
use std::sync::OnceLock;

fn playing() -> &'static Playing {
    static PLAYING: OnceLock<Playing> = OnceLock::new();
    PLAYING.get_or_init(|| {
        Playing::new(|stage, config| {
            std::fs::create_dir_all(stage.path("policies")).unwrap();
            let policy = "summary = \"Payments\"\nscopes = [\"payments\"]\nacr = [\"urn:bank:acr:sca\", \"urn:bank:acr:loa3\"]\nmax_age = \"5m\"\n";
            std::fs::write(stage.path("policies/pay.toml"), policy).unwrap();
            let mut config = config;
            config.top.push_str("policies = \"policies\"\n");
            config
                .route("vault", "/accounts/vault/**", "policy = { scopes = [\"admin\"] }")
                .route("one", "/one/{id}/detail", "methods = [\"GET\"]\npolicy = { scopes = [\"accounts\"] }")
                .route("literal", "/one/special/detail", "methods = [\"POST\"]\npolicy = { scopes = [\"accounts\"] }")
                .route("pay", "/payments/**", "policy = \"pay\"")
                .route("any", "/any-scope", "policy = { any_scope = [\"funds\", \"accounts\"] }")
                .route("both", "/both-scopes", "policy = { scopes = [\"accounts\", \"admin\"] }")
                .route("details", "/details", "policy = { authorization_details = { type = \"payment_initiation\", actions = [\"initiate\"] } }")
                .route("claims", "/claims", "policy = { claims = { consent_id = { present = true }, kind = { equals = \"business\" }, tier = { one_of = [\"gold\", \"silver\"] }, groups = { contains = \"tellers\" } } }")
                .route("clients", "/clients", "policy = { clients = [\"tpp-2\"] }")
                .route("psd2", "/psd2", "policy = { certificate = { psd2_role = \"PSP_PI\" } }")
                .route("headers", "/headers", "policy = { require_headers = [\"x-fapi-auth-date\"] }")
                .route("short", "/short", "policy = { max_lifetime = \"1m\" }")
                .route("audience", "/audience", "policy = { audience = [\"https://api.bank.test/payments\"] }")
                .route("unbound", "/unbound", "policy = { binding = [\"mtls\", \"none\"] }")
                .route("slashes", "/files/**", "policy = { scopes = [\"accounts\"] }\npath_allow = [\"encoded-slash\", \"encoded-percent\", \"semicolon\", \"double-slash\"]")
        })
    })
}

fn draft() -> Draft {
    playing().stage.draft()
}

fn judge(target: &str, draft: &Draft) -> (u16, String) {
    playing().judge(target, draft)
}

#[track_caller]
fn assert_judged(target: &str, draft: &Draft, status: u16, reason: &str) {
    assert_eq!(
        judge(target, draft),
        (status, reason.to_owned()),
        "{target}"
    );
}
