//! The keys of a route that say who may have a hit, and which fields speak to one caller.

use http::{HeaderName, header};

use super::diagnostics::Diagnostics;
use super::fields::Located;
use super::keys::Reader;
use super::scalars::{
    BOOLEAN, NON_EMPTY, distinct, header_names, list, parse_cookie_name, parse_header_name, parsed, words,
};
use super::section::{Kind, NONE};
use super::settings::{Settings, settings};
use super::units::FieldError;
use super::yaml::{Value, YamlNode};
use crate::policy::credential::Credential;
use crate::policy::dropped_fields::DroppedFields;
use crate::policy::route::{Anonymous, Shared};
use crate::policy::with_dashes;

/// `None` stands for `none`.
pub(super) const PER: Reader<Option<Credential>> = Reader::new(
    Kind::OneOf(&[Kind::Matching(PER_PATTERN), Kind::ListOf(&Kind::Matching(PER_LIST_PATTERN))]),
    |node, diagnostics| match &node.value {
        Value::List(items) => match items.as_slice() {
            [any_of] if any_of.text().is_some_and(|text| text.contains('|')) => {
                parsed(any_of, PER_HELP, diagnostics, parse_alternatives).map(Some)
            }
            [] => {
                diagnostics.error(node.location, "`per` is empty").help("write `none`, or a list of claims");
                None
            }
            items => claims(node, items.len(), diagnostics).map(Some),
        },
        _ => parsed(node, PER_HELP, diagnostics, |text| match text {
            "none" => Ok(None),
            "identity" => Ok(Some(Credential::Identity)),
            text if text.contains('|') => parse_alternatives(text).map(Some),
            text => match claim_name(text) {
                Some(claim) => Ok(Some(Credential::Claims(vec![claim.to_owned()]))),
                None => parse_credential(text).map(normalized).map(Some),
            },
        }),
    },
);

const PER_PATTERN: &str = "^(none|authorization|cookie\\..+|header\\..+|jwt\\..+|identity|.+\\|.+)$";
const PER_LIST_PATTERN: &str = "^(jwt\\..+|.+\\|.+)$";
const PER_HELP: &str =
    "`authorization`, `cookie.NAME`, `header.NAME`, two of them joined by `|`, `jwt.CLAIM` or `identity`";

/// Parses `authorization | cookie.sid`.
fn parse_alternatives(text: &str) -> Result<Credential, FieldError> {
    const HELP: &str = "join `authorization`, `cookie.NAME` and `header.NAME` by `|`, each once";
    let mut credentials = Vec::new();
    for name in text.split('|').map(str::trim) {
        if name == "identity" || claim_name(name).is_some() {
            return Err((format!("`{name}` is not sent beside another credential"), HELP.into()));
        }
        let credential = normalized(parse_credential(name)?);
        if credentials.contains(&credential) {
            return Err((format!("`{name}` occurs twice"), HELP.into()));
        }
        credentials.push(credential);
    }
    Ok(Credential::AnyOf(credentials))
}

fn claim_name(text: &str) -> Option<&str> {
    text.strip_prefix("jwt.").filter(|claim| !claim.is_empty())
}

/// `count`: the entries of the list, of which each must be a claim.
fn claims(node: &YamlNode, count: usize, diagnostics: &Diagnostics) -> Option<Credential> {
    let names = list(node, "[jwt.tenant, jwt.role]", diagnostics, |node, diagnostics| {
        let value = parsed(node, "a claim", diagnostics, |text| {
            let wrong =
                || (format!("`{text}` is no claim"), "write claims alone: `[jwt.tenant, jwt.role]`".into());
            claim_name(text).map(str::to_owned).ok_or_else(wrong)
        })?;
        Some(Located { value, location: node.location })
    })?;
    let is_complete = names.len() == count;
    distinct(names, diagnostics).filter(|_| is_complete).map(Credential::Claims)
}

/// No request with a field of an ambiguous name is looked up, and the upstream may read `X_Auth` as `X-Auth`.
fn normalized(credential: Credential) -> Credential {
    match credential {
        Credential::Header(name) => Credential::Header(with_dashes(&name)),
        credential => credential,
    }
}

