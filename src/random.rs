//! Randomness that must not be guessed: epochs, tokens, ids. Nothing else in the store names `getrandom`.

use std::io;
use std::sync::OnceLock;

/// Fills bytes in place of the system's generator.
pub(crate) type FillBytes = fn(&mut [u8]);

static SIMULATED: OnceLock<FillBytes> = OnceLock::new();

/// Replaces the system's generator for this whole process, for a simulation that is replayed by its seed.
pub fn simulate_randomness(fill: FillBytes) {
    SIMULATED.get_or_init(|| fill);
}

/// # Errors
/// If the system has no randomness.
pub fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    match SIMULATED.get() {
        None => getrandom::fill(&mut bytes).map_err(io::Error::other)?,
        Some(fill) => fill(&mut bytes),
    }
    Ok(bytes)
}

/// 32 hexadecimal digits that are never used twice.
///
/// # Errors
/// If the system has no randomness.
pub(crate) fn random_token() -> io::Result<String> {
    Ok(format!("{:032x}", u128::from_le_bytes(random_bytes()?)))
}
