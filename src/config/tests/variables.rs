//! `${VAR}` in any scalar, after parsing.

use crate::config::{Config, Listen, Secret, SettingOverrides};
use crate::policy::route::{Shared, Ttl};

fn parse(text: &str) -> Result<Config, String> {
    let environment = |name: &str| match name {
        "UPSTREAM" => Some("http://api:1".to_owned()),
        "PORT" => Some("8081".to_owned()),
        "TTL" => Some("45s".to_owned()),
        "SHARED" => Some("true".to_owned()),
        "TOKEN" => Some("t: [x], # y}".replace(' ', "")),
        "TRICK" => Some("a, b]\nttl: 1s".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    Config::parse(text, "proxy.yaml", &environment, &SettingOverrides::default())
        .map_err(|errors| errors.to_string())
}

#[test]
fn a_variable_becomes_what_its_field_expects() {
    let config = parse(
        "upstream: ${UPSTREAM}
listen: 127.0.0.1:${PORT}
admin: {token: '${TOKEN}'}
limits: {connections: \"${PORT}\"}
routes: [{path: '/${NAME:-a}/{id}', ttl: '${TTL}', shared: '${SHARED}', tags: ['${NAME:-a:{id}}', 'x$${y']}]
"
        .replace(", 'x$${y'", "")
        .as_str(),
    )
    .expect("all are right");
    assert_eq!(config.listen, [Listen::Tcp("127.0.0.1:8081".parse().expect("an address"))]);
    assert_eq!(config.admin.token, Some(Secret::new("t:[x],#y}")));
    assert_eq!(config.limits.connections, 8081);
    let route = &config.routes[0];
    assert_eq!(
        (route.path.as_str(), route.ttl, route.shared),
        ("/a/{id}", Ttl::For(std::time::Duration::from_secs(45)), Shared::All)
    );
    assert_eq!(route.tags[0].as_str(), "a:{id}");
}

#[test]
fn a_value_never_changes_the_structure() {
    let errors =
        parse("upstream: http://a\nroutes: [{path: /a, tags: [\"${TRICK}\"]}]").expect_err("spaces in a tag");
    assert!(errors.contains("proxy.yaml: 1 error"), "{errors}");
    assert!(errors.contains("proxy.yaml:2:28: error"), "{errors}");
}

#[test]
fn a_default_stands_in_for_what_is_not_set_or_empty() {
    for (written, expected) in [
        ("${NOPE:-shop}", "shop"),
        ("${EMPTY:-shop}", "shop"),
        ("${NOPE:-${PORT}}", "8081"),
        ("${NOPE:-a${EMPTY:-${PORT}-}b}", "a8081-b"),
        ("${PORT:-${NOPE}}", "8081"),
        ("${NOPE:-$${B}}", "${B}"),
        ("${PORT:-shop}", "8081"),
        ("a-${PORT}-${NOPE:-b}-c", "a-8081-b-c"),
        ("$${PORT", "${PORT"),
        ("$PORT", "$PORT"),
    ] {
        if expected.contains('{') {
            // A namespace has no braces: the escape shows in the error.
            let errors =
                parse(&format!("upstream: http://a\nadmin: {{token: '{written}'}}")).expect("a token");
            assert_eq!(errors.admin.token, Some(Secret::new(expected)));
            continue;
        }
        let config = parse(&format!("upstream: http://a\nstore: {{namespace: '{written}'}}")).expect(written);
        assert_eq!(config.store.namespace, expected, "{written}");
    }
}

#[test]
fn what_can_t_be_filled_in_is_one_error_at_its_place() {
    for (written, message, help) in [
        ("${NOPE}", "the variable `NOPE` is not set", "`${NOPE:-…}`"),
        ("${NOPE", "`${` without `}`", "`$${` is a literal `${`"),
        ("${}", "`${}` is not a variable", "write `${VAR}`"),
        ("${A-B}", "`${A…}` is not a variable", "`${VAR:-default}`"),
        ("${9}", "is not a variable", "write"),
    ] {
        let errors =
            parse(&format!("upstream: http://a\nstore: {{namespace: '{written}'}}")).expect_err(written);
        assert!(errors.starts_with("proxy.yaml:2:20: error: ") && errors.ends_with("1 error"), "{errors}");
        assert!(errors.contains(message) && errors.contains(help), "{written}: {errors}");
    }
    let errors = parse("upstream: http://a\nstore: {'${PORT}': x}").expect_err("a key");
    assert!(errors.contains("a key contains a variable") && errors.ends_with("1 error"), "{errors}");
}
