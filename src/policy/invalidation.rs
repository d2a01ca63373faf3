//! What a request makes invalid: the route rules, RFC 9111 §4.4, and PURGE.
//!
//! A path is taken in every way that it could be read. Where something is in doubt, more is purged.

#[cfg(test)]
mod hostile_paths;
mod location;
mod purge_request;
#[cfg(test)]
mod tests;
mod write;

pub use super::groups::invalidated as groups_of_write_response;
pub use purge_request::of_purge_request;
pub use write::{Exchanged, Kept, kept_of_write, of_exchange, of_write};

use std::time::Duration;

use http::StatusCode;

use super::path::normal_form;
use crate::purge::{LoosePath, Target};

/// What a write purges, as far as its request tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteTargets {
    pub targets: Vec<Target>,
    /// Templates that found no value and were widened.
    pub widened: usize,
    /// The longest of what its routes ask for.
    pub settle: Duration,
}

/// How a write ended, and whether it may have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteEnd {
    /// 2xx, 3xx; also 500: it may have happened, and it is over.
    Purge,
    /// 502, 503, 504, or no response at all: it may still happen.
    PurgeInDoubt,
    /// 4xx: it did not happen.
    Nothing,
}

impl WriteEnd {
    pub fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            200..=399 => WriteEnd::Purge,
            400..=499 => WriteEnd::Nothing,
            // Gateways between larder and the application say these when they have lost it (some say 503 after a
            // reset), and it may still be working.
            502..=504 => WriteEnd::PurgeInDoubt,
            500..=511 => WriteEnd::Purge,
            // An interim response ends nothing; codes without a meaning (524) may mean a timeout.
            _ => WriteEnd::PurgeInDoubt,
        }
    }
}

/// Every path that `path` could be read as: by RFC 3986, loosely, and cut short where a decoded `?`, `#` or NUL ends
/// it for a careless reader.
fn readings(path: &str) -> Vec<LoosePath> {
    let mut readings = Vec::with_capacity(1);
    for reading in [path, &normal_form(path)] {
        let loose = LoosePath::new(reading);
        let cut = loose.as_str().find(['?', '#', '\0']).map(|at| LoosePath::new(&loose.as_str()[..at]));
        for reading in cut.into_iter().chain([loose]) {
            if !readings.contains(&reading) {
                readings.push(reading);
            }
        }
    }
    readings
}

fn add(targets: &mut Vec<Target>, target: Target) {
    if !targets.contains(&target) {
        targets.push(target);
    }
}

fn add_paths(targets: &mut Vec<Target>, host: Option<&str>, path: &str) {
    for path in readings(path) {
        add(targets, Target::Path { host: host.map(str::to_owned), path });
    }
}
