//! Turns bytes into units: the one place where it happens.

use std::num::NonZeroU64;

use crate::units::{Bytes, Units};

/// A stated sum of units spread evenly over a stated volume.
///
/// Kept as two integers and never as a price per byte: 1 QLC over 3 MB has no exact decimal.
/// Source: white paper v9.1, section 3.2, "Token usage and data usage".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ratio {
    total: Units,
    volume: NonZeroU64,
}

/// Why a usage could not be rated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RatingError {
    /// The volume is zero.
    #[error("a volume of zero bytes cannot be rated")]
    NoVolume,
    /// More bytes were metered than were bought.
    #[error("usage of {used} bytes exceeds the volume of {volume} bytes")]
    VolumeExceeded {
        /// Bytes metered so far.
        used: u64,
        /// Bytes bought.
        volume: u64,
    },
}

impl Ratio {
    /// `total` units for `volume` bytes.
    ///
    /// # Errors
    ///
    /// [`RatingError::NoVolume`] when `volume` is zero.
    pub fn new(total: Units, volume: Bytes) -> Result<Self, RatingError> {
        let volume = NonZeroU64::new(volume.get()).ok_or(RatingError::NoVolume)?;
        Ok(Self { total, volume })
    }

    /// The whole sum.
    #[must_use]
    pub const fn total(&self) -> Units {
        self.total
    }

    /// The whole volume.
    #[must_use]
    pub const fn volume(&self) -> Bytes {
        Bytes::new(self.volume.get())
    }

    /// Total owed once `used` bytes are consumed: `floor(total * used / volume)`.
    ///
    /// Pay `owed(after) - owed(before)`, never the rating of a difference: the rounding then
    /// cancels out, and a fully used volume has paid exactly its total.
    ///
    /// # Errors
    ///
    /// [`RatingError::VolumeExceeded`] when `used` is larger than the volume.
    pub fn owed(&self, used: Bytes) -> Result<Units, RatingError> {
        self.divide(used).map(|(owed, _)| owed)
    }

    /// What [`Self::owed`] rounds away: `total * used mod volume`, the key by which leftover
    /// units are handed out at close (largest first).
    ///
    /// # Errors
    ///
    /// [`RatingError::VolumeExceeded`] when `used` is larger than the volume.
    pub fn remainder(&self, used: Bytes) -> Result<u64, RatingError> {
        self.divide(used).map(|(_, remainder)| remainder)
    }

    fn divide(&self, used: Bytes) -> Result<(Units, u64), RatingError> {
        let (used, volume) = (used.get(), self.volume.get());
        if used > volume {
            return Err(RatingError::VolumeExceeded { used, volume });
        }
        // used <= volume, so the quotient is at most `total` and the remainder below `volume`:
        // both fit into 64 bits, and the product of two u64 fits into u128.
        let product = u128::from(self.total.get()).saturating_mul(u128::from(used));
        let divisor = u128::from(volume);
        let owed = product.checked_div(divisor).unwrap_or(0);
        let rest = product.checked_rem(divisor).unwrap_or(0);
        Ok((
            Units::new(u64::try_from(owed).unwrap_or(u64::MAX)),
            u64::try_from(rest).unwrap_or(u64::MAX),
        ))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ratio(total: u64, volume: u64) -> Ratio {
        Ratio::new(Units::new(total), Bytes::new(volume)).unwrap()
    }

    #[test]
    fn ten_viewers_of_a_10mb_movie_share_one_qlc() {
        let terms = ratio(100_000_000, 100_000_000);

        assert_eq!(
            terms.owed(Bytes::new(10_000_000)),
            Ok(Units::new(10_000_000))
        );
        assert_eq!(
            terms.owed(Bytes::new(70_000_000)),
            Ok(Units::new(70_000_000))
        );
        assert_eq!(
            terms.owed(Bytes::new(100_000_000)),
            Ok(Units::new(100_000_000))
        );
    }

    #[test]
    fn usage_beyond_the_volume_is_refused() {
        assert_eq!(
            ratio(1, 3).owed(Bytes::new(4)),
            Err(RatingError::VolumeExceeded { used: 4, volume: 3 })
        );
        assert_eq!(
            Ratio::new(Units::new(1), Bytes::ZERO),
            Err(RatingError::NoVolume)
        );
    }

    proptest! {
        #[test]
        fn any_split_of_the_usage_pays_the_same(
            total in 0..=crate::units::SUPPLY_UNITS.get(),
            volume in 1..=u64::MAX,
            cut in any::<u64>(),
        ) {
            let terms = ratio(total, volume);
            let cut = Bytes::new(cut % volume);
            let first = terms.owed(cut).unwrap();
            let all = terms.owed(Bytes::new(volume)).unwrap();

            prop_assert_eq!(all, Units::new(total));
            prop_assert_eq!(first.add(all.sub(first).unwrap()).unwrap(), all);
            let rest = terms.remainder(cut).unwrap();
            let product = u128::from(total) * u128::from(cut.get());
            prop_assert_eq!(
                u128::from(first.get()) * u128::from(volume) + u128::from(rest),
                product
            );
        }
    }
}
