use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;

use super::*;
use crate::policy::route::Ttl;

#[test]
fn the_demos_configuration_has_no_errors_and_no_warnings() {
    let upstream = SocketAddr::from(([127, 0, 0, 1], 3333));
    let config =
        config("127.0.0.1:8888", "127.0.0.1:9999", upstream).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.warnings, Vec::<String>::new());
    assert_eq!(config.listen, [Listen::Tcp("127.0.0.1:8888".parse().unwrap())]);
    assert_eq!(config.admin.listen, Some(Listen::Tcp("127.0.0.1:9999".parse().unwrap())));
    let names: Vec<_> = config.routes.iter().map(|route| (&*route.name, route.ttl != Ttl::Never)).collect();
    assert_eq!(names, [("course-list", true), ("course", true), ("enroll", false), ("progress", true)]);
}

#[test]
fn a_taken_default_port_is_replaced_by_a_free_one() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    assert!(open(None, address.port(), "--listen").is_ok());
    let error = open(Some(address), 0, "--listen").unwrap_err();
    assert!(error.contains(&address.to_string()) && error.contains("--listen"), "{error}");
}

#[test]
fn every_command_of_the_tour_names_this_runs_addresses() {
    let tour = tour::render("1.1.1.1:1", "2.2.2.2:2", "3.3.3.3:3");
    for line in
        tour.lines().filter(|line| line.trim_start().starts_with("curl ") || line.contains(" --admin "))
    {
        assert!(["1.1.1.1:1", "2.2.2.2:2"].iter().any(|address| line.contains(address)), "{line}");
    }
    assert!(!tour.contains("{{") && !tour.contains("8080"), "{tour}");
}

struct Answer {
    status: u16,
    cache_status: String,
    body: Value,
}

async fn ask(address: SocketAddr, line: &str, token: Option<&str>) -> Answer {
    let (method, path) = line.split_once(' ').unwrap();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::builder().method(method).uri(path).header("host", "127.0.0.1");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let content = if method == "PATCH" { r#"{"title": "Other"}"# } else { "" };
    let answer =
        sender.send_request(request.body(Full::new(bytes::Bytes::from(content))).unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    let cache_status =
        answer.headers().get("cache-status").map_or("", |field| field.to_str().unwrap()).to_owned();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    Answer { status, cache_status, body: serde_json::from_slice(&body).unwrap() }
}

#[tokio::test]
async fn the_sample_api_answers_and_counts_its_queries() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(upstream::serve(listener, Duration::ZERO));

    let list = ask(address, "GET /api/courses?difficulty=advanced&page=2&limit=4", None).await;
    assert_eq!((list.status, &list.body["total"], &list.body["query"]), (200, &10.into(), &1.into()));
    assert_eq!(list.body["courses"].as_array().unwrap().len(), 4);
    assert_eq!(list.body["courses"][0]["id"], 25);

    let created = ask(address, "POST /api/courses/25/enroll", Some(tour::TOKEN)).await;
    assert_eq!((created.status, &created.body["user"]), (201, &"ada".into()));
    ask(address, "POST /api/courses/25/enroll", Some(tour::TOKEN)).await;
    let course = ask(address, "GET /api/courses/25", None).await;
    assert_eq!(course.body["course"]["enrolled"], 1);
    let progress = ask(address, "GET /api/users/me/progress", Some(tour::TOKEN)).await;
    assert_eq!(progress.body["progress"], serde_json::json!({"25": 0}));
    let other = ask(address, "GET /api/users/me/progress", Some("other")).await;
    assert_eq!(other.body["progress"], serde_json::json!({}));

    for (line, expected) in [
        ("PATCH /api/courses/1", 200),
        ("GET /api/courses/99", 404),
        ("GET /api/courses/x", 404),
        ("GET /api/courses?page=x", 400),
        ("PATCH /api/courses/99", 404),
        ("GET /api/users/me/progress", 401),
        ("POST /api/courses/1/enroll", 401),
        ("GET /nothing", 404),
    ] {
        assert_eq!(ask(address, line, None).await.status, expected, "{line}");
    }
    assert_eq!(ask(address, "GET /api/queries", None).await.body["queries"], 6);
}

/// A token with `"sub": "bob"`.
const BOB: Option<&str> = Some("eyJhbGciOiJub25lIn0.eyJzdWIiOiJib2IifQ.demo");

/// The tour, as a reader would take it: what it promises is what happens.
#[tokio::test]
async fn the_tour_shows_what_it_says() {
    let upstream = serve_upstream(Duration::from_millis(20)).unwrap();
    let (proxy, admin) = (open(None, 0, "--listen").unwrap(), open(None, 0, "--admin").unwrap());
    let config = config(&proxy.to_string(), &admin.to_string(), upstream).unwrap();
    let (address, operators) = (proxy.to_string().parse().unwrap(), admin.to_string().parse().unwrap());
    let listeners = Listeners { proxy: vec![proxy], admin: Some(admin), outlive_process: false };
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let larder = std::thread::spawn(move || {
        crate::run(config, listeners, crate::clock::Clock::system(), async { _ = ended.await })
    });

    let (list, ada) = ("GET /api/courses?difficulty=beginner", Some(tour::TOKEN));
    for (line, token, expected) in [
        (list, None, "fwd=uri-miss"),
        (list, None, "hit"),
        (list, ada, "hit"),
        ("GET /api/courses?limit=20&difficulty=beginner&utm=7", None, "hit"),
        ("PATCH /api/courses/1", None, "fwd=method"),
        (list, None, "fwd=uri-miss"),
        (list, None, "hit"),
        ("PURGE /api/courses", None, ""),
        (list, None, "fwd=uri-miss"),
        ("GET /api/users/me/progress", ada, "fwd=uri-miss"),
        ("GET /api/users/me/progress", ada, "hit"),
        ("GET /api/users/me/progress", BOB, "fwd=uri-miss"),
        ("POST /api/courses/2/enroll", ada, "fwd=method"),
        ("GET /api/users/me/progress", ada, "fwd=uri-miss"),
        ("GET /api/users/me/progress", BOB, "hit"),
        ("GET /api/queries", None, ""),
    ] {
        let answer = ask(address, line, token).await;
        assert!(answer.status < 300, "{line}: {}", answer.status);
        assert!(answer.cache_status.contains(expected), "{line}: {}", answer.cache_status);
    }

    let queries = || async { ask(address, "GET /api/queries", None).await.body["queries"].as_u64().unwrap() };
    let before = queries().await;
    let crowd = (0..100).map(|_| tokio::spawn(ask(address, "GET /api/courses?difficulty=advanced", None)));
    for one in crowd.collect::<Vec<_>>() {
        assert_eq!(one.await.unwrap().body["total"], 10);
    }
    assert_eq!(queries().await, before + 1);

    let stats = ask(operators, "GET /stats", None).await.body;
    // By the PATCH of one course and by the enrolment in another.
    assert_eq!(stats["routes"]["course"]["invalidations"], 2);
    assert_eq!(stats["routes"]["progress"]["ttlSeconds"], 10);
    end.send(()).unwrap();
    larder.join().unwrap().unwrap();
}
