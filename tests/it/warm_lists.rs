//! Lists that are warmed to their last page, runs that an operator starts, and their progress.

use serde_json::{Value, json};

use crate::support::{Answer, Command, HOST, Larder, Received, Reply, Upstream};

const ROUTES: &str = "
background: {host: shop.test, rate: 10000}
routes:
  - {path: /api/courses, name: courses, ttl: 10m, query: {page: 1, cursor: none}, shared: true}
  - {path: '/api/courses/{id}', name: course, ttl: 10m, shared: true}
";

const DETAILS: &str = "{name: all, on_start: false, every: 5m, from: '/api/courses?page={page}', each: '$.courses[*].id', \
                       until: last_page, get: '/api/courses/{}'}";

fn read_page(request: &Received) -> usize {
    let page = request.target.rsplit_once("page=").map_or("1", |(_, page)| page);
    page.parse().expect("a number")
}

fn courses(ids: &[usize]) -> Value {
    json!({"courses": ids.iter().map(|id| json!({"id": id})).collect::<Vec<_>>()})
}

/// An API whose list has three pages of two courses.
fn start_api() -> Upstream {
    let upstream = Upstream::start();
    upstream.on("/api/courses", |request: &Received| {
        let page = read_page(request);
        Answer::json(
            courses(if page <= 3 { &[10, 20] } else { &[] }).to_string().replace('0', &page.to_string()),
        )
    });
    upstream
}

fn start(upstream: &Upstream, warm: &str) -> Larder {
    Larder::with(&format!("{ROUTES}\nwarm: [{warm}]"), upstream)
}

async fn get(larder: &Larder, target: &str) -> Reply {
    larder.get(target).header("host", HOST).await
}

async fn post(larder: &Larder, body: &Value) -> Value {
    larder.admin.request("POST", "/warm").body(body.to_string()).await.assert_status(200).json()
}

