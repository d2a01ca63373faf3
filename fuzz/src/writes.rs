//! Write requests made from bytes, and what it costs to name their targets.
//!
//! Every three bytes are one part of the request: its kind, its size, and a choice. So a search that changes bytes finds
//! the requests that cost most.

use std::fmt::Write as _;
use std::sync::OnceLock;

use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use larder::config::Config;
use larder::policy::RequestHead;
use larder::policy::content::Content;
use larder::policy::invalidation::{RelatedPaths, WriteExchange, WritePlan};
use larder::policy::routes::Routes;
use larder::policy::write_outcome::WriteOutcome;

/// Routes whose templates read everything that a client can send.
pub const ROUTES: &str = "
routes:
  - {path: \"/api/id/{id}\", ttl: 1h, query: all, tags: [\"t:{id}:{query.x}\", \"u:{query.x}{query.y}\", \"h:{header.x-h}\", \"c:{cookie.c}\", \"s:{jwt.sub}\"]}
  - {path: \"/api/ID/{id}/\", ttl: 1h, tags: [\"t:{id}:{query.x}\", \"c:{cookie.c}\"]}
  - {path: \"/{id}/{x}/{y}\", ttl: 1h, tags: [\"p:{id}:{x}:{y}\"]}
  - path: /api/many/{id}
    purges: [\"n:{request.json:$[*]}\", \"q:{query.x}\"]
";

/// Targets of one write: 64 tags by values, and the few that the routes and the readings of the path add.
pub const MAX_TARGETS: usize = 64 + 32;

/// The bound on a write's head and the one on the rest of its exchange, in steps.
pub const MAX_STEPS: usize = 2 * 4096;

/// A request within the default of `limits.header_bytes`.
const MAX_HEAD_BYTES: usize = 28 * 1024;
const HEADER_LINE: HeaderName = HeaderName::from_static("x-h");

/// A write request.
#[derive(Clone, Debug, Default)]
pub struct GeneratedWrite {
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub json: String,
    location: Option<HeaderValue>,
}

/// The cost of one write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteCost {
    /// The targets of its purge, which are the records that it leaves.
    pub targets: usize,
    pub steps: usize,
}

impl WriteCost {
    /// A target costs Redis and every replica about as much as 50 steps cost this one.
    pub fn score(self) -> usize {
        50 * self.targets + self.steps
    }
}

/// No request names more targets, or takes more steps, than the bounds.
pub fn writes(data: &[u8]) {
    let cost = GeneratedWrite::from_bytes(data, 0).cost();
    assert!(cost.targets <= MAX_TARGETS && cost.steps <= MAX_STEPS, "{cost:?} of {data:?}");
}

impl GeneratedWrite {
    /// `number` makes the values of one request differ from those of another.
    pub fn from_bytes(data: &[u8], number: usize) -> Self {
        let mut write = Self { path: format!("/api/id/{number}"), ..Self::default() };
        for part in data.chunks_exact(3).take(8) {
            let (kind, choice) = (part[0] % 10, usize::from(part[2]));
            // Sizes from 0 to 8,128, small ones as often as large ones.
            write.add_part(kind, usize::from(part[1]).pow(2) / 8, choice, number);
        }
        let room = MAX_HEAD_BYTES.saturating_sub(write.head_bytes());
        write.query.truncate(room);
        write
    }

    fn add_part(&mut self, kind: u8, size: usize, choice: usize, number: usize) {
        let values = |names: &[&str]| {
            let mut query = String::new();
            for value in 0..size {
                for name in names {
                    let _ = write!(query, "{name}={number}.{}&", value % (1 << (choice % 14)));
                }
            }
            query
        };
        match kind {
            0 => self.path = format!("/{}", "a/".repeat(size)),
            1 => {
                self.path =
                    format!("/api/id/{}{number}", ["%25", "%2f", "%2561", ";", "A"][choice % 5].repeat(size))
            }
            2 => self.path = format!("/{}api/id/{number}", ["a/../", "./", "/"][choice % 3].repeat(size)),
            3 => {
                self.path = [format!("/API/ID/{number}/"), format!("/api/many/{number}")][choice % 2].clone()
            }
            4 => self.query += &values(&["x"]),
            5 => self.query += &values(&["x", "y"]),
            6 => self.add_field(COOKIE, (0..size).map(|value| format!("c={number}.{value};")).collect()),
            7 => (0..size % 90).for_each(|line| {
                self.add_field(HEADER_LINE, format!("{number}.{line}{}", "h".repeat(choice)))
            }),
            8 => self.add_field(AUTHORIZATION, format!("Bearer a.{}.c", "e30".repeat(size))),
            _ => {
                let ids = (0..size * 4).map(|id| format!("{number}{id}")).collect::<Vec<_>>();
                self.json = format!("[{}]", ids.join(","));
                self.location = HeaderValue::try_from(format!("/api/id/{choice}")).ok();
            }
        }
        self.path.truncate(MAX_HEAD_BYTES / 2);
    }

    fn add_field(&mut self, name: HeaderName, value: String) {
        if self.head_bytes() + value.len() <= MAX_HEAD_BYTES
            && let Ok(value) = HeaderValue::try_from(value)
        {
            self.headers.append(name, value);
        }
    }

    fn head_bytes(&self) -> usize {
        let fields: usize =
            self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        self.path.len() + self.query.len() + fields
    }

    pub fn cost(&self) -> WriteCost {
        static PARSED: OnceLock<Routes> = OnceLock::new();
        let routes = PARSED.get_or_init(|| {
            let yaml = format!("upstream: http://127.0.0.1:1{ROUTES}");
            let config = Config::parse(&yaml, "proxy.yaml", &|_| None, &Default::default());
            Routes::new(&config.unwrap_or_else(|error| panic!("{error}")).routes)
        });
        let query = Some(&*self.query).filter(|query| !query.is_empty());
        let request =
            RequestHead { host: "a", query, ..RequestHead::new(&Method::POST, &self.path, &self.headers) };
        let plan = WritePlan::new(routes, &request, RelatedPaths::default());
        let mut answered = HeaderMap::new();
        answered.extend(self.location.clone().map(|location| (LOCATION, location)));
        let is_json = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let content = Content::parse_request(&is_json, self.json.as_bytes(), 1 << 20).ok();
        let exchange = WriteExchange {
            request_content: content.as_ref(),
            response_headers: Some(&answered),
            response_content: None,
            ..WriteExchange::default()
        };
        let (_, found) = plan.finish(&request, plan.head_targets(&request), WriteOutcome::Purge, &exchange);
        WriteCost { targets: found.targets.len(), steps: found.steps }
    }

    /// The request as it goes over an HTTP/1.1 connection.
    pub fn to_http1(&self) -> Vec<u8> {
        let mut head = format!("POST {}?{} HTTP/1.1\r\nHost: a\r\n", self.path, self.query);
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
        }
        let _ = write!(
            head,
            "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
            self.json.len(),
            self.json
        );
        head.into_bytes()
    }
}
