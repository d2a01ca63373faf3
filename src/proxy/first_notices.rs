//! Says once, for each route and field, that a response is shared or not because of a request field, or stored without a
//! response field; and once for each route that its responses can't be merged, and that a parameter is left out which nearly
//! has the name of a listed one.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderName;
use parking_lot::Mutex;

use crate::policy::Route;
use crate::policy::overlay::Mismatch;

/// Names of request fields that only look like a credential's, and of response fields: each has a set of its own, and no
/// more are remembered or said.
const MAX_NOTICES: usize = 256;

/// How much is shown of a name that a client chose.
const MAX_SHOWN_CHARS: usize = 64;

/// The bound for one client's names of the first kind, so that one that invents names does not silence the others.
const MAX_NOTICES_OF_CLIENT: usize = 16;

/// The effect of a field on what is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum FieldEffect {
    /// A request field: responses are not shared.
    NotShared,
    /// A request field outside the key: responses are shared all the same, since the route says so.
    Shared,
    /// A response field: it is not stored.
    NotStored,
}

impl FieldEffect {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            FieldEffect::NotShared => "not-shared",
            FieldEffect::Shared => "shared",
            FieldEffect::NotStored => "not-stored",
        }
    }
}

/// The sender of a request field that may identify a caller.
pub(super) struct FieldSender {
    /// larder or the configuration names the field; otherwise its name only looks like a credential's.
    pub is_named: bool,
    /// The network of the client, as far as it is known.
    pub client: Option<IpAddr>,
}

#[derive(Default)]
pub(super) struct FirstNotices(Mutex<Notices>);

#[derive(Default)]
struct Notices {
    /// The index of the route, and the field.
    fields: HashSet<(usize, FieldEffect, HeaderName)>,
    /// The number of names that only look like a credential's, by client.
    by_client: HashMap<Option<IpAddr>, usize>,
    /// The number of names of response fields.
    of_responses: usize,
    /// Fields that `underscores` dropped from writes, each with the client that sent it first.
    underscored: HashMap<HeaderName, Option<IpAddr>>,
    unmerged: HashSet<usize>,
    left_out: HashSet<usize>,
}

impl Notices {
    fn add_request_field(
        &mut self,
        field: (usize, FieldEffect, HeaderName),
        FieldSender { is_named, client }: FieldSender,
    ) -> bool {
        if self.fields.contains(&field) {
            return false;
        }
        if !is_named {
            let all: usize = self.by_client.values().sum();
            let of_client = self.by_client.get(&client).copied().unwrap_or_default();
            if all >= MAX_NOTICES || of_client >= MAX_NOTICES_OF_CLIENT {
                return false;
            }
            self.by_client.insert(client, of_client + 1);
        }
        self.fields.insert(field)
    }

    fn add_underscored(&mut self, field: &HeaderName, client: Option<IpAddr>) -> bool {
        let of_client = || self.underscored.values().filter(|sender| **sender == client).count();
        let is_first = !self.underscored.contains_key(field)
            && self.underscored.len() < MAX_NOTICES
            && of_client() < MAX_NOTICES_OF_CLIENT;
        if is_first {
            self.underscored.insert(field.clone(), client);
        }
        is_first
    }

    fn add_response_field(&mut self, field: (usize, FieldEffect, HeaderName)) -> bool {
        let is_first = self.of_responses < MAX_NOTICES && self.fields.insert(field);
        self.of_responses += usize::from(is_first);
        is_first
    }
}

impl FirstNotices {
    /// A request field kept a response from being shared, or did not.
    pub(super) fn record_credential(
        &self,
        route: &Route,
        (effect, field): (FieldEffect, &HeaderName),
        sender: FieldSender,
    ) {
        if !self.0.lock().add_request_field((route.index, effect, field.clone()), sender) {
            return;
        }
        let route = &*route.name;
        match effect {
            FieldEffect::Shared => tracing::info!(
                route,
                %field,
                "responses are shared although the request has a field that identifies its caller (`shared`)"
            ),
            _ => tracing::info!(
                route,
                %field,
                "responses are not shared: the request has a field that identifies its caller (`credentials`)"
            ),
        }
    }

