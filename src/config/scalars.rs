//! Readers of single values and lists. Each reports its own error, at the value, with the fix.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use ipnet::{IpNet, Ipv4Net};

use super::diagnostics::Diagnostics;
use super::fields::Located;
use super::keys::Reader;
use super::section::{Kind, NONE};
use super::suggest::nearest;
use super::units::{self, FieldError};
use super::yaml::{Value, YamlNode};
use super::{Fraction, Listen, Secret};

/// The text of a single value.
pub(super) fn text<'n>(node: &'n YamlNode, expected: &str, diagnostics: &Diagnostics) -> Option<&'n str> {
    match &node.value {
        Value::Scalar(text) => Some(text),
        Value::Broken => None,
        Value::Null => {
            diagnostics
                .error(node.location, "a value is missing")
                .help(format!("write {expected}, or leave the key out"));
            None
        }
        Value::List(_) | Value::Mapping(_) => {
            diagnostics
                .error(node.location, format!("this must be a single value, not {}", node.kind()))
                .help(format!("write {expected}"));
            None
        }
    }
}

/// Reads a single value with a parser whose error says what to write instead.
pub(super) fn parsed<T>(
    node: &YamlNode,
    expected: &str,
    diagnostics: &Diagnostics,
    parse: impl FnOnce(&str) -> Result<T, FieldError>,
) -> Option<T> {
    match parse(text(node, expected, diagnostics)?) {
        Ok(value) => Some(value),
        Err((message, help)) => {
            diagnostics.error(node.location, message).help(help);
            None
        }
    }
}

/// Like [`parsed`], for a value that no error may show.
pub(super) fn parsed_secret<T>(
    node: &YamlNode,
    expected: &str,
    diagnostics: &Diagnostics,
    parse: impl FnOnce(&str) -> Result<T, FieldError>,
) -> Option<T> {
    match parse(text(node, expected, diagnostics)?) {
        Ok(value) => Some(value),
        Err((message, help)) => {
            diagnostics.error(node.location, message).help(help).secret();
            None
        }
    }
}

/// Splits an error of the policy's parsers (`MESSAGE; HELP`); `default_help` is for those without help.
pub(super) fn split_help(error: String, default_help: &str) -> FieldError {
    match error.split_once("; ") {
        Some((message, help)) => (message.to_owned(), help.to_owned()),
        None => (error, default_help.to_owned()),
    }
}

pub(super) const TEXT: Reader<String> =
    Reader::new(Kind::Text, |node, diagnostics| text(node, "a single value", diagnostics).map(str::to_owned));

/// Text of at least one character.
pub(super) const NON_EMPTY: Reader<String> = Reader::new(Kind::Text, |node, diagnostics| {
    parsed(node, "a value", diagnostics, |text| match text {
        "" => Err(("this is empty".into(), "leave the key out, or set the variable".into())),
        text => Ok(text.to_owned()),
    })
});

pub(super) const PATH: Reader<PathBuf> =
    Reader::new(Kind::Text, |node, diagnostics| text(node, "a path", diagnostics).map(PathBuf::from));

/// A file without which larder does not start.
pub(super) const FILE: Reader<PathBuf> = Reader::new(Kind::Text, |node, diagnostics| {
    let path = PATH.read(node, diagnostics)?;
    diagnostics.name_file_to_read(node.location, &path);
    Some(path)
});

pub(super) const DURATION: Reader<Duration> = Reader::new(Kind::Duration, |node, diagnostics| {
    parsed(node, "a duration such as `30s`", diagnostics, units::duration)
});

/// A time to wait or to keep something, which can't be zero.
pub(super) const POSITIVE_DURATION: Reader<Duration> = Reader::new(Kind::Duration, |node, diagnostics| {
    parsed(node, "a duration such as `30s`", diagnostics, |text| match units::duration(text)? {
        Duration::ZERO => Err(("this can't be zero".into(), "write a duration such as `30s`".into())),
        duration => Ok(duration),
    })
});

/// A size in bytes.
pub(super) const SIZE: Reader<u64> = Reader::new(Kind::Size, |node, diagnostics| {
    parsed(node, "a size such as `64KiB`", diagnostics, units::size)
});

pub(super) const POSITIVE_SIZE: Reader<u64> = Reader::new(Kind::Size, |node, diagnostics| {
    parsed(node, "a size such as `64KiB`", diagnostics, |text| match units::size(text)? {
        0 => Err(("this can't be zero".into(), "write a size such as `64KiB`".into())),
        size => Ok(size),
    })
});

/// A number from 1.
pub(super) const COUNT: Reader<usize> = Reader::new(Kind::Count, |node, diagnostics| {
    const MAX_COUNT: usize = 1 << 24;
    parsed(node, "a number", diagnostics, |text| match text.parse::<usize>() {
        Ok(number @ 1..=MAX_COUNT) => Ok(number),
        _ => Err(units::wrong_count(text, MAX_COUNT as u64)),
    })
});

