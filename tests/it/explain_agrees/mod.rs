//! `explain` and the running proxy agree: over generated configurations, requests and responses, on classification, on
//! equal keys, tags and lifetimes, on storing and its reasons, and on the targets of writes.
//!
//! The proxy runs with real sockets under a manual clock. Its admin listener tells what it has stored.

mod cases;

use http::HeaderMap;
use larder::clock::Clock;
use larder::config::Config;
use larder::explain::{CallerTrust, ExplainRequest, Explainer, Explanation, Verdict};
use larder::policy::CacheKey;
use larder::policy::invalidation::route_target;
use larder::policy::not_stored::NotStored;
use larder::policy::on_miss::OnMiss;
use larder::policy::routes::Routes;
use larder::purge::Target;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use cases::{Ask, Case, PATHS, Say, cases};

use crate::support::{Larder, Reply, START, Upstream};

/// The stored entries according to the explanations so far.
struct Kept {
    key: CacheKey,
    explanation: Explanation,
    /// The request by which it is found.
    ask: Ask,
    alive: bool,
}

/// Counts of the covered behaviours: without enough of each, agreement shows nothing.
#[derive(Default)]
struct Seen {
    hits: usize,
    stored: usize,
    refused: usize,
    passed: usize,
    purged: usize,
    spared: usize,
}

struct Play {
    case: Case,
    config: Config,
    routes: Routes,
    larder: Larder,
    kept: Vec<Kept>,
    seen: Seen,
}

impl Play {
    fn start(case: Case, upstream: &Upstream) -> Self {
        for path in PATHS {
            let (read, write) = (case.read.clone(), case.write.clone());
            upstream.on(path, move |received: &crate::support::Received| {
                let is_read = ["GET", "HEAD", "OPTIONS"].contains(&received.method.as_str());
                if is_read { read.answer() } else { write.answer() }
            });
        }
        let url = upstream.url();
        let larder = Larder::with_environment(&case.yaml, &[("UPSTREAM", &url)]);
        let variable = |name: &str| (name == "UPSTREAM").then(|| url.clone());
        let config = Config::parse(&case.yaml, "proxy.yaml", &variable, &Default::default())
            .unwrap_or_else(|errors| panic!("{errors}"));
        let routes = Routes::new(&config.routes);
        Self { case, config, routes, larder, kept: Vec::new(), seen: Seen::default() }
    }

    fn host(&self) -> String {
        self.larder.address().to_string()
    }

    fn explain(&self, ask: &Ask) -> Explanation {
        let is_read = ["GET", "HEAD", "OPTIONS"].contains(&ask.method);
        let say = if is_read { &self.case.read } else { &self.case.write };
        let mut headers = HeaderMap::new();
        headers.append("host", self.host().parse().expect("a host"));
        for (name, value) in &ask.headers {
            headers.append(*name, value.parse().expect("a value"));
        }
        let question =
            ExplainRequest::new(ask.method, &ask.target, headers, ask.body.into()).expect("a question");
        Explainer::new(&self.config, &self.routes, CallerTrust::Assume, START).explain(&question, &say.said())
    }

    async fn send(&self, ask: &Ask) -> Reply {
        let request = self.larder.request(ask.method, &ask.target).body(ask.body);
        ask.headers.iter().fold(request, |request, (name, value)| request.header(name, value)).await
    }

    /// The running larder's own account.
    async fn now(&self, ask: &Ask) -> Value {
        let mut headers: Vec<String> =
            ask.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        headers.push(format!("Host: {}", self.host()));
        let wanted = json!({"method": "GET", "url": ask.target, "headers": headers});
        let told =
            self.larder.admin.request("POST", "/explain").body(wanted.to_string()).await.assert_status(200);
        told.json()["now"].clone()
    }

