//! Statistics and purges as people read them.

use serde_json::Value;

/// What `GET /stats` gave, as a table of its routes and a line for the whole.
pub fn of_stats(stats: &Value) -> String {
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

/// What `GET /purges` gave, a line each. What a request sent is written so that it can't speak to the terminal.
pub fn of_purges(told: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().escape_debug().to_string();
    let line = |purge: &Value| {
        let targets: Vec<String> = purge["targets"].as_array().into_iter().flatten().map(text).collect();
        let named = purge["targetCount"].as_u64().unwrap_or_default().saturating_sub(targets.len() as u64);
        let more = if named > 0 { format!(" and {named} more") } else { String::new() };
        let asked = [&purge["route"], &purge["method"], &purge["path"]].map(text).join(" ");
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
    told["purges"].as_array().into_iter().flatten().map(line).collect()
}

fn rate(hits: &Value, misses: &Value) -> String {
    match (hits.as_f64().unwrap_or_default(), misses.as_f64().unwrap_or_default()) {
        (0.0, 0.0) => "-".to_string(),
        (hits, misses) => format!("{:.1} %", hits / (hits + misses) * 100.0),
    }
}

/// The first column to the left, the others to the right.
fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
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
        let told = serde_json::json!({"purges": [{
            "at": "T", "mode": "hard", "targets": ["tag a\nb"], "targetCount": 3, "source": "write",
            "route": "sell", "method": "POST", "path": "/sell", "replica": "one",
        }]});
        let expected = "T  hard  tag a\\nb and 2 more  by write sell POST /sell at one\n";
        assert_eq!(of_purges(&told), expected);
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
        assert_eq!(of_stats(&stats), expected);
    }
}