/// Parses a part of a request that identifies its caller.
pub(super) fn parse_credential(text: &str) -> Result<Credential, FieldError> {
    match text.split_once('.') {
        None if text.eq_ignore_ascii_case("authorization") => Ok(Credential::Authorization),
        Some(("cookie", name)) => parse_cookie_name(name).map(Credential::Cookie),
        Some(("header", name)) => match parse_header_name(name)? {
            header::AUTHORIZATION => Ok(Credential::Authorization),
            header::COOKIE => {
                Err(("all cookies together are not a credential".into(), "name one: `cookie.NAME`".into()))
            }
            name => Ok(Credential::Header(name)),
        },
        _ => Err((format!("`{text}` names no credential"), format!("write {PER_HELP}"))),
    }
}

/// YAML writes `true` and `false` as booleans.
pub(super) const SHARED: Reader<Shared> =
    Reader::new(Kind::OneOf(&[Kind::Boolean, Kind::Word(&["signed-in"])]), |node, diagnostics| {
        match node.text() {
            Some("signed-in") => Some(Shared::SignedIn),
            _ => BOOLEAN.read(node, diagnostics).map(|shared| if shared { Shared::All } else { Shared::No }),
        }
    });

settings! {
    struct DropFields = "drop_response" {
        /// More fields that are not stored.
        also: DroppedFields = FIELD_PATTERNS, default "[]";
        /// Fields that are stored, although the default list has them.
        not: DroppedFields = FIELD_PATTERNS, default "[]";
    }
}

settings! {
    struct ExemptFields = "a route's `credentials`" {
        /// Request fields that identify nobody on this route.
        not: Vec<HeaderName> = EXEMPT_NAMES, default "[]";
    }
}

const FIELD_PATTERNS: Reader<DroppedFields> = Reader::new(Kind::ListOf(&Kind::Text), |node, diagnostics| {
    let names = list(node, "[X-Session-Id, \"X-RateLimit-*\"]", diagnostics, |node, diagnostics| {
        parsed(node, "a field name", diagnostics, |text| match DroppedFields::new([text].into_iter()) {
            Some(_) => Ok(text.to_owned()),
            None => {
                Err((format!("`{text}` is no field name"), "write a name, or its beginning and `*`".into()))
            }
        })
    })?;
    DroppedFields::new(names.iter().map(String::as_str))
});

pub(super) const DROP_RESPONSE: Reader<DroppedFields> = Reader::new(
    Kind::OneOf(&[Kind::ListOf(&Kind::Text), Kind::Mapping(DropFields::SECTION)]),
    |node, diagnostics| match &node.value {
        Value::List(_) => FIELD_PATTERNS.read(node, diagnostics),
        _ => {
            let DropFields { also, not } = DropFields::from_node(node, diagnostics)?;
            Some(DroppedFields::default().amended(also, &not))
        }
    },
);

const EXEMPT_NAMES: Reader<Vec<HeaderName>> = Reader::new(Kind::ListOf(&Kind::Text), |node, diagnostics| {
    let names = header_names(node, "[X-CSRF-Token]", diagnostics, |_| Ok(()))?;
    Some(names.iter().map(with_dashes).collect())
});

pub(super) const EXEMPT: Reader<Vec<HeaderName>> =
    Reader::new(Kind::Mapping(ExemptFields::SECTION), |node, diagnostics| {
        ExemptFields::from_node(node, diagnostics).map(|fields| fields.not)
    });

/// Fields whose values larder does not compare. Each coding is a representation of its own, so `Accept-Encoding` counts.
pub(super) const IGNORE_VARY: Reader<Vec<HeaderName>> =
    Reader::new(Kind::ListOf(&Kind::Text), |node, diagnostics| {
        header_names(node, "[Cookie]", diagnostics, |name| match *name == header::ACCEPT_ENCODING {
            true => Err((
                "`Accept-Encoding` selects the content coding, and can't be ignored".into(),
                "leave it out: larder normalizes the field, so there are few variants".into(),
            )),
            false => Ok(()),
        })
    });

pub(super) const ANONYMOUS: Reader<Anonymous> =
    words!("pass" => Anonymous::Pass, "share" => Anonymous::Share);

/// The name of an entry; `routes.rs` finds it.
pub(super) const CALLERS: Reader<Option<String>> =
    Reader::new(Kind::OneOf(&[NONE, Kind::Text]), |node, diagnostics| {
        NON_EMPTY.read(node, diagnostics).map(|name| (name != "none").then_some(name))
    });
