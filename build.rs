//! Links the options of the allocator, and asks git for the commit of a release build. jemalloc looks for its options in a
//! symbol, which Rust can define only with `unsafe`.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src/allocator_options.c");
    // Link it as an object of the program: out of a library it would not replace jemalloc's own, weak symbol.
    for object in cc::Build::new().file("src/allocator_options.c").compile_intermediates() {
        println!("cargo::rustc-link-arg={}", object.display());
    }
    name_commit();
}

/// Sets `LARDER_COMMIT` for the compiler, unless it is set. Other builds than releases are not made anew after each commit,
/// so they name none.
fn name_commit() {
    println!("cargo::rerun-if-env-changed=LARDER_COMMIT");
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    // A package has no repository of its own, and may lie in another one.
    if !is_release || env::var_os("LARDER_COMMIT").is_some() || !Path::new(".git").exists() {
        return;
    }
    // Without this log cargo would build anew each time.
    let log = git(&["--git-path", "logs/HEAD"]).filter(|log| Path::new(log).exists());
    if let (Some(log), Some(commit)) = (log, git(&["--short", "HEAD"])) {
        println!("cargo::rerun-if-changed={log}");
        println!("cargo::rustc-env=LARDER_COMMIT={commit}");
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("rev-parse").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.to_owned();
    output.status.success().then_some(line)
}