/// A share from `1%` to `100%`.
pub(super) const PERCENT: Reader<usize> = Reader::new(Kind::Matching("^[0-9]+%$"), |node, diagnostics| {
    parsed(node, "a share such as `25%`", diagnostics, |text| {
        match text.strip_suffix('%').and_then(|digits| digits.parse().ok()) {
            Some(percent @ 1..=100) => Ok(percent),
            _ => Err((format!("`{text}` is not a share"), "write `1%` to `100%`".into())),
        }
    })
});

pub(super) const FRACTION: Reader<Fraction> = Reader::new(Kind::Fraction, |node, diagnostics| {
    parsed(node, "a number from 0 to 1", diagnostics, |text| {
        text.parse().ok().and_then(Fraction::new).ok_or_else(|| {
            let help = "write a number such as `0.1` for one in ten, or `1` for all".to_owned();
            (format!("`{text}` is not a number from 0 to 1"), help)
        })
    })
});

/// `true` or `false`, also as YAML 1.1 spells them.
pub(super) const BOOLEAN: Reader<bool> = Reader::new(Kind::Boolean, |node, diagnostics| {
    parsed(node, "`true` or `false`", diagnostics, |text| {
        parse_boolean(text).ok_or_else(|| {
            (format!("`{text}` is neither `true` nor `false`"), "write `true` or `false`".into())
        })
    })
});

pub(super) fn parse_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" => Some(true),
        "false" | "off" | "no" => Some(false),
        _ => None,
    }
}

/// Whether a word switches a section off, also as YAML 1.1 spells it.
pub(super) fn is_off(word: &str) -> bool {
    matches!(word.to_ascii_lowercase().as_str(), "off" | "false" | "no")
}

/// Reads one of several words; `words!` makes a reader of it.
pub(super) fn word<T: Copy>(node: &YamlNode, words: &[(&str, T)], diagnostics: &Diagnostics) -> Option<T> {
    let known = words.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    parsed(node, &known, diagnostics, |text| match words.iter().find(|(word, _)| *word == text) {
        Some((_, value)) => Ok(*value),
        None => {
            let help = match nearest(text, words.iter().map(|(word, _)| *word)) {
                Some(word) => format!("did you mean `{word}`? Expected one of {known}"),
                None => format!("expected one of {known}"),
            };
            Err((format!("unknown value `{text}`"), help))
        }
    })
}

/// Reads the items of a list. Items with errors are left out, so that the others can still be checked.
pub(super) fn list<T>(
    node: &YamlNode,
    example: &str,
    diagnostics: &Diagnostics,
    mut read: impl FnMut(&YamlNode, &Diagnostics) -> Option<T>,
) -> Option<Vec<T>> {
    let help = format!("write a list: `{example}`, or `[]` for none");
    match &node.value {
        Value::List(items) => Some(items.iter().filter_map(|item| read(item, diagnostics)).collect()),
        Value::Broken => None,
        Value::Null => {
            diagnostics.error(node.location, "a list is missing").help(help);
            None
        }
        Value::Scalar(_) | Value::Mapping(_) => {
            let help = format!("{help}; for a variable that holds a list `${{VAR[]}}`");
            diagnostics.error(node.location, format!("this must be a list, not {}", node.kind())).help(help);
            None
        }
    }
}

/// The entries of a mapping whose keys are chosen by the user.
pub(super) fn entries<'n>(
    node: &'n YamlNode,
    example: &str,
    diagnostics: &Diagnostics,
) -> Option<&'n [(YamlNode, YamlNode)]> {
    match &node.value {
        Value::Mapping(entries) => Some(entries),
        Value::Null => Some(&[]),
        Value::Broken => None,
        Value::Scalar(_) | Value::List(_) => {
            diagnostics
                .error(node.location, format!("this must be a mapping, not {}", node.kind()))
                .help(format!("write `{example}`"));
            None
        }
    }
}

/// One value or a list of them.
pub(super) fn one_or_many(node: &YamlNode) -> &[YamlNode] {
    match &node.value {
        Value::List(items) => items,
        _ => std::slice::from_ref(node),
    }
}

/// The values of a list, each of which may occur once.
pub(super) fn distinct<T: PartialEq + std::fmt::Display>(
    values: Vec<Located<T>>,
    diagnostics: &Diagnostics,
) -> Option<Vec<T>> {
    let mut is_distinct = true;
    for (at, value) in values.iter().enumerate() {
        if let Some(first) = values[..at].iter().find(|first| first.value == value.value) {
            diagnostics
                .error(value.location, format!("`{}` occurs twice in the list", value.value))
                .note(first.location, "the first one")
                .help("remove one of them");
            is_distinct = false;
        }
    }
    is_distinct.then(|| values.into_iter().map(|value| value.value).collect())
}

/// `host:port` or `unix:/path`.
pub(super) const ADDRESS: Reader<Listen> =
    Reader::new(Kind::Matching(":[0-9]+$|^unix:/"), |node, diagnostics| {
        parsed(node, "an address such as `127.0.0.1:8080`", diagnostics, listen_address)
    });

