//! The lossy link: a seeded coin per packet.
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::script::LossPpm;

/// What a lossy link did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LossCount {
    /// Packets that passed.
    pub passed: u64,
    /// Packets that were dropped.
    pub dropped: u64,
}

/// One direction of a link that drops packets by chance, each on its own.
#[derive(Debug)]
pub struct LossyLink {
    coin: ChaCha8Rng,
    loss: LossPpm,
    count: LossCount,
}

impl LossyLink {
    /// A link whose coin falls as `seed` decides.
    #[must_use]
    pub fn new(loss: LossPpm, seed: u64) -> Self {
        Self {
            coin: ChaCha8Rng::seed_from_u64(seed),
            loss,
            count: LossCount::default(),
        }
    }

    /// Throws the coin for one packet: `true` when it passes.
    pub fn passes(&mut self) -> bool {
        let drawn = self.coin.next_u32() % LossPpm::WHOLE;
        if drawn < self.loss.get() {
            self.count.dropped = self.count.dropped.saturating_add(1);
            return false;
        }
        self.count.passed = self.count.passed.saturating_add(1);
        true
    }

    /// What happened so far.
    #[must_use]
    pub const fn count(&self) -> LossCount {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_per_cent_are_lost_and_the_seed_decides_which() {
        let drops = |seed| {
            let mut link = LossyLink::new(LossPpm::try_new(30_000).unwrap(), seed);
            (0..100_000).filter(|_| !link.passes()).collect::<Vec<_>>()
        };

        let first = drops(1);

        assert!((2_800..3_200).contains(&first.len()), "{}", first.len());
        assert_eq!(first, drops(1));
        assert_ne!(first, drops(2));
    }

    #[test]
    fn link_without_loss_passes_everything() {
        let mut link = LossyLink::new(LossPpm::NONE, 1);

        assert!((0..10_000).all(|_| link.passes()));
        assert_eq!(link.count().passed, 10_000);
    }
}
