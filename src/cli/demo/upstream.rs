//! The sample API of the demo. Each query is slow, and counted.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::courses::{Change, Courses};
use crate::policy::jwt;

/// Serves until it is dropped. Each read of courses or progress is a query that takes `delay`; `GET /api/queries` returns
/// their number.
pub async fn serve(listener: TcpListener, delay: Duration) {
    let api = Arc::new(CourseApi { courses: Mutex::default(), queries: AtomicU64::new(0), delay });
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let api = api.clone();
        let service = service_fn(move |request| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        tokio::spawn(async move {
            // Clients may disconnect at any time.
            _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

struct CourseApi {
    courses: Mutex<Courses>,
    queries: AtomicU64,
    delay: Duration,
}

/// The status of an error, and its message.
type Failure = (StatusCode, &'static str);

impl CourseApi {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, content) = match self.dispatch(request).await {
            Ok((status, content)) => (status, content),
            Err((status, error)) => (status, json!({ "error": error })),
        };
        let mut response = Response::new(Full::from(format!("{content:#}\n")));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    async fn dispatch(&self, request: Request<Incoming>) -> Result<(StatusCode, Value), Failure> {
        let (head, body) = request.into_parts();
        let path: Vec<&str> = head.uri.path().split('/').skip(1).collect();
        match (&head.method, path.as_slice()) {
            (&Method::GET, ["api", "queries"]) => {
                Ok((StatusCode::OK, json!({"queries": self.queries.load(Ordering::SeqCst)})))
            }
            (&Method::GET, ["api", "courses"]) => self.list(head.uri.query().unwrap_or_default()).await,
            (&Method::GET, ["api", "courses", id]) => self.course(id).await,
            (&Method::PATCH, ["api", "courses", id]) => {
                let change = Limited::new(body, 64 * 1024).collect().await;
                let change = change.map_err(|_| (StatusCode::BAD_REQUEST, "no content"))?.to_bytes();
                self.change(id, &change)
            }
            (&Method::POST, ["api", "courses", id, "enroll"]) => self.enroll(id, &user(&head.headers)?),
            (&Method::GET, ["api", "users", "me", "progress"]) => self.progress(&user(&head.headers)?).await,
            _ => Err((StatusCode::NOT_FOUND, "there is nothing here")),
        }
    }

    async fn list(&self, query: &str) -> Result<(StatusCode, Value), Failure> {
        let number = |name, default| parameter(query, name).map_or(Ok(default), str::parse::<usize>);
        let (Ok(page), Ok(limit)) = (number("page", 1), number("limit", 20)) else {
            return Err((StatusCode::BAD_REQUEST, "page and limit are numbers"));
        };
        let difficulty = parameter(query, "difficulty").unwrap_or("any");
        let number = self.query().await;
        let (courses, total) = self.courses().list(difficulty, page, limit);
        Ok((StatusCode::OK, json!({"courses": courses, "page": page, "total": total, "query": number})))
    }

    async fn course(&self, id: &str) -> Result<(StatusCode, Value), Failure> {
        let query = self.query().await;
        let courses = self.courses();
        let course = number(id).and_then(|id| courses.find(id)).ok_or(NO_COURSE)?;
        Ok((StatusCode::OK, json!({"course": course, "query": query})))
    }

    fn change(&self, id: &str, change: &[u8]) -> Result<(StatusCode, Value), Failure> {
        let change: Change = serde_json::from_slice(change)
            .map_err(|_| (StatusCode::BAD_REQUEST, "send JSON with a title, a difficulty, or both"))?;
        let mut courses = self.courses();
        let course = number(id).and_then(|id| courses.change(id, change)).ok_or(NO_COURSE)?;
        Ok((StatusCode::OK, json!({"course": course})))
    }

    fn enroll(&self, id: &str, user: &str) -> Result<(StatusCode, Value), Failure> {
        let mut courses = self.courses();
        let course = number(id).and_then(|id| courses.enroll(id, user)).ok_or(NO_COURSE)?;
        Ok((StatusCode::CREATED, json!({"course": course, "user": user})))
    }

    async fn progress(&self, user: &str) -> Result<(StatusCode, Value), Failure> {
        let query = self.query().await;
        let progress = self.courses().progress(user);
        Ok((StatusCode::OK, json!({"user": user, "progress": progress, "query": query})))
    }

    /// Waits for the delay; returns the number of the query.
    async fn query(&self) -> u64 {
        let number = self.queries.fetch_add(1, Ordering::SeqCst) + 1;
        tokio::time::sleep(self.delay).await;
        number
    }

    fn courses(&self) -> MutexGuard<'_, Courses> {
        self.courses.lock()
    }
}

const NO_COURSE: Failure = (StatusCode::NOT_FOUND, "there is no such course");

fn number(id: &str) -> Option<u32> {
    id.parse().ok()
}

/// The raw value of a query parameter. The values of this API need no decoding.
fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// The user: `sub` of the token, or the credential itself. A real API would verify the signature.
fn user(headers: &HeaderMap) -> Result<String, Failure> {
    let credential = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let credential = credential.ok_or((StatusCode::UNAUTHORIZED, "who are you? send Authorization"))?;
    Ok(jwt::read_claim(headers, "sub").unwrap_or_else(|| credential.to_owned()))
}
