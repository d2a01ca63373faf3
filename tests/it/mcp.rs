//! `larder mcp` as an assistant's client uses it: a process, one JSON-RPC message a line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};

use crate::support::{Answer, Command, Larder, Scratch, Upstream};

const YAML: &str = "routes:
  - {path: /api/courses, ttl: 60s, tags: [courses]}
  - {path: '/api/courses/{id}', ttl: 60s, tags: ['course:{id}'], purges: [courses]}
  - {path: /seen, ttl: 60s, mode: observe}
";

struct Assistant {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    last: u64,
}

impl Assistant {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(&[&["mcp"], arguments].concat()).into_inner();
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("larder");
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output, last: 0 }
    }

    fn send(&mut self, message: &Value) {
        writeln!(self.input, "{message}").expect("it reads");
    }

    /// Sends a request and reads its answer.
    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.last += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": self.last, "method": method, "params": params}));
        let mut line = String::new();
        self.output.read_line(&mut line).expect("an answer");
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!((&answer["id"], &answer["jsonrpc"]), (&json!(self.last), &json!("2.0")), "{answer}");
        answer
    }

    /// Calls a tool: its text, and whether it failed.
    fn call(&mut self, tool: &str, arguments: &Value) -> (String, bool) {
        let answer = self.ask("tools/call", &json!({"name": tool, "arguments": arguments}));
        let result = &answer["result"];
        assert_eq!(result["content"][0]["type"], "text", "{answer}");
        let text = result["content"][0]["text"].as_str().unwrap_or_default().to_owned();
        (text, result["isError"].as_bool().expect("a word on failure"))
    }

    fn tools(&mut self) -> Vec<String> {
        let answer = self.ask("tools/list", &json!({}));
        let tools = answer["result"]["tools"].as_array().expect("tools");
        tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    }

    /// The end of its input is its end.
    fn ends(mut self) {
        drop(self.input);
        assert!(self.child.wait().expect("a child").success());
    }
}

#[tokio::test]
async fn every_tool_answers_a_client() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    larder.get("/api/courses").await.assert_stored();
    larder.get("/api/courses").await.assert_hit();
    larder.request("PUT", "/api/courses/7").await.assert_status(200);
    for _ in 0..2 {
        upstream.on("/seen", Answer::ok("the same"));
        larder.get("/seen").await.assert_status(200);
    }
    larder.get("/api/courses").await.assert_stored();

    let scratch = Scratch::new();
    let config = scratch.file("proxy.yaml", &format!("upstream: {}\n{YAML}", upstream.url()));
    scratch.file(
        "right.test.yaml",
        "config: proxy.yaml\ntests:\n  - {name: list, request: GET /api/courses, expect: {stored: true}}\n",
    );
    scratch.file(
        "wrong.test.yaml",
        "config: proxy.yaml\ntests:\n  - {name: list, request: GET /api/courses, expect: {ttl: 5s}}\n",
    );
    scratch
        .file("api.json", r#"{"openapi": "3.0.0", "paths": {"/pets": {"get": {"responses": {"200": {}}}}}}"#);
    let (config, admin) = (config.display().to_string(), larder.admin.address().to_string());
    let conversation = move || {
        let mut assistant = Assistant::start(&["--config", &config, "--admin", &admin]);
        let hello = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}});
        let hello = assistant.ask("initialize", &hello);
        assert_eq!(hello["result"]["protocolVersion"], "2025-06-18");
        assert_eq!(hello["result"]["serverInfo"]["name"], "larder");
        assistant.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        let calls = [
            ("explain", json!({"url": "http://api/api/courses"}), "courses", false),
            ("explain", json!({"url": 7}), "url", true),
            ("stats", json!({}), "\"hits\"", false),
            ("stats", json!({"all": true}), "\"hits\"", false),
            ("purges", json!({"limit": 5, "tag": "course:7"}), "/api/courses/7", false),
            ("purges", json!({"limit": -1}), "limit", true),
            ("audit", json!({}), "{", false),
            ("sizes", json!({"by": "uses"}), "/api/courses", false),
            ("sizes", json!({"by": "colour"}), "by", true),
            ("health", json!({}), "\"ok\"", false),
            ("preview_purge", json!({"tags": ["courses"]}), "dry-run", false),
            ("preview_purge", json!({}), "no target", true),
            ("lint", json!({}), "nothing found", false),
            ("lint", json!({"file": "none.yaml"}), "can't be read", true),
            ("test", json!({"file": "right.test.yaml"}), "1 passed; 0 failed", false),
            ("test", json!({"file": "wrong.test.yaml"}), "ttl: expected 5s, found 1m", true),
            ("test", json!({}), "no regular file", true),
            ("suggest", json!({"openapi": "api.json"}), "- path: /pets", false),
            ("suggest", json!({}), "- path: /seen", false),
            ("suggest", json!({"openapi": "proxy.yaml"}), "no OpenAPI document", true),
        ];
        let mut tools = assistant.tools();
        for (tool, arguments, part, is_error) in calls {
            let (text, failed) = assistant.call(tool, &arguments);
            assert!(text.contains(part) && failed == is_error, "{tool} {arguments}: {failed} {text}");
            tools.retain(|other| other != tool);
        }
        assert_eq!(tools, [""; 0], "each tool was called");
        // A tool that is not allowed is unknown.
        let refused =
            assistant.ask("tools/call", &json!({"name": "purge", "arguments": {"everything": true}}));
        assert_eq!(refused["error"]["code"], -32602, "{refused}");
        assert_eq!(assistant.ask("prompts/list", &json!({}))["error"]["code"], -32601);
        assistant.ends();

        let mut assistant = Assistant::start(&["--config", &config, "--admin", &admin, "--allow", "purge"]);
        assert!(assistant.tools().contains(&"purge".to_owned()));
        let (text, failed) = assistant.call("purge", &json!({"tags": ["courses"]}));
        assert!(text.contains("\"purged\"") && !failed, "{text}");
        assistant.ends();
    };
    tokio::task::spawn_blocking(conversation).await.expect("the conversation ends");
    assert!(!larder.get("/api/courses").await.is_hit());
}
