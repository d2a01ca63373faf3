//! The project's files agree about each other.

use super::root;

fn text(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn every_dependency_is_listed_with_its_reason() {
    let list = text("docs/dependencies.md");
    let mut in_dependencies = false;
    for line in text("Cargo.toml").lines() {
        if let Some(section) = line.strip_prefix('[') {
            in_dependencies = section.contains("dependencies]");
        } else if let (true, Some((name, _))) = (in_dependencies, line.split_once(" = ")) {
            assert!(list.contains(&format!("`{name}`")), "{name} is not in docs/dependencies.md");
        }
    }
}

/// The oldest supported Rust is stated once for cargo; every other place repeats it.
#[test]
fn the_oldest_supported_rust_is_the_same_everywhere() {
    let manifest = text("Cargo.toml");
    let stated = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).expect("an MSRV");
    let version = stated.trim_matches('"');
    for (file, expected) in [
        ("rust-toolchain.toml", format!("channel = \"{version}.0\"")),
        ("deploy/Dockerfile", format!("FROM rust:{version}-")),
        ("README.md", format!("Rust {version}")),
        ("CONTRIBUTING.md", format!("Rust {version}")),
        ("docs/dependencies.md", format!("Rust {version}")),
    ] {
        assert!(text(file).contains(&expected), "{file} does not say: {expected}");
    }
}

/// A release is one version everywhere.
#[test]
fn the_version_is_the_same_everywhere() {
    let manifest = text("Cargo.toml");
    let stated = manifest.lines().find_map(|line| line.strip_prefix("version = ")).expect("a version");
    let version = stated.trim_matches('"');
    for (file, expected) in [
        ("deploy/helm/Chart.yaml", format!("\nversion: {version}\nappVersion: {version}\n")),
        ("deploy/helm/examples/sidecar/Chart.yaml", format!("{{name: larder, version: {version},")),
        ("deploy/kubernetes/deployment.yaml", format!("/larder:{version}\n")),
        ("docs/install.md", format!("larder_{version}_amd64.deb")),
    ] {
        assert!(text(file).contains(&expected), "{file} does not say: {expected}");
    }
}

#[test]
fn the_licence_is_the_one_that_the_manifest_names() {
    assert!(text("Cargo.toml").contains("license = \"Apache-2.0\""));
    let licence = text("LICENSE");
    assert!(licence.contains("Apache License") && licence.contains("Version 2.0, January 2004"));
}

/// Keep a Changelog: one section for what is unreleased, under its six headings.
#[test]
fn the_changelog_keeps_its_form() {
    let changelog = text("CHANGELOG.md");
    assert_eq!(changelog.matches("\n## [Unreleased]").count(), 1);
    for line in changelog.lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            let known = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];
            assert!(known.contains(&heading), "{heading}");
        }
        assert!(!line.starts_with("- ["), "an entry has no label: {line}");
    }
}

/// Each step that a workflow asks `.ci/run` for is one that it has.
#[test]
fn workflows_call_steps_that_exist() {
    let script = text(".ci/run");
    let mut calls = 0;
    let workflows = text(".github/workflows/ci.yml") + &text("RELEASING.md");
    for line in workflows.lines() {
        let Some((_, step)) = line.split_once(".ci/run") else { continue };
        calls += 1;
        let step = step.trim();
        assert!(step.is_empty() || script.contains(&format!("\n{step}() {{")), "{line}");
    }
    assert!(calls >= 4, "{calls}");
}

/// `tests/fast` and nextest's profile `fast` leave out the same groups.
#[test]
fn both_fast_runs_leave_out_the_same_groups() {
    let script = text("tests/fast");
    let slow = script.split_once("slow=(").and_then(|(_, rest)| rest.split_once(')')).expect("a list").0;
    let mut slow: Vec<&str> = slow.split_whitespace().collect();
    let config = text(".config/nextest.toml");
    let profile = config.split_once("[profile.fast]").expect("a profile").1;
    let filter = profile.split("\"\"\"").nth(1).expect("a filter");
    let mut left_out: Vec<&str> =
        filter.split("test(").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0)).collect();
    slow.sort_unstable();
    left_out.sort_unstable();
    assert_eq!(slow, left_out);
}
