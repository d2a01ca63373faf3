//! What this larder is called where several are named.

/// `given`, or the host's name and a random suffix: two on one host are two.
pub fn name(given: Option<&str>) -> String {
    let mut random = [0; 3];
    // Without randomness nothing here would have started.
    let random =
        getrandom::fill(&mut random).map_or(0, |()| u32::from_le_bytes([random[0], random[1], random[2], 0]));
    given.map_or_else(|| format!("{}-{random:06x}", host()), str::to_owned)
}

/// Whatever the system says, but never what a list of names could not hold.
fn host() -> String {
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
        assert_ne!(name(None), name(None));
        assert!(name(None).starts_with(&host()));
        assert_eq!(name(Some("one")), "one");
    }
}
