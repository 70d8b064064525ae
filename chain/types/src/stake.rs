//! What candidates for a seat state of themselves, and proof against a seat that broke its word.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::block::Header;
use crate::codec::{Decode, DecodeError, Encode, Reader, Text};
use crate::signature::{ChainId, Domain, PublicKey, SecretKey, Signature};
use crate::struct_codec;
use crate::units::Units;

/// A share in parts per million: 0 to 1,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Ppm(u32);

/// A share above the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} parts per million are more than the whole, 1000000")]
pub struct PpmError(pub u32);

impl Ppm {
    /// All of it.
    pub const WHOLE: Self = Self(1_000_000);

    /// A checked share.
    ///
    /// # Errors
    ///
    /// [`PpmError`] above 1,000,000.
    pub const fn try_new(parts: u32) -> Result<Self, PpmError> {
        if parts > Self::WHOLE.0 {
            return Err(PpmError(parts));
        }
        Ok(Self(parts))
    }

    /// The parts per million.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// This share of `units`, rounded down.
    #[must_use]
    pub fn of(self, units: Units) -> Units {
        Units::new(self.share(units, 0))
    }

    /// This share of `units`, rounded up; never more than `units`.
    #[must_use]
    pub fn of_rounded_up(self, units: Units) -> Units {
        Units::new(self.share(units, u128::from(Self::WHOLE.0).saturating_sub(1)))
    }

    fn share(self, units: Units, rounding: u128) -> u64 {
        let whole = u128::from(Self::WHOLE.0);
        // 64 bits times 20 bits, and less than 20 bits more.
        let product = u128::from(units.get()).saturating_mul(u128::from(self.0));
        let quotient = product.saturating_add(rounding).checked_div(whole);
        // At most `units`, since the share is at most the whole.
        quotient
            .and_then(|units| u64::try_from(units).ok())
            .unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Ppm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Encode for Ppm {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for Ppm {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let parts = u32::decode(reader)?;
        Self::try_new(parts).map_err(|PpmError(parts)| DecodeError::UnknownTag {
            what: "parts per million",
            value: parts.into(),
        })
    }
}

impl Serialize for Ppm {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ppm {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parts = crate::text::deserialize(deserializer)?;
        Self::try_new(parts).map_err(serde::de::Error::custom)
    }
}

/// What a candidate keeps of its voters' rewards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commission {
    /// Its share.
    pub rate: Ppm,
    /// The most by which the rate may change in one seat_epoch; never raised later.
    pub max_change: Ppm,
}

struct_codec!(Commission { rate, max_change });

/// What a candidate says of itself, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateInfo {
    /// Name.
    pub name: Text<64>,
    /// Where more is said.
    pub url: Text<200>,
    /// Version of the software that it runs, for announcing readiness.
    pub version: Text<32>,
}

struct_codec!(CandidateInfo { name, url, version });

/// A header with a seat's signature over its id in domain `Certificate`: the seat's word that this
/// block is final at its height.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedHeader {
    /// The header.
    pub header: Header,
    /// By the header's proposer.
    pub signature: Signature,
}

struct_codec!(SignedHeader { header, signature });

impl SignedHeader {
    /// Signs a header as the seat that proposed it.
    #[must_use]
    pub fn sign(header: Header, key: &SecretKey) -> Self {
        let signature = key.sign(Domain::Certificate, &header.chain, header.id().as_bytes());
        Self { header, signature }
    }
}

/// Why two signed headers prove nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EquivocationError {
    /// A header is of another chain.
    #[error("a header is of another chain")]
    WrongChain,
    /// The headers are of different heights or of different seats: both may be honest.
    #[error("the headers are of different heights or seats")]
    NoConflict,
    /// Both are the same block.
    #[error("both headers are the same block")]
    SameBlock,
    /// A signature does not hold.
    #[error("a signature does not hold")]
    Signature,
}

/// Two blocks of one height, both declared final by the same seat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Equivocation {
    /// One of them.
    pub first: SignedHeader,
    /// The other.
    pub second: SignedHeader,
}

struct_codec!(Equivocation { first, second });

