//! The channels on which purges are announced (`store.publish`): for every purge, or for each value in a purged tag.

use super::template::{Template, TemplatePiece, escape_value};
use crate::purge::{Target, fold_case};

/// A purge is announced on no more channels than this. Those for every purge come first.
pub(crate) const MAX_CHANNELS: usize = 100;

/// The channels of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PurgeChannels {
    /// Each has every purge.
    pub(crate) every: Vec<String>,
    /// Each has the purges that name a matching tag.
    pub(crate) by_tag: Vec<TagChannel>,
}

/// A channel whose name has values of the purged tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagChannel {
    channel: Vec<ChannelPart>,
    tag: Vec<ChannelPart>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ChannelPart {
    Literal(String),
    /// The name of a value.
    Value(String),
}

/// The namespace whose replicas a channel wakes; `None` for the name of another channel.
pub(crate) fn namespace_of_wake_channel(channel: &str) -> Option<&str> {
    channel.strip_suffix(":wake").filter(|namespace| !namespace.is_empty())
}

impl PurgeChannels {
    /// The names of the channels on which a purge of the targets is announced, each once.
    pub(crate) fn select(&self, targets: &[Target]) -> Vec<String> {
        let mut names = self.every.clone();
        for target in targets {
            let Target::Tag(tag) = target else { continue };
            let filled = self.by_tag.iter().filter_map(|channel| channel.fill_from(tag));
            for name in filled {
                if names.len() >= MAX_CHANNELS {
                    return names;
                }
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }

    /// A channel of each kind, and the pattern of all of that kind.
    pub(crate) fn examples(&self) -> impl Iterator<Item = (String, String)> {
        let every = self.every.iter().map(|name| (name.clone(), name.clone()));
        let filled = |channel: &TagChannel, value: &str| channel.fill(|_| value.to_owned());
        every.chain(self.by_tag.iter().map(move |channel| (filled(channel, "larder"), filled(channel, "*"))))
    }
}

impl TagChannel {
    /// `channel`: `cache:invalidated:{guildId}`; `tag`: `guild:{guildId}`.
    ///
    /// # Errors
    /// The message, and after a semicolon what to write instead.
    pub(crate) fn parse(channel: &str, tag: &str) -> Result<Self, String> {
        let (channel, tag) = (parse_parts(channel)?, parse_parts(tag)?);
        if let Some(pair) = tag.windows(2).find(|pair| pair.iter().all(|part| part.name().is_some())) {
            let names = pair.iter().filter_map(ChannelPart::name).collect::<Vec<_>>().join("}{");
            return Err(format!("nothing tells where `{{{names}}}` divide; write text between them"));
        }
        let names: Vec<&str> = tag.iter().filter_map(ChannelPart::name).collect();
        if let Some(name) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
            return Err(format!("`tag` has `{{{}}}` twice; give each value a name of its own", name.1));
        }
        if let Some(name) = channel.iter().filter_map(ChannelPart::name).find(|name| !names.contains(name)) {
            return Err(format!("`tag` has no `{{{name}}}`; name only values of the tag in `channel`"));
        }
        Ok(Self { channel, tag })
    }

    /// The channel's name for a tag that matches. Values with line breaks and the like are percent-encoded.
    fn fill_from(&self, tag: &str) -> Option<String> {
        let values = capture(&self.tag, tag.trim_end_matches('/'))?;
        let name = self.fill(|name| {
            let value = values.iter().find(|(captured, _)| *captured == name);
            value.map_or_else(String::new, |(_, value)| escape_value(value))
        });
        // A value may be `wake`.
        namespace_of_wake_channel(&name).is_none().then_some(name)
    }

    /// The channel's name with a value for each parameter.
    pub(crate) fn fill(&self, value: impl Fn(&str) -> String) -> String {
        let part = |part: &ChannelPart| match part {
            ChannelPart::Literal(text) => text.clone(),
            ChannelPart::Value(name) => value(name),
        };
        self.channel.iter().map(part).collect()
    }

    /// The literal texts of the channel's name; `None` stands for a value, which has at least one character.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Option<&str>> {
        self.channel.iter().map(|part| match part {
            ChannelPart::Literal(text) => Some(text.as_str()),
            ChannelPart::Value(_) => None,
        })
    }
}

impl ChannelPart {
    fn name(&self) -> Option<&str> {
        match self {
            ChannelPart::Literal(_) => None,
            ChannelPart::Value(name) => Some(name),
        }
    }
}

fn parse_parts(text: &str) -> Result<Vec<ChannelPart>, String> {
    let template = Template::parse(text)?;
    let part = |piece| match piece {
        TemplatePiece::Literal(text) => Some(ChannelPart::Literal(text.to_owned())),
        TemplatePiece::Parameter(name) => Some(ChannelPart::Value(name.to_owned())),
        TemplatePiece::Other => None,
    };
    let parts: Option<Vec<_>> = template.pieces().map(part).collect();
    parts
        .ok_or_else(|| format!("`{text}` reads a request or an event; name values of the tag: `{{guildId}}`"))
}

