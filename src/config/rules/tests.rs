use super::*;

fn parse(text: &str) -> Result<Rules, ConfigErrors> {
    Rules::parse(text, "rules.yaml", &|name| (name == "WHO").then(|| "ann".to_owned()))
}

#[test]
fn a_file_of_rules_is_read_whole() {
    let rules = parse(
        "config: a.yaml
tests:
  - name: one
    request: /a?b=1
    headers: {Accept: [a, b]}
    jwt: {sub: '${WHO}'}
    expect: {decision: lookup, ttl: 30s, tags: [x], differs_from: two}
  - name: two
    request: POST https://api.example/a
    data: '{}'
    response: {status: 404, headers: {Cache-Control: no-store}, body: '[]'}
    expect: {purges: [], same_as: [one], ttl: none}
",
    )
    .unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(rules.config, Path::new("a.yaml"));
    let [one, two] = &rules.tests[..] else { panic!("two tests") };
    assert_eq!((one.method.as_str(), one.target.as_str()), ("GET", "/a?b=1"));
    assert_eq!(one.headers.get_all("accept").iter().count(), 2);
    // {"sub":"ann"}
    assert_eq!(one.headers["authorization"], "Bearer e30.eyJzdWIiOiJhbm4ifQ.unsigned");
    assert_eq!(one.expect.differs_from[0].value, 1);
    assert_eq!(one.expect.ttl.as_ref().and_then(|ttl| ttl.value), Some(Duration::from_secs(30)));
    assert_eq!((two.method.as_str(), two.status.as_u16()), ("POST", 404));
    assert_eq!(two.headers["content-type"], "application/json");
    assert_eq!(two.body.as_deref(), Some(&b"[]"[..]));
    assert_eq!(two.expect.ttl.as_ref().map(|ttl| ttl.value), Some(None));
    assert_eq!(two.expect.purges.as_ref().map(|purges| purges.value.len()), Some(0));
}

#[test]
fn all_that_is_wrong_is_said_at_once_with_its_line_and_the_fix() {
    let errors = parse(
        "confg: a.yaml
tests:
  - name: one
    request: GET nowhere
    expect: {tag: [x], ttl: soon, decision: cached}
  - name: one
    request: /a
    response: {status: fine}
    expect: {same_as: onn, stored: perhaps}
  - request: /b
",
    )
    .expect_err("nearly all of it is wrong")
    .to_string();
    for part in [
        "rules.yaml:1:1: error: unknown key `confg`",
        "did you mean `config`?",
        "rules.yaml:4:14: error: `nowhere` is not a path or a URL",
        "did you mean `tags`?",
        "`soon` is not a duration",
        "unknown value `cached`",
        "rules.yaml:6:11: error: two tests have the name `one`",
        "`fine` is not a status",
        "no test has the name `onn`",
        "did you mean `one`?",
        "`perhaps` is neither `true` nor `false`",
        "a test has no `name`",
        "a test has no `expect`",
    ] {
        assert!(errors.contains(part), "{part}\n{errors}");
    }
}

#[test]
fn no_bytes_make_it_panic() {
    for text in [
        "",
        "-",
        "tests",
        "tests: 7",
        "tests: [7]",
        "tests: [{}]",
        "tests: [{expect: []}]",
        "\0",
        "a: &a [*a]",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
}
