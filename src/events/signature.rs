//! Signatures of webhooks: HMAC-SHA256 over the content, in most schemes behind the time of sending.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use sha2::{Digest as _, Sha256};

use crate::clock::Timestamp;
use crate::config::{Secret, WebhookScheme};
use crate::hex;

/// Maximum number of signatures tried per request.
const MAX_SIGNATURES: usize = 4;

/// Maximum number of members that are read of a field.
const MAX_MEMBERS: usize = 16;

/// How a request is signed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Signed {
    /// The text that is signed before the content.
    prefix: Vec<u8>,
    /// `None`: the scheme signs no time.
    pub sent_at: Option<Timestamp>,
    signatures: Vec<[u8; 32]>,
}

impl Signed {
    /// # Errors
    ///
    /// Returns the name of the field that is missing or malformed.
    pub(super) fn read(scheme: WebhookScheme, headers: &HeaderMap) -> Result<Self, &'static str> {
        match scheme {
            WebhookScheme::Larder => {
                const TIMESTAMP: &str = "Larder-Timestamp";
                let time = single_line(headers, TIMESTAMP)?;
                let sent_at = parse_micros(time).map(Timestamp::from_micros).ok_or(TIMESTAMP)?;
                let prefix = format!("{time}.");
                Self::with_list(headers, "Larder-Signature", (prefix, Some(sent_at)), ',', |member| {
                    hex::decode(member.strip_prefix("sha256=")?)
                })
            }
            WebhookScheme::Standard => {
                let [id_name, time_name, signature_name] = standard_fields(headers);
                // A dot would leave open where the id ends.
                let id =
                    Some(single_line(headers, id_name)?).filter(|id| !id.contains('.')).ok_or(id_name)?;
                let time = single_line(headers, time_name)?;
                let sent_at = parse_seconds(time).ok_or(time_name)?;
                let prefix = format!("{id}.{time}.");
                Self::with_list(headers, signature_name, (prefix, Some(sent_at)), ' ', |member| {
                    decode_base64(member.strip_prefix("v1,")?)
                })
            }
            WebhookScheme::Stripe => {
                const FIELD: &str = "Stripe-Signature";
                let members = || single_line(headers, FIELD).map(|line| line.split(',').take(MAX_MEMBERS));
                let mut times = members()?.filter_map(|member| member.trim().strip_prefix("t="));
                let (Some(time), None) = (times.next(), times.next()) else { return Err(FIELD) };
                let sent_at = parse_seconds(time).ok_or(FIELD)?;
                let prefix = format!("{time}.");
                Self::with_list(headers, FIELD, (prefix, Some(sent_at)), ',', |member| {
                    hex::decode(member.strip_prefix("v1=")?)
                })
            }
            WebhookScheme::Github => {
                Self::with_list(headers, "X-Hub-Signature-256", (String::new(), None), ',', |member| {
                    hex::decode(member.strip_prefix("sha256=")?)
                })
            }
            WebhookScheme::Shopify => {
                Self::with_list(headers, "X-Shopify-Hmac-Sha256", (String::new(), None), ',', decode_base64)
            }
        }
    }

    /// Reads the members of `field`, of which one must be right.
    fn with_list(
        headers: &HeaderMap,
        field: &'static str,
        (prefix, sent_at): (String, Option<Timestamp>),
        separator: char,
        decode: fn(&str) -> Option<[u8; 32]>,
    ) -> Result<Self, &'static str> {
        let lines = headers.get_all(field).iter().filter_map(|line| line.to_str().ok());
        let members = lines.flat_map(|line| line.split(separator)).take(MAX_MEMBERS);
        let signatures: Vec<_> =
            members.filter_map(|member| decode(member.trim())).take(MAX_SIGNATURES).collect();
        match signatures.is_empty() {
            true => Err(field),
            false => Ok(Self { prefix: prefix.into_bytes(), sent_at, signatures }),
        }
    }

    /// Whether one of the signatures was made with one of the secrets.
    pub(super) fn is_right(&self, scheme: WebhookScheme, secrets: &[Secret], content: &[u8]) -> bool {
        secrets.iter().any(|secret| {
            // HMAC accepts keys of any length.
            let mac = scheme.key(secret).and_then(|key| Hmac::<Sha256>::new_from_slice(&key).ok());
            let Some(mut mac) = mac else { return false };
            mac.update(&self.prefix);
            mac.update(content);
            // `verify_slice` compares in constant time.
            self.signatures.iter().any(|signature| mac.clone().verify_slice(signature).is_ok())
        })
    }

    /// The id of the event, which does not depend on the secret.
    pub(super) fn event_id(&self, content: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(&self.prefix).chain_update(content).finalize().into()
    }
}

