//! Randomness that must not be guessed: epochs, tokens, ids. Nothing else in the store names `getrandom`.

use std::cell::RefCell;
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

/// Ids that one call of the system's generator makes.
const POOLED_IDS: usize = 64;

/// Ids that were made and not used.
struct IdPool {
    ids: [u8; POOLED_IDS * size_of::<u128>()],
    left: usize,
}

thread_local! {
    static ID_POOL: RefCell<IdPool> = const { RefCell::new(IdPool { ids: [0; _], left: 0 }) };
}

/// An id that is never used twice. Not for a key: it lies in memory until it is used.
///
/// # Errors
/// If the system has no randomness.
pub(crate) fn random_id() -> io::Result<u128> {
    if SIMULATED.get().is_some() {
        return Ok(u128::from_le_bytes(random_bytes()?));
    }
    ID_POOL.with_borrow_mut(|IdPool { ids, left }| {
        if *left == 0 {
            *ids = random_bytes()?;
            *left = POOLED_IDS;
        }
        *left -= 1;
        let (ids, _) = ids.as_chunks();
        Ok(u128::from_le_bytes(ids[*left]))
    })
}

/// 32 hexadecimal digits that are never used twice.
///
/// # Errors
/// If the system has no randomness.
pub(crate) fn random_token() -> io::Result<String> {
    Ok(format!("{:032x}", u128::from_le_bytes(random_bytes()?)))
}
