//! Behind a balancer that says in a PROXY protocol header for whom it connects.

use crate::support::{Larder, Raw, Scratch, Upstream};

const V4: &str = "PROXY TCP4 192.0.2.7 10.0.0.1 40000 80\r\n";

fn yaml(trusted: &str, more: &str) -> String {
    format!(
        "listen: {{address: \"127.0.0.1:1\", proxy_protocol: true}}\ntrusted_proxies: [{trusted}]\n{more}\n\
         routes: [{{path: /a, ttl: 60s}}]\n"
    )
}

async fn answer(raw: &mut Raw, before: impl AsRef<[u8]>, request: &str) -> String {
    raw.send(before)
        .await
        .send(format!("{request} HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n"))
        .await;
    raw.rest().await
}

#[tokio::test]
async fn the_client_is_who_the_balancer_says_it_is() {
    let upstream = Upstream::start();
    let scratch = Scratch::new();
    let log = scratch.path().join("access.log");
    let more = format!(
        "purge: {{allow: [192.0.2.7]}}\nlog: {{access: {{format: combined, path: \"{}\"}}}}",
        log.display()
    );
    let larder = Larder::with(&yaml("127.0.0.0/8", &more), &upstream);
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\x9c\x40\0\x50".to_vec();
    for header in [V4.as_bytes().to_vec(), v2.clone()] {
        let mut raw = larder.raw().await;
        let answered = answer(&mut raw, header, "GET /b").await;
        assert!(answered.starts_with("HTTP/1.1 200"), "{answered}");
        assert_eq!(upstream.last("/b").header("x-forwarded-for").unwrap(), "192.0.2.7");
    }
    let purged = answer(&mut larder.raw().await, V4, "PURGE /a").await;
    assert!(purged.starts_with("HTTP/1.1 200"), "{purged}");
    // Another client, and the balancer itself, may not.
    v2[19] = 8;
    for header in [v2, b"PROXY UNKNOWN\r\n".to_vec()] {
        let refused = answer(&mut larder.raw().await, header, "PURGE /a").await;
        assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    }
    drop(larder);
    let logged = crate::support::eventually("lines", || async {
        std::fs::read_to_string(&log).ok().filter(|text| text.lines().count() == 5)
    });
    let clients: Vec<_> =
        logged.await.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(clients, ["192.0.2.7", "192.0.2.7", "192.0.2.7", "192.0.2.8", "127.0.0.1"]);
}

#[tokio::test]
async fn without_a_whole_header_in_its_time_nobody_gets_in() {
    let upstream = Upstream::start();
    let larder = Larder::with(&yaml("127.0.0.0/8", "limits: {header_timeout: 300ms}"), &upstream);
    for header in ["", "GET / HTTP/1.1\r\nHost: api\r\n\r\n", "PROXY TCP4 1 2 3 4\r\n"] {
        assert_eq!(answer(&mut larder.raw().await, header, "GET /a").await, "", "{header}");
    }
    let mut slow = larder.raw().await;
    slow.send("PROXY TCP4 192").await.is_closed().await;
    larder.metric_becomes("larder_connections_refused_total{by=\"proxy-protocol\"}", 4.0).await;
    assert_eq!(upstream.total(), 0);
}

#[tokio::test]
async fn whoever_is_not_trusted_does_not_get_in() {
    let upstream = Upstream::start();
    let larder = Larder::with(&yaml("192.0.2.0/24", ""), &upstream);
    assert_eq!(answer(&mut larder.raw().await, V4, "GET /a").await, "");
    larder.metric_becomes("larder_connections_refused_total{by=\"proxy-protocol\"}", 1.0).await;
    assert_eq!(upstream.total(), 0);
}
