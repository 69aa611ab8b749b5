//! Random numbers that follow from a seed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A source of numbers; clones draw from the same one. SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub struct Dice(Arc<Mutex<u64>>);

impl Dice {
    /// The numbers of this seed.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed)))
    }

    /// Another source, whose numbers follow from the next of this one: what is drawn there does not
    /// shift what is drawn here.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::new(self.number())
    }

    /// The next number.
    pub fn number(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(*state)
    }

    /// A number below this one, which is not 0.
    pub fn below(&self, bound: u64) -> u64 {
        self.number() % bound.max(1)
    }

    /// Whether something happens that happens so many times in a thousand.
    pub fn chance(&self, in_a_thousand: u64) -> bool {
        self.below(1000) < in_a_thousand
    }

    /// Milliseconds between these.
    pub fn millis(&self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most.saturating_sub(least) + 1))
    }

    /// One of these.
    pub fn pick<T: Copy>(&self, among: &[T]) -> Option<T> {
        let at = usize::try_from(self.below(among.len() as u64)).unwrap_or(0);
        among.get(at).copied()
    }
}

/// Spreads a number over all bits.
pub(crate) fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
