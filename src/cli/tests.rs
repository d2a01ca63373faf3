use clap::CommandFactory;

use super::*;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn what_is_accepted_and_what_is_not() {
    for (line, accepted) in [
        ("", true),
        ("run", true),
        ("--config a.yaml --listen 127.0.0.1:1 --upstream http://h", true),
        ("run -c a.yaml --admin off --log-level debug", true),
        ("init --upstream http://h /a /b --force", true),
        ("init", false),
        ("suggest --openapi api.yaml --upstream http://h", true),
        ("suggest --access-log access.log", true),
        ("suggest --observed --admin h:1 --token t", true),
        ("suggest --observed --access-log a", false),
        ("suggest", false),
        ("suggest --openapi api.yaml --access-log access.log", false),
        ("import --from nginx.conf", true),
        ("import --from a --kind vcl", true),
        ("import", false),
        ("check", true),
        ("check a.yaml", true),
        ("check --config a.yaml", true),
        ("--config a.yaml check --strict --output github", true),
        ("-c a.yaml lint --output sarif", true),
        ("lint -c a.yaml b.yaml", false),
        ("test rules.yaml -c a.yaml --output json", true),
        ("check --output xml", false),
        ("stats -c a.yaml", true),
        ("explain -c a.yaml /a", true),
        ("completions bash", true),
        ("completions", false),
        ("man --dir pages", true),
        ("schema", true),
        ("demo --listen 127.0.0.1:0 --admin 127.0.0.1:0", true),
        ("demo --listen nowhere", false),
        ("purge --tag a --tag b --url /x --prefix /y --soft --wait", true),
        ("purge --everything --admin http://127.0.0.1:9090 --token t", true),
        ("purge", false),
        ("purge --soft", false),
        ("purge --everything --admin https://h:1", false),
        ("purge --everything --json", true),
        ("purge --tag a --dry-run", true),
        ("purge --tag a --dry-run --wait", false),
        ("purges --limit 5 --tag courses --json", true),
        ("stats --json", true),
        ("mcp --allow purge --admin h:1", true),
        ("mcp --allow everything", false),
        ("top --once --sort errors --interval 1s --limit 5", true),
        ("top --sort colour", false),
        ("tail --route a --outcome hit --path /a --client 10.0.0.1 --slower 50ms --json", true),
        ("tail --client me", false),
        ("audit --fail-on purge-missing --fail-on varies --json", true),
        ("audit --fail-on nothing", false),
        ("audit --replay a.http --fail-on stale --upstream http://h -c a.yaml", true),
        ("health --admin unix:/run/larder.sock", true),
        ("--listen 127.0.0.1:1 stats", false),
        ("sing", false),
    ] {
        let arguments = std::iter::once("larder").chain(line.split_whitespace());
        assert_eq!(parse(arguments.map(OsString::from)).is_ok(), accepted, "larder {line}");
    }
}
