//! `No-Vary-Search`: one response answers many queries, and a purge of any of their URLs reaches it.

use crate::support::{Answer, Larder, Received, Redis, Replica, Upstream};

const ROUTES: &str = "
purge: {allow: [127.0.0.1]}
routes:
  - {path: /p, no_vary_search: true}
  - {path: /off}
";

const STRICT: &str = "max_lag: 0s, timeout: 5s";

/// Repeats its query, as a page does in its links, and says what of it does not matter.
fn repeats_its_query(field: &'static str) -> impl Fn(&Received) -> Answer + Send + Sync + 'static {
    move |request| {
        let answer = Answer::ok(format!("{} #{}", request.query().unwrap_or("-"), request.nth));
        answer.header("cache-control", "max-age=60").header("no-vary-search", field)
    }
}

fn sent(upstream: &Upstream, path: &str) -> Vec<String> {
    upstream.received(path).iter().map(|request| request.query().unwrap_or("-").to_owned()).collect()
}

#[tokio::test]
async fn one_response_answers_equivalent_queries() {
    for (field, queries, fetched) in [
        (
            "params=(\"utm\")",
            &["id=1&utm=a", "utm=b&id=1", "id=1", "id=2&utm=c"][..],
            &["id=1&utm=a", "id=1", "id=2"][..],
        ),
        ("key-order", &["b=1&a=2", "a=2&b=1", "b=1&a=2", "a=3&b=1"], &["b=1&a=2", "a=2&b=1", "a=3&b=1"]),
        ("params, except=(\"id\")", &["id=1&x", "y&id=1", "id=1&z=2"], &["id=1&x", "id=1"]),
        ("params", &["x", "y", "z"], &["x", "-"]),
        // An invalid field says nothing.
        ("params=(utm)", &["id=1&utm=a", "id=1&utm=b", "id=1"], &["id=1&utm=a", "id=1&utm=b", "id=1"]),
    ] {
        let upstream = Upstream::start();
        for path in ["/p", "/off"] {
            upstream.on(path, repeats_its_query(field));
        }
        let larder = Larder::with(ROUTES, &upstream);
        for query in queries {
            larder.get(&format!("/p?{query}")).await.assert_status(200);
            larder.get(&format!("/off?{query}")).await.assert_status(200);
        }
        assert_eq!(sent(&upstream, "/p"), fetched, "{field}");
        let mut distinct = queries.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(upstream.count("/off"), distinct.len(), "{field}");
    }
}

/// A parameter that one client adds to its query is never part of another's response.
#[tokio::test]
async fn a_parameter_that_is_ignored_reaches_no_other_client() {
    let upstream = Upstream::start();
    upstream.on("/p", repeats_its_query("key-order, params=(\"utm\")"));
    let larder = Larder::with(ROUTES, &upstream);
    for query in
        ["id=1&utm=<script>", "utm=<script>&id=1", "id=1", "id=1&utm=x", "id=1;utm=x", "id=1&%75tm=y"]
    {
        let query = query.replace('<', "%3C").replace('>', "%3E");
        let reply = larder.get(&format!("/p?{query}")).await;
        let own = reply.text().contains("script");
        assert!(!own || query.contains("script"), "{query}: {reply}");
    }
    // The first one is stored for its own query alone, and is not even found by that, now that the path is known.
    larder.get("/p?id=1&utm=%3Cscript%3E").await.assert_hit().assert_text("id=1 #2");
}

#[tokio::test]
async fn a_response_is_given_only_by_its_own_field() {
    let upstream = Upstream::start();
    upstream.on("/p", |request: &Received| match request.query() {
        Some(query) if query.contains("plain") => {
            Answer::ok(query.to_owned()).header("cache-control", "max-age=60")
        }
        Some(query) if query.contains("gone") => Answer::status(404).body(query.to_owned()),
        Some(query) if query.contains("down") => Answer::status(503).body(query.to_owned()),
        _ => repeats_its_query("params=(\"utm\")")(request),
    });
    let larder = Larder::with(ROUTES, &upstream);
    let get = async |query: &str| larder.get(&format!("/p?{query}")).await;
    for (nth, (query, expected)) in [
        ("plain&utm=2", &["plain", "plain&utm=2"][..]),
        ("gone&utm=2", &["gone", "gone&utm=2"]),
        // The upstream fails, whatever it is asked.
        ("down&utm=2", &["down"]),
    ]
    .into_iter()
    .enumerate()
    {
        get("id=1&utm=1").await;
        get(&format!("id=new{nth}&utm=1")).await;
        let before = upstream.count("/p");
        let reply = get(query).await;
        assert_eq!(sent(&upstream, "/p")[before..], *expected, "{query}");
        assert_eq!(reply.text(), *expected.last().unwrap());
    }
    // The response to the shorter query is not for the longer one, which is stored for itself.
    get("id=1&utm=1").await;
    get("plain&utm=2").await.assert_hit().assert_text("plain&utm=2");
    larder.request("HEAD", "/p?plain&utm=2").await.assert_hit();
}

#[tokio::test]
async fn an_error_says_nothing_of_the_other_queries_of_its_path() {
    let upstream = Upstream::start();
    upstream.on("/p", |request: &Received| match request.query() {
        Some(query) if query.contains("gone") => Answer::status(404).header("cache-control", "max-age=60"),
        _ => repeats_its_query("params=(\"utm\")")(request),
    });
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/p?id=1&utm=1").await;
    larder.get("/p?id=1&utm=2").await;
    for query in ["gone=1&utm=1", "gone=1&utm=2", "gone=2&utm=1"] {
        larder.get(&format!("/p?{query}")).await.assert_status(404);
        larder.get("/p?id=1&utm=3").await.assert_hit();
    }
}

#[tokio::test]
async fn requests_for_equivalent_queries_are_one_fetch() {
    let upstream = Upstream::start();
    upstream.on("/p", repeats_its_query("params=(\"utm\")"));
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/p?utm=0").await;
    let held = upstream.hold_every("/p");
    let crowd: Vec<_> = (1..20).map(|at| larder.get(&format!("/p?id=1&utm={at}")).spawn()).collect();
    held.arrived().await;
    held.release();
    for reply in crowd {
        reply.await.unwrap().assert_text("id=1 #2");
    }
    // A field that has changed meanwhile is obeyed: nobody gets what is not for them.
    upstream.on("/p", repeats_its_query("params=(\"other\")"));
    let held = upstream.hold_every("/p");
    let crowd: Vec<_> = (1..5).map(|at| (at, larder.get(&format!("/p?id=2&utm={at}")).spawn())).collect();
    held.arrived().await;
    held.release();
    for (at, reply) in crowd {
        assert!(reply.await.unwrap().text().starts_with(&format!("id=2&utm={at} #")));
    }
}

#[tokio::test]
async fn a_purge_of_any_equivalent_url_reaches_the_response() {
    for purged in [
        "/p?id=1",
        "/p?id=1&utm=b",
        "/p?utm=never-seen&id=1",
        "/p",
        "/p/*",
        "http://api/p?id=1&utm=b",
        "/P?id=1",
    ] {
        let upstream = Upstream::start();
        upstream.on("/p", repeats_its_query("params=(\"utm\")"));
        let larder = Larder::with(ROUTES, &upstream);
        let get = |query: &str| larder.get(&format!("/p?{query}")).header("host", "api");
        get("id=1&utm=a").await;
        get("id=1&utm=b").await.assert_text("id=1 #2");
        get("id=1&utm=c").await.assert_hit();
        larder.request("PURGE", purged).header("host", "api").await.assert_status(200);
        get("id=1&utm=c").await.assert_text("id=1 #3");
        assert!(!get("id=1&utm=a").await.text().contains("#1"), "{purged}");
    }
    // A write purges every query of its URL, as ever.
    let upstream = Upstream::start();
    upstream.on("/p", repeats_its_query("params=(\"utm\")"));
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/p?id=1&utm=a").await;
    larder.get("/p?id=1&utm=b").await;
    larder.request("POST", "/p?utm=x").body("x").await;
    larder.get("/p?id=1&utm=c").await.assert_text("id=1 #4");
    assert_eq!(sent(&upstream, "/p")[2], "utm=x", "a write is forwarded as it came");
}

#[tokio::test]
async fn a_purge_by_another_replica_reaches_the_response() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    upstream.on("/p", repeats_its_query("params=(\"utm\")"));
    let with = Replica::start(&redis, &upstream, STRICT, "routes: [{path: /p, no_vary_search: true}]").await;
    // This one does not simplify, so it never heard of the other query.
    let without = Replica::start(&redis, &upstream, STRICT, "routes: [{path: /p}]").await;
    with.get("/p?id=1&utm=a").await;
    with.get("/p?id=1&utm=b").await.assert_text("id=1 #2");
    without.request("PURGE", "/p?id=1&utm=b").await.assert_status(200);
    with.get("/p?id=1&utm=b").await.assert_text("id=1 #3");
}

