//! Metadata of an authorization server (RFC 8414, OpenID Connect Discovery 1.0), as far as it
//! leads to keys and to introspection.

use serde::Deserialize;

use super::address::Address;
use super::fetch::Failure;
use crate::telemetry::metrics::FetchResult;

/// The members that matter. A member that comes twice is an error.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: Option<String>,
    introspection_endpoint: Option<String>,
    mtls_endpoint_aliases: Option<Aliases>,
}

#[derive(Deserialize)]
struct Aliases {
    introspection_endpoint: Option<String>,
}

/// `issuer` of the metadata must be the configured one byte for byte (RFC 8414 s3.3, KEY-01):
/// else whoever answers at the well-known address could speak for another.
fn read(metadata: &[u8], issuer: &str) -> Result<Metadata, Failure> {
    let metadata: Metadata = serde_json::from_slice(metadata)
        .map_err(|error| failed(format!("the metadata cannot be read: {error}")))?;
    if metadata.issuer != issuer {
        return Err(failed(format!(
            "the metadata is of issuer {:?}, the configuration says {issuer:?}",
            metadata.issuer
        )));
    }
    Ok(metadata)
}

/// The address of the keys.
pub(super) fn keys_address(
    metadata: &[u8],
    issuer: &str,
    hosts: &[Box<str>],
) -> Result<Address, Failure> {
    let address = read(metadata, issuer)?.jwks_uri;
    let address = address.ok_or_else(|| failed("the metadata name no jwks_uri".to_owned()))?;
    Address::learned(&address, issuer, hosts).map_err(failed)
}

/// The address of the introspection endpoint (RFC 8414 s2). `mutual_tls`: we authenticate by our
/// certificate, for which the server may have an address of its own (RFC 8705 s5).
pub(super) fn introspection_address(
    metadata: &[u8],
    issuer: &str,
    hosts: &[Box<str>],
    mutual_tls: bool,
) -> Result<Address, Failure> {
    let metadata = read(metadata, issuer)?;
    let aliases = metadata.mtls_endpoint_aliases.filter(|_| mutual_tls);
    let address = aliases
        .and_then(|aliases| aliases.introspection_endpoint)
        .or(metadata.introspection_endpoint)
        .ok_or_else(|| failed("the metadata name no introspection_endpoint".to_owned()))?;
    Address::learned(&address, issuer, hosts).map_err(failed)
}

fn failed(detail: String) -> Failure {
    Failure::new(FetchResult::Metadata, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learn(metadata: &str) -> Result<Address, Failure> {
        keys_address(metadata.as_bytes(), "https://as.example", &[])
    }

    #[test]
    fn the_issuer_must_be_the_same_byte_for_byte() {
        // KEY-01
        let good = r#"{"issuer":"https://as.example","jwks_uri":"https://as.example/k","x":1}"#;
        assert_eq!(&*learn(good).unwrap().target, "/k");
        for other in [
            "https://as.example/",
            "https://AS.example",
            "https://evil.example",
            "",
        ] {
            let metadata = good.replacen("https://as.example", other, 1);
            let failure = learn(&metadata).unwrap_err();
            assert_eq!(failure.result, FetchResult::Metadata);
            assert!(
                failure.detail.contains(&format!("{other:?}")),
                "{}",
                failure.detail
            );
            assert!(
                failure.detail.contains("\"https://as.example\""),
                "both names"
            );
        }
    }

    #[test]
    fn clients_with_a_certificate_are_led_to_their_own_endpoint() {
        // RFC 8705 s5
        let metadata = br#"{"issuer":"https://as.example",
            "introspection_endpoint":"https://as.example/i",
            "mtls_endpoint_aliases":{"introspection_endpoint":"https://mtls.as.example/i"}}"#;
        let issuer = "https://as.example";
        let address =
            |hosts: &[Box<str>], mutual| introspection_address(metadata, issuer, hosts, mutual);
        assert_eq!(&*address(&[], false).unwrap().host, "as.example");
        let listed = ["mtls.as.example".into()];
        assert_eq!(&*address(&listed, true).unwrap().host, "mtls.as.example");
        assert!(address(&[], true).is_err(), "a host that nobody listed");
        for bad in [
            r#"{"issuer":"https://as.example"}"#,
            r#"{"issuer":"https://evil","introspection_endpoint":"https://as.example/i"}"#,
            r#"{"issuer":"https://as.example","introspection_endpoint":"http://as.example/i"}"#,
        ] {
            assert!(introspection_address(bad.as_bytes(), issuer, &[], false).is_err());
        }
    }

    #[test]
    fn what_is_no_metadata_leads_nowhere() {
        for bad in [
            "",
            "<html>",
            "{}",
            r#"{"issuer":"https://as.example"}"#,
            r#"{"issuer":["https://as.example"],"jwks_uri":"https://as.example/k"}"#,
            r#"{"issuer":"https://evil","issuer":"https://as.example","jwks_uri":"https://as.example/k"}"#,
            r#"{"issuer":"https://as.example","jwks_uri":"https://evil.example/k"}"#,
        ] {
            assert!(learn(bad).is_err(), "{bad}");
        }
    }
}
