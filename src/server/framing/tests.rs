use super::*;

/// Scans `text` at once and in pieces.
fn scan(text: &str) -> Result<FramingScanner, FramingFault> {
    let mut whole = FramingScanner::new(8192);
    let found = whole.feed(text.as_bytes());
    for piece in [1, 2, 3, 7] {
        let mut scanner = FramingScanner::new(8192);
        let in_pieces = text.as_bytes().chunks(piece).try_for_each(|part| scanner.feed(part));
        assert_eq!(in_pieces.is_ok(), found.is_ok(), "in pieces of {piece}: {text:?}");
        assert!(
            found.is_err() || scanner.is_within_head() == whole.is_within_head(),
            "in pieces of {piece}: {text:?}"
        );
    }
    found.map(|()| whole)
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

#[test]
fn requests_with_one_reading_are_followed_to_their_end() {
    for text in [
        GET.to_string(),
        format!("\r\n{GET}\r\n{GET}"),
        "GET / HTTP/1.0\r\n\r\n".to_string(),
        get("Content-Length: 3\r\n") + "abc" + GET,
        get("Content-Length: 0\r\n") + GET,
        get("content-length:\t3 \r\n") + "\r\n\r" + GET,
        get("Transfer-Encoding: Chunked\r\n") + "3\r\nabc\r\n0\r\n\r\n" + GET,
        get("Transfer-Encoding: chunked\r\n")
            + "3;x=\"1\"\r\nabc\r\nA\r\n0123456789\r\n000\r\nX: 1\r\nY: 2\r\n\r\n"
            + GET,
        get("X: \r\n") + GET,
    ] {
        let scanner = scan(&text).unwrap_or_else(|fault| panic!("{text:?}: {fault:?}"));
        assert!(!scanner.is_within_head(), "{text:?}");
        assert!(matches!(scanner.state, ScannerState::Head), "{text:?}: {:?}", scanner.state);
    }
}

#[test]
fn a_head_with_two_readings_is_told_with_its_beginning() {
    for fields in [
        "Host: a\r\n",
        "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Content-Length: 1, 1\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: \r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding:\x0bchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "X: 1\n",
        "X: 1\r\n folded\r\n",
        "X: 1\r2\r\n",
        "no colon\r\n",
        ": 1\r\n",
    ] {
        let text = get(fields);
        assert_eq!(scan(&text).err(), Some(FramingFault::Head { begins: 0 }), "{fields:?}");
        let after = format!("{GET}{text}");
        assert_eq!(scan(&after).err(), Some(FramingFault::Head { begins: GET.len() }), "{fields:?}");
    }
    for text in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "\n",
        "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        assert_eq!(scan(text).err(), Some(FramingFault::Head { begins: 0 }), "{text:?}");
    }
}

#[test]
fn a_target_with_a_fragment_is_refused_in_each_form() {
    for target in ["/a#b", "#", "/a?b#", "/#!/a", "http://a/#b", "*#"] {
        let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(scan(&text).err(), Some(FramingFault::Head { begins: 0 }), "{target}");
        let after = format!("{GET}{text}");
        assert_eq!(scan(&after).err(), Some(FramingFault::Head { begins: GET.len() }), "{target}");
    }
    // A method may have one (RFC 9110 §5.6.2), and a field.
    for text in ["A#B / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), get("X: /a#b\r\n")] {
        assert!(scan(&text).is_ok(), "{text:?}");
    }
}

#[test]
fn content_belongs_to_the_request_before_it() {
    let post = get("Content-Length: 3\r\n");
    for (text, request) in [
        (post.clone(), Some(1)),
        (format!("{post}abc"), None),
        (format!("{post}abc\r\n{post}ab"), Some(2)),
        (format!("{GET}{GET}{post}a"), Some(3)),
    ] {
        assert_eq!(scan(&text).expect("valid").request_within_body(), request, "{text:?}");
    }
}

#[test]
fn broken_chunks_are_told_with_what_comes_before() {
    for (valid, broken) in [
        ("", "x\r\n"),
        ("", "\r\n"),
        ("", ";\r\n"),
        ("3", "\nabc"),
        ("3\r\nabc", "d"),
        ("3\r\nabc", "\n"),
        // Refused before anything of it has come.
        ("fffffffffffffff", "fff\r\n"),
        ("fffffffffffffff", "0"),
        ("100000000000000", "1"),
        ("0\r\nX: 1", "\n\r\n"),
        ("1;a", "\n"),
    ] {
        let before = get("Transfer-Encoding: chunked\r\n") + valid;
        let fault = FramingFault::Body { ends: before.len() };
        assert_eq!(scan(&format!("{before}{broken}")).err(), Some(fault), "{valid:?} {broken:?}");
    }
}

#[test]
fn a_head_without_end_is_not_kept_without_end() {
    let longest = Limits::max_request_line(8192);
    for (begin, expected) in [
        ("GET /", FramingFault::RequestLine { ends: (longest - "GET /".len()) % 1024 }),
        ("GET / HTTP/1.1\r\nX: ", FramingFault::Head { begins: 0 }),
    ] {
        let mut scanner = FramingScanner::new(8192);
        assert_eq!(scanner.feed(begin.as_bytes()), Ok(()));
        assert!(scanner.is_within_head());
        let fault = (0..100).find_map(|_| scanner.feed(&[b'a'; 1024]).err());
        assert_eq!(fault, Some(expected));
    }
}

/// hyper reads large pieces from a client that has sent much.
#[test]
fn what_follows_the_end_of_a_head_in_parts_is_no_part_of_it() {
    let mut scanner = FramingScanner::new(8192);
    let text = get("Content-Length: 65536\r\n") + &"a".repeat(65536) + GET;
    let (first, rest) = text.as_bytes().split_at(10);
    assert_eq!((scanner.feed(first), scanner.feed(rest)), (Ok(()), Ok(())));
    assert!(matches!(scanner.state, ScannerState::Head) && !scanner.is_within_head());
}

#[test]
fn http_2_and_tunnels_are_not_looked_into() {
    let scanner = scan("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\n\n").unwrap();
    assert!(scanner.is_http2());
    assert!(scan(&format!("{GET}PRI * HTTP/2.0\r\n\r\n")).is_err());
    let mut scanner = FramingScanner::new(8192);
    scanner.become_opaque();
    assert_eq!(scanner.feed(b"\n\n"), Ok(()));
}

/// It may come in parts, and behind another request.
#[test]
fn a_later_minor_version_is_found_where_it_is() {
    for (version, is_later) in [("1.1", false), ("1.2", true), ("1.9", true), ("1.0", false), ("2.2", false)]
    {
        let text = format!("{GET}GET /2 HTTP/{version}\r\nHost: a\r\n\r\n");
        let at = text.rfind(version).expect("it is there") + 2;
        for piece in 1..=text.len() {
            let mut scanner = FramingScanner::new(8192);
            let mut found = Vec::new();
            for (number, part) in text.as_bytes().chunks(piece).enumerate() {
                assert_eq!(scanner.feed(part), Ok(()), "{text:?}");
                found.extend(scanner.raw_bytes().iter().map(|at| number * piece + at));
            }
            assert_eq!(
                found,
                if is_later { vec![at] } else { Vec::new() },
                "in pieces of {piece}: {version}"
            );
        }
    }
}
