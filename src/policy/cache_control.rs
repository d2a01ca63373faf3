//! `Cache-Control` (RFC 9111 §5.2) as typed fields. Parsing can't fail; what is wrong makes less cacheable.

use std::time::Duration;

use http::HeaderMap;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheControl {
    pub max_age: Option<Duration>,
    pub s_maxage: Option<Duration>,
    pub no_store: bool,
    pub no_cache: bool,
    pub private: bool,
    pub public: bool,
    pub must_revalidate: bool,
    pub proxy_revalidate: bool,
    pub must_understand: bool,
    pub no_transform: bool,
    pub only_if_cached: bool,
    pub stale_while_revalidate: Option<Duration>,
    pub stale_if_error: Option<Duration>,
    pub max_stale: Option<Option<Duration>>,
    pub min_fresh: Option<Duration>,
}

impl CacheControl {
    pub fn parse(_headers: &HeaderMap) -> Self {
        todo!()
    }
}
