//! Cost of larder's own parts of a hit, in the order of a request, with small and with large inputs. The rest of a hit
//! is hyper, the allocator and the kernel.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use larder::clock::{Clock, Timestamp};
use larder::config::Config;
use larder::metrics::Metrics;
use larder::policy::cache_status::CacheOutcome;
use larder::policy::caller::{CallerView, NoCallers};
use larder::policy::classify::{CacheLookup, Caller, classify};
use larder::policy::no_vary_search::LookupQuery;
use larder::policy::reuse::assess;
use larder::policy::routes::Routes;
use larder::policy::{CacheKey, HeaderNameFilter, RequestHead, Route};
use larder::purge::{Epoch, NormalizedPath, Purge, Target};
use larder::server::framing::FramingScanner;
use larder::store::memory::MemoryStore;
use larder::store::{GetResult, PurgeStore, ResponseStore};
use larder::stored_response::{EvaluatedUnder, StoredEntry, StoredFields, StoredHead, StoredResponse};

use crate::{Failure, fresh, timed};

struct Size {
    routes: usize,
    entries: usize,
    purge_records: usize,
    tags: usize,
}

const LITTLE: Size = Size { routes: 10, entries: 10, purge_records: 10, tags: 1 };
const MUCH: Size = Size { routes: 10_000, entries: 10_000, purge_records: 10_000, tags: 64 };

type Part = fn(&Scene, &Case);

/// Indented parts belong to the part above them, or are not on the path of every hit.
const PARTS: [(&str, Part); 10] = [
    ("the head, read strictly", |_, case| {
        _ = black_box(FramingScanner::new(1 << 16).feed(&case.head));
    }),
    ("its fields' names", |_, case| {
        black_box(HeaderNameFilter::from_headers(&case.headers));
    }),
    ("what it means: the route and the key", |scene, case| {
        black_box(classify(&scene.routes, &case.request(), false, &scene.config.credentials, &NoCallers));
    }),
    ("  its route", |scene, case| {
        black_box(scene.routes.find(&case.path));
    }),
    ("  its key", |scene, case| {
        black_box(CacheKey::new(scene.route(), &case.request(), None, None));
    }),
    ("found, and found valid again", |scene, case| match scene.store.get(&case.stored.key) {
        GetResult::Ready(Some(found)) => drop(black_box(found)),
        _ => unreachable!("all of it is stored, and valid"),
    }),
    ("  judged anew, as after each purge", |scene, case| {
        black_box(scene.store.validity(&case.stored.stamp, &case.stored.targets));
    }),
    ("whether it may be used", |scene, case| {
        black_box(assess(&case.stored, &scene.lookup(case), &case.request(), None, scene.now));
    }),
    ("its fields, with `Age`", |_, case| {
        black_box(case.stored.fields.with_age(HeaderValue::from_static("7")));
    }),
    ("`Cache-Status`, and counted", |scene, _| {
        let outcome = CacheOutcome::Hit { ttl: 53, detail: None };
        black_box(black_box(outcome).to_header_value());
        scene.metrics.record_request(Some(0), &Ok(outcome), StatusCode::OK, Duration::from_micros(5));
    }),
];

pub fn measure() -> Result<(), Failure> {
    let (little, much) = (Scene::new(&LITTLE)?, Scene::new(&MUCH)?);
    println!("{:<38} {:>9} {:>9}", "of a hit, in ns", "little", "much");
    let mut sums = [0, 0];
    for (name, part) in PARTS {
        let times = [&little, &much].map(|scene| scene.time(part).as_nanos());
        println!("{name:<38} {:>9} {:>9}", times[0], times[1]);
        if !name.starts_with(' ') {
            sums = [sums[0] + times[0], sums[1] + times[1]];
        }
    }
    println!("{:<38} {:>9} {:>9}", "together", sums[0], sums[1]);
    Ok(())
}

/// A larder that has something stored.
struct Scene {
    config: Config,
    routes: Routes,
    store: MemoryStore,
    metrics: Metrics,
    now: Timestamp,
    cases: Vec<Case>,
}

/// A request, and what is stored for it.
struct Case {
    /// Raw request head.
    head: Vec<u8>,
    path: String,
    headers: HeaderMap,
    /// Gathered once for each request, as by the proxy.
    names: HeaderNameFilter,
    stored: Arc<StoredHead>,
}

