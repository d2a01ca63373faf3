//! The ready-made configurations, each played against a sample API of its domain: every promise that a file makes in its
//! comments, with numbers.

mod analytics;
mod audited;
mod catalogue;
mod checked;
mod courses;
mod demo;
mod documented;
mod load;
mod observed;
mod operated;
mod productivity;
mod reference;
mod sample;
mod signed_urls;
mod warm;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Client, Larder, Reply, Request};
use sample::{SampleApi, issued, token};

/// The variables by which responses may be old, as the files set them.
const AS_SHIPPED: [(&str, &str); 2] = [("LARDER_PURGE_WINDOW", "30s"), ("LARDER_STALE", "1m")];

/// The result of `asked` if the cache answered everything.
const NOTHING: [&str; 0] = [];

/// A file of the repository.
fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn text(file: &str) -> String {
    std::fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A configuration in front of a sample API. A request is written as a sentence: `ann POST /api/orders`, `ann /api/orders`
/// (a GET), `/api/courses` (a GET by nobody in particular).
struct Case {
    api: SampleApi,
    larder: Larder,
}

/// Figures of `/stats` for the routes of one name.
#[derive(Debug, PartialEq)]
struct Bucket {
    hits: u64,
    misses: u64,
    invalidations: u64,
    ttl: Option<u64>,
}

impl Case {
    /// `variable` is the one by which the file names its upstream.
    fn start(file: &str, variable: &str, api: SampleApi) -> Self {
        Self::with_environment(file, &[(variable, &api.upstream.url())], api)
    }

    /// With the windows of the file itself.
    fn as_shipped(file: &str, variable: &str, api: SampleApi) -> Self {
        let url = api.upstream.url();
        let environment: Vec<_> = AS_SHIPPED.into_iter().chain([(variable, &*url)]).collect();
        Self::with_environment(file, &environment, api)
    }

    /// Under these variables of the environment.
    fn with_environment(file: &str, environment: &[(&str, &str)], api: SampleApi) -> Self {
        Self::with_text(&text(file), environment, api)
    }

    /// Like [`Case::with_environment`], with another text in the place of the file.
    fn with_text(text: &str, environment: &[(&str, &str)], api: SampleApi) -> Self {
        // Background requests are off by default; tests of them switch them on.
        let (keys, service) = (api.key_file(), token("cleo"));
        let given =
            [("LARDER_JWKS", keys.as_str()), ("FORUM_SERVICE_TOKEN", service.trim_start_matches("Bearer "))];
        // Without windows a test sees which purge reaches what; tests of the windows set them.
        let quiet = [
            ("LARDER_WARM", "off"),
            ("LARDER_WARM_EVERY", "off"),
            ("LARDER_REFRESH_AHEAD", "0s"),
            ("LARDER_PURGE_WINDOW", "0s"),
            ("LARDER_STALE", "0s"),
        ];
        let is_given = |name| environment.iter().any(|(given, _)| *given == name);
        let quiet = quiet.into_iter().filter(|(name, _)| !is_given(*name));
        let environment: Vec<_> = environment.iter().copied().chain(quiet).chain(given).collect();
        let larder = Larder::with_environment(text, &environment);
        Self { api, larder }
    }

    /// For files that name the upstream itself.
    fn in_place_of_port_3000(file: &str, api: SampleApi) -> Self {
        let text = text(file).replace("http://127.0.0.1:3000", &api.upstream.url());
        Self { larder: Larder::with_environment(&text, &[]), api }
    }

    async fn send(&self, sentence: &str) -> Reply {
        send(&self.larder, sentence).await
    }

    /// Returns the reads that reached the API. Every answer must be true, wherever it came from.
    #[track_caller]
    fn asked<'r>(&self, reads: &[&'r str]) -> impl Future<Output = Vec<&'r str>> {
        let caller = std::panic::Location::caller();
        async move {
            let mut asked = Vec::new();
            for read in reads {
                let queries = self.api.upstream.total();
                let reply = self.send(read).await.assert_status(200);
                let was_asked = self.api.upstream.total() - queries == 1;
                assert_eq!(reply.is_hit(), !was_asked, "{read} ({caller}): {reply}");
                let (user, _, target) = parsed(read);
                assert_eq!(reply.json()["facts"], self.api.truth(user, target), "{read} is old ({caller})");
                asked.extend(was_asked.then_some(*read));
            }
            asked
        }
    }

    /// A write, which the API must see and accept.
    #[track_caller]
    fn write(&self, sentence: &str) -> impl Future<Output = Reply> {
        let caller = std::panic::Location::caller();
        async move {
            let queries = self.api.upstream.total();
            let reply = self.send(sentence).await;
            assert_eq!(reply.status, 200, "{sentence} ({caller}): {reply}");
            assert_eq!(self.api.upstream.total(), queries + 1, "{sentence} ({caller})");
            reply
        }
    }

    /// A write of JSON by somebody, after which these facts are others.
    async fn tell(&self, sentence: &str, content: &Value, changed: &[&str]) {
        for fact in changed {
            self.api.changed_unseen(fact);
        }
        let request = request(&self.larder, sentence).header("content-type", "application/json");
        let reply = request.body(content.to_string()).await;
        assert_eq!(reply.status, 200, "{sentence}: {reply}");
    }

    /// After these writes, one after the other, exactly those of `reads` are asked for again.
    async fn purge_exactly(&self, reads: &[&str], writes: &[(&str, &[&str])]) {
        self.asked(reads).await;
        for (write, expected) in writes {
            assert_eq!(self.asked(reads).await, NOTHING, "before {write}");
            self.write(write).await;
            assert_eq!(self.asked(reads).await, *expected, "after {write}");
        }
    }

    /// Asserts that the response is kept until just before `seconds` have passed, and no longer.
    async fn is_kept_for(&self, seconds: u64, read: &str) {
        self.clear().await;
        assert_eq!(self.asked(&[read]).await, [read]);
        self.larder.after(seconds - 1);
        assert_eq!(self.asked(&[read]).await, NOTHING, "{read} after {seconds} s less one");
        self.larder.after(1);
        assert_eq!(self.asked(&[read]).await, [read], "{read} after {seconds} s");
    }

    /// Sends an operator's request, which must be answered with 200.
    async fn operate(&self, request: &str) -> Value {
        send(&self.larder.admin, request).await.assert_status(200).json()
    }

    async fn clear(&self) {
        self.operate("DELETE /cache").await;
    }

    async fn purge(&self, body: &str) {
        self.larder.admin.request("POST", "/purge").body(body.to_owned()).await.assert_status(200);
    }

    /// The figures of the routes of one name: in `/stats` and, where they are the same, in `/metrics`.
    async fn bucket(&self, name: &str) -> Bucket {
        let stats = self.operate("/stats").await;
        let of = |figure: &str| stats["routes"][name][figure].as_u64();
        let count = |figure| of(figure).unwrap_or_else(|| panic!("no {figure} of {name} in {stats}"));
        let bucket = Bucket {
            hits: count("hits"),
            misses: count("misses"),
            invalidations: count("invalidations"),
            ttl: of("ttlSeconds"),
        };
        assert!(stats["routes"][name].as_object().is_some_and(|figures| figures.contains_key("ttlSeconds")));
        let metric = |name: String| async move { self.larder.metric(&name).await };
        assert_eq!(metric(format!("cache_hits_total{{namespace=\"{name}\"}}")).await, bucket.hits as f64);
        assert_eq!(metric(format!("cache_misses_total{{namespace=\"{name}\"}}")).await, bucket.misses as f64);
        bucket
    }
}

