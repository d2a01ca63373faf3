//! Cost of `overlay`: reading the caller's part, merging it into a list, and the tag of the result. Paid for each request.

use std::collections::HashSet;
use std::hint::black_box;

use http::{HeaderMap, HeaderValue};
use larder::config::Config;
use larder::policy::Route;
use larder::policy::content::Content;
use larder::policy::overlay::merge;
use larder::policy::overlay_fields::{MergedContent, merged_fields, merged_tag};

use crate::{Failure, timed};

const ROUTES: &str = "
upstream: http://127.0.0.1:3000
routes:
  - path: /courses
    ttl: 60s
    overlay:
      - {from: /me, each: '$.enrollments[*].courseId', into: '$.courses[*]', on: id, set: {isEnrolled: true}, default: {isEnrolled: false}}
  - {path: /me, ttl: 60s, per: authorization}
";

/// The default of `max_json`, in bytes.
const MAX_JSON: u64 = 1 << 20;

/// Number of courses in a list, and bytes of each.
const LISTS: [(usize, usize); 4] = [(20, 200), (20, 400), (20, 2_000), (1_000, 400)];

pub fn measure() -> Result<(), Failure> {
    let config = Config::parse(ROUTES, "proxy.yaml", &|_| None, &Default::default())?;
    let route = config.routes.first().ok_or("no route")?;
    println!("{:>12} {:>6} {:>10} {:>10} {:>10}", "bytes", "items", "read", "merge", "fields");
    for (courses, size) in LISTS {
        let (list, part) = (list(courses, size), enrollments(courses / 2));
        let read = || select(route, &part).ok_or("a part that can't be read");
        let selected = read()?;
        let merged = merge(&list, &selected, &route.overlays()[0]).map_err(|mismatch| mismatch.as_str())?;
        let fields = || {
            let (shared, part) = (json_fields(), json_fields());
            let tag = merged_tag(&shared, merged.as_bytes());
            merged_fields(route, MergedContent { tag: tag.as_ref(), shared: &shared, of_caller: &[&part] })
        };
        let micros = |work: &mut dyn FnMut()| timed(work).as_secs_f64() * 1e6;
        println!(
            "{:>12} {courses:>6} {:>7.1} µs {:>7.1} µs {:>7.1} µs",
            list.len(),
            micros(&mut || drop(black_box(read()))),
            micros(&mut || drop(black_box(merge(black_box(&list), &selected, &route.overlays()[0])))),
            micros(&mut || drop(black_box(fields()))),
        );
    }
    Ok(())
}

fn json_fields() -> HeaderMap {
    HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))])
}

fn select(route: &Route, part: &str) -> Option<HashSet<String>> {
    let content = Content::parse_response(&json_fields(), part.as_bytes(), MAX_JSON).ok()?;
    route.overlays()[0].select(&content)
}

fn list(courses: usize, size: usize) -> String {
    let text = "a \\\"quoted\\\" word, ".repeat(size / 20);
    let course =
        |id| format!("{{\"id\": \"c{id}\", \"title\": \"Course {id}\", \"level\": 3, \"text\": \"{text}\"}}");
    let all: Vec<String> = (0..courses).map(course).collect();
    format!("{{\"total\": {courses}, \"courses\": [{}]}}", all.join(", "))
}

fn enrollments(count: usize) -> String {
    let one = |id| {
        format!("{{\"courseId\": \"c{}\", \"since\": \"2026-01-01T00:00:00Z\", \"progress\": 40}}", 2 * id)
    };
    let all: Vec<String> = (0..count).map(one).collect();
    format!("{{\"enrollments\": [{}]}}", all.join(", "))
}
