//! What is drawn by lot? The one place that does it: identities, words that nobody else uses, pauses that differ.
//!
//! A simulation gives its thread a seed, so that a run can be replayed; everywhere else the machine's random numbers are asked.

use std::cell::Cell;

use uuid::Uuid;

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From now on this thread draws the same numbers in the same order as any other with this seed: guessable, for simulations only. `None`: as before.
pub fn seed_this_thread(seed: Option<u64>) {
    SEED.set(seed);
}

/// An identity that nobody else has, ever.
#[must_use]
pub fn identity() -> String {
    uuid().to_string()
}

/// The same as 32 hexadecimal digits: a name for an object, a batch, a mark.
#[must_use]
pub fn word() -> String {
    uuid().simple().to_string()
}

/// A number from 0 to 255.
#[must_use]
pub fn byte() -> u8 {
    uuid().as_bytes()[0]
}

fn uuid() -> Uuid {
    let Some(seed) = SEED.get() else { return Uuid::new_v4() };
    let (high, state) = step(seed);
    let (low, state) = step(state);
    SEED.set(Some(state));
    uuid::Builder::from_random_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes()).into_uuid()
}

/// SplitMix64: the number, and the state after it.
fn step(state: u64) -> (u64, u64) {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31), state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_seed_makes_words_repeat() {
        assert_ne!(word(), word());
        let drawn = |seed| {
            seed_this_thread(Some(seed));
            let drawn = (word(), identity(), byte());
            seed_this_thread(None);
            drawn
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        assert_ne!(word(), drawn(7).0);
    }
}
