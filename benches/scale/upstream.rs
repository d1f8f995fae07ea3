//! The API behind: a thread that answers whatever is asked as cheaply as it can.

use std::net::{SocketAddr, TcpListener};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What a body of the section about large bodies weighs.
pub(crate) const LARGE: usize = 10 * 1024 * 1024;

/// Bytes of every other answer.
pub(crate) const SMALL: usize = 1024;

/// Starts it. `GET /large…` is answered with [`LARGE`] bytes, everything else with [`SMALL`].
pub(crate) fn start() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    socket.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let socket = tokio::net::TcpListener::from_std(socket).unwrap();
            while let Ok((stream, _)) = socket.accept().await {
                tokio::spawn(serve(stream));
            }
        });
    });
    address
}

async fn serve(mut stream: TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let small = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {SMALL}\r\n\r\n{}",
        "x".repeat(SMALL)
    );
    let large = format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n");
    let filler = vec![b'x'; 256 * 1024];
    let (mut buffer, mut held) = (vec![0; 64 * 1024], 0);
    loop {
        let head = loop {
            if let Some(at) = buffer[..held]
                .windows(4)
                .position(|four| four == b"\r\n\r\n")
            {
                break at + 4;
            }
            let read = stream
                .read(&mut buffer[held..])
                .await
                .ok()
                .filter(|read| *read > 0)?;
            held += read;
        };
        let text = String::from_utf8_lossy(&buffer[..head]).into_owned();
        let mut body = super::load::content_length(&text).unwrap_or(0);
        let chunked = text
            .to_ascii_lowercase()
            .contains("transfer-encoding: chunked");
        buffer.copy_within(head..held, 0);
        held -= head;
        if chunked {
            // Only its end matters here: the bodies of this bench hold no such bytes.
            while !buffer[..held].ends_with(b"0\r\n\r\n") {
                let kept = held.min(5);
                buffer.copy_within(held - kept..held, 0);
                held = kept;
                let read = stream
                    .read(&mut buffer[held..])
                    .await
                    .ok()
                    .filter(|read| *read > 0)?;
                held += read;
            }
            held = 0;
        }
        let had = body.min(held);
        buffer.copy_within(had..held, 0);
        held -= had;
        body -= had;
        while body > 0 {
            let room = body.min(buffer.len());
            body -= stream
                .read(&mut buffer[..room])
                .await
                .ok()
                .filter(|read| *read > 0)?;
        }
        if text.starts_with("GET /large") {
            stream.write_all(large.as_bytes()).await.ok()?;
            for _ in 0..LARGE / filler.len() {
                stream.write_all(&filler).await.ok()?;
            }
        } else {
            stream.write_all(small.as_bytes()).await.ok()?;
        }
    }
}
