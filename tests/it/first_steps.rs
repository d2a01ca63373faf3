//! The way from an address of an API to a first `proxy.yaml`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{
    Answer, Client, Command, Larder, Process, Received, Scratch, Upstream, eventually, free_port,
};

/// `/dated` has a lifetime of its own, `/plain` has none, `/mine` is for one caller.
fn api() -> Upstream {
    let upstream = Upstream::start();
    upstream.on("/dated", Answer::ok("dated").header("cache-control", "max-age=60"));
    upstream.on("/plain", Answer::ok("plain"));
    upstream.on("/mine", Answer::ok("mine").header("cache-control", "private, max-age=60"));
    upstream.on("/gone", Answer::status(404));
    upstream
}

#[tokio::test]
async fn an_address_is_enough_and_init_writes_the_rest() {
    let upstream = api();
    let (scratch, folder) = (Scratch::new(), Scratch::new());
    let [proxy, admin] = [free_port(), free_port()];
    let (listen, operators) = (format!("127.0.0.1:{proxy}"), format!("127.0.0.1:{admin}"));
    let run = ["--upstream", &upstream.url(), "--listen", &listen, "--admin", &operators];
    let command = Command::new(&run).directory(folder.path());
    let larder = Process::spawn(command, scratch, proxy, admin).await;
    larder.get("/dated").await.assert_stored();
    larder.get("/dated").await.assert_hit();
    larder.get("/plain").await.assert_not_stored("no-lifetime");
    larder.get("/mine").await.assert_not_stored("private");
    eventually("it says how to go on", || async {
        larder.log().contains("larder init --upstream").then_some(())
    })
    .await;

    let init = |more: &[&str]| {
        let paths =
            ["init", "--upstream", &upstream.url(), "/dated", "/plain", "/mine?x=1", "/of/7/8", "/gone"];
        Command::new(&[&paths, more].concat()).directory(folder.path()).output()
    };
    let first = init(&[]).await;
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let file = folder.path().join("proxy.yaml");
    let text = std::fs::read_to_string(&file).expect("it is written");
    for line in [
        "  - path: /dated\n    ttl: upstream  # its own lifetime: 60 s\n",
        "  - path: /plain\n    mode: observe",
        "  - path: /mine\n    ttl: upstream  # not stored as it is (private)",
        "  # GET /of/7/8: 200 in ",
        "  - path: /of/{id}/{id2}\n",
        "  - path: /{*rest?}\n    ttl: upstream\n",
        "# ? GET /gone: 404 in",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    Command::new(&["check", "--strict", file.to_str().unwrap()]).stdout().await;
    // The larder that runs without a file takes the new one.
    eventually("the file is in use", || async {
        let reply = larder.get("/plain").await;
        reply.header("cache-status")?.contains("would-store").then_some(())
    })
    .await;

    let again = init(&[]).await;
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("--force"));
    assert!(init(&["--force"]).await.status.success());
    let printed = init(&["--print"]).await;
    assert!(String::from_utf8_lossy(&printed.stdout).contains("  - path: /dated\n"));
}

/// Courses with seats, which an enrolment takes.
fn courses() -> Upstream {
    let upstream = Upstream::start();
    let seats = Arc::new([30, 30, 30].map(AtomicUsize::new));
    let all = seats.clone();
    upstream.on("/courses", move |_: &Received| Answer::json(format!("{all:?}")));
    for course in 0..seats.len() {
        let (own, taken) = (seats.clone(), seats.clone());
        upstream.on(&format!("/courses/{course}"), move |_: &Received| {
            Answer::json(format!("[{:?}]", own[course]))
        });
        upstream.on(&format!("/courses/{course}/enroll"), move |_: &Received| {
            taken[course].fetch_sub(1, Ordering::SeqCst);
            Answer::status(204)
        });
    }
    upstream
}

