//! `larder mcp`: the Model Context Protocol over standard input and output, for assistants. A JSON-RPC message is one line.
//!
//! It only reads, unless the command line allows purges.

mod tools;

use std::io::{BufRead, Read as _, Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use self::tools::Toolbox;
use super::admin::AdminArgs;
use super::fail;

/// Longest message, in bytes.
const MAX_MESSAGE_BYTES: u64 = 1 << 20;

/// Versions of the protocol whose messages are the same for what is used here; the first one is offered.
const PROTOCOL_VERSIONS: [&str; 2] = ["2025-06-18", "2024-11-05"];

const PARSE_ERROR: i64 = -32_700;
const INVALID_REQUEST: i64 = -32_600;
const METHOD_NOT_FOUND: i64 = -32_601;
const INVALID_PARAMS: i64 = -32_602;

#[derive(Args, Debug)]
pub(super) struct McpArgs {
    /// Allow tools that change something
    #[arg(long, value_enum)]
    allow: Vec<Allowed>,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Allowed {
    Purge,
}

pub(super) fn run(args: &McpArgs, config: &Path) -> ExitCode {
    let toolbox = Toolbox {
        admin: args.admin.clone(),
        config: PathBuf::from(config),
        may_purge: args.allow.contains(&Allowed::Purge),
    };
    match serve(&toolbox, stdin().lock(), stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, error),
    }
}

/// Answers messages until the input ends.
fn serve(toolbox: &Toolbox, mut input: impl BufRead, mut output: impl Write) -> Result<(), String> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = input.by_ref().take(MAX_MESSAGE_BYTES).read_until(b'\n', &mut line);
        if read.map_err(|error| format!("standard input can't be read: {error}"))? == 0 {
            return Ok(());
        }
        if line.len() as u64 == MAX_MESSAGE_BYTES && line.last() != Some(&b'\n') {
            return Err(format!("a message has more than {MAX_MESSAGE_BYTES} bytes"));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let answer = match serde_json::from_slice(&line) {
            Ok(message) => answer(toolbox, &message),
            Err(error) => Some(failure(&Value::Null, PARSE_ERROR, &format!("this is no JSON: {error}"))),
        };
        if let Some(answer) = answer {
            let written = writeln!(output, "{answer}").and_then(|()| output.flush());
            written.map_err(|error| format!("standard output can't be written: {error}"))?;
        }
    }
}

/// The answer to a message; notifications have none.
fn answer(toolbox: &Toolbox, message: &Value) -> Option<Value> {
    let id = &message["id"];
    let Some(method) = message["method"].as_str() else {
        // Answers to this side are not expected.
        let is_answer = message.get("result").is_some() || message.get("error").is_some();
        return (!is_answer)
            .then(|| failure(id, INVALID_REQUEST, "the message is no request: it has no `method`"));
    };
    if id.is_null() {
        return None;
    }
    let result = match method {
        "initialize" => Ok(initialize(&message["params"])),
        "ping" => Ok(json!({})),
        "tools/list" => Ok(json!({"tools": toolbox.list()})),
        "tools/call" => call(toolbox, &message["params"]),
        _ => Err((METHOD_NOT_FOUND, format!("unknown method `{method}`"))),
    };
    Some(match result {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err((code, error)) => failure(id, code, &error),
    })
}

fn failure(id: &Value, code: i64, message: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
}

fn initialize(params: &Value) -> Value {
    let asked = params["protocolVersion"].as_str();
    let version = PROTOCOL_VERSIONS.into_iter().find(|version| asked == Some(version));
    json!({
        "protocolVersion": version.unwrap_or(PROTOCOL_VERSIONS[0]),
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "larder", "version": env!("CARGO_PKG_VERSION")},
        "instructions": "larder is a caching reverse proxy. `explain` says how it handles a request, `stats`, `purges`, \
                         `sizes` and `audit` what it does, `lint` and `suggest` help with proxy.yaml.",
    })
}

fn call(toolbox: &Toolbox, params: &Value) -> Result<Value, (i64, String)> {
    let name = params["name"].as_str().unwrap_or_default();
    let arguments = params.get("arguments").unwrap_or(&Value::Null);
    let called =
        toolbox.call(name, arguments).ok_or_else(|| (INVALID_PARAMS, format!("unknown tool `{name}`")))?;
    let (text, is_error) = match called {
        Ok(text) => (text, false),
        Err(error) => (error, true),
    };
    Ok(json!({"content": [{"type": "text", "text": text}], "isError": is_error}))
}

#[cfg(test)]
mod tests;