    async fn act(&mut self, ask: &Ask) {
        let explanation = self.explain(ask);
        let reply = self.send(ask).await;
        match &explanation.verdict {
            Verdict::Refused(why) => panic!("refused: {why}"),
            Verdict::Pass(reason) => {
                let expected = explanation.route.is_some().then(|| reason.as_str().to_owned());
                assert_eq!(reply.cache_status("detail"), expected);
                assert!(!reply.is_hit());
                self.seen.passed += 1;
            }
            Verdict::Write(_) => self.after_write(&explanation, &reply).await,
            Verdict::Lookup(_) => self.after_read(ask, explanation, &reply).await,
            Verdict::Identify | Verdict::Purge(_) | Verdict::Operation(_) => {
                panic!("nobody asked for that")
            }
        }
    }

    async fn after_read(&mut self, ask: &Ask, explanation: Explanation, reply: &Reply) {
        let reading = explanation.lookup().expect("it is looked up");
        let here = self.kept.iter().find(|kept| kept.alive && kept.key == reading.key);
        if reply.is_hit() {
            assert!(here.is_some(), "a hit, and nothing that was stored has its key");
            self.seen.hits += 1;
            return;
        }
        if let Some(terms) = here.and_then(|kept| kept.explanation.stored()).map(|stored| &stored.terms) {
            let asks_for_more = ask.headers.iter().any(|(name, _)| *name == "cache-control");
            let usable = terms.is_fresh(START) && !terms.always_validate && !asks_for_more;
            assert!(!usable || !reading.caller.is_in_key(), "no hit, and what is stored has its key");
        }
        let reads_content = explanation.route.as_ref().is_some_and(|route| route.reads_content());
        match (reading.on_miss, &reading.fetched) {
            (OnMiss::OnlyIfCached, _) => assert_eq!(reply.status, 504),
            (OnMiss::Head, _) => {}
            // A response that is stale on arrival is shared with nobody: where that is known, ranges pass.
            (OnMiss::Fetch, Ok(stored))
                if !stored.terms.is_fresh(START)
                    && reply.cache_status("detail").as_deref() == Some("range") => {}
            (OnMiss::Fetch, Ok(stored)) => {
                if reply.cache_status("stored").is_none() {
                    // A failure last time is the uncertainty of this time.
                    assert!(reads_content, "it says that it is not stored: {reply}");
                } else {
                    let ttl = stored.terms.ttl(START).to_string();
                    assert_eq!(reply.cache_status("ttl"), Some(ttl), "lifetime");
                }
                let now = self.now(ask).await;
                assert_eq!(now["stored"], true, "{now}");
                assert_eq!(now["validity"], "valid", "{now}");
                assert_eq!(now["tags"], json!(stored.tags), "tags");
                assert_eq!(now["ttlSeconds"], stored.terms.ttl(START), "{now}");
                let key = reading.key;
                self.seen.stored += 1;
                self.kept.retain(|kept| kept.key != key);
                self.kept.push(Kept { key, explanation, ask: ask.clone(), alive: true });
            }
            (OnMiss::Fetch, Err(why)) => {
                self.seen.refused += 1;
                if !reads_content {
                    // A range of what is not stored is asked for as a range.
                    let is_range = ask.headers.iter().any(|(name, _)| *name == "range");
                    let detail = reply.cache_status("detail");
                    // Where something is stored for others, that is the reason.
                    let is_others = here.is_some() && *why == NotStored::Credentials;
                    assert!(
                        detail.as_deref() == Some(why.as_str())
                            || (is_range && detail.as_deref() == Some("range"))
                            || (is_others && detail.as_deref() == Some("other-caller")),
                        "{detail:?}, not {}",
                        why.as_str()
                    );
                }
                assert_eq!(here.is_some(), self.now(ask).await["stored"] == true, "{}", why.as_str());
            }
        }
    }

