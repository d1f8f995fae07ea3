//! Connections that do not leave this machine: a sidecar's to its API, and those of whoever stands in
//! front of it beside it.
//!
//! Some systems have BBR for all connections, which spaces out what is sent by a timer a connection. On a
//! path that others share there is reason to; here nothing is shared and nothing is lost, and the timers
//! were up to a quarter of the processor time of a large body (benches/README.md).

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpSocket, TcpStream};

/// Connects to an address.
///
/// # Errors
/// Those of the system.
pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Before it has sent anything: what paces does not end with a change of the algorithm.
    unpaced(&socket2::SockRef::from(&socket), address);
    socket.connect(address).await
}

/// An accepted connection of `peer`.
pub fn accepted(stream: &TcpStream, peer: SocketAddr) {
    unpaced(&socket2::SockRef::from(stream), peer);
}

/// Takes the congestion control that every Linux has, and that has no timer, for a peer on this
/// machine. Where the system does not let us, its own stays, which is right as well.
#[cfg(target_os = "linux")]
fn unpaced(socket: &socket2::SockRef<'_>, peer: SocketAddr) {
    if peer.ip().to_canonical().is_loopback() {
        drop(socket.set_tcp_congestion(b"reno"));
    }
}

#[cfg(not(target_os = "linux"))]
fn unpaced(_: &socket2::SockRef<'_>, _: SocketAddr) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Without what pads it.
    fn congestion(stream: &TcpStream) -> String {
        let name = socket2::SockRef::from(stream).tcp_congestion();
        let name = name.map(|name| String::from_utf8_lossy(&name).into_owned());
        name.map_or_else(|error| error.to_string(), |name| name.replace('\0', ""))
    }

    #[tokio::test]
    async fn connections_within_the_machine_are_not_paced() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // A machine may lack IPv6.
            let Ok(listener) = TcpListener::bind(address).await else {
                assert!(address.starts_with('['));
                continue;
            };
            let ours = connect(listener.local_addr().unwrap()).await.unwrap();
            let (theirs, peer) = listener.accept().await.unwrap();
            assert_eq!(congestion(&ours), "reno");
            accepted(&theirs, peer);
            assert_eq!(congestion(&theirs), "reno");
        }
    }

    #[tokio::test]
    async fn others_keep_what_the_system_says() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let before = socket2::SockRef::from(&stream)
            .set_tcp_congestion(b"cubic")
            .map_or_else(|_| congestion(&stream), |()| "cubic".to_owned());
        accepted(&stream, SocketAddr::from(([192, 0, 2, 1], 443)));
        assert_eq!(congestion(&stream), before);
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = connect(address).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
