use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::super::parse_time;
use super::*;

/// 2100-01-01.
const LAST: u64 = 4_102_444_800;

fn end(url: &str) -> Result<Option<u64>, UnreadableEnd> {
    end_with(url, None)
}

fn end_with(url: &str, named: Option<&str>) -> Result<Option<u64>, UnreadableEnd> {
    let parse = |text: &str| parse_time(text, Timestamp::from_secs(0));
    parse_end(url, named, parse).map(|end| end.map(|end| end.as_secs()))
}

/// The civil date of a number of days since 1970, by counting.
fn civil(days: u64) -> (u64, u64, u64) {
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut left) = (1970, days);
    while left >= 365 + u64::from(is_leap(year)) {
        left -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

/// A time as signers write it: in the basic and in the extended form.
fn written(at: u64) -> (String, String) {
    let ((year, month, day), second) = (civil(at / 86_400), at % 86_400);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    (
        format!("{year:04}{month:02}{day:02}T{h:02}{m:02}{s:02}Z"),
        format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z"),
    )
}

/// The URLs of each kind of signer for a signature made at `begin` that is good for `life` seconds.
fn signed(begin: u64, life: u64, signature: &str) -> Vec<(&'static str, String)> {
    let (end, (basic, _), (_, extended)) = (begin + life, written(begin), written(begin + life));
    let base = "https://files.example/a%20b/c.png";
    vec![
        (
            "S3 v4",
            format!(
                "{base}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AK%2F20261129%2Feu%2Fs3%2Faws4_request\
                 &X-Amz-Date={basic}&X-Amz-Expires={life}&X-Amz-SignedHeaders=host&X-Amz-Signature={signature}"
            ),
        ),
        ("S3 v2", format!("{base}?AWSAccessKeyId=AK&Signature={signature}%3D&Expires={end}")),
        (
            "Google v4",
            format!(
                "{base}?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Date={basic}&X-Goog-Expires={life}\
                 &X-Goog-Signature={signature}"
            ),
        ),
        ("Google v2", format!("{base}?GoogleAccessId=a%40b&Expires={end}&Signature={signature}")),
        ("Alibaba v4", format!("{base}?x-oss-date={basic}&x-oss-expires={life}&x-oss-signature={signature}")),
        ("Alibaba v1", format!("{base}?OSSAccessKeyId=AK&Expires={end}&Signature={signature}")),
        (
            "Azure",
            format!("{base}?sv=2025-01-05&sr=b&se={}&sp=r&sig={signature}%3D", extended.replace(':', "%3A")),
        ),
        ("CloudFront", format!("{base}?Expires={end}&Signature={signature}__&Key-Pair-Id=K#top")),
        ("a CDN", format!("{base}?token={signature}&expires={end}")),
        (
            "CloudFront, by policy",
            format!("{base}?Policy={}&Signature={signature}__&Key-Pair-Id=K", policy(end)),
        ),
        ("Discord", format!("{base}?ex={end:x}&is={begin:x}&hm={signature}&")),
        (
            "Tencent",
            format!("{base}?q-sign-time={begin};{end}&q-key-time={begin}%3B{end}&q-signature={signature}"),
        ),
        ("a JWT", format!("{base}?token={}", jwt(end, signature))),
        ("ImageKit", format!("{base}?ik-t={end}&ik-s={signature}")),
        ("Akamai", format!("{base}?hdnts=st={begin}~exp={end}~acl=/*~hmac={signature}")),
    ]
}

fn jwt(end: u64, signature: &str) -> String {
    let claims = BASE64_URL_SAFE_NO_PAD.encode(format!("{{\"url\":\"a/b\",\"exp\":{end}}}"));
    format!("eyJhbGciOiJIUzI1NiJ9.{claims}.{signature}")
}

/// In CloudFront's alphabet.
fn policy(end: u64) -> String {
    let json = format!(
        "{{\"Statement\":[{{\"Resource\":\"https://files.example/*?>\",\"Condition\":{{\"DateLessThan\":\
         {{\"AWS:EpochTime\":{end}}}}}}}]}}"
    );
    BASE64_STANDARD.encode(json).replace('+', "-").replace('=', "_").replace('/', "~")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn the_end_of_every_signer_is_read(begin in 0..LAST, life in 1_u64..604_800, signature in "[0-9a-f]{64}") {
        for (kind, url) in signed(begin, life, &signature) {
            prop_assert_eq!(end(&url), Ok(Some(begin + life)), "{}: {}", kind, url);
        }
    }

    #[test]
    fn a_url_without_its_time_is_unreadable(begin in 0..LAST, life in 1_u64..604_800, signature in "[0-9a-f]{64}") {
        for (kind, url) in signed(begin, life, &signature) {
            let query = url.split_once('?').unwrap().1.split('#').next().unwrap();
            let is_time = |pair: &&str| {
                let name = pair.split('=').next().unwrap().to_ascii_lowercase();
                let ends = ["se", "policy", "ex", "q-sign-time", "q-key-time", "ik-t"];
                name.ends_with("expires") || ends.contains(&name.as_str())
            };
            let left: Vec<_> = query.split('&').filter(|pair| !is_time(pair)).collect();
            let left = left.join("&").replace(&jwt(begin + life, &signature), &jwt(0, &signature).replace('.', "-"));
            let url = format!("https://files.example/a?{}", left.replace("~exp=", "~x="));
            prop_assert_eq!(end(&url), Err(UnreadableEnd), "{}: {}", kind, url);
        }
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC{0,40}", query in "[A-Za-z0-9=&%~\\-]{0,60}") {
        let _ = end(&text);
        let _ = end_with(&format!("/a?{query}"), Some("exp"));
    }
}

#[test]
fn text_without_a_signature_has_no_end() {
    for text in [
        "",
        "hello",
        "https://a/b",
        "https://a/b?size=2&page=1",
        "/a?se=2026-11-29",
        "/a?t=dark&e=5",
        "/a?t=dark&e=a&e=b",
        "/a?st=open&e=soon",
        "/a?e=1795952400",
        "? a &Expires=1",
        "a#?Expires=1",
    ] {
        assert_eq!(end(text), Ok(None), "{text}");
    }
}

#[test]
fn a_signature_whose_end_is_not_clear_is_unreadable() {
    for url in [
        "/a?Signature=x&Policy=e30_",
        "/a?Expires=soon",
        "/a?Expires=-1",
        "/a?Expires=",
        "/a?Expires=1&Expires=2",
        "/a?X-Amz-Expires=60",
        "/a?X-Amz-Date=20261129T114000Z&X-Amz-Expires=x",
        "/a?X-Amz-Date=20261129&X-Amz-Expires=60",
        "/a?X-Amz-Date=20261329T114000Z&X-Amz-Expires=60",
        "/a?sig=x&se=tomorrow",
        "/a?sig=x&si=policy",
        "/a?amp;Signature=x",
        "/a?q-sign-time=1&q-signature=x",
        "/a?Authorization=3_20261129_x",
        "/a?ex=xyz&hm=x",
        "/a?is=1&hm=x",
        "/a?oe=zz&oh=x",
        "/a?txSecret=x",
        "/exp=soon~hmac=x/a",
        "/acl=*~hmac=x/a?b=1",
        "/bcdn_token=x/a",
        "/a?verify=1795952400-x",
        "/a?token=x",
        "/a?_upt=abcd1234",
        "/a?_upt=1795952400x",
    ] {
        assert_eq!(end(url), Err(UnreadableEnd), "{url}");
    }
}

#[test]
fn short_names_of_signatures_and_ends_are_read() {
    for url in [
        "/a?e=1795952400&v=beta&t=AbC-def",
        "/a.mp4?st=kZxTqyM0l7d8bJ9&e=1795952400",
        "/a?_upt=abcd12341795952400",
    ] {
        assert_eq!(end(url), Ok(Some(1_795_952_400)), "{url}");
    }
}

#[test]
fn the_earliest_of_several_ends_counts() {
    assert_eq!(end("/a?Expires=1000&X-Amz-Date=19700101T000500Z&X-Amz-Expires=60"), Ok(Some(360)));
    assert_eq!(end("/a?sig=x&se=1970-01-02&expires=100000"), Ok(Some(86_400)));
    assert_eq!(end("/a?sig=x&se=1970-01-02T01:00Z"), Ok(Some(90_000)));
    assert_eq!(end("/a?sig=x&se=1970-01-03&ske=1970-01-02"), Ok(Some(86_400)));
}

#[test]
fn urls_within_parameters_and_texts_are_read() {
    for (text, expected) in [
        ("/_next/image?w=64&url=https%3A%2F%2Ff.example%2Fa%3FExpires%3D900%26Signature%3Dx", Ok(Some(900))),
        ("/image?Expires=800&url=https%3A%2F%2Ff.example%2Fa%3FExpires%3D900", Ok(Some(800))),
        ("/image?url=%2Fa%3Ftoken%3Dx", Err(UnreadableEnd)),
        (
            "Look: ![a](https://f.example/a?Expires=900&Signature=x), [b](https://f.example/b?Expires=700).",
            Ok(Some(700)),
        ),
        ("![a](https://f.example/a?Signature=x)", Err(UnreadableEnd)),
        ("What is /a?Expires=1 about?", Ok(None)),
        // A srcset: where one URL ends is not clear.
        ("https://f.example/a?Expires=900 1x, https://f.example/b?Expires=700 2x", Err(UnreadableEnd)),
    ] {
        assert_eq!(end(text), expected, "{text}");
    }
}

#[test]
fn a_token_in_the_path_names_the_end() {
    for (url, expected) in [
        ("https://f.example/exp=900~acl=/*~hmac=ab/a.mp4", Ok(Some(900))),
        ("https://f.example/hdntl=st=1~exp=900~acl=%2f*~hmac=ab/a.mp4?w=1", Ok(Some(900))),
        ("https://f.example/bcdn_token=ab&expires=900&token_path=%2Fx%2F/x/a.mp4", Ok(Some(900))),
        ("/exp=900~hmac=ab/a?Expires=800&Signature=x", Ok(Some(800))),
        ("/exp=900/a", Ok(None)),
        ("/a~b/c=d?page=2", Ok(None)),
    ] {
        assert_eq!(end(url), expected, "{url}");
    }
}

#[test]
fn a_named_parameter_holds_a_time_or_a_token_with_one() {
    for (query, expected) in [
        ("exp=1000&token=x", Ok(Some(1000))),
        ("EXP=1970-01-01T00:10:00Z&token=x", Ok(Some(600))),
        ("exp=st%3D1~exp%3D900~acl%3D%2F*~hmac%3Dab", Ok(Some(900))),
        ("exp=900&Expires=800", Ok(Some(800))),
        ("exp=never&token=x", Err(UnreadableEnd)),
        ("other=1", Ok(None)),
        ("token=x", Err(UnreadableEnd)),
        ("token=x&exp=soon", Err(UnreadableEnd)),
        ("token=x&expiry=900", Ok(Some(900))),
        ("page=1&expiry=900", Ok(None)),
    ] {
        assert_eq!(end_with(&format!("/a?{query}"), Some("exp")), expected, "{query}");
    }
}
