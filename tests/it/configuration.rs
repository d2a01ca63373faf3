//! `proxy.yaml` as a user meets it: the files in the repository load, and a wrong file is answered with everything
//! that is wrong with it.

use std::path::Path;

use larder::config::{Config, SettingOverrides, UpstreamAddress};

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, "proxy.yaml", &|_| None, &SettingOverrides::default())
        .map_err(|errors| errors.to_string())
}

#[test]
fn the_reference_and_all_example_configurations_load() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in [
        "proxy.yaml",
        "config/analytics.yaml",
        "config/courses.yaml",
        "config/catalogue.yaml",
        "config/productivity.yaml",
        "config/signed-urls.yaml",
    ] {
        let config = Config::load(root.join(name)).unwrap_or_else(|errors| panic!("{errors}"));
        let expected = UpstreamAddress::Http { authority: "127.0.0.1:3000".into() };
        assert_eq!(config.upstream.addresses, [expected], "{name}");
        assert!(!config.routes.is_empty(), "{name}");
    }
}

#[test]
fn five_mistakes_in_a_file_are_reported_at_once() {
    let errors = parse(
        "upstream: http://127.0.0.1:3000
listen: localhost:8080
store: {memory: 256MB}
routes:
  - path: /api/courses
    tll: 30s
  - path: /api/courses/{id}
    tags: [\"course:{courseId}\"]
  - path: /api/courses/{course}
",
    )
    .expect_err("five mistakes");
    for (line, snippet, fix) in [
        (2, " 2 | listen: localhost:8080", "write `127.0.0.1:8080`"),
        (3, " 3 | store: {memory: 256MB}", "write `256MiB`"),
        (6, " 6 |     tll: 30s", "did you mean `ttl`?"),
        (8, " 8 |     tags: [\"course:{courseId}\"]", "the path has `{id}`"),
        (9, " 9 |   - path: /api/courses/{course}", "make them one route"),
    ] {
        for part in [&format!("proxy.yaml:{line}:"), snippet, fix] {
            assert!(errors.contains(part), "no `{part}` in\n{errors}");
        }
    }
    assert!(errors.ends_with("proxy.yaml: 5 errors"), "{errors}");
}

#[test]
fn a_file_that_is_not_there_is_an_error_like_any_other() {
    let errors = Config::load("/nowhere/proxy.yaml").expect_err("no file").to_string();
    assert!(errors.starts_with("/nowhere/proxy.yaml: error: the file can't be read"), "{errors}");
}
