//! A source that is silent for longer than `stale_after`: what it would purge gets a fallback lifetime, and only that.

use serde_json::Value;

use super::{ALL, LIST, ONE, ROUTES, hits, source_becomes};
use crate::support::{Answer, HOST, Larder, Redis, Upstream};

const OTHER: &str = "  - {path: /other, ttl: none, tags: [other], purged_by: admin}\n";

/// Fallback, remaining lifetime and next steps from `/explain`.
async fn explained(larder: &Larder, target: &str) -> (Value, Value, Value) {
    let told = larder.admin.get(&format!("/explain?url=http://{HOST}{target}")).await.assert_status(200);
    let now = &told.json()["now"];
    (now["fallbackTtlSeconds"].clone(), now["ttlSeconds"].clone(), now["verdict"].clone())
}

#[tokio::test]
async fn a_silent_source_limits_hits_to_the_fallback_ttl() {
    let (mut redis, upstream) = (Redis::start().await, Upstream::start());
    let events = format!(
        "events:\n  - {{name: shop, stream: changes, redis: \"{}\", purge: [products, \"product:{{event.json:/id}}\"], \
         stale_after: 5s, fallback_ttl: 60s}}\n",
        redis.url()
    );
    let larder = Larder::with(&format!("{ROUTES}{OTHER}{events}"), &upstream);
    source_becomes(&larder, "ok").await;
    hits(&larder).await;
    larder.get("/other").await.assert_stored();
    larder.after(3600);
    assert_eq!(hits(&larder).await, ALL);
    redis.kill();
    larder.metric_becomes("larder_event_source_silent{source=\"shop\",kind=\"stream\"}", 1.0).await;
    assert_eq!(larder.admin.get("/healthz").await.json()["status"], "degraded");
    larder.admin.get("/readyz").await.assert_status(200);
    let get = |target| larder.get(target).header("host", HOST);
    get(ONE).await.assert_fwd("stale");
    get(LIST).await.assert_fwd("stale");
    larder.get("/other").await.assert_hit();
    assert_eq!(explained(&larder, ONE).await, (60.into(), 60.into(), "hit".into()));
    assert_eq!(explained(&larder, "/other").await.0, Value::Null);
    // A response fetched meanwhile is a hit for as long as the fallback.
    larder.after(59);
    assert_eq!(get(ONE).await.assert_hit().remaining_ttl(), 1);
    larder.after(1);
    assert_eq!(explained(&larder, ONE).await, (60.into(), 0.into(), "to be validated".into()));
    get(ONE).await.assert_fwd("stale");
    redis.restart().await;
    larder.metric_becomes("larder_event_source_silent{source=\"shop\",kind=\"stream\"}", 0.0).await;
    hits(&larder).await;
    larder.after(3600);
    assert_eq!(hits(&larder).await, ALL);
}

#[tokio::test]
async fn a_list_that_warms_others_is_not_read_from_before_the_silence() {
    let (mut redis, upstream) = (Redis::start().await, Upstream::start());
    upstream.on(LIST, Answer::json("[{\"id\": 1}]"));
    let more = format!(
        "warm: [{{from: /products, each: '$[*].id', get: '/products/{{}}', every: 1h, host: {HOST}}}]\nevents:\n  \
         - {{name: shop, stream: changes, redis: \"{}\", purge: [products, \"product:{{event.json:/id}}\"], \
         stale_after: 5s, fallback_ttl: 60s}}\n",
        redis.url()
    );
    let larder = Larder::with(&format!("{ROUTES}{more}"), &upstream);
    source_becomes(&larder, "ok").await;
    larder.metric_becomes("larder_warm_runs_total", 1.0).await;
    let run_again = async |runs: f64| {
        larder.after(3600);
        larder.metric_becomes("larder_warm_runs_total", runs).await;
        upstream.count(LIST)
    };
    let before = run_again(2.0).await;
    assert_eq!(run_again(3.0).await, before, "nobody has said that it changed");
    redis.kill();
    larder.metric_becomes("larder_event_source_silent{source=\"shop\",kind=\"stream\"}", 1.0).await;
    assert_eq!(run_again(4.0).await, before + 1);
}
