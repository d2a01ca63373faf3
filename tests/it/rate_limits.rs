//! `rate`: how often a caller may ask. A limit of few requests a day, so that no test waits for a budget to flow back.

use crate::callers::{SECRET, token};
use crate::support::{Answer, Larder, Redis, Replica, Reply, Request, Upstream};

async fn statuses(requests: impl IntoIterator<Item = Request>) -> Vec<u16> {
    let mut all = Vec::new();
    for request in requests {
        all.push(request.await.status);
    }
    all
}

fn field(reply: &Reply, name: &str) -> String {
    reply.header(name).unwrap_or_default()
}

#[tokio::test]
async fn requests_beyond_the_limit_learn_how_long_to_wait() {
    let upstream = Upstream::start();
    let larder = Larder::with(
        "routes:
  - {path: /hits, ttl: 60s, rate: {limit: 3/d}}
  - {path: /login, rate: {limit: 4/d, burst: 2, name: login}}
  - {path: /free, ttl: 60s}",
        &upstream,
    );
    let first = larder.get("/hits").await.assert_stored();
    assert_eq!(field(&first, "ratelimit-policy"), "\"/hits\";q=3;w=86400");
    assert_eq!(field(&first, "ratelimit"), "\"/hits\";r=2;t=28800");
    let hit = larder.get("/hits").await.assert_hit();
    assert_eq!(field(&hit, "ratelimit"), "\"/hits\";r=1;t=57600");
    larder.get("/hits?other=1").await.assert_status(200);
    for method in ["GET", "HEAD", "POST", "PROPFIND"] {
        let refused = larder.request(method, "/hits").await.assert_status(429);
        assert_eq!(field(&refused, "ratelimit").split(';').nth(1), Some("r=0"), "{method}");
        assert_eq!(field(&refused, "cache-control"), "no-store");
        let wait: u64 = field(&refused, "retry-after").parse().expect("seconds");
        assert!((28_700..=28_800).contains(&wait), "{method}: {wait}");
    }
    assert_eq!(upstream.count("/hits"), 2, "what is refused does not reach the API");
    // However the path is written.
    let logins = ["/login", "/login", "/login", "//login", "/Login", "/%6cogin"];
    let posts = logins.map(|path| larder.request("POST", path).body("x"));
    assert_eq!(statuses(posts).await, [200, 200, 429, 429, 429, 429]);
    larder.get("/free").await.assert_status(200).assert_header("ratelimit", None);
    let refused = |route: &str| format!("larder_over_rate_total{{route=\"{route}\",result=\"refused\"}}");
    assert_eq!(larder.metric(&refused("/hits")).await, 4.0);
    assert_eq!(larder.metric(&refused("/login")).await, 4.0);
}

#[tokio::test]
async fn the_strictest_limit_holds_in_every_spelling() {
    let upstream = Upstream::start();
    let larder = Larder::with(
        "routes:
  - {path: '/api/{*rest?}', ttl: 60s, rate: {limit: 1000/d}}
  - {path: /api/login, ttl: never, rate: {limit: 2/d}}
  - {path: /api/observed, ttl: never, rate: {limit: 1/d, mode: observe}}",
        &upstream,
    );
    let post = |path: &str| larder.request("POST", path);
    assert_eq!(statuses([post("/api/Login"), post("/api//login")]).await, [200, 200]);
    for path in ["/api/login", "/api//login", "/api/Login", "/api/%6cogin", "/api/login/"] {
        for method in ["POST", "GET", "OPTIONS", "PROPFIND"] {
            let refused = larder.request(method, path).await;
            assert_eq!(refused.status, 429, "{method} {path}");
            assert!(field(&refused, "ratelimit-policy").contains("/api/login"), "{method} {path}");
        }
        let upgrade = larder.get(path).header("connection", "upgrade").header("upgrade", "websocket");
        assert_eq!(upgrade.await.status, 429, "{path}");
    }
    for path in ["/api/observed", "/api/Observed", "/api/other"] {
        assert_eq!(statuses([post(path), post(path)]).await, [200, 200], "{path}");
    }
}