impl WebhookScheme {
    /// How to sign, for errors.
    pub(super) fn instructions(self) -> &'static str {
        match self {
            WebhookScheme::Larder => {
                "send `Larder-Timestamp: SECONDS` (since 1970), sign `TIMESTAMP.CONTENT` by HMAC-SHA256 with `secret`, and \
                 send it as `Larder-Signature: sha256=HEX`"
            }
            WebhookScheme::Standard => {
                "send `Webhook-Id`, `Webhook-Timestamp` and `Webhook-Signature` with the secret of this endpoint"
            }
            WebhookScheme::Github => "give the webhook at GitHub the same secret as `secret`",
            WebhookScheme::Stripe => "copy the signing secret of this endpoint (`whsec_…`) to `secret`",
            WebhookScheme::Shopify => "copy the app's client secret to `secret`",
        }
    }

    /// How to send an event that is like another one, for errors.
    pub(super) fn replay_instructions(self) -> &'static str {
        match self {
            WebhookScheme::Larder => {
                "sign each event with a time of its own; `Larder-Timestamp` may have decimals"
            }
            WebhookScheme::Standard => "send each event with a `Webhook-Id` (`Svix-Id`) of its own",
            WebhookScheme::Stripe => "let Stripe send the event again: it signs each attempt with a new time",
            WebhookScheme::Github | WebhookScheme::Shopify => "send each event once",
        }
    }
}

/// The fields of Standard Webhooks, all of one family: Svix and those that send by it have names of their own.
fn standard_fields(headers: &HeaderMap) -> [&'static str; 3] {
    const STANDARD_FIELDS: [&str; 3] = ["Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"];
    const SVIX_FIELDS: [&str; 3] = ["Svix-Id", "Svix-Timestamp", "Svix-Signature"];
    let has_any = |names: [&str; 3]| names.into_iter().any(|name| headers.contains_key(name));
    if !has_any(STANDARD_FIELDS) && has_any(SVIX_FIELDS) { SVIX_FIELDS } else { STANDARD_FIELDS }
}

fn single_line<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<&'h str, &'static str> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => line.to_str().map_err(|_| name),
        _ => Err(name),
    }
}

fn decode_base64(text: &str) -> Option<[u8; 32]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

fn parse_seconds(text: &str) -> Option<Timestamp> {
    parse_micros(text).filter(|_| !text.contains('.')).map(Timestamp::from_micros)
}