#[tokio::test]
async fn a_stale_response_is_refreshed_as_it_was_fetched() {
    let upstream = Upstream::start();
    upstream.on("/p", |request: &Received| {
        repeats_its_query("params=(\"utm\")")(request)
            .header("cache-control", "stale-while-revalidate=60")
            .header("etag", "\"v\"")
    });
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/p?utm=a").await;
    larder.get("/p?utm=b").await.assert_text("- #2");
    larder.after(70);
    larder.get("/p?utm=c").await.assert_hit().assert_text("- #2");
    upstream.has_received("/p", 3).await;
    assert_eq!(sent(&upstream, "/p")[2], "-");
    assert_eq!(upstream.last("/p").header("if-none-match").as_deref(), Some("\"v\""));
}

#[tokio::test]
async fn what_is_forwarded_uncached_keeps_its_query() {
    let upstream = Upstream::start();
    upstream.on("/p", repeats_its_query("params=(\"utm\")"));
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/p?utm=a").await;
    larder.get("/p?utm=b").header("if-match", "\"x\"").await;
    larder.request("OPTIONS", "/p?utm=c").await;
    larder.request("HEAD", "/p?utm=d&id=2").await;
    assert_eq!(sent(&upstream, "/p")[1..], ["utm=b", "utm=c", "utm=d&id=2"]);
}
