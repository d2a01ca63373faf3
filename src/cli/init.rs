//! `larder init`: asks the API for some paths, and writes a first configuration with what its answers allow.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{self, ExitCode};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use http::header::{ACCEPT, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};

use super::connect::block_on;
use super::run::config_without_file;
use super::{USAGE, fail, print_result};
use crate::clock::Clock;
use crate::config::{Config, SettingOverrides};
use crate::draft::probed::ProbedAnswer;
use crate::draft::{Draft, DraftRoute, Setting, scalar};
use crate::explain::{CallerTrust, ExplainRequest, ExplainResponse, Explainer, Verdict};
use crate::policy::not_stored::NotStored;
use crate::policy::path::PathTemplate;
use crate::policy::routes::Routes;
use crate::upstream::{Destination, RequestBody, Timeouts, Upstream};

/// Longest wait for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

const MAX_PATHS: usize = 64;

#[derive(Args, Debug)]
pub(super) struct InitArgs {
    /// Paths of the API to GET, without credentials
    #[arg(value_name = "PATH", default_value = "/")]
    paths: Vec<String>,
    /// The API: http://host:port, https://host or unix:/path
    #[arg(long, value_name = "URL", env = "LARDER_UPSTREAM")]
    upstream: String,
    /// Overwrite an existing file
    #[arg(long)]
    force: bool,
    /// Print the configuration instead of writing it
    #[arg(long)]
    print: bool,
}

pub(super) fn run(args: &InitArgs, path: &Path) -> ExitCode {
    let over = SettingOverrides { upstream: Some(args.upstream.clone()), ..Default::default() };
    let config = match config_without_file(&over) {
        Ok(config) => config,
        Err(errors) => return fail(USAGE, errors),
    };
    if let Err(error) = check_paths(&args.paths) {
        return fail(USAGE, error);
    }
    let written = ask(&config, &args.paths).map_err(|error| error.to_string()).and_then(|probes| {
        let (text, _) = draft(&config, &probes).write().map_err(|errors| errors.to_string())?;
        Ok(text)
    });
    match written {
        Ok(text) if args.print => print_result(&text),
        Ok(text) => write_file(path, &text, args.force),
        Err(error) => fail(1, error),
    }
}

fn check_paths(paths: &[String]) -> Result<(), String> {
    if paths.len() > MAX_PATHS {
        return Err(format!("{} paths are more than {MAX_PATHS}; name one of each kind", paths.len()));
    }
    let is_path = |path: &&String| path.starts_with('/') && path.parse::<Uri>().is_ok();
    match paths.iter().find(|path| !is_path(path)) {
        Some(wrong) => Err(format!("`{wrong}` is not a path; write `/api/courses`")),
        None => Ok(()),
    }
}

/// Sends the requests one after another.
fn ask(config: &Config, paths: &[String]) -> io::Result<Vec<ProbedAnswer>> {
    block_on(async {
        let upstream = Upstream::new(Destination::new(&config.upstream)?);
        let mut probes = Vec::with_capacity(paths.len());
        for path in paths {
            let began = Instant::now();
            let (status, headers) = get(&upstream, path).await.map_err(|error| {
                let urls = config.upstream.urls();
                io::Error::other(format!("{urls}: {error}\ncheck --upstream, and that the API runs"))
            })?;
            let took = began.elapsed();
            let stored = judge(config, path, (status, &headers));
            probes.push(ProbedAnswer { path: path.clone(), status, headers, took, stored });
        }
        Ok(probes)
    })
}

/// Reads the head of an answer; the content is not needed.
async fn get(upstream: &Upstream, path: &str) -> Result<(StatusCode, HeaderMap), String> {
    let mut request = Box::new(Request::new(RequestBody::empty()));
    *request.method_mut() = Method::GET;
    *request.uri_mut() = path.parse().map_err(|_| format!("`{path}` is not a path"))?;
    let fields = request.headers_mut();
    fields.insert(ACCEPT, HeaderValue::from_static("*/*"));
    fields.insert(USER_AGENT, HeaderValue::from_static(concat!("larder/", env!("CARGO_PKG_VERSION"))));
    let timeouts = Timeouts { response: ANSWER_TIMEOUT, idle: ANSWER_TIMEOUT, stream_idle: ANSWER_TIMEOUT };
    let answer = upstream.send(request, timeouts).await.map_err(|error| error.to_string())?;
    let (head, _) = answer.into_parts();
    Ok((head.status, head.headers))
}

