//! A slow miss whose data is purged while it is fetched is never served to a later request: whatever purged
//! it and whenever during the fetch.
//!
//! The upstream settles what it answers when a request arrives (`#1`) and is slow to say so: the body says which
//! fetch it comes from.

use crate::support::{Answer, Feed, Held, Larder, Received, Upstream, eventually};

/// Without a guard, so that writes go through while Redis can't take their purges.
pub const ROUTES: &str = "
defaults: {guard: false}
routes:
  - path: /items/{id}
    ttl: 1h
    tags: [items, \"item:{id}\", \"kind:{response.header.X-Kind}\"]
  - path: /items/{item}/sell
    purges: [\"item:{item}\"]
";

const SLOW: &str = "/items/1?x=1";

/// The five readers after the purge share one fetch, at once. However many purges there are, not more than two fetches of a
/// key wait for the upstream.
#[tokio::test]
async fn a_reader_after_the_purge_waits_for_no_fetch_from_before() {
    let upstream = Upstream::start();
    let routes = ROUTES.replace("guard: false", "guard: false, collapse_timeout: 10m");
    let larder = Larder::with(&format!("{routes}  - {{path: /list, ttl: 1h, tags: [items]}}\n"), &upstream);
    for path in ["/items/1", "/list"] {
        let asked = upstream.count(path);
        let first = upstream.hold(path);
        let before = larder.get(path).spawn();
        first.arrived().await;
        // A purge of something else dooms nothing.
        By::PurgeTag("others").purge(&larder).await;
        let joined = larder.get(path).spawn();
        larder.metric_becomes("larder_followers", 1.0).await;
        By::PurgeTag("items").purge(&larder).await;
        let second = upstream.hold(path);
        let after: Vec<_> = (0..5).map(|_| larder.get(path).spawn()).collect();
        second.arrived().await;
        larder.metric_becomes("larder_followers", 5.0).await;
        By::PurgeTag("items").purge(&larder).await;
        let last = larder.get(path).spawn();
        larder.metric_becomes("larder_followers", 6.0).await;
        assert_eq!(upstream.count(path), asked + 2, "{path}");
        second.release();
        for after in after {
            let text = after.await.unwrap().text().to_owned();
            assert!((2..=3).any(|nth| text == format!("GET {path} #{}", asked + nth)), "{text}");
        }
        last.await.unwrap().assert_text(&format!("GET {path} #{}", asked + 3));
        larder.get(path).await.assert_hit().assert_text(&format!("GET {path} #{}", asked + 3));
        assert_eq!(upstream.count(path), asked + 3, "{path}");
        first.release();
        for before in [before, joined] {
            before.await.unwrap().assert_status(200);
        }
        larder.get(path).await.assert_hit().assert_text(&format!("GET {path} #{}", asked + 3));
    }
}

/// A reader whom the second fetch does not serve starts the next one, while the first one waits still.
#[tokio::test]
async fn a_reader_whom_a_fetch_does_not_serve_starts_no_third_one() {
    let upstream = Upstream::start();
    let routes = ROUTES.replace("guard: false", "guard: false, collapse_timeout: 10m");
    let (larder, path) = (Larder::with(&routes, &upstream), "/items/1");
    let first = upstream.hold(path);
    let before = larder.get(path).spawn();
    first.arrived().await;
    By::PurgeTag("items").purge(&larder).await;
    let second = upstream.hold(path);
    let after = larder.get(path).spawn();
    second.arrived().await;
    By::PurgeTag("items").purge(&larder).await;
    let refused = larder.get(path).spawn();
    larder.metric_becomes("larder_followers", 1.0).await;
    let third = upstream.hold(path);
    second.release();
    after.await.unwrap().assert_text(&format!("GET {path} #2"));
    third.arrived().await;
    By::PurgeTag("items").purge(&larder).await;
    let last = larder.get(path).spawn();
    eventually("it waits or fetches", || async {
        let waits = larder.metric("larder_followers").await == 1.0;
        (waits || upstream.count(path) > 3).then_some(())
    })
    .await;
    assert_eq!(upstream.count(path), 3);
    third.release();
    refused.await.unwrap().assert_text(&format!("GET {path} #3"));
    last.await.unwrap().assert_text(&format!("GET {path} #4"));
    first.release();
    before.await.unwrap().assert_status(200);
    larder.get(path).await.assert_hit().assert_text(&format!("GET {path} #4"));
}

/// Everything that can purge the slow miss.
#[derive(Clone, Copy, Debug)]
enum By {
    Purge(&'static str),
    PurgeTag(&'static str),
    Admin(&'static str),
    AdminDelete(&'static str),
    Write(&'static str, &'static str),
    /// A write whose answer points at it.
    Location,
}

const ALL: [By; 18] = [
    By::PurgeTag("items"),
    By::PurgeTag("item:1"),
    By::PurgeTag("other, ITEM:1"),
    // Tags that only the response's own fields name: nobody knows them before its head is there.
    By::PurgeTag("from-field"),
    By::PurgeTag("kind:book"),
    By::AdminDelete("/cache/tags/from-field"),
    By::AdminDelete("/cache/tags/item%3A1"),
    By::AdminDelete("/cache"),
    By::Admin(r#"{"tags": ["kind:book"]}"#),
    By::Admin(r#"{"urls": ["/items/1"]}"#),
    By::Admin(r#"{"prefixes": ["/items"]}"#),
    By::Admin(r#"{"everything": true}"#),
    By::Purge("/items/1"),
    By::Purge("/items/1?x=1"),
    By::Purge("/items/*"),
    By::Purge("/Items//%31/"),
    By::Write("POST", "/items/1/sell"),
    By::Write("PUT", "/items/1"),
];

impl By {
    async fn purge(self, larder: &Larder) {
        let reply = match self {
            By::Purge(target) => larder.request("PURGE", target).await,
            By::PurgeTag(tags) => larder.request("PURGE", "/any").header("cache-tag", tags).await,
            By::Admin(body) => larder.admin.request("POST", "/purge").body(body).await,
            By::AdminDelete(target) => larder.admin.request("DELETE", target).await,
            By::Write(method, target) => larder.request(method, target).body("{}").await,
            By::Location => larder.request("POST", "/orders").body("{}").await,
        };
        reply.assert_status(200);
    }

    fn all() -> impl Iterator<Item = By> {
        ALL.into_iter().chain([By::Location])
    }
}

fn numbered(request: &Received) -> Answer {
    let answer = Answer::numbered(request).header("location", "/items/1?x=1");
    answer.header("surrogate-key", "from-field").header("x-kind", "book")
}

fn start() -> (Upstream, Larder) {
    let upstream = Upstream::start();
    for path in ["/items/1", "/items/1/sell", "/orders"] {
        upstream.on(path, numbered);
    }
    let larder = Larder::with(ROUTES, &upstream);
    (upstream, larder)
}

/// The fetch that `numbered` answered: what comes after `#`.
fn fetch(text: &str) -> u32 {
    text.rsplit('#').next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no number in {text:?}"))
}

#[tokio::test]
async fn purged_before_its_head_is_there_it_is_not_served_later() {
    for by in By::all() {
        let (upstream, larder) = start();
        let held = upstream.hold("/items/1");
        let slow = larder.get(SLOW).spawn();
        held.arrived().await;
        by.purge(&larder).await;
        held.release();
        let slow = slow.await.unwrap();
        assert_eq!(fetch(slow.text()), 1, "{by:?}");
        let later = larder.get(SLOW).await;
        assert!(fetch(later.text()) > 1, "{by:?}: {later}");
        let again = larder.get(SLOW).await.assert_hit();
        assert_eq!(again.text(), later.text(), "{by:?}");
    }
}

/// The slow miss with its head and a part of its body on the way.
async fn halfway(upstream: &Upstream, larder: &Larder) -> (crate::support::Streaming, Feed) {
    let (answer, feed) = Answer::fed();
    let answer = answer.header("surrogate-key", "from-field").header("x-kind", "book");
    upstream.once("/items/1", answer);
    let mut slow = larder.get(SLOW).start().await;
    feed.send("first fetch ").await;
    slow.read_until("first fetch ").await;
    (slow, feed)
}

#[tokio::test]
async fn purged_in_the_middle_of_its_body_it_is_not_served_later() {
    for by in By::all() {
        let (upstream, larder) = start();
        let (slow, feed) = halfway(&upstream, &larder).await;
        by.purge(&larder).await;
        feed.send("#1").await;
        feed.end().await;
        slow.whole().await.unwrap().assert_text("#1");
        let later = larder.get(SLOW).await;
        assert!(fetch(later.text()) > 1, "{by:?}: {later}");
    }
}

#[tokio::test]
async fn a_follower_that_arrives_after_the_purge_is_not_served_by_it() {
    for by in By::all() {
        let (upstream, larder) = start();
        let held = upstream.hold("/items/1");
        let slow = larder.get(SLOW).spawn();
        held.arrived().await;
        by.purge(&larder).await;
        let follower = larder.get(SLOW).spawn();
        seen(&larder).await;
        held.release();
        assert_eq!(fetch(slow.await.unwrap().text()), 1, "{by:?}");
        let follower = follower.await.unwrap();
        assert!(fetch(follower.text()) > 1, "{by:?}: {follower}");
    }
}

#[tokio::test]
async fn a_follower_after_a_purge_in_mid_body_fetches_itself() {
    for by in By::all() {
        let (upstream, larder) = start();
        let (slow, feed) = halfway(&upstream, &larder).await;
        by.purge(&larder).await;
        // It does not wait for the fetch in flight: that ends only afterwards.
        let follower = larder.get(SLOW).await;
        assert!(fetch(follower.text()) > 1, "{by:?}: {follower}");
        feed.send("#1").await;
        feed.end().await;
        slow.whole().await.unwrap().assert_text("#1");
        let later = larder.get(SLOW).await;
        assert_eq!(later.text(), follower.text(), "{by:?}");
    }
}

#[tokio::test]
async fn only_followers_from_before_the_purge_are_served() {
    for by in By::all() {
        let (upstream, larder) = start();
        let held = upstream.hold("/items/1");
        let before = [larder.get(SLOW).spawn(), larder.get(SLOW).spawn()];
        held.arrived().await;
        by.purge(&larder).await;
        let after = [larder.get(SLOW).spawn(), larder.get(SLOW).spawn()];
        seen(&larder).await;
        held.release();
        for reply in before {
            assert!(reply.await.unwrap().status == 200, "{by:?}");
        }
        for reply in after {
            let reply = reply.await.unwrap();
            assert!(fetch(reply.text()) > 1, "{by:?}: {reply}");
        }
    }
}

#[tokio::test]
async fn a_write_that_ends_unclearly_purges_the_slow_miss_too() {
    for end in [Answer::status(500), Answer::hang_up(), Answer::raw("garbage\r\n\r\n")] {
        let (upstream, larder) = start();
        upstream.on("/items/1/sell", end);
        let held: Held = upstream.hold("/items/1");
        let slow = larder.get(SLOW).spawn();
        held.arrived().await;
        assert!(larder.request("POST", "/items/1/sell").body("{}").await.status >= 500);
        held.release();
        assert_eq!(fetch(slow.await.unwrap().text()), 1);
        assert!(fetch(larder.get(SLOW).await.text()) > 1);
    }
}

#[tokio::test]
async fn a_purge_of_something_else_leaves_the_slow_miss_alone() {
    for by in
        [By::PurgeTag("item:2"), By::Purge("/items/2"), By::Purge("/items/1?x=2"), By::Write("PUT", "/other")]
    {
        let (upstream, larder) = start();
        let held = upstream.hold("/items/1");
        let slow = larder.get(SLOW).spawn();
        held.arrived().await;
        by.purge(&larder).await;
        held.release();
        slow.await.unwrap().assert_stored();
        assert_eq!(fetch(larder.get(SLOW).await.assert_hit().text()), 1, "{by:?}");
    }
}

/// Waits until requests sent earlier were accepted, by sending others after them. The assertions hold either way; this
/// makes the interesting order the usual one.
async fn seen(larder: &Larder) {
    for _ in 0..20 {
        larder.get("/orders").await;
    }
}
