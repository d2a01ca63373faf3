//! What shortens a lifetime: `ttl_from:`, a time in the response, and `jitter:`, chance.

use super::fields::Fields;
use super::keys;
use super::problem::Problems;
use super::scalars::{duration, header_name, message_and_help, parsed};
use super::tree::Node;
use crate::policy::json_query::JsonQuery;
use crate::policy::ttl_from::{TimeSource, TtlFrom};

/// `Some(None)`: `none`.
pub fn ttl_from(node: &Node, problems: &Problems) -> Option<Option<TtlFrom>> {
    if node.text() == Some("none") {
        return Some(None);
    }
    const HELP: &str = "write `{json: $.expires_at, minus: 15m}`, `{header: X-Expires}` or `none`";
    let fields = Fields::open(node, &keys::TTL_FROM, problems)?;
    let json = fields.optional("json", |node, problems| {
        parsed(node, "a JSONPath such as `$.expires_at`", problems, |text| {
            JsonQuery::parse(text).map_err(|wrong| message_and_help(wrong, HELP))
        })
    });
    let header = fields.optional("header", header_name);
    let minus = fields.read("minus", duration)?;
    let source = match (fields.given("json"), fields.given("header")) {
        (Some(_), None) => TimeSource::Json(json?),
        (None, Some(_)) => TimeSource::Header(header?),
        (Some(_), Some(second)) => {
            problems.error(second.place, "`ttl_from` names one time, and here are two").help(HELP);
            return None;
        }
        (None, None) => {
            problems.error(node.place, "`ttl_from` says of no time where it stands").help(HELP);
            return None;
        }
    };
    Some(Some(TtlFrom { source, minus }))
}

pub fn jitter(node: &Node, problems: &Problems) -> Option<u8> {
    const MOST: u8 = 50;
    parsed(node, "a part such as `10%`", problems, |text| {
        let percent = text.strip_suffix('%').and_then(|number| number.parse().ok());
        percent.filter(|percent| *percent <= MOST).ok_or_else(|| {
            (format!("`{text}` is not a part of a lifetime"), format!("write `10%`; at most `{MOST}%`"))
        })
    })
}
