//! Safe methods (RFC 9110 §9.2.1).

use http::Method;

/// The methods other than GET and HEAD that IANA's HTTP Method Registry lists as safe.
const OTHER_SAFE_METHODS: [&str; 7] = ["OPTIONS", "TRACE", "PRI", "PROPFIND", "QUERY", "REPORT", "SEARCH"];

/// Whether a method is registered as safe. Names are case-sensitive (RFC 9110 §9.1); unknown methods may write.
pub(crate) fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD) || OTHER_SAFE_METHODS.contains(&method.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_methods_registered_as_safe_are_safe() {
        let is_safe = |name: &str| super::is_safe(&Method::from_bytes(name.as_bytes()).expect(name));
        for name in ["GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "QUERY", "REPORT", "SEARCH", "PRI"] {
            assert!(is_safe(name), "{name}");
        }
        for name in ["POST", "PUT", "PATCH", "DELETE", "LOCK", "MKCOL", "FOO", "get", "Query", "SEARCHES"] {
            assert!(!is_safe(name), "{name}");
        }
    }
}
