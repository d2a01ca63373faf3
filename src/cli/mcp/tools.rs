//! The tools: requests to the admin listener, and the commands that only read files.

use std::fmt;
use std::path::{Path, PathBuf};

use http::Method;
use serde_json::{Value, json};

use crate::cli::admin::{AdminArgs, percent_encoded};
use crate::cli::suggest::draft_observed;
use crate::cli::test::report_tests;
use crate::config::rules::Rules;
use crate::config::{Config, read_document};
use crate::draft::{Draft, openapi};

pub(super) struct Toolbox {
    pub admin: AdminArgs,
    /// The configuration file.
    pub config: PathBuf,
    pub may_purge: bool,
}

/// Largest configuration and largest document that an assistant may name, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
const MAX_DOCUMENT_BYTES: u64 = 16 << 20;

/// The outcome of a tool. The error is for the assistant to read.
type Called = Result<String, String>;

impl Toolbox {
    /// The tools with the schemas of their arguments.
    pub(super) fn list(&self) -> Vec<Value> {
        let text = json!({"type": "string"});
        let texts = json!({"type": "array", "items": text});
        let targets =
            json!({"tags": texts, "urls": texts, "prefixes": texts, "everything": {"type": "boolean"}});
        let mut tools = vec![
            tool(
                "explain",
                "How larder handles a request: route, key, tags, lifetime, and what is stored for it",
                &json!({"url": text, "method": text, "headers": texts}),
                &["url"],
            ),
            tool(
                "stats",
                "Hits, misses and purges by route",
                &json!({"all": {"type": "boolean", "description": "Add up all replicas"}}),
                &[],
            ),
            tool(
                "purges",
                "The last purges, with their causes",
                &json!({"limit": {"type": "integer"}, "tag": text}),
                &[],
            ),
            tool("audit", "Responses that differed from the API's present answer, and why", &json!({}), &[]),
            tool(
                "sizes",
                "Memory use by route, tag and path",
                &json!({"by": {"enum": ["bytes", "responses", "uses"]}, "limit": {"type": "integer"}}),
                &[],
            ),
            tool("health", "Whether larder is ready, and the state of Redis", &json!({}), &[]),
            tool(
                "preview_purge",
                "The routes and responses that a purge would reach; purges nothing",
                &targets,
                &[],
            ),
            tool(
                "lint",
                "Errors, warnings and suspicious settings of a configuration",
                &json!({"file": text}),
                &[],
            ),
            tool(
                "test",
                "Run a file of tests against the configuration: requests, and what is expected of each",
                &json!({"file": {"type": "string", "description": "The path of the test file"}}),
                &["file"],
            ),
            tool(
                "suggest",
                "A configuration from the traffic seen on routes in `mode: observe`, or from an OpenAPI 3 document",
                &json!({"openapi": {"type": "string", "description": "The path of the document; without it, the traffic"}}),
                &[],
            ),
        ];
        if self.may_purge {
            tools.push(tool("purge", "Purge responses by tag, URL or prefix", &targets, &[]));
        }
        tools
    }

    /// Calls a tool; `None` if there is no such tool.
    pub(super) fn call(&self, name: &str, arguments: &Value) -> Option<Called> {
        let get = |path: &str| self.send(Method::GET, path, None);
        Some(match name {
            "explain" => self.explain(arguments),
            "stats" if arguments["all"] == true => get("/stats?scope=all"),
            "stats" => get("/stats"),
            "purges" => get(&with_query("/purges", arguments, &["limit", "tag"])),
            "audit" => get("/audit"),
            "sizes" => get(&with_query("/sizes", arguments, &["by", "limit"])),
            "health" => get("/readyz"),
            "preview_purge" => self.send(Method::POST, "/purge?dry_run=true", Some(arguments)),
            "purge" if self.may_purge => self.send(Method::POST, "/purge", Some(arguments)),
            "lint" => match arguments["file"].as_str() {
                Some(file) => self.find_file(file, MAX_CONFIG_BYTES).and_then(|path| lint_other(&path)),
                None => lint(&self.config),
            },
            "test" => {
                let file = arguments["file"].as_str().unwrap_or_default();
                self.find_file(file, MAX_CONFIG_BYTES).and_then(|path| run_tests(&path, &self.config))
            }
            "suggest" if arguments["openapi"].is_null() => {
                draft_observed(&self.admin, &self.config, None).and_then(|draft| write(&draft))
            }
            "suggest" => {
                let file = arguments["openapi"].as_str().unwrap_or_default();
                self.find_file(file, MAX_DOCUMENT_BYTES).and_then(|path| suggest(&path))
            }
            _ => return None,
        })
    }