/// The values of a tag that matches as a whole, without case. A value has no slash, and ends where the text after it first
/// occurs.
fn capture<'t>(pattern: &'t [ChannelPart], tag: &'t str) -> Option<Vec<(&'t str, &'t str)>> {
    let (mut values, mut rest) = (Vec::new(), tag);
    for (at, part) in pattern.iter().enumerate() {
        let name = match part {
            ChannelPart::Literal(text) => {
                rest = strip_prefix(rest, text)?;
                continue;
            }
            ChannelPart::Value(name) => name,
        };
        let is_end = |end: &usize| match &pattern[at + 1..] {
            [] => *end == rest.len(),
            [ChannelPart::Literal(last)] => strip_prefix(&rest[*end..], last) == Some(""),
            [ChannelPart::Literal(next), ..] => strip_prefix(&rest[*end..], next).is_some(),
            [ChannelPart::Value(_), ..] => false,
        };
        let (value, after) = rest.split_at(char_ends(rest).skip(1).find(is_end)?);
        if value.contains('/') {
            return None;
        }
        values.push((name.as_str(), value));
        rest = after;
    }
    rest.is_empty().then_some(values)
}

/// The text after a prefix, which is compared without case.
fn strip_prefix<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (start, rest) = text.split_at(char_ends(text).nth(prefix.chars().count())?);
    let is_same = match start.is_ascii() && prefix.is_ascii() {
        true => start.eq_ignore_ascii_case(prefix),
        false => fold_case(start) == fold_case(prefix),
    };
    is_same.then_some(rest)
}

/// The offsets at which the text can be divided.
fn char_ends(text: &str) -> impl Iterator<Item = usize> {
    text.char_indices().map(|(at, _)| at).chain([text.len()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purge::NormalizedPath;

    fn parse_channels(pairs: &[(&str, &str)]) -> PurgeChannels {
        let parse = |(channel, tag): &(&str, &str)| TagChannel::parse(channel, tag).expect(tag);
        PurgeChannels { every: Vec::new(), by_tag: pairs.iter().map(parse).collect() }
    }

    fn tags(tags: &[&str]) -> Vec<Target> {
        tags.iter().copied().map(Target::tag).collect()
    }

    #[test]
    fn a_channel_has_the_values_of_the_purged_tag() {
        for (channel, tag, purged, expected) in [
            ("cache:invalidated:{id}", "guild:{id}", "guild:7", Some("cache:invalidated:7")),
            ("g.{id}", "guild:{id}", "GUILD:Ab", Some("g.Ab")),
            ("g.{id}", "größe:{id}", "GRÖSSE:1", None),
            ("g.{id}", "größe:{id}", "GRÖßE:1", Some("g.1")),
            ("g.{id}", "guild:{id}", "guild:7/", Some("g.7")),
            ("g.{id}", "guild:{id}", "guild:7/members", None),
            ("g.{id}", "guild:{id}", "guild:", None),
            ("g.{id}", "guild:{id}", "guild", None),
            ("g.{id}", "guild:{id}", "the-guild:7", None),
            ("g.{id}", "guild:{id}:x", "guild:7:x", Some("g.7")),
            ("g.{id}", "guild:{id}:x", "guild:7:x:x", Some("g.7:x")),
            ("g.{id}", "guild:{id}:x", "guild:7:xy", None),
            ("{b}.{a}", "{a}:{b}", "1:2:3", Some("2:3.1")),
            ("all", "courses", "Courses", Some("all")),
            ("all", "guild:{any}", "guild:7", Some("all")),
            ("{{x}}{id}", "guild:{id}", "guild:ü", Some("{x}ü")),
            ("g.{id}", "guild:{id}", "guild:a\nb c", Some("g.a%0Ab%20c")),
            ("g:{id}", "guild:{id}", "guild:wake", None),
        ] {
            let found = parse_channels(&[(channel, tag)]).select(&tags(&[purged]));
            assert_eq!(found.first().map(String::as_str), expected, "{channel} {tag} {purged}");
        }
    }

    #[test]
    fn each_channel_is_named_once_and_they_are_bounded() {
        let mut channels =
            parse_channels(&[("g.{id}", "guild:{id}"), ("g.{id}", "team:{id}"), ("all", "{x}:{y}")]);
        channels.every.push("every".to_owned());
        let mut purged = tags(&["guild:1", "team:1", "guild:2", "other"]);
        purged.push(Target::Everything);
        purged.push(Target::Path { host: None, path: NormalizedPath::new("/guild:9") });
        assert_eq!(channels.select(&purged), ["every", "g.1", "all", "g.2"]);
        assert_eq!(channels.select(&[Target::Everything]), ["every"]);
        let many: Vec<Target> = (0..500).map(|id| Target::tag(format!("guild:{id}"))).collect();
        let found = channels.select(&many);
        assert_eq!((found.len(), found[0].as_str(), found[99].as_str()), (MAX_CHANNELS, "every", "g.97"));
    }

    #[test]
    fn patterns_that_say_nothing_definite_are_refused() {
        for (channel, tag, part) in [
            ("c:{id}", "guild:{guildId}", "no `{id}`"),
            ("c:{a}", "guild:{a}{b}", "`{a}{b}` divide"),
            ("c:{a}", "guild:{a}:{a}", "twice"),
            ("c:{a}", "guild:{query.a}", "reads a request"),
            ("c:{event.json:/a}", "guild:{a}", "reads a request"),
            ("c:{a", "guild:{a}", "never closed"),
        ] {
            let error = TagChannel::parse(channel, tag).expect_err(tag);
            assert!(error.contains(part), "{error}");
        }
    }
}
