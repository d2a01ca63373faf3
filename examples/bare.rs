//! The bare stack that larder stands on: the same builder with the same time-outs, which answers each request with the
//! same bytes. The difference in cost is larder's own. For measuring only.
//!
//! `bare ADDRESS BYTES`

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_RANGES, AGE, CACHE_CONTROL, CONTENT_TYPE, ETAG, LAST_MODIFIED, SERVER, VIA};
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(bytes)) = (arguments.next(), arguments.next()) else {
        return Err("usage: bare ADDRESS BYTES".into());
    };
    let (address, bytes): (SocketAddr, usize) = (address.parse()?, bytes.parse()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(address, Bytes::from(vec![b'x'; bytes])))
}

async fn serve(address: SocketAddr, content: Bytes) -> Result<(), Failure> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let content = content.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let content = content.clone();
            async move { Ok::<_, Infallible>(answer(&request, content)) }
        });
        tokio::spawn(async move {
            let mut builder = Builder::new(TokioExecutor::new());
            builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
            builder.http2().timer(TokioTimer::new()).adaptive_window(true);
            // A client that goes is no failure of what is measured.
            drop(builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await);
        });
    }
}

/// The fields of a hit on what nginx answered.
fn answer(_: &Request<Incoming>, content: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(content));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=86400"));
    headers.insert(ETAG, HeaderValue::from_static("\"6b012263-400\""));
    headers.insert(SERVER, HeaderValue::from_static("nginx/1.22.1"));
    headers.insert(LAST_MODIFIED, HeaderValue::from_static("Sat, 21 Nov 2026 04:47:31 GMT"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(VIA, HeaderValue::from_static("1.1 larder"));
    headers.insert(AGE, HeaderValue::from_static("1"));
    let cache_status = HeaderName::from_static("cache-status");
    headers.insert(cache_status, HeaderValue::from_static("larder; hit; ttl=86399"));
    response
}
