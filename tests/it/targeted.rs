//! Targeted fields (RFC 9213): the upstream's word for larder, or for CDNs, in the place of `Cache-Control`.

use crate::support::{Answer, Larder, Upstream};

const ROUTES: &str = "
routes:
  - {path: /larder}
  - {path: /cdn, targeted: [Larder-Cache-Control, CDN-Cache-Control]}
  - {path: /none, targeted: []}
  - {path: /surrogate, targeted: [Surrogate-Control]}
";

/// How many seconds `path` is fresh when it answers with `fields`; `None`: not stored.
async fn lifetime(path: &str, fields: &[(&str, &str)]) -> Option<i64> {
    let upstream = Upstream::start();
    upstream.on(path, fields.iter().fold(Answer::ok(""), |answer, (name, value)| answer.header(name, value)));
    let larder = Larder::with(ROUTES, &upstream);
    larder.get(path).await;
    let again = larder.get(path).await;
    again.is_hit().then(|| again.remaining_ttl())
}

#[tokio::test]
async fn the_first_valid_targeted_field_replaces_expires_too() {
    const LARDER: &str = "larder-cache-control";
    const CDN: &str = "cdn-cache-control";
    const CC: &str = "cache-control";
    let expires = ("expires", "Thu, 20 Nov 2025 12:16:40 GMT");
    for (path, fields, expected) in [
        ("/larder", &[(LARDER, "max-age=10"), (CC, "max-age=20")][..], Some(10)),
        ("/larder", &[(LARDER, "max-age=10"), (CC, "no-store, private")], Some(10)),
        ("/larder", &[(LARDER, "no-store"), (CC, "max-age=20")], None),
        ("/larder", &[(LARDER, "private"), (CC, "public, max-age=20")], None),
        // A CDN's is for CDNs, unless the route lists it.
        ("/larder", &[(CDN, "max-age=10"), (CC, "max-age=20")], Some(20)),
        ("/cdn", &[(CDN, "max-age=10"), (CC, "max-age=20")], Some(10)),
        ("/cdn", &[(CDN, "max-age=10"), (LARDER, "max-age=30"), (CC, "max-age=20")], Some(30)),
        (
            "/surrogate",
            &[("surrogate-control", "max-age=10, content=\"ESI/1.0\""), (CC, "no-store")],
            Some(10),
        ),
        ("/surrogate", &[("surrogate-control", "no-store"), (CC, "max-age=20")], None),
        ("/none", &[(LARDER, "max-age=10"), (CC, "max-age=20")], Some(20)),
        // One that is not valid, or empty, is as if it were not there.
        ("/cdn", &[(LARDER, "max-age=30, &"), (CDN, "max-age=10"), (CC, "max-age=20")], Some(10)),
        ("/cdn", &[(LARDER, ""), (CDN, "MAX-AGE=10"), (CC, "max-age=20")], Some(20)),
        ("/cdn", &[(CDN, "max-age=\"10\""), (CC, "max-age=20")], None),
        // `Expires` is Cache-Control's companion.
        ("/larder", &[expires], Some(1000)),
        ("/larder", &[(LARDER, "public"), expires], None),
        ("/larder", &[(LARDER, "max-age=10"), expires], Some(10)),
        // It says nothing of who may have the response, or of how old it is.
        ("/larder", &[(LARDER, "max-age=10"), ("set-cookie", "a=b")], None),
        ("/larder", &[(LARDER, "max-age=10"), ("vary", "*")], None),
        ("/larder", &[(LARDER, "max-age=10"), ("age", "4")], Some(6)),
    ] {
        assert_eq!(lifetime(path, fields).await, expected, "{path} {fields:?}");
    }
}

#[tokio::test]
async fn a_304_can_change_what_is_said_to_larder() {
    let upstream = Upstream::start();
    let first = Answer::ok("content").header("etag", "\"1\"").header("larder-cache-control", "max-age=10");
    upstream.once("/larder", first);
    upstream.on(
        "/larder",
        Answer::status(304).header("etag", "\"1\"").header("larder-cache-control", "max-age=99"),
    );
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/larder").await;
    larder.after(10);
    larder.get("/larder").await.assert_fwd("stale");
    assert_eq!(larder.get("/larder").await.assert_hit().remaining_ttl(), 99);
}
