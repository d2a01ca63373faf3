use serde_json::{Value, json};

use super::*;

/// Our own petstore: lists, items, actions, embedded schemas, and all kinds of callers.
const PETSHOP: &str = include_str!("petshop.yaml");

fn petshop() -> Value {
    assert!(PETSHOP.starts_with("openapi: 3.1"));
    read("petshop")
}

fn read(name: &str) -> Value {
    let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/draft/openapi"));
    let path = folder.join(name).with_extension("yaml");
    crate::config::read_document(&path).unwrap_or_else(|errors| panic!("{errors}"))
}

fn suggest(root: &Value) -> String {
    let draft = draft(root, "api.yaml", None).unwrap_or_else(|error| panic!("{error}"));
    let (text, findings) = draft.write().unwrap_or_else(|errors| panic!("{errors}\n{draft:#?}"));
    assert_eq!(findings, [], "{text}");
    text
}

/// The keys of a route, without their reasons.
fn route(text: &str, path: &str) -> Vec<String> {
    let block = text.split("  - path: ").find(|block| block.lines().next().is_some_and(|line| line == path));
    let lines = block.unwrap_or_else(|| panic!("{path}: {text}")).lines().skip(1);
    let keys = lines.filter(|line| line.starts_with("    ") && !line.trim_start().starts_with('#'));
    keys.map(|line| line.split("  # ").next().unwrap_or_default().trim().to_owned()).collect()
}

#[test]
fn a_document_becomes_routes_that_check_and_lint_accept() {
    let text = suggest(&petshop());
    for line in [
        "upstream: \"https://eu.petshop.example\"",
        "credentials: {also: [x-shop-badge]}",
        "defaults: {mode: observe}",
    ] {
        assert!(text.contains(&format!("\n{line}")), "{line}\n{text}");
    }
    for (path, expected) in [
        (
            "/v1/pets",
            &["ttl: 1m", "query: {page: \"1\", status: ~}", "headers: [accept-language]", "tags: [pets]"][..],
        ),
        ("/v1/pets/{petId}", &["ttl: 1m", "tags: [\"pets:{petId}\"]", "purges: [pets]"]),
        ("/v1/pets/{petId}/photos", &["ttl: 1m", "tags: [\"pets:{petId}\", photos]", "purges: [pets]"]),
        ("/v1/pets/{petId}/adopt", &["purges: [\"pets:{petId}\", pets]"]),
        ("/v1/orders", &["ttl: 1m", "per: authorization", "tags: [orders, pets]"]),
        ("/v1/orders/{orderId}", &["ttl: 1m", "per: authorization", "tags: [pets]"]),
        ("/v1/inventory", &["ttl: upstream", "per: header.x-shop-badge"]),
        ("/v1/files/{name}", &["ttl: 30s"]),
        ("/v1/prices", &["ttl: 30s", "per: \"authorization | header.x-shop-badge\""]),
    ] {
        assert_eq!(route(&text, path), expected, "{path}\n{text}");
    }
    for question in ["? GET /v1/users/me: not cached", "? GET /v1/feed: not cached: it is an event"] {
        assert!(text.contains(question), "{question}\n{text}");
    }
    assert!(!text.contains("login"), "a write that changes nothing that is read has no route: {text}");
    assert!(text.contains("listPets, POST addPet"), "{text}");
}

#[test]
fn a_key_in_a_field_with_an_underscore_reaches_the_api() {
    let text = suggest(&read("keyshop"));
    assert!(text.contains("\nunderscores: pass"), "{text}");
    assert!(!text.contains("path: /v2/stock"), "{text}");
    assert!(
        text.contains("# ? GET /v2/stock: not cached: callers identify themselves by `header.api_key`"),
        "{text}"
    );
    assert_eq!(route(&text, "/v2/shoes"), ["ttl: 1m", "per: authorization", "tags: [shoes]"], "{text}");
    let shoe = route(&text, "/v2/shoes/{shoeId}");
    assert!(shoe.contains(&"purges: [shoes]".to_owned()), "{text}");
    let depot = suggest(&read("depot"));
    assert!(depot.contains("\nunderscores: pass"), "{depot}");
    let shelf = ["ttl: 1m", "headers: [x_site]", "tags: [crates]"];
    assert_eq!(route(&depot, "/api/shelves/{shelfId}"), shelf, "{depot}");
    assert!(!suggest(&petshop()).contains("underscores"));
}

