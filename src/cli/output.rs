//! Output of findings: text with colours for people; JSON, GitHub annotations and SARIF for programs.

use std::io::IsTerminal;

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::config::{ConfigErrors, Diagnostic, Location};
use crate::logging::shows_colors;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object
    Json,
    /// Annotations of GitHub Actions
    Github,
    /// SARIF 2.1.0, for code scanning
    Sarif,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Error,
    Warning,
    Note,
}

impl Severity {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

/// A diagnostic of a file.
pub(super) struct ReportEntry<'d> {
    pub severity: Severity,
    /// The kind, for filters.
    pub code: &'d str,
    pub file: &'d str,
    pub diagnostic: &'d Diagnostic,
}

/// Renders findings for programs, with `more` members in the JSON object. Returns `None` for text, which the caller writes.
pub(super) fn render(format: OutputFormat, findings: &[ReportEntry<'_>], more: &Value) -> Option<String> {
    match format {
        OutputFormat::Text => None,
        OutputFormat::Json => Some(format!("{:#}\n", json_report(findings, more))),
        OutputFormat::Github => Some(findings.iter().map(github_annotation).collect()),
        OutputFormat::Sarif => Some(format!("{:#}\n", sarif_log(findings))),
    }
}

/// Renders the errors of a file. For people they go to standard error, and nothing is left to print.
pub(super) fn render_errors(format: OutputFormat, errors: &ConfigErrors) -> String {
    let finding = |diagnostic| ReportEntry {
        severity: Severity::Error,
        code: "error",
        file: errors.source(),
        diagnostic,
    };
    let findings: Vec<_> = errors.diagnostics().iter().map(finding).collect();
    render(format, &findings, &json!({})).unwrap_or_else(|| {
        let stderr = std::io::stderr();
        eprintln!("{}", colorize(&errors.to_string(), &stderr));
        String::new()
    })
}

fn json_report(findings: &[ReportEntry<'_>], more: &Value) -> Value {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let diagnostics: Vec<Value> = findings
        .iter()
        .map(|finding| {
            let (line, columns) = region(finding.diagnostic.location);
            json!({
                "severity": finding.severity.as_str(),
                "code": finding.code,
                "file": finding.file,
                "line": line,
                "column": columns.map(|(start, _)| start),
                "endColumn": columns.map(|(_, end)| end),
                "message": message(finding),
                "help": finding.diagnostic.help,
            })
        })
        .collect();
    let mut report = json!({
        "errors": count(Severity::Error),
        "warnings": count(Severity::Warning),
        "diagnostics": diagnostics,
    });
    if let (Value::Object(report), Value::Object(more)) = (&mut report, more) {
        report.extend(more.clone());
    }
    report
}

fn github_annotation(finding: &ReportEntry<'_>) -> String {
    let escape = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let escape_property = |text: &str| escape(text).replace(':', "%3A").replace(',', "%2C");
    let (line, columns) = region(finding.diagnostic.location);
    let mut properties = format!("file={}", escape_property(finding.file));
    if let (Some(line), Some((start, end))) = (line, columns) {
        properties.push_str(&format!(",line={line},col={start},endColumn={end}"));
    }
    let code = escape_property(finding.code);
    let severity = match finding.severity {
        Severity::Note => "notice",
        severity => severity.as_str(),
    };
    format!("::{severity} {properties},title=larder {code}::{}\n", escape(&message_with_help(finding)))
}

fn sarif_log(findings: &[ReportEntry<'_>]) -> Value {
    let mut codes: Vec<&str> = findings.iter().map(|finding| finding.code).collect();
    codes.sort_unstable();
    codes.dedup();
    let results: Vec<Value> = findings
        .iter()
        .map(|finding| {
            let mut location = json!({"artifactLocation": {"uri": finding.file}});
            if let (Some(line), Some((start, end))) = region(finding.diagnostic.location) {
                location["region"] = json!({"startLine": line, "startColumn": start, "endColumn": end});
            }
            json!({
                "ruleId": finding.code,
                "level": finding.severity.as_str(),
                "message": {"text": message_with_help(finding)},
                "locations": [{"physicalLocation": location}],
            })
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "larder",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": codes.iter().map(|code| json!({"id": code})).collect::<Vec<_>>(),
            }},
            "results": results,
        }],
    })
}

