//! What loads, and what it loads as.

use std::sync::Arc;
use std::time::Duration;

use portcullis::pdp::dpop::{NonceRule, ReplayRule};
use portcullis::pdp::policy::{Access, Algorithm};
use portcullis::pip::KeySource;
use portcullis::pip::introspect::Endpoint;
use portcullis::replay::{Breaker, Store};
use portcullis::{config, http, tls, upstream};

use super::*;

fn good(text: &str) -> Checked {
    load_text(text).unwrap_or_else(|problems| panic!("{}", said(&problems)))
}

#[test]
fn the_kit_loads() {
    let checked = load(&bench().join("kit/pep-1.toml")).unwrap_or_else(|p| panic!("{}", said(&p)));
    assert_eq!(checked.listeners.len(), 1);
    assert_eq!(&*checked.listeners[0].hosts[0], "localhost");
    assert_eq!(checked.listeners[0].ports, [18443]);
    assert_eq!(checked.issuers.len(), 2);
    let uri = "https://localhost:19444/jwks.json";
    assert_eq!(checked.issuers[1].source, KeySource::Uri(uri.into()));
    assert_eq!(checked.admin, Some("127.0.0.1:18444".parse().unwrap()));
    assert_eq!(checked.snapshot.generation, 0);
    assert!(checked.snapshot.table("bank").is_some());
    // Everything that was read is watched: the file, its policies, certificates, CRLs.
    for name in [
        "pep-1.toml",
        "policies",
        "policies/payments.toml",
        "pki/client-ca.crl.pem",
    ] {
        let path = bench().join("kit").join(name);
        let watched = checked.files.iter().find(|(watched, _)| *watched == path);
        let (_, digest) = watched.unwrap_or_else(|| panic!("{name} is not watched"));
        assert_eq!(config::look(&path), Some(*digest), "{name}");
    }
}

#[test]
fn the_bench_loads() {
    let text = std::fs::read_to_string(bench().join("bench.toml")).unwrap();
    let text = text.replace("@PKI@", "pki").replace("@UP@", "9800");
    let checked = good(&text);
    assert_eq!(checked.workers, 1);
    assert_eq!(checked.listeners[0].connections, 12_000);
    assert_eq!(checked.listeners[0].limits.body_bytes, 64 << 20);
    assert_eq!(
        checked.listeners[0].limits.idle_timeout,
        Duration::from_secs(600)
    );
}