#[tokio::test]
async fn a_limit_of_misses_leaves_hits_alone() {
    let upstream = Upstream::start();
    let larder = Larder::with(
        "routes: [{path: '/items/{id}', ttl: 60s, rate: {limit: 2/d, count: misses}}]",
        &upstream,
    );
    larder.get("/items/1").await.assert_stored();
    for _ in 0..5 {
        larder.get("/items/1").await.assert_hit().assert_header("ratelimit", None);
    }
    larder.get("/items/2").await.assert_stored();
    let refused = larder.get("/items/3").await.assert_status(429);
    assert_eq!(field(&refused, "ratelimit").split(';').nth(1), Some("r=0"));
    // Requests that only the API may answer count, too.
    larder.get("/items/1").header("if-match", "\"x\"").await.assert_status(429);
    larder.request("PUT", "/items/1").await.assert_status(429);
    larder.get("/items/1").await.assert_hit();
    assert_eq!(upstream.count("/items/1"), 1);
}

#[tokio::test]
async fn a_miss_that_does_not_reach_the_api_is_free() {
    let upstream = Upstream::start();
    let larder = Larder::with(
        "routes: [{path: /a, ttl: 60s, request_directives: true, rate: {limit: 1/d, count: misses}}]",
        &upstream,
    );
    for _ in 0..3 {
        larder.get("/a").header("cache-control", "only-if-cached").await.assert_status(504);
    }
    larder.get("/a").await.assert_stored();
    larder.get("/a?other").await.assert_status(429);
}

