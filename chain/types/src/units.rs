//! Quantities with their unit: money in units, volume in bytes, and the numbers that count
//! heights, nonces and epochs. All arithmetic is checked.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::codec::{Decode, DecodeError, Encode, Reader};

/// One QLC in units: 10^8.
pub const UNITS_PER_QLC: u64 = 100_000_000;

/// All units that exist, for ever: 600,000,000 QLC.
///
/// Source: white paper, section 6.
pub const SUPPLY_UNITS: Units = Units::new(60_000_000_000_000_000);

/// A sum or difference does not fit into 64 bits, or a difference would be negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{left} {operator} {right} does not fit into 64 bits")]
pub struct ArithmeticError {
    /// Left operand.
    pub left: u64,
    /// `+` or `-`.
    pub operator: char,
    /// Right operand.
    pub right: u64,
}

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Nothing.
            pub const ZERO: Self = Self(0);

            /// From a plain count.
            #[must_use]
            pub const fn new(count: u64) -> Self {
                Self(count)
            }

            /// The plain count.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// Whether the count is zero.
            #[must_use]
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }

            /// Sum.
            ///
            /// # Errors
            ///
            /// [`ArithmeticError`] above 64 bits.
            pub const fn add(self, other: Self) -> Result<Self, ArithmeticError> {
                match self.0.checked_add(other.0) {
                    Some(sum) => Ok(Self(sum)),
                    None => Err(ArithmeticError { left: self.0, operator: '+', right: other.0 }),
                }
            }

            /// Difference.
            ///
            /// # Errors
            ///
            /// [`ArithmeticError`] when `other` is larger.
            pub const fn sub(self, other: Self) -> Result<Self, ArithmeticError> {
                match self.0.checked_sub(other.0) {
                    Some(difference) => Ok(Self(difference)),
                    None => Err(ArithmeticError { left: self.0, operator: '-', right: other.0 }),
                }
            }

            /// Difference, or zero when `other` is larger.
            #[must_use]
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }

        number_impls!($name, u64);
    };
}

macro_rules! ordinal {
    ($(#[$doc:meta])* $name:ident, $int:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name($int);

        impl $name {
            /// The first one.
            pub const ZERO: Self = Self(0);

            /// From a plain number.
            #[must_use]
            pub const fn new(number: $int) -> Self {
                Self(number)
            }

            /// The plain number.
            #[must_use]
            pub const fn get(self) -> $int {
                self.0
            }

            /// The one after this; stays at the last representable number.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        number_impls!($name, $int);
    };
}

macro_rules! number_impls {
    ($name:ident, $int:ty) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                self.0.encode(out);
            }
        }

        impl Decode for $name {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                <$int>::decode(reader).map(Self)
            }
        }

        /// In machine JSON every integer is a string.
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map(Self).map_err(serde::de::Error::custom)
            }
        }
    };
}

quantity!(
    /// Money: 10^-8 QLC each, at most [`SUPPLY_UNITS`] in existence.
    Units
);
quantity!(
    /// Volume in bytes.
    Bytes
);
ordinal!(
    /// Position of a block in the chain; genesis is 0.
    BlockHeight,
    u64
);
ordinal!(
    /// Number of transactions an account has had accepted.
    Nonce,
    u64
);
ordinal!(
    /// Terms of a package; a top-up or a new ratio starts the next one.
    PackageEpoch,
    u32
);
ordinal!(
    /// Counter start of a gateway: rises whenever its counters may have begun at zero again.
    Incarnation,
    u64
);
ordinal!(
    /// Term of a delegate set.
    SeatEpoch,
    u64
);
ordinal!(
    /// Milliseconds since 1970-01-01T00:00:00Z. In the ledger: the header's `time_ms`.
    TimeMs,
    u64
);

impl TimeMs {
    /// This time plus `millis`, at most the last representable time.
    #[must_use]
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self::new(self.get().saturating_add(millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_balance_is_not_expressible() {
        assert!(Units::new(1).sub(Units::new(2)).is_err());
    }

    #[test]
    fn integers_are_strings_in_json() {
        assert_eq!(
            serde_json::to_string(&Units::new(10_000_000)).unwrap(),
            "\"10000000\""
        );
    }
}