#[test]
fn authorization_servers_are_read_as_written() {
    use portcullis::pdp::authorization::{Endpoint, Profile};
    let text = MINIMAL.replace(
        "[issuer.main]",
        r#"[registry]
source = { file = "clients.json" }
[authorization_server.main]
issuer = "https://as.bank.example"
[authorization_server.old]
issuer = "https://old.bank.example"
profile = "fapi1-advanced"
assertion_audience = ["https://old.bank.example/token"]
max_object_lifetime = "10m"
[[route]]
name = "par"
path = "/par"
methods = ["POST"]
upstream = "core"
kind = "authorization"
authorization = { server = "main", endpoint = "par", encrypted = true }
[[route]]
name = "authorize"
path = "/authorize"
methods = ["GET", "POST"]
upstream = "core"
kind = "authorization"
authorization = { server = "old", endpoint = "authorize", form_bytes = "8KiB" }
[issuer.main]"#,
    );
    let checked = good(&text);
    let registry = checked.registry.as_ref().unwrap();
    assert_eq!(registry.refresh_every, Duration::from_secs(60));
    assert_eq!(registry.keep_last_good_for, Duration::from_secs(24 * 3600));
    assert!(registry.required);
    let table = checked.snapshot.table("bank").unwrap();
    let guard = |name: &str| {
        let route = table.routes().find(|route| &*route.name == name).unwrap();
        match &route.access {
            Access::Authorization(guard) => Arc::clone(guard),
            Access::Open | Access::Policy(_) => panic!("{name} leads to no server"),
        }
    };
    let (par, authorize) = (guard("par"), guard("authorize"));
    assert_eq!(
        (par.endpoint, authorize.endpoint),
        (Endpoint::Par, Endpoint::Authorize)
    );
    assert_eq!((par.form_bytes, authorize.form_bytes), (64 << 10, 8 << 10));
    assert!(par.encrypted && !authorize.encrypted && par.vouched);
    let (main, old) = (&par.server, &authorize.server);
    assert_eq!(
        (main.profile, old.profile),
        (Profile::Fapi2, Profile::Fapi1Advanced)
    );
    assert_eq!(*main.audience, [Box::from("https://as.bank.example")]);
    assert_eq!(main.audience, main.assertion_audience);
    assert_eq!(
        *old.assertion_audience,
        [Box::from("https://old.bank.example/token")]
    );
    assert_eq!(
        main.algorithms,
        [Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa]
    );
    assert_eq!(old.algorithms, [Algorithm::Ps256, Algorithm::Es256]);
    assert_eq!(main.max_object_lifetime, Duration::from_secs(3600));
    assert_eq!(old.max_object_lifetime, Duration::from_secs(600));
    assert_eq!(
        &*main.request_uri_prefix,
        "urn:ietf:params:oauth:request_uri:"
    );
    let reports: Vec<String> = checked.reports.iter().map(ToString::to_string).collect();
    for expected in [
        "encrypted request objects pass",
        "clients[1] is left out",
        "client assertions for others",
    ] {
        assert!(
            reports.iter().any(|report| report.contains(expected)),
            "{expected}: {reports:?}"
        );
    }
    // What is printed is the same configuration again.
    let again = good(&checked.print());
    assert_eq!(again.print(), checked.print());

    // A store that replicas share is asked about assertions, though no policy takes proofs.
    let shared = text.replace(
        "[registry]",
        "[dpop]\nreplay = { store = \"redis\", url = { file = \"redis.url\" } }\n[registry]",
    );
    std::fs::write(bench().join("redis.url"), "redis://127.0.0.1:6379").unwrap();
    let reports = good(&shared).reports;
    let said = |what: &str| reports.iter().any(|report| report.text.contains(what));
    assert!(
        said("used client assertions are remembered by"),
        "{reports:?}"
    );
    assert!(!said("never asked"), "{reports:?}");
}

#[test]
fn dpop_is_read_as_written() {
    let checked = load(&bench().join("kit/pep.toml")).unwrap_or_else(|p| panic!("{}", said(&p)));
    assert_eq!(checked.replay.entries, 1_000_000);
    assert_eq!(checked.nonces.lifetime, Duration::from_secs(120));
    assert!(checked.nonces.keys.is_none(), "the process makes its own");
    let table = &checked.snapshot.tables[0];
    assert!(table.origins.is_some());
    let policy = |name: &str| {
        let route = table.routes().find(|route| &*route.name == name).unwrap();
        match &route.access {
            Access::Policy(policy) => Arc::clone(policy),
            Access::Open | Access::Authorization(_) => panic!("{name} has no policy"),
        }
    };
    let (usual, nonce, bearer) = (policy("vault"), policy("nonce"), policy("bearer"));
    assert!(
        usual.binding.mtls && usual.binding.dpop && !usual.binding.none,
        "of fapi2"
    );
    assert_eq!(usual.proofs.nonce, NonceRule::Off);
    assert_eq!(usual.proofs.age, Duration::from_secs(60));
    assert_eq!(usual.proofs.ahead, Duration::from_secs(10));
    assert_eq!(nonce.proofs.nonce, NonceRule::Required);
    assert!(bearer.binding.none);
}

