//! Reads the PROXY protocol header, version 1 or 2, and no byte beyond it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// The first bytes of version 2. The first bytes of version 1 differ.
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest line of version 1, CRLF included.
const V1_MAX_LINE_BYTES: usize = 107;

/// The longest payload of version 2: addresses, and TLVs that are skipped.
const V2_MAX_PAYLOAD_BYTES: usize = 4096;

/// Returns the client's address; `None` if the balancer speaks for itself, or does not know.
///
/// # Errors
/// If there is no valid header.
pub(super) async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let mut begin = [0; V2_SIGNATURE.len()];
    stream.read_exact(&mut begin).await?;
    match &begin {
        V2_SIGNATURE => read_v2(stream).await,
        _ if begin.starts_with(b"PROXY ") => read_v1(stream, &begin).await,
        _ => Err(malformed_header("expected a PROXY protocol header")),
    }
}

/// `PROXY TCP4 192.0.2.1 192.0.2.2 40000 443\r\n`
async fn read_v1(stream: &mut (impl AsyncRead + Unpin), begin: &[u8]) -> io::Result<Option<IpAddr>> {
    let mut line = begin.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == V1_MAX_LINE_BYTES {
            return Err(malformed_header("the PROXY protocol line is longer than 107 bytes"));
        }
        line.push(stream.read_u8().await?);
    }
    let text = std::str::from_utf8(&line[..line.len() - 2])
        .map_err(|_| malformed_header("the PROXY protocol line is not UTF-8"))?;
    let mut words = text.split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Ok(None);
    }
    let (Some(source), Some(destination), Some(ports), None) =
        (words.next(), words.next(), words.next().zip(words.next()), words.next())
    else {
        return Err(malformed_header("the PROXY protocol line does not have 6 words"));
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    if !is_port(ports.0) || !is_port(ports.1) {
        return Err(malformed_header("a port of the PROXY protocol line is not a number up to 65535"));
    }
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            Some("TCP4") => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            Some("TCP6") => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    match (address(source), address(destination)) {
        (Some(source), Some(_)) => Ok(Some(source.to_canonical())),
        _ => Err(malformed_header("an address of the PROXY protocol line is not of its family")),
    }
}

async fn read_v2(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let (command, family) = (stream.read_u8().await?, stream.read_u8().await?);
    let length = usize::from(stream.read_u16().await?);
    if length > V2_MAX_PAYLOAD_BYTES {
        return Err(malformed_header("the PROXY protocol header is longer than 4096 bytes"));
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    let source = match (command, family) {
        // LOCAL: a health check.
        (0x20, _) => return Ok(None),
        // AF_UNSPEC or AF_UNIX.
        (0x21, 0x00 | 0x31 | 0x32) => return Ok(None),
        // TCP over IPv4 or IPv6: two addresses and two ports.
        (0x21, 0x11) if length >= 12 => leading_bytes::<4>(&rest).map(IpAddr::from),
        (0x21, 0x21) if length >= 36 => leading_bytes::<16>(&rest).map(IpAddr::from),
        _ => None,
    };
    source
        .map(|source| Some(source.to_canonical()))
        .ok_or_else(|| malformed_header("the PROXY protocol header has no readable addresses"))
}

fn leading_bytes<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.first_chunk().copied()
}

fn malformed_header(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: &[u8] = b"GET / HTTP/1.1\r\n";

    /// Reads `header`, and checks that no byte after it is read.
    async fn read_client(header: &[u8]) -> Option<Option<IpAddr>> {
        let bytes = [header, REST].concat();
        let mut stream = bytes.as_slice();
        let read = read_header(&mut stream).await.ok()?;
        assert_eq!(stream, REST, "{header:?}");
        Some(read)
    }

    fn v2(command: u8, family: u8, length: u16, rest: &[u8]) -> Vec<u8> {
        [&V2_SIGNATURE[..], &[command, family], &length.to_be_bytes(), rest].concat()
    }

    fn client(text: &str) -> Option<Option<IpAddr>> {
        Some(text.parse().ok())
    }

    #[tokio::test]
    async fn version_1_names_the_client() {
        assert_eq!(read_client(b"PROXY TCP4 192.0.2.1 10.0.0.1 40000 443\r\n").await, client("192.0.2.1"));
        assert_eq!(read_client(b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n").await, client("2001:db8::1"));
        assert_eq!(read_client(b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n").await, client("192.0.2.1"));
        assert_eq!(read_client(b"PROXY UNKNOWN\r\n").await, Some(None));
        assert_eq!(read_client(b"PROXY UNKNOWN ffff::1 whatever it says\r\n").await, Some(None));
    }

    #[tokio::test]
    async fn version_2_names_the_client() {
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0, 80, 1, 187];
        assert_eq!(read_client(&v2(0x21, 0x11, 12, &v4)).await, client("192.0.2.1"));
        let more = [&v4[..], b"\x04\0\x02xx"].concat();
        assert_eq!(read_client(&v2(0x21, 0x11, 17, &more)).await, client("192.0.2.1"));
        let mut v6 = [0; 36];
        (v6[0], v6[1], v6[15]) = (0x20, 0x01, 7);
        assert_eq!(read_client(&v2(0x21, 0x21, 36, &v6)).await, client("2001::7"));
        assert_eq!(read_client(&v2(0x20, 0x00, 0, b"")).await, Some(None));
        assert_eq!(read_client(&v2(0x20, 0x11, 12, &v4)).await, Some(None));
        assert_eq!(read_client(&v2(0x21, 0x00, 3, b"abc")).await, Some(None));
    }

    #[tokio::test]
    async fn what_is_malformed_is_refused() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
        for wrong in [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 40000\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 40000 443 1\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 40000 65536\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 +1 443\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::1 ::1 1 2\r\n".to_vec(),
            b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
            b"PROXY UDP4 192.0.2.1 10.0.0.1 1 2\r\n".to_vec(),
            b"PROXY TCP4  192.0.2.1 10.0.0.1 1 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 1 \xff\r\n".to_vec(),
            long.into_bytes(),
            v2(0x11, 0x11, 12, &[0; 12]),
            v2(0x22, 0x11, 12, &[0; 12]),
            v2(0x21, 0x12, 12, &[0; 12]),
            v2(0x21, 0x11, 11, &[0; 11]),
            v2(0x21, 0x21, 12, &[0; 12]),
            v2(0x21, 0x11, 4097, &[0; 4097]),
        ] {
            assert_eq!(read_client(&wrong).await, None, "{}", String::from_utf8_lossy(&wrong));
        }
        for cut in
            [&b""[..], b"PROXY TCP4", b"PROXY TCP4 192.0.2.1", &V2_SIGNATURE[..], &v2(0x21, 0x11, 12, b"xy")]
        {
            assert!(read_header(&mut &cut[..]).await.is_err());
        }
    }
}
