//! The commands that ask a running larder, where they are told a wrong address or file, or can't write their output.

use std::fs::File;
use std::process::Stdio;

use crate::support::{Answer, Command, Larder, Scratch, Upstream};

/// The exit code, and all that was printed.
async fn run(command: Command) -> (Option<i32>, String) {
    let output = command.output().await;
    let printed = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&printed).into_owned())
}

const COMMANDS: [&[&str]; 15] = [
    &["purge", "--everything"],
    &["purge", "--tag", "a", "--wait"],
    &["purge", "--tag", "a", "--dry-run"],
    &["purges"],
    &["stats"],
    &["stats", "--all"],
    &["audit", "--fail-on", "stale"],
    &["health"],
    &["top", "--once"],
    &["tail"],
    &["warm", "--url", "/a"],
    &["refresh", "--expiring-within", "1m"],
    &["drain"],
    &["drain", "--exit"],
    &["explain", "--now", "http://api/a"],
];

/// The API and the listener for clients answer 200 with JSON to everything. Neither gets a command or a token.
#[tokio::test]
async fn an_address_of_another_server_gets_no_command() {
    let upstream = Upstream::start();
    for command in ["purge", "purges", "stats", "audit", "readyz", "dashboard/data", "decisions", "warm"] {
        upstream.on(&format!("/{command}"), Answer::json("{\"status\": \"ok\", \"connections\": 0}"));
    }
    upstream.on("/drain", Answer::json("{\"connections\": 0}")).on("/", Answer::json("{}"));
    let larder = Larder::with("routes: [{path: \"/{*rest?}\", ttl: 60s, shared: true}]", &upstream);
    for address in [upstream.address(), larder.address()] {
        for token in [&[][..], &["--token", "secret"]] {
            for arguments in COMMANDS {
                let address = address.to_string();
                let arguments = [arguments, &["--admin", &address], token].concat();
                let (code, said) = run(Command::new(&arguments)).await;
                assert_eq!(code, Some(1), "{arguments:?}: {said}");
                let fix = "not as larder's admin listener";
                assert!(said.contains(fix) && said.contains("--admin"), "{arguments:?}: {said}");
            }
        }
    }
    for request in upstream.all() {
        assert!(["GET", "HEAD"].contains(&request.method.as_str()), "{} {}", request.method, request.target);
        assert_eq!(request.header("authorization"), None, "{} {}", request.method, request.target);
    }
}

/// With a token and without, under a proxy that passes one path on, and of a release that does not name itself.
#[tokio::test]
async fn an_admin_listener_is_recognized() {
    let upstream = Upstream::start();
    for (section, token) in [("{}", &[][..]), ("{token: secret}", &["--token", "secret"])] {
        let yaml = format!("admin: {section}\naudit: {{sample: 1}}\nroutes: [{{path: /a, ttl: 60s}}]");
        let larder = Larder::with(&yaml, &upstream);
        let address = larder.admin.address().to_string();
        for arguments in COMMANDS.iter().filter(|command| command[0] != "tail" && command[0] != "drain") {
            let arguments = [*arguments, &["--admin", &address], token].concat();
            let (_, said) = run(Command::new(&arguments)).await;
            assert!(!said.contains("not as larder's"), "{arguments:?}: {said}");
        }
    }
    upstream.on("/", Answer::ok("larder admin API\n\nGET /healthz"));
    upstream.on("/readyz", Answer::json("{\"status\": \"ok\"}"));
    let address = upstream.address().to_string();
    assert_eq!(Command::new(&["health", "--admin", &address]).stdout().await.trim(), "ok");
}

#[tokio::test]
async fn an_audit_that_is_off_finds_nothing_and_so_fails() {
    let upstream = Upstream::start();
    let larder = Larder::with("routes: [{path: /a, ttl: 60s}]", &upstream);
    let address = larder.admin.address().to_string();
    let audit = ["audit", "--admin", &address];
    assert_eq!(run(Command::new(&audit)).await.0, Some(0));
    let (code, said) = run(Command::new(&[&audit[..], &["--fail-on", "stale"]].concat())).await;
    assert!(code == Some(1) && said.contains("set `audit: {sample"), "{said}");
}

/// It would else be the default address, at which another larder may listen.
#[tokio::test]
async fn the_address_is_not_guessed_for_a_missing_file() {
    for arguments in COMMANDS {
        let (code, said) = run(Command::new(&[&["-c", "/nowhere/typo.yaml"][..], arguments].concat())).await;
        assert!(
            code == Some(2) && said.contains("/nowhere/typo.yaml does not exist"),
            "{arguments:?}: {said}"
        );
    }
    let by_variable = |arguments: &[&str]| Command::new(arguments).env("LARDER_CONFIG", "/nowhere/typo.yaml");
    let (code, said) = run(by_variable(&["stats"])).await;
    assert!(code == Some(1) && said.contains("/nowhere/typo.yaml does not exist"), "{said}");
    // An image names a file that only its server has.
    let upstream = Upstream::start();
    let larder = Larder::with("routes: []", &upstream);
    let address = larder.admin.address().to_string();
    assert_eq!(run(by_variable(&["stats", "--admin", &address])).await.0, Some(0));
}

#[tokio::test]
async fn output_that_can_not_be_written_is_an_exit_code() {
    let upstream = Upstream::start();
    let larder = Larder::with("routes: [{path: /a, ttl: 60s}]", &upstream);
    let address = larder.admin.address().to_string();
    let scratch = Scratch::new();
    scratch.file("proxy.yaml", "upstream: http://127.0.0.1:1\nroutes: [{path: /a, ttl: 60s}]");
    for arguments in [
        &["schema"][..],
        &["check"],
        &["explain", "/a"],
        &["demo", "--print-config"],
        &["stats", "--admin", &address],
        &["purge", "--everything", "--admin", &address],
        &["explain", "--now", "http://api/a", "--admin", &address],
    ] {
        for (output, code, said) in [("full", 1, "larder: the output can't be written"), ("pipe", 141, "")] {
            let mut command = Command::new(arguments).directory(scratch.path()).into_inner();
            let (reader, writer) = std::io::pipe().expect("a pipe");
            drop(reader);
            command.stderr(Stdio::piped()).stdout(match output {
                "full" => Stdio::from(File::create("/dev/full").expect("a full device")),
                _ => Stdio::from(writer),
            });
            let ended = tokio::task::spawn_blocking(move || command.spawn()?.wait_with_output());
            let ended = ended.await.expect("no panic").expect("it can be run");
            let stderr = String::from_utf8_lossy(&ended.stderr);
            assert_eq!(ended.status.code(), Some(code), "{arguments:?} {output}: {stderr}");
            assert!(stderr.starts_with(said) && !stderr.contains("panicked"), "{arguments:?}: {stderr}");
        }
    }
}
