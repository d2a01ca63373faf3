use super::*;
use crate::clock::Timestamp;

fn combined(second: usize, request: &str, status: u16) -> String {
    let (minute, second) = (second / 60, second % 60);
    format!(
        "10.0.0.1 - - [20/Nov/2025:13:{minute:02}:{second:02} +0100] \"{request} HTTP/1.1\" {status} 12 \"-\" \"curl\""
    )
}

fn suggest(lines: &[String]) -> String {
    let log = lines.join("\n");
    let draft = draft(|| Ok(log.as_bytes()), "access.log", "http://127.0.0.1:3000")
        .unwrap_or_else(|error| panic!("{error}"));
    let (text, findings) = draft.write().unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(findings, [], "{text}");
    text
}

#[test]
fn lines_of_both_formats_are_read() {
    let at = Some(Timestamp::from_secs(1_763_640_000));
    let expected = |path: &str, query: Option<&str>| {
        let (method, path, query) = ("GET".to_owned(), path.to_owned(), query.map(str::to_owned));
        Some(LoggedRequest { at, method, path, query, status: 200 })
    };
    for (line, expected) in [
        (combined(0, "GET /a?b=1", 200), expected("/a", Some("b=1"))),
        (combined(0, "GET http://h/a", 200), expected("/a", None)),
        (
            r#"{"time":"2025-11-20T12:00:00.5Z","method":"GET","path":"/a","status":200}"#.into(),
            expected("/a", None),
        ),
        (
            r#"{"@timestamp":"2025-11-20T12:00:00Z","request":"GET /a HTTP/2.0","status":"200"}"#.into(),
            expected("/a", None),
        ),
        (
            r#"{"level":"info","ts":1763640000.12,"request":{"method":"GET","host":"h","uri":"/a?b=1"},"status":200}"#.into(),
            expected("/a", Some("b=1")),
        ),
        (
            r#"{"DownstreamStatus":200,"RequestMethod":"GET","RequestPath":"/a","StartUTC":"2025-11-20T12:00:00.1Z","time":"2025-11-20T12:00:07Z"}"#.into(),
            expected("/a", None),
        ),
        (combined(0, "\\x16\\x03", 400), None),
        (combined(0, "OPTIONS *", 200), None),
        ("".into(), None),
        ("{}".into(), None),
        (format!("\"GET /{}\" 200", "a".repeat(70_000)), None),
    ] {
        assert_eq!(LoggedRequest::parse(&line), expected, "{line}");
    }
}

#[test]
fn a_log_becomes_routes_with_counts_and_hits() {
    let mut lines = Vec::new();
    for second in 0..600 {
        lines.push(combined(second, "GET /api/courses?page=1", 200));
        lines.push(combined(second, &format!("GET /api/courses/{}", second % 50), 200));
        lines.push(combined(
            second,
            &format!("GET /api/topics/{}", ["a", "b"][second % 2].repeat(second % 30 + 1)),
            200,
        ));
    }
    lines.push(combined(30, "PATCH /api/courses/7", 200));
    lines.push(combined(31, "POST /api/login", 401));
    lines.push(combined(32, "GET /api/me", 200));
    lines.push(combined(33, "GET /api/me", 200));
    lines.push(combined(34, "GET /once", 200));
    let text = suggest(&lines);
    for expected in [
        "  # GET 600 times; hits without writes: 90 % at 10s, 98 % at 1m, 99 % at 5m, 99 % at 1h; parameters page\n",
        "  - path: /api/courses\n    ttl: 1m",
        "    tags: [courses]  # the list of courses\n",
        "  - path: /api/courses/{id}\n    ttl: 1m",
        "    tags: [\"courses:{id}\"]",
        "    purges: [courses]",
        "  - path: /api/topics/{id}\n    ttl: 30s",
        "? GET /api/me: not cached: `me` stands for the caller, and a log does not",
        "  # no write in the log changes it by its path, so only time does",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert!(!text.contains("document"), "{text}");
    assert!(!text.contains("login") && !text.contains("/once"), "{text}");
}

#[test]
fn neither_failures_nor_callers_make_values() {
    const NEVER: &str = "  - path: /users/me\n    ttl: never  # `/users/{id}` would cache it\n";
    let word = |number: usize| format!("w{}", char::from(b'a' + number as u8));
    let refused = (0..26).map(|number| combined(number, &format!("GET /api/{}", word(number)), 404));
    let users = (0..26).map(|number| combined(number, &format!("GET /users/{}", word(number)), 200));
    let own = (0..2).map(|second| combined(second, "GET /users/me", 200));
    let courses = (0..2).map(|second| combined(second, "GET /api/courses", 200));
    let text = suggest(&refused.chain(users).chain(own).chain(courses).collect::<Vec<_>>());
    for expected in
        ["  - path: /api/courses\n", "  - path: /users/{id}\n", "? GET /users/me: not cached", NEVER]
    {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

#[test]
fn hostile_logs_are_read_in_bounds() {
    let mut templates = Templates::default();
    for number in 0..20_000_u32 {
        let word =
            |number: u32| number.to_string().bytes().map(|digit| char::from(digit + 49)).collect::<String>();
        templates.learn(&format!("/{}/{}/{}", word(number % 20), word(number % 401), word(number)));
        templates.learn(&format!("/a{}", "/b".repeat(1_000)));
    }
    let (prefixes, children) = templates.sizes();
    assert!(prefixes <= 5_000 && children <= 20, "{prefixes} {children}");
    let mut traffic = Traffic::default();
    for number in 0..300_000_u64 {
        let path = format!("/p{}/{number}", "x".repeat(number as usize % 50));
        let query = Some(format!("q{number}=1&{}", "r=1&".repeat(number as usize % 30)));
        let (at, method) = (Some(Timestamp::from_secs(number)), "GET".to_owned());
        traffic.add(&templates, &LoggedRequest { at, method, path, query, status: 200 });
    }
    assert!(traffic.stats.len() <= MAX_TEMPLATES && traffic.fetched.len() <= MAX_REQUESTS);
    assert!(traffic.stats.values().all(|stats| stats.query_names.len() <= MAX_QUERY_NAMES));
    let hostile = ["GET /a\u{1b}[2J/${HOME}/{x}", "GET /%2e%2e/b", "GET /c;d/{*rest}", "GET //e", "GET /f:g"];
    let lines: Vec<_> =
        hostile.iter().flat_map(|request| [combined(1, request, 200), combined(2, request, 200)]).collect();
    suggest(&lines);
    let error = draft(|| Ok(&b"nothing\n"[..]), "access.log", "http://h").expect_err("no requests");
    assert!(error.contains("no requests"), "{error}");
}
