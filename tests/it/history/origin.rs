//! The upstream: a register of versions that says in each answer what it had, when, and for whom.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::dice::Dice;
use super::record::{Apply, Content, Fetch};

/// Keys below this are for everybody, the others are one for each caller.
pub const PUBLIC: usize = 14;
pub const KEYS: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    Slow,
    /// Every other request is read, maybe done, and not answered.
    Cutting,
    /// Every other request is answered by an error; a write may have been done all the same.
    Failing,
}

pub struct Origin {
    pub address: SocketAddr,
    began: Instant,
    versions: Mutex<[u64; KEYS]>,
    applies: Mutex<Vec<Apply>>,
    requests: AtomicU64,
    fetches: Mutex<Vec<Fetch>>,
    mood: AtomicU8,
    seed: u64,
    /// How often an answer is another key's, which the checker must find; zero: never.
    pub confuses: AtomicU64,
    /// Likewise: a write takes place twice.
    pub repeats: AtomicU64,
}

impl Origin {
    pub async fn start(seed: u64, began: Instant) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let origin = Arc::new(Self {
            address: listener.local_addr().expect("bound"),
            began,
            versions: Mutex::default(),
            applies: Mutex::default(),
            requests: AtomicU64::new(0),
            fetches: Mutex::default(),
            mood: AtomicU8::new(0),
            seed,
            confuses: AtomicU64::new(0),
            repeats: AtomicU64::new(0),
        });
        tokio::spawn(origin.clone().serve(listener));
        origin
    }

    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).expect("a short run")
    }

    pub fn set(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::SeqCst);
    }

    pub fn version(&self, key: usize) -> u64 {
        self.versions.lock().unwrap()[key]
    }

    pub fn applies(&self) -> Vec<Apply> {
        self.applies.lock().unwrap().clone()
    }

    pub fn fetches(&self) -> Vec<Fetch> {
        self.fetches.lock().unwrap().clone()
    }

    async fn serve(self: Arc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let origin = self.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| origin.clone().answer(request));
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Cut> {
        let number = self.requests.fetch_add(1, Ordering::SeqCst) + 1;
        let mut dice = Dice::new(self.seed, number);
        let (parts, body) = request.into_parts();
        body.collect().await.map_err(|_| Cut)?;
        let mood = self.mood.load(Ordering::SeqCst);
        let [slow, cutting, failing] = [Mood::Slow, Mood::Cutting, Mood::Failing].map(|m| mood == m as u8);
        let key: usize = parts.uri.path().rsplit('/').next().and_then(|id| id.parse().ok()).ok_or(Cut)?;
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let variant = usize::from(header("accept-language") == Some("fr"));
        let owner = (key >= PUBLIC).then(|| identity(header("authorization"))).flatten();
        if parts.method == Method::GET {
            let at = self.now();
            self.fetches.lock().unwrap().push(Fetch { key, variant, owner, at });
        }
        let pause = |dice: &mut Dice| if slow { dice.millis(5, 120) } else { dice.micros(0, 3000) };
        // The two places where a fetch and a write overtake each other.
        tokio::time::sleep(pause(&mut dice)).await;
        if cutting && dice.one_in(4) {
            return Err(Cut);
        }
        if failing && dice.one_in(4) {
            return Ok(failure(503));
        }
        let response = if parts.method == Method::GET {
            let version = self.version(key);
            let origin_at = self.now();
            let confuses = self.confuses.load(Ordering::SeqCst);
            let said = if confuses > 0 && number.is_multiple_of(confuses) { (key + 1) % PUBLIC } else { key };
            let content = Content { key: said, version, variant, owner, origin_at, intact: true };
            Response::builder()
                .header("vary", "accept-language")
                .body(Full::new(written(&content, number, length(&mut dice)).into()))
        } else {
            let write = header("x-write").and_then(|id| id.parse().ok()).ok_or(Cut)?;
            let repeats = self.repeats.load(Ordering::SeqCst);
            let times = if repeats > 0 && number.is_multiple_of(repeats) { 2 } else { 1 };
            (0..times).for_each(|_| self.apply(key, write));
            Response::builder().body(Full::default())
        };
        tokio::time::sleep(pause(&mut dice)).await;
        if cutting && dice.one_in(3) {
            return Err(Cut);
        }
        if failing && dice.one_in(3) {
            return Ok(failure(500));
        }
        Ok(response.expect("a response"))
    }

    fn apply(&self, key: usize, write: u64) {
        let mut versions = self.versions.lock().unwrap();
        versions[key] += 1;
        self.applies.lock().unwrap().push(Apply { key, version: versions[key], at: self.now(), write });
    }
}

/// Ends the connection without a word.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut")
    }
}

impl std::error::Error for Cut {}

impl From<Infallible> for Cut {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

fn failure(status: u16) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::default()).expect("a response")
}

/// Mostly little, and now and then what has to be sent in many parts.
fn length(dice: &mut Dice) -> usize {
    match dice.below(400) {
        0 => dice.below(256 * 1024),
        1..20 => dice.below(20_000),
        20..200 => dice.below(1000),
        _ => 0,
    }
}

fn identity(authorization: Option<&str>) -> Option<usize> {
    authorization?.strip_prefix("Bearer ")?.parse().ok()
}

/// An answer's content: what it is, and then as much as it says, which follows from the rest.
fn written(content: &Content, fetch: u64, fill: usize) -> String {
    let Content { key, version, variant, owner, origin_at, .. } = content;
    let owner = owner.map_or_else(|| "-".to_owned(), |owner| owner.to_string());
    let mut text = format!("{key} {version} {variant} {owner} {origin_at} {fetch} {fill}\n");
    if text.len() < fill {
        let unit = format!("{key}.{version}.{fetch};");
        text += &unit.repeat((fill - text.len()).div_ceil(unit.len()));
    }
    text
}

/// Reads what [`written`] wrote; `None` if that is none of its making.
pub fn read(text: &str) -> Option<Content> {
    let line = text.lines().next()?;
    let mut words = line.split(' ');
    let mut number = || words.next();
    let (key, version, variant) = (number()?.parse().ok()?, number()?.parse().ok()?, number()?.parse().ok()?);
    let owner = match number()? {
        "-" => None,
        owner => Some(owner.parse().ok()?),
    };
    let (origin_at, fetch, fill) =
        (number()?.parse().ok()?, number()?.parse().ok()?, number()?.parse().ok()?);
    let content = Content { key, version, variant, owner, origin_at, intact: true };
    let intact = written(&content, fetch, fill) == text;
    Some(Content { intact, ..content })
}

/// Nothing of the driver waits longer than this for an answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
