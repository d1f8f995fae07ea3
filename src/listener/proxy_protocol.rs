//! The PROXY protocol, version 2: what a load balancer that does not end TLS says of its client, in
//! front of the `ClientHello`.
//!
//! The header is the only thing on a connection that nobody signed, so it is taken from listed
//! addresses alone, and from them it must come. Version 1, which is text, is refused: nothing else
//! tells it from the client's own bytes.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What begins every header of version 2.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED: usize = 16;
/// The whole header with its extensions (TLVs): what fits the smallest segment that every IPv4
/// host must take, which the protocol names as the size to be ready for.
pub const LARGEST: usize = 536;

/// What `from` may say: whose header is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The load balancers: addresses of TCP peers.
    pub from: Vec<IpNet>,
}

impl Settings {
    /// Whether a TCP peer is one of them. An IPv4 address is the same on a socket for both.
    #[must_use]
    pub fn lists(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.from.iter().any(|network| network.contains(&peer))
    }
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The load balancer speaks for itself, as in a health check: the transport's addresses count.
    Local,
    /// It speaks for a client and does not say whose address: the transport's addresses count.
    Unspecified,
    /// It speaks for this client.
    Client {
        /// The client's end.
        source: SocketAddr,
        /// The end that the client reached.
        destination: SocketAddr,
    },
}

/// Why bytes are no header that we take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// A header of version 1.
    Text,
    /// No header.
    Signature,
    /// Another version than 2.
    Version(u8),
    /// A command that version 2 does not have.
    Command(u8),
    /// An address family or transport other than TCP over IPv4 or IPv6.
    Family(u8),
    /// Longer than [`LARGEST`].
    TooLong(usize),
    /// Too short for the addresses of its family, or shorter than it says.
    TooShort,
    /// Extensions that do not fill what is left, or cannot be read.
    Extensions,
    /// A checksum that is not that of the header.
    Checksum,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str(
                "a PROXY protocol header of version 1: the load balancer must send version 2",
            ),
            Self::Signature => f.write_str("no PROXY protocol header came first"),
            Self::Version(version) => write!(f, "PROXY protocol version {version}, not 2"),
            Self::Command(command) => write!(f, "PROXY protocol command {command}, not 0 or 1"),
            Self::Family(family) => write!(
                f,
                "PROXY protocol family 0x{family:02x}: only TCP over IPv4 and IPv6 is taken"
            ),
            Self::TooLong(length) => write!(
                f,
                "a PROXY protocol header of {length} octets, at most {LARGEST} are taken"
            ),
            Self::TooShort => f.write_str("a PROXY protocol header that is too short"),
            Self::Extensions => {
                f.write_str("a PROXY protocol header whose extensions cannot be read")
            }
            Self::Checksum => f.write_str("a PROXY protocol header whose checksum is wrong"),
        }
    }
}

/// How many octets follow the first sixteen.
///
/// # Errors
/// The first octets are no header that we take.
pub fn following(fixed: &[u8; FIXED]) -> Result<usize, Wrong> {
    let [signature @ .., version_command, _, high, low] = fixed;
    begins(signature)?;
    match version_command >> 4 {
        2 => {}
        other => return Err(Wrong::Version(other)),
    }
    match version_command & 0x0f {
        0 | 1 => {}
        other => return Err(Wrong::Command(other)),
    }
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let whole = length.saturating_add(FIXED);
    if whole > LARGEST {
        return Err(Wrong::TooLong(whole));
    }
    Ok(length)
}

/// Whether the first octets are the signature.
fn begins(first: &[u8; SIGNATURE.len()]) -> Result<(), Wrong> {
    if *first == SIGNATURE {
        Ok(())
    } else if first.starts_with(b"PROXY ") {
        Err(Wrong::Text)
    } else {
        Err(Wrong::Signature)
    }
}

/// Reads a whole header, of which nothing is missing and after which nothing comes.
///
/// # Errors
/// Why it is none that we take.
pub fn parse(header: &[u8]) -> Result<Header, Wrong> {
    let (fixed, rest) = header
        .split_first_chunk::<FIXED>()
        .ok_or(Wrong::Signature)?;
    if following(fixed)? != rest.len() {
        return Err(Wrong::TooShort);
    }
    let [.., version_command, family, _, _] = fixed;
    if version_command & 0x0f == 0 {
        // The family is to be ignored, and what follows with it.
        return Ok(Header::Local);
    }
    let (header_says, extensions) = match family {
        0x00 => {
            // Neither addresses nor their length are specified: nothing to look at.
            return Ok(Header::Unspecified);
        }
        0x11 => {
            let (addresses, rest) = rest.split_first_chunk::<12>().ok_or(Wrong::TooShort)?;
            let [a, b, c, d, e, f, g, h, i, j, k, l] = *addresses;
            let said = Header::Client {
                source: (Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([i, j])).into(),
                destination: (Ipv4Addr::new(e, f, g, h), u16::from_be_bytes([k, l])).into(),
            };
            (said, rest)
        }
        0x21 => {
            let (source, rest) = rest.split_first_chunk::<16>().ok_or(Wrong::TooShort)?;
            let (destination, rest) = rest.split_first_chunk::<16>().ok_or(Wrong::TooShort)?;
            let (ports, rest) = rest.split_first_chunk::<4>().ok_or(Wrong::TooShort)?;
            let [a, b, c, d] = *ports;
            let said = Header::Client {
                source: (Ipv6Addr::from(*source), u16::from_be_bytes([a, b])).into(),
                destination: (Ipv6Addr::from(*destination), u16::from_be_bytes([c, d])).into(),
            };
            (said, rest)
        }
        other => return Err(Wrong::Family(*other)),
    };
    check_extensions(header, extensions)?;
    Ok(header_says)
}

