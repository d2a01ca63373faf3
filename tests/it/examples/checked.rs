//! Every configuration of the repository, as `larder check` sees it, and under the variables that it names.

use larder::config::{Config, ConfigErrors, Listen, SettingOverrides, UpstreamAddress};

use super::{path, text};
use crate::support::{Answer, Command, Process, Scratch, Upstream, free_port};

#[tokio::test]
async fn every_configuration_passes_larder_check_without_a_warning() {
    let mut files = vec![path("proxy.yaml"), path("src/cli/demo/proxy.yaml")];
    for entry in std::fs::read_dir(path("config")).expect("a folder") {
        let file = entry.expect("an entry").path();
        files.extend(file.extension().is_some_and(|extension| extension == "yaml").then_some(file));
    }
    assert!(files.len() >= 7, "{files:?}");
    for file in files {
        let name = file.to_str().expect("a path");
        let said = Command::new(&["check", name]).stdout().await;
        assert!(said.starts_with(&format!("{name}: no errors; ")), "{said}");
    }
}

#[tokio::test]
async fn the_demo_prints_a_configuration_that_passes_too() {
    let printed = Command::new(&["demo", "--print-config"]).stdout().await;
    let scratch = Scratch::new();
    let file = scratch.file("proxy.yaml", &printed);
    let said = Command::new(&["check", file.to_str().expect("a path")]).stdout().await;
    assert!(said.contains(": no errors; 4 routes"), "{said}");
}

#[tokio::test]
async fn a_case_runs_by_its_file_and_one_variable() {
    let api = Upstream::start();
    api.on("/api/courses", Answer::json("{\"courses\": []}"));
    let [proxy, admin] = [free_port(), free_port()];
    let (listen, operate) = (format!("127.0.0.1:{proxy}"), format!("127.0.0.1:{admin}"));
    let file = path("config/courses.yaml");
    let file = file.to_str().expect("a path");
    let command = Command::new(&["--config", file, "--listen", &listen, "--admin", &operate]);
    let command = command.env("COURSES_API", &api.url()).env("LARDER_WARM", "off");
    let larder = Process::spawn(command, Scratch::new(), proxy, admin).await;
    larder.get("/api/courses").await.assert_stored();
    larder.get("/api/courses?page=1").await.assert_hit();
    assert_eq!(api.count("/api/courses"), 1);
}

/// File, the variable for its upstream, and the namespace without one.
const FILES: [(&str, &str, &str); 5] = [
    ("config/analytics.yaml", "ANALYTICS_API", "analytics"),
    ("config/courses.yaml", "COURSES_API", "courses"),
    ("config/catalogue.yaml", "SHOP_API", "shop"),
    ("config/productivity.yaml", "APP_API", "tk"),
    ("config/signed-urls.yaml", "FORUM_API", "forum-dev"),
];

#[test]
fn one_file_serves_every_environment() {
    for (file, api, namespace) in FILES {
        let parse = |environment: &[(&str, &str)]| -> Result<Config, ConfigErrors> {
            let variable = |name: &str| {
                environment.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
            };
            Config::parse(&text(file), file, &variable, &SettingOverrides::default())
        };
        let plain = parse(&[]).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(plain.store.namespace, namespace, "{file}");
        assert_eq!(plain.admin.token, None, "{file}");

        let production = parse(&[
            (api, "https://api.example.com"),
            ("LARDER_NAMESPACE", "production"),
            ("LARDER_ADMIN_TOKEN", "open-sesame"),
            ("LARDER_LISTEN_ON", "0.0.0.0:80"),
            ("LARDER_HOST", "https://www.example.com"),
        ]);
        let production = production.unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(production.store.namespace, "production", "{file}");
        assert_eq!(production.admin.token.expect("a token").expose(), "open-sesame", "{file}");
        assert_eq!(production.listen, [Listen::Tcp(([0, 0, 0, 0], 80).into())], "{file}");
        let expected = UpstreamAddress::Https { authority: "api.example.com".into() };
        assert_eq!(production.upstream.addresses, [expected], "{file}");
    }
}

#[test]
fn signed_urls_log_as_much_as_the_environment_says() {
    let level = |said: Option<&str>| {
        let variable = |name: &str| said.filter(|_| name == "LARDER_LOG_LEVEL").map(str::to_owned);
        let file = "config/signed-urls.yaml";
        Config::parse(&text(file), file, &variable, &SettingOverrides::default())
            .expect("a right file")
            .log
            .level
    };
    assert_eq!((level(None).as_str(), level(Some("debug")).as_str()), ("info", "debug"));
}
