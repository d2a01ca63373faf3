//! Renders statistics and purges as text.

use serde_json::Value;

/// Renders the answer of `GET /stats`: a table of the routes, and a line of totals.
pub(super) fn format_stats(stats: &Value) -> String {
    let mut rows = vec![["ROUTE", "HITS", "MISSES", "HIT RATE", "PURGED", "TTL"].map(String::from)];
    for (name, route) in stats["routes"].as_object().into_iter().flatten() {
        let (hits, misses) = (&route["hits"], &route["misses"]);
        let ttl = match &route["ttlSeconds"] {
            Value::Null => "-".to_string(),
            seconds => format!("{seconds} s"),
        };
        rows.push([
            name.clone(),
            hits.to_string(),
            misses.to_string(),
            rate(hits, misses),
            route["invalidations"].to_string(),
            ttl,
        ]);
    }
    let all = &stats["stats"];
    format!(
        "{}\n{} hits, {} misses, {} % hits; {} stored in {} bytes, {} evicted\n",
        aligned(&rows),
        all["hits"],
        all["misses"],
        all["hitRate"],
        all["keyCount"],
        all["memoryUsed"],
        all["evictedKeys"],
    )
}

/// `1 target`, `2 targets`.
pub(in crate::cli) fn counted(count: &Value, noun: &str) -> String {
    format!("{count} {noun}{}", if *count == 1 { "" } else { "s" })
}

/// Renders the answer of `GET /audit`: a paragraph for each finding.
pub(in crate::cli) fn format_audit(report: &Value) -> String {
    if report["enabled"] == false {
        return "no hit is audited: set `audit: {sample: 0.1%}` in the configuration\n".into();
    }
    let counts = report["results"].as_object().into_iter().flatten();
    let counts: Vec<String> = counts.map(|(result, count)| format!("{count} {result}")).collect();
    let mut out =
        format!("audits: {}\n", if counts.is_empty() { "none yet".into() } else { counts.join(", ") });
    for finding in report["findings"].as_array().into_iter().flatten() {
        let age = finding["ageMs"].as_u64().unwrap_or_default() as f64 / 1e3;
        out += &format!(
            "\n{} on {} ({}, last {})\n  GET {}{}, stored {age:.1} s before\n",
            text(&finding["kind"]),
            text(&finding["route"]),
            counted(&finding["count"], "time"),
            text(&finding["lastAt"]),
            text(&finding["url"]),
            finding["request"].as_str().map_or_else(String::new, |place| format!(" ({place})")),
        );
        for difference in finding["differences"].as_array().into_iter().flatten() {
            let place = text(&difference["place"]);
            out += &format!(
                "  - {place}: {}\n  + {place}: {}\n",
                text(&difference["stored"]),
                text(&difference["fresh"])
            );
        }
        for cause in finding["causes"].as_array().into_iter().flatten() {
            let request =
                format!("{} {} at {}", text(&cause["method"]), text(&cause["path"]), text(&cause["at"]));
            let evidence = format!(
                "{} of {}",
                cause["different"],
                cause["different"].as_u64().unwrap_or_default() + cause["same"].as_u64().unwrap_or_default()
            );
            out += &format!("  after {request} (differed in {evidence} audits after such a write)\n");
        }
        out += &format!("  fix: {}\n", text(&finding["fix"]));
    }
    out
}