/// `PP2_TYPE_CRC32C`.
const CHECKSUM: u8 = 0x03;

/// The extensions must fill what the addresses leave; of what they say only the checksum counts.
fn check_extensions(header: &[u8], mut rest: &[u8]) -> Result<(), Wrong> {
    while let Some(([kind, high, low], after)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, next) = after.split_at_checked(length).ok_or(Wrong::Extensions)?;
        if *kind == CHECKSUM {
            let said: [u8; 4] = value.try_into().map_err(|_size| Wrong::Extensions)?;
            // The sum is over the header with zeros in its own place.
            let at = header.len().saturating_sub(next.len()).saturating_sub(4);
            let zeroed = header.iter().enumerate().map(|(index, byte)| {
                if (at..at.saturating_add(4)).contains(&index) {
                    0
                } else {
                    *byte
                }
            });
            if crc32c(zeroed) != u32::from_be_bytes(said) {
                return Err(Wrong::Checksum);
            }
        }
        rest = next;
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(Wrong::Extensions)
    }
}

/// CRC-32C (RFC 3720 appendix B.4), bit by bit: a header has at most a few hundred octets.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 {
                (sum >> 1) ^ 0x82f6_3b78
            } else {
                sum >> 1
            };
        }
    }
    !sum
}

/// Why no header was read.
#[derive(Debug)]
pub(super) enum Failure {
    /// The connection broke or ended before the header was whole.
    Io(io::Error),
    /// The bytes are no header that we take.
    Wrong(Wrong),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                f.write_str("the connection ended within the PROXY protocol header")
            }
            Self::Io(error) => error.fmt(f),
            Self::Wrong(wrong) => wrong.fmt(f),
        }
    }
}