#[test]
fn an_audit_log_is_read_as_written_and_what_weakens_it_is_reported() {
    let keys = tempfile::tempdir_in(bench()).unwrap();
    let name = keys.path().file_name().unwrap().to_str().unwrap();
    std::fs::write(
        keys.path().join("key"),
        "0123456789abcdef0123456789abcdef\n",
    )
    .unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(keys.path().join("key"), mode).unwrap();
    let table = |lines: &str| {
        format!(
            "{MINIMAL}\n[audit]\nfile = \"{name}/log.jsonl\"\nkey = {{ file = \"{name}/key\" }}\nsigning_key = \"pki/server.key\"\n{lines}\n"
        )
    };
    let checked = good(&table(""));
    let audit = checked.audit.as_ref().unwrap();
    assert_eq!(audit.checkpoint_every, Duration::from_secs(60));
    assert_eq!(audit.rotate.size, 256 << 20);
    assert_eq!(audit.queue, 10_000);
    assert!(
        !reported(&checked).contains("audit"),
        "{}",
        reported(&checked)
    );
    assert!(checked.print().contains("on_failure = \"refuse\""));
    assert!(!checked.print().contains("0123456789"), "a key is printed");
    let weaker = good(&table(
        "subject = \"plain\"\non_failure = \"continue\"\nclaims = [\"a\"]",
    ));
    let said = reported(&weaker);
    assert!(
        said.contains("weaker: ") && said.contains("audit.subject"),
        "{said}"
    );
    assert!(
        said.contains("audit.on_failure: requests pass that leave no line"),
        "{said}"
    );
    let weaker = weaker.audit.unwrap();
    assert_ne!(
        weaker.fingerprint, audit.fingerprint,
        "on_failure needs a restart"
    );
    assert_eq!(
        good(&table("subject = \"plain\""))
            .audit
            .unwrap()
            .fingerprint,
        audit.fingerprint
    );
    // Nothing is left behind by the look whether the folder can be written.
    assert_eq!(std::fs::read_dir(keys.path()).unwrap().count(), 1);
    assert!(good(MINIMAL).audit.is_none());
}

#[test]
fn introspection_is_read_as_written() {
    let checked = load(&bench().join("kit/pep-2.toml")).unwrap();
    let main = checked.issuers.iter().find(|of| &*of.issuer.name == "main");
    let of = main.unwrap().introspection.as_ref().unwrap();
    assert_eq!(&*of.client_id, "pep");
    assert_eq!(of.active_for, Duration::from_secs(2));
    assert_eq!(of.inactive_for, Duration::ZERO);
    assert_eq!(
        (of.breaker.failures, of.breaker.open_for),
        (5, Duration::from_secs(5))
    );
    assert!(!of.signed);
    let Endpoint::Discovery(url) = &of.endpoint else {
        panic!("no endpoint is written");
    };
    assert!(url.ends_with("/.well-known/openid-configuration"));
    let table = &checked.snapshot.tables[0];
    for route in table.routes() {
        if let Access::Policy(policy) = &route.access {
            let main = checked
                .snapshot
                .issuers
                .iter()
                .find(|of| &*of.name == "main");
            assert_eq!(
                policy.opaque,
                Some(main.unwrap().id),
                "the one that introspects"
            );
        }
    }
}