#[test]
fn a_format_at_the_end_of_a_path_is_no_part_of_its_name() {
    let text = suggest(&read("forum"));
    for (path, expected) in [
        ("/posts.json", &["ttl: 1m", "tags: [posts]"][..]),
        // The parameter takes the whole segment, which no other write names.
        ("/posts/{id}", &["ttl: 1m", "tags: [posts]"]),
        ("/posts/top.json", &["ttl: 1m", "tags: [posts]"]),
        // `/c/7/show.json` may be read as `/c/7/show`, which is a path of the other route.
        ("/c/{id}/show.json", &["ttl: never"]),
    ] {
        assert_eq!(route(&text, path), expected, "{path}\n{text}");
    }
    assert!(text.contains("# ? GET /c/{id}/show.json: not cached: "), "{text}");
    assert!(text.contains("# ? GET /me.json: not cached: `me` stands for the caller"), "{text}");
}

#[test]
fn other_documents_are_refused_with_what_to_do() {
    for (root, expected) in [
        (json!({"swagger": "2.0"}), "convert it"),
        (json!({"openapi": "4.0.0", "paths": {"/a": {}}}), "expected 3.0 or 3.1"),
        (json!([1]), "no OpenAPI document"),
        (json!({"openapi": "3.0.3"}), "no `paths`"),
        (json!({"openapi": "3.0.3", "paths": {"x-a": {}}}), "no `paths`"),
    ] {
        let error = draft(&root, "api.json", None).expect_err("refused");
        assert!(error.contains(expected), "{error}");
    }
    let many: serde_json::Map<_, _> = (0..=MAX_PATHS).map(|at| (format!("/a{at}"), json!({}))).collect();
    let error = draft(&json!({"openapi": "3.0.0", "paths": many}), "api.json", None).expect_err("too many");
    assert!(error.contains("4001 paths"), "{error}");
}

#[test]
fn credentials_are_named_if_per_takes_all_of_them() {
    let schemes = json!({
        "basic": {"type": "http", "scheme": "basic"},
        "oauth": {"type": "oauth2"},
        "cookie": {"type": "apiKey", "in": "cookie", "name": "session"},
        "query": {"type": "apiKey", "in": "query", "name": "key"},
        "key": {"type": "apiKey", "in": "header", "name": "X-Shop-Badge"},
        "hop": {"type": "apiKey", "in": "header", "name": "Connection"},
        "tls": {"type": "mutualTLS"},
    });
    for (security, expected) in [
        (json!([]), &["ttl: 30s"][..]),
        (json!([{"basic": []}]), &["ttl: 30s", "per: authorization"]),
        (json!([{"basic": []}, {"oauth": []}]), &["ttl: 30s", "per: authorization"]),
        (json!([{"cookie": []}, {}]), &["ttl: 30s", "per: cookie.session"]),
        (json!([{"query": []}]), &["ttl: 30s", "query: [key]"]),
        (json!([{"cookie": []}, {"basic": []}]), &["ttl: 30s", "per: \"authorization | cookie.session\""]),
        (json!([{"cookie": [], "basic": []}]), &["ttl: 30s", "per: \"authorization | cookie.session\""]),
        (json!([{"key": []}, {"basic": []}]), &["ttl: 30s", "per: \"authorization | header.x-shop-badge\""]),
        (json!([{"query": []}, {"basic": []}]), &[]),
        (json!([{"hop": []}]), &[]),
        (json!([{"tls": []}]), &[]),
        (json!([{"unknown": []}]), &[]),
    ] {
        let root = json!({
            "openapi": "3.0.0",
            "components": {"securitySchemes": schemes},
            "paths": {"/a": {"get": {"security": security, "responses": {"200": {}}}}},
        });
        let text = suggest(&root);
        match expected.is_empty() {
            true => assert!(
                !text.contains("- path:") && text.contains("? GET /a: not cached"),
                "{security}: {text}"
            ),
            false => assert_eq!(route(&text, "/a"), expected, "{security}: {text}"),
        }
    }
}

