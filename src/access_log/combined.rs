//! Apache's combined format: `%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"`.
//!
//! Client-controlled values are escaped as Apache does, against forged lines.

use std::io::Write;

use super::{AccessRecord, ClientText, time};

pub(super) fn write(facts: &AccessRecord, out: &mut Vec<u8>) {
    match facts.client {
        Some(client) => _ = write!(out, "{client}"),
        None => out.push(b'-'),
    }
    _ = write!(out, " - - [{}] \"", time::format_clf(facts.at));
    match &facts.line {
        Some(line) => {
            escape(line.method.as_bytes(), out);
            out.push(b' ');
            escape(line.target.as_bytes(), out);
            // Formats as `HTTP/1.1` and `HTTP/2.0`.
            _ = write!(out, " {:?}", line.version);
        }
        None => out.push(b'-'),
    }
    _ = write!(out, "\" {} ", facts.status());
    match facts.bytes {
        0 => out.push(b'-'),
        bytes => _ = write!(out, "{bytes}"),
    }
    for field in [&facts.referer, &facts.user_agent] {
        out.extend_from_slice(b" \"");
        match field.as_ref().map(ClientText::as_bytes) {
            Some(value) => escape(value, out),
            None => out.push(b'-'),
        }
        out.push(b'"');
    }
    out.push(b'\n');
}

fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b' '..=b'~' => out.push(*byte),
            8 => out.extend_from_slice(b"\\b"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            11 => out.extend_from_slice(b"\\v"),
            _ => _ = write!(out, "\\x{byte:02x}"),
        }
    }
}
