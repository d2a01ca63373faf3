use http_body_util::{BodyExt, Empty};
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
fn a_taken_port_is_replaced_by_a_free_one_unless_it_was_asked_for() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    assert!(open(None, address.port(), "--listen").is_ok());
    let error = open(Some(address), 0, "--listen").unwrap_err();
    assert!(error.contains(&address.to_string()) && error.contains("--listen"), "{error}");
}

#[test]
fn every_command_of_the_tour_names_this_runs_addresses() {
    let tour = tour::written("1.1.1.1:1", "2.2.2.2:2", "3.3.3.3:3");
    for line in tour.lines().filter(|line| line.contains("curl ") || line.contains("larder ")) {
        assert!(["1.1.1.1:1", "2.2.2.2:2"].iter().any(|address| line.contains(address)), "{line}");
    }
    assert!(!tour.contains("{{") && !tour.contains("8080"), "{tour}");
}

async fn ask(address: SocketAddr, line: &str, token: Option<&str>) -> (u16, Value) {
    let (method, path) = line.split_once(' ').unwrap();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::builder().method(method).uri(path).header("host", "demo");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let answer = sender.send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn the_sample_api_answers_and_counts_its_queries() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(upstream::serve(listener, Duration::ZERO));

    let (status, list) = ask(address, "GET /api/courses?difficulty=advanced&page=2&limit=4", None).await;
    assert_eq!((status, &list["total"], &list["query"]), (200, &10.into(), &1.into()));
    assert_eq!(list["courses"].as_array().unwrap().len(), 4);
    assert_eq!(list["courses"][0]["id"], 25);

    let (status, created) = ask(address, "POST /api/courses/25/enroll", Some(tour::TOKEN)).await;
    assert_eq!((status, &created["user"]), (201, &"ada".into()));
    ask(address, "POST /api/courses/25/enroll", Some(tour::TOKEN)).await;
    let (_, course) = ask(address, "GET /api/courses/25", None).await;
    assert_eq!(course["course"]["enrolled"], 1);
    let (_, progress) = ask(address, "GET /api/users/me/progress", Some(tour::TOKEN)).await;
    assert_eq!(progress["progress"], serde_json::json!({"25": 0}));
    let (_, other) = ask(address, "GET /api/users/me/progress", Some("other")).await;
    assert_eq!(other["progress"], serde_json::json!({}));

    for (line, expected) in [
        ("GET /api/courses/99", 404),
        ("GET /api/courses/x", 404),
        ("GET /api/courses?page=x", 400),
        ("PATCH /api/courses/1", 400),
        ("GET /api/users/me/progress", 401),
        ("POST /api/courses/1/enroll", 401),
        ("GET /nothing", 404),
    ] {
        assert_eq!(ask(address, line, None).await.0, expected, "{line}");
    }
    assert_eq!(ask(address, "GET /api/queries", None).await.1["queries"], 6);
}