fn document(paths: Value) -> Value {
    json!({"openapi": "3.0.0", "servers": [{"url": "http://127.0.0.1:3000"}], "paths": paths})
}

#[test]
fn a_slash_at_the_end_changes_no_tag() {
    let read = json!({"responses": {"200": {}}});
    let text = suggest(&document(json!({
        "/api/orders/": {"get": read, "post": {}},
        "/api/orders/{id}/": {"get": read, "patch": {}},
        "/api/orders/{id}/pay/": {"post": {}},
    })));
    for (path, expected) in [
        ("/api/orders/", &["ttl: 1m", "tags: [orders]"][..]),
        ("/api/orders/{id}/", &["ttl: 1m", "tags: [\"orders:{id}\"]", "purges: [orders]"]),
        ("/api/orders/{id}/pay/", &["purges: [\"orders:{id}\", orders]"]),
    ] {
        assert_eq!(route(&text, path), expected, "{path}\n{text}");
    }
}

#[test]
fn an_item_that_no_tag_can_name_is_purged_by_its_kind() {
    let read = json!({"responses": {"200": {}}});
    let list = |get| json!({"get": get, "post": {}});
    for (item, expected) in [
        ("/orders/{orderId}/now", &["purges: [orders]"][..]),
        ("/orders/{orderId}", &["ttl: 1m", "tags: [orders]"]),
    ] {
        let mut paths = json!({"/orders": list(read.clone()), "/orders/{orderId}": {"get": read}});
        let action = item.replace("{orderId}", "{orderId}.cancel");
        paths[&action] = json!({"post": {}});
        let text = suggest(&document(paths));
        assert_eq!(route(&text, item), expected, "{text}");
        assert_eq!(route(&text, "/orders/{orderId}"), ["ttl: 1m", "tags: [orders]"], "{text}");
        assert!(text.contains(&format!("# ? POST {action}: no tag can name the item")), "{text}");
    }
}

#[test]
fn what_is_not_in_the_document_is_told() {
    let text = suggest(&document(json!({
        "/a": {"get": {"$ref": "other.yaml#/x"}},
        "/b": {"$ref": "./b.yaml"},
        "/c": {"get": {"parameters": [{"$ref": "#/components/parameters/none"}]}},
        "/d": {"get": {"$ref": "#/paths/~1e/get"}},
        "/e": {"get": {"parameters": [{"name": "q", "in": "query"}]}},
    })));
    for told in [
        "# ? GET /a: not cached: `other.yaml#/x` is not in this document",
        "# ? /b: `./b.yaml` is not in this document",
        "# ? GET /c: not cached: `#/components/parameters/none` is not",
        "# ? 2 references lead to other files (`./b.yaml`)",
    ] {
        assert!(text.contains(told), "{told}\n{text}");
    }
    assert_eq!(route(&text, "/d"), ["ttl: 30s", "query: [q]"]);
    assert_eq!(text.matches("- path:").count(), 2, "{text}");
}

/// The most specific path wins: a path that is not to be cached needs a route of its own beside one that matches it.
#[test]
fn what_another_route_would_cache_has_a_route_that_does_not() {
    let read = json!({"get": {"responses": {"200": {}}}});
    let text = suggest(&document(json!({
        "/users/{id}": {"get": {"responses": {"200": {}}}},
        "/users/me": read,
        "/users/me/posts": read,
        "/users/login": read,
        "/login": read,
    })));
    let all: Vec<_> = text.lines().filter(|line| line.starts_with("  - path: ")).collect();
    assert_eq!(all.len(), 3, "{text}");
    for path in ["/users/me", "/users/login"] {
        assert_eq!(route(&text, path), ["ttl: never"], "{text}");
    }
}