// Contract section 2: "A value shown without a # in front and marked default is the default."
#[test]
fn the_defaults_are_those_of_the_contract() {
    let written = MINIMAL.replace(
        "[issuer.main]",
        r#"profile = "fapi2"
client_certificate = "optional"
client_trust = "ca"
crl_expired = "refuse"
crl_unknown = "refuse"
resumption = true
[listener.bank.limits]
connections  = 10000
streams      = 100
header_bytes = "32KiB"
token_bytes  = "16KiB"
body_bytes   = "16MiB"
handshake_timeout = "10s"
header_timeout    = "10s"
body_timeout      = "30s"
idle_timeout      = "60s"
request_timeout   = "60s"
[reload]
watch = "5s"
[drain]
delay = "0s"
timeout = "30s"
[forward]
authorization = false
host = "preserve"
[issuer.main]
algorithms = ["PS256", "ES256", "EdDSA"]
token_types = ["at+jwt"]
clock_skew  = "10s"
exp_leeway  = "0s"
max_lifetime = "24h"
jwks = { timeout = "2s", refresh_cooldown = "5s", refresh_every = "5m", keep_last_good_for = "24h" }"#,
    ) + r#"
protocol  = "http1"
connect_timeout  = "2s"
response_timeout = "30s"
idle_timeout     = "4s"
retries          = 1
max_connections  = 256
case_insensitive = false
"#;
    let written = good(&written);
    let left_out = good(MINIMAL);
    assert_eq!(written.print(), left_out.print());

    assert_eq!(left_out.listeners[0].limits, http::Limits::default());
    assert_eq!(left_out.watch, Some(Duration::from_secs(5)));
    assert_eq!(left_out.drain.timeout, Duration::from_secs(30));
    let tls = &left_out.listeners[0].tls;
    assert_eq!(tls.profile, tls::Profile::Fapi2);
    assert_eq!(tls.client_certificate, tls::ClientCertificate::Optional);
    assert!(tls.resumption);
    let issuer = &left_out.issuers[0];
    assert_eq!(
        issuer.issuer.algorithms,
        [Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa]
    );
    assert_eq!(&*issuer.issuer.token_types[0], "application/at+jwt");
    assert_eq!(issuer.refresh_every, Duration::from_secs(300));
    let upstream = &left_out.upstreams[0];
    assert_eq!(upstream.protocol, upstream::Protocol::Http1);
    assert_eq!(upstream.idle_timeout, Duration::from_secs(4));
    assert_eq!(upstream.max_connections, 256);
}

#[test]
fn what_is_printed_loads_as_the_same() {
    // CFG-02
    let text = format!(
        "{MINIMAL}\n[[route]]\nname = \"a\"\npath = \"/a\"\nmethods = [\"GET\"]\nupstream = \"core\"\npolicy = {{ scopes = [\"a\"] }}\n"
    );
    let front = r#"public_url = "https://api.bank.example"
behind = { proxies = ["10.0.1.10/32", "fd00:1::/64"], proxy_certificate = { ca = ["pki/ca.crt"], crl = ["pki/client-ca.crl.pem"], san = ["lb.bank.example"] }, certificate = "client-cert" }
proxy_protocol = { from = ["10.0.1.10/32"] }"#;
    let fronted = text.replacen("public_url = \"https://api.bank.example\"", front, 1);
    assert_ne!(text, fronted);
    for text in [&text, &fronted] {
        let first = good(text);
        assert_eq!(first.print(), good(&first.print()).print());
    }
    let first = good(&text);
    assert!(
        first.print().contains("# binding = [\"mtls\", \"dpop\"]"),
        "{}",
        first.print()
    );
}

// CFG-03, OPS-07
#[test]
fn everything_that_deserves_a_look_is_reported() {
    let checked = load(&bench().join("reports.toml")).unwrap_or_else(|p| panic!("{}", said(&p)));
    let now = reported(&checked);
    let golden = std::fs::read_to_string(bench().join("reports.txt")).unwrap_or_default();
    let written = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reports.txt");
    std::fs::write(&written, &now).unwrap();
    assert!(
        golden == now,
        "the reports changed. If that is meant, copy {} to tests/config/reports.txt",
        written.display()
    );
}

// MTLS-15, FWD-08
#[test]
fn what_stands_in_front_is_read() {
    use portcullis::pdp::client_cert::Form;
    for (form, expected) in [
        ("client-cert", Form::ClientCert),
        ("xfcc", Form::Xfcc),
        ("nginx", Form::Nginx),
    ] {
        let front = format!(
            r#"public_url = "https://api.bank.example"
behind = {{ proxies = ["10.0.1.10/32", "fd00:1::/64"], proxy_certificate = {{ ca = ["pki/ca.crt"], san = ["lb.bank.example"] }}, certificate = "{form}" }}
proxy_protocol = {{ from = ["10.0.2.0/24"] }}"#
        );
        let checked =
            good(&MINIMAL.replacen("public_url = \"https://api.bank.example\"", &front, 1));
        assert!(
            !reported(&checked).contains("behind"),
            "{}",
            reported(&checked)
        );
        let listener = &checked.listeners[0];
        let behind = listener.tls.behind.as_ref().unwrap();
        assert_eq!(behind.form, expected);
        let certificate = behind.proxy_certificate.as_ref().unwrap();
        assert_eq!(&*certificate.names, [Box::from("lb.bank.example")]);
        let from = listener.proxy_protocol.as_ref().unwrap();
        for (address, proxy, balancer) in [
            ("10.0.1.10", true, false),
            ("10.0.1.11", false, false),
            ("::ffff:10.0.1.10", true, false),
            ("fd00:1::9", true, false),
            ("10.0.2.9", false, true),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(behind.lists(address), proxy, "{address}");
            assert_eq!(from.lists(address), balancer, "{address}");
        }
    }
}