/// Many APIs answer a number beyond the end with their last page.
#[tokio::test]
async fn numbered_pages_end_where_one_is_repeated() {
    let upstream = start_api();
    upstream.on("/api/courses", |request: &Received| {
        let is_first = !request.target.contains("page=") || request.target.ends_with("page=1");
        Answer::json(if is_first { r#"{"courses": [{"id": 11}]}"# } else { r#"{"courses": [{"id": 12}]}"# })
    });
    let larder = start(&upstream, DETAILS);
    let done = post(&larder, &json!({"name": "all"})).await;
    assert_eq!(upstream.count("/api/courses"), 3, "{done}");
}

#[tokio::test]
async fn numbered_pages_are_walked_until_one_is_empty() {
    let upstream = start_api();
    let larder = start(&upstream, DETAILS);
    let done = post(&larder, &json!({"name": "all"})).await;
    // Three pages and six courses; the pages were fetched when they were read.
    assert_eq!(
        (&done["requests"], &done["fetched"], &done["fresh"]),
        (&json!(9), &json!(6), &json!(3)),
        "{done}"
    );
    assert_eq!(upstream.count("/api/courses"), 4);
    for target in ["/api/courses", "/api/courses?page=3", "/api/courses/11", "/api/courses/23"] {
        get(&larder, target).await.assert_hit();
    }
    // It is a run of the entry like any other.
    let shown = larder.admin.get("/warm").await.json();
    assert_eq!(
        (&shown["warm"][0]["runs"], &shown["warm"][0]["tally"]["requests"]),
        (&json!(1), &json!(9)),
        "{shown}"
    );
    // Pages that would expire before the next run are renewed, too.
    larder.after(301);
    larder.metric_becomes("larder_warm_runs_total", 2.0).await;
    larder.after(299);
    get(&larder, "/api/courses?page=2").await.assert_hit();
}

#[tokio::test]
async fn a_page_that_is_not_there_ends_the_list() {
    let upstream = start_api();
    upstream.on("/api/courses", |request: &Received| match read_page(request) {
        1 => Answer::json(courses(&[1]).to_string()),
        _ => Answer::status(404),
    });
    let larder = start(&upstream, DETAILS);
    let done = post(&larder, &json!({"name": "all"})).await;
    assert_eq!((&done["requests"], &done["failed"]), (&json!(2), &json!(0)), "{done}");
    // If the first is not there, something is wrong.
    upstream.on("/api/courses", Answer::status(404));
    larder.request("PURGE", "/api/courses").header("host", HOST).await.assert_status(200);
    let failed = post(&larder, &json!({"name": "all"})).await;
    assert_eq!((&failed["requests"], &failed["failed"]), (&json!(0), &json!(1)), "{failed}");
}

#[tokio::test]
async fn links_and_fields_lead_to_the_next_page() {
    let upstream = start_api();
    upstream.on("/api/courses", |request: &Received| {
        let cursor = request
            .target
            .rsplit_once("cursor=")
            .map_or("", |(_, rest)| rest.split('&').next().unwrap_or(rest));
        let (id, next) = match cursor {
            "b" => (2, Some("c")),
            "c" => (3, None),
            _ => (1, Some("b")),
        };
        let mut page = courses(&[id]);
        page["next"] = json!(next.map(|next| format!("http://shop.test/api/courses?cursor={next}")));
        let answer = Answer::json(page.to_string());
        match next {
            Some(next) => answer.header("link", &format!("<?cursor={next}>; rel=\"next\", </>; rel=up")),
            None => answer,
        }
    });
    for next in [json!(null), json!("$.next")] {
        let larder = start(&upstream, "");
        let request = json!({
            "from": "/api/courses", "each": "$.courses[*].id", "until": "last_page", "next": next,
            "route": "/api/courses/{id}",
        });
        let done = post(&larder, &request).await;
        assert_eq!((&done["requests"], &done["failed"]), (&json!(6), &json!(0)), "{done}");
        for target in ["/api/courses?cursor=c", "/api/courses/3"] {
            get(&larder, target).await.assert_hit();
        }
    }
}

#[tokio::test]
async fn a_list_that_leads_elsewhere_ends_there_and_says_so() {
    let upstream = start_api();
    let next = |next: &str| {
        let mut page = courses(&[1]);
        page["next"] = next.into();
        Answer::json(page.to_string())
    };
    let request = json!({
        "from": "/api/courses", "each": "$.courses[*].id", "until": "last_page", "next": "$.next",
        "urls": ["/api/courses/{}"],
    });
    for (leads_to, failed) in [("http://evil.test/", 1), ("/api/courses", 0)] {
        upstream.on("/api/courses", next(leads_to));
        let larder = start(&upstream, "");
        let done = post(&larder, &request).await;
        assert_eq!((&done["requests"], &done["failed"]), (&json!(2), &json!(failed)), "{leads_to}: {done}");
        get(&larder, "/api/courses/1").await.assert_hit();
    }
}

#[tokio::test]
async fn a_list_without_an_end_is_bounded() {
    let upstream = Upstream::start();
    upstream
        .on("/api/courses", |request: &Received| Answer::json(courses(&[read_page(request)]).to_string()));
    let larder = start(&upstream, "");
    let body = json!({"from": "/api/courses?page={page}", "each": "$.courses[*].id", "until": "last_page"})
        .to_string();
    let reply = larder.admin.request("POST", "/warm").header("accept", "text/event-stream").body(body);
    let reply = reply.await.assert_status(200);
    let events = reply.text();
    let done = events.rsplit("event: done\ndata: ").next().expect("an end");
    let done: Value = serde_json::from_str(done.trim()).expect("JSON");
    assert_eq!((&done["requests"], &done["failed"]), (&json!(1000), &json!(1)), "{done}");
    assert_eq!(upstream.count("/api/courses"), 1000);
}

#[tokio::test]
async fn progress_comes_as_events() {
    let upstream = start_api();
    let held = upstream.hold("/api/courses/12");
    let larder = start(&upstream, DETAILS);
    let request = || larder.admin.request("POST", "/warm").body(json!({"name": "all"}).to_string());
    let accepted = "application/json;q=0.5, text/event-stream; charset=utf-8";
    let mut events = request().header("accept", accepted).start().await;
    held.arrived().await;
    let mut progress = String::new();
    while !progress.contains("\"requests\":9") {
        progress = events.read_until("}\n\n").await;
    }
    assert!(
        progress.starts_with("event: progress\n") && progress.contains("\"status\":\"running\""),
        "{progress}"
    );
    // The entry runs once at a time.
    let refused = request().await.assert_status(400);
    assert!(refused.text().contains("is running"), "{refused}");
    held.release();
    while !progress.contains("event: done") {
        progress = events.read_until("}\n\n").await;
    }
    assert!(progress.contains("\"fetched\":6") && progress.contains("\"status\":\"done\""), "{progress}");
}

#[tokio::test]
async fn a_run_goes_on_without_its_reader() {
    let upstream = start_api();
    let held = upstream.hold("/api/courses/11");
    let larder = start(&upstream, DETAILS);
    let request = larder.admin.request("POST", "/warm").header("accept", "text/event-stream");
    let events = request.body(json!({"name": "all"}).to_string()).start().await;
    held.arrived().await;
    drop(events);
    held.release();
    larder.metric_becomes("larder_warm_runs_total", 1.0).await;
    get(&larder, "/api/courses/23").await.assert_hit();
}

#[tokio::test]
async fn the_commands_warm_and_refresh() {
    let upstream = start_api();
    let larder = start(&upstream, DETAILS);
    let admin = format!("http://{}", larder.admin.address());
    let run = async |arguments: &[&str]| {
        let arguments: Vec<&str> =
            arguments.iter().copied().chain(["--admin", &admin, "--token", ""]).collect();
        let output = Command::new(&arguments).output().await;
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (output.status.code(), text.concat())
    };
    let (code, said) = run(&["warm", "all"]).await;
    assert_eq!(
        (code, said.as_str()),
        (Some(0), "9 requests: 6 fetched, 3 fresh, 0 not stored, 0 refused, 0 failed\n")
    );
    let (code, said) = run(&["warm", "--route", "course", "--value", "id=7,8", "--json"]).await;
    let tally: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((code, &tally["fetched"], &tally["status"]), (Some(0), &json!(2), &json!("done")), "{said}");
    let list = ["--from", "/api/courses?page={page}", "--each", "$.courses[*].id", "--until", "last_page"];
    let (code, said) = run(&[&["warm"][..], &list].concat()).await;
    assert_eq!((code, said.starts_with("3 requests: 0 fetched, 3 fresh")), (Some(0), true), "{said}");
    upstream.on("/api/courses/9", Answer::hang_up());
    let (code, said) = run(&["warm", "--url", "/api/courses/9"]).await;
    assert!(code == Some(1) && said.contains("1 failed"), "{said}");
    let (code, said) = run(&["warm", "nobody"]).await;
    assert!(
        code == Some(1) && said.contains("`warm` has no entry \"nobody\"") && said.contains("all"),
        "{said}"
    );
    assert_eq!(run(&["warm"]).await.0, Some(2));
    get(&larder, "/api/courses/7").await.assert_hit();
    let (code, said) = run(&["refresh", "--expiring-within", "10m", "--route", "course"]).await;
    assert_eq!((code, said.starts_with("1 request: 1 fetched")), (Some(0), true), "{said}");
}
