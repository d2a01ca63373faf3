use std::time::Duration;

use http::header::{CACHE_CONTROL, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::probed::ProbedAnswer;
use super::*;
use crate::policy::not_stored::NotStored;
use crate::policy::query::QueryRule;

fn draft(path: &str, about: &str) -> Draft {
    Draft {
        about: vec![about.into()],
        settings: vec![Setting::new("upstream", scalar("http://127.0.0.1:3000"), "")],
        routes: vec![DraftRoute {
            path: path.into(),
            about: vec![about.into()],
            settings: vec![Setting::new("ttl", "30s", about)],
        }],
        questions: vec![about.into()],
    }
}

#[test]
fn every_line_is_written_with_its_reason() {
    let text = draft("/a/{id}", "why so").render();
    assert_eq!(
        text,
        "# why so
upstream: \"http://127.0.0.1:3000\"
routes:
  # why so
  - path: /a/{id}
    ttl: 30s  # why so

# ? why so
"
    );
    let wide = draft("/a", &"word ".repeat(60)).render();
    assert!(wide.lines().all(|line| line.chars().count() <= WIDTH), "{wide}");
    assert!(wide.contains("\n    ttl: 30s\n"), "a long reason stands above: {wide}");
}

#[test]
fn texts_of_others_stay_texts() {
    for hostile in [
        "a\nroutes: [{path: /b, ttl: none}]",
        "a\r- path: /b",
        "a\u{2028}upstream: http://evil",
        "a\u{85}upstream: http://evil",
        "\"]}: ${HOME} # \\",
        "",
        "   ",
        "\u{0}\u{7f}\u{feff}",
        &"x".repeat(100_000),
    ] {
        let (text, _) = draft("/a", hostile).write().unwrap_or_else(|errors| panic!("{hostile:?}: {errors}"));
        let environment = |_: &str| None;
        let config = Config::parse(&text, "draft", &environment, &SettingOverrides::default()).unwrap();
        assert_eq!(config.routes.len(), 1, "{text}");
        assert!(text.len() < 5_000, "{} bytes", text.len());
    }
}

#[test]
fn items_come_back_as_they_were() {
    for text in
        ["a b", "a: b", "\"", "\\n", "#", "[", "true", "0x10", "1e3", "é", "~", "$$", "a${b", "{x}", "- a"]
    {
        let yaml =
            format!("upstream: http://h\nroutes: [{{path: /a, ttl: 1s, query: {}}}]", sequence([text]));
        let config = Config::parse(&yaml, "t", &|_| None, &SettingOverrides::default());
        let config = config.unwrap_or_else(|errors| panic!("{yaml}: {errors}"));
        assert_eq!(config.routes[0].query, QueryRule::Only(vec![(text.to_owned(), None)]), "{yaml}");
    }
}

#[test]
fn an_answer_becomes_a_route_or_a_question() {
    let mut headers = HeaderMap::new();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
    headers.insert(VARY, HeaderValue::from_static("Accept-Language"));
    let probe = |status: u16, stored| ProbedAnswer {
        path: "/a".into(),
        status: StatusCode::from_u16(status).unwrap(),
        headers: headers.clone(),
        took: Duration::from_millis(12),
        stored,
    };
    let keys = |probe: ProbedAnswer| {
        let route = probe.to_route().expect("a route");
        route.settings.iter().map(|setting| format!("{}: {}", setting.key, setting.value)).collect::<Vec<_>>()
    };
    assert_eq!(keys(probe(200, Ok(Duration::from_secs(60)))), ["ttl: upstream"]);
    assert_eq!(keys(probe(200, Err(NotStored::NoLifetime))), ["mode: observe", "ttl: 30s"]);
    assert_eq!(keys(probe(200, Err(NotStored::Private))), ["ttl: upstream"]);
    let refused = probe(404, Err(NotStored::Status)).to_route().unwrap_err();
    assert_eq!(refused, "GET /a: 404 in 12 ms; cache-control: max-age=60; vary: Accept-Language");
}
