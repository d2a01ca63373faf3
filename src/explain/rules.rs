//! Whether the expectations of a file of rules hold, as the configuration stands.

use super::{Explainer, Explanation, Question, Reading, Reply, Verdict};
use crate::config::rules::{Decision, Rules, Test};
use crate::config::{Place, show_duration};
use crate::policy::lifetime::Lifetime;
use crate::policy::miss::OnMiss;
use crate::policy::tags::LISTED;
use crate::purge::Target;

/// What came of one test.
pub struct Outcome<'r> {
    pub test: &'r Test,
    /// Each expectation that does not hold, ready to be shown.
    pub failures: Vec<String>,
}

impl Explainer<'_> {
    /// In the order of the file.
    pub fn test<'r>(&self, rules: &'r Rules) -> Vec<Outcome<'r>> {
        let explained: Vec<Explanation> = rules.tests.iter().map(|test| self.of_test(test)).collect();
        let outcome = |(at, test)| {
            let mut judge = Judge { rules, all: &explained, own: &explained[at], failures: Vec::new() };
            judge.weigh(test);
            Outcome { test, failures: judge.failures }
        };
        rules.tests.iter().enumerate().map(outcome).collect()
    }

    fn of_test(&self, test: &Test) -> Explanation {
        let question = Question::new(&test.method, &test.target, test.headers.clone(), test.data.clone());
        let reply =
            Reply { status: test.status, headers: test.response_headers.clone(), body: test.body.clone() };
        match question {
            Ok(question) => self.explain(&question, &reply.with_type()),
            Err(refused) => Explanation {
                method: http::Method::GET,
                target: test.target.clone(),
                route: None,
                verdict: Verdict::Refused(refused),
            },
        }
    }
}

struct Judge<'r> {
    rules: &'r Rules,
    all: &'r [Explanation],
    own: &'r Explanation,
    failures: Vec<String>,
}

impl Judge<'_> {
    fn weigh(&mut self, test: &Test) {
        let expect = &test.expect;
        if let Some(decision) = &expect.decision {
            let actual = decision_of(self.own);
            self.compare(decision.place, "decision", decision.value.as_str(), actual.as_str());
        }
        if let Some(route) = &expect.route {
            let actual = self.own.route.as_ref().map_or("none", |route| route.path.as_str());
            self.compare(route.place, "route", &route.value, actual);
        }
        if let Some(stored) = &expect.stored {
            let actual = self.own.stored().is_some();
            self.compare(stored.place, "stored", &stored.value.to_string(), &actual.to_string());
        }
        if let Some(reason) = &expect.reason {
            self.compare(reason.place, "reason", &reason.value, reason_of(self.own).unwrap_or("none"));
        }
        if let Some(ttl) = &expect.ttl {
            let expected = ttl.value.map_or("none".to_owned(), show_duration);
            self.compare(ttl.place, "ttl", &expected, &ttl_of(self.own));
        }
        if let Some(tags) = &expect.tags {
            let actual = self.own.stored().map_or_else(Vec::new, |storing| storing.tags.clone());
            let actual: Vec<String> = actual.into_iter().filter(|tag| tag != LISTED).collect();
            self.compare(tags.place, "tags", &in_order(&tags.value), &in_order(&actual));
        }
        if let Some(purges) = &expect.purges {
            let tag = |target: &Target| match target {
                Target::Tag(tag) if tag != LISTED => Some(tag.clone()),
                _ => None,
            };
            let actual: Vec<String> = self.own.purged().iter().filter_map(tag).collect();
            self.compare(purges.place, "purges", &in_order(&purges.value), &in_order(&actual));
        }
        let relations = [
            (&expect.purged_by, Relation::Purged(true)),
            (&expect.survives, Relation::Purged(false)),
            (&expect.same_as, Relation::Same(true)),
            (&expect.differs_from, Relation::Same(false)),
        ];
        for (others, relation) in relations {
            for other in others {
                self.relate(other.place, other.value, relation);
            }
        }
    }

    fn compare(&mut self, place: Place, what: &str, expected: &str, actual: &str) {
        if expected != actual {
            let message = format!("{what}: expected {expected}, and it is {actual}");
            self.failures.push(self.rules.show(place, message, self.advice()));
        }
    }

    fn relate(&mut self, place: Place, other: usize, relation: Relation) {
        let (Some(other), Some(test)) = (self.all.get(other), self.rules.tests.get(other)) else { return };
        let name = &test.name;
        let message = match relation {
            Relation::Purged(expected) => match (self.own.stored(), other.purges(self.own)) {
                (None, _) => Some("nothing is stored here that could be purged".to_owned()),
                (Some(_), true) if !expected => Some(format!("`{name}` purges it")),
                (Some(_), false) if expected => {
                    Some(format!("`{name}` does not purge it: {}", purged_by(other)))
                }
                _ => None,
            },
            Relation::Same(expected) => match (self.own.reading(), other.reading()) {
                (Some(own), Some(other)) if (own.key == other.key) == expected => None,
                (Some(own), Some(other)) if expected => {
                    Some(format!("it is not answered by the same as `{name}`: {}", difference(own, other)))
                }
                (Some(_), Some(_)) => Some(format!("it is answered by the same as `{name}`")),
                (None, _) => Some("it is not looked up".to_owned()),
                (_, None) => Some(format!("`{name}` is not looked up")),
            },
        };
        if let Some(message) = message {
            self.failures.push(self.rules.show(place, message, self.advice()));
        }
    }

    fn advice(&self) -> String {
        format!("`larder explain {} '{}'` says more", self.own.method, self.own.target)
    }
}

