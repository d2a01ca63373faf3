//! A sorted set.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

#[derive(Clone, Debug, Default)]
pub struct SortedSet {
    scores: BTreeMap<Bytes, f64>,
    order: BTreeSet<(Score, Bytes)>,
}

/// Ordered like the number; never NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Score(f64);

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.partial_cmp(&other.0).expect("no NaN")
    }
}

/// A bound of a range of scores, as `ZRANGEBYSCORE` writes it.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    score: f64,
    is_open: bool,
}

impl Limit {
    pub fn parse(text: &str) -> Option<Self> {
        let (text, is_open) = match text.strip_prefix('(') {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let score = text.trim_start_matches('+').parse().ok()?;
        Some(Self { score, is_open })
    }
}

impl SortedSet {
    pub fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    pub fn len(&self) -> usize {
        self.scores.len()
    }

    pub fn score(&self, member: &[u8]) -> Option<f64> {
        self.scores.get(member).copied()
    }

    /// Reports whether the member is a new one.
    pub fn insert(&mut self, member: Bytes, score: f64) -> bool {
        let before = self.scores.insert(member.clone(), score);
        if let Some(before) = before {
            self.order.remove(&(Score(before), member.clone()));
        }
        self.order.insert((Score(score), member));
        before.is_none()
    }

    pub fn remove(&mut self, member: &Bytes) -> bool {
        let Some(score) = self.scores.remove(member) else { return false };
        self.order.remove(&(Score(score), member.clone()))
    }

    /// The members with scores from `low` to `high`, in order.
    pub fn range(&self, low: Limit, high: Limit) -> Vec<(Bytes, f64)> {
        let start = Bound::Included((Score(low.score), Bytes::new()));
        self.order
            .range((start, Bound::Unbounded))
            .skip_while(|(score, _)| low.is_open && score.0 == low.score)
            .take_while(|(score, _)| score.0 < high.score || (score.0 == high.score && !high.is_open))
            .map(|(score, member)| (member.clone(), score.0))
            .collect()
    }

    /// By rank, both inclusive.
    pub fn ranks(&self, from: usize, to: usize) -> Vec<(Bytes, f64)> {
        let count = (to + 1).saturating_sub(from);
        self.order.iter().skip(from).take(count).map(|(score, member)| (member.clone(), score.0)).collect()
    }
}