/// Formats the answer to a purge or to a dry run.
pub(super) fn format_purge(answer: &Value) -> String {
    let list = |value: &Value| {
        let names: Vec<String> = value.as_array().into_iter().flatten().map(text).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let verb = if answer["status"] == "dry-run" { "would purge" } else { "purged" };
    let position = match answer["position"].as_u64() {
        Some(position) => format!(", at position {position}"),
        None => String::new(),
    };
    let mut lines = format!("{verb} {}{position}\n", counted(&answer["targetCount"], "target"));
    lines += &format!("targets: {}\nroutes: {}\n", list(&answer["targets"]), list(&answer["routes"]));
    let matched = &answer["matched"];
    if matched.is_object() {
        let responses = counted(&matched["responses"], "response");
        lines += &format!("stored here: {responses}, {} bytes\n", matched["bytes"]);
    }
    if matched["hottest"].is_array() {
        lines += &format!("hottest: {}\n", list(&matched["hottest"]));
    }
    for warning in answer["warnings"].as_array().into_iter().flatten() {
        lines += &format!("warning: {}\n", text(warning));
    }
    lines
}

/// Renders the answer of `GET /purges`, a line for each purge. Values from requests are escaped, so that they can't control
/// the terminal.
pub(super) fn format_purges(log: &Value) -> String {
    let line = |purge: &Value| {
        let targets: Vec<String> = purge["targets"].as_array().into_iter().flatten().map(text).collect();
        let named = purge["targetCount"].as_u64().unwrap_or_default().saturating_sub(targets.len() as u64);
        let more = if named > 0 { format!(" and {named} more") } else { String::new() };
        let asked = match text(&purge["source"]).as_str() {
            "event" => text(&purge["from"]),
            _ => [&purge["route"], &purge["method"], &purge["path"]].map(text).join(" "),
        };
        format!(
            "{}  {}  {}{more}  by {} {} at {}\n",
            text(&purge["at"]),
            text(&purge["mode"]),
            targets.join(", "),
            text(&purge["source"]),
            asked.trim(),
            text(&purge["replica"]),
        )
    };
    log["purges"].as_array().into_iter().flatten().map(line).collect()
}

/// Renders the answer of `GET /explain?key=`: a line for each figure.
pub(super) fn format_key(entry: &Value) -> String {
    let or = |name: &str, other: &str| match &entry[name] {
        Value::Null => other.to_owned(),
        value => text(value),
    };
    if entry["kind"] == "variants" {
        return "variants of a response: each has a key of its own\n".to_owned();
    }
    let tags: Vec<String> = entry["tags"].as_array().into_iter().flatten().map(text).collect();
    format!(
        "route: {}\npath: {}\ntags: {}\n{}: status {}, {} bytes in {}, fetched at {}, dropped in {} s\n",
        or("route", "none of the present configuration"),
        or("path", "unknown: this replica has not answered with it"),
        if tags.is_empty() { "none".to_owned() } else { tags.join(", ") },
        text(&entry["validity"]),
        entry["status"],
        entry["contentBytes"],
        text(&entry["tier"]),
        text(&entry["fetchedAt"]),
        entry["droppedInSeconds"],
    )
}

/// A string's text, escaped so that it can't control the terminal.
fn text(value: &Value) -> String {
    let escape = |character: char| match character {
        '\'' | '"' => character.to_string(),
        other => other.escape_debug().to_string(),
    };
    value.as_str().unwrap_or_default().chars().map(escape).collect()
}

fn rate(hits: &Value, misses: &Value) -> String {
    match (hits.as_f64().unwrap_or_default(), misses.as_f64().unwrap_or_default()) {
        (0.0, 0.0) => "-".to_string(),
        (hits, misses) => format!("{:.1} %", hits / (hits + misses) * 100.0),
    }
}

/// Aligns the columns: the first to the left, the others to the right.
pub(in crate::cli) fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("  {cell:>width$}"),
        });
        cells.chain(["\n".to_string()]).collect::<String>()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_is_a_line_that_can_not_be_forged() {
        let log = serde_json::json!({"purges": [{
            "at": "T", "mode": "hard", "targets": ["tag a\nb"], "targetCount": 3, "source": "write",
            "route": "sell", "method": "POST", "path": "/sell", "replica": "one",
        }]});
        let expected = "T  hard  tag a\\nb and 2 more  by write sell POST /sell at one\n";
        assert_eq!(format_purges(&log), expected);
        let event = serde_json::json!({"purges": [{
            "at": "T", "mode": "hard", "targets": ["tag a"], "targetCount": 1, "source": "event", "from": "orders",
            "replica": "one",
        }]});
        assert_eq!(format_purges(&event), "T  hard  tag a  by event orders at one\n");
    }

    #[test]
    fn stats_are_a_table_of_routes_and_a_line_for_the_whole() {
        let stats = serde_json::json!({
            "stats": {"hits": 9, "misses": 3, "hitRate": 75.0, "memoryUsed": 10, "evictedKeys": 0, "keyCount": 2},
            "routes": {
                "courses": {"hits": 9, "misses": 3, "invalidations": 1, "ttlSeconds": 30},
                "x": {"hits": 0, "misses": 0, "invalidations": 0, "ttlSeconds": null},
            },
        });
        let expected = "\
ROUTE    HITS  MISSES  HIT RATE  PURGED   TTL
courses     9       3    75.0 %       1  30 s
x           0       0         -       0     -

9 hits, 3 misses, 75.0 % hits; 2 stored in 10 bytes, 0 evicted
";
        assert_eq!(format_stats(&stats), expected);
    }
}