    /// A response field is not stored.
    pub(super) fn record_dropped(&self, route: &Route, field: &HeaderName) {
        if self.0.lock().add_response_field((route.index, FieldEffect::NotStored, field.clone())) {
            tracing::info!(
                route = &*route.name,
                %field,
                "response field not stored: caller-specific (`drop_response`)"
            );
        }
    }

    /// `underscores` dropped a field from a write of a client in this network.
    pub(super) fn record_underscored(&self, field: &HeaderName, client: Option<IpAddr>) {
        if self.0.lock().add_underscored(field, client) {
            tracing::warn!(
                %field,
                "field of a write dropped, since its name has more than letters, digits and `-`: send it with dashes, or set `underscores: pass` if \
                 the API tells both names apart"
            );
        }
    }

    /// A shared part does not have the form that the route's `overlay` describes.
    pub(super) fn record_unmerged(&self, route: &Route, mismatch: Mismatch) {
        if self.0.lock().unmerged.insert(route.index) {
            tracing::warn!(
                route = &*route.name,
                reason = mismatch.as_str(),
                "response can't be merged as its route's `overlay` says: such requests are forwarded"
            );
        }
    }

    /// A parameter does not reach the upstream that nearly has the name of one in `query`.
    pub(super) fn record_left_out(&self, route: &Route, parameter: &str, listed: &str) {
        if self.0.lock().left_out.insert(route.index) {
            let parameter: String = parameter.chars().take(MAX_SHOWN_CHARS).collect();
            tracing::warn!(
                route = &*route.name,
                ?parameter,
                listed,
                "query parameter left out: `query` lists another name; list both if the API reads both"
            );
        }
    }

    /// All fields that were said so far, in the order of the routes: the index of the route, the effect, the field.
    pub(super) fn fields(&self) -> Vec<(usize, FieldEffect, HeaderName)> {
        let mut fields: Vec<_> = self.0.lock().fields.iter().cloned().collect();
        fields.sort_by(|(a, b, c), (x, y, z)| (a, b, c.as_str()).cmp(&(x, y, z.as_str())));
        fields
    }
}

/// Lists the fields that were said: the name of the route, the effect, the field.
pub(super) type FieldNotices = Arc<dyn Fn() -> Vec<(Arc<str>, &'static str, HeaderName)> + Send + Sync>;

#[cfg(test)]
mod tests {
    use super::*;

    fn add(notices: &mut Notices, name: &str, client: Option<IpAddr>) -> bool {
        let field = (0, FieldEffect::NotShared, name.parse().unwrap());
        notices.add_request_field(field, FieldSender { is_named: name == "cookie", client })
    }

    #[test]
    fn one_client_silences_nobody() {
        let (mut notices, client) = (Notices::default(), |last: u8| Some(IpAddr::from([192, 0, 2, last])));
        let said = (0..1000).filter(|number| add(&mut notices, &format!("x-token-{number}"), client(1)));
        assert_eq!(said.count(), MAX_NOTICES_OF_CLIENT);
        assert!(
            add(&mut notices, "x-shop-token", client(2)) && !add(&mut notices, "x-shop-token", client(3))
        );
        for (last, number) in (3..=255).flat_map(|last| (0..100).map(move |number| (last, number))) {
            add(&mut notices, &format!("x-{last}-{number}"), client(last));
        }
        assert_eq!(notices.fields.len(), MAX_NOTICES);
        // Neither do all together silence the fields that are named, or those of responses.
        assert!(add(&mut notices, "cookie", client(1)) && !add(&mut notices, "cookie", client(1)));
        let response = |number: usize| (0, FieldEffect::NotStored, format!("x-{number}").parse().unwrap());
        let said = (0..1000).filter(|number| notices.add_response_field(response(*number))).count();
        assert_eq!(said, MAX_NOTICES);
        let mut underscored = |number: usize, last: u8| {
            notices.add_underscored(&format!("x_{number}").parse().unwrap(), client(last))
        };
        assert_eq!((0..1000).filter(|number| underscored(*number, 1)).count(), MAX_NOTICES_OF_CLIENT);
        assert!(underscored(1000, 2) && !underscored(1000, 3));
        assert!(
            (2..=255)
                .flat_map(|last| (0..100).map(move |number| (number, last)))
                .filter(|(number, last)| { underscored(usize::from(*last) * 1000 + number, *last) })
                .count()
                < MAX_NOTICES
        );
    }
}
