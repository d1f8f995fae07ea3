//! Any bytes: a problem, never a panic.

use proptest::prelude::*;

use super::*;

/// Pieces of which configurations are made, so that random ones get past the parser.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "[listener.bank]\n",
        "[listener.bank.tls]\n",
        "[issuer.main]\n",
        "[[route]]\n",
        "[forward]\n",
        "[forward.headers]\n",
        "[upstream.core]\n",
        "policy = ",
        "scopes = ",
        "servers = ",
        "path = ",
        "name = ",
        "methods = ",
        "public_url = ",
        "address = ",
        "issuer = ",
        "jwks_file = ",
        "observe = ",
        "\"https://api.bank.example\"\n",
        "\"pki/jwks.json\"\n",
        "[\"GET\"]\n",
        "[]\n",
        "{}\n",
        "true\n",
        "-1\n",
        "9223372036854775808\n",
        "2026-01-01\n",
        "{ until = \"2027-02-30\" }\n",
        "\"/a/{b}/**\"\n",
        "{ extends = \"fapi2\", claims = { a = {} } }\n",
        "policies = \"kit/policies\"\n",
        "include = [\"routes.d/*\"]\n",
        "x.y.z = 1\n",
        "\"\" = \"\"\n",
        "'\u{e4}' = 1\n",
        "\"\\u0000\" = \"\\u0000\"\n",
    ];
    prop_oneof![
        4 => prop::sample::select(words.to_vec()).prop_map(str::to_owned),
        1 => "\\PC{0,12}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let file = tempfile::NamedTempFile::new_in(bench()).unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let problems = load(file.path()).unwrap_err();
        prop_assert!(!problems.is_empty());
    }

    #[test]
    fn random_pieces_never_panic(pieces in prop::collection::vec(piece(), 0..24)) {
        let text = pieces.concat();
        if let Err(problems) = load_text(&text) {
            prop_assert!(!problems.is_empty());
            let lines = text.lines().count().max(1) + 1;
            for problem in problems {
                prop_assert!(problem.place.line <= lines || !problem.place.file.contains("tmp"));
            }
        }
    }
}