fn bucket(hits: u64, misses: u64, invalidations: u64, ttl: impl Into<Option<u64>>) -> Bucket {
    Bucket { hits, misses, invalidations, ttl: ttl.into() }
}

/// Asserts that `user` has one response on all devices, also with a renewed token.
async fn has_one_response(case: &Case, user: &str, target: &str) {
    let get = |claims: Value| case.larder.get(target).header("authorization", &issued(&claims));
    get(json!({"sub": user})).await.assert_stored();
    for device in ["phone", "tablet"] {
        for issued_at in [1, 2] {
            get(json!({"sub": user, "device": device, "iat": issued_at})).await.assert_hit();
        }
    }
}

async fn send(client: &Client, sentence: &str) -> Reply {
    request(client, sentence).await
}

/// The request that a sentence describes, with the token of who sends it.
fn request(client: &Client, sentence: &str) -> Request {
    let (user, method, target) = parsed(sentence);
    let request = client.request(method, target);
    match user {
        Some(user) => request.header("authorization", &token(user)),
        None => request,
    }
}

fn parsed(sentence: &str) -> (Option<&str>, &str, &str) {
    let is_method = |word: &str| word.chars().all(|letter| letter.is_ascii_uppercase());
    match *sentence.split(' ').collect::<Vec<_>>() {
        [target] => (None, "GET", target),
        [method, target] if is_method(method) => (None, method, target),
        [user, target] => (Some(user), "GET", target),
        [user, method, target] => (Some(user), method, target),
        _ => panic!("not a request: {sentence}"),
    }
}
