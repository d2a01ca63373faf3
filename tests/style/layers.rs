//! Inside a folder, too, imports point down only: its modules form no cycle.

use std::collections::{BTreeMap, BTreeSet};

use super::report;
use super::sources::{File, rust_files};

/// Folders whose modules may be listed so that each imports only those below it.
const LAYERED: &[&str] = &["src/proxy/", "src/proxy/fetch/"];

/// The files that may add methods to the context of a request. Everything else is an object of its own.
const WORKER_METHODS: &[&str] =
    &["src/proxy/worker.rs", "src/proxy/handle.rs", "src/proxy/internal_request.rs"];

type Modules = BTreeMap<String, BTreeSet<String>>;

#[test]
fn modules_of_a_folder_form_no_cycle() {
    let files = rust_files();
    let mut findings = Vec::new();
    for folder in LAYERED {
        let modules = modules(folder, files.iter().filter(|file| file.is_production()));
        assert!(modules.len() > 3, "{folder} has {} modules", modules.len());
        findings.extend(cycle(modules).map(|left| format!("{folder}: {left:?} import each other")));
    }
    report(&findings);
}

#[test]
fn siblings_form_no_cycle() {
    let files: Vec<File> = rust_files().into_iter().filter(File::is_production).collect();
    let folders: BTreeSet<&str> =
        files.iter().filter_map(|file| file.path.rfind('/').map(|at| &file.path[..=at])).collect();
    assert!(folders.len() > 30, "only {} folders found", folders.len());
    let mut findings = Vec::new();
    for folder in folders.into_iter().filter(|folder| *folder != "src/") {
        let left = cycle(siblings(folder, files.iter()));
        findings.extend(left.map(|left| format!("{folder}: {left:?} import each other")));
    }
    report(&findings);
}

#[test]
fn the_context_of_a_request_stays_small() {
    let adds_methods =
        |file: &File| file.path.starts_with("src/proxy/") && file.text.contains("\nimpl Worker {");
    let findings: Vec<_> = rust_files()
        .iter()
        .filter(|file| adds_methods(file) && !WORKER_METHODS.contains(&file.path.as_str()))
        .map(|file| format!("{} has `impl Worker`", file.path))
        .collect();
    report(&findings);
}

/// The modules of a folder, and which of them each names. The files of a module's own folder count as that module; the
/// folder's `mod.rs` counts as the module `self`.
fn modules<'f>(folder: &str, files: impl Iterator<Item = &'f File>) -> Modules {
    let mut modules = modules_and_names(folder, files);
    let known: BTreeSet<String> = modules.keys().cloned().collect();
    for (module, names) in &mut modules {
        if module == "self" {
            *names = known.clone();
        }
        *names =
            names.iter().map(|name| if known.contains(name) { name } else { "self" }.to_string()).collect();
        names.remove(module);
    }
    modules
}

/// The modules of a folder, and the names that each has from the folder.
fn modules_and_names<'f>(folder: &str, files: impl Iterator<Item = &'f File>) -> Modules {
    let mut texts = BTreeMap::<String, String>::new();
    for file in files {
        let Some(path) = file.path.strip_prefix(folder) else { continue };
        let module = path.split(['/', '.']).next().expect("a first part");
        let module = if path == "mod.rs" { "self" } else { module };
        let code = file.text.split("#[cfg(test)]\nmod tests {").next().expect("a first part");
        let code = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<String>();
        let depth = path.matches('/').count() - usize::from(path.ends_with("/mod.rs"));
        // Below the folder, that many more `super` lead to it; fewer stay inside the module, and more lead out.
        let (way, out) = ("super::".repeat(depth + 1), "super::".repeat(depth + 2));
        let code = code.replace(&out, "").replace(&way, "\0").replace("super::", "").replace('\0', "super::");
        let own_path = format!("crate::{}", folder["src/".len()..].replace('/', "::"));
        let code = code.replace(&own_path, "super::");
        texts.entry(module.to_owned()).or_default().push_str(&code);
    }
    texts.into_iter().map(|(module, text)| (module, named_after_super(&text))).collect()
}