    /// Exactly what the explanation names is not valid any more.
    async fn after_write(&mut self, explanation: &Explanation, reply: &Reply) {
        if explanation.route.is_some() {
            assert_eq!(reply.cache_status("fwd").as_deref(), Some("method"));
        }
        for kept in &mut self.kept {
            if kept.alive && explanation.can_purge(&kept.explanation) {
                kept.alive = false;
                self.seen.purged += 1;
                let targets = explanation.purge_targets();
                let by_tag = targets.iter().any(|target| matches!(target, Target::Tag(_)));
                // A write whose end is not known to be a refusal reaches all of its own route.
                let own_route = kept.explanation.route.as_deref().map(route_target);
                let by_route = own_route.is_some_and(|own| targets.contains(&own));
                let purgers = kept.explanation.lookup().map_or(0, |reading| reading.purging_routes.len());
                let reached = kept.explanation.stored().map_or(&[][..], |stored| &stored.targets);
                let by_place = targets
                    .iter()
                    .any(|target| !matches!(target, Target::Tag(_)) && reached.contains(&target.id()));
                let of_group =
                    self.case.write.headers.iter().any(|(name, _)| *name == "cache-group-invalidation");
                assert!(
                    !by_tag || by_route || by_place || of_group || purgers > 0,
                    "purged by a tag that no route was said to purge"
                );
            }
        }
        for kept in &self.kept {
            let now = self.now(&kept.ask).await;
            let is_valid = now["stored"] == true && now["validity"] == "valid";
            self.seen.spared += usize::from(kept.alive);
            assert_eq!(is_valid, kept.alive, "{} {:?}: {now}", kept.ask.target, kept.ask.headers);
        }
    }
}

async fn play(case: Case) -> Seen {
    let upstream = Upstream::start();
    let mut play = Play::start(case, &upstream);
    for ask in play.case.asks.clone() {
        play.act(&ask).await;
    }
    play.seen
}

/// A write whose `Location` names a path of a route with `purges: []` purges the tags that this path gives values to, of
/// other URLs as well.
#[tokio::test]
async fn a_purge_by_location_is_explained() {
    let route = |path: &str| {
        format!("  - {{path: '{path}', ttl: 1h, shared: true, tags: ['a:{{id}}'], purges: []}}\n")
    };
    let routes = [route("/a/{id}"), route("/a/{id}/b"), "  - {path: /c, purges: [t]}\n".to_owned()].concat();
    let say = |status, headers| Say { status, headers, body: "{}" };
    let ask = |method, target: &str| Ask { method, target: target.to_owned(), headers: Vec::new(), body: "" };
    let seen = play(Case {
        yaml: format!("upstream: ${{UPSTREAM}}\nroutes:\n{routes}"),
        read: say(200, Vec::new()),
        write: say(201, vec![("location", "/a/1")]),
        asks: vec![ask("GET", "/a/1/b"), ask("GET", "/a/2/b"), ask("POST", "/c")],
    });
    let seen = seen.await;
    assert_eq!((seen.stored, seen.purged, seen.spared), (2, 1, 1));
}

/// The generator of the cases, by `LARDER_EXPLAIN_SEED` or anew.
fn generator() -> (u64, TestRng) {
    let seed = std::env::var("LARDER_EXPLAIN_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seed: u64 = seed.unwrap_or_else(|| Clock::system().now().as_micros());
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    (seed, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

#[test]
fn explain_and_the_running_proxy_agree() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (seed, generator) = generator();
    let config = ProptestConfig {
        cases: 160,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = TestRunner::new_with_rng(config, generator);
    let all = std::cell::RefCell::new([0_usize; 6]);
    let result = runner.run(&cases(), |case| {
        let played =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(play(case.clone()))));
        let seen = played.map_err(|_| TestCaseError::fail("they disagree"))?;
        let counts = [seen.hits, seen.stored, seen.refused, seen.passed, seen.purged, seen.spared];
        all.replace_with(|all| std::array::from_fn(|at| all[at] + counts[at]));
        Ok(())
    });
    if let Err(proptest::test_runner::TestError::Fail(_, case)) = &result {
        panic!(
            "they disagree; LARDER_EXPLAIN_SEED={seed} repeats it:\n{}\nGET: {:?}\nelse: {:?}\n{:#?}",
            case.yaml, case.read, case.write, case.asks
        );
    }
    result.expect("all cases were played");
    let sums = all.into_inner();
    assert!(sums.iter().all(|sum| *sum >= 20), "hits, stored, not stored, passed, purged, spared: {sums:?}");
}
