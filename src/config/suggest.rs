//! Suggests the known name that a wrong one most likely stands for.

/// Returns the known name closest to `written`; of equally close ones, the one with the longest common prefix.
pub(crate) fn nearest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let normal = normalize(written);
    known
        .into_iter()
        .map(|name| {
            let form = normalize(name);
            let common_prefix = normal.chars().zip(form.chars()).take_while(|(a, b)| a == b).count();
            (strsim::osa_distance(&normal, &form), std::cmp::Reverse(common_prefix), name)
        })
        .filter(|(distance, _, name)| *distance <= max_distance(&normal, name))
        .min_by_key(|(distance, common_prefix, _)| (*distance, *common_prefix))
        .map(|(_, _, name)| name)
}

/// Treats `maxSize` and `max-size` as `max_size`, and bounds the length.
fn normalize(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).take(64).collect()
}

/// Allows a third of the letters to be wrong.
fn max_distance(written: &str, known: &str) -> usize {
    let longest = written.chars().count().max(known.len());
    (longest / 3).max(1).min(known.len() - usize::from(known.len() > 1))
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
