use std::path::Path;

use serde_json::json;

use super::*;

const ISSUER: &str = "https://as.bank.example";

fn document(status: &str) -> String {
    json!({"clients": [{
        "client_id": "tpp", "status": status, "token_endpoint_auth_method": "tls_client_auth",
        "certificate": {"subject": "CN=tpp"},
    }]})
    .to_string()
}

fn settings(path: &Path) -> Settings {
    Settings {
        source: Source::File(path.to_owned(), std::fs::read(path).unwrap().into()),
        tls: Tls::offline().unwrap(),
        proxy: None,
        jwks_hosts: vec!["keys.example".into()],
        timeout: Duration::from_secs(2),
        refresh_every: Duration::from_secs(10),
        keep_last_good_for: Duration::from_secs(60),
        required: true,
    }
}

fn running(before: Option<&Running>, settings: Settings, metrics: &Metrics) -> Running {
    let generations = Arc::new(AtomicU64::new(1));
    let control = tokio::runtime::Handle::current();
    Running::renewed(before, settings, metrics, &generations, &control)
}

/// Waits until something is so; time is paused, so that it waits for no clock.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what} never came");
}

#[tokio::test(start_paused = true)]
async fn a_file_is_read_again_and_its_last_good_content_is_kept_for_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clients.json");
    std::fs::write(&path, document("active")).unwrap();
    let metrics = Metrics::new(UnixTime::from_secs(0));
    let running = running(None, settings(&path), &metrics);
    let registry = &running.registry;
    let active = || {
        let client = registry.client(ISSUER, "tpp").ok()?;
        Some(client?.active)
    };
    assert_eq!(active(), Some(true));
    assert!(registry.client(ISSUER, "other").unwrap().is_none());

    let began = Instant::now();
    std::fs::write(&path, document("suspended")).unwrap();
    until("the change", || active() == Some(false)).await;
    assert!(began.elapsed() <= Duration::from_secs(11), "one refresh");

    std::fs::write(&path, "{").unwrap();
    until("the failure", || {
        registry.status(crate::clock::now()).degraded
    })
    .await;
    assert_eq!(active(), Some(false), "the last good content");
    let began = Instant::now();
    until("its end", || registry.client(ISSUER, "tpp").is_err()).await;
    assert!(
        began.elapsed() > Duration::from_secs(30),
        "kept for a while"
    );
    let why = registry.client(ISSUER, "tpp").unwrap_err();
    assert_eq!(why.reason, Reason::RegistryUnavailable);

    std::fs::write(&path, document("active")).unwrap();
    until("the recovery", || active() == Some(true)).await;
    assert!(!registry.status(crate::clock::now()).degraded);
    let text = metrics.render(crate::clock::now());
    for line in [
        "portcullis_registry_clients 1",
        "portcullis_registry_age_seconds ",
        "portcullis_registry_last_fetch_ok 1",
        "portcullis_registry_fetches_total{document=\"clients\",result=\"unusable\"}",
    ] {
        assert!(text.contains(line), "no {line} in {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_what_is_held_if_the_source_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clients.json");
    std::fs::write(&path, document("active")).unwrap();
    let metrics = Metrics::new(UnixTime::from_secs(0));
    let first = running(None, settings(&path), &metrics);
    let longer = Settings {
        timeout: Duration::from_secs(3),
        ..settings(&path)
    };
    let second = running(Some(&first), longer, &metrics);
    assert!(Arc::ptr_eq(&first.registry, &second.registry));
    std::fs::write(&path, document("suspended")).unwrap();
    let third = running(Some(&second), settings(&path), &metrics);
    let client = third.registry.client(ISSUER, "tpp").unwrap().unwrap();
    assert!(!client.active, "what the reload read is in force at once");
    let other = folder.path().join("others.json");
    std::fs::write(&other, document("active")).unwrap();
    let fourth = running(Some(&third), settings(&other), &metrics);
    assert!(!Arc::ptr_eq(&third.registry, &fourth.registry));
}

#[test]
fn keys_of_clients_come_over_tls_from_listed_hosts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clients.json");
    let read = |uri: &str| {
        let document = json!({"clients": [{
            "client_id": "tpp", "status": "active", "jwks_uri": uri,
        }]});
        std::fs::write(&path, document.to_string()).unwrap();
        let (clients, _) = settings(&path)
            .read(document.to_string().as_bytes())
            .unwrap();
        clients.len()
    };
    assert_eq!(read("https://KEYS.example:8443/tpp.jwks"), 1);
    for bad in [
        "http://localhost/tpp.jwks",
        "http://keys.example/tpp.jwks",
        "https://other.example/tpp.jwks",
        "https://keys.example@other.example/tpp.jwks",
        "https://169.254.169.254/tpp.jwks",
        "keys.example",
    ] {
        assert_eq!(read(bad), 0, "{bad}");
    }
}
