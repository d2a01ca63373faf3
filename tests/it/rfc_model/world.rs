//! The history of an upstream, and what the RFCs allow a shared cache to make of it.

use larder::clock::Clock;

use super::MAX_STEP;
use crate::history::dice::Dice;
use crate::support::Reply;

/// Failed refreshes may be held back for 1 s, twice as long after each further hold, and no longer than this.
const MAX_BACKOFF: u64 = 30;

/// The cache directives of a response, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Directives {
    pub max_age: Option<u64>,
    pub s_maxage: Option<u64>,
    pub stale_while_revalidate: u64,
    pub stale_if_error: u64,
    pub no_store: bool,
    pub public: bool,
    pub private: bool,
    pub no_cache: bool,
    pub must_revalidate: bool,
}

/// The path that a request is for, and its fields that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub path: usize,
    pub language: usize,
    /// The client that sends `Authorization`.
    pub caller: Option<usize>,
}

/// A response that the upstream has given; its content is its number.
#[derive(Clone, Debug)]
pub(super) struct Given {
    /// The last request's to which it was given, or confirmed.
    pub to: Subject,
    pub status: u16,
    pub directives: Directives,
    pub varies: bool,
    /// When it was generated, or last confirmed by a 304.
    pub at: u64,
    /// The number of the event that generated or confirmed it.
    pub event: usize,
    /// Before each 304. The fetch of the last one may still be under way behind a client's back, and those of one second may
    /// have arrived in any order.
    pub former: Vec<(Directives, u64)>,
    /// A client has had it as it was generated or last confirmed: that fetch has ended.
    pub is_told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A response that may be stored, or a 304.
    Storable,
    /// A response that may not be stored.
    Unstorable,
    Failed,
}

/// A request that the upstream has had.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub of: Subject,
    pub at: u64,
    pub outcome: Outcome,
}

/// The history of the upstream.
pub(super) struct World {
    pub dice: Dice,
    pub clock: Clock,
    pub given: Vec<Given>,
    pub events: Vec<Event>,
    /// No response may be stored: to a caller it is private, to others it is an error about the request.
    pub brings_nothing: bool,
}

impl Directives {
    /// RFC 9111 §4.2.1.
    fn lifetime(&self) -> Option<u64> {
        self.s_maxage.or(self.max_age)
    }
}

impl Given {
    /// RFC 9111 §3, for a shared cache; the statuses here are all final and understood.
    pub(super) fn may_be_stored(&self) -> bool {
        !self.directives.no_store
            && !self.directives.private
            // §3.5.
            && (self.to.caller.is_none() || self.directives.public || self.directives.s_maxage.is_some())
            && (self.directives.lifetime().is_some() || self.directives.no_cache)
    }

    /// RFC 9111 §4.1.
    fn is_selected_by(&self, of: Subject) -> bool {
        self.to.path == of.path && (!self.varies || self.to.language == of.language)
    }