impl Equivocation {
    /// The key of the seat that is proven to have signed both.
    ///
    /// # Errors
    ///
    /// [`EquivocationError`] names the first thing that is not proven.
    pub fn prove(&self, chain: &ChainId) -> Result<PublicKey, EquivocationError> {
        let (first, second) = (&self.first.header, &self.second.header);
        if first.chain != *chain || second.chain != *chain {
            return Err(EquivocationError::WrongChain);
        }
        if first.height != second.height || first.proposer != second.proposer {
            return Err(EquivocationError::NoConflict);
        }
        if first.id() == second.id() {
            return Err(EquivocationError::SameBlock);
        }
        for signed in [&self.first, &self.second] {
            signed
                .header
                .proposer
                .verify_on_chain(
                    Domain::Certificate,
                    chain,
                    signed.header.id().as_bytes(),
                    &signed.signature,
                )
                .map_err(|_| EquivocationError::Signature)?;
        }
        Ok(first.proposer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Blob;
    use crate::ids::{BlockId, Hash32};
    use crate::units::{BlockHeight, SeatEpoch, TimeMs};

    fn seat() -> SecretKey {
        SecretKey::from_seed([7; 32])
    }

    fn header(height: u64, root: u8) -> Header {
        Header {
            chain: ChainId::new([1; 32]),
            height: BlockHeight::new(height),
            parent: BlockId::ZERO,
            time_ms: TimeMs::new(5),
            seat_epoch: SeatEpoch::ZERO,
            proposer: seat().public(),
            engine_context: Blob::default(),
            state_root_prev: Hash32::new([root; 32]),
            tx_root: Hash32::ZERO,
            receipts_root: Hash32::ZERO,
            next_seats_hash: Hash32::ZERO,
        }
    }

    fn pair(first: Header, second: Header) -> Equivocation {
        Equivocation {
            first: SignedHeader::sign(first, &seat()),
            second: SignedHeader::sign(second, &seat()),
        }
    }

    #[test]
    fn two_blocks_of_one_height_signed_by_one_seat_are_proof() {
        let proof = pair(header(9, 1), header(9, 2));

        assert_eq!(proof.prove(&ChainId::new([1; 32])), Ok(seat().public()));
        assert_eq!(
            proof.prove(&ChainId::new([2; 32])),
            Err(EquivocationError::WrongChain)
        );
        assert_eq!(Equivocation::from_bytes(&proof.to_bytes()), Ok(proof));
    }

    #[test]
    fn honest_headers_prove_nothing() {
        let chain = ChainId::new([1; 32]);
        let other = SecretKey::from_seed([8; 32]);
        let foreign = Header {
            proposer: other.public(),
            ..header(9, 2)
        };
        let cases = [
            (
                pair(header(9, 1), header(10, 2)),
                EquivocationError::NoConflict,
            ),
            (pair(header(9, 1), foreign), EquivocationError::NoConflict),
            (
                pair(header(9, 1), header(9, 1)),
                EquivocationError::SameBlock,
            ),
        ];
        for (proof, expected) in cases {
            assert_eq!(proof.prove(&chain), Err(expected));
        }
        let mut forged = pair(header(9, 1), header(9, 2));
        forged.second = SignedHeader::sign(header(9, 2), &other);
        assert_eq!(forged.prove(&chain), Err(EquivocationError::Signature));
    }

    #[test]
    fn a_share_is_never_more_than_the_whole() {
        assert_eq!(Ppm::try_new(1_000_001), Err(PpmError(1_000_001)));
        assert!(Ppm::from_bytes(&1_000_001_u32.to_bytes()).is_err());
        assert!(serde_json::from_str::<Ppm>("\"1000001\"").is_err());
        let (most, third) = (Units::new(u64::MAX), Ppm::try_new(333_333).unwrap());
        assert_eq!(Ppm::WHOLE.of(most), most);
        assert_eq!(Ppm::WHOLE.of_rounded_up(most), most);
        assert_eq!(third.of(Units::new(10)), Units::new(3));
        assert_eq!(third.of_rounded_up(Units::new(10)), Units::new(4));
        assert_eq!(Ppm::default().of_rounded_up(most), Units::ZERO);
    }
}
