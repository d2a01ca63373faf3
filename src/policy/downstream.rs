//! `downstream`: how long clients, and the caches between larder and them, may keep a response.

use std::time::Duration;

use http::HeaderValue;

/// The terms for those who get a response from larder. They count from when larder sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Downstream {
    /// How long anybody may keep it.
    pub max_age: Duration,
    /// How long shared caches may, if not as long.
    pub s_maxage: Option<Duration>,
    /// RFC 5861 §3.
    pub stale_while_revalidate: Option<Duration>,
    /// RFC 5861 §4.
    pub stale_if_error: Option<Duration>,
    /// Which caches may store it.
    pub scope: Option<CacheScope>,
}

/// The caches that may store a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheScope {
    /// All.
    Public,
    /// The client's own.
    Private,
}

/// The response for which [`Downstream`] is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentResponse {
    /// Its `Age` in seconds, which the caches subtract.
    pub age: u64,
    /// No cache may use it for more seconds from now on.
    pub ends_in: Option<u64>,
    /// It is one caller's.
    pub is_one_callers: bool,
    /// The API forbids to transform it.
    pub no_transform: bool,
}

impl Downstream {
    /// The value of `Cache-Control`.
    pub(crate) fn cache_control(&self, sent: SentResponse) -> Option<HeaderValue> {
        let is_private = sent.is_one_callers || self.scope == Some(CacheScope::Private);
        let seconds = |lifetime: Duration| match lifetime.as_secs().min(sent.ends_in.unwrap_or(u64::MAX)) {
            0 => 0,
            seconds => seconds.saturating_add(sent.age),
        };
        let window = |window: Option<Duration>| window.filter(|_| sent.ends_in.is_none());
        let mut directives = Vec::with_capacity(6);
        match self.scope {
            _ if is_private => directives.push("private".to_owned()),
            Some(CacheScope::Public) => directives.push("public".to_owned()),
            _ => {}
        }
        directives.push(format!("max-age={}", seconds(self.max_age)));
        if let Some(s_maxage) = self.s_maxage.filter(|_| !is_private) {
            directives.push(format!("s-maxage={}", seconds(s_maxage)));
        }
        for (name, time) in [
            ("stale-while-revalidate", window(self.stale_while_revalidate)),
            ("stale-if-error", window(self.stale_if_error)),
        ] {
            directives.extend(time.map(|time| format!("{name}={}", time.as_secs())));
        }
        if sent.no_transform {
            directives.push("no-transform".to_owned());
        }
        HeaderValue::from_str(&directives.join(", ")).ok()
    }
}