/// Parses digits with up to six decimals into microseconds.
fn parse_micros(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || fraction.len() > 6 {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<6}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixtures::fields;

    /// The examples of the schemes' own documentation where there are any; the others by `openssl dgst`.
    #[test]
    fn the_signatures_of_each_scheme_are_right() {
        use WebhookScheme::{Github, Larder, Shopify, Standard, Stripe};
        let content = r#"{"id": 7}"#;
        for (scheme, secret, content, lines, sent_at) in [
            (
                Larder,
                "a secret of larder",
                content,
                &[
                    ("larder-timestamp", "1763640000"),
                    (
                        "larder-signature",
                        "sha256=a246d5a866c5c94829da12398c313c3b18110246ee4e427f5947c9f2232e40fd",
                    ),
                ][..],
                Some(1_763_640_000),
            ),
            (
                Standard,
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                r#"{"test": 2432232314}"#,
                &[
                    ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
                    ("webhook-timestamp", "1614265330"),
                    ("webhook-signature", "v1a,x v1,AAAA v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
                ],
                Some(1_614_265_330),
            ),
            (
                Standard,
                "v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                r#"{"test": 2432232314}"#,
                &[
                    ("svix-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
                    ("svix-timestamp", "1614265330"),
                    ("svix-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
                ],
                Some(1_614_265_330),
            ),
            (
                Github,
                "It's a Secret to Everybody",
                "Hello, World!",
                &[(
                    "x-hub-signature-256",
                    "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
                )],
                None,
            ),
            (
                Stripe,
                "whsec_test_secret_of_larder",
                content,
                &[("stripe-signature", STRIPE)],
                Some(1_763_640_000),
            ),
            (Shopify, "hush_hush_hush_hush", content, &[("x-shopify-hmac-sha256", SHOPIFY)], None),
        ] {
            let secrets = [Secret::new(secret)];
            let signed =
                Signed::read(scheme, &fields(lines)).unwrap_or_else(|field| panic!("{scheme:?}: {field}"));
            assert_eq!(signed.sent_at, sent_at.map(Timestamp::from_secs), "{scheme:?}");
            assert!(signed.is_right(scheme, &secrets, content.as_bytes()), "{scheme:?}");
            assert!(!signed.is_right(scheme, &secrets, b"{}"), "{scheme:?}");
            for without in 0..lines.len() {
                let others: Vec<_> = lines.iter().enumerate().filter(|(at, _)| *at != without).collect();
                let others: Vec<_> = others.into_iter().map(|(_, line)| *line).collect();
                let missing = Signed::read(scheme, &fields(&others)).expect_err("a field is missing");
                assert!(missing.eq_ignore_ascii_case(lines[without].0), "{scheme:?}: {missing}");
            }
        }
    }

    const STRIPE: &str =
        "t=1763640000,v0=ab,v1=d7719529d57f882108f421b1f568e3a7761506024ab34c94410223687e8a9a50";
    const SHOPIFY: &str = "pok4U9Aj75p2Ad4HWCVpKf3ZCYrmwL7YTYMzuKRQ884=";

    fn refused(scheme: WebhookScheme, lines: &[(&'static str, &str)]) {
        assert!(Signed::read(scheme, &fields(lines)).is_err(), "{scheme:?} {lines:?}");
    }

    #[test]
    fn what_leaves_open_what_was_signed_is_malformed() {
        use WebhookScheme::{Larder, Standard, Stripe};
        let (hex, base64) = ("0a".repeat(32), STANDARD.encode([10; 32]));
        let (of_larder, v1) = (format!("sha256={hex}"), format!("v1,{base64}"));
        let stripe = |head: &str| format!("{head}v1={hex}");
        for time in ["", "1.", ".5", "-1", "1e9", "now"] {
            refused(Larder, &[("larder-timestamp", time), ("larder-signature", &of_larder)]);
        }
        let twice = [("larder-timestamp", "1"), ("larder-timestamp", "1"), ("larder-signature", &of_larder)];
        refused(Larder, &twice);
        for signature in [hex.clone(), format!("sha1={hex}"), format!("sha256={hex}0"), "sha256=".into()] {
            refused(Larder, &[("larder-timestamp", "1"), ("larder-signature", &signature)]);
        }
        for (id, time) in [("a.1", "1"), ("a", "1.5"), ("a", "")] {
            let lines = [("webhook-id", id), ("webhook-timestamp", time), ("webhook-signature", v1.as_str())];
            refused(Standard, &lines);
        }
        // The fields of one family belong together.
        refused(Standard, &[("svix-id", "a"), ("webhook-timestamp", "1"), ("svix-signature", &v1)]);
        refused(Standard, &[("webhook-id", "a"), ("svix-timestamp", "1"), ("svix-signature", &v1)]);
        for line in
            [stripe("t=1,t=2,"), stripe(""), stripe("t=1.5,"), "t=1".into(), stripe(&"v0=a,".repeat(99))]
        {
            refused(Stripe, &[("stripe-signature", &line)]);
        }
    }

    #[test]
    fn a_bounded_number_of_signatures_is_tried() {
        let line = vec![format!("sha256={}", "0a".repeat(32)); 99].join(",");
        let signed = Signed::read(WebhookScheme::Github, &fields(&[("x-hub-signature-256", &line)]));
        assert_eq!(signed.map(|signed| signed.signatures.len()), Ok(MAX_SIGNATURES));
    }

    #[test]
    fn a_time_is_digits_with_at_most_six_after_the_point() {
        for (text, expected) in [
            ("1763640000", Some(1_763_640_000_000_000)),
            ("1763640000.5", Some(1_763_640_000_500_000)),
            ("1763640000.000001", Some(1_763_640_000_000_001)),
            ("0", Some(0)),
            ("", None),
            ("1.", None),
            (".5", None),
            ("1.0000001", None),
            ("-1", None),
            ("+1", None),
            ("1e9", None),
            (" 1", None),
            ("99999999999999999999", None),
            ("18446744073709551615", None),
        ] {
            assert_eq!(parse_micros(text), expected, "{text}");
        }
    }
}
