//! The files in the repository: the annotated reference, and the ready-made configurations.

use std::path::{Path, PathBuf};

use super::right;
use crate::config::root::RootFields;
use crate::config::settings::Settings;
use crate::config::{Config, SettingOverrides};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Loads a file with no variable set.
fn load(path: &Path) -> Config {
    let text = std::fs::read_to_string(path).expect("a file");
    let name = path.display().to_string();
    Config::parse(&text, &name, &|_| None, &SettingOverrides::default())
        .unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn every_ready_made_configuration_loads_without_a_warning() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(repository().join("config")).expect("the folder") {
        let path: PathBuf = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let config = load(&path);
            assert!(config.warnings.is_empty(), "{:?}", config.warnings);
            assert!(!config.routes.is_empty(), "{}", path.display());
            names.push(path.file_stem().expect("a name").to_string_lossy().into_owned());
        }
    }
    names.sort();
    assert_eq!(names, ["analytics", "catalogue", "courses", "permissive", "productivity", "signed-urls"]);
}

#[test]
fn the_reference_has_every_key_and_says_the_built_in_defaults() {
    let path = repository().join("proxy.yaml");
    let text = std::fs::read_to_string(&path).expect("the reference");
    check_keys(&text);
    let (reference, plain) = (load(&path), right(""));
    assert!(reference.warnings.is_empty(), "{:?}", reference.warnings);
    let settings = |config: &Config| {
        format!("{:?}", Config { routes: Vec::new(), source: String::new(), ..config.clone() })
    };
    assert_eq!(settings(&reference), settings(&plain));
}

/// Every key is in the text, as a key or in the comment that explains its section.
fn check_keys(text: &str) {
    for section in RootFields::SECTION.descendants() {
        for key in section.keys() {
            let written = format!("{}:", key.name);
            assert!(text.contains(&written), "`{}` of {} is not in proxy.yaml", key.name, section.name);
        }
    }
}

#[test]
fn the_reference_defaults_are_the_built_in_ones() {
    let text = std::fs::read_to_string(repository().join("proxy.yaml")).expect("the reference");
    let (before, _) = text.split_once("\nroutes:").expect("routes");
    let parse = |text: &str| {
        let text = format!("{text}\nroutes: [{{path: /a}}]\n");
        let config = Config::parse(&text, "proxy.yaml", &|_| None, &SettingOverrides::default())
            .expect("a right file");
        format!("{:?}", config.routes)
    };
    assert_eq!(parse(before), parse("upstream: http://127.0.0.1:3000"));
}
