//! Whether the credentials of a request are in the key of its route.
//!
//! Nothing is verified here.

#[cfg(test)]
mod tests;

use http::{HeaderMap, HeaderName, header};

use super::Route;
use super::caller_fields::CallerFields;
use super::cookies::{cookie_names, cookie_parts};
use super::credential::{Credential, credential_value};
use super::jwt::read_expiry;
use crate::clock::Timestamp;

/// When the first of the route's `per` credentials expires that is a JWT with `exp`. Not verified: it only shortens
/// lifetimes.
pub(crate) fn credential_expiry(route: &Route, headers: &HeaderMap) -> Option<Timestamp> {
    let values = route.per.as_ref()?.alternatives().iter().filter_map(|it| credential_value(it, headers));
    values.filter_map(read_expiry).min()
}

/// Whether a field is in the route's `headers`, or its `per`.
fn is_field_in_key(route: &Route, headers: &HeaderMap, name: &HeaderName) -> bool {
    route.headers.contains(name)
        || match &route.per {
            // The caller was found by these.
            Some(per) if per.is_verified() => route
                .callers
                .iter()
                .any(|callers| is_field_of_credential_sent(&callers.credentials, headers, name)),
            Some(per) => is_field_of_credential_sent(per.alternatives(), headers, name),
            None => false,
        }
}

/// Whether the field has one of the credentials: other cookies are the same caller's only beside the one that is named.
fn is_field_of_credential_sent(credentials: &[Credential], headers: &HeaderMap, name: &HeaderName) -> bool {
    credentials.iter().any(|it| it.field().as_ref() == Some(name) && it.is_in(headers))
}

/// Whether all credentials of the request are in the route's key; see [`judge_credentials`].
pub(crate) fn are_credentials_in_key(
    route: &Route,
    headers: &HeaderMap,
    caller_fields: &CallerFields,
) -> bool {
    judge_credentials(route, headers, caller_fields).0
}

/// Whether all credentials of the request are in the route's key (as `per`, or in `headers` or `cookies`), and the fields
/// beside `per` that are in it, too.
///
/// A credential outside the key may change the response even beside one inside it (`Authorization` for the account,
/// a cookie for the role), so each counts, and `Cookie` only if every cookie is in the key. If `per` names a
/// cookie, the other cookies belong to the same caller: browsers always send some.
///
/// Where the route says `per`, a field that only looks like a credential may select another response for the same caller (a
/// tenant, somebody to act for), so it is in the key, too. A field that the route's `callers` read always counts.
pub(crate) fn judge_credentials<'h>(
    route: &Route,
    headers: &'h HeaderMap,
    caller_fields: &CallerFields,
) -> (bool, Vec<&'h HeaderName>) {
    let cookie_in_key = |name: &str| route.cookies.iter().any(|cookie| cookie == name);
    let name_in_key = |name: &HeaderName| is_name_in_key(route, headers, name);
    let (mut are_in_key, mut beside) = (true, Vec::new());
    for name in caller_fields.find_in(headers) {
        if route.exempt.contains(name) || name_in_key(name) {
            continue;
        }
        match route.per.is_some() && !caller_fields.is_named(name) {
            true => beside.push(name),
            false => are_in_key = false,
        }
    }
    let credential_in_key = |credential: &Credential| match credential {
        Credential::Cookie(name) if cookie_in_key(name) && are_parts_in_key(route, headers, name) => true,
        credential => credential.field().is_none_or(|name| name_in_key(&name)),
    };
    let mut of_callers = route.callers.iter().flat_map(|callers| &callers.credentials);
    // Where `per` is verified, what the callers are found by is in the key.
    let callers_in_key = route.per.as_ref().is_some_and(Credential::is_verified)
        || of_callers.all(|credential| !credential.is_in(headers) || credential_in_key(credential));
    (are_in_key && callers_in_key, beside)
}

/// The first field of the request that identifies its caller and is not in the route's key.
pub(crate) fn field_outside_key<'h>(
    route: &Route,
    headers: &'h HeaderMap,
    caller_fields: &CallerFields,
) -> Option<&'h HeaderName> {
    let mut outside = caller_fields
        .find_in(headers)
        .filter(|name| !route.exempt.contains(name) && !is_name_in_key(route, headers, name));
    // Beside `per`, fields that only look like a credential's are in the key.
    outside.find(|name| route.per.is_none() || caller_fields.is_named(name))
}

/// Whether a request has nothing by which the route could know its caller.
pub(crate) fn is_anonymous(route: &Route, headers: &HeaderMap, caller_fields: &CallerFields) -> bool {
    let of_callers = route.callers.iter().flat_map(|callers| &callers.credentials);
    let credentials: Vec<&Credential> =
        route.per.iter().flat_map(Credential::alternatives).chain(of_callers).collect();
    let is_read = |name: &HeaderName| {
        route.exempt.contains(name) || credentials.iter().any(|it| it.field().as_ref() == Some(name))
    };
    !credentials.iter().any(|credential| credential.is_in(headers))
        && caller_fields.find_in(headers).all(is_read)
        && are_credentials_in_key(route, headers, caller_fields)
}

/// Whether the parts of a cookie are among the cookies of the route's key.
fn are_parts_in_key(route: &Route, headers: &HeaderMap, name: &str) -> bool {
    let is_in_key = |name: &[u8]| route.cookies.iter().any(|it| it.as_bytes() == name);
    cookie_parts(headers, name).iter().all(|(name, _)| is_in_key(name))
}

/// Whether the whole field is in the route's key.
fn is_name_in_key(route: &Route, headers: &HeaderMap, name: &HeaderName) -> bool {
    let is_cookie_in_key =
        |name: &[u8]| std::str::from_utf8(name).is_ok_and(|name| route.cookies.iter().any(|it| it == name));
    is_field_in_key(route, headers, name)
        || *name == header::COOKIE && cookie_names(headers).all(is_cookie_in_key)
}
