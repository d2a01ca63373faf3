//! Runs the tests of a test file against a configuration.

use super::{ExplainRequest, ExplainResponse, Explainer, Explanation, LookupExplanation, Verdict};
use crate::config::rules::{Decision, Rules, Test};
use crate::config::{Diagnostic, Location, show_duration};
use crate::policy::lifetime::Lifetime;
use crate::policy::tags::LISTED_TAG;
use crate::purge::Target;

/// The result of one test.
pub(crate) struct TestOutcome<'r> {
    pub test: &'r Test,
    /// The failed expectations.
    pub failures: Vec<Diagnostic>,
}

impl Explainer<'_> {
    /// Runs all tests, in the order of the file.
    pub(crate) fn run_tests<'r>(&self, rules: &'r Rules) -> Vec<TestOutcome<'r>> {
        let explained: Vec<Explanation> = rules.tests.iter().map(|test| self.explain_test(test)).collect();
        let outcome = |(at, test)| {
            let mut checker =
                TestChecker { rules, all: &explained, own: &explained[at], failures: Vec::new() };
            checker.check(test);
            TestOutcome { test, failures: checker.failures }
        };
        rules.tests.iter().enumerate().map(outcome).collect()
    }

    fn explain_test(&self, test: &Test) -> Explanation {
        let request =
            ExplainRequest::new(&test.method, &test.target, test.headers.clone(), test.data.clone());
        let response = ExplainResponse {
            status: test.status,
            headers: test.response_headers.clone(),
            body: test.body.clone(),
        };
        match request {
            Ok(request) => self.explain(&request, &response.with_default_type()),
            Err(refused) => Explanation {
                method: http::Method::GET,
                target: test.target.clone(),
                route: None,
                caller: None,
                verdict: Verdict::Refused(refused),
            },
        }
    }
}

struct TestChecker<'r> {
    rules: &'r Rules,
    all: &'r [Explanation],
    own: &'r Explanation,
    failures: Vec<Diagnostic>,
}

impl TestChecker<'_> {
    fn check(&mut self, test: &Test) {
        let expect = &test.expect;
        if let Some(decision) = &expect.decision {
            let actual = actual_decision(self.own);
            self.compare(decision.location, "decision", decision.value.as_str(), actual.as_str());
        }
        if let Some(route) = &expect.route {
            let actual = self.own.route.as_ref().map_or("none", |route| route.path.as_str());
            self.compare(route.location, "route", &route.value, actual);
        }
        if let Some(stored) = &expect.stored {
            let actual = self.own.stored().is_some();
            self.compare(stored.location, "stored", &stored.value.to_string(), &actual.to_string());
        }
        if let Some(reason) = &expect.reason {
            self.compare(reason.location, "reason", &reason.value, actual_reason(self.own).unwrap_or("none"));
        }
        if let Some(ttl) = &expect.ttl {
            let expected = ttl.value.map_or("none".to_owned(), show_duration);
            self.compare(ttl.location, "ttl", &expected, &format_ttl(self.own));
        }
        if let Some(tags) = &expect.tags {
            let actual = self.own.stored().map_or_else(Vec::new, |storing| storing.tags.clone());
            let actual: Vec<String> = actual.into_iter().filter(|tag| tag != LISTED_TAG).collect();
            self.compare(tags.location, "tags", &format_sorted(&tags.value), &format_sorted(&actual));
        }
        if let Some(purges) = &expect.purges {
            let tag = |target: &Target| match target {
                // larder's own have a space, such as that of the write's own URL for its caller.
                Target::Tag(tag) if tag != LISTED_TAG && !tag.contains(' ') => Some(tag.clone()),
                _ => None,
            };
            let actual: Vec<String> = self.own.purge_targets().iter().filter_map(tag).collect();
            self.compare(purges.location, "purges", &format_sorted(&purges.value), &format_sorted(&actual));
        }
        let relations = [
            (&expect.purged_by, Relation::Purged(true)),
            (&expect.survives, Relation::Purged(false)),
            (&expect.same_as, Relation::Same(true)),
            (&expect.differs_from, Relation::Same(false)),
        ];
        for (others, relation) in relations {
            for other in others {
                self.check_relation(other.location, other.value, relation);
            }
        }
    }

    fn compare(&mut self, location: Location, what: &str, expected: &str, actual: &str) {
        if expected != actual {
            let message = format!("{what}: expected {expected}, found {actual}");
            self.add_failure(location, message);
        }
    }

    fn check_relation(&mut self, location: Location, other: usize, relation: Relation) {
        let (Some(other), Some(test)) = (self.all.get(other), self.rules.tests.get(other)) else { return };
        let name = &test.name;
        let message = match relation {
            Relation::Same(true) if std::ptr::eq(other, self.own) => {
                Some("it is compared with itself; name another test".to_owned())
            }
            Relation::Purged(_) if !matches!(other.verdict, Verdict::Write(_) | Verdict::Purge(_)) => {
                Some(format!("`{name}` is no write; write its `method`"))
            }
            Relation::Purged(expected) => match (self.own.stored(), other.can_purge(self.own)) {
                (None, _) => Some("no response is stored that could be purged".to_owned()),
                (Some(_), true) if !expected => Some(format!("`{name}` purges it")),
                (Some(_), false) if expected => {
                    Some(format!("`{name}` does not purge it: {}", describe_purges(other)))
                }
                _ => None,
            },
            Relation::Same(expected) => match (self.own.lookup(), other.lookup()) {
                (Some(own), Some(other)) if (own.key == other.key) == expected => None,
                (Some(own), Some(other)) if expected => Some(format!(
                    "it does not share a stored response with `{name}`: {}",
                    describe_key_difference(own, other)
                )),
                (Some(_), Some(_)) => Some(format!("it shares a stored response with `{name}`")),
                (None, _) => Some("it is not looked up".to_owned()),
                (_, None) => Some(format!("`{name}` is not looked up")),
            },
        };
        if let Some(message) = message {
            self.add_failure(location, message);
        }
    }

    fn add_failure(&mut self, location: Location, message: String) {
        let help = format!("run `larder explain {} '{}'` for details", self.own.method, self.own.target);
        self.failures.push(Diagnostic::error(location, message, help));
    }
}

