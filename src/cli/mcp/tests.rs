use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: McpArgs,
}

fn exchange(may_purge: bool, input: &str) -> Vec<Value> {
    let Line { args } = Line::parse_from(["mcp", "--admin", "127.0.0.1:1", "--token", "t"]);
    let toolbox = Toolbox { admin: args.admin, config: "none.yaml".into(), may_purge };
    let mut output = Vec::new();
    serve(&toolbox, input.as_bytes(), &mut output).expect("it ends with its input");
    String::from_utf8(output).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_request_has_one_answer_and_notifications_have_none() {
    let answers = exchange(
        false,
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2024-11-05"}}
{"jsonrpc":"2.0","method":"notifications/initialized"}

{"jsonrpc":"2.0","id":"two","method":"ping"}
{"jsonrpc":"2.0","id":3,"method":"resources/list"}
not json
{"id":4}
{"id":5,"result":{}}
{"jsonrpc":"2.0","id":6,"method":"tools/call","params":{"name":"no-tool"}}
{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"stats"}}
{"jsonrpc":"2.0","id":8,"method":"tools/call"}
[]
{}
5
"#,
    );
    let codes: Vec<_> =
        answers.iter().map(|answer| (answer["id"].clone(), answer["error"]["code"].as_i64())).collect();
    assert_eq!(
        codes,
        [
            (json!(1), None),
            (json!("two"), None),
            (json!(3), Some(METHOD_NOT_FOUND)),
            (Value::Null, Some(PARSE_ERROR)),
            (json!(4), Some(INVALID_REQUEST)),
            (json!(6), Some(INVALID_PARAMS)),
            (json!(7), None),
            (json!(8), Some(INVALID_PARAMS)),
            (Value::Null, Some(INVALID_REQUEST)),
            (Value::Null, Some(INVALID_REQUEST)),
            (Value::Null, Some(INVALID_REQUEST)),
        ]
    );
    assert_eq!(answers[0]["result"]["protocolVersion"], "2024-11-05");
    assert_eq!(answers[6]["result"]["isError"], true, "nothing listens there");
}

#[test]
fn it_purges_only_if_that_is_allowed() {
    let list = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}\n";
    let call = "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"tools/call\",\"params\":{\"name\":\"purge\"}}\n";
    for may_purge in [false, true] {
        let answers = exchange(may_purge, &format!("{list}{call}"));
        let tools = answers[0]["result"]["tools"].as_array().unwrap();
        assert_eq!(tools.iter().any(|tool| tool["name"] == "purge"), may_purge);
        assert!(tools.iter().all(|tool| tool["inputSchema"]["type"] == "object"));
        assert_eq!(answers[1]["error"]["code"].as_i64() == Some(INVALID_PARAMS), !may_purge);
    }
}

#[test]
fn files_are_read_below_the_folder_of_the_configuration() {
    let folder = std::env::temp_dir().join(format!("larder-mcp-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("inner")).unwrap();
    std::fs::write(folder.join("inner/other.yaml"), "hunter2: [").unwrap();
    std::fs::write(folder.join("large.yaml"), "#".repeat((1 << 20) + 1)).unwrap();
    let Line { args } = Line::parse_from(["mcp"]);
    let toolbox = Toolbox { admin: args.admin, config: folder.join("proxy.yaml"), may_purge: false };
    let lint = |file: &str| toolbox.call("lint", &json!({"file": file})).unwrap().unwrap_err();
    for (file, expected) in [
        ("/etc/hostname", "not below the folder"),
        ("../", "not below the folder"),
        ("inner", "no regular file"),
        ("large.yaml", "no regular file of at most 1048576 bytes"),
        ("none.yaml", "can't be read"),
    ] {
        assert!(lint(file).contains(expected), "{file}: {}", lint(file));
    }
    assert!(lint("inner/other.yaml").contains("other.yaml") && !lint("inner/other.yaml").contains("hunter2"));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_message_without_an_end_is_not_read_for_ever() {
    let Line { args } = Line::parse_from(["mcp"]);
    let toolbox = Toolbox { admin: args.admin, config: "none.yaml".into(), may_purge: false };
    let error =
        serve(&toolbox, std::io::repeat(b'a').take(u64::MAX).buffered(), Vec::new()).expect_err("too long");
    assert!(error.contains("1048576 bytes"), "{error}");
}

trait Buffered: std::io::Read + Sized {
    fn buffered(self) -> std::io::BufReader<Self> {
        std::io::BufReader::new(self)
    }
}

impl<R: std::io::Read> Buffered for R {}
