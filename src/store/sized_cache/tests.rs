use super::*;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

fn id(number: u64) -> EntryId {
    // Scattered like a hash.
    EntryId((u128::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_le_bytes())
}

fn time_at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(1_764_000_000 + seconds)
}

/// A request: a use, or else a fetch. Whether it was a hit.
fn ask(cache: &SizedCache<u64>, number: u64, weight: u64, now: Timestamp) -> bool {
    let is_hit = cache.get(&id(number)).is_some();
    if !is_hit {
        cache.insert(id(number), number, weight, now);
    }
    is_hit
}

fn ask_all(cache: &SizedCache<u64>, numbers: std::ops::Range<u64>, weight: u64, now: Timestamp) -> usize {
    numbers.filter(|number| ask(cache, *number, weight, now)).count()
}

/// A cache with 100 entries of 2 KiB that were asked for `times` times.
fn with_hot(capacity: u64, times: usize) -> SizedCache<u64> {
    let cache = SizedCache::new(capacity);
    for _ in 0..times {
        ask_all(&cache, 0..100, 2 * KIB, time_at(0));
    }
    cache
}

#[test]
fn uses_of_large_entries_evict_no_more_uses_of_small_ones() {
    for (weight, times) in [(7 * MIB, 3), (MIB, 3), (100 * KIB, 3), (3 * KIB, 3), (KIB, 10)] {
        for capacity in [16 * MIB, 256 * MIB] {
            let cache = with_hot(capacity, 20);
            for number in 1000..1000 + 3 * capacity / weight {
                for _ in 0..times {
                    ask(&cache, number, weight, time_at(1));
                }
            }
            assert!(cache.weight() > capacity / 2, "the memory was full");
            assert_eq!(ask_all(&cache, 0..100, 2 * KIB, time_at(2)), 100, "{weight} bytes in {capacity}");
        }
    }
}

#[test]
fn an_entry_worth_more_than_its_victims_takes_their_place() {
    let cache = with_hot(16 * MIB, 20);
    assert_eq!(ask_all(&cache, 1000..1016, MIB, time_at(1)), 0);
    // Each of its four victims was asked for once.
    let hits = (0..20).filter(|_| ask(&cache, 5000, 4 * MIB, time_at(2))).count();
    assert_eq!(hits, 15);
    assert_eq!(ask_all(&cache, 0..100, 2 * KIB, time_at(2)), 100);
}

#[test]
fn what_is_not_asked_for_any_more_gives_way_within_minutes() {
    let cache = with_hot(16 * MIB, 1000);
    for _ in 0..1000 {
        ask_all(&cache, 200..216, MIB - 20 * KIB, time_at(0));
    }
    let hits_in_minute = |minute: u64| {
        let now = time_at(60 * minute);
        (0..10).map(|_| ask_all(&cache, 300..315, MIB, now)).sum::<usize>()
    };
    assert_eq!(hits_in_minute(1), 0);
    let hits: Vec<_> = (2..20).map(hits_in_minute).collect();
    assert!(hits[10..].iter().all(|hits| *hits == 150), "{hits:?}");
}

#[test]
fn a_new_small_entry_may_be_used_before_it_is_judged() {
    let cache = with_hot(16 * MIB, 20);
    ask_all(&cache, 1000..20_000, 2 * KIB, time_at(1));
    assert!(!ask(&cache, 50_000, 2 * KIB, time_at(2)));
    // Smaller than the window in all.
    ask_all(&cache, 60_000..60_500, 2 * KIB, time_at(2));
    assert!(ask(&cache, 50_000, 2 * KIB, time_at(3)));
}

#[test]
fn the_weights_never_exceed_the_capacity() {
    let mut state = 1_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let cache = SizedCache::new(MIB);
    let mut weights = std::collections::HashMap::new();
    for step in 0..100_000 {
        let number = random(3000);
        match random(10) {
            0 => {
                cache.remove_if(&id(number), |_| true);
                weights.remove(&number);
            }
            1..4 => _ = cache.get(&id(number)),
            _ => {
                let weight = 1 << random(21);
                weights.insert(number, weight);
                let evicted = cache.insert(id(number), number, weight, time_at(step / 100)).evicted;
                let is_kept = cache.peek(&id(number)).is_some();
                assert_eq!(!is_kept, weight > MIB || evicted.iter().any(|(_, other)| *other == number));
            }
        }
        assert!(cache.weight() <= MIB, "step {step}");
    }
    let present = cache.values();
    assert_eq!(present.len(), cache.len());
    assert_eq!(present.iter().map(|number| weights[number]).sum::<u64>(), cache.weight());
}

#[test]
fn a_replaced_entry_keeps_its_uses() {
    let cache = with_hot(MIB, 20);
    for number in 0..100 {
        let displaced = cache.insert(id(number), number, 2 * KIB, time_at(1));
        assert!(displaced._replaced.is_some() && displaced.evicted.is_empty());
    }
    ask_all(&cache, 1000..9000, 2 * KIB, time_at(1));
    assert_eq!(ask_all(&cache, 0..100, 2 * KIB, time_at(2)), 100);
    cache.insert(id(7), 7, 2 * MIB, time_at(2));
    assert_eq!(cache.peek(&id(7)), None, "larger than the cache");
}

#[test]
fn an_absent_entry_gains_uses_beside_any_other() {
    let mut past = past_uses::PastUses::new(1);
    past.record(&id(1), 5, 0);
    for uses in [1, 1, 1] {
        past.record(&id(2), uses, 0);
        assert_eq!((past.count(&id(1), 0) > 0, past.count(&id(2), 0)), (true, 0));
    }
    past.record(&id(2), 1, 0);
    past.record(&id(2), 1, 0);
    assert_eq!((past.count(&id(1), 0), past.count(&id(2), 0)), (0, 1));
    assert_eq!(past.count(&id(2), 1), 0, "an age later");
}
