//! Hides the values of query parameters that are credentials, where people are shown a URL.

use std::borrow::Cow;

use super::query::decode;

/// Found anywhere in the names of credentials, in lower case and with `-` for `_` and `.`.
const PARTS: &[&str] = &[
    "access-key",
    "accesskey",
    "api-key",
    "apikey",
    "app-key",
    "assertion",
    "bearer",
    "credential",
    "hmac",
    "jwt",
    "passcode",
    "passphrase",
    "passw",
    "pwd",
    "secret",
    "sessid",
    "session",
    "signature",
    "subscription-key",
    "token",
];

/// Whole names of such parameters.
const NAMES: &[&str] = &[
    "auth",
    "authorization",
    "code",
    "cred",
    "creds",
    "key",
    "otp",
    "pass",
    "pat",
    "pin",
    "sas",
    "sid",
    "sig",
    "ticket",
    "totp",
];

/// Found in the names of tokens by which a list is read on. They are nobody's.
const PAGING_PARTS: &[&str] = &["continuation", "cursor", "next", "page", "sync"];

/// The URL with `***` for each value of a credential.
pub(crate) fn mask_parameters(url: &str) -> Cow<'_, str> {
    const SEPARATORS: [char; 5] = ['&', ';', '?', '#', ','];
    let Some(start) = url.find('?').map(|at| at + 1) else { return Cow::Borrowed(url) };
    let is_secret = |pair: &str| {
        pair.split_once('=').is_some_and(|(name, value)| !value.is_empty() && is_secret_parameter(name))
    };
    let query = &url[start..];
    if !query.split(SEPARATORS).any(is_secret) {
        return Cow::Borrowed(url);
    }
    let mut masked = url[..start].to_owned();
    let mut is_hidden = false;
    for piece in query.split_inclusive(SEPARATORS) {
        let pair = piece.trim_end_matches(SEPARATORS);
        match (pair.split_once('='), is_secret(pair)) {
            (Some((name, _)), true) => {
                masked.extend([name, "=***", &piece[pair.len()..]]);
                is_hidden = true;
            }
            // Behind a separator other than `&` the value may go on.
            (None, _) if is_hidden && !pair.is_empty() => masked.extend(["***", &piece[pair.len()..]]),
            _ => {
                masked.push_str(piece);
                is_hidden = false;
            }
        }
        is_hidden &= !piece.ends_with('&');
    }
    Cow::Owned(masked)
}

pub(crate) fn is_secret_parameter(name: &str) -> bool {
    let name: String = decode(name)
        .chars()
        .flat_map(char::to_lowercase)
        .map(|c| if matches!(c, '_' | '.') { '-' } else { c })
        .collect();
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    NAMES.contains(&name.as_str()) || has(PARTS) && !has(PAGING_PARTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_credentials_are_hidden() {
        for (url, masked) in [
            ("/a?access_token=s&page=2", "/a?access_token=***&page=2"),
            ("/a?page=2&api_key=s", "/a?page=2&api_key=***"),
            ("/a?X-Amz-Signature=s&sig=t&x=1", "/a?X-Amz-Signature=***&sig=***&x=1"),
            ("/a?access%5Ftoken=s", "/a?access%5Ftoken=***"),
            ("/a?x=1;token=s", "/a?x=1;token=***"),
            ("/a?token=s,t;u&x=1", "/a?token=***,***;***&x=1"),
            ("/a?token=s=t", "/a?token=***"),
            ("/a?token=s?t", "/a?token=***?***"),
            ("http://x/?sessionId=s#top", "http://x/?sessionId=***#***"),
            ("/cb?code=s&state=t", "/cb?code=***&state=t"),
        ] {
            assert_eq!(mask_parameters(url), masked);
        }
        for shown in [
            "/token=s",
            "/a?page=2",
            "/a?page_token=x",
            "/a?token",
            "/a?token=",
            "/a?country_code=DE",
            "/a?author=b",
            "/?",
        ] {
            assert!(matches!(mask_parameters(shown), Cow::Borrowed(same) if same == shown), "{shown}");
        }
    }
}
