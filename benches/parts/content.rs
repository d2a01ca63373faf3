//! Cost of reading a response's content for its tags and expiry. Paid once for each stored response, off the clients'
//! path.

use std::hint::black_box;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};
use larder::clock::Timestamp;
use larder::config::Config;
use larder::policy::content::Content;
use larder::policy::lifetime_limits::limit_lifetime;
use larder::policy::response_tags::response_tags;
use larder::policy::{CacheKey, RequestHead, Route};
use larder::purge::{NormalizedPath, Target};

use crate::{Failure, fresh, timed};

const ROUTES: &str = "
upstream: http://127.0.0.1:3000
routes:
  - path: /lists/{id}
    ttl: 60s
    max_json: 16MiB
    ttl_from: {json: $.expires_at}
    tags: [\"list:{id}\", \"product:{response.json:$.items[*].id}\"]
";

/// Number of products in a list, and bytes of each.
const LISTS: [(usize, usize); 5] = [(5, 200), (100, 300), (100, 10_000), (500, 2_000), (500, 20_000)];

const NOW: Timestamp = Timestamp::from_secs(1_763_640_000);

pub fn measure() -> Result<(), Failure> {
    let config = Config::parse(ROUTES, "proxy.yaml", &|_| None, &Default::default())?;
    let route = config.routes.first().ok_or("no route")?;
    println!("{:>12} {:>6} {:>14} {:>10}", "bytes", "tags", "a response", "MiB/s");
    for (products, size) in LISTS {
        let body = list(products, size);
        let count = one(route, &body).ok_or("a list without tags")?;
        let time = timed(|| {
            black_box(one(route, &body));
        });
        let rate = body.len() as f64 / time.as_secs_f64() / f64::from(1 << 20);
        println!("{:>12} {count:>6} {:>11.1} µs {rate:>10.0}", body.len(), time.as_secs_f64() * 1e6);
    }
    Ok(())
}

/// A list as text with escapes in it, as APIs send it.
fn list(products: usize, size: usize) -> Vec<u8> {
    let text: String =
        "a \\\"quoted\\\" word, 1 \\u20ac; ".chars().cycle().take(size.saturating_sub(60)).collect();
    let text =
        text.trim_end_matches(|letter: char| letter == '\\' || letter.is_ascii_hexdigit() || letter == 'u');
    let items: Vec<String> = (0..products)
        .map(|id| format!("{{\"id\": {id}, \"name\": \"n{id}\", \"price\": 9.5, \"text\": \"{text}\"}}"))
        .collect();
    format!("{{\"expires_at\": {}, \"items\": [{}]}}", NOW.as_secs() + 3600, items.join(",")).into_bytes()
}

/// Does everything that precedes storing, and returns the number of tags.
fn one(route: &Route, body: &[u8]) -> Option<usize> {
    let headers =
        HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    let request = RequestHead { host: "api.test", ..RequestHead::new(&Method::GET, "/lists/7", &headers) };
    let content = Content::parse_response(&headers, black_box(body), 1 << 20).ok()?;
    let tags = response_tags(route, &request, &headers, Some(&content)).ok()?;
    let terms = fresh(NOW, Duration::from_secs(60));
    let terms = limit_lifetime(route, &CacheKey([7; 32]), terms, &headers, Some(&content)).ok()?;
    let path = NormalizedPath::new("/lists/7");
    black_box((terms, Target::ids_for_response("api.test", &path, "", tags.iter().map(String::as_str))));
    Some(tags.len())
}
