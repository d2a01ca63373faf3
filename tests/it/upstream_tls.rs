//! TLS to the upstream: whom larder trusts, what it shows, and what it speaks.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::{Certificates, Command, Larder, Process, Scratch, eventually, free_port};

struct Options {
    certificate: &'static str,
    wants_client: bool,
    versions: &'static [&'static rustls::SupportedProtocolVersion],
}

const USUAL: Options = Options { certificate: "server", wants_client: false, versions: rustls::ALL_VERSIONS };

/// An HTTP/1.1 upstream over TLS that answers with the server name that it was asked for.
async fn start(certificates: &Certificates, options: Options) -> SocketAddr {
    let file = |kind: &str| certificates.path(&format!("{}.{kind}", options.certificate));
    let chain = vec![CertificateDer::from_pem_file(file("pem")).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file(file("key")).expect("a key");
    let builder = ServerConfig::builder_with_protocol_versions(options.versions);
    let builder = match options.wants_client {
        false => builder.with_no_client_auth(),
        true => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(certificates.path("ca.pem")).expect("a CA")).unwrap();
            builder.with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap())
        }
    };
    let mut config = builder.with_single_cert(chain, key).expect("a configuration");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let name = stream.get_ref().1.server_name().unwrap_or("no name").to_owned();
                let mut head = Vec::new();
                while stream.read_buf(&mut head).await.is_ok_and(|read| read > 0) {
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        let answer =
                            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
                        _ = stream.write_all(answer.as_bytes()).await;
                    }
                }
            });
        }
    });
    address
}

fn larder(host: &str, address: SocketAddr, settings: &str) -> Larder {
    let url = format!("https://{host}:{}", address.port());
    Larder::with_upstream_url(&url, &format!("upstream: {{url: \"${{UPSTREAM}}\", {settings}}}\nroutes: []"))
}

async fn status(host: &str, address: SocketAddr, settings: &str) -> u16 {
    larder(host, address, settings).get("/a").await.status
}

#[tokio::test]
async fn an_authority_can_be_named_and_no_other_is_trusted() {
    let certificates = Certificates::new();
    let address = start(&certificates, USUAL).await;
    let ca = certificates.text("ca.pem");
    let trusted = larder("localhost", address, &format!("tls: {{ca: '{ca}'}}"));
    trusted.get("/a").await.assert_status(200).assert_text("localhost");
    assert_eq!(status("127.0.0.1", address, &format!("tls: {{ca: '{ca}'}}")).await, 200);
    assert_eq!(status("localhost", address, "http2: false").await, 502);
    let any = "tls: {dangerously_accept_any_certificate: true}";
    assert_eq!(status("localhost", address, any).await, 200);
}

#[tokio::test]
async fn http1_is_spoken_where_the_upstream_chooses_it() {
    let certificates = Certificates::new();
    let address = start(&certificates, USUAL).await;
    let ca = certificates.text("ca.pem");
    let larder = larder("localhost", address, &format!("http2: true, tls: {{ca: '{ca}'}}"));
    for _ in 0..3 {
        larder.get("/a").await.assert_status(200);
    }
}

