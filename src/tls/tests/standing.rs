//! Trust does not outlive its evidence.

use std::sync::Arc;

use rcgen::date_time_ymd;

use super::pki::*;
use crate::clock;
use crate::pdp::{Standing, UnixTime};
use crate::tls::trust::CrlRule;
use crate::tls::*;

async fn open(server: &Server, world: &World, leaf: Option<&Leaf>) -> ConnectionTrust {
    connect(server, &Arc::new(world.client(leaf)))
        .await
        .0
        .unwrap()
        .trust
}

fn reload(server: &Server, settings: &Settings) {
    let built = ServerTls::build(settings, server.current.of("bank").as_ref()).unwrap();
    server.current.replace([built]);
}

fn at(year: i32) -> UnixTime {
    UnixTime::from_secs(date_time_ymd(year, 6, 1).unix_timestamp().unsigned_abs())
}

// TLS-17, contract section 2
#[tokio::test]
async fn an_open_connection_is_judged_anew_after_each_reload() {
    let world = World::new();
    let leaf = world.clients.issue(&client_params(7));
    let required = |trust| world.settings(ClientCertificate::Required, trust);
    let clean = || required(world.trust(&[world.clients.crl(&[], true)]));
    let server = Server::new(ServerTls::build(&clean(), None).unwrap());
    let trust_now = open(&server, &world, Some(&leaf)).await;
    let now = clock::now();
    assert_eq!(trust_now.standing(now), Some(Standing::Trusted));

    reload(&server, &clean());
    assert_eq!(trust_now.standing(now), Some(Standing::Trusted));
    reload(
        &server,
        &required(world.trust(&[world.clients.crl(&[7], true)])),
    );
    assert_eq!(trust_now.standing(now), Some(Standing::Revoked));
    reload(&server, &clean());
    assert_eq!(trust_now.standing(now), Some(Standing::Trusted));
    let other = Ca::new("other");
    let other = trust(&[other.file()], &[], CrlRule::Refuse, CrlRule::Refuse);
    reload(&server, &required(other));
    assert_eq!(trust_now.standing(now), Some(Standing::Untrusted));
    reload(&server, &required(ClientTrust::Any));
    assert_eq!(trust_now.standing(now), Some(Standing::Trusted));
    reload(
        &server,
        &world.settings(ClientCertificate::None, ClientTrust::Any),
    );
    assert_eq!(trust_now.standing(now), Some(Standing::Untrusted));
    server.current.replace([]);
    assert_eq!(trust_now.standing(now), Some(Standing::Untrusted));
}

#[tokio::test]
async fn the_presented_chain_is_remembered_for_the_next_judgement() {
    let world = World::new();
    let intermediate = world.clients.under(ca_params("intermediate"));
    let mut leaf = intermediate.issue(&client_params(7));
    leaf.chain.push(intermediate.issuer.der().clone());
    let server = world.server(ClientCertificate::Required, world.trust(&[]));
    let trust_now = open(&server, &world, Some(&leaf)).await;
    let crls = [world.clients.crl(&[], true)];
    let accepting = trust(
        &[world.clients.file()],
        &crls,
        CrlRule::Refuse,
        CrlRule::Accept,
    );
    reload(
        &server,
        &world.settings(ClientCertificate::Required, accepting),
    );
    assert_eq!(trust_now.standing(clock::now()), Some(Standing::Trusted));
}

#[tokio::test]
async fn dates_pass_while_a_connection_is_open() {
    let world = World::new();
    // The leaf is good through 2098, the CRL until 2099.
    let leaf = world.clients.issue(&client_params(7));
    let crls = [world.clients.crl(&[], true)];
    for trust in [world.trust(&crls), ClientTrust::Any] {
        let server = world.server(ClientCertificate::Required, trust);
        let trust_now = open(&server, &world, Some(&leaf)).await;
        assert_eq!(trust_now.standing(at(2097)), Some(Standing::Trusted));
        assert_eq!(trust_now.standing(at(2098)), Some(Standing::Expired));
        // The clock was put back.
        assert_eq!(trust_now.standing(at(2097)), Some(Standing::Trusted));
        assert_eq!(trust_now.standing(at(2019)), Some(Standing::Expired));
    }
    let last = world.clients.issue(&client_params(7)).chain[0].clone();
    let (_, not_after) = certificate::dates(&last).unwrap();
    let server = world.server(ClientCertificate::Required, world.trust(&[]));
    let trust_now = open(&server, &world, Some(&leaf)).await;
    assert_eq!(trust_now.standing(not_after), Some(Standing::Trusted));
    assert_eq!(
        trust_now.standing(trust::after(not_after)),
        Some(Standing::Expired)
    );
}

#[tokio::test]
async fn a_crl_runs_out_while_a_connection_is_open() {
    let world = World::new();
    let mut params = client_params(7);
    params.not_after = date_time_ymd(2200, 1, 1);
    let leaf = world.clients.issue(&params);
    let crls = [world.clients.crl(&[], true)];
    for (rule, wanted) in [
        (CrlRule::Refuse, Standing::Untrusted),
        (CrlRule::Accept, Standing::Trusted),
    ] {
        let trust = trust(&[world.clients.file()], &crls, rule, CrlRule::Refuse);
        let server = world.server(ClientCertificate::Required, trust);
        let trust_now = open(&server, &world, Some(&leaf)).await;
        assert_eq!(trust_now.standing(at(2098)), Some(Standing::Trusted));
        assert_eq!(trust_now.standing(at(2100)), Some(wanted));
    }
}

#[tokio::test]
async fn an_anchor_runs_out_while_a_connection_is_open() {
    let mut params = ca_params("old");
    params.not_after = date_time_ymd(2090, 1, 1);
    let old = Ca::from_params(params);
    let world = World::new();
    let leaf = old.issue(&client_params(7));
    let both = [old.file(), world.clients.file()];
    let server = world.server(
        ClientCertificate::Required,
        trust(&both, &[], CrlRule::Refuse, CrlRule::Refuse),
    );
    let trust_now = open(&server, &world, Some(&leaf)).await;
    assert_eq!(trust_now.standing(at(2089)), Some(Standing::Trusted));
    assert_eq!(trust_now.standing(at(2091)), Some(Standing::Expired));
}

#[tokio::test]
async fn a_connection_without_a_certificate_is_untrusted_once_one_is_required() {
    let world = World::new();
    let server = world.server(ClientCertificate::Optional, world.trust(&[]));
    let trust_now = open(&server, &world, None).await;
    assert_eq!(trust_now.standing(clock::now()), None);
    reload(
        &server,
        &world.settings(ClientCertificate::Required, world.trust(&[])),
    );
    assert_eq!(trust_now.standing(clock::now()), Some(Standing::Untrusted));
}
