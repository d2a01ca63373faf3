//! Readers of single values. Each reports its own problem, at the value, with the fix.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

use super::problem::Problems;
use super::suggest::nearest;
use super::tree::{Node, Value};
use super::units::{self, Wrong};
use super::{Fraction, Listen, Secret};

/// A single value as it is written.
pub fn text<'n>(node: &'n Node, expected: &str, problems: &Problems) -> Option<&'n str> {
    match &node.value {
        Value::Scalar(text) => Some(text),
        Value::Broken => None,
        Value::Null => {
            problems
                .error(node.place, "a value is missing")
                .help(format!("write {expected}, or leave the key out"));
            None
        }
        Value::List(_) | Value::Mapping(_) => {
            problems
                .error(node.place, format!("this must be a single value, not {}", node.kind()))
                .help(format!("write {expected}"));
            None
        }
    }
}

/// Reads a single value with a parser that says what is wrong and how to write it instead.
pub fn parsed<T>(
    node: &Node,
    expected: &str,
    problems: &Problems,
    parse: impl FnOnce(&str) -> Result<T, Wrong>,
) -> Option<T> {
    match parse(text(node, expected, problems)?) {
        Ok(value) => Some(value),
        Err((message, help)) => {
            problems.error(node.place, message).help(help);
            None
        }
    }
}

/// The errors of paths and templates say what is wrong; what to write instead.
pub fn message_and_help(wrong: String, otherwise: &str) -> Wrong {
    match wrong.split_once("; ") {
        Some((message, help)) => (message.to_owned(), help.to_owned()),
        None => (wrong, otherwise.to_owned()),
    }
}

pub fn duration(node: &Node, problems: &Problems) -> Option<Duration> {
    parsed(node, "a duration such as `30s`", problems, units::duration)
}

/// A time to wait or to keep something: zero would mean that nothing ever works.
pub fn positive_duration(node: &Node, problems: &Problems) -> Option<Duration> {
    parsed(node, "a duration such as `30s`", problems, |text| match units::duration(text)? {
        Duration::ZERO => Err(("this can't be zero".into(), "write a duration such as `30s`".into())),
        duration => Ok(duration),
    })
}

pub fn size(node: &Node, problems: &Problems) -> Option<u64> {
    parsed(node, "a size such as `64KiB`", problems, units::size)
}

pub fn positive_size(node: &Node, problems: &Problems) -> Option<u64> {
    parsed(node, "a size such as `64KiB`", problems, |text| match units::size(text)? {
        0 => Err(("this can't be zero".into(), "write a size such as `64KiB`".into())),
        size => Ok(size),
    })
}

/// A count, at least 1.
pub fn count(node: &Node, problems: &Problems) -> Option<usize> {
    const MOST: usize = 1 << 24;
    parsed(node, "a number", problems, |text| match text.parse::<usize>() {
        Ok(number @ 1..=MOST) => Ok(number),
        _ => Err((format!("`{text}` is not a number from 1 to {MOST}"), "write digits only".into())),
    })
}

/// A part of a whole.
pub fn fraction(node: &Node, problems: &Problems) -> Option<Fraction> {
    parsed(node, "a number from 0 to 1", problems, |text| {
        text.parse().ok().and_then(Fraction::new).ok_or_else(|| {
            let help = "write a number such as `0.1` for one of ten, or `1` for all".to_owned();
            (format!("`{text}` is not a number from 0 to 1"), help)
        })
    })
}

/// Also in the words of YAML 1.1.
pub fn boolean(node: &Node, problems: &Problems) -> Option<bool> {
    parsed(node, "`true` or `false`", problems, |text| match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" => Ok(true),
        "false" | "off" | "no" => Ok(false),
        _ => Err((format!("`{text}` is neither `true` nor `false`"), "write `true` or `false`".into())),
    })
}

pub fn word<T: Copy>(node: &Node, words: &[(&str, T)], problems: &Problems) -> Option<T> {
    let known = words.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    parsed(node, &known, problems, |text| match words.iter().find(|(word, _)| *word == text) {
        Some((_, value)) => Ok(*value),
        None => {
            let help = match nearest(text, words.iter().map(|(word, _)| *word)) {
                Some(word) => format!("did you mean `{word}`? One of {known}"),
                None => format!("one of {known}"),
            };
            Err((format!("`{text}` is not known here"), help))
        }
    })
}