/// Reads one header and not an octet more: what follows is TLS.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Header, Failure> {
    let mut header = vec![0; FIXED];
    // The signature first: a header of version 1 may be shorter than sixteen octets, and whoever
    // sends one would wait for an answer that never comes.
    let mut first = [0; SIGNATURE.len()];
    stream.read_exact(&mut first).await?;
    begins(&first).map_err(Failure::Wrong)?;
    let mut second = [0; FIXED - SIGNATURE.len()];
    stream.read_exact(&mut second).await?;
    let mut fixed = [0; FIXED];
    for (to, from) in fixed.iter_mut().zip(first.into_iter().chain(second)) {
        *to = from;
    }
    header.copy_from_slice(&fixed);
    let length = following(&fixed).map_err(Failure::Wrong)?;
    header.resize(FIXED.saturating_add(length), 0);
    if let Some(rest) = header.get_mut(FIXED..) {
        stream.read_exact(rest).await?;
    }
    parse(&header).map_err(Failure::Wrong)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0x20 | command, family]);
        bytes.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        bytes.extend(content);
        bytes
    }

    fn v4() -> Vec<u8> {
        let mut content = vec![192, 0, 2, 7, 198, 51, 100, 1];
        content.extend(40_000_u16.to_be_bytes());
        content.extend(443_u16.to_be_bytes());
        content
    }

    fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        bytes.extend(value);
        bytes
    }

    fn client(source: &str, destination: &str) -> Result<Header, Wrong> {
        Ok(Header::Client {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        })
    }

    #[test]
    fn what_each_header_says() {
        let both = client("192.0.2.7:40000", "198.51.100.1:443");
        let mut v6 = vec![0; 36];
        v6[0..2].copy_from_slice(&[0x20, 0x01]);
        v6[15] = 9;
        v6[31] = 1;
        v6[32..36].copy_from_slice(&[0x9c, 0x40, 0x01, 0xbb]);
        let with = |extra: Vec<u8>| [v4(), extra].concat();
        let long = with(tlv(0xea, &[7; LARGEST - FIXED - 12 - 3]));
        let longer = with(tlv(0xea, &[7; LARGEST - FIXED - 12 - 2]));
        let mut other_version = header(1, 0x11, &v4());
        other_version[12] = 0x11;
        let cases = [
            (header(1, 0x11, &v4()), both),
            (header(1, 0x21, &v6), client("[2001::9]:40000", "[::1]:443")),
            (header(1, 0x11, &with(tlv(0x05, b"id"))), both),
            (header(1, 0x11, &long), both),
            (header(1, 0x11, &longer), Err(Wrong::TooLong(LARGEST + 1))),
            (header(0, 0x11, &v4()), Ok(Header::Local)),
            (header(0, 0xff, b"junk"), Ok(Header::Local)),
            (header(1, 0x00, b""), Ok(Header::Unspecified)),
            (header(2, 0x11, &v4()), Err(Wrong::Command(2))),
            (other_version, Err(Wrong::Version(1))),
            (header(1, 0x12, &v4()), Err(Wrong::Family(0x12))),
            (header(1, 0x31, &[0; 216]), Err(Wrong::Family(0x31))),
            (header(1, 0x11, &v4()[..11]), Err(Wrong::TooShort)),
            (header(1, 0x21, &v4()), Err(Wrong::TooShort)),
            (header(1, 0x11, &v4())[..20].to_vec(), Err(Wrong::TooShort)),
            (header(1, 0x11, &with(vec![1, 0])), Err(Wrong::Extensions)),
            (
                header(1, 0x11, &with(vec![1, 0, 9, 0])),
                Err(Wrong::Extensions),
            ),
            (
                header(1, 0x11, &with(tlv(3, &[0; 3]))),
                Err(Wrong::Extensions),
            ),
            (
                header(1, 0x11, &with(tlv(3, &[0; 4]))),
                Err(Wrong::Checksum),
            ),
            (
                b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n".to_vec(),
                Err(Wrong::Text),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), Err(Wrong::Signature)),
            (
                vec![0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3, 0, 0, 0, 0, 0],
                Err(Wrong::Signature),
            ),
        ];
        for (bytes, said) in cases {
            assert_eq!(parse(&bytes), said, "{bytes:?}");
        }
    }

    #[test]
    fn a_checksum_is_that_of_the_header() {
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
        let content =
            |sum: u32| [v4(), tlv(5, b"x"), tlv(3, &sum.to_be_bytes()), tlv(4, b"")].concat();
        let sum = crc32c(header(1, 0x11, &content(0)).into_iter());
        assert!(parse(&header(1, 0x11, &content(sum))).is_ok());
        let mut altered = header(1, 0x11, &content(sum));
        altered[19] ^= 1;
        assert_eq!(parse(&altered), Err(Wrong::Checksum));
    }

    #[test]
    fn listed_peers() {
        let settings = Settings {
            from: vec!["10.0.1.0/24".parse().unwrap(), "fd00::/8".parse().unwrap()],
        };
        for (peer, listed) in [
            ("10.0.1.9", true),
            ("::ffff:10.0.1.9", true),
            ("10.0.2.9", false),
            ("fd00::1", true),
            ("::1", false),
        ] {
            assert_eq!(settings.lists(peer.parse().unwrap()), listed, "{peer}");
        }
    }

    async fn read_from(bytes: &[u8]) -> (Result<Header, String>, usize) {
        let mut rest = bytes;
        let said = read(&mut rest).await.map_err(|failure| failure.to_string());
        (said, rest.len())
    }

    #[tokio::test]
    async fn not_an_octet_more_is_read() {
        let mut bytes = header(1, 0x11, &v4());
        bytes.extend(b"TLS");
        let (said, left) = read_from(&bytes).await;
        assert_eq!((said.is_ok(), left), (true, 3));
        let (said, _) = read_from(b"PROXY UNKNOWN\r\n").await;
        assert!(said.unwrap_err().contains("version 1"));
        let (said, _) = read_from(&bytes[..20]).await;
        assert!(said.unwrap_err().contains("ended within"));
        // What is too long is not even waited for.
        let endless = header(1, 0x11, &vec![0; 60_000]);
        let (said, left) = read_from(&endless[..FIXED]).await;
        assert!(said.unwrap_err().contains("at most"));
        assert_eq!(left, 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn addresses_come_back(
            source in any::<(u32, u16)>(), destination in any::<(u32, u16)>(),
            wide in any::<bool>(), id in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut content = Vec::new();
            let ends = [source, destination];
            for (address, _) in ends {
                if wide {
                    content.extend(u128::from(address).to_be_bytes());
                } else {
                    content.extend(address.to_be_bytes());
                }
            }
            for (_, port) in ends {
                content.extend(port.to_be_bytes());
            }
            content.extend(tlv(5, &id));
            let [source, destination] = ends.map(|(address, port)| -> SocketAddr {
                if wide {
                    (Ipv6Addr::from(u128::from(address)), port).into()
                } else {
                    (Ipv4Addr::from(address), port).into()
                }
            });
            let family = if wide { 0x21 } else { 0x11 };
            prop_assert_eq!(
                parse(&header(1, family, &content)),
                Ok(Header::Client { source, destination })
            );
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(parse(&bytes).is_err());
        }

        #[test]
        fn any_content_is_read_or_refused(
            command in 0_u8..3, family in any::<u8>(),
            content in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            let bytes = header(command, family, &content);
            if parse(&bytes).is_ok() {
                prop_assert!(bytes.len() <= LARGEST);
            }
        }
    }
}