#[tokio::test]
async fn the_server_name_can_be_another_than_the_host() {
    let certificates = Certificates::new();
    let address = start(&certificates, Options { certificate: "other", ..USUAL }).await;
    let ca = certificates.text("ca.pem");
    assert_eq!(status("localhost", address, &format!("tls: {{ca: '{ca}'}}")).await, 502);
    let named = larder("localhost", address, &format!("tls: {{ca: '{ca}', server_name: elsewhere.test}}"));
    named.get("/a").await.assert_status(200).assert_text("elsewhere.test");
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_it_is_wanted() {
    let certificates = Certificates::new();
    let address = start(&certificates, Options { wants_client: true, ..USUAL }).await;
    let (ca, cert, key) =
        (certificates.text("ca.pem"), certificates.text("client.pem"), certificates.text("client.key"));
    assert_eq!(status("localhost", address, &format!("tls: {{ca: '{ca}'}}")).await, 502);
    let anonymous = larder("localhost", address, &format!("tls: {{ca: '{ca}'}}"));
    for method in ["GET", "POST"] {
        anonymous.request(method, "/a").await.assert_status(502);
    }
    assert!(anonymous.log().contains("CertificateRequired"), "{}", anonymous.log());
    let identified = format!("tls: {{ca: '{ca}', cert: '{cert}', key: '{key}'}}");
    assert_eq!(status("localhost", address, &identified).await, 200);
}

#[tokio::test]
async fn an_old_version_is_refused_on_request() {
    let certificates = Certificates::new();
    static TLS12: [&rustls::SupportedProtocolVersion; 1] = [&rustls::version::TLS12];
    let old = Options { versions: &TLS12, ..USUAL };
    let address = start(&certificates, old).await;
    let ca = certificates.text("ca.pem");
    assert_eq!(status("localhost", address, &format!("tls: {{ca: '{ca}'}}")).await, 200);
    assert_eq!(status("localhost", address, &format!("tls: {{ca: '{ca}', min_version: '1.3'}}")).await, 502);
}

#[tokio::test]
async fn files_that_change_are_read_with_the_next_configuration() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let address = start(&certificates, USUAL).await;
    let ca = others.text("ca.pem");
    let yaml = format!("upstream: {{url: \"${{UPSTREAM}}\", tls: {{ca: '{ca}'}}}}\nroutes: []");
    let larder = Larder::with_upstream_url(&format!("https://localhost:{}", address.port()), &yaml);
    larder.get("/a").await.assert_status(502);
    std::fs::copy(certificates.path("ca.pem"), others.path("ca.pem")).expect("copied");
    larder.reconfigure(&yaml).await;
    larder.get("/a").await.assert_status(200);
}

#[tokio::test]
async fn files_that_change_are_taken_and_garbage_is_not() {
    let (certificates, others, watched) = (Certificates::new(), Certificates::new(), Scratch::new());
    let address = start(&certificates, USUAL).await;
    let put = |text: &[u8]| {
        let (new, place) = (watched.path().join("new"), watched.path().join("ca.pem"));
        std::fs::write(&new, text).expect("written");
        std::fs::rename(new, place).expect("in its place");
    };
    let authority = |certificates: &Certificates| std::fs::read(certificates.path("ca.pem")).expect("a file");
    let config = |settings: &str| {
        format!("upstream: {{url: \"https://localhost:{}\"{settings}}}\nroutes: []\n", address.port())
    };
    put(&authority(&others));
    let [proxy, admin] = [free_port(), free_port()];
    let own = Scratch::new();
    let listeners = format!("listen: 127.0.0.1:{proxy}\nadmin: {{listen: \"127.0.0.1:{admin}\"}}\n");
    // The file is named by a configuration that comes later.
    let file = own.file("proxy.yaml", &(listeners.clone() + &config("")));
    let larder =
        Process::spawn(Command::new(&["--config", &file.to_string_lossy()]), own, proxy, admin).await;
    let named = config(&format!(", tls: {{ca: {}/ca.pem}}", watched.path().display()));
    std::fs::write(&file, listeners + &named).expect("written");
    eventually("it is named", || async { larder.log().contains("configuration reloaded").then_some(()) })
        .await;
    larder.get("/a").await.assert_status(502);
    let is_trusted = || async { (larder.get("/a").await.status == 200).then_some(()) };
    put(&authority(&certificates));
    eventually("the authority is trusted", is_trusted).await;
    put(b"garbage");
    larder.metric_becomes("larder_config_in_use", 0.0).await;
    let ready = larder.admin.get("/readyz").await.assert_status(200).json();
    let reason = ready["config"]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("upstream.tls") && reason.contains("ca.pem"), "{ready}");
    assert!(larder.log().contains("configuration reload rejected"), "{}", larder.log());
    larder.get("/a").await.assert_status(200);
    put(&authority(&certificates));
    larder.metric_becomes("larder_config_in_use", 1.0).await;
    put(&authority(&others));
    eventually("the authority is trusted no more", || async {
        (larder.get("/a").await.status == 502).then_some(())
    })
    .await;
}
