//! `/drain`: clients move to other replicas before the process ends.

use http::StatusCode;
use serde_json::json as value;

use super::AdminState;
use super::query::query_pairs;
use super::response::{AdminError, AdminResponse, json};
use crate::phase::Phase;

/// Begins to drain, and ends the process if it is to exit. Repeated, it only reports the open connections.
pub(super) fn drain(state: &AdminState, query: Option<&str>) -> Result<AdminResponse, AdminError> {
    let exits = parse_query(query)?;
    let phase = state.readiness.phase();
    // Before the first of them closes.
    let connections = state.metrics.open_connections();
    if phase.advance(Phase::Draining) {
        tracing::info!("draining: clients are told to close their connections");
    }
    if exits && phase.advance(Phase::Stopping) {
        tracing::info!("exiting once the requests in flight have ended");
    }
    Ok(json(StatusCode::OK, &value!({ "status": phase.current().as_str(), "connections": connections })))
}

/// Parses `?exit=true`.
fn parse_query(query: Option<&str>) -> Result<bool, AdminError> {
    let mut exits = false;
    for (name, value) in query_pairs(query)? {
        exits = match (name.as_str(), value.as_str()) {
            ("exit", "" | "true" | "1") => true,
            ("exit", "false" | "0") => false,
            _ => {
                let error = format!("invalid query parameter `{name}={value}`");
                return Err(AdminError::bad_request(error, "send `exit=true`, or no query"));
            }
        };
    }
    Ok(exits)
}