/// Reads everything before and after each of some enrolments, and gives how many answers were hits; none is old.
async fn enrol(larder: &Client, upstream: &Upstream) -> usize {
    let api = Client::new(upstream.address());
    let mut hits = 0;
    for round in 0..12 {
        for path in ["/courses", "/courses/0", "/courses/1", "/courses/2", "/courses/2"] {
            let reply = larder.get(path).await.assert_status(200);
            assert_eq!(reply.text(), api.get(path).await.text(), "{path} in round {round}");
            hits += usize::from(reply.is_hit());
        }
        if round % 4 != 3 {
            larder.request("POST", &format!("/courses/{}/enroll", round % 4)).await.assert_status(204);
        }
    }
    hits
}

/// The five commands of docs/start.md: run and observe, suggest, check, lint, run with the file.
#[tokio::test]
async fn five_commands_lead_from_an_address_to_a_right_file() {
    let upstream = courses();
    let folder = Scratch::new();
    let [proxy, admin] = [free_port(), free_port()];
    let (listen, operators) = (format!("127.0.0.1:{proxy}"), format!("127.0.0.1:{admin}"));
    let start = |more: &[&str]| {
        let addresses = ["--listen", &listen, "--admin", &operators];
        let command = Command::new(&[&addresses, more].concat()).directory(folder.path());
        Process::spawn(command, Scratch::new(), proxy, admin)
    };
    let larder = start(&["--upstream", &upstream.url(), "--observe"]).await;
    assert_eq!(enrol(&larder, &upstream).await, 0, "nothing is cached");
    eventually("all reads are recorded", || async {
        let report: serde_json::Value = larder.admin.get("/observed").await.json();
        (report["sampled"] == 60).then_some(())
    })
    .await;
    // The shell empties the file that the running larder watches before the command writes it.
    let script = format!("\"$0\" suggest --observed --admin {operators} > proxy.yaml");
    let suggest = Command::with_program("sh", &["-c", &script, env!("CARGO_BIN_EXE_larder")]);
    suggest.directory(folder.path()).stdout().await;
    let file = folder.path().join("proxy.yaml");
    let text = std::fs::read_to_string(&file).expect("a file");
    assert!(text.contains(&format!("\nupstream: \"{}\"\n", upstream.url())), "{text}");
    eventually("the running larder takes the file", || async {
        (larder.metric("larder_config_in_use").await == 1.0
            && larder.log().contains("configuration reloaded"))
        .then_some(())
    })
    .await;
    assert_eq!(enrol(&larder, &upstream).await, 0, "nothing is turned on");
    Command::new(&["check", "--strict"]).directory(folder.path()).stdout().await;
    Command::new(&["lint"]).directory(folder.path()).stdout().await;
    drop(larder);
    // The step by hand: what the file says of it.
    let defaults = text.lines().find(|line| line.starts_with("defaults: {mode: observe}")).expect("the line");
    std::fs::write(&file, text.replace(defaults, "")).expect("a file");
    let larder = start(&[]).await;
    let hits = enrol(&larder, &upstream).await;
    assert!(hits >= 20, "{hits} hits\n{text}");
    for line in ["  - path: /courses/{id}/enroll\n", "    tags: [courses]", "    purges: ["] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

/// The command that larder prints when it runs without a file names no path.
#[tokio::test]
async fn init_asks_the_root_by_itself() {
    let upstream = Upstream::start();
    for (answer, paths, has_root) in [
        (Answer::ok("root").header("cache-control", "max-age=60"), &[][..], true),
        (Answer::ok("root"), &["/", "/a//b", "/a"], true),
        (Answer::status(404), &[], false),
    ] {
        upstream.on("/", answer);
        let folder = Scratch::new();
        let url = upstream.url();
        Command::new(&[&["init", "--upstream", &url], paths].concat())
            .directory(folder.path())
            .stdout()
            .await;
        let file = folder.path().join("proxy.yaml");
        Command::new(&["check", "--strict", file.to_str().unwrap()]).stdout().await;
        let text = std::fs::read_to_string(&file).expect("it is written");
        let rest = if has_root { "  - path: /{*rest}\n" } else { "  - path: /{*rest?}\n" };
        assert!(text.contains("  - path: /\n") == has_root && text.contains(rest), "{text}");
        assert_eq!(text.contains("# ? /a//b: no route"), paths.len() > 1, "{text}");
    }
}

#[tokio::test]
async fn without_an_api_there_is_no_file() {
    let folder = Scratch::new();
    let command = |arguments: &[&str]| Command::new(arguments).directory(folder.path()).output();
    let nowhere = Upstream::nowhere();
    for (arguments, code, message) in [
        (&["init", "--upstream", &nowhere][..], 1, "can't be reached"),
        (&["init", "--upstream", "htp://a"], 2, "--upstream"),
        (&["init", "--upstream", &nowhere, "no-path"], 2, "is not a path"),
        (&[], 2, "larder --upstream URL"),
        (&["--upstream", &nowhere, "-c", "named.yaml"], 2, "named.yaml"),
    ] {
        let output = command(arguments).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(message), "{arguments:?}: {said}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

const PETSHOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/draft/openapi/petshop.yaml");

#[tokio::test]
async fn a_suggestion_passes_every_check_and_purges_enough() {
    let suggested = Command::new(&["suggest", "--openapi", PETSHOP]).stdout().await;
    let scratch = Scratch::new();
    let file = scratch.file("proxy.yaml", &suggested);
    let name = file.to_str().unwrap();
    Command::new(&["check", "--strict", name]).stdout().await;
    Command::new(&["lint", name]).stdout().await;

    let upstream = Upstream::start();
    let observed = suggested.replace("upstream: \"https://eu.petshop.example\"\n", "");
    let larder = Larder::with(&observed, &upstream);
    larder.get("/v1/pets").await.assert_not_stored("would-store");
    let on: Vec<_> = observed.lines().filter(|line| !line.starts_with("defaults: {mode: observe}")).collect();
    let larder = Larder::with(&on.join("\n"), &upstream);
    let reads = ["/v1/pets?page=1", "/v1/pets/7", "/v1/pets/7/photos", "/v1/pets/8", "/v1/inventory"];
    let hits = async || {
        let mut hits = Vec::new();
        for path in reads {
            let request = larder.get(path);
            let request = if path == "/v1/inventory" { request.header("x-shop-badge", "a") } else { request };
            hits.push(request.await.is_hit());
        }
        hits
    };
    upstream.on("/v1/inventory", Answer::ok("").header("cache-control", "max-age=60"));
    hits().await;
    assert_eq!(hits().await, [true; 5]);
    larder.request("PATCH", "/v1/pets/7").await.assert_status(200);
    assert_eq!(hits().await, [false, false, false, true, true]);
    larder.request("POST", "/v1/pets/8/adopt").await.assert_status(200);
    assert_eq!(hits().await, [false, true, true, false, true]);

    let log = scratch
        .file("access.log", &"::1 - - [20/Nov/2025:13:00:00 +0100] \"GET /a HTTP/1.1\" 200 1\n".repeat(3));
    let suggested = Command::new(&["suggest", "--access-log", log.to_str().unwrap()]).stdout().await;
    assert!(suggested.contains("  # GET 3 times; hits without writes: 66 % at 10s"), "{suggested}");
    let vcl = scratch.file("default.vcl", "vcl 4.1; sub vcl_backend_response { set beresp.ttl = 30s; }");
    let imported = Command::new(&["import", "--from", vcl.to_str().unwrap()]).stdout().await;
    assert!(imported.contains("    ttl: 30s"), "{imported}");

    let output = Command::new(&["suggest", "--openapi", name]).output().await;
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no OpenAPI document"), "{said}");
}