#[tokio::test]
async fn callers_are_told_apart_by_what_the_limit_names() {
    let upstream = Upstream::start();
    let larder = Larder::with(
        &format!(
            "callers: {{app: {{jwt: {{secret: \"{SECRET}\", algorithms: [HS256]}}}}}}
trusted_proxies: [127.0.0.1/32]
routes:
  - {{path: /mine, ttl: 60s, callers: app, shared: true, rate: {{limit: 2/d, by: jwt.sub}}}}
  - {{path: /chat, ttl: never, callers: app, rate: {{limit: 2/d, by: jwt.sub}}}}
  - {{path: /key, rate: {{limit: 1/d, by: header.X-Key}}}}
  - {{path: /a, rate: {{limit: 1/d, name: api}}}}
  - {{path: /b, rate: {{limit: 1/d, name: api}}}}"
        ),
        &upstream,
    );
    let from = |request: Request, address: &str| request.header("x-forwarded-for", address);
    let mine = |claims: &str, address: &str| {
        from(larder.get("/mine").header("authorization", &format!("Bearer {}", token(claims))), address)
    };
    let (ann, other_device, bob) = (r#"{"sub":"ann"}"#, r#"{"sub":"ann","jti":"2"}"#, r#"{"sub":"bob"}"#);
    let of_ann = [(ann, "192.0.2.1"), (other_device, "192.0.2.2"), (ann, "192.0.2.3")];
    assert_eq!(statuses(of_ann.map(|(claims, from)| mine(claims, from))).await, [200, 200, 429]);
    mine(bob, "192.0.2.1").await.assert_status(200);
    // A token that is not accepted counts for its address.
    let forged = |number: u32| {
        let value = format!("Bearer {}x{number}", token(ann));
        from(larder.get("/mine").header("authorization", &value), "192.0.2.9")
    };
    assert_eq!(statuses([1, 2, 3].map(forged)).await, [200, 200, 429]);

    // A caller is told apart where nothing else asks who it is.
    let chat = |claims: &str, address: &str, method: &str| {
        let request =
            larder.request(method, "/chat").header("authorization", &format!("Bearer {}", token(claims)));
        from(request, address)
    };
    let chats = [(ann, "GET"), (bob, "GET"), (ann, "OPTIONS"), (bob, "POST")];
    assert_eq!(statuses(chats.map(|(claims, method)| chat(claims, "192.0.2.1", method))).await, [200; 4]);
    assert_eq!(statuses([chat(ann, "192.0.2.2", "GET"), chat(bob, "192.0.2.3", "GET")]).await, [429, 429]);

    let key = |key: &str| from(larder.get("/key").header("x-key", key), "192.0.2.1");
    assert_eq!(statuses([key("a"), key("b"), key("a")]).await, [200, 200, 429]);
    let address = |address: &str| from(larder.get("/key"), address);
    let addresses = ["192.0.2.1", "192.0.2.2", "192.0.2.1", "2001:db8::1", "2001:db8::2"].map(address);
    assert_eq!(statuses(addresses).await, [200, 200, 429, 200, 429]);

    let named = ["/a", "/b"].map(|path| from(larder.get(path), "192.0.2.1"));
    assert_eq!(statuses(named).await, [200, 429]);
    // The proxy's own requests, which name no client.
    assert_eq!(statuses([larder.get("/a"), larder.get("/a")]).await, [200, 200]);

    let ports = ["198.51.100.1:5678", "198.51.100.1:5679", "[2001:db8:7::1]:1", "[2001:db8:7::1]"];
    assert_eq!(statuses(ports.map(address)).await, [200, 429, 200, 429]);
    // A client whose address can't be read counts for its proxy.
    let unknown = || from(larder.get("/key"), "unknown");
    let forwarded = larder.get("/key").header("forwarded", "for=198.51.100.2");
    assert_eq!(statuses([unknown(), unknown(), forwarded, key("c")]).await, [200, 429, 429, 200]);
    let unidentified = "larder_over_rate_total{route=\"/key\",result=\"unidentified\"}";
    assert_eq!(larder.metric(unidentified).await, 2.0);
}

#[tokio::test]
async fn an_observed_limit_only_counts() {
    let upstream = Upstream::start();
    let larder = Larder::with(
        "routes:
  - {path: /a, rate: {limit: 1/d, mode: observe}}
  - {path: /b, mode: observe, ttl: 60s, rate: {limit: 1/d}}
  - {path: /c, mode: observe, ttl: 60s, rate: {limit: 1/d, count: misses}}
  - {path: /off, mode: off, ttl: 60s, rate: {limit: 1/d}}",
        &upstream,
    );
    for path in ["/a", "/b", "/c?1", "/a", "/b", "/c?2", "/a", "/b", "/c?3"] {
        larder.get(path).await.assert_status(200).assert_header("ratelimit", None);
    }
    for route in ["/a", "/b", "/c"] {
        let observed = format!("larder_over_rate_total{{route=\"{route}\",result=\"observed\"}}");
        assert_eq!(larder.metric(&observed).await, 2.0, "{route}");
    }
    assert_eq!(statuses([larder.get("/off"), larder.get("/off")]).await, [200, 429]);
}

#[tokio::test]
async fn replicas_have_one_budget_and_each_its_own_without_redis() {
    let routes = "routes: [{path: '/items/{id}', ttl: 60s, rate: {limit: 4/d}}]";
    let (mut redis, upstream, [one, other]) = Replica::two("max_lag: 0s, timeout: 5s", routes).await;
    upstream.on("/items/1", Answer::ok("x"));
    let both = [&one, &other, &one, &other, &one, &other].map(|replica| replica.get("/items/1"));
    assert_eq!(statuses(both).await, [200, 200, 200, 200, 429, 429]);
    assert_eq!(redis.command(&["EVAL", "return #redis.call('KEYS', '*:rate:*')", "0"]).await, "1");
    // A caller who was refused is not asked for again.
    let asked = "larder_redis_commands_total{command=\"rate\",result=\"ok\"}";
    let before = one.metric(asked).await;
    one.get("/items/1").await.assert_status(429);
    assert_eq!(one.metric(asked).await, before);
    // The clock of Redis steps back: a caller owes a budget, and no more.
    let owe_two_days = "local key = redis.call('KEYS', '*:rate:*')[1] \
         return redis.call('SET', key, string.format('%.0f', (redis.call('TIME')[1] + 172800) * 1000000))";
    redis.command(&["EVAL", owe_two_days, "0"]).await;
    let started_later = Replica::start_alone(&redis.url(), &upstream, "max_lag: 0s, timeout: 5s", routes);
    started_later.is_connected().await;
    let refused = started_later.get("/items/1").await.assert_status(429);
    let wait: u64 = field(&refused, "retry-after").parse().expect("seconds");
    assert!(wait <= 21_600, "{wait}");
    redis.kill();
    one.is_cut_off().await;
    one.get("/items/1").await.assert_status(429);
}

/// With a Redis that can't be reached, a replica counts alone.
#[tokio::test]
async fn without_redis_nothing_is_refused_that_is_within_the_limit() {
    let upstream = Upstream::start();
    let mut redis = Redis::start().await;
    redis.kill();
    let routes = "routes: [{path: /a, rate: {limit: 2/d}}]";
    let replica = Replica::start_alone(&redis.url(), &upstream, "", routes);
    assert_eq!(statuses((0..3).map(|_| replica.get("/a"))).await, [200, 200, 429]);
}

#[tokio::test]
async fn a_preflight_of_a_browser_is_free() {
    let upstream = Upstream::start();
    let larder = Larder::with("routes: [{path: /a, ttl: never, rate: {limit: 1/d}}]", &upstream);
    let options = || larder.request("OPTIONS", "/a").header("origin", "https://a.example");
    for _ in 0..3 {
        options().header("access-control-request-method", "POST").await.assert_status(200);
    }
    options().await.assert_status(200);
    options().await.assert_status(429);
}
