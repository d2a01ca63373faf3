//! Whether a write happened, by the way its exchange ended.

use std::str::FromStr;

use http::StatusCode;

/// The effect of a write on stored responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The write happened, or may have, and is over: purge everything it names.
    Purge,
    /// Purge the URL of the write (RFC 9111 §4.4), and nothing else.
    PurgeUrl,
    /// The same where the upstream never had the whole content, and did not say that it acted: while the sender has a
    /// budget for such writes.
    PurgeUrlOfCut,
    /// The write may still happen: purge what it names in full, and keep nothing that is fetched meanwhile.
    PurgeInDoubt,
    /// The write did not happen.
    Nothing,
}

/// The end of the exchange with the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExchangeEnd {
    Answered(StatusCode),
    /// The upstream never saw the request.
    NotSent,
    /// The request was sent and no answer came.
    Unanswered,
}

/// How much of the request's content the upstream has got at the end of the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SentContent {
    Whole,
    /// The upload goes on.
    Running,
    /// The client broke it off, or the connection to the upstream ended: it never becomes whole.
    Cut,
}

/// Statuses of an answer: `2xx`, `303`, or `unassigned`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatusPattern {
    Class(u16),
    Code(u16),
    /// Interim responses, and statuses from 512 on: a gateway's own codes, such as 524, often mean a timeout.
    Unassigned,
}

/// One entry of a route's `unclear`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnclearEnd {
    Status(StatusPattern),
    /// No answer came.
    Cut,
    /// The upstream acts on a request whose content it never had whole.
    Partial,
}

/// A route's `purge_on` and `unclear`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutcomeRules {
    /// Statuses after which everything is purged at once.
    pub purge_on: Vec<StatusPattern>,
    /// Statuses after which the write may still happen.
    pub unclear: Vec<StatusPattern>,
    /// Whether a write without an answer may still happen.
    pub unanswered_is_unclear: bool,
    /// Whether the upstream acts on a request whose content it never had whole.
    pub partial_is_unclear: bool,
}

impl Default for OutcomeRules {
    fn default() -> Self {
        use StatusPattern::{Class, Code, Unassigned};
        Self {
            purge_on: vec![
                Class(2),
                Code(303),
                Code(500),
                Code(506),
                Code(507),
                Code(508),
                Code(510),
                Code(511),
            ],
            unclear: vec![Code(502), Code(504), Unassigned],
            unanswered_is_unclear: true,
            partial_is_unclear: false,
        }
    }
}

impl OutcomeRules {
    /// `unclear`: `None` where nothing is said. A mesh answers 503 for a connection that broke after the request was
    /// sent, so on a guarded route that is unclear too.
    pub(crate) fn new(purge_on: &[StatusPattern], unclear: Option<&[UnclearEnd]>, is_guarded: bool) -> Self {
        let mut rules = Self { purge_on: purge_on.to_vec(), ..Self::default() };
        match unclear {
            Some(ends) => {
                let status = |end: &UnclearEnd| match end {
                    UnclearEnd::Status(pattern) => Some(*pattern),
                    UnclearEnd::Cut | UnclearEnd::Partial => None,
                };
                rules.unclear = ends.iter().filter_map(status).collect();
                rules.unanswered_is_unclear = ends.contains(&UnclearEnd::Cut);
                rules.partial_is_unclear = ends.contains(&UnclearEnd::Partial);
            }
            None if is_guarded => rules.unclear.push(StatusPattern::Code(503)),
            None => {}
        }
        rules
    }

    pub(crate) fn evaluate(&self, end: ExchangeEnd, content: SentContent) -> WriteOutcome {
        match end {
            ExchangeEnd::NotSent => WriteOutcome::Nothing,
            ExchangeEnd::Answered(status) => match (self.evaluate_status(status), content) {
                (outcome, SentContent::Whole) => outcome,
                (WriteOutcome::Nothing, _) => WriteOutcome::Nothing,
                (_, SentContent::Running) => WriteOutcome::PurgeInDoubt,
                (_, SentContent::Cut) => self.evaluate_partial(!is_error(status)),
            },
            ExchangeEnd::Unanswered if content != SentContent::Whole => self.evaluate_partial(false),
            ExchangeEnd::Unanswered if self.unanswered_is_unclear => WriteOutcome::PurgeInDoubt,
            ExchangeEnd::Unanswered => WriteOutcome::PurgeUrl,
        }
    }

    /// A server does not act on content that it never had whole: the framing tells it that the message is incomplete
    /// (RFC 9112 §8). The URL is purged all the same, since that costs little; RFC 9111 §4.4 asks for it after a response
    /// that is no error.
    fn evaluate_partial(&self, has_succeeded: bool) -> WriteOutcome {
        match self.partial_is_unclear {
            true => WriteOutcome::PurgeInDoubt,
            false if has_succeeded => WriteOutcome::PurgeUrl,
            false => WriteOutcome::PurgeUrlOfCut,
        }
    }

    fn evaluate_status(&self, status: StatusCode) -> WriteOutcome {
        let is_listed = |patterns: &[StatusPattern]| patterns.iter().any(|pattern| pattern.matches(status));
        if is_listed(&self.purge_on) {
            WriteOutcome::Purge
        } else if is_listed(&self.unclear) {
            WriteOutcome::PurgeInDoubt
        } else if !is_error(status) {
            WriteOutcome::PurgeUrl
        } else {
            WriteOutcome::Nothing
        }
    }
}

