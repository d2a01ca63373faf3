//! TLS on the listener: the same larder behind it, with all its strictness, and certificates that change under way.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{
    Certificates, Larder, Process, Scratch, Upstream, eventually, free_port, with_deadline,
};

pub(crate) fn listen(certificates: &Certificates, names: &[&str]) -> String {
    let one = |name: &&str| {
        let (cert, key) =
            (certificates.text(&format!("{name}.pem")), certificates.text(&format!("{name}.key")));
        format!("{{cert: \"{cert}\", key: \"{key}\"}}")
    };
    let tls = names.iter().map(one).collect::<Vec<_>>().join(", ");
    format!("listen: [{{address: \"127.0.0.1:1\", tls: [{tls}]}}]\nroutes: [{{path: /a, ttl: 60s}}]\n")
}

/// A connection under a name, to a server that `ca` stands for.
pub(crate) async fn connect(
    address: SocketAddr,
    ca: &Path,
    name: &str,
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).expect("an authority")).expect("a root");
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    with_deadline("a handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

/// Sends the bytes and returns everything until the end of the connection.
async fn exchange(mut stream: TlsStream<TcpStream>, bytes: &str) -> String {
    stream.write_all(bytes.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    let _ = with_deadline("an answer", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

const GET: &str = "GET /a HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n";

fn serial(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().expect("a certificate")[0].to_vec()
}

#[tokio::test]
async fn alpn_selects_http1_or_http2() {
    let (upstream, certificates) = (Upstream::start(), Certificates::new());
    let larder = Larder::with(&listen(&certificates, &["server"]), &upstream);
    let ca = certificates.path("ca.pem");
    let stream = connect(larder.address(), &ca, "localhost", &["http/1.1"]).await.unwrap();
    let answer = exchange(stream, GET).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("GET /a #1"), "{answer}");
    assert_eq!(upstream.last("/a").header("x-forwarded-proto").unwrap(), "https");

    let stream = connect(larder.address(), &ca, "localhost", &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("https://api/a").body(Empty::<Bytes>::new()).unwrap();
    let response = with_deadline("a response", sender.send_request(request)).await.unwrap();
    assert!(response.headers()["cache-status"].to_str().unwrap().contains("hit"));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "GET /a #1");
}

#[tokio::test]
async fn a_connection_that_rested_goes_on() {
    let (upstream, certificates) = (Upstream::start(), Certificates::new());
    let larder = Larder::with(&listen(&certificates, &["server"]), &upstream);
    let stream = connect(larder.address(), &certificates.path("ca.pem"), "localhost", &[]).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for expected in ["fwd=uri-miss", "hit"] {
        let request = http::Request::get("/a").header("host", "api").body(Empty::<Bytes>::new()).unwrap();
        let response = with_deadline("a response", sender.send_request(request)).await.unwrap();
        assert!(response.headers()["cache-status"].to_str().unwrap().contains(expected));
        response.into_body().collect().await.unwrap();
        // An idle connection loses its parser after 1 s, by tokio's time, and no metric shows it.
        tokio::time::sleep(std::time::Duration::from_millis(1300)).await;
    }
}

#[tokio::test]
async fn framing_is_as_strict_behind_tls() {
    let (upstream, certificates) = (Upstream::start(), Certificates::new());
    let larder = Larder::with(&listen(&certificates, &["server"]), &upstream);
    for hostile in [
        "GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /a HTTP/1.1\nHost: a\n\n",
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let stream = connect(larder.address(), &certificates.path("ca.pem"), "localhost", &[]).await.unwrap();
        let answer = exchange(stream, hostile).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    assert_eq!(upstream.total(), 0);
}

#[tokio::test]
async fn the_certificate_is_selected_by_server_name() {
    let (upstream, certificates) = (Upstream::start(), Certificates::new());
    let larder = Larder::with(&listen(&certificates, &["server", "other"]), &upstream);
    let ca = certificates.path("ca.pem");
    let here = connect(larder.address(), &ca, "localhost", &[]).await.unwrap();
    let there = connect(larder.address(), &ca, "elsewhere.test", &[]).await.unwrap();
    assert_ne!(serial(&here), serial(&there));
    // Without a name, and under one that nobody has, it is the first.
    let unnamed = connect(larder.address(), &ca, "127.0.0.1", &[]).await.unwrap();
    assert_eq!(serial(&unnamed), serial(&here));
    assert!(connect(larder.address(), &ca, "nobody.test", &[]).await.is_err());
}

#[tokio::test]
async fn metrics_say_when_each_certificate_ends() {
    let (upstream, certificates) = (Upstream::start(), Certificates::new());
    let larder = Larder::with(&listen(&certificates, &["server", "expired"]), &upstream);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    for (name, days) in [("server", 1.0..2.1), ("expired", -1.1..0.0)] {
        let file = certificates.text(&format!("{name}.pem"));
        let end = larder.metric(&format!("larder_tls_certificate_expiry_seconds{{cert=\"{file}\"}}")).await;
        assert!(days.contains(&((end - now) / 86_400.0)), "{name}: {end}, {now}");
    }
}

#[tokio::test]
async fn who_does_not_shake_hands_in_time_is_closed_and_counted() {
    let (upstream, certificates) = (Upstream::start(), Certificates::new());
    let yaml = format!("limits: {{header_timeout: 300ms}}\n{}", listen(&certificates, &["server"]));
    let larder = Larder::with(&yaml, &upstream);
    let mut silent = larder.raw().await;
    silent.is_closed().await;
    let mut slow = larder.raw().await;
    slow.send(b"\x16\x03\x01").await.rest().await;
    let mut plain = larder.raw().await;
    plain.send(GET).await;
    assert!(!plain.rest().await.contains("HTTP/1.1"));
    larder.metric_becomes("larder_connections_refused_total{by=\"tls\"}", 2.0).await;
    larder.metric_becomes("larder_connections", 0.0).await;
}

#[tokio::test]
async fn a_certificate_that_changes_is_taken_and_a_wrong_one_is_not() {
    let (upstream, certificates) = (Upstream::start(), Certificates::new());
    let scratch = Scratch::new();
    let put = |name: &str| {
        for kind in ["pem", "key"] {
            let (new, place) = (scratch.path().join("new"), scratch.path().join(format!("tls.{kind}")));
            std::fs::copy(certificates.path(&format!("{name}.{kind}")), &new).unwrap();
            std::fs::rename(new, place).unwrap();
        }
    };
    put("server");
    let [proxy, admin] = [free_port(), free_port()];
    let place = scratch.path().display();
    let yaml = format!(
        "listen: {{address: \"127.0.0.1:{proxy}\", tls: {{cert: {place}/tls.pem, key: {place}/tls.key}}}}\n\
         admin: {{listen: \"127.0.0.1:{admin}\"}}\nupstream: {}\nroutes: [{{path: /a, ttl: 60s}}]\n",
        upstream.url()
    );
    let own = Scratch::new();
    let config = own.file("proxy.yaml", &yaml);
    let command = crate::support::Command::new(&["--config", config.to_str().unwrap()]);
    let larder = Process::spawn(command, own, proxy, admin).await;
    let ca = certificates.path("ca.pem");
    let presents = |name: &'static str| {
        let ca = ca.clone();
        let address = larder.address();
        async move {
            let stream = connect(address, &ca, name, &[]).await.ok()?;
            Some(exchange(stream, GET).await).filter(|answer| answer.starts_with("HTTP/1.1 200"))
        }
    };
    presents("localhost").await.expect("an answer");
    put("other");
    eventually("the other is presented", || presents("elsewhere.test")).await;
    // A key that is not its own.
    std::fs::copy(certificates.path("server.pem"), scratch.path().join("tls.pem")).unwrap();
    eventually("it is refused", || async {
        let ready = larder.admin.get("/readyz").await.assert_status(200);
        let reason = ready.json()["config"]["reason"].as_str().unwrap_or_default().to_owned();
        (reason.contains("tls.key") && reason.contains("does not belong to")).then_some(())
    })
    .await;
    assert_eq!(larder.metric("larder_config_in_use").await, 0.0);
    presents("elsewhere.test").await.expect("the old one goes on");
    assert!(larder.log().contains("cannot read the certificates"), "{}", larder.log());
    put("server");
    eventually("the right one is presented", || presents("localhost")).await;
    eventually("all is well", || async {
        (larder.metric("larder_config_in_use").await == 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_certificate_that_is_not_there_is_an_error_at_the_start() {
    let scratch = Scratch::new();
    let yaml = format!(
        "upstream: http://127.0.0.1:1\nadmin: off\nlisten: {{address: \"127.0.0.1:{}\", tls: {{cert: /nowhere/c.pem, key: k}}}}",
        free_port()
    );
    let config = scratch.file("proxy.yaml", &yaml);
    let output = crate::support::Command::new(&["--config", config.to_str().unwrap()]).output().await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("/nowhere/c.pem"), "{said}");
}

#[tokio::test]
async fn warming_asks_by_the_scheme_of_the_listener() {
    let (upstream, certificates) = (Upstream::start(), Certificates::new());
    let larder = Larder::with(&listen(&certificates, &["server"]), &upstream);
    larder.admin.request("POST", "/warm").body(r#"{"urls": ["/a"]}"#).await.assert_status(200);
    let stream = connect(larder.address(), &certificates.path("ca.pem"), "localhost", &[]).await.unwrap();
    let answer = exchange(stream, &GET.replace("Host: api", "Host: 127.0.0.1:1")).await;
    assert!(answer.contains("cache-status: larder; hit"), "{answer}");
}