#[test]
fn issuers_keep_their_numbers_until_they_change() {
    let with = |text: &str, previous| {
        let file = tempfile::Builder::new()
            .suffix(".toml")
            .tempfile_in(bench())
            .unwrap();
        std::fs::write(file.path(), text).unwrap();
        config::load(file.path(), now(), previous).unwrap_or_else(|p| panic!("{}", said(&p)))
    };
    let id = |checked: &Checked| checked.issuers[0].issuer.id;
    let first = with(MINIMAL, None);
    let same = with(&MINIMAL.replace("8080", "8081"), Some(&first.interner));
    assert_eq!(id(&first), id(&same));
    let changed = MINIMAL.replace("jwks_file", "max_lifetime = \"1h\"\njwks_file");
    let changed = with(&changed, Some(&same.interner));
    assert_ne!(id(&first), id(&changed));
    let back = with(MINIMAL, Some(&changed.interner));
    assert_ne!(id(&back), id(&changed));
    assert_ne!(
        id(&back),
        id(&first),
        "what was remembered under the old number may be stale"
    );
}

#[test]
fn the_file_of_an_issuer_is_part_of_its_settings() {
    let keys = std::fs::read_to_string(bench().join("pki/jwks.json")).unwrap();
    std::fs::write(bench().join("turning.json"), &keys).unwrap();
    let text = MINIMAL.replace("pki/jwks.json", "turning.json");
    let first = good(&text);
    std::fs::write(
        bench().join("turning.json"),
        keys.replace("\"one\"", "\"two\""),
    )
    .unwrap();
    let file = tempfile::Builder::new()
        .suffix(".toml")
        .tempfile_in(bench())
        .unwrap();
    std::fs::write(file.path(), &text).unwrap();
    let second = config::load(file.path(), now(), Some(&first.interner)).unwrap();
    assert_ne!(first.issuers[0].issuer.id, second.issuers[0].issuer.id);
}

/// A route as text.
fn route(more: &str) -> String {
    format!(
        "{MINIMAL}\n[[route]]\nname = \"a\"\npath = \"/a/**\"\nmethods = [\"GET\"]\nupstream = \"core\"\n{more}\n"
    )
}

#[test]
fn an_observed_route_is_enforced_after_its_last_day() {
    let until = |day: &str| {
        let checked = good(&route(&format!(
            "policy = \"fapi2\"\nobserve = {{ until = \"{day}\" }}"
        )));
        checked
            .reports
            .iter()
            .any(|report| report.text.contains("ended on"))
    };
    // It is 2026-11-23.
    assert!(until("2026-11-22"));
    assert!(!until("2026-11-23"));
    assert!(!until("2027-01-31"));
}

// FWD: a route's own headers never let a client fill those of [forward].
#[test]
fn headers_of_the_global_rules_stay_stripped() {
    let text = route("policy = \"fapi2\"\n[route.forward.headers]\nx-own = \"token.sub\"")
        + "[forward]\nstrip = [\"X_Internal.*\"]\n[forward.headers]\nX-Auth-Subject = \"token.sub\"\n";
    let checked = good(&text);
    let printed = format!("{:?}", checked.snapshot);
    assert!(printed.contains("x-auth-subject"), "{printed}");
    assert!(printed.contains("x-internal-*"), "{printed}");
}