/// RFC 9111 §4.4: a non-error response is one with 2xx or 3xx.
fn is_error(status: StatusCode) -> bool {
    !status.is_success() && !status.is_redirection()
}

impl StatusPattern {
    fn matches(self, status: StatusCode) -> bool {
        let code = status.as_u16();
        match self {
            StatusPattern::Class(class) => code / 100 == class,
            StatusPattern::Code(listed) => code == listed,
            StatusPattern::Unassigned => !(200..512).contains(&code),
        }
    }
}

impl FromStr for StatusPattern {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.as_bytes() {
            b"unassigned" => Ok(StatusPattern::Unassigned),
            [class @ b'2'..=b'5', b'x', b'x'] => Ok(StatusPattern::Class(u16::from(class - b'0'))),
            [b'2'..=b'5', _, _] => text.parse().map(StatusPattern::Code).map_err(drop),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::WriteOutcome::{Nothing, Purge, PurgeInDoubt, PurgeUrl, PurgeUrlOfCut};
    use super::*;

    fn evaluate(rules: &OutcomeRules, status: u16, content: SentContent) -> WriteOutcome {
        rules.evaluate(ExchangeEnd::Answered(StatusCode::from_u16(status).unwrap()), content)
    }

    #[test]
    fn the_status_says_whether_a_write_happened() {
        for (statuses, expected) in [
            (&[200, 201, 204, 207, 303, 500, 507, 511][..], Purge),
            (&[300, 301, 302, 304, 307, 308, 399], PurgeUrl),
            (&[400, 401, 404, 409, 412, 422, 429, 499, 501, 503, 505], Nothing),
            (&[100, 101, 103, 502, 504, 520, 524, 599, 600, 999], PurgeInDoubt),
        ] {
            for status in statuses {
                let outcome = evaluate(&OutcomeRules::default(), *status, SentContent::Whole);
                assert_eq!(outcome, expected, "{status}");
            }
        }
    }

    #[test]
    fn content_that_was_never_whole_leaves_no_doubt() {
        let (usual, partial) =
            (OutcomeRules::default(), OutcomeRules { partial_is_unclear: true, ..OutcomeRules::default() });
        for (end, content, expected, with_partial) in [
            (ExchangeEnd::NotSent, SentContent::Whole, Nothing, Nothing),
            (ExchangeEnd::Unanswered, SentContent::Whole, PurgeInDoubt, PurgeInDoubt),
            (ExchangeEnd::Unanswered, SentContent::Running, PurgeUrlOfCut, PurgeInDoubt),
            (ExchangeEnd::Unanswered, SentContent::Cut, PurgeUrlOfCut, PurgeInDoubt),
            (
                ExchangeEnd::Answered(StatusCode::INTERNAL_SERVER_ERROR),
                SentContent::Cut,
                PurgeUrlOfCut,
                PurgeInDoubt,
            ),
            (ExchangeEnd::Answered(StatusCode::OK), SentContent::Running, PurgeInDoubt, PurgeInDoubt),
            (ExchangeEnd::Answered(StatusCode::OK), SentContent::Cut, PurgeUrl, PurgeInDoubt),
            (ExchangeEnd::Answered(StatusCode::UNAUTHORIZED), SentContent::Cut, Nothing, Nothing),
            (ExchangeEnd::Answered(StatusCode::UNAUTHORIZED), SentContent::Running, Nothing, Nothing),
        ] {
            assert_eq!(usual.evaluate(end, content), expected, "{end:?} {content:?}");
            assert_eq!(partial.evaluate(end, content), with_partial, "{end:?} {content:?}");
        }
        let certain = OutcomeRules { unanswered_is_unclear: false, ..OutcomeRules::default() };
        assert_eq!(certain.evaluate(ExchangeEnd::Unanswered, SentContent::Whole), PurgeUrl);
    }

    #[test]
    fn a_route_lists_its_own_statuses() {
        let parse = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        let rules = OutcomeRules {
            purge_on: parse(&["2xx", "3xx", "404"]),
            unclear: parse(&["503", "unassigned"]),
            ..OutcomeRules::default()
        };
        for (status, expected) in [
            (204, Purge),
            (302, Purge),
            (404, Purge),
            (410, Nothing),
            (500, Nothing),
            (503, PurgeInDoubt),
            (524, PurgeInDoubt),
        ] {
            assert_eq!(evaluate(&rules, status, SentContent::Whole), expected, "{status}");
        }
        let guarded = OutcomeRules::new(&OutcomeRules::default().purge_on, None, true);
        assert_eq!(evaluate(&guarded, 503, SentContent::Whole), PurgeInDoubt);
        let said = OutcomeRules::new(&[], Some(&[UnclearEnd::Partial]), true);
        assert!(said.unclear.is_empty() && said.partial_is_unclear && !said.unanswered_is_unclear);
        for wrong in ["", "2", "1xx", "6xx", "xx", "200 ", "2x0", "cut"] {
            assert_eq!(wrong.parse::<StatusPattern>(), Err(()), "{wrong}");
        }
    }
}
