//! Cost of naming the targets of a write: an ordinary one, and the worst requests that fit into `limits.header_bytes`
//! and a route's `max_json`.

use std::hint::black_box;

use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue};
use larder::config::Config;
use larder::policy::RequestHead;
use larder::policy::content::Content;
use larder::policy::invalidation::{RelatedPaths, WriteExchange, WritePlan};
use larder::policy::routes::Routes;
use larder::policy::write_outcome::WriteOutcome;

use crate::{Failure, timed};

const ROUTES: &str = "
upstream: http://127.0.0.1:3000
routes:
  - path: /courses/{id}
    ttl: 60s
    tags: [courses, \"course:{id}\"]
  - path: /courses/{id}/enroll
    purges: [courses, \"course:{id}\", \"progress:{jwt.sub}\"]
  - path: /orders/{id}
    ttl: 60s
    query: all
    tags: [\"t:{id}:{query.x}\", \"u:{query.x}{query.y}\", \"h:{header.x-h}\", \"c:{cookie.c}\", \"s:{jwt.sub}\"]
  - path: /import
    max_json: 1MiB
    purges: [\"n:{request.json:$[*].id}\", \"m:{request.json:$[*].name}\", \"all:{request.json:/id}\"]
";

pub fn measure() -> Result<(), Failure> {
    let config = Config::parse(ROUTES, "proxy.yaml", &|_| None, &Default::default())?;
    let routes = Routes::new(&config.routes);
    let list = |count: usize, part: &dyn Fn(usize) -> String, by: &str| {
        (0..count).map(part).collect::<Vec<_>>().join(by)
    };
    let (distinct, same) = (list(3500, &|n| format!("x={n}"), "&"), list(8000, &|_| "x=1".into(), "&"));
    let both = list(1500, &|n| format!("x={n}&y={n}"), "&");
    let token = "Bearer e.eyJzdWIiOiJ1NyJ9.s".to_owned();
    let long_token = format!("Bearer a.{}.c", "e30".repeat(2600));
    let cookies = list(9000, &|_| "c=".into(), ";");
    println!("{:>32} {:>8} {:>8} {:>14}", "write", "targets", "steps", "a write");
    for (name, path, query, field) in [
        ("enrol", "/courses/7/enroll".to_owned(), "", Some((AUTHORIZATION, token))),
        ("3,500 values", "/orders/1".into(), &*distinct, None),
        ("8,000 equal values", "/orders/1".into(), &*same, None),
        ("1,500 pairs of values", "/orders/1".into(), &*both, None),
        ("9,000 cookies", "/orders/1".into(), "", Some((COOKIE, cookies))),
        ("a token of 8 KiB", "/orders/1".into(), "", Some((AUTHORIZATION, long_token))),
        ("15,000 segments", format!("/{}", "a/".repeat(15_000)), "", None),
        ("a parameter of 27 KiB", format!("/orders/{}", "%25".repeat(9000)), "", None),
        ("6,000 dot segments", format!("/{}orders/1", "a/../".repeat(6000)), "", None),
    ] {
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = field {
            headers.insert::<HeaderName>(name, HeaderValue::try_from(value)?);
        }
        let query = Some(query).filter(|query| !query.is_empty());
        let request =
            RequestHead { host: "api.test", query, ..RequestHead::new(&Method::POST, &path, &headers) };
        let found = WritePlan::new(&routes, &request, RelatedPaths::default()).head_targets(&request);
        let time = timed(|| {
            let found =
                WritePlan::new(&routes, black_box(&request), RelatedPaths::default()).head_targets(&request);
            found.targets.iter().for_each(|target| _ = black_box(target.id()));
        });
        let micros = time.as_secs_f64() * 1e6;
        println!("{name:>32} {:>8} {:>8} {micros:>11.1} µs", found.targets.len(), found.steps);
    }
    measure_contents(&routes)
}

/// Parsing is measured by `content`, and is done on a thread of its own.
fn measure_contents(routes: &Routes) -> Result<(), Failure> {
    let list = |count: usize, item: &dyn Fn(usize) -> String| {
        format!("[{}]", (0..count).map(item).collect::<Vec<_>>().join(","))
    };
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    for (name, text) in [
        ("50 items", list(50, &|n| format!("{{\"id\":{n},\"name\":\"n{n}\"}}"))),
        ("1 MiB of items", list(40_000, &|n| format!("{{\"id\":{n},\"name\":\"{n}\"}}"))),
        ("1 MiB of numbers", list(150_000, &|n| n.to_string())),
        ("1 MiB of one name", list(1, &|_| format!("{{\"id\":\"{}\"}}", "x".repeat(1_000_000)))),
    ] {
        let content = Content::parse_request(&headers, text.as_bytes(), 1 << 20).map_err(|_| name)?;
        let exchange = WriteExchange { request_content: Some(&content), ..WriteExchange::default() };
        let request =
            RequestHead { host: "api.test", ..RequestHead::new(&Method::POST, "/import", &headers) };
        let find = || {
            let plan = WritePlan::new(routes, black_box(&request), RelatedPaths::default());
            plan.finish(&request, plan.head_targets(&request), WriteOutcome::Purge, &exchange).1
        };
        let found = find();
        let time = timed(|| find().targets.iter().for_each(|target| _ = black_box(target.id())));
        let micros = time.as_secs_f64() * 1e6;
        println!("{name:>32} {:>8} {:>8} {micros:>11.1} µs", found.targets.len(), found.steps);
    }
    Ok(())
}