/// The line, and the first column with the column behind the last.
fn region(location: Location) -> (Option<usize>, Option<(usize, usize)>) {
    match location {
        Location::Text { line, column, length } => (Some(line), Some((column, column + length.max(1)))),
        Location::Start | Location::Override(_) => (None, None),
    }
}

/// The message, with the flag or variable that it is about.
fn message(finding: &ReportEntry<'_>) -> String {
    match finding.diagnostic.location {
        Location::Override(name) => format!("{name}: {}", finding.diagnostic.message),
        _ => finding.diagnostic.message.clone(),
    }
}

fn message_with_help(finding: &ReportEntry<'_>) -> String {
    match &finding.diagnostic.help {
        Some(help) => format!("{}\nhelp: {help}", message(finding)),
        None => message(finding),
    }
}

/// Colours a rendered diagnostic where the stream shows colours.
pub(super) fn colorize(text: &str, stream: &impl IsTerminal) -> String {
    match shows_colors(stream) {
        true => text.lines().map(colorize_line).collect(),
        false => text.to_owned(),
    }
}

fn colorize_line(line: &str) -> String {
    const RED: &str = "\x1b[1;31m";
    const YELLOW: &str = "\x1b[1;33m";
    const CYAN: &str = "\x1b[36m";
    const RESET: &str = "\x1b[0m";
    for (word, colour) in [(": error: ", RED), (": failed: ", RED), (": warning", YELLOW)] {
        if let Some((location, message)) = line.split_once(word).filter(|_| !line.starts_with(' ')) {
            let word = word.trim_start_matches(": ").trim_end();
            let space = if message.starts_with(['[', ':']) { "" } else { " " };
            return format!("{location}: {colour}{word}{RESET}{space}{message}\n");
        }
    }
    match line.trim_start() {
        rest if rest.starts_with("help: ") || (rest.starts_with('|') && rest.ends_with('^')) => {
            format!("{CYAN}{line}{RESET}\n")
        }
        _ => format!("{line}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnostic(location: Location) -> Diagnostic {
        Diagnostic {
            location,
            message: "50% is\nwrong".into(),
            help: Some("write `1`".into()),
            note: None,
            name: "advice",
            is_secret: false,
        }
    }

    fn check(format: OutputFormat, expected: &[&str]) {
        let located = diagnostic(Location::Text { line: 3, column: 5, length: 2 });
        let flag = diagnostic(Location::Override("--listen"));
        let finding =
            |severity, diagnostic| ReportEntry { severity, code: "advice", file: "a,b.yaml", diagnostic };
        let findings = [finding(Severity::Error, &located), finding(Severity::Warning, &flag)];
        let rendered = render(format, &findings, &json!({"routes": 7})).expect("a format for programs");
        for part in expected {
            assert!(rendered.contains(part), "{part}\n{rendered}");
        }
    }

    #[test]
    fn json_has_counts_locations_and_fixes() {
        check(
            OutputFormat::Json,
            &[
                "\"errors\": 1",
                "\"warnings\": 1",
                "\"line\": 3",
                "\"endColumn\": 7",
                "\"help\": \"write `1`\"",
                "--listen: 50% is",
                "\"routes\": 7",
            ],
        );
    }

    #[test]
    fn github_annotations_are_escaped() {
        check(
            OutputFormat::Github,
            &[
                "::error file=a%2Cb.yaml,line=3,col=5,endColumn=7,title=larder advice::50%25 is%0Awrong%0Ahelp: write `1`\n",
                "::warning file=a%2Cb.yaml,title=larder advice::--listen: 50%25 is",
            ],
        );
    }

    #[test]
    fn sarif_names_rules_and_regions() {
        check(
            OutputFormat::Sarif,
            &["\"version\": \"2.1.0\"", "\"id\": \"advice\"", "\"startLine\": 3", "\"level\": \"warning\""],
        );
    }

    #[test]
    fn colours_mark_the_level_and_the_caret() {
        assert_eq!(colorize_line("a.yaml:1:2: error: no"), "a.yaml:1:2: \x1b[1;31merror:\x1b[0m no\n");
        assert_eq!(colorize_line("a:1: warning[advice]: x"), "a:1: \x1b[1;33mwarning\x1b[0m[advice]: x\n");
        assert_eq!(colorize_line("   |  ^^"), "\x1b[36m   |  ^^\x1b[0m\n");
        assert_eq!(colorize_line("  help: x"), "\x1b[36m  help: x\x1b[0m\n");
        assert_eq!(colorize_line("1 error"), "1 error\n");
    }
}
