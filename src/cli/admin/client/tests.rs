use std::future::Future;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::*;
use crate::admin::{AdminState, Readiness, serve};
use crate::clock::Clock;
use crate::config::{Config, Secret};
use crate::phase::Phase;
use crate::purge::Epoch;
use crate::server::Listener;
use crate::store::memory::MemoryStore;

fn listener() -> (Listener, AdminAddress) {
    let listener = Listener::bind(&Listen::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
    let address = AdminAddress::from_listen(&listener.local_addr().unwrap());
    (listener, address)
}

/// Serves the admin endpoints while `test` runs, and ends when it has.
async fn with_admin<F: Future<Output = ()>>(listener: Listener, test: impl FnOnce(Readiness) -> F) {
    let readiness = Readiness::new();
    let state = AdminState {
        store: Arc::new(MemoryStore::new(1 << 20, Epoch(1), Clock::system())),
        metrics: Arc::default(),
        routes: Arc::default(),
        config: Arc::new(Config::parse("upstream: http://a", "", &|_| None, &Default::default()).unwrap()),
        clock: Clock::system(),
        wait_timeout: std::time::Duration::from_secs(5),
        token: Some(Secret::new("secret")),
        reader_slots: crate::admin::ReaderSlots::default(),
        events: Arc::default(),
        callers: Arc::default(),
        held_back: Arc::new(|_| Vec::new()),
        field_notices: Arc::new(Vec::new),
        readiness: readiness.clone(),
        audit: None,
        observed: None,
        decisions: Arc::default(),
        warming: None,
    };
    let (end, ended) = oneshot::channel::<()>();
    let serving = tokio::spawn(serve(listener, Arc::new(arc_swap::ArcSwap::from_pointee(state)), async {
        _ = ended.await;
    }));
    test(readiness).await;
    end.send(()).unwrap();
    serving.await.unwrap().unwrap();
}

#[test]
fn an_address_is_a_url_an_authority_or_a_socket() {
    for (text, shown) in [
        ("http://127.0.0.1:9090", "127.0.0.1:9090"),
        ("http://127.0.0.1:9090/", "127.0.0.1:9090"),
        ("localhost:9090", "localhost:9090"),
        (":9090", "127.0.0.1:9090"),
        ("[::1]:9090", "[::1]:9090"),
        ("0.0.0.0:9090", "127.0.0.1:9090"),
        ("unix:/run/larder.sock", "unix:/run/larder.sock"),
    ] {
        assert_eq!(text.parse::<AdminAddress>().unwrap().to_string(), shown, "{text}");
    }
    for text in
        ["", "9090", "127.0.0.1", "http://h", "https://h:1", "h:x", "h:99999", "::1:9090", "http://h:1/x"]
    {
        assert!(text.parse::<AdminAddress>().is_err(), "{text}");
    }
}

#[test]
fn an_address_of_all_interfaces_is_reached_by_loopback() {
    for (listen, reached) in
        [("0.0.0.0:9", "127.0.0.1:9"), ("[::]:9", "[::1]:9"), ("10.0.0.1:9", "10.0.0.1:9")]
    {
        assert_eq!(AdminAddress::from_listen(&Listen::Tcp(listen.parse().unwrap())).to_string(), reached);
    }
}

#[tokio::test]
async fn it_asks_a_larder_that_runs() {
    let (listener, address) = listener();
    with_admin(listener, |readiness| async move {
        let knows = AdminClient::new(address.clone(), Some("secret".into()));
        let stats = knows.send_async(Method::GET, "/stats", None).await.unwrap();
        assert_eq!(stats["status"], "starting");
        let wanted = serde_json::json!({"tags": ["a", "b"]});
        let purged = knows.send_async(Method::POST, "/purge", Some(&wanted)).await.unwrap();
        assert_eq!(purged["targetCount"], 2);

        let guesses = AdminClient::new(address.clone(), Some("guess".into()));
        let refused = guesses.send_async(Method::GET, "/stats", None).await.unwrap_err();
        assert!(refused.contains("wrong admin token") && refused.contains("admin.token"), "{refused}");

        let asks = AdminClient::new(address, None);
        assert_eq!(asks.send_async(Method::GET, "/readyz", None).await.unwrap_err(), "not ready: starting");
        readiness.phase().advance(Phase::Ready);
        assert_eq!(asks.send_async(Method::GET, "/readyz", None).await.unwrap()["status"], "ok");
    })
    .await;
}

#[tokio::test]
async fn it_asks_by_a_unix_socket() {
    let path = std::env::temp_dir().join(format!("larder-{}-admin.sock", std::process::id()));
    let listener = Listener::bind(&Listen::Unix(path.clone())).unwrap();
    with_admin(listener, |readiness| async move {
        readiness.phase().advance(Phase::Ready);
        let asks = AdminClient::new(AdminAddress::Unix(path.clone()), None);
        assert_eq!(asks.send_async(Method::GET, "/readyz", None).await.unwrap()["status"], "ok");
        std::fs::remove_file(path).unwrap();
    })
    .await;
}

#[tokio::test]
async fn nothing_that_listens_is_explained() {
    let (listener, address) = listener();
    drop(listener);
    let error =
        AdminClient::new(address.clone(), None).send_async(Method::GET, "/readyz", None).await.unwrap_err();
    let expected =
        format!("nothing listens on {address}: is larder running, and is this its `admin.listen`?");
    assert_eq!(error, expected);
    let missing = AdminClient::new(AdminAddress::Unix("/nowhere/larder.sock".into()), None);
    let error = missing.send_async(Method::GET, "/readyz", None).await.unwrap_err();
    assert!(error.starts_with("nothing listens on unix:/nowhere/larder.sock"), "{error}");
}

#[tokio::test]
async fn something_else_that_listens_is_explained() {
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "give the address of `admin.listen`"),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}", "give the address of `admin.listen`"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{}", "incomplete answer"),
        ("220 mail.example ESMTP\r\n", "does not speak HTTP"),
        ("", "does not speak HTTP"),
    ] {
        let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = AdminAddress::Tcp(other.local_addr().unwrap().to_string());
        let answering = tokio::spawn(async move {
            let (mut stream, _) = other.accept().await.unwrap();
            _ = stream.read(&mut [0; 1024]).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let error =
            AdminClient::new(address, None).send_async(Method::GET, "/readyz", None).await.unwrap_err();
        assert!(error.contains(expected), "{answer:?}: {error}");
        answering.await.unwrap();
    }
}

/// Another server may have the address after a stream, or after a failure: it gets no token before it is known.
#[test]
fn a_server_is_identified_again_after_a_stream_or_failure() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = AdminAddress::Tcp(other.local_addr().unwrap().to_string());
    let answering = std::thread::spawn(move || {
        let listener = "HTTP/1.1 200 OK\r\nlarder-listener: admin\r\ncontent-length: ";
        for content in ["0\r\n\r\n", "2\r\n\r\n{}", "0\r\n\r\n", "5\r\n\r\n{}"] {
            let (mut stream, _) = other.accept().unwrap();
            _ = std::io::Read::read(&mut stream, &mut [0; 1024]);
            std::io::Write::write_all(&mut stream, format!("{listener}{content}").as_bytes()).unwrap();
        }
    });
    let client = AdminClient::new(address, Some("t".to_owned()));
    client.follow(Method::GET, "/decisions", None, |_| true).expect("it ends well");
    assert!(!client.is_identified.load(Ordering::Relaxed));
    assert!(client.send(Method::GET, "/stats", None).is_err(), "its content is cut off");
    assert!(!client.is_identified.load(Ordering::Relaxed));
    answering.join().unwrap();
}

#[test]
fn a_stream_that_breaks_is_said_to_be_lost() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = AdminAddress::Tcp(other.local_addr().unwrap().to_string());
    let answering = std::thread::spawn(move || {
        let listener = "HTTP/1.1 200 OK\r\nlarder-listener: admin\r\n";
        for content in
            ["content-length: 0\r\n\r\n", "content-length: 500\r\n\r\nevent: decision\ndata: {}\n\n"]
        {
            let (mut stream, _) = other.accept().unwrap();
            _ = std::io::Read::read(&mut stream, &mut [0; 1024]);
            let answer = format!("{listener}{content}");
            std::io::Write::write_all(&mut stream, answer.as_bytes()).unwrap();
        }
    });
    let mut events = 0;
    let client = AdminClient::new(address.clone(), None);
    let followed = client.follow(Method::GET, "/decisions", None, |event| {
        events += usize::from(event != StreamEvent::Open);
        true
    });
    let Err(RequestError::Lost(error)) = followed else { panic!("{followed:?}") };
    assert!(!client.is_identified.load(Ordering::Relaxed));
    assert!(error.starts_with(&format!("the connection to {address} was lost")), "{error}");
    assert_eq!(events, 1);
    answering.join().unwrap();
}
