//! Suites and key exchange groups of each profile.

use std::sync::Arc;

use rustls::CipherSuite;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

use super::Profile;

/// What `fapi2` speaks: AES-GCM with ECDHE, the four suites of RFC 9325 s4.2 under TLS 1.2
/// (TLS-04). `ChaCha20` is none of the four.
const FAPI2: [CipherSuite; 6] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
];

/// What `fapi1` speaks: FAPI 1.0 Part 2 s8.5 leaves two under TLS 1.2 (TLS-05).
const FAPI1: [CipherSuite; 4] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
];

/// The provider of a profile. It is always handed over explicitly: a process default would
/// depend on which features other crates switch on.
///
/// Groups are those of the provider, the hybrid X25519MLKEM768 first.
#[must_use]
pub fn provider(profile: Profile) -> Arc<CryptoProvider> {
    let allowed: &[CipherSuite] = match profile {
        Profile::Fapi2 => &FAPI2,
        Profile::Fapi1 => &FAPI1,
    };
    let mut provider = aws_lc_rs::default_provider();
    provider
        .cipher_suites
        .retain(|suite| allowed.contains(&suite.suite()));
    Arc::new(provider)
}

#[cfg(test)]
mod tests {
    use rustls::NamedGroup;

    use super::*;

    // TLS-04, TLS-05, TLS-06
    #[test]
    fn suites_are_those_of_the_profile_and_no_more() {
        for (profile, wanted) in [(Profile::Fapi2, &FAPI2[..]), (Profile::Fapi1, &FAPI1[..])] {
            let provider = provider(profile);
            assert_eq!(provider.cipher_suites.len(), wanted.len());
            assert!(wanted.iter().all(|suite| {
                provider
                    .cipher_suites
                    .iter()
                    .any(|known| known.suite() == *suite)
            }));
        }
    }

    #[test]
    fn the_hybrid_group_comes_first() {
        let groups = provider(Profile::Fapi2).kx_groups.clone();
        assert_eq!(groups[0].name(), NamedGroup::X25519MLKEM768);
    }
}
