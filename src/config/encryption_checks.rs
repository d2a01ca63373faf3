//! Checks of `encrypt` that need both the routes and the store.

use super::diagnostics::Diagnostics;
use super::parsed_route::ParsedRoute;
use super::store::StoreSettings;

/// Refuses a route that encrypts its responses in Redis, and has no keys for it.
pub(super) fn require_keys(store: &StoreSettings, routes: &[ParsedRoute], diagnostics: &Diagnostics) {
    if store.redis.is_none() || store.sealing().is_some() {
        return;
    }
    for parsed in routes.iter().filter(|parsed| parsed.route.encrypt == Some(true)) {
        let location = parsed.own.encrypt.as_ref().map_or(parsed.path_location, |encrypt| encrypt.location);
        diagnostics
            .error(location, "`encrypt: true` needs keys, and `store` has none")
            .help(
                "add `store: {sign: {keys: [{id: a, secret: \"${LARDER_REDIS_KEY}\"}]}}`: the routes with `encrypt` are \
                 encrypted with them, the others signed; or `store.encrypt`, to encrypt all",
            );
    }
}
