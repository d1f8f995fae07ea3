//! The values of keys that the file leaves out. Written into the raw structs before anything is
//! checked, so that a default passes the same checks and `check --print` shows it.

use super::raw::{
    Algorithm, Audit, AuditFailure, AuditSubject, AuditSync, ClaimNames, ClientCertificate,
    ClientTrust, CrlRule, Dpop, Drain, File, Forward, Introspection, IntrospectionResponse,
    IntrospectionUse, Issuer, Jwks, Limits, Listener, Profile, Protocol, Reload, ReplayStore,
    ReplayStoreKind, RevocationDoor, Tls, Upstream,
};

fn put(slot: &mut Option<String>, value: &str) {
    slot.get_or_insert_with(|| value.to_owned());
}

fn put_list(slot: &mut Option<Vec<String>>, values: &[&str]) {
    slot.get_or_insert_with(|| values.iter().map(|value| (*value).to_owned()).collect());
}

impl File {
    /// Fills in every default.
    pub(super) fn fill(&mut self, cores: u64) {
        self.workers.get_or_insert(cores);
        self.reload.fill();
        self.drain.fill();
        self.forward.fill();
        self.dpop.fill();
        self.listener.values_mut().for_each(Listener::fill);
        self.issuer.values_mut().for_each(Issuer::fill);
        self.upstream.values_mut().for_each(Upstream::fill);
        if let Some(revocation) = &mut self.revocation {
            revocation.fill();
        }
        if let Some(audit) = &mut self.audit {
            audit.fill();
        }
        let only = match self.listener.len() {
            1 => self.listener.keys().next().cloned(),
            _ => None,
        };
        for route in &mut self.route {
            if route.listener.is_none() {
                route.listener = only.clone().map(|name| vec![name]);
            }
        }
        if self.default_issuers.is_none() && self.issuer.len() == 1 {
            self.default_issuers = Some(self.issuer.keys().cloned().collect());
        }
    }
}

impl Reload {
    fn fill(&mut self) {
        put(&mut self.watch, "5s");
    }
}

impl Drain {
    fn fill(&mut self) {
        put(&mut self.delay, "0s");
        put(&mut self.timeout, "30s");
    }
}

impl Listener {
    fn fill(&mut self) {
        self.default.get_or_insert(false);
        self.metadata.get_or_insert(true);
        self.disclose_reasons.get_or_insert(false);
        self.tls.fill();
        self.limits.fill();
    }
}

impl Tls {
    fn fill(&mut self) {
        self.profile.get_or_insert(Profile::Fapi2);
        self.client_certificate
            .get_or_insert(ClientCertificate::Optional);
        self.resumption.get_or_insert(true);
        // No key is filled in that would have no effect, and would be refused if it were written.
        if self.client_certificate == Some(ClientCertificate::None) {
            return;
        }
        self.client_trust.get_or_insert(ClientTrust::Ca);
        if self.client_trust == Some(ClientTrust::Ca) && self.revocation.is_none() {
            self.crl_expired.get_or_insert(CrlRule::Refuse);
            self.crl_unknown.get_or_insert(CrlRule::Refuse);
        }
    }
}

impl Limits {
    fn fill(&mut self) {
        self.connections.get_or_insert(10_000);
        self.streams.get_or_insert(100);
        put(&mut self.header_bytes, "32KiB");
        put(&mut self.token_bytes, "16KiB");
        put(&mut self.body_bytes, "16MiB");
        put(&mut self.handshake_timeout, "10s");
        put(&mut self.header_timeout, "10s");
        put(&mut self.body_timeout, "30s");
        put(&mut self.idle_timeout, "60s");
        put(&mut self.request_timeout, "60s");
    }
}

impl Issuer {
    fn fill(&mut self) {
        self.algorithms
            .get_or_insert_with(|| vec![Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa]);
        put_list(&mut self.token_types, &["at+jwt"]);
        put(&mut self.clock_skew, "10s");
        put(&mut self.exp_leeway, "0s");
        put(&mut self.max_lifetime, "24h");
        self.required.get_or_insert(true);
        self.claims.fill();
        self.jwks.fill();
        if let Some(introspection) = &mut self.introspection {
            introspection.fill();
        }
    }
}

impl Dpop {
    fn fill(&mut self) {
        put(&mut self.proof_age, "60s");
        put(&mut self.proof_ahead, "10s");
        put(&mut self.nonce_lifetime, "120s");
        self.replay.fill();
    }
}

impl ReplayStore {
    fn fill(&mut self) {
        self.entries.get_or_insert(1_000_000);
        let store = self.store.get_or_insert(ReplayStoreKind::Memory);
        if *store == ReplayStoreKind::Redis {
            put(&mut self.timeout, "100ms");
            let breaker = self.breaker.get_or_insert_default();
            breaker.failures.get_or_insert(5);
            put(&mut breaker.open_for, "1s");
            self.confirmed_by.get_or_insert(0);
        }
    }
}

impl RevocationDoor {
    fn fill(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.client_certificate
                .get_or_insert(ClientCertificate::Required);
            tls.fill();
        }
    }
}

impl Audit {
    fn fill(&mut self) {
        put(&mut self.checkpoint_every, "1m");
        self.subject.get_or_insert(AuditSubject::Digest);
        self.queue.get_or_insert(10_000);
        put(&mut self.rotate.size, "256MiB");
        put(&mut self.rotate.every, "24h");
        self.sync.get_or_insert(AuditSync::Checkpoint);
        self.on_failure.get_or_insert(AuditFailure::Refuse);
    }
}

impl Introspection {
    fn fill(&mut self) {
        self.about.get_or_insert(IntrospectionUse::Opaque);
        self.opaque.get_or_insert(false);
        self.response.get_or_insert(IntrospectionResponse::Json);
        put(&mut self.cache.active, "5s");
        put(&mut self.cache.inactive, "1s");
        put(&mut self.token_bytes, "4KiB");
        put(&mut self.timeout, "2s");
        self.breaker.failures.get_or_insert(5);
        put(&mut self.breaker.open_for, "5s");
    }
}

impl ClaimNames {
    fn fill(&mut self) {
        put_list(&mut self.client_id, &["client_id"]);
        put_list(&mut self.scope, &["scope"]);
    }
}

impl Jwks {
    fn fill(&mut self) {
        put(&mut self.timeout, "2s");
        put(&mut self.refresh_cooldown, "5s");
        put(&mut self.refresh_every, "5m");
        put(&mut self.keep_last_good_for, "24h");
    }
}

impl Upstream {
    fn fill(&mut self) {
        self.plaintext.get_or_insert(false);
        self.protocol.get_or_insert(Protocol::Http1);
        put(&mut self.connect_timeout, "2s");
        put(&mut self.response_timeout, "30s");
        put(&mut self.idle_timeout, "4s");
        self.retries.get_or_insert(1);
        self.max_connections.get_or_insert(256);
        self.case_insensitive.get_or_insert(false);
        if let Some(health) = &mut self.health {
            put(&mut health.every, "10s");
        }
        if let Some(eject) = &mut self.eject {
            eject.failures.get_or_insert(5);
            put(&mut eject.duration, "10s");
        }
    }
}

impl Forward {
    fn fill(&mut self) {
        self.authorization.get_or_insert(false);
        put(&mut self.host, "preserve");
    }
}
