//! `store.publish`: the channels on which purges are announced.

use super::diagnostics::Diagnostics;
use super::keys::Reader;
use super::scalars::{NON_EMPTY, one_or_many, parsed, split_help};
use super::section::Kind;
use super::settings::{Settings, settings};
use super::yaml::{Value, YamlNode};
use crate::policy::purge_channels::{MAX_CHANNELS, PurgeChannels, TagChannel, namespace_of_wake_channel};

settings! {
    struct TagChannelFields = "an entry of `publish`" {
        /// The channel, with values of the tag: `cache:invalidated:{guildId}`.
        channel: String = NON_EMPTY, required;
        /// The purged tags that are announced there: `guild:{guildId}`. A value is text without a slash.
        tag: String = NON_EMPTY, required;
    }
}

const ENTRY: Kind = Kind::OneOf(&[Kind::Text, Kind::Mapping(TagChannelFields::SECTION)]);

const EXAMPLE: &str =
    "[\"larder:purges\", {channel: \"cache:invalidated:{guildId}\", tag: \"guild:{guildId}\"}]";

pub(super) const PUBLISH: Reader<PurgeChannels> =
    Reader::new(Kind::OneOf(&[Kind::Text, Kind::ListOf(&ENTRY)]), |node, diagnostics| {
        let before = diagnostics.error_count();
        let mut channels = PurgeChannels::default();
        let entries = match &node.value {
            Value::Mapping(_) => {
                diagnostics
                    .error(node.location, "this must be a channel or a list, not a mapping")
                    .help(format!("write a list: `{EXAMPLE}`"));
                return None;
            }
            _ => one_or_many(node),
        };
        if !(1..=MAX_CHANNELS).contains(&entries.len()) {
            let wrong = if entries.is_empty() { "no channel" } else { "more than 100 channels" };
            let help = "leave `publish` out, or write the channels to which somebody listens";
            diagnostics.error(node.location, wrong).help(help);
            return None;
        }
        for entry in entries {
            match &entry.value {
                Value::Mapping(_) => channels.by_tag.extend(tag_channel(entry, diagnostics)),
                _ => channels.every.extend(channel(entry, diagnostics)),
            }
        }
        (diagnostics.error_count() == before).then_some(channels)
    });

fn channel(node: &YamlNode, diagnostics: &Diagnostics) -> Option<String> {
    parsed(node, "the name of a channel", diagnostics, |text| match text {
        "" => Err(("a channel has a name".into(), "write `larder:purges`".into())),
        text if text.contains(char::is_control) => {
            Err(("the name of a channel has no control characters".into(), "write it in one line".into()))
        }
        text if namespace_of_wake_channel(text).is_some() => Err((
            format!("`{text}` is a channel that wakes replicas"),
            "publish on a channel of its own, such as `larder:purges`".into(),
        )),
        text => Ok(text.to_owned()),
    })
}

fn tag_channel(node: &YamlNode, diagnostics: &Diagnostics) -> Option<TagChannel> {
    let TagChannelFields { channel, tag } = TagChannelFields::from_node(node, diagnostics)?;
    if let Some(other) = [&channel, &tag].into_iter().find(|text| text.contains(char::is_whitespace)) {
        diagnostics
            .error(node.location, format!("`{other}` has white space"))
            .help(format!("write the entry as in `{EXAMPLE}`"));
        return None;
    }
    match TagChannel::parse(&channel, &tag) {
        // Its last character is that of each name.
        Ok(parsed) if namespace_of_wake_channel(&parsed.fill(|_| "x".to_owned())).is_none() => Some(parsed),
        Ok(_) => {
            diagnostics
                .error(node.location, format!("`{channel}` is a channel that wakes replicas"))
                .help("publish on channels with another end");
            None
        }
        Err(error) => {
            let (message, help) = split_help(error, EXAMPLE);
            diagnostics.error(node.location, message).help(help);
            None
        }
    }
}