/// The items of a list.
pub fn list<T>(
    node: &Node,
    example: &str,
    problems: &Problems,
    mut read: impl FnMut(&Node, &Problems) -> Option<T>,
) -> Option<Vec<T>> {
    let help = format!("write a list: `{example}`, or `[]` for none");
    match &node.value {
        Value::List(items) => {
            // What is right with the others is looked at further: a wrong item is an error of the file already.
            Some(items.iter().filter_map(|item| read(item, problems)).collect())
        }
        Value::Broken => None,
        Value::Null => {
            problems.error(node.place, "a list is missing").help(help);
            None
        }
        Value::Scalar(_) | Value::Mapping(_) => {
            problems.error(node.place, format!("this must be a list, not {}", node.kind())).help(help);
            None
        }
    }
}

pub fn listen(node: &Node, problems: &Problems) -> Option<Listen> {
    parsed(node, "an address such as `127.0.0.1:8080`", problems, listen_address)
}

fn listen_address(text: &str) -> Result<Listen, Wrong> {
    if let Some(path) = text.strip_prefix("unix:") {
        return absolute_path(path).map(Listen::Unix);
    }
    text.parse::<SocketAddr>().map(Listen::Tcp).map_err(|_| {
        let port = text.rsplit(':').next().unwrap_or(text);
        let help = match (port.parse::<u16>(), text.starts_with("localhost:")) {
            (Ok(port), true) => format!("write `127.0.0.1:{port}`"),
            (Ok(port), false) => format!(
                "write `127.0.0.1:{port}` for this machine, `0.0.0.0:{port}` for all of its addresses"
            ),
            _ => "write an IP address and a port, `127.0.0.1:8080` or `[::1]:8080`, or `unix:/path`".into(),
        };
        (format!("`{text}` is not an address to listen on"), help)
    })
}

pub fn absolute_path(path: &str) -> Result<PathBuf, Wrong> {
    if path.starts_with('/') && path.len() > 1 && !path.contains('\0') {
        Ok(PathBuf::from(path))
    } else {
        Err((format!("`unix:{path}` has no absolute path"), "write `unix:/run/name.sock`".into()))
    }
}

/// A network, or one address.
pub fn network(node: &Node, problems: &Problems) -> Option<IpNet> {
    parsed(node, "a network such as `10.0.0.0/8`", problems, |text| {
        let one = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse::<IpNet>().or_else(|_| one()).map(|net| net.trunc()).map_err(|_| {
            (
                format!("`{text}` is not a network"),
                "write a network such as `10.0.0.0/8`, or one address such as `\"::1\"`".into(),
            )
        })
    })
}

pub fn networks(node: &Node, problems: &Problems) -> Option<Vec<IpNet>> {
    list(node, "[10.0.0.0/8]", problems, network)
}

pub fn header_name(node: &Node, problems: &Problems) -> Option<HeaderName> {
    parsed(node, "the name of a request field", problems, parse_header_name)
}

pub fn parse_header_name(text: &str) -> Result<HeaderName, Wrong> {
    HeaderName::try_from(text).map_err(|_| {
        (
            format!("`{text}` is not the name of a field"),
            "names have letters, digits and `-`, as in `Accept-Language`".into(),
        )
    })
}

pub fn parse_cookie_name(text: &str) -> Result<String, Wrong> {
    // RFC 6265 §4.1.1: a cookie's name is a token, as a field's is.
    if !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte))
    {
        Ok(text.to_owned())
    } else {
        Err((
            format!("`{text}` is not the name of a cookie"),
            "write the name only, as in `session_id`".into(),
        ))
    }
}

/// A token, or `none`. Its value never stands in an error.
pub fn token(node: &Node, problems: &Problems) -> Option<Option<Secret>> {
    parsed(node, "a token, or `none`", problems, |text| match text {
        "none" => Ok(None),
        "" => Err(("the token is empty".into(), "write `none` where no token is wanted".into())),
        token if token.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Some(Secret::new(token))),
        _ => Err((
            "the token has a character that can't stand in a header".into(),
            "use visible ASCII characters without spaces".into(),
        )),
    })
}
