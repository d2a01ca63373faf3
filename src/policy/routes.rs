//! Which route a path falls under. The most specific wins: a literal segment beats a parameter, a parameter beats the
//! rest, compared from the left.

use std::sync::Arc;

use super::Route;
use crate::purge::LoosePath;

#[derive(Clone, Debug, Default)]
pub struct Routes {}

impl Routes {
    /// No two routes have templates that match the same paths; the configuration has seen to that.
    pub fn new(_routes: &[Arc<Route>]) -> Self {
        todo!()
    }

    /// By the path as it is written, for reading.
    pub fn find(&self, _path: &str) -> Option<&Arc<Route>> {
        todo!()
    }

    /// By any spelling, for purging.
    pub fn find_loosely(&self, _path: &LoosePath) -> Option<&Arc<Route>> {
        todo!()
    }
}
