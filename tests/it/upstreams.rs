//! Several instances of one API: each request goes to one that answers, and a failure is repeated elsewhere only if that
//! does no harm.

use tokio::net::TcpListener;

use crate::support::{Answer, Larder, Upstream, eventually, free_port};

fn larder(urls: &[&str], settings: &str) -> Larder {
    let yaml =
        format!("upstream: {{url: [{}]{settings}}}\nroutes: [{{path: /a, ttl: 60s}}]", urls.join(", "));
    Larder::with_upstream_url(urls[0], &yaml)
}

#[tokio::test]
async fn requests_take_turns_and_go_where_fewer_are_in_flight() {
    let (one, other) = (Upstream::start(), Upstream::start());
    let larder = larder(&[&one.url(), &other.url()], "");
    for number in 0..8 {
        larder.get(&format!("/{number}")).await.assert_status(200);
    }
    assert!(one.total() > 0 && other.total() > 0, "{} {}", one.total(), other.total());
    let held = [one.hold_every("/slow"), other.hold_every("/slow")];
    let mut slow = Vec::new();
    for number in 1..=6 {
        slow.push(larder.get("/slow").spawn());
        eventually("it has arrived", || async {
            (one.count("/slow") + other.count("/slow") == number).then_some(())
        })
        .await;
    }
    assert_eq!((one.count("/slow"), other.count("/slow")), (3, 3));
    held.into_iter().for_each(|held| held.release());
    for reply in slow {
        reply.await.expect("a reply").assert_status(200);
    }
}

#[tokio::test]
async fn an_instance_that_is_gone_costs_no_request() {
    let upstream = Upstream::start();
    let larder = larder(&[&Upstream::nowhere(), &upstream.url()], ", breaker: 2, buffer_requests: 0");
    for number in 0..8 {
        larder.get(&format!("/{number}")).await.assert_status(200);
        larder.request("POST", "/w").body("content").await.assert_status(200);
        assert_eq!(upstream.last("/w").body, b"content");
    }
    assert_eq!(larder.metric("larder_upstream_failures_total{reason=\"unreachable\"}").await, 0.0);
}

#[tokio::test]
async fn a_request_without_host_gets_the_address_of_its_instance() {
    let upstream = Upstream::start();
    let larder = larder(&[&Upstream::nowhere(), &upstream.url()], "");
    let mut raw = larder.raw().await;
    raw.send("GET /x HTTP/1.0\r\n\r\n").await;
    assert_eq!(raw.status().await, 200);
    assert_eq!(upstream.last("/x").header("host"), Some(upstream.address().to_string()));
}

#[tokio::test]
async fn an_instance_that_is_back_gets_requests_again() {
    let port = free_port();
    let gone = format!("http://127.0.0.1:{port}");
    let other = Upstream::start();
    let larder = larder(&[&gone, &other.url()], ", breaker: 1");
    let up = |url: &str| format!("larder_upstream_up{{upstream=\"{url}\"}}");
    eventually("it is known to be gone", || async {
        larder.get("/x").await.assert_status(200);
        (larder.metric(&up(&gone)).await == 0.0).then_some(())
    })
    .await;
    assert_eq!(larder.metric(&up(&other.url())).await, 1.0);
    assert_eq!(larder.metric("larder_upstream_breaker_open").await, 0.0);
    let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("its port");
    let back = tokio::spawn(async move { listener.accept().await.map(drop) });
    eventually("it is asked again", || async {
        larder.get("/x").await.assert_status(200);
        back.is_finished().then_some(())
    })
    .await;
}

#[tokio::test]
async fn only_a_read_is_repeated_when_an_instance_hangs_up() {
    let instances = [Upstream::start(), Upstream::start(), Upstream::start()];
    let urls: Vec<_> = instances.iter().map(Upstream::url).collect();
    let start = || larder(&urls.iter().map(String::as_str).collect::<Vec<_>>(), "");
    let larder = start();
    for (method, requests) in [("GET", 2), ("HEAD", 2), ("POST", 1), ("PUT", 1), ("DELETE", 1)] {
        let path = format!("/{method}");
        instances.iter().for_each(|it| _ = it.on(&path, Answer::hang_up()));
        larder.request(method, &path).await.assert_status(502);
        let mut counts: Vec<_> = instances.iter().map(|it| it.count(&path)).collect();
        counts.sort_unstable();
        assert_eq!(counts.iter().sum::<usize>(), requests, "{method}");
        assert!(counts[2] == 1, "{method}: {counts:?}");
    }
    instances[1..].iter().for_each(|it| _ = it.on("/half", Answer::ok("ok")));
    instances[0].on("/half", Answer::hang_up());
    // Another, which suspects no instance yet.
    let larder = start();
    for _ in 0..6 {
        larder.get("/half").await.assert_text("ok");
    }
    assert!(instances[0].count("/half") > 0);
}

#[tokio::test]
async fn a_request_is_not_repeated_after_its_time() {
    let (one, other) = (Upstream::start(), Upstream::start());
    let larder = larder(&[&one.url(), &other.url()], ", response_timeout: 100ms");
    [&one, &other].into_iter().for_each(|it| _ = it.on("/slow", Answer::silence()));
    larder.get("/slow").await.assert_status(504);
    assert_eq!(one.count("/slow") + other.count("/slow"), 1);
    // The other one answers, until the first is asked again.
    larder.get("/quick").await.assert_status(200);
}

#[tokio::test]
async fn without_any_instance_requests_fail_and_then_fail_at_once() {
    let urls = [Upstream::nowhere(), Upstream::nowhere()];
    let larder = larder(&[&urls[0], &urls[1]], ", breaker: 3");
    eventually("the breakers open", || async {
        let status = larder.get("/x").await.status;
        assert!([502, 503].contains(&status), "{status}");
        (status == 503).then_some(())
    })
    .await;
    assert_eq!(larder.metric("larder_upstream_breaker_open").await, 1.0);
}

#[tokio::test]
async fn an_instance_that_ends_each_connection_gets_few_writes() {
    let (upstream, broken) = (Upstream::start(), Upstream::start());
    broken.on("/w", Answer::hang_up());
    let larder = larder(&[&upstream.url(), &broken.url()], "");
    for _ in 0..20 {
        larder.request("POST", "/w").body("content").await;
    }
    assert_eq!((upstream.count("/w"), broken.count("/w")), (19, 1));
}