/// Typical fields of a browser's request.
const FIELDS: [(&str, &str); 9] = [
    ("host", "api.example.com"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64)"),
    ("accept", "application/json"),
    ("accept-language", "en"),
    ("accept-encoding", "gzip, br"),
    ("referer", "https://example.com/courses"),
    ("sec-fetch-mode", "cors"),
    ("sec-fetch-site", "same-site"),
    ("x-request-id", "0123456789abcdef"),
];

const ANSWERED: [(&str, &str); 5] = [
    ("content-type", "application/json"),
    ("content-length", "1024"),
    ("etag", "\"v1\""),
    ("cache-control", "max-age=86400"),
    ("date", "Thu, 20 Nov 2025 12:00:00 GMT"),
];

impl Scene {
    fn new(size: &Size) -> Result<Self, Failure> {
        let routes: String = (0..size.routes)
            .map(|n| format!("  - {{path: '/api/things-{n}/{{id}}', ttl: 1h, tags: ['thing:{{id}}']}}\n"))
            .collect();
        let text = format!("upstream: http://127.0.0.1:3000\nroutes:\n{routes}");
        let config = Config::parse(&text, "proxy.yaml", &|_| None, &Default::default())?;
        let clock = Clock::system();
        let now = clock.now();
        let store = MemoryStore::new(1 << 30, Epoch(7), clock);
        let purged = (0..size.purge_records).map(|n| Target::tag(format!("purged-{n}"))).collect();
        drop(store.purge(Purge::hard(purged)));
        let (routes, metrics) = (Routes::new(&config.routes), Metrics::new(&config.routes));
        let mut scene = Self { config, routes, store, metrics, now, cases: Vec::new() };
        scene.cases = (0..size.entries).map(|number| scene.stored(number, size.tags)).collect();
        Ok(scene)
    }

    fn stored(&self, number: usize, tags: usize) -> Case {
        let path = format!("/api/things-7/{number}");
        let head: String = FIELDS.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("GET {path} HTTP/1.1\r\n{head}\r\n").into_bytes();
        let headers = fields(&FIELDS);
        let names = HeaderNameFilter::from_headers(&headers);
        let key = CacheKey::new(self.route(), &request(&path, &headers, names), None, None);
        let tags: Vec<String> = (0..tags).map(|n| format!("tag-{number}-{n}")).collect();
        let targets =
            Target::ids_for_response(HOST, &NormalizedPath::new(&path), "", tags.iter().map(String::as_str));
        let fill = self.store.begin_fetch(&key);
        let stored = Arc::new(StoredHead {
            fetched_here: false,
            key,
            fingerprint: self.route().fingerprint,
            status: StatusCode::OK,
            fields: StoredFields::new(&fields(&ANSWERED), &tags),
            terms: fresh(self.now, DAY).into(),
            stamp: fill.read_version(),
            targets: targets.into(),
            found_valid: Default::default(),
            evaluated_under: EvaluatedUnder::new(self.route().lifetime_fingerprint),
            usage: Default::default(),
        });
        let body = Bytes::from(vec![b'x'; 1024]);
        drop(self.store.insert(fill, StoredEntry::Response(StoredResponse { head: stored.clone(), body })));
        Case { head, path, headers, names, stored }
    }

    fn route(&self) -> &Arc<Route> {
        &self.config.routes[7]
    }

    fn lookup(&self, case: &Case) -> CacheLookup<'_> {
        let (route, key) = (self.route(), case.stored.key);
        CacheLookup { route, key, query: LookupQuery::default(), caller: Caller::InKey, fallback_ttl: None }
    }

    /// Times the part over all cases in an order unlike the one they were made in, so that memory is as cold as in a
    /// cache of this size.
    fn time(&self, part: Part) -> Duration {
        let mut next = 0;
        timed(|| {
            next = (next + 7919) % self.cases.len();
            part(self, &self.cases[next]);
        })
    }
}

const HOST: &str = "api.example.com";
const DAY: Duration = Duration::from_secs(86_400);

fn request<'a>(path: &'a str, headers: &'a HeaderMap, names: HeaderNameFilter) -> RequestHead<'a> {
    let method = &Method::GET;
    RequestHead {
        method,
        scheme: "http",
        host: HOST,
        forwarded_host: None,
        forwarded_address: "",
        path,
        query: None,
        headers,
        content: None,
        json: None,
        search_hint: None,
        name_filter: names,
        caller: CallerView::NotAsked,
    }
}

impl Case {
    fn request(&self) -> RequestHead<'_> {
        request(&self.path, &self.headers, self.names)
    }
}

fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}