    /// A regular file below the folder of the configuration.
    fn find_file(&self, file: &str, max_bytes: u64) -> Result<PathBuf, String> {
        let refuse = |error: &dyn fmt::Display| format!("{file:?} can't be read: {error}");
        let folder = match self.config.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let folder = folder.canonicalize().map_err(|error| refuse(&error))?;
        let path = folder.join(file).canonicalize().map_err(|error| refuse(&error))?;
        if !path.starts_with(&folder) {
            return Err(refuse(&"it is not below the folder of the configuration"));
        }
        let metadata = path.metadata().map_err(|error| refuse(&error))?;
        match metadata.is_file() && metadata.len() <= max_bytes {
            true => Ok(path),
            false => Err(refuse(&format_args!("it is no regular file of at most {max_bytes} bytes"))),
        }
    }

    fn explain(&self, arguments: &Value) -> Called {
        let method = arguments["method"].as_str().unwrap_or("GET");
        let headers = arguments["headers"].as_array().cloned().unwrap_or_default();
        let request = json!({"method": method, "url": arguments["url"], "headers": headers});
        self.send(Method::POST, "/explain", Some(&request))
    }

    fn send(&self, method: Method, path: &str, content: Option<&Value>) -> Called {
        let client = self.admin.client(&self.config)?;
        client.send(method, path, content).map(|answer| format!("{answer:#}"))
    }
}

fn tool(name: &str, description: &str, properties: &Value, required: &[&str]) -> Value {
    let schema = json!({"type": "object", "properties": properties, "required": required});
    let is_read_only = name != "purge";
    json!({
        "name": name,
        "description": description,
        "inputSchema": schema,
        "annotations": {"readOnlyHint": is_read_only, "destructiveHint": !is_read_only},
    })
}

/// The path with the arguments that are given.
fn with_query(path: &str, arguments: &Value, names: &[&str]) -> String {
    let given = names.iter().filter_map(|name| {
        let value = match &arguments[name] {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        Some(format!("{name}={}", percent_encoded(&value)))
    });
    format!("{path}?{}", given.collect::<Vec<_>>().join("&"))
}

fn lint(path: &Path) -> Called {
    let (_, findings) = Config::lint_file(path).map_err(|errors| errors.to_string())?;
    let texts: Vec<String> = findings.into_iter().map(|finding| finding.text).collect();
    Ok(if texts.is_empty() { "nothing found".into() } else { texts.join("\n\n") })
}

/// Lints a file that may be none of larder's: nothing of its text is quoted.
fn lint_other(path: &Path) -> Called {
    let (_, findings) = Config::lint_file(path).map_err(|errors| errors.summary())?;
    let texts = findings.into_iter().map(|finding| {
        let line = finding.diagnostic.location.line().unwrap_or(1);
        format!("line {line}: {}", finding.diagnostic.message)
    });
    let texts: Vec<String> = texts.collect();
    Ok(if texts.is_empty() { "nothing found".into() } else { texts.join("\n") })
}

/// Runs the tests of a file against larder's own configuration.
fn run_tests(path: &Path, config: &Path) -> Called {
    let rules = Rules::load(path).map_err(|errors| errors.summary())?;
    let config = Config::load(config).map_err(|errors| errors.summary())?;
    let (report, is_ok) = report_tests(&rules, &config);
    if is_ok { Ok(report) } else { Err(report) }
}

fn suggest(path: &Path) -> Called {
    let document = read_document(path).map_err(|errors| errors.summary())?;
    write(&openapi::draft(&document, &path.file_name().unwrap_or_default().to_string_lossy(), None)?)
}

fn write(draft: &Draft) -> Called {
    draft.write().map(|(text, _)| text).map_err(|errors| errors.to_string())
}
