//! Signed events that are posted: who may, and how often.

use ::larder::clock::Clock;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{ALL, ROUTES, TWO, hits, source};
use crate::support::{Answer, Client, Larder, Received, Redis, Replica, Reply, START, Upstream};

const NOTHING: [&str; 0] = [];
const SECRET: &str = "a secret of sixteen bytes or more";
const OLD_SECRET: &str = "the secret of before, not yet gone";

fn yaml(more: &str) -> String {
    format!(
        "{ROUTES}events:\n  - {{name: shop, webhook: /hooks/shop, secret: [\"{SECRET}\", \"{OLD_SECRET}\"], \
         purge: [products, \"product:{{event.json:/id}}\"]{more}}}\n"
    )
}

fn signature(secret: &str, timestamp: &str, content: &str) -> String {
    format!("sha256={}", hmac(secret, &format!("{timestamp}.{content}")))
}

/// In hexadecimal digits.
fn hmac(secret: &str, text: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn post(to: &Client, timestamp: &str, signature: &str, content: &str) -> Reply {
    to.request("POST", "/hooks/shop")
        .header("larder-timestamp", timestamp)
        .header("larder-signature", signature)
        .body(content.to_owned())
        .await
}

/// Signed rightly, so many seconds from the start of the test.
async fn event(to: &Client, seconds: i64, content: &str) -> Reply {
    let timestamp = (i64::try_from(START.as_secs()).unwrap() + seconds).to_string();
    post(to, &timestamp, &signature(SECRET, &timestamp, content), content).await
}

#[tokio::test]
async fn a_signed_event_purges_what_it_names_before_it_is_answered() {
    let upstream = Upstream::start();
    let larder = Larder::with(&yaml(""), &upstream);
    hits(&larder).await;
    let answer = event(&larder.admin, 0, "{\"id\": 1}").await.assert_status(200).json();
    assert_eq!(answer["meaning"], "named");
    assert_eq!(hits(&larder).await, [TWO]);
    let now = START.as_secs().to_string();
    let content = "{\"id\": 2}";
    let both =
        format!("{}, {}", signature("another one", &now, content), signature(OLD_SECRET, &now, content));
    post(&larder.admin, &now, &both, content).await.assert_status(200);
    assert_eq!(hits(&larder).await, ["/products/1"]);
}

#[tokio::test]
async fn an_event_whose_purge_waits_is_not_answered_as_purged() {
    let upstream = Upstream::start();
    let often = yaml("").replace("[products,", "[{tag: products, at_most_every: 1m},");
    let larder = Larder::with(&often, &upstream);
    let mut answers = Vec::new();
    for second in 0..2 {
        let answer = event(&larder.admin, second, r#"{"id": 1}"#).await;
        answers.push((answer.status, answer.json()["status"].as_str().expect("a status").to_owned()));
    }
    assert_eq!(answers, [(200, "purged".to_owned()), (202, "waits".to_owned())]);
}

#[tokio::test]
async fn a_secret_is_replaced_without_a_restart() {
    let upstream = Upstream::start();
    let larder = Larder::with(&yaml(""), &upstream);
    larder.reconfigure(&yaml("").replace(SECRET, "a new secret, as long as that")).await;
    assert_eq!(larder.metric("larder_config_needs_restart").await, 0.0);
    let (now, content) = (START.as_secs().to_string(), "{\"id\": 1}");
    post(&larder.admin, &now, &signature(SECRET, &now, content), content).await.assert_status(401);
    let new = signature("a new secret, as long as that", &now, content);
    post(&larder.admin, &now, &new, content).await.assert_status(200);
}

#[tokio::test]
async fn nobody_purges_without_the_secret() {
    let upstream = Upstream::start();
    let larder = Larder::with(&yaml(""), &upstream);
    hits(&larder).await;
    let (now, content) = (START.as_secs().to_string(), "{\"id\": 1}");
    let right = signature(SECRET, &now, content);
    let but_for = |at: usize| {
        let digit = if right.as_bytes()[at] == b'0' { "1" } else { "0" };
        [&right[..at], digit, &right[at + 1..]].concat()
    };
    let wrong = signature("not the secret at all", &now, content);
    for (timestamp, signature, content) in [
        (now.as_str(), "", content),
        (&now, "sha256=", content),
        (&now, &right[7..], content),
        (&now, &wrong, content),
        // Its beginning is no more right than its end.
        (&now, &but_for("sha256=".len()), content),
        (&now, &but_for(right.len() - 1), content),
        // Only a bounded number of signatures is tried.
        (&now, &[&[wrong.as_str(); 4][..], &[&right]].concat().join(","), content),
        (&now, &right, "{\"id\": 2}"),
        (&format!("{now}.0"), &right, content),
        ("now", &signature(SECRET, "now", content), content),
        ("", &right, content),
    ] {
        post(&larder.admin, timestamp, signature, content).await.assert_status(401);
    }
    larder.admin.request("GET", "/hooks/shop").await.assert_status(405);
    larder.admin.request("POST", "/hooks/other").body(content).await.assert_status(404);
    assert_eq!(hits(&larder).await, ALL);
    let refused = |reason| {
        format!("larder_webhooks_refused_total{{source=\"shop\",kind=\"webhook\",reason=\"{reason}\"}}")
    };
    assert_eq!(larder.metric(&refused("wrong-signature")).await, 6.0);
    assert_eq!(larder.metric(&refused("unsigned")).await, 5.0);
}

#[tokio::test]
async fn an_event_is_taken_once_and_within_its_window() {
    let upstream = Upstream::start();
    let larder = Larder::with(&yaml(", window: 60s"), &upstream);
    event(&larder.admin, 0, "{\"id\": 1}").await.assert_status(200);
    hits(&larder).await;
    event(&larder.admin, 0, "{\"id\": 1}").await.assert_status(409);
    event(&larder.admin, -61, "{\"id\": 1}").await.assert_status(401);
    event(&larder.admin, 61, "{\"id\": 1}").await.assert_status(401);
    larder.after(60);
    event(&larder.admin, 0, "{\"id\": 1}").await.assert_status(409);
    assert_eq!(hits(&larder).await, ALL);
    larder.after(1);
    event(&larder.admin, 0, "{\"id\": 1}").await.assert_status(401);
    // The same change once more is another event.
    event(&larder.admin, 61, "{\"id\": 1}").await.assert_status(200);
    assert_eq!(hits(&larder).await, [TWO]);
}

#[tokio::test]
async fn replicas_that_share_a_redis_know_what_another_has_taken() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let yaml = format!("store: {{redis: \"{}\", max_lag: 0s, timeout: 5s}}\n{}", redis.url(), yaml(""));
    let one = Replica::with(&yaml, &upstream, Clock::system());
    let other = Replica::with(&yaml, &upstream, Clock::system());
    one.is_connected().await;
    other.is_connected().await;
    let now = Clock::system().now().as_secs().to_string();
    let content = "{\"id\": 1}";
    let signature = signature(SECRET, &now, content);
    post(&one.admin, &now, &signature, content).await.assert_status(200);
    post(&other.admin, &now, &signature, content).await.assert_status(409);
}

#[tokio::test]
async fn an_event_whose_purge_was_not_taken_can_be_sent_again() {
    let (mut redis, upstream) = (Redis::start().await, Upstream::start());
    let yaml = format!("store: {{redis: \"{}\", max_lag: 0s}}\n{}", redis.url(), yaml(""));
    let larder = Replica::with(&yaml, &upstream, Clock::system());
    larder.is_connected().await;
    let (now, content) = (Clock::system().now().as_secs().to_string(), "{\"id\": 1}");
    let signature = signature(SECRET, &now, content);
    redis.kill();
    larder.is_cut_off().await;
    post(&larder.admin, &now, &signature, content).await.assert_status(503);
    redis.restart().await;
    larder.is_connected().await;
    post(&larder.admin, &now, &signature, content).await.assert_status(200);
    post(&larder.admin, &now, &signature, content).await.assert_status(409);
}

#[tokio::test]
async fn a_signed_unreadable_event_purges_all_it_could_name() {
    let upstream = Upstream::start();
    let larder = Larder::with(&yaml(""), &upstream);
    let long = format!("{{\"id\": \"{}\"}}", "x".repeat(64 * 1024));
    for (at, (content, meaning)) in
        [("{", "malformed"), ("", "malformed"), ("{}", "widened"), (long.as_str(), "widened")]
            .into_iter()
            .enumerate()
    {
        hits(&larder).await;
        let answer =
            event(&larder.admin, i64::try_from(at).unwrap(), content).await.assert_status(200).json();
        assert_eq!(answer["meaning"], meaning, "{content:.20}");
        assert_eq!(hits(&larder).await, NOTHING, "{content:.20}");
    }
    hits(&larder).await;
    event(&larder.admin, 9, &"x".repeat(1024 * 1024 + 1)).await.assert_status(413);
    assert_eq!(hits(&larder).await, ALL);
}

#[tokio::test]
async fn an_unreadable_event_reaches_responses_that_name_their_tags() {
    let upstream = Upstream::start();
    let home = "  - {path: /home, ttl: 1h}\n  - {path: /plain, ttl: 1h}\n";
    let larder = Larder::with(&yaml("").replace("events:", &format!("{home}events:")), &upstream);
    let content = ["{\"id\": 2}", "{}", "not JSON"];
    upstream.on("/home", |_: &Received| Answer::ok("").header("surrogate-key", "product:1"));
    for (at, (content, home_stays)) in content.into_iter().zip([true, true, false]).enumerate() {
        larder.get("/home").await.assert_status(200);
        larder.get("/plain").await.assert_status(200);
        event(&larder.admin, i64::try_from(at).unwrap(), content).await.assert_status(200);
        assert_eq!(larder.get("/home").await.is_hit(), home_stays, "{content}");
        larder.get("/plain").await.assert_hit();
    }
}

#[tokio::test]
async fn on_the_proxy_s_listener_its_path_never_reaches_the_upstream() {
    let upstream = Upstream::start();
    let larder = Larder::with(&yaml(", listener: proxy"), &upstream);
    hits(&larder).await;
    let asked = upstream.total();
    event(&larder, 0, "{\"id\": 1}").await.assert_status(200);
    event(&larder, 0, "{\"id\": 1}").await.assert_status(409);
    larder.get("/hooks/shop").await.assert_status(405);
    assert_eq!(upstream.total(), asked);
    assert_eq!(hits(&larder).await, [TWO]);
    larder.admin.request("POST", "/hooks/shop").body("{}").await.assert_status(404);
    assert_eq!(source(&larder).await["events"], 1);
}

/// Senders that sign no time: an event that is sent again is purged again, since it may be another one.
#[tokio::test]
async fn senders_sign_in_the_way_of_their_scheme() {
    let upstream = Upstream::start();
    let yaml = format!(
        "{ROUTES}events:
  - {{name: code, webhook: /hooks/code, scheme: github, secret: \"{SECRET}\", purge: [\"product:{{event.json:/id}}\"]}}
  - {{name: paid, webhook: /hooks/paid, scheme: stripe, secret: \"{SECRET}\", purge: [products]}}
"
    );
    let larder = Larder::with(&yaml, &upstream);
    let content = "{\"id\": 1}";
    let github = format!("sha256={}", hmac(SECRET, content));
    let post = |path: &str, field: &str, signature: &str| {
        larder.admin.request("POST", path).header(field, signature).body(content.to_owned())
    };
    for _ in 0..2 {
        hits(&larder).await;
        post("/hooks/code", "x-hub-signature-256", &github).await.assert_status(200);
        assert_eq!(hits(&larder).await, ["/products", TWO]);
    }
    // GitHub sends it to try the webhook.
    let ping = "{\"zen\": \"Design for failure.\", \"hook_id\": 7, \"hook\": {}}";
    let signed = format!("sha256={}", hmac(SECRET, ping));
    let sent = larder.admin.request("POST", "/hooks/code").header("x-hub-signature-256", &signed);
    assert_eq!(sent.body(ping.to_owned()).await.assert_status(200).json()["status"], "ignored");
    assert_eq!(hits(&larder).await, ALL);
    let now = START.as_secs();
    let stripe = |at: u64| format!("t={at},v1={}", hmac(SECRET, &format!("{at}.{content}")));
    post("/hooks/paid", "stripe-signature", &stripe(now)).await.assert_status(200);
    assert_eq!(hits(&larder).await, ["/products/1", TWO]);
    let replayed = post("/hooks/paid", "stripe-signature", &stripe(now)).await.assert_status(409);
    assert!(replayed.text().contains("Stripe"), "{replayed}");
    post("/hooks/paid", "stripe-signature", &stripe(now - 301)).await.assert_status(401);
    post("/hooks/paid", "x-hub-signature-256", &github).await.assert_status(401);
    post("/hooks/code", "stripe-signature", &stripe(now)).await.assert_status(401);
    assert_eq!(hits(&larder).await, ALL);
}

#[tokio::test]
async fn rules_of_one_source_select_what_an_event_purges() {
    let upstream = Upstream::start();
    let yaml = format!(
        "{ROUTES}events:
  - name: shop
    webhook: /hooks/shop
    secret: \"{SECRET}\"
    rules:
      - {{when: {{/table: products}}, purge: [\"product:{{event.json:/id}}\"]}}
      - {{when: {{/table: products, \"$.changed[*]\": [name, price]}}, purge: [products]}}
"
    );
    let larder = Larder::with(&yaml, &upstream);
    for (content, outcome, left) in [
        ("{\"table\": \"products\", \"id\": 1, \"changed\": [\"stock\"]}", "named", &["/products", TWO][..]),
        ("{\"table\": \"products\", \"id\": 1, \"changed\": [\"stock\", \"name\"]}", "named", &[TWO]),
        ("{\"table\": \"users\", \"id\": 1, \"changed\": [\"name\"]}", "ignored", &ALL),
    ] {
        hits(&larder).await;
        let answer = event(&larder.admin, 0, content).await.assert_status(200).json();
        assert_eq!(answer["meaning"].as_str().or(answer["status"].as_str()), Some(outcome), "{content}");
        assert_eq!(hits(&larder).await, left, "{content}");
    }
}
