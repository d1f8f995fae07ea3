//! HTTP/1.1 messages (RFC 9112), read strictly: the bench must see what a lenient parser forgives.

use std::io::{self, Read};

/// Names and values, in order.
pub(crate) type Fields = Vec<(String, String)>;

/// A start line and its fields.
#[derive(Debug, Clone, Default)]
pub(crate) struct Head {
    /// Without its line end.
    pub(crate) start: String,
    /// In order, names as sent. Bytes above 0x7F are mapped one to one.
    pub(crate) fields: Vec<(String, String)>,
    /// What a strict reader would object to.
    pub(crate) flaws: Vec<String>,
}

impl Head {
    /// The first value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let found = self
            .fields
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Every value of a field.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    fn parse(bytes: &[u8]) -> Self {
        let mut head = Self::default();
        let text: String = bytes.iter().copied().map(char::from).collect();
        let Some(text) = text.strip_suffix("\r\n\r\n") else {
            head.flaws.push("the head does not end in CRLF CRLF".into());
            return head;
        };
        for (at, line) in text.split("\r\n").enumerate() {
            if line.contains(['\r', '\n', '\0']) {
                head.flaws.push(format!("bare CR, LF or NUL in {line:?}"));
            }
            if at == 0 {
                line.clone_into(&mut head.start);
                continue;
            }
            if line.starts_with([' ', '\t']) {
                head.flaws.push(format!("folded line {line:?}"));
            }
            let Some((name, value)) = line.split_once(':') else {
                head.flaws.push(format!("no colon in {line:?}"));
                continue;
            };
            let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            if name.is_empty() || !name.chars().all(token) {
                head.flaws.push(format!("field name {name:?}"));
            }
            head.fields
                .push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
        head
    }
}

/// How the length of a message's body is known (RFC 9112 s6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
    /// Until the connection closes (answers only).
    UntilClose,
}

/// A buffered reader of messages.
pub(crate) struct Reader<R> {
    io: R,
    buffer: Vec<u8>,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(io: R) -> Self {
        Self {
            io,
            buffer: Vec::new(),
        }
    }

    pub(crate) fn io(&mut self) -> &mut R {
        &mut self.io
    }

    /// What came and was not read as part of a message.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.buffer
    }

    /// Waits for more bytes; how many came. Zero is the end.
    pub(crate) fn fill(&mut self) -> io::Result<usize> {
        let mut piece = [0; 16 * 1024];
        loop {
            match self.io.read(&mut piece) {
                Ok(n) => {
                    self.buffer.extend_from_slice(&piece[..n]);
                    return Ok(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn need(&mut self) -> io::Result<()> {
        if self.fill()? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "closed within a message",
            ));
        }
        Ok(())
    }

    /// The next head; none where the peer closed before one began.
    pub(crate) fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let bytes: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return Ok(Some(Head::parse(&bytes)));
            }
            if self.buffer.len() > 1 << 20 {
                return Err(io::Error::other("a head of more than a megabyte"));
            }
            match self.fill() {
                Ok(0) if self.buffer.is_empty() => return Ok(None),
                Ok(0) => return Err(io::Error::other("closed within a head")),
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Exactly so many bytes.
    pub(crate) fn exact(&mut self, n: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < n {
            self.need()?;
        }
        Ok(self.buffer.drain(..n).collect())
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Ok(line[..end].iter().copied().map(char::from).collect());
            }
            self.need()?;
        }
    }

    /// The next chunk; empty at the end, when the trailers follow.
    pub(crate) fn chunk(&mut self) -> io::Result<Vec<u8>> {
        let line = self.line()?;
        let size = line.split(';').next().unwrap_or_default();
        if size.is_empty() || !size.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(io::Error::other(format!("chunk size {line:?}")));
        }
        let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
        if size == 0 {
            return Ok(Vec::new());
        }
        let data = self.exact(size)?;
        if self.exact(2)? != b"\r\n" {
            return Err(io::Error::other("no CRLF after a chunk"));
        }
        Ok(data)
    }

    /// The trailer section, after the last chunk.
    pub(crate) fn trailers(&mut self) -> io::Result<Fields> {
        let mut trailers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(trailers);
            }
            let Some((name, value)) = line.split_once(':') else {
                return Err(io::Error::other(format!("trailer {line:?}")));
            };
            trailers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// A body as a whole, with its trailers.
    pub(crate) fn body(&mut self, framing: Framing) -> io::Result<(Vec<u8>, Fields)> {
        match framing {
            Framing::None => Ok((Vec::new(), Vec::new())),
            Framing::Length(n) => {
                let n = usize::try_from(n).map_err(io::Error::other)?;
                Ok((self.exact(n)?, Vec::new()))
            }
            Framing::Chunked => {
                let mut body = Vec::new();
                loop {
                    let piece = self.chunk()?;
                    if piece.is_empty() {
                        return Ok((body, self.trailers()?));
                    }
                    body.extend_from_slice(&piece);
                }
            }
            Framing::UntilClose => loop {
                match self.fill() {
                    Ok(0) => return Ok((std::mem::take(&mut self.buffer), Vec::new())),
                    Ok(_) => {}
                    Err(error) => return Err(error),
                }
            },
        }
    }
}

/// How the body of a request is framed; what is wrong with it goes into `flaws`.
pub(crate) fn request_framing(head: &mut Head) -> Framing {
    let lengths: Vec<String> = head.all("content-length").map(str::to_owned).collect();
    let codings: Vec<String> = head.all("transfer-encoding").map(str::to_owned).collect();
    if lengths.len() + codings.len() > 1 {
        let flaw = format!("Content-Length {lengths:?} with Transfer-Encoding {codings:?}");
        head.flaws.push(flaw);
    }
    if let Some(coding) = codings.first() {
        if coding != "chunked" {
            head.flaws.push(format!("Transfer-Encoding {coding:?}"));
        }
        return Framing::Chunked;
    }
    match lengths.first() {
        None => Framing::None,
        Some(text) => {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            match text.parse() {
                Ok(n) if digits => Framing::Length(n),
                _ => {
                    head.flaws.push(format!("Content-Length {text:?}"));
                    Framing::None
                }
            }
        }
    }
}

/// How the body of an answer is framed.
pub(crate) fn answer_framing(head: &Head, status: u16, method: &str) -> Framing {
    if method == "HEAD" || status < 200 || status == 204 || status == 304 {
        return Framing::None;
    }
    if head.field("transfer-encoding").is_some() {
        return Framing::Chunked;
    }
    match head.field("content-length") {
        Some(text) => text.parse().map_or(Framing::UntilClose, Framing::Length),
        None => Framing::UntilClose,
    }
}

/// Where `needle` begins.
pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}
