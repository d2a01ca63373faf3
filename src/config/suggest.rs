//! The nearest right name for a wrong one.

/// The known name that `written` most likely means.
pub fn nearest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let normal = normal_form(written);
    known
        .into_iter()
        .map(|name| {
            let form = normal_form(name);
            let begins_alike = normal.iter().zip(&form).take_while(|(a, b)| a == b).count();
            (distance(&normal, &form), std::cmp::Reverse(begins_alike), name)
        })
        .filter(|(distance, _, name)| *distance <= allowed(&normal, name))
        .min_by_key(|(distance, begins_alike, _)| (*distance, *begins_alike))
        .map(|(_, _, name)| name)
}

/// `maxSize` and `max-size` mean `max_size`.
fn normal_form(name: &str) -> Vec<char> {
    name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).take(64).collect()
}

/// A third of the letters may be wrong.
fn allowed(written: &[char], known: &str) -> usize {
    (written.len().max(known.len()) / 3).max(1).min(known.len() - usize::from(known.len() > 1))
}

/// Edits between two words: insert, delete, replace, swap neighbours (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in table.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in table[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(table[i - 2][j - 2] + 1);
            }
            table[i][j] = best;
        }
    }
    table[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_nearest_name_is_the_one_a_person_meant() {
        const KNOWN: [&str; 8] = ["ttl", "tags", "purges", "stale_if_error", "max_size", "per", "on", "off"];
        for (written, expected) in [
            ("tll", Some("ttl")),
            ("tag", Some("tags")),
            ("purge", Some("purges")),
            ("staleIfError", Some("stale_if_error")),
            ("max-size", Some("max_size")),
            ("pre", Some("per")),
            ("of", Some("off")),
            ("colour", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(written, KNOWN), expected, "{written}");
        }
    }
}
