//! Examples of the RFCs, with the time at which they were made.

use super::*;

/// RFC 9449 s4.1, for the token endpoint.
const AT_ISSUER: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";
/// RFC 9449 s7.1, for a resource.
const AT_RESOURCE: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
/// The token of RFC 9449 s7.1.
const ITS_TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";

#[test]
fn the_resource_request_of_rfc_9449() {
    let origins = Origins::new(&["https://resource.example.org"]).unwrap();
    let rules = rules(NonceRule::Off);
    let expected = Expected {
        method: "GET",
        target: Target {
            origins: &origins,
            path: "/protectedresource",
        },
        access_token: AccessToken::new(ITS_TOKEN).digest(),
        rules: &rules,
    };
    let made = 1_562_262_618;
    let read = || Proof::read(AT_RESOURCE.as_bytes(), &rules.algorithms).unwrap();
    for (now, outcome) in [
        (made - 11, Some(ProofNotYetValid)),
        (made - 10, None),
        (made, None),
        (made + 60, None),
        (made + 61, Some(ProofExpired)),
    ] {
        let found = read().fits(&expected, None, UnixTime::from_secs(now));
        assert_eq!(found.err().map(|r| r.reason()), outcome, "{now}");
    }
    let other = Expected {
        access_token: AccessToken::new("another").digest(),
        ..expected
    };
    let found = read().fits(&other, None, UnixTime::from_secs(made));
    assert_eq!(found.unwrap_err().reason(), ProofTokenMismatch);
    let proven = read().verify().unwrap();
    // RFC 9449 s6.1
    let jkt = KeyThumbprint::parse("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I").unwrap();
    assert!(proven.thumbprint().matches(&jkt));
    assert_eq!(proven.until(&rules), UnixTime::from_secs(made + 60));
}

#[test]
fn the_token_request_of_rfc_9449_is_no_proof_for_a_resource() {
    // DPOP-03: it has no ath.
    let refusal = Proof::read(AT_ISSUER.as_bytes(), &rules(NonceRule::Off).algorithms).unwrap_err();
    assert_eq!(refusal.reason(), ProofMalformed);
    assert_eq!(refusal.detail(), Some("there is no ath"));
}
