//! A whole reply, and what it says of how it came to be (RFC 9211).

use std::fmt;

use bytes::Bytes;
use http::HeaderMap;

#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl Reply {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {self}"))
    }

    /// The values of a field, joined; `None` if it is not there.
    pub fn header(&self, name: &str) -> Option<String> {
        let values = self.headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes()));
        let values: Vec<_> = values.collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// A parameter of larder's member in `Cache-Status`; an empty string for one that has no value.
    pub fn cache_status(&self, parameter: &str) -> Option<String> {
        let field = self.header("cache-status")?;
        let member = field.split(',').map(str::trim).find(|member| member.starts_with("larder"))?;
        let mut parameters = member.split(';').skip(1).map(str::trim);
        parameters.find_map(|p| match p.split_once('=') {
            Some((name, value)) if name == parameter => Some(value.trim_matches('"').to_owned()),
            None if p == parameter => Some(String::new()),
            _ => None,
        })
    }

    pub fn is_hit(&self) -> bool {
        self.cache_status("hit").is_some()
    }

    /// The remaining lifetime in `Cache-Status`: 23 for `hit; ttl=23`.
    pub fn remaining_ttl(&self) -> i64 {
        let ttl = self.cache_status("ttl").unwrap_or_else(|| panic!("no ttl: {self}"));
        ttl.parse().unwrap_or_else(|_| panic!("no number: {self}"))
    }

    #[track_caller]
    pub fn assert_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self}");
        self
    }

    #[track_caller]
    pub fn assert_text(self, text: &str) -> Self {
        assert_eq!(String::from_utf8_lossy(&self.body), text, "{self}");
        self
    }

    #[track_caller]
    pub fn assert_hit(self) -> Self {
        assert!(self.is_hit(), "not a hit: {self}");
        assert_eq!(self.cache_status("fwd"), None, "both hit and fwd: {self}");
        self
    }

    /// It went forward, for this reason of RFC 9211.
    #[track_caller]
    pub fn assert_fwd(self, fwd: &str) -> Self {
        assert_eq!(self.cache_status("fwd").as_deref(), Some(fwd), "{self}");
        assert!(!self.is_hit(), "both hit and fwd: {self}");
        self
    }

    /// It went forward since nothing was stored for its URI, and was stored.
    #[track_caller]
    pub fn assert_stored(self) -> Self {
        assert!(self.cache_status("stored").is_some(), "not stored: {self}");
        self
    }

    /// It was not stored, and `Cache-Status` says why.
    #[track_caller]
    pub fn assert_not_stored(self, why: &str) -> Self {
        assert!(self.cache_status("stored").is_none(), "stored: {self}");
        self.assert_detail(why)
    }

    #[track_caller]
    pub fn assert_detail_begins(self, start: &str) -> Self {
        let detail = self.cache_status("detail").unwrap_or_default();
        assert!(detail.starts_with(start), "{self}");
        self
    }

    #[track_caller]
    pub fn assert_detail(self, detail: &str) -> Self {
        assert_eq!(self.cache_status("detail").as_deref(), Some(detail), "{self}");
        self
    }

    /// A field is there with this value, or is not there.
    #[track_caller]
    pub fn assert_header<'v>(self, name: &str, value: impl Into<Option<&'v str>>) -> Self {
        assert_eq!(self.header(name).as_deref(), value.into(), "{name}: {self}");
        self
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.status)?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {}", String::from_utf8_lossy(value.as_bytes()))?;
        }
        write!(f, "\n{}", String::from_utf8_lossy(&self.body[..self.body.len().min(500)]))
    }
}

/// The content of a reply, chunked (of the fetch) or with its length (of what is stored).
pub fn content(reply: &[u8]) -> Vec<u8> {
    let end = reply.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    let (head, mut rest) = reply.split_at(end);
    if !String::from_utf8_lossy(head).to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return rest.to_vec();
    }
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n").expect("a chunk's size");
        let size =
            std::str::from_utf8(&rest[..line]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.expect("a chunk's size");
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 2 + size + 2..];
    }
}