#[test]
fn a_documented_cache_control_is_read() {
    let get = |header: Value| json!({"get": {"responses": {"200": {"headers": {"Cache-Control": header}}}}});
    let text = suggest(&document(json!({
        "/a": get(json!({"schema": {"const": "no-store"}})),
        "/b": get(json!({"schema": {"enum": ["private, No-Store"]}})),
        "/c": get(json!({"schema": {"type": "string"}, "example": "max-age=60"})),
        "/d": get(json!({"schema": {"type": "string"}})),
        "/login": {"get": {"responses": {"200": {}}}},
    })));
    for told in [
        "# ? GET /a: not cached: the document says `Cache-Control: no-store`",
        "# ? GET /b: not cached: the document",
        "# ? GET /login: not cached: `login` most likely answers for one caller",
        "  - path: /c\n    ttl: upstream  # the document says `Cache-Control: max-age=60`\n",
        "  - path: /d\n    ttl: upstream  # the document says that the response has a lifetime\n",
    ] {
        assert!(text.contains(told), "{told}\n{text}");
    }
}

/// AIP-136, OData.
#[test]
fn a_method_on_a_part_of_a_segment_purges_what_it_is_called_on() {
    let read = json!({"responses": {"200": {}}});
    let root = json!({"openapi": "3.0.0", "paths": {
        "/orders": {"get": read},
        "/orders/{orderId}": {"get": read},
        "/orders/{orderId}:cancel": {"post": {}},
        "/odata/Books({key})": {"get": read},
        "/odata/Books({key})/Lend": {"post": {}},
        "/files/{name}.{format}": {"get": read},
    }});
    let text = suggest(&root);
    let cancel = route(&text, "\"/orders/{orderId}:cancel\"");
    assert!(cancel.iter().any(|line| line.contains("orders:{orderId}")), "{text}");
    assert_eq!(route(&text, "\"/odata/Books({key})\""), ["ttl: 1m", "tags: [\"books:{key}\"]"], "{text}");
    assert_eq!(route(&text, "\"/odata/Books({key})/Lend\""), ["purges: [\"books:{key}\"]"], "{text}");
    assert!(text.contains("- path: /files/{name}"), "{text}");
}

#[test]
fn a_get_that_acts_or_is_of_the_moment_is_a_question() {
    let read = json!({"responses": {"200": {}}});
    let named = json!({"operationId": "startJob", "responses": {"200": {}}});
    let by_token = json!({"parameters": [{"name": "token", "in": "query"}], "responses": {"200": {}}});
    let text = suggest(&document(json!({
        "/logout": {"get": read},
        "/oauth/authorize": {"get": read},
        "/verify-email": {"get": read},
        "/unsubscribe/{token}": {"get": read},
        "/invitations": {"get": by_token},
        "/jobs/{id}/run": {"get": read},
        "/jobs/{id}/begin": {"get": named},
        "/health": {"get": read},
        "/time": {"get": read},
        "/random": {"get": read},
        "/runs/{id}": {"get": read},
        "/starts": {"get": read},
    })));
    assert_eq!(text.matches("- path:").count(), 2, "{text}");
    assert_eq!(text.matches("# ? GET ").count(), 10, "{text}");
    for told in [
        "# ? GET /jobs/{id}/begin: not cached: `startJob` sounds like an action",
        "# ? GET /unsubscribe/{token}: not cached: `unsubscribe` sounds",
        "# ? GET /invitations: not cached: `token` sounds like a link",
        "# ? GET /random: not cached: `random` sounds like an answer for the moment",
    ] {
        assert!(text.contains(told), "{told}\n{text}");
    }
}

#[test]
fn a_write_that_purges_nothing_is_a_question() {
    let read = json!({"responses": {"200": {}}});
    let search = json!({"summary": "search nodes"});
    let text = suggest(&document(json!({
        "/courses": {"get": read, "post": {}},
        "/courses/{id}": {"get": read},
        "/course/{id}": {"put": {}},
        "/import": {"post": {}},
        "/bulk/courses": {"post": {}},
        "/categories": {"get": read},
        "/category/{id}": {"get": read, "put": {}},
        "/nodes/search": {"post": search},
        "/login": {"post": {}},
        "/plain": {"get": read},
    })));
    let flat = text.replace("\n#", "");
    for told in [
        "? PUT /course/{id}: it purges nothing that is read here",
        "? POST /import: it purges nothing",
        "? POST /bulk/courses: does it change more than its tags name",
        "? GET /categories: do writes to /category/{id} change it?",
        "? POST /nodes/search: does it only read?",
        "ttl: 30s  # writes to /category/{id} may change it",
        "ttl: 30s  # no documented write changes it",
    ] {
        assert!(flat.contains(told), "{told}\n{text}");
    }
    assert_eq!(text.matches("no documented write").count(), 1, "{text}");
    assert!(!text.contains("login"), "{text}");
}

