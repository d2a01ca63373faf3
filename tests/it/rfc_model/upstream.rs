//! The random answers of an upstream.

use super::LANGUAGES;
use super::world::{Directives, Event, Given, Outcome, Subject, World};
use crate::history::dice::Dice;
use crate::support::{Answer, Received};

impl Directives {
    fn draw(dice: &mut Dice) -> Self {
        let mut seconds = |often: usize, most: usize| dice.one_in(often).then(|| dice.below(most) as u64);
        let mut directives = Self {
            max_age: seconds(1, 12),
            s_maxage: seconds(6, 12),
            stale_while_revalidate: seconds(2, 15).unwrap_or(0),
            stale_if_error: seconds(2, 25).unwrap_or(0),
            ..Self::default()
        };
        directives.public = dice.one_in(3);
        match dice.below(16) {
            0 => directives.no_store = true,
            1 => directives.private = true,
            2 => directives.no_cache = true,
            3 => directives.must_revalidate = true,
            4 => directives.max_age = None,
            _ => {}
        }
        directives
    }

    fn field(&self) -> String {
        let seconds = |name: &str, value: Option<u64>| value.map(|value| format!("{name}={value}"));
        let flag = |name: &str, is_set: bool| is_set.then(|| name.to_owned());
        let window = |name: &str, value: u64| seconds(name, Some(value).filter(|value| *value > 0));
        let all = [
            seconds("max-age", self.max_age),
            seconds("s-maxage", self.s_maxage),
            window("stale-while-revalidate", self.stale_while_revalidate),
            window("stale-if-error", self.stale_if_error),
            flag("no-store", self.no_store),
            flag("public", self.public),
            flag("private", self.private),
            flag("no-cache", self.no_cache),
            flag("must-revalidate", self.must_revalidate),
        ];
        all.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

impl World {
    /// Answers a request at the upstream.
    pub(super) fn answer(&mut self, path: usize, request: &Received) -> Answer {
        let language = request.header("accept-language");
        let language =
            LANGUAGES.iter().position(|known| Some(*known) == language.as_deref()).expect("a language");
        let caller = request.header("authorization").map(|field| {
            field.strip_prefix("Bearer ").and_then(|number| number.parse().ok()).expect("a number")
        });
        let to = Subject { path, language, caller };
        let at = self.now();
        if !self.brings_nothing && self.dice.one_in(8) {
            self.events.push(Event { of: to, at, outcome: Outcome::Failed });
            return match self.dice.one_in(2) {
                true => Answer::hang_up(),
                false => Answer::status(503),
            };
        }
        let mut directives = Directives::draw(&mut self.dice);
        let confirmed =
            request.header("if-none-match").and_then(|tag| tag.trim_matches('"').parse::<usize>().ok());
        // A 304 to one caller would confirm nothing for others.
        let confirmed = confirmed.filter(|_| caller.is_none() && !self.brings_nothing && self.dice.one_in(2));
        if let Some(number) = confirmed {
            return self.confirm(number, to, directives);
        }
        directives.no_store |= self.brings_nothing;
        directives.private |= caller.is_some() && (self.brings_nothing || self.dice.one_in(2));
        let status = match self.dice.below(24) {
            _ if self.brings_nothing => {
                if caller.is_some() {
                    200
                } else {
                    429
                }
            }
            0 | 1 => 404,
            2 => 400,
            3 => 429,
            _ => 200,
        };
        let varies = self.dice.one_in(2);
        let (number, event) = (self.given.len(), self.events.len());
        let given = Given { to, status, directives, varies, at, event, former: Vec::new(), is_told: false };
        // An error about the request may be stored, and need not; nor need a response to a caller that allows little.
        let is_stored = given.may_be_stored()
            && matches!(status, 200 | 404)
            && (caller.is_none() || !directives.no_cache);
        let outcome = if is_stored { Outcome::Storable } else { Outcome::Unstorable };
        self.events.push(Event { of: to, at, outcome });
        self.given.push(given);
        let mut answer = Answer::status(status).body(number.to_string());
        answer = answer.header("cache-control", &directives.field());
        if self.dice.one_in(2) {
            answer = answer.header("etag", &format!("\"{number}\""));
        }
        if varies { answer.header("vary", "Accept-Language") } else { answer }
    }

    /// Answers 304.
    fn confirm(&mut self, number: usize, to: Subject, directives: Directives) -> Answer {
        let (at, event) = (self.now(), self.events.len());
        let given = &mut self.given[number];
        given.former.push((given.directives, given.at));
        (given.directives, given.at, given.event) = (directives, at, event);
        given.is_told = false;
        given.to.caller = None;
        // Without Vary, it is larder's for requests like the last one (§4.1).
        if !given.varies {
            given.to.language = to.language;
        }
        let outcome = if given.may_be_stored() { Outcome::Storable } else { Outcome::Unstorable };
        self.events.push(Event { of: to, at, outcome });
        Answer::status(304)
            .header("etag", &format!("\"{number}\""))
            .header("cache-control", &directives.field())
    }
}
