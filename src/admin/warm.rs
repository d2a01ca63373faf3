//! `/warm` and `/refresh`: background requests started by an operator.

use http::StatusCode;
use serde::Deserialize;
use serde_json::json as value;

use super::AdminState;
use super::response::{AdminError, AdminResponse, json};
use crate::warming::{RefreshRequest, Report, WarmRequest, WarmResult};

const WARM_EXAMPLE: &str = r#"send JSON such as {"route": "/api/courses/{id}", "values": {"id": [1, 2]}} or {"urls": ["/api/courses"]}"#;
const REFRESH_EXAMPLE: &str =
    r#"send JSON such as {"expiring_within": "5m", "route": "courses", "tag": "course:7"}"#;

impl AdminState {
    /// Progress of the configuration's `warm` entries.
    pub(super) fn warm_status(&self) -> AdminResponse {
        let runs = self.warming.as_ref().map(|warming| warming.run_statuses()).unwrap_or_default();
        json(StatusCode::OK, &value!({ "warm": runs }))
    }

    pub(super) async fn warm(&self, body: &[u8]) -> Result<AdminResponse, AdminError> {
        let request: WarmRequest = parse_body(body, WARM_EXAMPLE)?;
        let warming = self.warming.as_ref().ok_or_else(warming_unavailable)?;
        report_response(warming.warm_now(request).await)
    }

    pub(super) async fn refresh(&self, body: &[u8]) -> Result<AdminResponse, AdminError> {
        let request: RefreshRequest = parse_body(body, REFRESH_EXAMPLE)?;
        let warming = self.warming.as_ref().ok_or_else(warming_unavailable)?;
        report_response(warming.refresh(request).await)
    }
}

fn parse_body<'b, T: Deserialize<'b>>(body: &'b [u8], form: &str) -> Result<T, AdminError> {
    serde_json::from_slice(body).map_err(|error| AdminError::bad_request(error.to_string(), form))
}

fn warming_unavailable() -> AdminError {
    let fix = "send the request to a process that serves clients";
    AdminError::new(StatusCode::SERVICE_UNAVAILABLE, "this process sends no background requests", fix)
}

/// Reports 202 while the run continues.
fn report_response(wanted: WarmResult<Report>) -> Result<AdminResponse, AdminError> {
    let Report { tally, is_done } = wanted.map_err(|(wrong, fix)| AdminError::bad_request(wrong, fix))?;
    let (code, status) = match is_done {
        true => (StatusCode::OK, "done"),
        false => (StatusCode::ACCEPTED, "running"),
    };
    let mut answer = serde_json::to_value(tally).unwrap_or_default();
    answer["status"] = status.into();
    Ok(json(code, &answer))
}
