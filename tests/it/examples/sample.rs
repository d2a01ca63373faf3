//! A sample API: what its answers are made of, and what its writes change. It knows nothing of larder.
//!
//! Its data are facts, each with a version that a write raises; an answer says the versions of the facts that it is made
//! of, and which query it was. So a test sees both: whether the API was asked, and whether what a client got is true.
//! `{user}` in a fact is the caller, any other name in braces a parameter of the query.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

use serde_json::{Value, json};

use crate::support::{Answer, Issuer, Received, Scratch, Upstream, decode_base64url};

/// Known users; anybody else is anonymous.
pub const USERS: [&str; 3] = ["ann", "ben", "cleo"];

type Facts = &'static [&'static str];

/// The facts that a write changes, by its content.
type Told = fn(&Value) -> Vec<String>;

/// Members of an answer to a client.
type Members = fn(Option<&str>) -> Value;

/// A list in an answer: its name, and what it has by id, each with the fact that it shows.
type List = (&'static str, &'static [(&'static str, &'static str)]);

pub struct SampleApi {
    pub upstream: Upstream,
    scratch: Scratch,
    data: Arc<Mutex<Data>>,
}

#[derive(Default)]
struct Data {
    /// By path.
    answers: HashMap<&'static str, Facts>,
    /// The start of paths that only known users may read.
    members_only: Option<&'static str>,
    /// By caller, path and parameters, as far as they matter: `ann /api/search?q=bread`, `/api/products`.
    lists: Vec<(&'static str, List)>,
    /// By path.
    members: HashMap<&'static str, Members>,
    /// Paths.
    signed: Vec<&'static str>,
    /// By method and path.
    changes: HashMap<&'static str, Facts>,
    told: HashMap<&'static str, Told>,
    /// Answers do not say which request they are for.
    is_unmarked: bool,
    versions: BTreeMap<String, u64>,
}

impl SampleApi {
    pub fn start() -> Self {
        Self { upstream: Upstream::start(), scratch: Scratch::new(), data: Arc::default() }
    }

    /// A GET of this path is answered with these facts.
    pub fn answers(self, path: &'static str, facts: Facts) -> Self {
        self.data().answers.insert(path, facts);
        self.serves(path)
    }

    /// Paths that start so are for known users; anybody else is answered 401.
    pub fn members_only(self, prefix: &'static str) -> Self {
        self.data().members_only = Some(prefix);
        self
    }

    /// A file with the keys that verify the users' tokens.
    pub fn key_file(&self) -> String {
        self.scratch.file("jwks.json", &Issuer::key_set(&[&ISSUER])).to_str().expect("a path").to_owned()
    }

    /// A write, such as `POST /api/courses`, raises the versions of these facts.
    pub fn changes(self, write: &'static str, facts: Facts) -> Self {
        self.data().changes.insert(write, facts);
        let (_, path) = write.split_once(' ').expect("a method and a path");
        self.serves(path)
    }

    /// A write that [`SampleApi::changes`] something also changes what its content says.
    pub fn changes_as_told(self, write: &'static str, told: Told) -> Self {
        self.data().told.insert(write, told);
        self
    }

    /// From now on two answers are equal if their facts are.
    pub fn unmarked(self) -> Self {
        self.data().is_unmarked = true;
        self
    }

    /// Answers to reads like this one have a list of things in them besides.
    pub fn lists(self, read: &'static str, list: List) -> Self {
        self.data().lists.push((read, list));
        self
    }

    /// Answers at `path` have these members besides.
    pub fn has_members(self, path: &'static str, members: Members) -> Self {
        self.data().members.insert(path, members);
        self
    }

    /// Answers at `path` carry a signature that ends in the year 2100.
    pub fn signs(self, path: &'static str) -> Self {
        self.data().signed.push(path);
        self
    }

    fn serves(self, path: &'static str) -> Self {
        let data = Arc::clone(&self.data);
        self.upstream.on(path, move |request: &Received| data.lock().expect("no panic").answer(request));
        self
    }

    /// Something changes that larder does not see.
    pub fn changed_unseen(&self, fact: &str) {
        *self.data().versions.entry(fact.to_owned()).or_default() += 1;
    }

