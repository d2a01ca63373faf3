//! Paths that web frameworks take for another one.

use crate::purge::{NormalizedPath, decimal_digit, split_digits};

use std::borrow::Cow;

/// The paths that a framework may take `path` for, besides itself; at most eight. A PHP front controller routes what
/// stands behind its own name: `/items/7` of `/index.php/items/7`.
pub(in crate::policy) fn framework_readings(path: &NormalizedPath) -> Vec<NormalizedPath> {
    let mut readings = spelled_otherwise(path);
    for routed in paths_of_front_controller(path) {
        for reading in spelled_otherwise(&routed).into_iter().chain([routed]) {
            if reading != *path && !readings.contains(&reading) {
                readings.push(reading);
            }
        }
    }
    readings
}

const MAX_SCRIPT_PATH_BYTES: usize = 2048;

/// The path behind the first segment that names a PHP script, and that path below the script's folder. None of a path that
/// is longer than any API's: each reading is hashed with all that lies above it.
fn paths_of_front_controller(path: &NormalizedPath) -> Vec<NormalizedPath> {
    if path.as_str().len() > MAX_SCRIPT_PATH_BYTES {
        return Vec::new();
    }
    let Some((before, behind)) = path.as_str().split_once(".php/") else { return Vec::new() };
    let folder = before.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut routed = vec![NormalizedPath::new(&format!("/{behind}"))];
    if !folder.is_empty() {
        routed.push(NormalizedPath::new(&format!("{folder}/{behind}")));
    }
    routed
}

/// The path in other spellings; at most two. Routers drop white space or a newline at the end, converters to numbers take
/// white space, a sign, leading zeros, Python's `1_0`, `0x7`, and the digits of other scripts, and Rails, Django REST
/// framework, Spring and API Platform take `/courses/7.json` for `/courses/7`. To Rails and Grape anything is a format:
/// `[^./?]+`.
fn spelled_otherwise(path: &NormalizedPath) -> Vec<NormalizedPath> {
    let segments = path.as_str().trim_start_matches('/').split('/');
    let is_read_otherwise = |segment: &str| number(trimmed(segment)) != segment || is_grouped(segment);
    let has_format = segments.clone().next_back().is_some_and(|last| without_format(last).is_some());
    let mut readings = Vec::new();
    if !has_format && !segments.clone().any(is_read_otherwise) {
        return readings;
    }
    let mut add = |segments: &[&str]| {
        let reading = NormalizedPath::new(&format!("/{}", segments.join("/")));
        if reading != *path && !readings.contains(&reading) {
            readings.push(reading);
        }
    };
    let segments: Vec<Cow<'_, str>> = segments.map(ungrouped_number).filter(|s| !s.is_empty()).collect();
    let mut segments: Vec<&str> = segments.iter().map(|segment| &**segment).collect();
    add(&segments);
    if let Some(last) = segments.pop()
        && let Some(without) = without_format(last)
    {
        let without = ungrouped_number(without);
        segments.push(&without);
        add(&segments);
    }
    readings
}

fn trimmed(segment: &str) -> &str {
    segment.trim_matches(|c: char| c.is_whitespace() || c.is_control())
}

/// A number in decimal digits, without sign and leading zeros.
fn number(segment: &str) -> Cow<'_, str> {
    match split_digits(segment.strip_prefix('+').unwrap_or(segment)) {
        Some((digits, "")) => digits,
        _ => Cow::Borrowed(segment),
    }
}

/// Whether digits may be grouped by `_`.
fn is_grouped(segment: &str) -> bool {
    let is_number = |first: char| decimal_digit(first).is_some() || "+ \t\n\r".contains(first);
    segment.starts_with(is_number) && segment.contains('_')
}

/// A number without white space, sign, leading zeros, and `_` between digits.
fn ungrouped_number(segment: &str) -> Cow<'_, str> {
    let segment = trimmed(segment);
    let digits = segment.strip_prefix('+').unwrap_or(segment);
    let is_number = digits.chars().all(|c| c == '_' || decimal_digit(c).is_some());
    match is_number && is_grouped(segment) {
        true => Cow::Owned(number(&digits.replace('_', "")).into_owned()),
        false => number(segment),
    }
}

fn without_format(segment: &str) -> Option<&str> {
    let (name, _) = segment.rsplit_once('.')?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_readings_of_a_path_are_found() {
        for (path, expected) in [
            ("/courses/7", &[][..]),
            ("/courses/a.b/x", &[]),
            ("/", &[]),
            ("/.json", &[]),
            ("/courses/7.json", &["/courses/7"]),
            ("/courses/7.0", &["/courses/7"]),
            ("/courses/7.", &["/courses/7"]),
            ("/courses/007.json", &["/courses/7"]),
            ("/users/ME.Json", &["/users/me"]),
            ("/courses/7.json%0a", &["/courses/7.json", "/courses/7"]),
            ("/courses/7%0a", &["/courses/7"]),
            ("/courses/%20+07%20/x", &["/courses/7/x"]),
            ("/courses/000", &["/courses/0"]),
            ("/files/v1.2.tar.gz", &["/files/v1.2.tar"]),
            ("/files/a.a-long-one~for!a@format", &["/files/a"]),
            ("/users/me.x%20", &["/users/me.x", "/users/me"]),
            ("/courses/10.000000000000", &["/courses/10"]),
            ("/courses/1_0", &["/courses/10"]),
            ("/courses/+0_10.x/a_b", &[]),
            ("/courses/+0_10.x", &["/courses/10"]),
            ("/courses/a_1/b", &[]),
            ("/courses/7_a", &[]),
            ("/courses/%EF%BC%97", &["/courses/7"]),
            ("/index.php/courses/7", &["/courses/7"]),
            ("/Index.PHP/courses/07.json", &["/index.php/courses/7", "/courses/7", "/courses/07.json"]),
            ("/shop/app_dev.php/courses/7", &["/courses/7", "/shop/courses/7"]),
            ("/a.php/b.php/c", &["/b.php/c"]),
            ("/index.php", &["/index"]),
            ("/index.php/", &["/index"]),
            ("/index.phps/courses", &[]),
            (&format!("/{}/index.php/courses", "x".repeat(2048)), &[]),
            ("/courses/\u{667}/x", &["/courses/7/x"]),
            ("/courses/\u{661}_\u{660}.x", &["/courses/10"]),
            ("/courses/0x7", &["/courses/7"]),
            ("/courses/0X0F.json", &["/courses/15"]),
            ("/courses/0b111", &["/courses/7"]),
            ("/courses/7-slug/7abc/7,8/7e0/0xg/a7", &[]),
        ] {
            let readings = framework_readings(&NormalizedPath::new(path));
            assert_eq!(readings.iter().map(NormalizedPath::as_str).collect::<Vec<_>>(), expected, "{path}");
        }
    }
}
