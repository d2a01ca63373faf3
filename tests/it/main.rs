//! What larder shows to the outside, file by file. The list of modules is the table of contents.

mod collapsing;
mod credentials;
mod crowd;
mod harness;
mod hit;
mod invalidation;
mod miss;
mod observe;
mod passing;
mod purge;
mod purge_races;
mod reloading;
mod stale;
mod streaming;
mod support;
mod tags;
mod validation;
mod vary;