#[test]
fn views_of_a_list_are_purged_with_it() {
    let read = json!({"responses": {"200": {}}});
    let text = suggest(&document(json!({
        "/courses": {"get": read, "post": {}},
        "/courses/{id}": {"get": read, "patch": {}},
        "/courses/latest": {"get": read},
        "/courses/by-category/{cat}": {"get": read},
        "/courses/export.csv": {"get": read},
        "/courses/{id}/lessons": {"get": read},
        "/courses/{courseId}/lessons/{lesson}": {"get": read, "put": {}},
        "/courses/{id}/lessons/count": {"get": read},
        "/plans/{id}": {"get": read},
        "/plans/latest": {"get": read},
        "/coursesets/latest": {"get": read},
    })));
    for path in ["/courses/latest", "/courses/by-category/{cat}", "/courses/export.csv"] {
        let settings = route(&text, path);
        assert!(
            settings.iter().any(|line| line.starts_with("tags: [courses]")),
            "{path} {settings:?}\n{text}"
        );
        assert_eq!(settings[0], "ttl: 1m", "{path}");
    }
    let count = route(&text, "/courses/{id}/lessons/count");
    assert!(count.iter().any(|line| line.starts_with("tags: ") && line.contains("lessons")), "{count:?}");
    for path in ["/plans/latest", "/coursesets/latest"] {
        assert_eq!(route(&text, path), ["ttl: 30s"], "{path}");
    }
    assert!(text.contains("a view of the list of courses"), "{text}");
}

#[test]
fn hostile_documents_are_read_in_bounds() {
    let loops = json!({
        "openapi": "3.0.0",
        "paths": {
            "/a": {"$ref": "#/paths/~1a"},
            "/b/{x}/{x}": {"get": {"parameters": {"$ref": "#/nowhere"}, "responses": {"200": {"content": {"a/b": {
                "schema": {"$ref": "#/components/schemas/S"}}}}}}},
            "/c\nroutes: []/${HOME}": {"get": 7},
            "/d/{*rest}": {"get": {"responses": {"200": {"content": {"a/b": {"schema": {"$ref": "#/x"}}}}}}},
            "/e/../f": {"get": {}},
            "/${HOME}": {"get": {}},
            "/g": {"get": {"parameters": [{"name": "a\nb: c", "in": "query"}, {"name": "", "in": "query"},
                {"name": "ignore", "in": "query", "schema": {"default": 1}}, {"name": "bad name", "in": "header"},
                {"name": "a;b", "in": "cookie"}, {"name": "connection", "in": "header"}]}},
            "/H": {"get": {}}, "/h": {"post": {}},
        },
        "components": {"schemas": {"S": {"allOf": [{"$ref": "#/components/schemas/S"}, {"$ref": "#/components/schemas/T"}]},
            "T": {"properties": {"s": {"$ref": "#/components/schemas/S"}}}}},
        "x": {"$ref": "#/x"},
    });
    let text = suggest(&loops);
    assert!(text.contains("/b/{x}/{x1}"), "{text}");
    // Each schema refers to the next two: walked naively, that takes 2^100 steps.
    let next = |at: usize| json!({"$ref": format!("#/components/schemas/S{at}")});
    let schemas: serde_json::Map<_, _> =
        (0..100).map(|at| (format!("S{at}"), json!({"anyOf": [next(at + 1), next(at + 2)]}))).collect();
    let wide = json!({"type": "object", "properties": (0..50_000).map(|at| (at.to_string(), next(0))).collect::<serde_json::Map<_, _>>()});
    let root = json!({
        "openapi": "3.0.0",
        "components": {"schemas": schemas},
        "paths": {"/a": {"get": {"responses": {"200": {"content": {"a/b": {"schema": wide}}}}}}},
    });
    assert_eq!(route(&suggest(&root), "/a"), ["ttl: 30s"]);
}
