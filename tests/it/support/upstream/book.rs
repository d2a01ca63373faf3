//! The script of the upstream and the requests it received, shared between the test and the upstream's thread.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use super::{Answer, Wire};

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub struct Received {
    pub method: String,
    pub target: String,
    /// In the order and the spelling of the wire.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// Its body did not arrive whole.
    pub aborted: bool,
    /// Which connection it came on; the first is 0.
    pub connection: u64,
    /// How many requests for its path had come, with this one.
    pub nth: usize,
}

impl Received {
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    /// The values of a field, joined as RFC 9110 §5.2 allows; `None` if it is not there.
    pub fn header(&self, name: &str) -> Option<String> {
        let of_name = |(n, v): &(String, String)| n.eq_ignore_ascii_case(name).then(|| v.clone());
        let values: Vec<String> = self.headers.iter().filter_map(of_name).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }
}

pub type Handler = Arc<dyn Fn(Wire) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;
type Function = Arc<dyn Fn(&Received) -> Answer + Send + Sync>;

#[derive(Clone)]
pub enum Scripted {
    Answer(Function),
    TakeOver(Handler),
}

/// An [`Answer`], or a function from a request to one.
pub trait Script {
    fn scripted(self) -> Scripted;
}

impl Script for Answer {
    fn scripted(self) -> Scripted {
        Scripted::Answer(Arc::new(move |_| self.clone()))
    }
}

impl<F: Fn(&Received) -> Answer + Send + Sync + 'static> Script for F {
    fn scripted(self) -> Scripted {
        Scripted::Answer(Arc::new(self))
    }
}

/// Requests that wait for their answer. They are let go when this is dropped.
pub struct Held {
    path: String,
    before: usize,
    gate: Arc<watch::Sender<bool>>,
    book: Arc<Book>,
}

impl Held {
    /// Waits until a request is held.
    pub async fn arrived(&self) {
        self.arrived_times(1).await;
    }

    pub async fn arrived_times(&self, n: usize) {
        let what = format!("{n} held requests for {}", self.path);
        let came = || self.book.received(&self.path).len() >= self.before + n;
        super::super::with_deadline(&what, self.book.wait_until(came)).await;
    }

    /// Lets the answer go.
    pub fn release(self) {}
}

impl Drop for Held {
    fn drop(&mut self) {
        self.book.state().holds.retain(|hold| !Arc::ptr_eq(&hold.gate, &self.gate));
        self.gate.send_replace(true);
    }
}

struct Hold {
    path: String,
    remaining: usize,
    gate: Arc<watch::Sender<bool>>,
}

#[derive(Default)]
struct State {
    standing: HashMap<String, Scripted>,
    once: HashMap<String, VecDeque<Answer>>,
    holds: Vec<Hold>,
    received: Vec<Arc<Received>>,
    /// How many requests came for each path.
    counts: HashMap<String, usize>,
    connections: usize,
}

pub struct Book {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    idle_closes: watch::Sender<()>,
}

impl Default for Book {
    fn default() -> Self {
        Self { state: Mutex::default(), changed: watch::Sender::new(()), idle_closes: watch::Sender::new(()) }
    }
}

impl Book {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds this")
    }

    pub fn script(&self, path: &str, scripted: Scripted) {
        self.state().standing.insert(path.to_owned(), scripted);
    }

    pub fn script_once(&self, path: &str, answer: Answer) {
        self.state().once.entry(path.to_owned()).or_default().push_back(answer);
    }

    pub fn hold(self: &Arc<Self>, path: &str, requests: usize) -> Held {
        let before = self.received(path).len();
        let gate = Arc::new(watch::Sender::new(false));
        let hold = Hold { path: path.to_owned(), remaining: requests, gate: Arc::clone(&gate) };
        self.state().holds.push(hold);
        Held { path: path.to_owned(), before, gate, book: Arc::clone(self) }
    }

    pub fn all(&self) -> Vec<Arc<Received>> {
        self.state().received.clone()
    }

    pub fn received(&self, path: &str) -> Vec<Arc<Received>> {
        self.state().received.iter().filter(|request| request.path() == path).cloned().collect()
    }

    /// Forgets the requests so far; the numbers of later ones (`nth`) go on.
    pub fn forget(&self) {
        self.state().received.clear();
    }

    /// Waits until `holds` holds, and looks again with every change.
    pub async fn wait_until(&self, holds: impl Fn() -> bool) {
        let mut changes = self.changed.subscribe();
        while !holds() {
            let _ = changes.changed().await;
        }
    }

    pub fn handler(&self, path: &str) -> Option<Handler> {
        match self.state().standing.get(path) {
            Some(Scripted::TakeOver(handler)) => Some(Arc::clone(handler)),
            _ => None,
        }
    }

    pub fn record(&self, mut request: Received) -> Arc<Received> {
        let mut state = self.state();
        let count = state.counts.entry(request.path().to_owned()).or_default();
        *count += 1;
        request.nth = *count;
        let request = Arc::new(request);
        state.received.push(Arc::clone(&request));
        drop(state);
        self.changed.send_replace(());
        request
    }

    /// Settles the answer to a request, and the gate that it has to wait at.
    pub fn answer_to(&self, request: Received) -> (Answer, Option<watch::Receiver<bool>>) {
        let gate = self.gate_for(request.path());
        let once = self.state().once.get_mut(request.path()).and_then(VecDeque::pop_front);
        let standing = self.state().standing.get(request.path()).cloned();
        let request = self.record(request);
        let answer = match (once, standing) {
            (Some(answer), _) => answer,
            (None, Some(Scripted::Answer(function))) => function(&request),
            _ => Answer::numbered(&request),
        };
        (answer.to(&request), gate)
    }

    fn gate_for(&self, path: &str) -> Option<watch::Receiver<bool>> {
        let mut state = self.state();
        let hold = state.holds.iter_mut().find(|hold| hold.path == path && hold.remaining > 0)?;
        hold.remaining -= 1;
        Some(hold.gate.subscribe())
    }

    pub fn open_connections(&self) -> usize {
        self.state().connections
    }

    /// Counts a connection for as long as the returned value lives.
    pub fn opened(self: &Arc<Self>) -> Open {
        self.state().connections += 1;
        Open(Arc::clone(self))
    }

    pub fn close_idle(&self) {
        self.idle_closes.send_replace(());
    }

    pub async fn idle_closed(&self) {
        let _ = self.idle_closes.subscribe().changed().await;
    }
}

pub struct Open(Arc<Book>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.state().connections -= 1;
        self.0.changed.send_replace(());
    }
}
