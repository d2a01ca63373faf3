//! The harness: a scripted upstream, larder itself, and a client, so that a test reads as a story.
//!
//! Freshness moves by the manual clock and never by sleeping; everything that is waited for is an event, with one
//! generous deadline that only a failure ever reaches.

mod certificates;
mod client;
mod cluster;
mod jwt;
mod larder;
mod logs;
pub mod markdown;
mod ports;
mod postgres;
mod process;
mod raw;
mod redis;
mod relay;
mod replicas;
mod reply;
mod resp_proxy;
mod scratch;
mod sentinels;
mod stores;
mod upstream;
mod versions;

use std::future::Future;
use std::time::Duration;

pub use certificates::Certificates;
pub use client::{Client, Request, Streaming};
pub use cluster::Cluster;
pub use jwt::{Issuer, base64url, bearer, decode_base64url};
pub use larder::{Larder, START};
pub use logs::Block;
pub use ports::free_port;
pub use postgres::{Postgres, is_root};
pub use process::{Command, Process, one_crowd, send_signal};
pub use raw::Raw;
pub use redis::Redis;
pub use relay::{Line, Relay};
pub use replicas::{HOST, ITEMS, LONGEST, Replica, timed};
pub use reply::{Reply, content};
pub use resp_proxy::{Refuse, RespProxy};
pub use scratch::Scratch;
pub use sentinels::Sentinels;
pub use stores::{body, is_connected, response, store_settings, targets, tiered_store};
pub use upstream::{Answer, Feed, Held, Received, Upstream, Wire};
pub use versions::Load;

/// After this long something that should have happened has not. It is never slept through when all is well.
const DEADLINE: Duration = Duration::from_secs(120);

/// Waits for `future`, and says what did not happen.
#[track_caller]
pub fn with_deadline<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    let what = what.to_owned();
    async move {
        match tokio::time::timeout(DEADLINE, future).await {
            Ok(output) => output,
            Err(_) => panic!("{what}: not within {DEADLINE:?} (waited for at {caller})"),
        }
    }
}

/// Asks again and again until `question` gives something: for what can be seen but does not announce itself.
#[track_caller]
pub fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut question: impl FnMut() -> F,
) -> impl Future<Output = T> {
    with_deadline(what, async move {
        loop {
            if let Some(answer) = question().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
}
