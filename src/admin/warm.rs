//! `/warm` and `/refresh`: what is to be fetched before clients ask for it.

use http::StatusCode;
use serde::Deserialize;
use serde_json::json as value;

use super::AdminState;
use super::answer::{Answer, Refusal, json};
use crate::warming::{RefreshRequest, Report, Wanted, WarmRequest};

const WARM: &str = r#"send JSON such as {"route": "/api/courses/{id}", "values": {"id": [1, 2]}} or {"urls": ["/api/courses"]}"#;
const REFRESH: &str = r#"send JSON such as {"expiring_within": "5m", "route": "courses", "tag": "course:7"}"#;

impl AdminState {
    /// What the configuration has warmed, and how far it is.
    pub(super) fn warming(&self) -> Answer {
        let runs = self.warming.as_ref().map(|warming| warming.shown()).unwrap_or_default();
        json(StatusCode::OK, &value!({ "warm": runs }))
    }

    pub(super) async fn warm(&self, body: &[u8]) -> Result<Answer, Refusal> {
        let request: WarmRequest = parsed(body, WARM)?;
        let warming = self.warming.as_ref().ok_or_else(not_there)?;
        answered(warming.warm_now(request).await)
    }

    pub(super) async fn refresh(&self, body: &[u8]) -> Result<Answer, Refusal> {
        let request: RefreshRequest = parsed(body, REFRESH)?;
        let warming = self.warming.as_ref().ok_or_else(not_there)?;
        answered(warming.refresh(request).await)
    }
}

fn parsed<'b, T: Deserialize<'b>>(body: &'b [u8], form: &str) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::bad_request(error.to_string(), form))
}

fn not_there() -> Refusal {
    let fix = "ask a larder that serves clients";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "nothing is asked for from here", fix)
}

/// 202: it goes on.
fn answered(wanted: Wanted<Report>) -> Result<Answer, Refusal> {
    let Report { tally, is_done } = wanted.map_err(|(wrong, fix)| Refusal::bad_request(wrong, fix))?;
    let (code, status) = match is_done {
        true => (StatusCode::OK, "done"),
        false => (StatusCode::ACCEPTED, "running"),
    };
    let mut answer = serde_json::to_value(tally).unwrap_or_default();
    answer["status"] = status.into();
    Ok(json(code, &answer))
}
