//! HTTP/1.1 requests, byte by byte: the table.

/// A case: its name, its bytes, and what may come back. In the bytes `|` is CRLF, `{H}` a sound
/// Host and Authorization and the name of the case, `{T}` a sound token, `{N}` the name.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) bytes: &'static str,
    /// Statuses of the first answer; 0 is a close without one.
    pub(super) expected: &'static [u16],
}

const fn case(name: &'static str, bytes: &'static str, expected: &'static [u16]) -> Case {
    Case {
        name,
        bytes,
        expected,
    }
}

/// A second request that must never be taken as one.
macro_rules! smuggled {
    () => {
        "GET /public/smuggled HTTP/1.1|Host: api.bank.test|X-Smuggled: 1||"
    };
}

#[rustfmt::skip]
pub(super) const FRAMING: &[Case] = &[
    // HTTP-03
    case("CL and TE", "POST /accounts/1 HTTP/1.1|{H}Content-Length: 5|Transfer-Encoding: chunked||5|hello|0||", &[400, 200]),
    case("TE and CL", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding: chunked|Content-Length: 5||5|hello|0||", &[400, 200]),
    case("CL.TE smuggling", concat!("POST /accounts/1 HTTP/1.1|{H}Content-Length: 6|Transfer-Encoding: chunked||0||", smuggled!()), &[400, 200]),
    case("TE.CL smuggling", concat!("POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding: chunked|Content-Length: 4||0||", smuggled!()), &[400, 200]),
    case("CL 0 and TE", concat!("POST /accounts/1 HTTP/1.1|{H}Content-Length: 0|Transfer-Encoding: chunked||0||", smuggled!()), &[400, 200]),
    // HTTP-04
    case("CL twice, equal", "POST /accounts/1 HTTP/1.1|{H}Content-Length: 5|Content-Length: 5||hello", &[400, 200]),
    case("CL twice, differing", "POST /accounts/1 HTTP/1.1|{H}Content-Length: 5|Content-Length: 6||hello!", &[400]),
    case("CL a list", "POST /accounts/1 HTTP/1.1|{H}Content-Length: 2, 2||he", &[400]),
    case("CL a list, differing", "POST /accounts/1 HTTP/1.1|{H}Content-Length: 2, 3||he", &[400]),
    case("CL with plus", "POST /accounts/1 HTTP/1.1|{H}Content-Length: +2||he", &[400]),
    case("CL hexadecimal", "POST /accounts/1 HTTP/1.1|{H}Content-Length: 0x2||he", &[400]),
    case("CL empty", "POST /accounts/1 HTTP/1.1|{H}Content-Length: ||", &[400]),
    case("CL negative", "POST /accounts/1 HTTP/1.1|{H}Content-Length: -1||", &[400]),
    case("CL with leading zero", "POST /accounts/1 HTTP/1.1|{H}Content-Length: 02||he", &[400, 200]),
    case("CL overflows", "POST /accounts/1 HTTP/1.1|{H}Content-Length: 18446744073709551618||he", &[400]),
    case("CL two numbers", "POST /accounts/1 HTTP/1.1|{H}Content-Length: 2 2||he", &[400]),
    case("CL above the limit", "POST /accounts/1 HTTP/1.1|{H}Content-Length: 99999999999||", &[413]),
    case("CL with a letter", "POST /accounts/1 HTTP/1.1|{H}Content-Length: 2a||he", &[400]),
    // HTTP-05
    case("TE unknown", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding: xchunked||0||", &[400, 501]),
    case("TE identity last", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding: chunked, identity||0||", &[400, 501]),
    case("TE identity", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding: identity||0||", &[400, 501]),
    case("TE after a vertical tab", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding: \x0bchunked||0||", &[400, 501]),
    case("TE gzip, chunked", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding: gzip, chunked||0||", &[400, 501]),
    case("TE chunked, chunked", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding: chunked, chunked||0||", &[400, 501]),
    case("TE twice, other first", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding: identity|Transfer-Encoding: chunked||0||", &[400, 501]),
    case("TE twice", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding: chunked|Transfer-Encoding: chunked||0||", &[400, 501]),
    case("TE empty", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding: ||0||", &[400, 501]),
    case("TE with a parameter", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding: chunked;q=1||0||", &[400, 501]),
    case("TE in HTTP/1.0", concat!("POST /accounts/1 HTTP/1.0|{H}Transfer-Encoding: chunked||0||", smuggled!()), &[400]),
    case("TE after a tab", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding:\tchunked||0||", &[400, 200]),
    case("TE in capitals", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding: CHUNKED||0||", &[400, 200]),
    case("TE with a space before the colon", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding : chunked||0||", &[400]),
    case("TE with an underscore", "POST /accounts/1 HTTP/1.1|{H}Transfer_Encoding: chunked|Content-Length: 5||hello", &[200, 400]),
    case("CL with an underscore", "POST /accounts/1 HTTP/1.1|{H}Content_Length: 99|Content-Length: 5||hello", &[200, 400]),
    case("TE on a folded line", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding:| chunked||0||", &[400]),
    // Chunks
    case("chunk with bare LF", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding: chunked||5\nhello|0||", &[400]),
    case("chunk of 0x2", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding: chunked||0x2|he|0||", &[400]),
    case("chunk after a space", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding: chunked|| 5|hello|0||", &[400]),
    case("chunk that overflows", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding: chunked||10000000000000005|hello|0||", &[400, 413]),
    case("chunk with LF after its data", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding: chunked||5|hello\n0||", &[400]),
    case("chunk longer than it says", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding: chunked||3|hello|0||", &[400]),
    case("chunk with minus", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding: chunked||-5|hello|0||", &[400]),
    case("chunk without a size", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding: chunked|||hello|0||", &[400]),
    case("chunk of hexadecimal", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding: chunked||A|0123456789|0||", &[200]),
    case("chunk with extension", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding: chunked||5;a=b|hello|0||", &[200]),
    case("chunk with a space after its size", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding: chunked||5 |hello|0||", &[200, 400]),
    case("chunk above the limit", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding: chunked||ffffffff|hello", &[413, 400, 408]),
    case("trailer that frames", concat!("POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding: chunked|Trailer: content-length||0|Content-Length: 50||", ""), &[200, 400]),
    case("trailer that is broken", "POST /accounts/1 HTTP/1.1|{H}Transfer-Encoding: chunked||0|no colon here||", &[400, 200]),
    case("a body of GET", concat!("GET /accounts/1 HTTP/1.1|{H}Content-Length: 65||", smuggled!()), &[200, 400]),
    case("no length, bytes after", concat!("POST /accounts/1 HTTP/1.1|{H}|", "BAD REQUEST LINE||"), &[200]),
];

#[rustfmt::skip]
pub(super) const HEADS: &[Case] = &[
    // HTTP-06
    case("space before the first field", "GET /accounts/1 HTTP/1.1| X: y|{H}|", &[400]),
    case("folded value", "GET /accounts/1 HTTP/1.1|{H}X-A: b| c||", &[400]),
    case("space before a colon", "GET /accounts/1 HTTP/1.1|{H}X-A : b||", &[400]),
    case("bare CR in a value", "GET /accounts/1 HTTP/1.1|{H}X-A: b\rc||", &[400]),
    case("NUL in a value", "GET /accounts/1 HTTP/1.1|{H}X-A: b\0c||", &[400]),
    case("control character in a value", "GET /accounts/1 HTTP/1.1|{H}X-A: b\x01c||", &[400]),
    case("DEL in a value", "GET /accounts/1 HTTP/1.1|{H}X-A: b\x7fc||", &[400]),
    case("no name", "GET /accounts/1 HTTP/1.1|{H}: b||", &[400]),
    case("no colon", "GET /accounts/1 HTTP/1.1|{H}X-A||", &[400]),
    case("bracket in a name", "GET /accounts/1 HTTP/1.1|{H}X[A]: b||", &[400]),
    case("NUL in a name", "GET /accounts/1 HTTP/1.1|{H}X\0A: b||", &[400]),
    case("high bytes in a name", "GET /accounts/1 HTTP/1.1|{H}X\u{e9}: b||", &[400]),
    case("high bytes in a value", "GET /accounts/1 HTTP/1.1|{H}X-A: \u{e9}||", &[200, 400]),
    case("bare LF throughout", "GET /accounts/1 HTTP/1.1\nHost: api.bank.test\nAuthorization: Bearer {T}\nX-Case: {N}\n\n", &[200, 400]),
    case("one bare LF", "GET /accounts/1 HTTP/1.1|{H}X-A: b\nX-B: c||", &[200, 400]),
    // HTTP-07
    case("no Host", "GET /accounts/1 HTTP/1.1|Authorization: Bearer {T}||", &[400]),
    case("no Host, absolute form", "GET https://api.bank.test/accounts/1 HTTP/1.1|Authorization: Bearer {T}|X-Case: {N}||", &[400, 200]),
    case("two Hosts", "GET /accounts/1 HTTP/1.1|{H}Host: evil.example||", &[400]),
    case("two equal Hosts", "GET /accounts/1 HTTP/1.1|{H}Host: api.bank.test||", &[400]),
    case("a list in Host", "GET /accounts/1 HTTP/1.1|Host: api.bank.test, b|Authorization: Bearer {T}||", &[400, 421]),
    case("Host empty", "GET /accounts/1 HTTP/1.1|Host: |Authorization: Bearer {T}||", &[400, 421]),
    case("Host with user", "GET /accounts/1 HTTP/1.1|Host: u@api.bank.test|Authorization: Bearer {T}||", &[400, 421]),
    case("Host with path", "GET /accounts/1 HTTP/1.1|Host: api.bank.test/x|Authorization: Bearer {T}||", &[400, 421]),
    case("Host with a bad port", "GET /accounts/1 HTTP/1.1|Host: api.bank.test:x|Authorization: Bearer {T}||", &[400, 421]),
    case("Host with another port", "GET /accounts/1 HTTP/1.1|Host: api.bank.test:1|Authorization: Bearer {T}||", &[400, 421]),
    case("absolute form, other Host", "GET https://evil.example/accounts/1 HTTP/1.1|{H}|", &[400, 421]),
    case("absolute form, other in Host", "GET https://api.bank.test/accounts/1 HTTP/1.1|Host: evil.example|Authorization: Bearer {T}||", &[400, 421]),
    case("absolute form", "GET https://api.bank.test/accounts/1 HTTP/1.1|{H}|", &[200]),
    case("absolute form with user", "GET https://u:p@api.bank.test/accounts/1 HTTP/1.1|{H}|", &[400, 421]),
    case("absolute form, other scheme", "GET ftp://api.bank.test/accounts/1 HTTP/1.1|{H}|", &[400, 421]),
    // Targets
    case("fragment", "GET /accounts/1#frag HTTP/1.1|{H}|", &[400, 200]),
    case("backslash", "GET /public\\..\\accounts/1 HTTP/1.1|{H}|", &[400]),
    case("raw UTF-8", "GET /public/\u{e9} HTTP/1.1|{H}|", &[400]),
    case("two slashes", "GET //public/x HTTP/1.1|{H}|", &[400]),
    case("dot segments", "GET /public/../accounts/1 HTTP/1.1|{H}|", &[400]),
    case("dot segments, encoded", "GET /public/%2e%2e/accounts/1 HTTP/1.1|{H}|", &[400]),
    case("slash, encoded", "GET /public%2Fx HTTP/1.1|{H}|", &[400]),
    case("path parameter", "GET /public/..;/x HTTP/1.1|{H}|", &[400]),
    case("NUL, encoded", "GET /public/%00 HTTP/1.1|{H}|", &[400]),
    case("NUL", "GET /public/\0 HTTP/1.1|{H}|", &[400]),
    case("space", "GET /public/a b HTTP/1.1|{H}|", &[400]),
    case("quotes", "GET /public/\"a\" HTTP/1.1|{H}|", &[400]),
    case("angle brackets", "GET /public/<a> HTTP/1.1|{H}|", &[400]),
    case("relative", "GET public/a HTTP/1.1|{H}|", &[400]),
    case("empty", "GET  HTTP/1.1|{H}|", &[400]),
    case("two spaces", "GET  /public/a  HTTP/1.1|{H}|", &[400]),
    case("tab", "GET\t/public/a\tHTTP/1.1|{H}|", &[400]),
    case("HTTP/1.2", "GET /public/a HTTP/1.2|{H}|", &[400, 505]),
    case("HTTP/2.0", "GET /public/a HTTP/2.0|{H}|", &[400, 505]),
    case("HTTP/0.9", "GET /public/a|", &[400, 505, 0]),
    case("lower-case version", "GET /public/a http/1.1|{H}|", &[400, 505]),
    case("HTTP/1.0", "GET /accounts/1 HTTP/1.0|{H}|", &[200, 400, 505]),
    case("preface of HTTP/2", "PRI * HTTP/2.0||SM||", &[400, 505, 0]),
    // Methods
    case("lower-case method", "get /accounts/1 HTTP/1.1|{H}|", &[405, 400]),
    case("odd method", "X!#$y /accounts/1 HTTP/1.1|{H}|", &[405, 400]),
    case("CONNECT", "CONNECT api.bank.test:443 HTTP/1.1|{H}|", &[400, 404, 405, 421]),
    case("CONNECT with a path", "CONNECT /accounts/1 HTTP/1.1|{H}|", &[400, 404, 405, 421]),
    case("TRACE", "TRACE /accounts/1 HTTP/1.1|{H}|", &[405]),
    case("OPTIONS *", "OPTIONS * HTTP/1.1|{H}|", &[400, 404, 405]),
    case("GET *", "GET * HTTP/1.1|{H}|", &[400, 404]),
    case("CRLF in front", "||GET /accounts/1 HTTP/1.1|{H}|", &[200, 400]),
    case("LF in front", "\nGET /accounts/1 HTTP/1.1|{H}|", &[200, 400]),
    // Fields that are judged
    case("Connection names authorization", "GET /accounts/1 HTTP/1.1|{H}Connection: close, authorization||", &[200]),
    case("Upgrade h2c", "GET /accounts/1 HTTP/1.1|{H}Connection: Upgrade, HTTP2-Settings|Upgrade: h2c|HTTP2-Settings: AAMAAABk||", &[200]),
    case("Authorization twice", "GET /accounts/1 HTTP/1.1|{H}Authorization: Bearer {T}||", &[400]),
    case("bytes after an upgrade", concat!("GET /accounts/1 HTTP/1.1|{H}Connection: Upgrade|Upgrade: websocket|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: AA==||", "GET /public/pipelined HTTP/1.1|Host: api.bank.test|X-Case: {N}||"), &[200, 400]),
    case("bad escape", "GET /public/%zz HTTP/1.1|{H}|", &[400]),
    case("escape of a letter", "GET /public/%61 HTTP/1.1|{H}|", &[400]),
];
