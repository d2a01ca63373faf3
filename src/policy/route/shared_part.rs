//! The shared part of a route with `overlay`: the route itself, with one response for all callers.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Uri};

use super::{Route, RouteMode, Shared};
use crate::policy::overlay::OverlayAs;

/// The part of a response that is the same for all callers.
#[derive(Clone, Debug)]
pub(crate) struct SharedPart {
    /// The rules of the part: those of the route, but for one response to all.
    pub route: Arc<Route>,
    /// More fields that identify a caller: those by which the other routes know theirs.
    pub(in crate::policy) credentials: Vec<HeaderName>,
    /// The fields that larder adds.
    pub(in crate::policy) headers: HeaderMap,
}

impl SharedPart {
    pub(crate) fn new(route: &Route, credentials: Vec<HeaderName>, background: &HeaderMap) -> Self {
        let headers = match route.overlay_as {
            OverlayAs::Anonymous => HeaderMap::new(),
            OverlayAs::Background => background.clone(),
        };
        let part = Route {
            shared: Shared::All,
            per: None,
            callers: None,
            anonymous: Default::default(),
            compress: Vec::new(),
            no_vary_search: false,
            overlay: Vec::new(),
            shared_part: None,
            fingerprint: route.fingerprint.as_shared_part(route.overlay_as, &credentials, &headers),
            ..route.clone()
        };
        Self { route: Arc::new(part), credentials, headers }
    }
}

impl Route {
    /// The shared part, if responses are merged. A route that only observes forwards them whole.
    pub(crate) fn merged_part(&self) -> Option<&SharedPart> {
        self.shared_part.as_deref().filter(|_| self.mode == RouteMode::On)
    }

    /// The URLs of the caller's parts, each once.
    pub(crate) fn caller_parts(&self) -> Vec<&Uri> {
        let mut urls: Vec<&Uri> = Vec::new();
        for overlay in &self.overlay {
            if !urls.contains(&&overlay.from) {
                urls.push(&overlay.from);
            }
        }
        urls
    }
}