    /// The correct answer at this moment.
    pub fn truth(&self, user: Option<&str>, target: &str) -> Value {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let data = self.data();
        let facts = data.answers.get(path).unwrap_or_else(|| panic!("nothing is at {path}"));
        let facts = data.facts(facts, user, query).map(|facts| data.with_list(facts, user, target).0);
        facts.unwrap_or_else(|status| panic!("{target}: {status}"))
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().expect("no panic")
    }
}

impl Data {
    fn answer(&mut self, request: &Received) -> Answer {
        let user = request.header("authorization").and_then(|sent| parse_user(&sent));
        let (path, query) = (request.path(), request.query().unwrap_or_default());
        if user.is_none() && self.members_only.is_some_and(|prefix| path.starts_with(prefix)) {
            return Answer::status(401);
        }
        let write = format!("{} {path}", request.method);
        let facts = if request.method == "GET" {
            self.answers.get(path).map(|facts| self.facts(facts, user, query))
        } else {
            self.changes.get(write.as_str()).copied().map(|facts| {
                let now = self.facts(facts, user, query)?;
                let told = self.told.get(write.as_str()).and_then(|told| {
                    serde_json::from_slice(&request.body).ok().map(|content| told(&content))
                });
                let facts = now.as_object().into_iter().flat_map(|facts| facts.keys());
                for fact in facts.cloned().chain(told.into_iter().flatten()) {
                    *self.versions.entry(fact).or_default() += 1;
                }
                Ok(now)
            })
        };
        match facts {
            Some(Ok(facts)) => {
                let (facts, list) = match request.method.as_str() {
                    "GET" => self.with_list(facts, user, &request.target),
                    _ => (facts, None),
                };
                let mut body = json!({"facts": facts, "target": request.target, "query": request.nth});
                if self.is_unmarked {
                    body = json!({"facts": facts});
                }
                if self.signed.contains(&path) {
                    body["expires_at"] = json!("2100-01-01T00:00:00Z");
                }
                if let Some(Value::Object(members)) = self.members.get(path).map(|members| members(user)) {
                    body.as_object_mut().expect("an object").extend(members);
                }
                if let Some((name, things)) = list {
                    body[name] = things.iter().map(|(id, _)| json!({"id": id})).collect();
                }
                Answer::json(body.to_string())
            }
            Some(Err(status)) => Answer::status(status),
            None => Answer::status(404),
        }
    }

    /// With what the list in the answer shows, and the list.
    fn with_list(&self, mut facts: Value, user: Option<&str>, target: &str) -> (Value, Option<List>) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let is_meant = |read: &str| {
            let (who, target) =
                read.split_once(' ').map_or((None, read), |(who, target)| (Some(who), target));
            let (its_path, parameters) = target.split_once('?').unwrap_or((target, ""));
            let has = |pair: &str| pair.is_empty() || query.split('&').any(|given| given == pair);
            (who.is_none() || who == user) && its_path == path && parameters.split('&').all(has)
        };
        let list = self.lists.iter().find(|(read, _)| is_meant(read)).map(|(_, list)| *list);
        for (_, fact) in list.iter().flat_map(|(_, things)| things.iter()) {
            facts[fact] = self.versions.get(*fact).copied().unwrap_or_default().into();
        }
        (facts, list)
    }

    /// The versions of the facts, or the status for a request that does not say which are meant.
    fn facts(&self, facts: Facts, user: Option<&str>, query: &str) -> Result<Value, u16> {
        let mut versions = serde_json::Map::new();
        for fact in facts {
            let fact = match fact.split_once('{').map(|(before, rest)| (before, rest.trim_end_matches('}'))) {
                None => (*fact).to_owned(),
                Some((before, "user")) => format!("{before}{}", user.ok_or(401_u16)?),
                Some((before, name)) => format!("{before}{}", parameter(query, name).ok_or(400_u16)?),
            };
            let version = self.versions.get(&fact).copied().unwrap_or_default();
            versions.insert(fact, version.into());
        }
        Ok(versions.into())
    }
}

static ISSUER: LazyLock<Issuer> = LazyLock::new(|| Issuer::new("sample"));

static TOKENS: LazyLock<[String; 3]> = LazyLock::new(|| USERS.map(|user| issued(&json!({"sub": user}))));

/// The value of an `Authorization` field that `user` sends.
pub fn token(user: &str) -> String {
    let known = USERS.iter().position(|known| *known == user);
    TOKENS[known.unwrap_or_else(|| panic!("nobody is called {user}"))].clone()
}

/// The value of an `Authorization` field with a token that the API has issued.
pub fn issued(claims: &Value) -> String {
    format!("Bearer {}", ISSUER.token(claims))
}

fn parse_user(sent: &str) -> Option<&'static str> {
    let claims = sent.strip_prefix("Bearer ")?.split('.').nth(1)?;
    let claims: Value = serde_json::from_slice(&decode_base64url(claims)?).ok()?;
    USERS.into_iter().find(|user| claims["sub"] == *user)
}

fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(n, _)| *n == name).map(|(_, value)| value)
}
