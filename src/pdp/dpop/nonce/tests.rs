use super::*;
use proptest::prelude::*;

const NOW: u64 = 1_800_000_000;

fn at(secs: u64) -> UnixTime {
    UnixTime::from_secs(secs)
}

fn keys(current: u8, previous: Option<u8>) -> NonceKeys {
    let previous = previous.map(|byte| [byte; 32]);
    let previous = previous.as_ref().map(<[u8; 32]>::as_slice);
    NonceKeys::new(&[current; 32], previous, Duration::from_secs(120)).unwrap()
}

#[test]
fn a_nonce_lives_for_one_to_two_lifetimes() {
    // DPOP-13, DPOP-26. NOW is the first second of a slot.
    assert_eq!(NOW % 120, 0);
    let keys = keys(1, None);
    let nonce = keys.fresh(at(NOW));
    for (now, good) in [
        (NOW, true),
        (NOW + 119, true),
        (NOW + 120, true),
        (NOW + 239, true),
        (NOW + 240, false),
        (NOW + 100_000, false),
        // A replica whose clock is ahead made it.
        (NOW - 10, true),
        (NOW - 11, false),
        (0, false),
        (u64::MAX, false),
    ] {
        assert_eq!(keys.accepts(&nonce, at(now)), good, "{now}");
    }
    let late = keys.fresh(at(NOW + 119));
    assert_eq!(late, nonce, "one nonce a slot");
    assert!(
        keys.accepts(&late, at(NOW + 239)),
        "for a whole lifetime at least"
    );
    assert_ne!(keys.fresh(at(NOW + 120)), nonce);
}

#[test]
fn it_has_the_characters_of_the_rfc() {
    // RFC 9449 s8.1
    let nonce = keys(1, None).fresh(at(NOW));
    assert_eq!(nonce.len(), 32);
    assert!(
        nonce
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')),
        "{nonce}"
    );
}

#[test]
fn it_is_the_one_that_it_was() {
    // Replicas of two versions share keys: a change of this breaks them apart. Computed with
    // Python's hmac: base64url(begin || HMAC(01 * 32, "portcullis DPoP-Nonce 1" || begin)[..16]).
    assert_eq!(
        &*keys(1, None).fresh(at(NOW + 7)),
        "AAAAAGtJ0gBjBGiWKjuXDfWTfUd6rVaL"
    );
}

#[test]
fn replicas_share_them_and_strangers_do_not() {
    // DPOP-26
    let nonce = keys(1, None).fresh(at(NOW));
    assert!(keys(1, None).accepts(&nonce, at(NOW)));
    assert!(!keys(2, None).accepts(&nonce, at(NOW)));
    let longer = NonceKeys::new(&[1; 32], None, Duration::from_secs(600)).unwrap();
    assert!(
        longer.accepts(&nonce, at(NOW)),
        "a lifetime that changes does not refuse"
    );
}

#[test]
fn a_key_changes_without_a_refusal() {
    // Two replicas, each a step ahead of or behind the other.
    let steps = [
        keys(1, None),
        keys(1, Some(2)),
        keys(2, Some(1)),
        keys(2, None),
    ];
    for (before, after) in steps.iter().zip(&steps[1..]) {
        assert!(after.accepts(&before.fresh(at(NOW)), at(NOW)));
        assert!(before.accepts(&after.fresh(at(NOW)), at(NOW)));
    }
    // Clients hold nonces of the old key for two lifetimes: only then may it go.
    assert!(!keys(2, None).accepts(&keys(1, None).fresh(at(NOW)), at(NOW)));
    assert!(keys(2, Some(1)).accepts(&keys(1, None).fresh(at(NOW)), at(NOW)));
}

#[test]
fn what_is_not_exactly_ours_is_refused() {
    // DPOP-13
    let keys = keys(1, None);
    let nonce = keys.fresh(at(NOW));
    let cases = [
        String::new(),
        "A".repeat(32),
        nonce.chars().take(31).collect(),
        nonce.chars().take(28).collect(),
        format!("{nonce}="),
        format!("{nonce}A"),
        format!("{nonce}AAAA"),
        format!(" {nonce}"),
        format!("{nonce}{nonce}"),
        nonce.to_lowercase(),
        "A".repeat(100_000),
    ];
    for case in cases {
        assert!(!keys.accepts(&case, at(NOW)), "{case:.64}");
    }
    // Every bit counts: the moment's and the MAC's.
    let bytes = URL_SAFE_NO_PAD.decode(&*nonce).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut other = bytes.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        assert!(
            !keys.accepts(&URL_SAFE_NO_PAD.encode(other), at(NOW)),
            "bit {bit}"
        );
    }
}

#[test]
fn weak_settings_are_refused() {
    let minute = Duration::from_secs(60);
    for (current, previous, lifetime, why) in [
        (&[1; 31][..], None, minute, "has 31 bytes"),
        (&[], None, minute, "has 0 bytes"),
        (&[1; 32], Some(&[1; 5][..]), minute, "has 5 bytes"),
        (&[1; 32], None, Duration::from_millis(999), "for a second"),
    ] {
        let error = NonceKeys::new(current, previous, lifetime).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    assert_eq!(format!("{:?}", keys(1, None)), "NonceKeys(not shown)");
}

proptest! {
    #[test]
    fn a_fresh_one_is_good_for_a_lifetime_and_no_other_text_is(
        key: [u8; 32], now in 0..=1_u64 << 54, lifetime in 1..100_000_u64, age in 0..300_000_u64, text: String,
    ) {
        let keys = NonceKeys::new(&key, None, Duration::from_secs(lifetime)).unwrap();
        let nonce = keys.fresh(at(now));
        let good = keys.accepts(&nonce, at(now.saturating_add(age)));
        prop_assert!(good || age >= lifetime);
        prop_assert!(!good || age < lifetime.saturating_mul(2));
        prop_assert!(!keys.accepts(&text, at(now)));
    }
}