#[derive(Clone, Copy)]
enum Relation {
    Purged(bool),
    Same(bool),
}

fn decision_of(explanation: &Explanation) -> Decision {
    match &explanation.verdict {
        Verdict::Refused(_) => Decision::Refused,
        Verdict::Pass(_) => Decision::Pass,
        Verdict::Lookup(_) => Decision::Lookup,
        Verdict::Write(_) | Verdict::Purge(_) => Decision::Write,
    }
}

fn reason_of(explanation: &Explanation) -> Option<&'static str> {
    match &explanation.verdict {
        Verdict::Pass(reason) => Some(reason.as_str()),
        Verdict::Lookup(reading) => match (reading.on_miss, &reading.fetched) {
            (OnMiss::Pass(reason), _) => Some(reason.as_str()),
            (_, Err(why)) => Some(why.as_str()),
            (_, Ok(_)) => None,
        },
        Verdict::Refused(_) | Verdict::Write(_) | Verdict::Purge(_) => None,
    }
}

fn ttl_of(explanation: &Explanation) -> String {
    match explanation.stored() {
        None => "not stored".to_owned(),
        Some(storing) if storing.lifetime == Lifetime::UntilPurged => "none".to_owned(),
        Some(storing) => {
            show_duration(storing.terms.freshness_lifetime.saturating_sub(storing.terms.initial_age))
        }
    }
}

fn in_order(tags: &[String]) -> String {
    let mut tags = tags.to_vec();
    tags.sort_unstable();
    tags.dedup();
    format!("[{}]", tags.join(", "))
}

fn purged_by(write: &Explanation) -> String {
    let targets: Vec<String> = write.purged().iter().map(Target::to_string).collect();
    if targets.is_empty() {
        "it purges nothing".to_owned()
    } else {
        format!("it purges {}", targets.join(", "))
    }
}

/// The parts that their keys differ in.
fn difference(one: &Reading, other: &Reading) -> String {
    let value = |values: &[String]| if values.is_empty() { "none".to_owned() } else { values.join(" | ") };
    let differing = one.parts.iter().zip(&other.parts).filter(|(one, other)| one != other);
    let told: Vec<String> = differing
        .map(|(one, other)| format!("{} {} and {}", one.name, value(&one.values), value(&other.values)))
        .collect();
    if told.is_empty() { "they are of different routes".to_owned() } else { told.join("; ") }
}
