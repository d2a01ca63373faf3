//! Spans of requests, metrics and logs, as a collector gets them.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use crate::support::{Answer, Larder, Process, Upstream, eventually};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: [u8; 16] = 0x0af7651916cd43dd8448eb211c80319c_u128.to_be_bytes();

/// Paths and bodies.
type Posts = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Takes what is posted to it.
struct Collector {
    url: String,
    posts: Posts,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let posts = Posts::default();
        let taken = posts.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                }
                let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                let mut body = vec![0; length.parse().unwrap()];
                stream.read_exact(&mut body).unwrap();
                taken.lock().unwrap().push((head, body));
                _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
        });
        Self { url, posts }
    }

    /// All spans that came, once larder has ended.
    fn posted(&self) -> Vec<u8> {
        let posts = self.posts.lock().unwrap();
        assert!(posts.iter().all(|(head, _)| head.starts_with("post /v1/traces http/1.1")), "{posts:?}");
        posts.iter().flat_map(|(_, body)| body.clone()).collect()
    }

    /// The messages to a path.
    fn messages(&self, path: &str) -> Vec<Vec<u8>> {
        let posts = self.posts.lock().unwrap();
        let to_path = posts.iter().filter(|(head, _)| head.starts_with(&format!("post {path} http/1.1")));
        to_path.map(|(_, body)| body.clone()).collect()
    }
}

fn count(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).filter(|window| *window == part).count()
}

fn yaml(collector: &Collector, sample: &str) -> String {
    format!(
        "tracing: {{otlp: \"{}\", sample: {sample}}}\nroutes: [{{path: /a, name: things, ttl: 60s}}]",
        collector.url
    )
}

#[tokio::test]
async fn a_request_span_is_a_child_of_the_client_trace() {
    let (upstream, collector) = (Upstream::start(), Collector::start());
    let mut larder = Larder::with(&yaml(&collector, "0"), &upstream);
    larder.get("/a").header("traceparent", PARENT).await.assert_stored();
    larder.get("/a").header("traceparent", PARENT).await.assert_hit();
    upstream.on("/b", Answer::hang_up());
    larder.get("/b").header("traceparent", PARENT).await.assert_status(502);
    let told = upstream.last("/a").header("traceparent").unwrap();
    assert!(told.starts_with(&PARENT[..36]) && told.ends_with("-01") && told != PARENT, "{told}");
    // Neither asks for a span: one says so, and the sample is nobody.
    larder.get("/a").header("traceparent", &PARENT.replace("-01", "-00")).await.assert_hit();
    larder.get("/a").await.assert_hit();
    larder.shut_down();
    larder.stopped().await.unwrap();
    let posted = collector.posted();
    // Three requests, and two of them asked the upstream.
    assert_eq!(count(&posted, &TRACE), 5);
    assert_eq!(count(&posted, &0xb7ad6b7169203331_u64.to_be_bytes()), 3, "children of the client's span");
    let own = u64::from_str_radix(&told[36..52], 16).unwrap().to_be_bytes();
    assert_eq!(count(&posted, &own), 1, "the upstream is within the span of asking it");
    for (text, times) in
        [("GET things", 2), ("GET upstream", 2), ("uri-miss", 1), ("larder.cache.status", 2), ("closed", 1)]
    {
        assert!(count(&posted, text.as_bytes()) >= times, "{text}");
    }
}

#[tokio::test]
async fn by_chance_a_request_begins_a_trace_of_its_own() {
    let (upstream, collector) = (Upstream::start(), Collector::start());
    let mut larder = Larder::with(&yaml(&collector, "1"), &upstream);
    larder.get("/a").await.assert_stored();
    let told = upstream.last("/a").header("traceparent").expect("a trace");
    larder.shut_down();
    larder.stopped().await.unwrap();
    let trace = u128::from_str_radix(&told[3..35], 16).unwrap().to_be_bytes();
    assert_eq!(count(&collector.posted(), &trace), 2);
}

#[tokio::test]
async fn without_a_collector_requests_are_served_all_the_same() {
    let upstream = Upstream::start();
    let yaml = format!("tracing: {{otlp: \"{}\", sample: 1}}\nroutes: []", Upstream::nowhere());
    let mut larder = Larder::with(&yaml, &upstream);
    larder.get("/a").await.assert_status(200);
    larder.shut_down();
    larder.stopped().await.unwrap();
}

#[tokio::test]
async fn metrics_have_the_names_of_the_conventions_and_exemplars() {
    let (upstream, collector) = (Upstream::start(), Collector::start());
    let yaml = format!(
        "tracing: {{otlp: \"{}\", sample: 0, metrics_interval: 200ms}}\nroutes: [{{path: /a, name: things, ttl: 60s}}]",
        collector.url
    );
    let mut larder = Larder::with(&yaml, &upstream);
    larder.get("/a").await.assert_stored();
    eventually("metrics arrive while it runs", || async {
        collector.messages("/v1/metrics").pop().filter(|metrics| count(metrics, b"cache_misses") > 0)
    })
    .await;
    larder.get("/a").header("traceparent", PARENT).await.assert_hit();
    // A route of another configuration is counted, too.
    larder.reconfigure(&yaml.replace("{path: /a", "{path: /new, name: novel, ttl: 60s}, {path: /a")).await;
    larder.get("/new").await.assert_stored();
    larder.shut_down();
    larder.stopped().await.unwrap();
    let metrics = collector.messages("/v1/metrics").pop().expect("metrics");
    for text in [
        "http.server.request.duration",
        "http.client.request.duration",
        "http.route",
        "larder.response.from",
        "cache_hits",
        "things",
        "novel",
        "larder_stored_entries",
        "service.name",
    ] {
        assert!(count(&metrics, text.as_bytes()) > 0, "{text}");
    }
    assert_eq!(count(&metrics, b"larder_request_seconds"), 0);
    assert_eq!(count(&metrics, &TRACE), 1, "the traced request is an example");
}

#[tokio::test]
async fn the_log_goes_to_the_collector_too() {
    let (upstream, collector) = (Upstream::start(), Collector::start());
    let yaml = format!(
        "tracing: {{otlp: \"{}\", sample: 0, logs: true}}\nroutes: [{{path: /a, ttl: 60s}}]",
        collector.url
    );
    let mut larder = Process::with(&yaml, &upstream).await;
    larder.get("/a").header("authorization", "Bearer x").await.assert_status(200);
    larder.signal("TERM");
    assert!(larder.ended().await.success());
    let logs = collector.messages("/v1/logs").concat();
    for text in [
        "draining; a second signal exits at once",
        "SIGTERM",
        "INFO",
        "code.namespace",
        "larder::cli::signals",
    ] {
        assert!(count(&logs, text.as_bytes()) > 0, "{text}\n{}", larder.log());
    }
}
