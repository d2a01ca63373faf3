//! The name of a Redis channel, or a pattern of names.

use super::keys::Reader;
use super::scalars::parsed;
use super::section::Kind;

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

    /// Whether messages on `channel` are heard.
    pub(super) fn includes(&self, channel: &str) -> bool {
        match self.is_pattern() {
            true => is_match(self.0.as_bytes(), channel.as_bytes()),
            false => self.0 == channel,
        }
    }
}

pub(super) const CHANNEL: Reader<ChannelName> = Reader::new(Kind::Text, |node, diagnostics| {
    parsed(node, "the name of a channel", diagnostics, |text| match text.is_empty() {
        true => Err(("a channel has a name".into(), "write `changes`, or a pattern: `cache:*`".into())),
        false => Ok(ChannelName(text.to_owned())),
    })
});

/// Matches by Redis' rules: `*`, `?`, `[abc]`, `[^a-z]`, and `\` before a character that stands for itself.
fn is_match(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern_at, mut text_at) = (0, 0);
    // After the last `*`, and the first byte that it does not stand for.
    let mut retry: Option<(usize, usize)> = None;
    while text_at < text.len() {
        if pattern.get(pattern_at) == Some(&b'*') {
            pattern_at += 1;
            retry = Some((pattern_at, text_at));
        } else if let Some(length) = match_byte(&pattern[pattern_at..], text[text_at]) {
            (pattern_at, text_at) = (pattern_at + length, text_at + 1);
        } else {
            let Some((after_star, from)) = retry else { return false };
            retry = Some((after_star, from + 1));
            (pattern_at, text_at) = (after_star, from + 1);
        }
    }
    pattern[pattern_at..].iter().all(|byte| *byte == b'*')
}

/// The length of the pattern's first element, if it matches the byte.
fn match_byte(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', set @ ..] => {
            let end = set.iter().position(|member| *member == b']')?;
            let is_member = match &set[..end] {
                [b'^', members @ ..] => !is_in_set(members, byte),
                members => is_in_set(members, byte),
            };
            is_member.then_some(end + 2)
        }
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [first, ..] => (*first == byte).then_some(1),
        [] => None,
    }
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
}