fn listen_address(text: &str) -> Result<Listen, FieldError> {
    if let Some(path) = text.strip_prefix("unix:") {
        return absolute_path(path).map(Listen::Unix);
    }
    text.parse::<SocketAddr>().map(Listen::Tcp).map_err(|_| {
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let help = match (port.parse::<u16>(), text.starts_with("localhost:")) {
            (Ok(port), _) if host.parse::<Ipv6Addr>().is_ok() => format!("write `[{host}]:{port}`"),
            (Ok(port), true) => format!("write `127.0.0.1:{port}`"),
            (Ok(port), false) => format!(
                "write `127.0.0.1:{port}` for this machine, `0.0.0.0:{port}` for all of its addresses"
            ),
            _ => "write an IP address and a port, `127.0.0.1:8080` or `[::1]:8080`, or `unix:/path`".into(),
        };
        (format!("`{text}` is not an address to listen on"), help)
    })
}

/// Parses the path of a Unix socket.
pub(super) fn absolute_path(path: &str) -> Result<PathBuf, FieldError> {
    if path.starts_with('/') && path.len() > 1 && !path.contains('\0') {
        Ok(PathBuf::from(path))
    } else {
        Err((format!("`unix:{path}` has no absolute path"), "write `unix:/run/name.sock`".into()))
    }
}

/// Networks or single addresses.
pub(super) const NETWORKS: Reader<Vec<IpNet>> =
    Reader::new(Kind::ListOf(&Kind::Text), |node, diagnostics| {
        list(node, "[10.0.0.0/8]", diagnostics, |node, diagnostics| {
            parsed(node, "a network such as `10.0.0.0/8`", diagnostics, network)
        })
    });

fn network(text: &str) -> Result<IpNet, FieldError> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>().or_else(|_| address()).map(|network| to_canonical(network.trunc())).map_err(|_| {
        (
            format!("`{text}` is not a network"),
            "write a network such as `10.0.0.0/8`, or one address such as `\"::1\"`".into(),
        )
    })
}

/// The addresses of clients are compared in this form: an IPv4 network as such, if it is written as one of IPv6.
fn to_canonical(network: IpNet) -> IpNet {
    const MAPPED_PREFIX: u8 = 96;
    let length = network.prefix_len().checked_sub(MAPPED_PREFIX);
    match (network.addr().to_canonical(), length) {
        (IpAddr::V4(address), Some(length)) if matches!(network, IpNet::V6(_)) => {
            Ipv4Net::new(address, length).map_or(network, IpNet::V4)
        }
        _ => network,
    }
}

pub(super) const HEADER_NAME: Reader<HeaderName> =
    Reader::new(Kind::Text, |node, diagnostics| parsed(node, "a field name", diagnostics, parse_header_name));

pub(super) fn parse_header_name(text: &str) -> Result<HeaderName, FieldError> {
    HeaderName::try_from(text).map_err(|_| {
        (
            match text.contains(':') {
                // The value may follow.
                true => "this is not a field name".into(),
                false => format!("`{text}` is not a field name"),
            },
            "names have letters, digits and `-`, as in `Accept-Language`".into(),
        )
    })
}

/// Parses a cookie name (a token, RFC 6265 §4.1.1).
pub(super) fn parse_cookie_name(text: &str) -> Result<String, FieldError> {
    if !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte))
    {
        Ok(text.to_owned())
    } else {
        Err((format!("`{text}` is not a cookie name"), "write the name only, as in `session_id`".into()))
    }
}

/// A token, or `none`. The value is never shown in an error.
pub(super) const TOKEN: Reader<Option<Secret>> =
    Reader::new(Kind::OneOf(&[NONE, Kind::Text]), |node, diagnostics| {
        parsed_secret(node, "a token, or `none`", diagnostics, |text| match text {
            "none" => Ok(None),
            "" => Err(("the token is empty".into(), "write `none` for no token".into())),
            token if token.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Some(Secret::new(token))),
            _ => Err((
                "the token has a character that is not allowed in a header".into(),
                "use visible ASCII characters without spaces".into(),
            )),
        })
    });

/// Reads a list of distinct field names that `check` accepts.
pub(super) fn header_names(
    node: &YamlNode,
    example: &str,
    diagnostics: &Diagnostics,
    check: impl Fn(&HeaderName) -> Result<(), FieldError>,
) -> Option<Vec<HeaderName>> {
    let names = list(node, example, diagnostics, |node, diagnostics| {
        let value = parsed(node, "a field name", diagnostics, |text| {
            let name = parse_header_name(text)?;
            check(&name).map(|()| name)
        })?;
        Some(Located { value, location: node.location })
    })?;
    distinct(names, diagnostics)
}

/// A reader of one of several words, each with its value.
macro_rules! words {
    ($($word:literal => $value:expr),+ $(,)?) => {
        $crate::config::keys::Reader::new(
            $crate::config::section::Kind::Word(&[$($word),+]),
            |node, diagnostics| $crate::config::scalars::word(node, &[$(($word, $value)),+], diagnostics),
        )
    };
}

pub(crate) use words;
