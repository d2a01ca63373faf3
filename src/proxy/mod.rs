//! CONNECTS. Handles one request from top to bottom: [`Worker::handle`](worker::Worker::handle).
//!
//! The only place that asks policy, the store and the upstream. It parses no field and computes no time itself.
//!
//! Imports among its modules point down only: `handle` and `internal_request` are the top, `client_request`,
//! `single_flight` and `shared_body` are near the bottom.

mod answer;
mod audit;
mod background_refresh;
mod backoff;
mod body;
mod buffered_body;
mod cached_answer;
mod cached_request;
mod client_request;
mod collapse;
mod compressed_body;
mod content_parser;
mod content_read;
mod error;
mod fetch;
mod fetch_start;
mod first_notices;
mod forwarding;
mod handle;
mod head_request;
mod interim;
mod internal_request;
mod lookup;
mod max_forwards;
mod merged_validators;
mod observe;
mod operate;
mod operator;
mod overlay;
#[cfg(test)]
mod panic_tests;
mod pass_through;
mod pending_writes;
mod purge_method;
mod purge_rate;
mod rate_budgets;
mod rate_limit;
mod refresh_failures;
mod refresh_window;
mod reply;
mod request_fields;
mod request_host;
mod request_log;
mod requester;
mod search_hints;
mod sender_budgets;
mod shared_body;
mod single_flight;
mod spans;
mod state;
mod streamed_write;
mod trace_context;
mod tunnel;
mod unanswered;
mod unsent_bytes;
mod upstream_request;
mod use_sample;
mod websocket;
mod withdrawals;
mod worker;
mod write;
mod write_guard;

pub(crate) use audit::{ask_again, compare_responses};
pub(crate) use body::Body;
pub(crate) use client_request::{Client, ClientHead, RefreshPolicy};
pub(crate) use handle::{Handled, PendingRequest};
pub(crate) use interim::InterimQueue;
pub(crate) use internal_request::RefreshOutcome;
pub(crate) use operator::Operator;
pub(crate) use sender_budgets::client_network;
pub(crate) use state::Proxy;
pub(crate) use worker::{SharedProxy, WorkerHandle};