#[derive(Clone, Copy)]
enum Relation {
    Purged(bool),
    Same(bool),
}

fn actual_decision(explanation: &Explanation) -> Decision {
    match &explanation.verdict {
        Verdict::Refused(_) => Decision::Refused,
        Verdict::Pass(_) | Verdict::Identify | Verdict::Operation(_) => Decision::Pass,
        Verdict::Lookup(_) => Decision::Lookup,
        Verdict::Write(_) | Verdict::Purge(_) => Decision::Write,
    }
}

fn actual_reason(explanation: &Explanation) -> Option<&'static str> {
    match &explanation.verdict {
        Verdict::Pass(reason) => Some(reason.as_str()),
        Verdict::Lookup(reading) => reading.fetched.as_ref().err().map(|why| why.as_str()),
        Verdict::Refused(_)
        | Verdict::Write(_)
        | Verdict::Purge(_)
        | Verdict::Operation(_)
        | Verdict::Identify => None,
    }
}

fn format_ttl(explanation: &Explanation) -> String {
    match explanation.stored() {
        None => "not stored".to_owned(),
        Some(storing) if storing.lifetime == Lifetime::UntilPurged => "none".to_owned(),
        Some(storing) => {
            show_duration(storing.terms.freshness_lifetime.saturating_sub(storing.terms.initial_age))
        }
    }
}

fn format_sorted(tags: &[String]) -> String {
    let mut tags = tags.to_vec();
    tags.sort_unstable();
    tags.dedup();
    format!("[{}]", tags.join(", "))
}

fn describe_purges(write: &Explanation) -> String {
    let targets: Vec<String> = write.purge_targets().iter().map(Target::to_string).collect();
    if targets.is_empty() {
        "it purges nothing".to_owned()
    } else {
        format!("it purges {}", targets.join(", "))
    }
}

/// Names the parts in which the keys differ.
fn describe_key_difference(one: &LookupExplanation, other: &LookupExplanation) -> String {
    let value = |values: &[String]| if values.is_empty() { "none".to_owned() } else { values.join(" | ") };
    let differing = one.parts.iter().zip(&other.parts).filter(|(one, other)| one != other);
    let told: Vec<String> = differing
        .map(|(one, other)| format!("{} {} and {}", one.name, value(&one.values), value(&other.values)))
        .collect();
    if told.is_empty() { "they match different routes".to_owned() } else { told.join("; ") }
}
