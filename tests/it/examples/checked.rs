//! Every configuration of the repository, as `larder check` sees it.

use super::path;
use crate::support::{Command, Scratch};

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
