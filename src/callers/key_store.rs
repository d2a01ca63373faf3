//! The present keys of an entry, and the task that fetches them ahead.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::key_set::KeySet;
use crate::config::{JwtSettings, KeyLocation, RemoteUrl};
use crate::upstream::{ClientNetwork, Destination, RequestBody, Timeouts, Upstream};

/// How often keys are fetched.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// How long to wait after a failure, at first and at most; and between two fetches because of an unknown key.
const MIN_RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(60);
const MIN_INTERVAL: Duration = Duration::from_secs(10);

/// How long keys are used that can't be fetched again.
const MAX_OUTAGE: Duration = Duration::from_secs(24 * 3600);

const MAX_DOCUMENT_BYTES: usize = 256 * 1024;

const NO_KEY: &str = "it has no public key for RS, PS, ES or EdDSA";

pub(super) struct KeyStore {
    present: ArcSwap<KeySet>,
    /// Counts the changes of `present`, so that verdicts under earlier keys don't count.
    generation: AtomicU64,
    location: Option<KeyLocation>,
    upstream: Option<Upstream>,
    wanted: Notify,
    is_started: AtomicBool,
    /// Why the keys were not read or fetched the last time.
    trouble: ArcSwapOption<String>,
}

/// The state of the keys of an entry.
#[derive(Clone, Debug)]
pub(crate) struct KeyStatus {
    pub callers: Arc<str>,
    pub keys: usize,
    pub trouble: Option<Arc<String>>,
}

impl KeyStore {
    /// # Errors
    /// If TLS to the URL can't be set up.
    pub(super) fn new(settings: &JwtSettings) -> io::Result<Arc<Self>> {
        let upstream = match &settings.keys {
            Some(KeyLocation::Url(url)) => Some(Upstream::new(Destination::new(&url.upstream)?)),
            _ => None,
        };
        let secret = settings.secret.as_ref().map(|secret| KeySet::from_secret(secret.expose()));
        let store = Self {
            present: ArcSwap::from_pointee(secret.unwrap_or_default()),
            generation: AtomicU64::new(0),
            location: settings.keys.clone(),
            upstream,
            wanted: Notify::new(),
            is_started: AtomicBool::new(false),
            trouble: ArcSwapOption::empty(),
        };
        store.reread_file();
        Ok(Arc::new(store))
    }

    /// Reads the keys again if they are in a file. Those that are not in it any more are withdrawn at once.
    pub(super) fn reread_file(&self) {
        if let Some(KeyLocation::File(path)) = &self.location
            && let Err(error) = self.apply(read_file(path))
        {
            tracing::error!(file = %path.display(), error, "cannot use the JWKS file");
        }
    }

    pub(super) fn present(&self) -> Guard<Arc<KeySet>> {
        self.present.load()
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// `None`: there is only a secret.
    pub(super) fn status(&self, callers: &Arc<str>) -> Option<KeyStatus> {
        self.location.as_ref()?;
        let (keys, trouble) = (self.present.load().len(), self.trouble.load_full());
        Some(KeyStatus { callers: callers.clone(), keys, trouble })
    }

    /// Reads or fetches the keys once.
    pub(super) async fn try_load(&self) {
        _ = self.apply(self.load().await);
    }

    /// Uses the keys that were loaded; the present ones stay if none could be.
    ///
    /// # Errors
    /// Why no token can be verified by them.
    fn apply(&self, loaded: Result<KeySet, String>) -> Result<(), String> {
        let result = loaded.and_then(|keys| {
            let is_empty = keys.len() == 0;
            self.set(keys);
            if is_empty { Err(NO_KEY.into()) } else { Ok(()) }
        });
        self.trouble.store(result.as_ref().err().cloned().map(Arc::new));
        result
    }

    /// Fetches soon, because a token names a key that is not there.
    pub(super) fn want_refresh(&self) {
        self.wanted.notify_one();
    }

    /// Refreshes the keys from now on, until the store is dropped.
    pub(super) fn start(self: &Arc<Self>, name: &str) {
        let Ok(runtime) = Handle::try_current() else { return };
        if self.location.is_some() && !self.is_started.swap(true, Ordering::AcqRel) {
            runtime.spawn(refresh_keys(Arc::downgrade(self), name.to_owned()));
        }
    }

    fn set(&self, keys: KeySet) {
        if self.present.load().digest == keys.digest {
            return;
        }
        self.present.store(Arc::new(keys));
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    async fn load(&self) -> Result<KeySet, String> {
        match (&self.location, &self.upstream) {
            (Some(KeyLocation::Url(url)), Some(upstream)) => {
                let (_, _, document) = fetch(upstream, url, (HeaderMap::new(), None), MAX_DOCUMENT_BYTES)
                    .await
                    .and_then(|answer| match answer.0 {
                        StatusCode::OK => Ok(answer),
                        status => Err(format!("it was answered {status}")),
                    })?;
                KeySet::parse(&document)
            }
            (Some(KeyLocation::File(path)), _) => read_file(path),
            _ => Err("there is nothing to read".into()),
        }
    }
}

fn read_file(path: &Path) -> Result<KeySet, String> {
    KeySet::parse(&std::fs::read(path).map_err(|error| error.to_string())?)
}

async fn refresh_keys(store: Weak<KeyStore>, name: String) {
    let (mut retry, mut loaded_at) = (MIN_RETRY, Instant::now());
    loop {
        let Some(present) = store.upgrade() else { return };
        let loaded = present.load().await;
        if loaded.is_ok() {
            loaded_at = Instant::now();
        }
        let pause = match present.apply(loaded) {
            Ok(()) => {
                retry = MIN_RETRY;
                REFRESH_INTERVAL
            }
            Err(error) => {
                tracing::warn!(callers = name, error, "JWKS fetch failed");
                if loaded_at.elapsed() > MAX_OUTAGE {
                    present.set(KeySet::default());
                }
                retry = (2 * retry).min(MAX_RETRY);
                retry / 2
            }
        };
        // Without a strong reference, so that the task ends with the store.
        drop(present);
        let at_least = pause.min(MIN_INTERVAL);
        sleep(at_least).await;
        let Some(waiting) = store.upgrade() else { return };
        _ = timeout(pause - at_least, waiting.wanted.notified()).await;
    }
}

/// Sends a GET, and reads the whole answer.
pub(super) async fn fetch(
    upstream: &Upstream,
    url: &RemoteUrl,
    (headers, client): (HeaderMap, Option<ClientNetwork>),
    limit: usize,
) -> Result<(StatusCode, HeaderMap, bytes::Bytes), String> {
    let mut request = Box::new(Request::new(RequestBody::empty()));
    *request.uri_mut() = url.target.clone().into();
    *request.headers_mut() = headers;
    if let Some(client) = client {
        request.extensions_mut().insert(client);
    }
    let wait = url.upstream.response_timeout;
    let timeouts = Timeouts { response: wait, idle: wait, stream_idle: wait };
    let answer = upstream.send(request, timeouts).await.map_err(|error| error.to_string())?;
    let (parts, body) = answer.into_parts();
    let body =
        timeout(wait, Limited::new(body, limit).collect()).await.map_err(|_| "it did not end in time")?;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    Ok((parts.status, parts.headers, body))
}
