//! Paths that web frameworks take for another one.

use crate::purge::NormalizedPath;

/// The longest suffix that names a format: `.jsonapi`, `.geojson`, `.protobuf`.
const MAX_FORMAT_BYTES: usize = 10;

/// The paths that a framework may take `path` for, besides itself; at most two. Routers drop white space or a newline at
/// the end, converters to numbers take white space, a sign and leading zeros, and Rails, Django REST framework, Spring and
/// API Platform take `/courses/7.json` for `/courses/7`.
pub(in crate::policy) fn framework_readings(path: &NormalizedPath) -> Vec<NormalizedPath> {
    let segments = path.as_str().trim_start_matches('/').split('/');
    let is_read_otherwise = |segment: &str| number(trimmed(segment)) != segment;
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
    let segments = segments.map(|segment| number(trimmed(segment)));
    let mut segments: Vec<&str> = segments.filter(|segment| !segment.is_empty()).collect();
    add(&segments);
    if let Some(last) = segments.last_mut()
        && let Some(without) = without_format(last)
    {
        *last = number(trimmed(without));
        add(&segments);
    }
    readings
}

fn trimmed(segment: &str) -> &str {
    segment.trim_matches(|c: char| c.is_whitespace() || c.is_control())
}

/// A number without sign and leading zeros.
fn number(segment: &str) -> &str {
    let digits = segment.strip_prefix('+').unwrap_or(segment);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return segment;
    }
    match digits.trim_start_matches('0') {
        "" => "0",
        number => number,
    }
}

fn without_format(segment: &str) -> Option<&str> {
    let (name, format) = segment.rsplit_once('.')?;
    let is_format =
        format.len() <= MAX_FORMAT_BYTES && format.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (is_format && !name.is_empty()).then_some(name)
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
            ("/files/a.much-too-long-for-a-format", &[]),
        ] {
            let readings = framework_readings(&NormalizedPath::new(path));
            assert_eq!(readings.iter().map(NormalizedPath::as_str).collect::<Vec<_>>(), expected, "{path}");
        }
    }
}
