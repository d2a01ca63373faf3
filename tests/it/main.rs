//! What larder shows to the outside, file by file. The list of modules is the table of contents.

mod admin;
mod collapsing;
mod configuration;
mod credentials;
mod crowd;
mod examples;
mod forwarding;
mod harness;
mod hit;
mod hostile;
mod invalidation;
mod limits;
mod metrics;
mod miss;
mod observe;
mod passing;
mod purge;
mod purge_races;
mod shutdown;
mod stale;
mod streaming;
mod support;
mod tags;
mod upstream_faults;
mod validation;
mod vary;
