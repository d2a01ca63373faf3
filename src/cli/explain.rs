//! `larder explain`: what larder makes of a request, and why. Offline by the configuration alone; with `--now` at a larder
//! that runs, with what is stored there.

use std::path::Path;
use std::process::ExitCode;

use bytes::Bytes;
use clap::Args;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use super::admin::AdminArgs;
use super::{USAGE, fail};
use crate::clock::Clock;
use crate::config::Config;
use crate::explain::{Explainer, Question, Reply, fields, told};
use crate::policy::routes::Routes;

#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// The request: a method and a path (or a URL in full); a path alone is a GET
    #[arg(value_names = ["METHOD", "URL"], num_args = 1..=2, required = true)]
    request: Vec<String>,
    /// A field of the request: 'Name: value'; may be repeated
    #[arg(long = "header", short = 'H', value_name = "FIELD")]
    headers: Vec<String>,
    /// The request's content, or @FILE; JSON where no Content-Type is given
    #[arg(long, short, value_name = "TEXT|@FILE")]
    data: Option<String>,
    /// The status that the upstream would answer with
    #[arg(long, value_name = "CODE", default_value = "200")]
    status: StatusCode,
    /// A field of the upstream's response: 'Cache-Control: max-age=60'; may be repeated
    #[arg(long = "response", value_name = "FIELD")]
    response: Vec<String>,
    /// A file with the response's content, for tags and times that stand in it
    #[arg(long, value_name = "FILE")]
    body: Option<std::path::PathBuf>,
    /// Ask a larder that runs, by its admin listener, what it has stored for the request now
    #[arg(long, conflicts_with_all = ["data", "status", "response", "body"])]
    now: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

pub fn run(args: &ExplainArgs) -> ExitCode {
    let explained = if args.now { now(args) } else { offline(args) };
    match explained {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err((code, error)) => fail(code, error),
    }
}

type Failed = (u8, String);

fn offline(args: &ExplainArgs) -> Result<String, Failed> {
    let usage = |error: String| (USAGE, error);
    let (question, reply) = (question(args).map_err(usage)?, reply(args).map_err(usage)?);
    let config = Config::load(args.admin.file())
        .map_err(|errors| usage(format!("it can't be explained by a wrong file\n{errors}")))?;
    let routes = Routes::new(&config.routes);
    let explainer = Explainer::new(&config, &routes, Clock::system().now());
    let explanation = explainer.explain(&question, &reply);
    Ok(match args.json {
        true => format!("{:#}\n", told(&explanation, &routes)),
        false => explainer.text(&explanation).to_string(),
    })
}

fn now(args: &ExplainArgs) -> Result<String, Failed> {
    let (method, target) = request(args);
    let headers: Vec<Value> = args.headers.iter().map(|line| json!(line)).collect();
    let asked = json!({"method": method, "url": target, "headers": headers});
    let client = args.admin.client().map_err(|error| (1, error))?;
    let told = client.send(Method::POST, "/explain", Some(&asked)).map_err(|error| (1, error))?;
    Ok(format!("{told:#}\n"))
}

fn request(args: &ExplainArgs) -> (&str, &str) {
    match args.request.as_slice() {
        [method, target, ..] => (method, target),
        [target] => ("GET", target),
        [] => ("GET", "/"),
    }
}

fn question(args: &ExplainArgs) -> Result<Question, String> {
    let (method, target) = request(args);
    let mut headers = fields(args.headers.iter().map(String::as_str))?;
    let body = match args.data.as_deref().map(|data| (data, data.strip_prefix('@'))) {
        None => Bytes::new(),
        Some((_, Some(file))) => read(Path::new(file))?,
        Some((text, None)) => Bytes::copy_from_slice(text.as_bytes()),
    };
    if !body.is_empty() {
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    }
    Question::new(method, target, headers, body)
}

fn reply(args: &ExplainArgs) -> Result<Reply, String> {
    let headers = fields(args.response.iter().map(String::as_str))?;
    let body = args.body.as_deref().map(read).transpose()?;
    Ok(Reply { status: args.status, headers, body }.with_type())
}

fn read(file: &Path) -> Result<Bytes, String> {
    std::fs::read(file).map(Bytes::from).map_err(|error| format!("{} can't be read: {error}", file.display()))
}
