//! Change events: what they purge, what is lost (nothing), and what is said of it. With a real Redis or PostgreSQL for each
//! test.

mod announced;
mod debezium;
mod notify;
mod pubsub;
mod refused;
mod silence;
mod stream;
mod webhook;

use serde_json::Value;

use crate::support::{Larder, Reply, eventually};

/// Kept until purged: a list, and two products.
const ROUTES: &str = "
routes:
  - {path: /products, ttl: none, tags: [products]}
  - {path: \"/products/{id}\", ttl: none, tags: [\"product:{id}\"]}
";

const LIST: &str = "/products";
const ONE: &str = "/products/1";
const TWO: &str = "/products/2";
const ALL: [&str; 3] = [LIST, ONE, TWO];

/// Those of `ALL` that were answered from the cache; what was not is stored now.
async fn hits(larder: &Larder) -> Vec<&'static str> {
    let mut hits = Vec::new();
    for target in ALL {
        let reply = larder.get(target).header("host", crate::support::HOST).await.assert_status(200);
        if reply.is_hit() {
            hits.push(target);
        }
    }
    hits
}

/// The only source in `/healthz`.
async fn source(larder: &Larder) -> Value {
    health(larder).await.json()["events"][0].clone()
}

/// How many events of the only source may have been missed.
async fn missed(larder: &Larder) -> u64 {
    source(larder).await["missed"].as_u64().expect("a count")
}

/// Waits until so many may have been.
async fn missed_becomes(larder: &Larder, count: u64) {
    eventually(&format!("{count} are missed"), || async {
        (source(larder).await["missed"] == count).then_some(())
    })
    .await;
}

async fn health(larder: &Larder) -> Reply {
    larder.admin.get("/healthz").await.assert_status(200)
}

/// Waits until the only source is so.
async fn source_becomes(larder: &Larder, status: &str) {
    eventually(&format!("the source is {status}"), || async {
        (source(larder).await["status"] == status).then_some(())
    })
    .await;
}

/// Waits until so many of its events had this meaning.
async fn events_become(larder: &Larder, kind: &str, meaning: &str, count: f64) {
    let metric = format!("larder_events_total{{source=\"shop\",kind=\"{kind}\",meaning=\"{meaning}\"}}");
    larder.metric_becomes(&metric, count).await;
}
