//! What is read of each form, and what is not.

use proptest::prelude::*;

use super::*;

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn sequence(der: &[u8]) -> String {
    format!(":{}:", STANDARD.encode(der))
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

/// As nginx does: all but the unreserved characters.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| match byte {
            byte if plain(byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// As Envoy does: only what would break its own syntax.
fn escaped_by_envoy(text: &str) -> String {
    [
        ("\n", "%0A"),
        (" ", "%20"),
        ("+", "%2B"),
        ("/", "%2F"),
        ("=", "%3D"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn read(form: Form, fields: &[(&'static str, &str)]) -> Result<Option<Presented>, Reason> {
    presented(form, &headers(fields)).map_err(|refusal| refusal.reason())
}

fn one(leaf: &[u8], intermediates: &[&[u8]]) -> Result<Option<Presented>, Reason> {
    Ok(Some(Presented {
        leaf: leaf.to_vec(),
        intermediates: intermediates.iter().map(|der| der.to_vec()).collect(),
    }))
}

const MALFORMED: Result<Option<Presented>, Reason> = Err(Reason::ClientCertMalformed);

#[test]
fn client_cert_is_one_byte_sequence() {
    // FWD-03, MTLS-15; RFC 9440 s2.1 to s2.3
    let read = |fields: &[(&'static str, &str)]| read(Form::ClientCert, fields);
    let (leaf, first, second) = (sequence(b"leaf"), sequence(b"one"), sequence(b"two"));
    assert_eq!(read(&[]), Ok(None));
    assert_eq!(read(&[("client-cert", &leaf)]), one(b"leaf", &[]));
    let chain = format!("{first}, {second}");
    for chain in [
        vec![("client-cert-chain", chain.as_str())],
        vec![
            ("client-cert-chain", first.as_str()),
            ("client-cert-chain", second.as_str()),
        ],
    ] {
        let fields = [vec![("client-cert", leaf.as_str())], chain].concat();
        assert_eq!(read(&fields), one(b"leaf", &[b"one", b"two"]));
    }
    assert_eq!(
        read(&[("client-cert", &leaf), ("client-cert", &leaf)]),
        Err(Reason::FieldRepeated)
    );
    assert_eq!(read(&[("client-cert-chain", &first)]), MALFORMED);
    let long = [first.as_str(); CHAIN].join(",");
    assert_eq!(
        read(&[("client-cert", &leaf), ("client-cert-chain", &long)]),
        MALFORMED
    );
    let just = [first.as_str(); CHAIN - 1].join(",");
    assert!(read(&[("client-cert", &leaf), ("client-cert-chain", &just)]).is_ok());
    for wrong in [
        "",
        ":",
        "::",
        "leaf",
        "bGVhZg==",
        ":bGVhZg==",
        "bGVhZg==:",
        ":bGVhZg:",
        ":bGVhZh==:",
        ":bGV hZg==:",
        ":bGVhZg==:;a=1",
        ":bGVhZg==:, :bGVhZg==:",
        ":bGVhZg==::",
        "\":bGVhZg==:\"",
        ":bGVh_g==:",
    ] {
        assert_eq!(read(&[("client-cert", wrong)]), MALFORMED, "{wrong}");
        let beside = [("client-cert", leaf.as_str()), ("client-cert-chain", wrong)];
        if wrong != ":bGVhZg==:, :bGVhZg==:" {
            assert_eq!(read(&beside), MALFORMED, "{wrong}");
        }
    }
    // Only the names of the form count.
    let others = [
        ("x-ssl-client-cert", "x"),
        ("x-forwarded-client-cert", "x"),
        ("client_cert", "x"),
    ];
    assert_eq!(read(&others), Ok(None));
}

#[test]
fn xfcc_is_what_the_last_proxy_says_of_its_client() {
    let read = |value: &str| read(Form::Xfcc, &[("x-forwarded-client-cert", value)]);
    let cert = |der: &[u8]| format!("Cert=\"{}\"", escaped_by_envoy(&pem(der)));
    let chain = |ders: &[&[u8]]| {
        let text: String = ders.iter().map(|der| pem(der)).collect();
        format!("Chain=\"{}\"", escaped_by_envoy(&text))
    };
    let (mine, other) = (cert(b"mine"), cert(b"other"));
    for good in [
        mine.clone(),
        mine.replace("Cert=", "cert="),
        format!(
            "By=spiffe://bank/lb;Hash=00ff;{mine};Subject=\"CN=a\\\\, b;,=\\\"c\\\"\";URI=;DNS=a"
        ),
        format!("{other},{mine}"),
        format!("{other};Subject=\"x\" , By=a;{mine}"),
        format!("Subject=\"{}\",{mine}", other.replace('"', "\\\"")),
    ] {
        assert_eq!(read(&good), one(b"mine", &[]), "{good}");
    }
    let with = format!("{mine};{}", chain(&[b"mine", b"above"]));
    assert_eq!(read(&with), one(b"mine", &[b"above"]));
    let of_length = |length: usize| {
        let mut ders = vec![b"above".as_slice(); length];
        ders[0] = b"mine";
        format!("{mine};{}", chain(&ders))
    };
    assert!(read(&of_length(CHAIN)).is_ok());
    for wrong in [
        String::new(),
        "garbage".to_owned(),
        "Hash=0011".to_owned(),
        format!("{mine},Hash=0011;By=x"),
        format!("{mine},"),
        format!("{mine},{}", chain(&[b"mine"])),
        format!("{mine};{mine}"),
        format!("{mine};{other}"),
        format!("{mine}x"),
        mine.strip_suffix('"').unwrap().to_owned(),
        format!("Subject=\"{mine}"),
        format!("Subject=\"\\\",{mine}"),
        "Cert=".to_owned(),
        "Cert=\"\"".to_owned(),
        cert(b""),
        format!("={mine}"),
        format!("URI=a\"b;{mine}"),
        format!("a b=c;{mine}"),
        format!("Cert=\"{}\"", escaped_by_envoy(&(pem(b"a") + &pem(b"b")))),
        of_length(CHAIN + 1),
        of_length(CHAIN + 2),
    ] {
        assert_eq!(read(&wrong), MALFORMED, "{wrong}");
    }
    let twice = [
        ("x-forwarded-client-cert", other.as_str()),
        ("x-forwarded-client-cert", mine.as_str()),
    ];
    assert_eq!(
        presented(Form::Xfcc, &headers(&twice)).map_err(|refusal| refusal.reason()),
        Err(Reason::FieldRepeated)
    );
}

#[test]
fn nginx_sends_escaped_pem() {
    let read = |value: &str| read(Form::Nginx, &[("x-ssl-client-cert", value)]);
    let text = pem(&[0xfb; 100]);
    assert!(text.contains('+') && text.contains('/'));
    for good in [
        escaped(&text),
        escaped(&text).to_ascii_lowercase(),
        escaped(text.trim_end()),
        escaped(&text.replace('\n', "\r\n")),
    ] {
        let told = read(&good);
        // Lower case changes the base64, and so only what is read.
        if good == good.to_ascii_lowercase() {
            assert_eq!(told, MALFORMED);
        } else {
            assert_eq!(told, one(&[0xfb; 100], &[]), "{good}");
        }
    }
    let good = escaped(&text);
    for wrong in [
        "",
        "-----BEGIN CERTIFICATE-----",
        "%2",
        "%zz",
        "%ff",
        &good.replace("CERTIFICATE", "PRIVATE%20KEY"),
        &good.replace("%2B", "%20"),
        &format!("{good}{good}"),
        &format!("{good}x"),
        &format!("x{good}"),
        good.get(..good.len() / 2).unwrap(),
    ] {
        assert_eq!(read(wrong), MALFORMED, "{wrong}");
    }
}

/// A certificate in each form.
fn written(form: Form, leaf: &[u8], above: &[Vec<u8>], before: &str) -> HeaderMap {
    match form {
        Form::ClientCert => {
            let chain: Vec<_> = above.iter().map(|der| sequence(der)).collect();
            let (leaf, chain) = (sequence(leaf), chain.join(", "));
            let mut fields = vec![("client-cert", leaf.as_str())];
            if !above.is_empty() {
                fields.push(("client-cert-chain", &chain));
            }
            headers(&fields)
        }
        Form::Xfcc => {
            let mut text: String = pem(leaf);
            text.extend(above.iter().map(|der| pem(der)));
            let value = format!(
                "{before}By=a;Cert=\"{}\";Chain=\"{}\"",
                escaped_by_envoy(&pem(leaf)),
                escaped_by_envoy(&text)
            );
            headers(&[("x-forwarded-client-cert", &value)])
        }
        Form::Nginx => headers(&[("x-ssl-client-cert", &escaped(&pem(leaf)))]),
    }
}

fn form() -> impl Strategy<Value = Form> {
    prop::sample::select(vec![Form::ClientCert, Form::Xfcc, Form::Nginx])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_read(
        form in form(),
        leaf in prop::collection::vec(any::<u8>(), 1..300),
        above in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..60), 0..9),
        earlier in "[a-zA-Z0-9%]{0,20}",
    ) {
        let before = format!("Cert=\"{earlier}\";Hash={earlier},");
        let told = presented(form, &written(form, &leaf, &above, &before)).unwrap().unwrap();
        prop_assert_eq!(&told.leaf, &leaf);
        let expected: Vec<_> = match form {
            Form::Nginx => Vec::new(),
            Form::ClientCert => above,
            Form::Xfcc => above.into_iter().filter(|der| *der != leaf).collect(),
        };
        prop_assert_eq!(told.intermediates, expected);
    }

    #[test]
    fn any_value_is_read_or_refused(form in form(), value in "[ -~]{0,200}") {
        let (name, _) = form.fields();
        let mut fields = HeaderMap::new();
        fields.insert(name, HeaderValue::from_str(&value).unwrap());
        prop_assert!(presented(form, &fields).is_err());
    }

    #[test]
    fn an_altered_octet_is_never_another_certificate(
        form in form(), leaf in prop::collection::vec(any::<u8>(), 1..100),
        at in any::<prop::sample::Index>(), to in 0x20_u8..0x7f,
    ) {
        let (name, _) = form.fields();
        let mut fields = written(form, &leaf, &[], "");
        let mut value = fields[&name].as_bytes().to_vec();
        let at = at.index(value.len());
        value[at] = to;
        fields.insert(&name, HeaderValue::from_bytes(&value).unwrap());
        if let Ok(Some(told)) = presented(form, &fields) {
            // As long as it was, or shorter: nothing is made up.
            prop_assert!(told.leaf.len() <= leaf.len().saturating_add(3));
        }
    }
}