/// The modules of a folder, and which others each names, directly or by a name that `mod.rs` imports. The items of
/// `mod.rs` itself belong to the folder, and count for none of them.
fn siblings<'f>(folder: &str, files: impl Iterator<Item = &'f File> + Clone) -> Modules {
    // A folder's module stands in its `mod.rs`, or beside the folder.
    let beside = format!("{}.rs", folder.trim_end_matches('/'));
    let index = files.clone().find(|file| file.path == format!("{folder}mod.rs") || file.path == beside);
    let imported = index.map(|file| imports(&file.text)).unwrap_or_default();
    let mut modules = modules_and_names(folder, files);
    modules.remove("self");
    let known: BTreeSet<String> = modules.keys().cloned().collect();
    for (module, names) in &mut modules {
        let named = names.iter().filter_map(|name| known.get(name).or_else(|| imported.get(name)));
        *names = named.filter(|name| known.contains(*name) && *name != module).cloned().collect();
    }
    modules
}

/// The names that a module imports from its own modules, each with its module.
fn imports(text: &str) -> BTreeMap<String, String> {
    let word = |c: char| !c.is_alphanumeric() && c != '_';
    let mut found = BTreeMap::new();
    for statement in text.split("use ").skip(1) {
        let statement = statement.split(';').next().unwrap_or_default();
        let statement = statement.strip_prefix("self::").unwrap_or(statement);
        let Some((module, names)) = statement.split_once("::") else { continue };
        found.extend(names.split(word).map(|name| (name.to_owned(), module.to_owned())));
    }
    found
}

/// The first names after `super::`, also in groups.
fn named_after_super(code: &str) -> BTreeSet<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut names = BTreeSet::new();
    for rest in code.split("super::").skip(1) {
        match rest.strip_prefix('{') {
            None => drop(names.insert(word(rest))),
            Some(group) => names.extend(group_members(group).into_iter().map(|name| word(name.trim()))),
        }
    }
    names.retain(|name| !name.is_empty() && name != "super" && !name.ends_with("_tests"));
    names
}

/// The members of a group that was opened before `text`; what stands in groups of its own is no member.
fn group_members(text: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut members) = (0, 0, Vec::new());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth > 0 => depth -= 1,
            b',' if depth == 0 => {
                members.push(&text[begin..at]);
                begin = at + 1;
            }
            b'}' => {
                members.push(&text[begin..at]);
                break;
            }
            _ => {}
        }
    }
    members
}

/// The modules that are left once each that imports nothing more is taken away; `None` if none is left.
fn cycle(mut modules: Modules) -> Option<Vec<String>> {
    while let Some(lowest) = modules.iter().find(|(_, names)| names.is_empty()).map(|(name, _)| name.clone())
    {
        modules.remove(&lowest);
        for names in modules.values_mut() {
            names.remove(&lowest);
        }
    }
    (!modules.is_empty()).then(|| modules.into_keys().collect())
}

#[test]
fn a_cycle_is_found() {
    let file = |path: &str, text: &str| File { path: format!("src/x/{path}"), text: text.to_owned() };
    let files = [
        file("mod.rs", "mod a;\npub use b::B;\n"),
        file("a.rs", "use super::{b::{C, D}, c};\n"),
        file("b.rs", "use super::c::C;\n"),
        file("c/mod.rs", "use super::d;\nmod e;\n"),
        file("c/e.rs", "use super::super::d;\nuse super::C;\nuse crate::x::d::D;\n"),
        file("d.rs", "// super::a\n"),
    ];
    let all = modules("src/x/", files.iter());
    assert_eq!(all["c"], BTreeSet::from(["d".to_owned()]));
    assert_eq!(cycle(all), None);
    let files =
        [file("a.rs", "use super::b;\n"), file("b.rs", "use super::a::A;\n"), file("c.rs", "use super::a;")];
    assert_eq!(cycle(modules("src/x/", files.iter())), Some(vec!["a".into(), "b".into(), "c".into()]));
    let files = [
        file("mod.rs", "mod a;\nmod b;\npub use b::B;\npub struct Own;\n"),
        file("a.rs", "use super::{B, Own};\n"),
        file("b.rs", "use super::Own;\n"),
    ];
    assert_eq!(cycle(siblings("src/x/", files.iter())), None);
    let [index, a, _] = files;
    let files = [index, a, file("b.rs", "use super::a::A;\n")];
    assert_eq!(cycle(siblings("src/x/", files.iter())), Some(vec!["a".into(), "b".into()]));
}
