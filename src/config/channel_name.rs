//! The name of a Redis channel, or a pattern of names.

use super::keys::Reader;
use super::scalars::parsed;
use super::section::Kind;
use crate::policy::purge_channels::{PurgeChannels, TagChannel};

/// A channel, or all channels that match a pattern: `cache:invalidated:*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelName(String);

impl ChannelName {
    /// The spelling of the configuration.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has a wildcard of Redis' patterns.
    pub(crate) fn is_pattern(&self) -> bool {
        self.0.contains(['*', '?', '['])
    }

    /// Whether it hears messages on one of the channels, for some tag.
    pub(super) fn may_hear(&self, published: &PurgeChannels) -> bool {
        let by_tag = |channel: &TagChannel| self.may_include(channel.pieces());
        published.every.iter().any(|name| self.includes(name)) || published.by_tag.iter().any(by_tag)
    }

    /// Whether messages on `channel` are heard.
    fn includes(&self, channel: &str) -> bool {
        self.may_include([Some(channel)].into_iter())
    }

    /// Whether it hears a channel of these pieces, for some value in place of each `None`.
    fn may_include<'p>(&self, pieces: impl Iterator<Item = Option<&'p str>>) -> bool {
        let own = match self.is_pattern() {
            true => parse_pattern(self.0.as_bytes()),
            false => self.0.bytes().map(Element::Byte).collect(),
        };
        let piece = |piece: Option<&str>| match piece {
            Some(text) => text.bytes().map(Element::Byte).collect(),
            None => vec![Element::Any, Element::Rest],
        };
        can_match_same(&own, &pieces.flat_map(piece).collect::<Vec<_>>())
    }
}

pub(super) const CHANNEL: Reader<ChannelName> = Reader::new(Kind::Text, |node, diagnostics| {
    parsed(node, "the name of a channel", diagnostics, |text| match text.is_empty() {
        true => Err(("a channel has a name".into(), "write `changes`, or a pattern: `cache:*`".into())),
        false => Ok(ChannelName(text.to_owned())),
    })
});

/// One position of a name.
#[derive(Clone, Copy, Debug)]
enum Element<'p> {
    Byte(u8),
    Any,
    /// The members as written, and whether they are the ones that it does not match.
    Set(&'p [u8], bool),
    /// Any number of bytes.
    Rest,
}

impl Element<'_> {
    fn may_equal(self, other: Element<'_>) -> bool {
        match (self, other) {
            (Element::Byte(one), Element::Byte(other)) => one == other,
            (Element::Set(members, is_negated), Element::Byte(byte)) => {
                is_in_set(members, byte) != is_negated
            }
            _ => true,
        }
    }
}

/// Parses by Redis' rules: `*`, `?`, `[abc]`, `[^a-z]`, and `\` before a character that stands for itself.
fn parse_pattern(mut pattern: &[u8]) -> Vec<Element<'_>> {
    let mut elements = Vec::new();
    while let [first, rest @ ..] = pattern {
        let (element, after) = match (first, rest) {
            (b'*', _) => (Element::Rest, rest),
            (b'?', _) => (Element::Any, rest),
            (b'[', _) => {
                let length = rest.iter().position(|member| *member == b']').unwrap_or(rest.len());
                let (members, after) = rest.split_at(length);
                let set = match members {
                    [b'^', members @ ..] => Element::Set(members, true),
                    members => Element::Set(members, false),
                };
                (set, after.get(1..).unwrap_or_default())
            }
            (b'\\', [escaped, after @ ..]) => (Element::Byte(*escaped), after),
            (byte, _) => (Element::Byte(*byte), rest),
        };
        elements.push(element);
        pattern = after;
    }
    elements
}

/// Whether some name matches both; the second one has no sets.
fn can_match_same(one: &[Element<'_>], other: &[Element<'_>]) -> bool {
    let is_empty = |rest: &[Element<'_>]| rest.iter().all(|element| matches!(element, Element::Rest));
    // `after[j]`: whether the rest of `one` matches `other[j..]`.
    let mut after: Vec<bool> = (0..=other.len()).map(|at| is_empty(&other[at..])).collect();
    for (i, element) in one.iter().enumerate().rev() {
        let mut now = vec![false; other.len() + 1];
        now[other.len()] = is_empty(&one[i..]);
        for (j, against) in other.iter().enumerate().rev() {
            now[j] = match (element, against) {
                (Element::Rest, _) | (_, Element::Rest) => after[j] || now[j + 1],
                _ => after[j + 1] && element.may_equal(*against),
            };
        }
        after = now;
    }
    after[0]
}

fn is_in_set(members: &[u8], byte: u8) -> bool {
    match members {
        [first, b'-', last, rest @ ..] => {
            (*first.min(last)..=*first.max(last)).contains(&byte) || is_in_set(rest, byte)
        }
        [first, rest @ ..] => *first == byte || is_in_set(rest, byte),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_includes_what_redis_would_deliver() {
        for (pattern, channel, expected) in [
            ("cache:*", "cache:invalidated:users", true),
            ("cache:*", "cache:", true),
            ("cache:*", "cach", false),
            ("*:purges", "shop:purges", true),
            ("*:purges", "shop:purges:x", false),
            ("*a*b*", "xaxbx", true),
            ("*a*b*", "xbxax", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo*", "hbllo", true),
            (r"a\*[x]", "a*x", true),
            (r"a\*[x]", "abx", false),
            ("changes", "changes", true),
            ("changes", "change", false),
        ] {
            assert_eq!(ChannelName(pattern.to_owned()).includes(channel), expected, "{pattern} {channel}");
        }
    }

    #[test]
    fn a_pattern_may_hear_a_channel_with_values() {
        for (pattern, channel, expected) in [
            ("cache:invalidated:*", "cache:invalidated:{id}", true),
            ("cache:invalidated:7", "cache:invalidated:{id}", true),
            ("cache:invalidated:", "cache:invalidated:{id}", false),
            ("cache:[ij]*:7", "cache:invalidated:{id}", true),
            ("cache:[^i]*", "cache:invalidated:{id}", false),
            ("*:end", "cache:{id}:end", true),
            ("*:end", "cache:{id}:other", false),
            ("cache:?:end", "cache:{id}:end", true),
            ("other", "cache:{id}", false),
            ("cache:a", "cache:{id}b", false),
        ] {
            let by_tag = vec![TagChannel::parse(channel, "t:{id}").unwrap()];
            let published = PurgeChannels { every: Vec::new(), by_tag };
            assert_eq!(ChannelName(pattern.to_owned()).may_hear(&published), expected, "{pattern} {channel}");
        }
    }
}