    /// RFC 9111 §4.2, and RFC 5861: whether it may be used at `now` without asking. `has_failed`: asking failed.
    fn use_at(&self, now: u64, has_failed: bool) -> Use {
        let directives = &self.directives;
        // §5.2.2.4.
        let (Some(lifetime), false) = (directives.lifetime(), directives.no_cache) else {
            return Use::Forbidden;
        };
        let age = now.saturating_sub(self.at);
        if age < lifetime {
            return Use::Fresh;
        }
        // §4.2.4, §5.2.2.2, §5.2.2.10.
        if directives.must_revalidate || directives.s_maxage.is_some() {
            return Use::Forbidden;
        }
        let stale_for = age - lifetime;
        if stale_for <= directives.stale_while_revalidate && directives.stale_while_revalidate > 0 {
            Use::WhileRevalidate
        } else if has_failed && stale_for <= directives.stale_if_error {
            Use::IfError
        } else {
            Use::Forbidden
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Fresh,
    WhileRevalidate,
    IfError,
    Forbidden,
}

impl World {
    pub(super) fn now(&self) -> u64 {
        self.clock.now().as_secs()
    }

    /// Why a shared cache may not give this answer to a request.
    pub(super) fn find_fault(
        &self,
        reply: &Reply,
        of: Subject,
        Asked { since, background, horizon, at }: Asked,
    ) -> Result<Use, String> {
        let failed = |from: usize| {
            let mut mine = self.events[from..].iter().filter(|event| event.of.path == of.path);
            mine.any(|event| event.outcome == Outcome::Failed)
        };
        // The request may have joined a fetch in the background (RFC 9111 §4).
        let has_failed = failed(background);
        // It need not ask again as long as that may be held back.
        let may_fail =
            has_failed || self.is_held_back(of, None, at) || self.is_held_back(of, Some(of.language), at);
        if matches!(reply.status, 502 | 503) {
            // An error of larder's own does not say whose fetch it was.
            let is_joined = reply.status == 502 || reply.cache_status("collapsed").is_some();
            let is_told = failed(since) || (is_joined && has_failed);
            return if is_told { Ok(Use::Fresh) } else { Err("an error out of nothing".into()) };
        }
        let number: usize =
            reply.text().parse().map_err(|_| format!("not an answer of the upstream: {reply}"))?;
        let given = self.given.get(number).ok_or("a number that was never given")?;
        if reply.status != given.status {
            return Err(format!("status {} of a {}", reply.status, given.status));
        }
        let is_new = given.event >= since && given.to.path == of.path;
        if is_new
            && (given.to == of
                || given.is_selected_by(of) && (given.may_be_stored() || !given.former.is_empty()))
        {
            return Ok(Use::Fresh);
        }
        let is_joined = given.event >= background && reply.cache_status("collapsed").is_some();
        // An error answers those who waited for it.
        if is_joined && given.status >= 400 && given.to == of {
            return Ok(Use::Fresh);
        }
        let judge = |given: &Given| self.judge_reuse(reply, given, of, (may_fail, is_joined, at));
        let last = given.former.last().filter(|_| given.at >= horizon);
        let former = given.former.iter().filter(|(_, at)| *at == given.at).chain(last);
        let former =
            former.map(|(directives, at)| Given { directives: *directives, at: *at, ..given.clone() });
        former.map(|former| judge(&former)).fold(judge(given), |one, other| match (&one, &other) {
            (Ok(Use::Fresh), _) | (_, Err(_)) => one,
            _ => other,
        })
    }

    /// Whether a stored response, or one that a fetch in the background brings, may be used without asking the upstream.
    fn judge_reuse(
        &self,
        reply: &Reply,
        given: &Given,
        of: Subject,
        (has_failed, is_joined, now): (bool, bool, u64),
    ) -> Result<Use, String> {
        if !given.may_be_stored() {
            return Err("it may not be stored (§3)".into());
        }
        if !given.is_selected_by(of) {
            return Err("its fields are not this request's (§4.1)".into());
        }
        let used = given.use_at(now, has_failed);
        if used == Use::Forbidden {
            return Err("it is stale, and nothing allows that (§4.2.4)".into());
        }
        // §4.2.3: the time that the upstream took counts, and behind a client's back it may be two steps. One that is not
        // stored yet needs no Age.
        let (age, least) =
            (reply.header("age").and_then(|age| age.parse().ok()), now.saturating_sub(given.at));
        if !age.map_or(is_joined, |age: u64| (least..=least + 2 * MAX_STEP).contains(&age)) {
            return Err(format!("Age is {age:?} (§5.1)"));
        }
        let is_later = |other: &&Given| {
            other.is_told
                && other.at > given.at
                && other.event != given.event
                && other.to.caller.is_none()
                && (other.to.path, other.to.language) == (of.path, of.language)
        };
        for other in self.given.iter().filter(is_later) {
            // §4: "a cache MUST use the most recent one".
            let is_stored = other.may_be_stored() && matches!(other.status, 200 | 404);
            if is_stored && other.varies == given.varies {
                return Err(format!("there is a later one: {other:?} (§4)"));
            }
            if other.status == 404 && used != Use::Fresh {
                return Err(format!("it was withdrawn: {other:?}"));
            }
        }
        Ok(used)
    }

    /// Takes a reply to a request of `asked_at`. One that is older than the last confirmation does not tell of it.
    pub(super) fn mark_told(&mut self, reply: &Reply, asked_at: u64) {
        let age = reply.header("age").and_then(|age| age.parse::<u64>().ok()).unwrap_or(0);
        let given = reply.text().parse().ok().and_then(|number: usize| self.given.get_mut(number));
        let confirmed = given.filter(|given| given.at + age <= asked_at);
        confirmed.into_iter().for_each(|given| given.is_told = true);
    }

    /// Whether a fetch for requests like this one has begun since so many events had happened, or may be held back.
    pub(super) fn is_refreshing(&self, of: Subject, since: usize) -> bool {
        self.events[since..].iter().any(|event| event.of.path == of.path)
            || self.is_held_back(of, None, self.now())
            || self.is_held_back(of, Some(of.language), self.now())
    }

    /// Whether refreshes by callers of this kind may be held back, because so many in a row failed or brought nothing.
    fn is_held_back(&self, of: Subject, language: Option<usize>, now: u64) -> bool {
        let is_of_kind = |event: &&Event| {
            event.of.path == of.path
                && event.of.caller.is_some() == of.caller.is_some()
                && language.is_none_or(|language| event.of.language == language)
        };
        // Larder may hear of a failure two steps later.
        let slack = 2 * MAX_STEP;
        let (mut until, mut lasts) = (0, 0);
        for event in self.events.iter().filter(is_of_kind) {
            (until, lasts) = match event.outcome {
                Outcome::Storable => (0, 0),
                // All failures in one hold count once.
                _ if event.at < until => (until, lasts),
                _ => {
                    let is_in_row = event.at < until + lasts + slack;
                    let lasts = if is_in_row { (2 * lasts).clamp(1, MAX_BACKOFF) } else { 1 };
                    (event.at + lasts, lasts)
                }
            };
        }
        until > 0 && now < until + slack
    }

    /// How many of the last fetches for requests like this one failed or brought nothing.
    pub(super) fn count_failures(&self, of: Subject, since: usize) -> usize {
        let mine = self.events[since..].iter().rev().filter(|event| event.of == of);
        mine.take_while(|event| event.outcome != Outcome::Storable).count()
    }
}

/// When a request was made.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    /// The number of events that had happened.
    pub since: usize,
    /// A fetch in the background whose event is a later one than this may not have ended.
    pub background: usize,
    /// The same as a time.
    pub horizon: u64,
    /// When the answer was given.
    pub at: u64,
}