#[test]
fn rooms_get_what_is_written() {
    let text = route("open = true")
        .replace(
            "servers = [\"http://127.0.0.1:8080\"]",
            "servers = [\"http://[::1]:8080/base/\"]",
        )
        .replace(
            "address = \"127.0.0.1:8443\"",
            "address = \"127.0.0.1:8443\"\naliases = [\"https://API2.bank.example:444\"]",
        );
    let checked = good(&text);
    let server = &checked.upstreams[0].servers[0];
    assert_eq!(
        (&*server.host, server.port, &*server.prefix),
        ("::1", 8080, "/base")
    );
    assert_eq!(&*checked.listeners[0].hosts[1], "api2.bank.example");
    assert_eq!(checked.listeners[0].ports, [443, 444]);
}

#[test]
fn the_schema_knows_every_key() {
    let schema: serde_json::Value = serde_json::from_str(&config::schema()).unwrap();
    for key in [
        "policies", "listener", "issuer", "upstream", "forward", "route", "dpop",
    ] {
        let description = &schema["properties"][key]["description"];
        assert!(description.is_string(), "{key} has no description");
    }
    let policy: serde_json::Value = serde_json::from_str(&config::policy_schema()).unwrap();
    assert!(policy["properties"]["binding"].is_object());
    // Every property of every table is explained.
    fn walk(schema: &serde_json::Value, path: &str) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            assert!(
                property["description"].is_string(),
                "{path}.{name} has no description"
            );
        }
        for (name, inner) in schema["$defs"].as_object().into_iter().flatten() {
            walk(inner, name);
        }
    }
    walk(&schema, "");
    walk(&policy, "policy");
}

#[test]
fn whoever_accepts_that_revoked_tokens_pass_for_a_while_says_so() {
    // INT-15
    let route =
        "\n[[route]]\nname = \"a\"\npath = \"/a\"\nmethods = [\"GET\"]\nupstream = \"core\"\n";
    let reported = |text: &str| {
        let checked = good(text);
        let mut reports = checked.reports.iter().map(ToString::to_string);
        reports.any(|report| {
            report.contains("a JWT that was revoked passes until its exp, up to 1day")
        })
    };
    let with = |policy: &str| format!("{MINIMAL}{route}policy = {policy}\n");
    assert!(reported(&with("\"fapi2\"")));
    assert!(
        !reported(&with("{ max_lifetime = \"15m\" }")),
        "somebody thought of it"
    );
    let accepted =
        with("\"fapi2\"").replace("[issuer.main]", "[issuer.main]\nmax_lifetime = \"24h\"");
    assert!(!reported(&accepted));
    let open = format!("{MINIMAL}{route}open = true\n");
    assert!(!reported(&open), "where no token is judged");
}

#[test]
fn nonces_of_one_process_are_reported_as_such() {
    // DPOP-26
    let said = |text: &str| {
        let checked = good(text);
        let mut reports = checked.reports.iter().map(ToString::to_string);
        reports.any(|report| report.contains("nonces are good at this process alone"))
    };
    let with = |dpop: &str| route(&format!("policy = {{ dpop = {{ nonce = \"{dpop}\" }} }}"));
    assert!(said(&with("required")) && said(&with("accepted")));
    assert!(!said(&with("off")) && !said(&route("policy = \"fapi2\"")));
    assert!(!said(&with("required").replace(
        "dpop = { nonce",
        "binding = [\"mtls\"], dpop = { nonce"
    )));
    let key = "[dpop]\nnonce_key = { file = \"nonce\" }\n";
    std::fs::write(bench().join("nonce"), "0123456789abcdef0123456789abcdef").unwrap();
    assert!(!said(&format!("{key}{}", with("required"))));
}

/// With a store of used proofs, and a route on which it counts.
fn with_store(store: &str, dpop: &str) -> String {
    format!(
        "{MINIMAL}\n[[route]]\nname = \"a\"\npath = \"/a\"\nmethods = [\"GET\"]\nupstream = \"core\"\npolicy = {{ scopes = [\"a\"]{dpop} }}\n[dpop]\nreplay = {{ {store} }}\n"
    )
}