/// Decides about the response as the proxy would, on a route with `ttl: upstream`.
fn judge(config: &Config, path: &str, response: (StatusCode, &HeaderMap)) -> Result<Duration, NotStored> {
    let routes = Routes::new(&config.routes);
    let explainer = Explainer::new(config, &routes, CallerTrust::Assume, Clock::system().now());
    let request = ExplainRequest::new("GET", path, HeaderMap::new(), Bytes::new());
    let response = ExplainResponse { status: response.0, headers: response.1.clone(), body: None };
    match request.map(|request| explainer.explain(&request, &response).verdict) {
        Ok(Verdict::Lookup(lookup)) => lookup.fetched.map(|stored| stored.terms.freshness_lifetime),
        _ => Err(NotStored::Method),
    }
}

fn draft(config: &Config, probes: &[ProbedAnswer]) -> Draft {
    let upstream = config.upstream.urls();
    let mut draft = Draft {
        about: vec![
            format!(
                "Written by `larder init` from the answers of {upstream} to requests without credentials."
            ),
            "`larder check` and `larder lint` say whether it is right, docs/routes.md what the keys mean."
                .into(),
        ],
        settings: vec![Setting::new("upstream", scalar(&upstream), "")],
        ..Draft::default()
    };
    for probe in probes {
        if let Err(error) = PathTemplate::parse(&probe.route_path()) {
            draft.questions.push(format!("{}: no route: {error}", probe.path));
            continue;
        }
        match probe.to_route() {
            Ok(route) if draft.routes.iter().all(|known| known.path != route.path) => {
                draft.routes.push(route)
            }
            Ok(_) => {}
            Err(answer) => draft.questions.push(format!("{answer}: no route. Which requests succeed?")),
        }
    }
    // The optional rest includes the root.
    let has_root = draft.routes.iter().any(|route| route.path == "/");
    draft.routes.push(DraftRoute {
        path: if has_root { "/{*rest}" } else { "/{*rest?}" }.into(),
        about: vec!["Everything else: what the API's own Cache-Control allows.".into()],
        settings: vec![Setting::new("ttl", "upstream", "")],
    });
    draft.questions.push(
        "Which write changes which of these responses? Give the responses `tags`, and the routes of the writes \
         `purges` with the same names (docs/tags.md)."
            .into(),
    );
    draft
}

/// Creates the file. A file that is there is replaced only if `force` says so.
fn write_file(path: &Path, text: &str, force: bool) -> ExitCode {
    let written = if force && path.is_file() { replace(path, text) } else { create(path, text, force) };
    let name = path.display();
    match written {
        Ok(()) => {
            let next = format!(
                "Wrote {name}. Next:\n  larder check {name}    # every error and warning\n  larder --config {name}   # \
                 run it; one that runs without a file takes {name} by itself\n"
            );
            print_result(&next)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fail(
            1,
            format_args!("{name} is there already; choose another with --config, or replace it with --force"),
        ),
        Err(error) => fail(1, format_args!("{name} can't be written: {error}")),
    }
}

fn create(path: &Path, text: &str, may_exist: bool) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true);
    if may_exist {
        options.truncate(true)
    } else {
        options.create_new(true)
    };
    options.open(path)?.write_all(text.as_bytes())
}

/// Replaces a file in one step: a larder that watches it reads the former text or the new one. A link stays, and so do the
/// permissions.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = path.canonicalize()?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", process::id()));
    let beside = path.with_file_name(name);
    let replaced = create(&beside, text, false)
        .and_then(|()| fs::set_permissions(&beside, fs::metadata(&path)?.permissions()))
        .and_then(|()| fs::rename(&beside, &path));
    if replaced.is_err() {
        let _gone = fs::remove_file(&beside);
    }
    replaced
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_file_is_replaced_in_one_step() {
        let folder = std::env::temp_dir().join(format!("larder-init-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (file, link) = (folder.join("proxy.yaml"), folder.join("link.yaml"));
        fs::write(&file, "former").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&file, &link).unwrap();
        let mut open = fs::File::open(&file).unwrap();
        assert_eq!(write_file(&link, "new", true), ExitCode::SUCCESS);
        let mut seen = String::new();
        open.read_to_string(&mut seen).unwrap();
        assert_eq!((seen.as_str(), fs::read_to_string(&file).unwrap().as_str()), ("former", "new"));
        assert!(link.is_symlink() && fs::metadata(&file).unwrap().permissions().mode() & 0o777 == 0o600);
        assert_ne!(write_file(&file, "newer", false), ExitCode::SUCCESS);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "nothing is left beside it");
        fs::remove_dir_all(&folder).unwrap();
    }
}
