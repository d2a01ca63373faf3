//! The name of this replica.

use crate::random::random_bytes;

/// `given`, or the host's name and a random suffix: two on one host are two.
pub(crate) fn replica_name(given: Option<&str>) -> String {
    // Without randomness nothing here would have started.
    let random = random_bytes().map_or(0, |[a, b, c]| u32::from_le_bytes([a, b, c, 0]));
    given.map_or_else(|| format!("{}-{random:06x}", host_name()), str::to_owned)
}

/// The host name of the system, without characters that separate names in lists.
fn host_name() -> String {
    let told = ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .into_iter()
        .find_map(|path| std::fs::read_to_string(path).ok().filter(|name| !name.trim().is_empty()));
    let name = told.unwrap_or_else(|| "larder".to_owned());
    name.trim().chars().filter(|c| c.is_ascii_graphic()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_on_one_host_are_told_apart_unless_they_were_named() {
        assert_ne!(replica_name(None), replica_name(None));
        assert!(replica_name(None).starts_with(&host_name()));
        assert_eq!(replica_name(Some("one")), "one");
    }
}