// DPOP-24, DPOP-25
#[test]
fn how_far_the_memory_of_used_proofs_reaches_is_said() {
    let local = ", dpop = { replay_unavailable = \"local\" }";
    let said = |store: &str, dpop: &str| {
        let checked = good(&with_store(store, dpop));
        let about = |line: &&str| line.contains("dpop") || line.contains("local");
        let all = reported(&checked);
        let lines = all.lines().filter(about).map(|line| {
            let (place, text) = line.split_once("dpop.").unwrap_or(("", line));
            format!("{} {text}", place.split(':').next().unwrap_or_default())
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(said("store = \"memory\"", ""), "");
    let none = said("store = \"memory\"", local);
    assert!(
        none.contains("note") && none.contains("no effect"),
        "{none}"
    );
    let shared = "store = \"redis\", url = \"redis://127.0.0.1:6379\"";
    let plain = said(shared, "");
    assert!(
        plain.contains("remembered by redis://127.0.0.1:6379/0, for all replicas")
            && plain.lines().count() == 1,
        "{plain}"
    );
    let weak = said(shared, local);
    assert!(
        weak.contains("weaker") && weak.contains("under policy a, while"),
        "{weak}"
    );
    let open = said(
        "store = \"redis\", url = \"redis://:hunter2@store.bank.example\"",
        "",
    );
    assert!(
        open.contains("plaintext") && open.contains("without TLS"),
        "{open}"
    );
    assert!(
        open.contains("material") && open.contains("stands in this file"),
        "{open}"
    );
    assert!(!open.contains("hunter2"), "{open}");
}

#[test]
fn a_shared_store_is_read_as_written() {
    let of = |store: &str| {
        let checked = good(&with_store(store, ""));
        assert!(!checked.print().contains("hunter2"), "{}", checked.print());
        match checked.replay.store {
            Store::Shared(shared) => shared,
            Store::Memory => panic!("not shared"),
        }
    };
    let plain = of("store = \"redis\", url = \"redis://:hunter2@127.0.0.1\"");
    assert_eq!(plain.address().to_string(), "redis://127.0.0.1:6379/0");
    assert_eq!(plain.timeout, Duration::from_millis(100));
    assert_eq!(plain.breaker, Breaker::default());
    assert_eq!(plain.confirmed_by, 0);
    std::fs::write(bench().join("store-url"), "rediss://:hunter2@[::1]:7/3\n").unwrap();
    let tls = "store = \"redis\", url = { file = \"store-url\" }, ca = [\"pki/client-ca.pem\"], server_name = \"store\", timeout = \"20ms\", confirmed_by = 1, breaker = { failures = 2 }";
    let (one, two) = (of(tls), of(tls));
    assert_eq!(one.address().to_string(), "rediss://[::1]:7/3");
    assert_eq!(
        (one.timeout, one.confirmed_by),
        (Duration::from_millis(20), 1)
    );
    assert_eq!(one.breaker.failures, 2);
    assert_eq!(one, two, "the same files are the same settings");
    assert_ne!(one, of(&tls.replace("client-ca.pem", "server.pem")));
    assert_ne!(one, of(&tls.replace("\"store\"", "\"other\"")));
    // Another password is another setting; and the file is watched.
    std::fs::write(bench().join("store-url"), "rediss://:hunter23@[::1]:7/3\n").unwrap();
    assert_ne!(one, of(tls));
    let checked = good(&with_store(tls, ""));
    let watched = |(path, _): &(PathBuf, _)| path.ends_with("store-url");
    assert!(checked.files.iter().any(watched));
    let policy = |dpop| {
        let checked = good(&with_store("store = \"memory\"", dpop));
        let route = checked.snapshot.tables[0].routes().next().unwrap();
        match &route.access {
            Access::Policy(policy) => policy.proofs.replay_unavailable,
            Access::Open | Access::Authorization(_) => panic!("no policy"),
        }
    };
    assert_eq!(policy(""), ReplayRule::Refuse);
    let local = ", dpop = { replay_unavailable = \"local\" }";
    assert_eq!(policy(local), ReplayRule::Local);
}
