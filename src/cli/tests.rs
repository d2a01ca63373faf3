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
        ("check", true),
        ("check a.yaml", true),
        ("schema", true),
        ("demo --listen 127.0.0.1:0 --admin 127.0.0.1:0", true),
        ("demo --listen nowhere", false),
        ("purge --tag a --tag b --url /x --prefix /y --soft --wait", true),
        ("purge --everything --admin http://127.0.0.1:9090 --token t", true),
        ("purge", false),
        ("purge --soft", false),
        ("purge --everything --admin https://h:1", false),
        ("purges --limit 5 --tag courses --json", true),
        ("stats --json", true),
        ("health --admin unix:/run/larder.sock", true),
        ("--listen 127.0.0.1:1 stats", false),
        ("sing", false),
    ] {
        let arguments = std::iter::once("larder").chain(line.split_whitespace());
        assert_eq!(Cli::try_parse_from(arguments).is_ok(), accepted, "larder {line}");
    }
}
